/* Whole rows of attention where papers print their parts: softmax weights with sinks, groups of S2, and the rows of relative
 * positions of the remaps, with the softmax written out by hand. On every backend, through the public API. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "support/numbers.h"
#include "support/random.h"
#include "support/tiny.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))
#define X           NAN /* not seen */

enum { D = 8, MAX_KEYS = 16 };

static const int32_t backends[] = {SPINDLE_BACKEND_REFERENCE, SPINDLE_BACKEND_CPU};

static void run(const test_tiny *t, float *o, float *lse) {
  spindle_status status = test_tiny_run(t, o, lse);
  cr_assert_eq(status, SPINDLE_OK, "%s", spindle_last_error());
}

/* Keys whose values are unit vectors: the output is the row of softmax weights. */
static void unit_values(float *v, int keys, int dims) {
  memset(v, 0, (size_t)(keys * dims) * sizeof *v);
  for (int j = 0; j < keys; j++) v[j * dims + j] = 1;
}

/* ---- Sinks ---- */

static void expect_weights(int32_t backend, const float *sink, const double *printed) {
  static const float logits[3] = {2, 1, 0.5f};
  float q[D] = {1}, k[3 * D] = {0}, v[3 * D], o[D], lse;
  for (int j = 0; j < 3; j++) k[j * D] = logits[j];
  unit_values(v, 3, D);
  test_tiny t = {.backend = backend, .shape = {.num_q_heads = 1, .head_dim_qk = D}, .q_len = 1, .kv_len = 3, .q_index = 2};
  t.q = q;
  t.k = k;
  t.v = v;
  t.args.scale = 1;
  t.args.sink_logits = sink;
  run(&t, o, &lse);
  for (int j = 0; j < 3; j++) {
    cr_expect(test_as_printed(o[j], printed[j], 6), "backend %d: weight %g, printed %g", backend, o[j], printed[j]);
    cr_expect_float_eq(exp(logits[j] - lse), printed[j], 2e-6, "backend %d: LSE %g leaves the sink out", backend, lse);
  }
}

/* Catches a sink that is scaled, that is counted in the LSE only, or absent meaning a sink of 0. */
Test(rules_attention, sinks) {
  const float one = 1, zero = 0;
  for (size_t b = 0; b < COUNT(backends); b++) {
    expect_weights(backends[b], NULL, (const double[]){0.628532, 0.231224, 0.140244});
    expect_weights(backends[b], &one, (const double[]){0.510493, 0.1878, 0.113906});
    expect_weights(backends[b], &zero, (const double[]){0.579259, 0.213097, 0.12925});
  }
}

/* Catches NaN from -inf - -inf, and an LSE of 0 for no keys. */
Test(rules_attention, row_that_sees_nothing) {
  float q[D] = {1}, k[D] = {1}, v[D] = {1}, o[D], lse;
  const float sink = -3;
  for (size_t b = 0; b < COUNT(backends); b++) {
    test_tiny t = {.backend = backends[b], .shape = {.num_q_heads = 1, .head_dim_qk = D}, .q_len = 1, .kv_len = 1, .kv_index = 5};
    t.q = q;
    t.k = k;
    t.v = v;
    run(&t, o, &lse);
    cr_expect(isinf(lse) && lse < 0, "backend %d: LSE %g", backends[b], lse);
    for (int c = 0; c < D; c++) cr_expect_eq(o[c], 0);
    t.args.sink_logits = &sink;
    run(&t, o, &lse);
    cr_expect_eq(lse, sink, "backend %d: LSE %g", backends[b], lse);
    for (int c = 0; c < D; c++) cr_expect_eq(o[c], 0);
  }
}

/* ---- S2 ---- */

/* Scores are all 0, so that each key seen weighs one over their number. */
static void expect_groups(int32_t backend, int32_t wrap, const char *group, const int *order) {
  enum { N = 16, H = 4 };
  static const float zeros[N * H * D];
  static float v[N * N], o[N * H * N];
  unit_values(v, N, N);
  test_tiny t = {.backend = backend, .q_len = N, .kv_len = N};
  t.shape = (spindle_shape){.num_q_heads = H, .num_kv_heads = 1, .head_dim_qk = D, .head_dim_v = N};
  t.position = (spindle_position){.s2_group = 4, .s2_wrap = wrap};
  t.q = t.k = zeros;
  t.v = v;
  run(&t, o, NULL);
  for (int i = 0; i < N; i++)
    for (int h = 0; h < H; h++) {
      bool seen[N];
      int count = 0;
      for (int j = 0; j < N; j++) {
        seen[j] = h < H / 2 ? j <= i && i / 4 == j / 4 : order[j] <= order[i] && group[i] == group[j];
        count += seen[j];
      }
      for (int j = 0; j < N; j++)
        cr_expect_float_eq(o[(i * H + h) * N + j], seen[j] ? 1.0 / count : 0, 1e-6, "backend %d wrap %d head %d (%d, %d): %g",
                           backend, wrap, h, i, j, o[(i * H + h) * N + j]);
    }
}

/* Catches a shift of the first half of the heads, or by KV heads instead of query heads (here there is one KV head). */
Test(rules_attention, s2_groups) {
  int straight[16], rolled[16];
  for (int i = 0; i < 16; i++) {
    straight[i] = i;
    rolled[i] = (i + 14) % 16;
  }
  for (size_t b = 0; b < COUNT(backends); b++) {
    expect_groups(backends[b], 0, "0011112222333344", straight);
    expect_groups(backends[b], 1, "3300001111222233", rolled);
  }
}

/* ---- Remaps ---- */

/* q rotated by the printed difference against each key: half-split or interleaved pairs, theta 10000. */
static double rotated_product(const float *q, const float *k, double rel, int32_t layout) {
  double sum = 0;
  for (int t = 0; t < D / 2; t++) {
    int a = layout == SPINDLE_PAIRS_HALF ? t : 2 * t, b = layout == SPINDLE_PAIRS_HALF ? t + D / 2 : 2 * t + 1;
    double angle = rel * pow(10000, -2.0 * t / D), c = cos(angle), s = sin(angle);
    sum += (q[a] * c - q[b] * s) * k[a] + (q[b] * c + q[a] * s) * k[b];
  }
  return sum;
}

static void expect_row(test_random *r, int32_t backend, const spindle_position *position, const double *rel, int keys) {
  float q[D], k[MAX_KEYS * D], v[MAX_KEYS * D], o[D], lse;
  for (int c = 0; c < D; c++) q[c] = (float)test_random_normal(r);
  for (int c = 0; c < keys * D; c++) k[c] = (float)test_random_normal(r);
  for (int c = 0; c < keys * D; c++) v[c] = (float)test_random_normal(r);
  test_tiny t = {.backend = backend, .position = *position, .q_len = 1, .kv_len = keys, .q_index = keys - 1};
  t.position.rope = SPINDLE_ROPE_DEFAULT;
  t.q = q;
  t.k = k;
  t.v = v;
  for (int32_t layout = SPINDLE_PAIRS_HALF; layout <= SPINDLE_PAIRS_INTERLEAVED; layout++) {
    t.shape = (spindle_shape){.num_q_heads = 1, .head_dim_qk = D, .pair_layout = layout};
    double sum = 0, expected[D] = {0};
    for (int j = 0; j < keys; j++) {
      if (isnan(rel[j])) continue;
      double weight = exp(rotated_product(q, k + j * D, rel[j], layout) / sqrt(D));
      sum += weight;
      for (int c = 0; c < D; c++) expected[c] += weight * v[j * D + c];
    }
    run(&t, o, &lse);
    cr_expect_float_eq(lse, log(sum), 1e-5, "backend %d, remap %d, layout %d: LSE %g, by hand %g", backend, position->remap,
                       layout, lse, log(sum));
    for (int c = 0; c < D; c++)
      cr_expect_float_eq(o[c], expected[c] / sum, 1e-5, "backend %d, remap %d, layout %d: %g, by hand %g", backend,
                         position->remap, layout, o[c], expected[c] / sum);
  }
}

#define EXPECT_ROW(p, ...)                                   \
  do {                                                       \
    const double rel[] = {__VA_ARGS__};                      \
    expect_row(&r, backends[b], &(p), rel, (int)COUNT(rel)); \
  } while (0)

/* The rows that the papers print, last row of as many keys: catches a map applied to the wrong side, and a rotation by -rel. */
Test(rules_attention, remaps) {
  test_random r = test_random_start();
  spindle_position none = {.remap = SPINDLE_REMAP_NONE};
  spindle_position rerope = {.remap = SPINDLE_REMAP_REROPE, .remap_window = 3};
  spindle_position leaky = {.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 3, .remap_k = 2};
  spindle_position inverse = {.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 3, .remap_k = 0.25};
  spindle_position self_extend = {.remap = SPINDLE_REMAP_SELF_EXTEND, .remap_group = 2, .remap_window = 4};
  spindle_position streaming = {.remap = SPINDLE_REMAP_STREAMING, .remap_sink_tokens = 2, .remap_window = 3};
  spindle_position lm_infinite = {.remap = SPINDLE_REMAP_LM_INFINITE, .remap_sink_tokens = 2, .remap_window = 3};
  spindle_position paper = {.remap = SPINDLE_REMAP_DCA_PAPER, .remap_pretrain = 10, .remap_chunk = 6, .remap_local = 4};
  spindle_position dca = {.remap = SPINDLE_REMAP_DCA, .remap_chunk = 8, .remap_local = 2};
  for (size_t b = 0; b < COUNT(backends); b++) {
    EXPECT_ROW(none, 4, 3, 2, 1, 0);
    EXPECT_ROW(rerope, 3, 3, 3, 3, 3, 2, 1, 0);
    EXPECT_ROW(leaky, 5, 4.5, 4, 3.5, 3, 2, 1, 0);
    EXPECT_ROW(inverse, 19, 15, 11, 7, 3, 2, 1, 0);
    EXPECT_ROW(self_extend, 7, 7, 6, 6, 5, 5, 4, 4, 3, 2, 1, 0);
    EXPECT_ROW(streaming, 5, 4, X, X, X, X, 3, 2, 1, 0);
    EXPECT_ROW(lm_infinite, 3, 3, X, X, X, 2, 1, 0);
    EXPECT_ROW(paper, 9, 8, 7, 6, 5, 4, 6, 5, 4, 3, 2, 1, 0);
    EXPECT_ROW(dca, 8, 7, 6, 5, 4, 3, 6, 5, 4, 3, 2, 1, 0);
  }
}

/* ---- Rotation ---- */

static void expect_rotated(int32_t backend, int32_t rotary_dim, int32_t layout, const double *printed) {
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = D};
  spindle_position position = {.struct_size = sizeof position, .rope = SPINDLE_ROPE_DEFAULT};
  spindle_context *context;
  spindle_positions *positions;
  shape.rotary_dim = rotary_dim;
  shape.pair_layout = layout;
  cr_assert_eq(spindle_context_create(&context, &options), SPINDLE_OK, "%s", spindle_last_error());
  cr_assert_eq(spindle_positions_create(&positions, context, &shape, 1), SPINDLE_OK, "%s", spindle_last_error());
  cr_assert_eq(spindle_positions_set(positions, 0, &position, NULL), SPINDLE_OK, "%s", spindle_last_error());
  _Alignas(16) float x[D] = {1, 2, 3, 4, 5, 6, 7, 8};
  int64_t index = 3;
  spindle_rotate_args args = {.struct_size = sizeof args, .rows = 1, .heads = 1, .index = &index};
  args.x.data = args.out.data = x;
  cr_assert_eq(spindle_rotate(context, &shape, positions, &args, NULL), SPINDLE_OK, "%s", spindle_last_error());
  for (int c = 0; c < D; c++)
    cr_expect(fabs(x[c] - printed[c]) <= test_printed_tolerance(printed[c], 6) + 1e-6,
              "backend %d, d %d, layout %d, channel %d: %g, printed %g", backend, rotary_dim, layout, c, x[c], printed[c]);
  args.inverse = 1;
  cr_assert_eq(spindle_rotate(context, &shape, positions, &args, NULL), SPINDLE_OK, "%s", spindle_last_error());
  for (int c = 0; c < D; c++) cr_expect_float_eq(x[c], c + 1, 4e-6, "backend %d: channel %d comes back as %g", backend, c, x[c]);
  spindle_positions_destroy(positions);
  spindle_context_destroy(context);
}

/* Catches the layouts mixed up, a rotation the other way round, and half-split pairs inside D where rotary_dim is smaller. */
Test(rules_attention, rotate) {
  for (size_t b = 0; b < COUNT(backends); b++) {
    expect_rotated(backends[b], 8, SPINDLE_PAIRS_HALF,
                   (const double[]){-1.69559, 0.137552, 2.78868, 3.97598, -4.80884, 6.32306, 7.08684, 8.01196});
    expect_rotated(backends[b], 8, SPINDLE_PAIRS_INTERLEAVED,
                   (const double[]){-1.27223, -1.83886, 1.68393, 4.70791, 4.81778, 6.14728, 6.97597, 8.02096});
    expect_rotated(backends[b], 4, SPINDLE_PAIRS_HALF, (const double[]){-1.41335, 1.87912, -2.82886, 4.05819, 5, 6, 7, 8});
    expect_rotated(backends[b], 4, SPINDLE_PAIRS_INTERLEAVED, (const double[]){-1.27223, -1.83886, 2.87867, 4.08819, 5, 6, 7, 8});
  }
}
