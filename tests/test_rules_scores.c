/* Numbers that papers and released code print for single scores: row scales, softcap, biases, xPos, temperatures. With one
 * visible key the LSE is its score, so every backend shows them through the public API. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "support/numbers.h"
#include "support/tiny.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const int32_t backends[] = {SPINDLE_BACKEND_REFERENCE, SPINDLE_BACKEND_CPU};
static const float first_channel[8] = {1}, last_channel[8] = {0, 0, 0, 0, 0, 0, 0, 1};

/* Scores are 1 before whatever a test adds: no rotation, scale 1, q and k the first unit vector. */
static test_tiny plain(int32_t backend) {
  test_tiny t;
  memset(&t, 0, sizeof t);
  t.backend = backend;
  t.q = t.k = first_channel;
  t.args.scale = 1;
  return t;
}

/* Printed digits, as far as an LSE summed in f32 carries them. */
static bool close_to(double got, double printed, int digits) {
  return fabs(got - printed) <= test_printed_tolerance(printed, digits) + 5e-7 * fmax(1, fabs(printed));
}

static void expect_score(const test_tiny *t, int64_t i, int64_t j, double printed, int digits) {
  float score = NAN;
  spindle_status status = test_tiny_score(t, i, j, &score);
  cr_assert_eq(status, SPINDLE_OK, "%s", spindle_last_error());
  cr_expect(close_to(score, printed, digits), "backend %d, row %lld, key %lld: score %.9g, printed %.9g", t->backend,
            (long long)i, (long long)j, score, printed);
}

typedef struct {
  int64_t row;
  double factor;
} row_factor;

static void expect_row_scale(int32_t kind, double length, double beta, const row_factor *printed, size_t count, int digits) {
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = plain(backends[b]);
    t.position = (spindle_position){.row_scale = kind, .row_scale_length = length, .row_scale_beta = beta};
    for (size_t k = 0; k < count; k++) expect_score(&t, printed[k].row, printed[k].row, printed[k].factor, digits);
  }
}

/* Row i sees i + 1 keys: catches ln(i), which is off by one, and a factor below 1 within the trained length. */
Test(rules_scores, logn) {
  static const row_factor printed[] = {
      {0, 1}, {1023, 1}, {4095, 1}, {4096, 1.00002935}, {8191, 1.08333333}, {16383, 1.16666667}, {32767, 1.25}};
  expect_row_scale(SPINDLE_ROWSCALE_LOGN, 4096, 0, printed, COUNT(printed), 9);
}

/* Catches floor(i / F) for floor((i + 1) / F). */
Test(rules_scores, llama4) {
  static const row_factor printed[] = {{0, 1}, {8190, 1}, {8191, 1.06931}, {16383, 1.10986}, {131071, 1.28332}};
  expect_row_scale(SPINDLE_ROWSCALE_LLAMA4, 8192, 0.1, printed, COUNT(printed), 6);
}

/* Catches Llama 4's + 1, which this form does not have. */
Test(rules_scores, ministral) {
  static const row_factor printed[] = {{0, 1}, {16383, 1}, {16384, 1.06931}};
  expect_row_scale(SPINDLE_ROWSCALE_MINISTRAL, 16384, 0.1, printed, COUNT(printed), 6);
}

/* Catches the clamp of LOGN where SSMax has none (a factor of 0 at n = 1), and s left out of b. */
Test(rules_scores, ssmax) {
  static const row_factor printed[] = {{0, 0}, {15, 1.19221}, {1023, 2.98053}, {32767, 4.4708}};
  static const row_factor log_512[] = {{15, 0.444444}, {63, 0.666667}, {511, 1}, {4095, 1.333333}};
  const float s = 0.43f, per_log_512 = (float)(1 / log(512)), offset = 2;
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = plain(backends[b]);
    t.position.row_scale = SPINDLE_ROWSCALE_SSMAX;
    t.args.row_scale_s = &s;
    for (size_t k = 0; k < COUNT(printed); k++) expect_score(&t, printed[k].row, printed[k].row, printed[k].factor, 5);
    t.args.row_scale_b = &offset;
    expect_score(&t, 15, 15, 3.19221, 6);
    t.args.row_scale_b = NULL;
    t.args.row_scale_s = &per_log_512;
    for (size_t k = 0; k < COUNT(log_512); k++) expect_score(&t, log_512[k].row, log_512[k].row, log_512[k].factor, 6);
    t.position.not_causal = 1; /* all n keys are seen, from every row */
    t.n = 512;
    expect_score(&t, 15, 100, 1, 6);
  }
}

/* Catches cap * tanh(x) without the division, and a cap on the unscaled product. */
Test(rules_scores, softcap) {
  static const double printed[][2] = {{10, 9.86877}, {50, 38.0797}, {100, 48.2014}};
  for (size_t b = 0; b < COUNT(backends); b++)
    for (size_t k = 0; k < COUNT(printed); k++) {
      test_tiny t = plain(backends[b]);
      t.args.scale = (float)printed[k][0];
      t.args.softcap = 50;
      expect_score(&t, 3, 3, printed[k][1], 6);
    }
}

/* Row scale, cap, bias, in this order: catches a bias that is capped, and a row scale outside the cap. */
Test(rules_scores, order) {
  const float slope = 0.5f;
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = plain(backends[b]);
    t.args.scale = 48;
    t.args.softcap = 50;
    t.position = (spindle_position){.row_scale = SPINDLE_ROWSCALE_LOGN, .row_scale_length = 4096};
    expect_score(&t, 8191, 8191, 50 * tanh(52.0 / 50), 7);
    t.shape.bias = SPINDLE_BIAS_ALIBI;
    t.args.bias_a = &slope;
    expect_score(&t, 8191, 8091, 50 * tanh(52.0 / 50) - 50, 5);
  }
}

/* Catches a bias times the scale, a sign, and a distance of positions where the index counts. */
Test(rules_scores, alibi) {
  const float slope = 0.0625f;
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = plain(backends[b]);
    t.shape.bias = SPINDLE_BIAS_ALIBI;
    t.args.bias_a = &slope;
    t.args.scale = 3;
    expect_score(&t, 1000, 1000, 3, 7);
    expect_score(&t, 1000, 984, 2, 7);
    t.position = (spindle_position){.remap = SPINDLE_REMAP_REROPE, .remap_window = 4};
    expect_score(&t, 1000, 984, 2, 7);
    t.position = (spindle_position){.not_causal = 1};
    expect_score(&t, 984, 1000, 2, 7);
  }
}

/* Catches a and p swapped, and 0^p other than 0. */
Test(rules_scores, kerple) {
  static const int64_t dist[] = {0, 1, 2, 10, 100};
  static const double logarithm[] = {0, -0.608198, -1.03972, -2.68764, -5.89774};
  static const double power[] = {0, -0.5, -0.870551, -3.15479, -19.9054};
  const float a = 0.5f, log_p = 1.5f, power_p = 0.8f;
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = plain(backends[b]);
    const float zeros[8] = {0};
    t.q = zeros;
    t.args.bias_a = &a;
    for (size_t k = 0; k < COUNT(dist); k++) {
      t.shape.bias = SPINDLE_BIAS_KERPLE_LOG;
      t.args.bias_p = &log_p;
      expect_score(&t, 500, 500 - dist[k], logarithm[k], 6);
      t.shape.bias = SPINDLE_BIAS_KERPLE_POWER;
      t.args.bias_p = &power_p;
      expect_score(&t, 500, 500 - dist[k], power[k], 6);
    }
  }
}

/* Pair t of half-split channels: catches xPos growing instead of decaying, zeta of pair t + 1, and a decay that needs both tokens
 * near the centre (row 1e6). */
Test(rules_scores, xpos) {
  static const struct {
    int pair;
    int64_t dist;
    double decay;
  } printed[] = {{0, 1, 0.997556},   {0, 128, 0.73111}, {0, 512, 0.285714}, {0, 2048, 0.00666389}, {1, 512, 0.464286},
                 {2, 512, 0.642857}, {3, 1, 0.999616},  {3, 128, 0.952012}, {3, 512, 0.821429},    {3, 2048, 0.455281}};
  for (size_t b = 0; b < COUNT(backends); b++)
    for (size_t k = 0; k < COUNT(printed); k++) {
      float unit[8] = {0};
      unit[printed[k].pair] = 1;
      test_tiny t = plain(backends[b]);
      t.q = t.k = unit;
      t.position.rope = SPINDLE_ROPE_XPOS;
      t.args.scale = (float)(1 / (printed[k].decay * cos((double)printed[k].dist * pow(10, -printed[k].pair))));
      for (int64_t row = 4000; row <= 1000000; row += 996000) {
        float score = NAN;
        spindle_status status = test_tiny_score(&t, row, row - printed[k].dist, &score);
        cr_assert_eq(status, SPINDLE_OK, "%s", spindle_last_error());
        cr_expect_float_eq(score, 1, 1e-5, "backend %d, pair %d, dist %lld: decay %.9g, printed %.9g", t.backend, printed[k].pair,
                           (long long)printed[k].dist, score * printed[k].decay, printed[k].decay);
      }
    }
}

/* Catches A once where raw keys need A^2, A on channels that do not rotate, and DeepSeek's factor on the rotated ones only. */
Test(rules_scores, temperature) {
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = plain(backends[b]);
    t.shape.rotary_dim = 4;
    t.position = (spindle_position){.rope = SPINDLE_ROPE_YARN, .factor = 4, .original_max_position_embeddings = 2048};
    expect_score(&t, 9, 9, 1.296476993, 10);
    t.q = t.k = last_channel;
    expect_score(&t, 9, 9, 1, 10);
    t.position = (spindle_position){.rope = SPINDLE_ROPE_DEEPSEEK_YARN, .factor = 40, .original_max_position_embeddings = 4096};
    expect_score(&t, 9, 9, 1.873854207, 10);
    t.q = t.k = first_channel;
    expect_score(&t, 9, 9, 1.873854207, 10);
    t.args.scale = 0; /* the default takes the whole head dim */
    expect_score(&t, 9, 9, 1.873854207 / sqrt(8), 9);
  }
}

/* Rotated keys carry A already: catches A^2 on them, and a query rotated by the difference. */
Test(rules_scores, rotated_keys) {
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = plain(backends[b]);
    t.shape.key_state = SPINDLE_KEYS_ROTATED;
    t.position = (spindle_position){.rope = SPINDLE_ROPE_YARN, .factor = 4, .original_max_position_embeddings = 2048};
    expect_score(&t, 3, 1, 1.138629436 * cos(3), 7);
  }
}
