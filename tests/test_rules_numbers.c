/* The frequencies and factors that papers and released code print, against both readings of the rules: the library's
 * (spindle_position_resolve) and the reference backend's. */
#include <criterion/criterion.h>
#include <math.h>

#include "host/reference/reference.h"
#include "support/numbers.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

typedef struct {
  double w[SPINDLE__MAX_PAIRS];
  double attention_factor, softmax_scale_factor;
} rule;

/* A rule at n, once by each code: [0] the library, [1] the reference. */
static void evaluate(const spindle_position *given, int32_t d, int64_t n, rule out[2]) {
  spindle_position p = *given;
  p.struct_size = sizeof p;
  if (p.inv_freq || p.short_factor || p.long_factor) p.num_pairs = d / 2;
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = d};
  spindle_status status =
      spindle_position_resolve(&p, &shape, n, out[0].w, &out[0].attention_factor, &out[0].softmax_scale_factor);
  cr_assert_eq(status, SPINDLE_OK, "%s", spindle_last_error());
  spindle__ref_rope rope;
  spindle__ref_rope_at(&p, d, n, &rope);
  for (int32_t t = 0; t < d / 2; t++) out[1].w[t] = rope.w[t];
  out[1].attention_factor = rope.attention_factor;
  out[1].softmax_scale_factor = rope.softmax_scale_factor;
}

static const char *const code[2] = {"library", "reference"};

/* Pairs first, first + 1, ... as printed, with six digits. */
static void expect_pairs(const spindle_position *p, int32_t d, int64_t n, int32_t first, const double *printed, size_t count) {
  rule r[2];
  evaluate(p, d, n, r);
  for (int c = 0; c < 2; c++)
    for (size_t k = 0; k < count; k++)
      cr_expect(test_as_printed(r[c].w[first + (int32_t)k], printed[k], 6), "%s, rule %d, n = %lld: w[%zu] = %.9g, printed %.9g",
                code[c], p->rope, (long long)n, (size_t)first + k, r[c].w[first + (int32_t)k], printed[k]);
}

#define EXPECT_W(p, d, n, ...)                                \
  do {                                                        \
    const double printed[] = {__VA_ARGS__};                   \
    expect_pairs(&(p), (d), (n), 0, printed, COUNT(printed)); \
  } while (0)

static void expect_factors(const spindle_position *p, int32_t d, int64_t n, double a, double scale, int digits) {
  rule r[2];
  evaluate(p, d, n, r);
  for (int c = 0; c < 2; c++) {
    cr_expect(test_as_printed(r[c].attention_factor, a, digits), "%s: A = %.12g, printed %.12g", code[c], r[c].attention_factor,
              a);
    cr_expect(test_as_printed(r[c].softmax_scale_factor, scale, digits), "%s: scale %.12g, printed %.12g", code[c],
              r[c].softmax_scale_factor, scale);
  }
}

/* The base at which the rule's pairs are plain RoPE's, read off pair 1. */
static void expect_base(const spindle_position *p, int32_t d, int64_t n, double printed) {
  rule r[2];
  evaluate(p, d, n, r);
  for (int c = 0; c < 2; c++) {
    double base = pow(r[c].w[1], -d / 2.0);
    cr_expect(test_as_printed(base, printed, 11), "%s, rule %d, n = %lld: base %.12g, printed %.12g", code[c], p->rope,
              (long long)n, base, printed);
  }
}

/* Catches the double inverse (theta^(-2t/d) in a denominator), and head_dim for rotary_dim. */
Test(rules_numbers, rope) {
  spindle_position p = {.rope = SPINDLE_ROPE_DEFAULT};
  EXPECT_W(p, 8, 1, 1, 0.1, 0.01, 0.001);
  EXPECT_W(p, 4, 1, 1, 0.01);
  p.rope = SPINDLE_ROPE_NONE;
  EXPECT_W(p, 8, 1, 0, 0, 0, 0);
}

/* Catches factor applied twice, or only beyond L. */
Test(rules_numbers, position_interpolation) {
  spindle_position p = {.rope = SPINDLE_ROPE_LINEAR, .factor = 4};
  EXPECT_W(p, 16, 1, 0.25, 0.0790569, 0.025, 0.00790569, 0.0025, 0.000790569, 0.00025, 7.90569e-05);
}

/* Catches alpha^(2/d) instead of alpha^(d/(d-2)): the last pair must be slowed by exactly alpha. */
Test(rules_numbers, ntk) {
  spindle_position p = {.rope = SPINDLE_ROPE_NTK, .alpha = 8};
  EXPECT_W(p, 16, 1, 1, 0.234956, 0.0552045, 0.0129706, 0.00304753, 0.000716037, 0.000168238, 3.95285e-05);
  expect_base(&p, 16, 1, 107672.015411);
  p.alpha = 4;
  expect_base(&p, 16, 1, 48760.546168);
  p.alpha = 2;
  expect_base(&p, 16, 1, 22081.790273);
}

/* Catches > for >= at the switch, and a shrinking scale below it. */
Test(rules_numbers, dynamic_linear) {
  spindle_position p = {.rope = SPINDLE_ROPE_DYNAMIC_LINEAR, .max_position_embeddings = 2048};
  EXPECT_W(p, 8, 1024, 1, 0.1, 0.01, 0.001);
  EXPECT_W(p, 8, 2048, 1, 0.1, 0.01, 0.001);
  EXPECT_W(p, 8, 2049, 0.999512, 0.0999512, 0.00999512, 0.000999512);
  EXPECT_W(p, 8, 8192, 0.25, 0.025, 0.0025, 0.00025);
}

/* Catches a missing clamp: with alpha 8 the bracket is -3 at n = max / 2, and the base NaN. */
Test(rules_numbers, dynamic_ntk) {
  static const struct {
    double alpha;
    int64_t n;
    double base;
  } printed[] = {{1, 2048, 10000},         {1, 2049, 10005.580552},
                 {1, 4096, 22081.790273},  {1, 8192, 48760.546168},
                 {2, 2048, 10000},         {2, 2049, 10011.161493},
                 {2, 4096, 35097.924383},  {2, 8192, 92432.847343},
                 {8, 2048, 10000},         {8, 2049, 10044.655299},
                 {8, 4096, 123186.429598}, {8, 8192, 395954.902192},
                 {8, 1024, 10000},         {8, 1, 10000}};
  spindle_position p = {.rope = SPINDLE_ROPE_DYNAMIC_NTK, .max_position_embeddings = 2048};
  for (size_t k = 0; k < COUNT(printed); k++) {
    p.factor = printed[k].alpha;
    expect_base(&p, 16, printed[k].n, printed[k].base);
  }
  p.factor = 2;
  EXPECT_W(p, 16, 4096, 1, 0.270296, 0.07306, 0.0197478, 0.00533776, 0.00144278, 0.000389977, 0.000105409);
}

/* Catches a step at n = 2 L instead of just above it, and 2^x where 2^x - 1 is meant. */
Test(rules_numbers, qwen_dynamic_ntk) {
  static const struct {
    int64_t n;
    double alpha;
  } steps[] = {{1, 1}, {1024, 1}, {2048, 1}, {2049, 3}, {4096, 3}, {4097, 7}, {8192, 7}, {8193, 15}, {16384, 15}, {16385, 31}};
  spindle_position p = {.rope = SPINDLE_ROPE_QWEN_DYNAMIC_NTK, .original_max_position_embeddings = 2048};
  for (size_t k = 0; k < COUNT(steps); k++) {
    rule r[2];
    evaluate(&p, 128, steps[k].n, r);
    for (int c = 0; c < 2; c++) /* the last pair is slowed by alpha */
      cr_expect_float_eq(pow(10000, -126.0 / 128) / r[c].w[63], steps[k].alpha, 1e-9, "%s, n = %lld", code[c],
                         (long long)steps[k].n);
  }
}

/* Catches b' for b in the paper's eq. 17, and beta_fast / beta_slow swapped. */
Test(rules_numbers, ntk_by_parts) {
  spindle_position p = {.rope = SPINDLE_ROPE_NTK_BY_PARTS, .factor = 4, .original_max_position_embeddings = 2048};
  EXPECT_W(p, 16, 1, 1, 0.316228, 0.1, 0.0150265, 0.00304665, 0.000792921, 0.00025, 7.90569e-05);
  p.rope = SPINDLE_ROPE_NTK_BY_PARTS_LEGACY;
  EXPECT_W(p, 16, 1, 1, 0.316228, 0.1, 0.0269009, 0.00635241, 0.000982676, 0.00025, 7.90569e-05);
}

/* The paper's ramp (in rotations) and the code's (in the pair index) are two methods: catches one standing for both. */
Test(rules_numbers, two_ramps) {
  static const struct {
    int32_t d;
    double factor, excess; /* of the code's frequency over the paper's, at the worst pair */
  } printed[] = {{128, 16, 2.04}, {64, 40, 3.28}};
  for (size_t k = 0; k < COUNT(printed); k++) {
    spindle_position by_code = {.rope = SPINDLE_ROPE_YARN, .factor = printed[k].factor, .original_max_position_embeddings = 4096};
    spindle_position by_paper = by_code;
    by_paper.rope = SPINDLE_ROPE_NTK_BY_PARTS;
    rule code_rule[2], paper_rule[2];
    evaluate(&by_code, printed[k].d, 1, code_rule);
    evaluate(&by_paper, printed[k].d, 1, paper_rule);
    for (int c = 0; c < 2; c++) {
      double worst = 0;
      for (int32_t t = 0; t < printed[k].d / 2; t++) worst = fmax(worst, code_rule[c].w[t] / paper_rule[c].w[t] - 1);
      cr_expect(test_as_printed(worst, printed[k].excess, 3), "%s: %.6g, printed %.3g", code[c], worst, printed[k].excess);
    }
    if (printed[k].d == 128) {
      const double pair_38_code[] = {1.47999e-3}, pair_38_paper[] = {4.86613e-4};
      expect_pairs(&by_code, 128, 1, 38, pair_38_code, 1);
      expect_pairs(&by_paper, 128, 1, 38, pair_38_paper, 1);
    }
  }
}

/* Catches t for m = t + 1 in Su's formulas, and lambda = k^(2/(d-2)) where 9706 has k^(2/d). */
Test(rules_numbers, mixed_radix) {
  spindle_position p = {.rope = SPINDLE_ROPE_NTK_MIXED, .factor = 8};
  EXPECT_W(p, 16, 1, 0.567275, 0.131916, 0.0324178, 0.00821143, 0.00212218, 0.000556578, 0.000147645, 3.95285e-05);
  p.ntk_b = 0.625;
  EXPECT_W(p, 16, 1, 0.567275, 0.131916, 0.0324178, 0.00821143, 0.00212218, 0.000556578, 0.000147645, 3.95285e-05);
  p.factor = 12;
  p.ntk_b = 0.75;
  EXPECT_W(p, 16, 1, 0.593103, 0.131357, 0.0303982, 0.00721631, 0.00174347, 0.000426833, 0.000105599, 2.63523e-05);
  p = (spindle_position){.rope = SPINDLE_ROPE_NTK_OLD, .factor = 8};
  EXPECT_W(p, 16, 1, 1, 0.243845, 0.0594604, 0.0144991, 0.00353553, 0.000862122, 0.000210224, 5.12621e-05);
  expect_base(&p, 16, 1, 80000);
  p.rope = SPINDLE_ROPE_NTK_FIXED;
  EXPECT_W(p, 16, 1, 0.771105, 0.18803, 0.0458502, 0.0111803, 0.00272627, 0.000664787, 0.000162105, 3.95285e-05);
}

/* b = 1 is NTK_FIXED by definition: catches an exponent applied to the wrong factor. */
Test(rules_numbers, mixed_with_b_1_is_fixed) {
  spindle_position mixed = {.rope = SPINDLE_ROPE_NTK_MIXED, .factor = 8, .ntk_b = 1};
  spindle_position fixed = {.rope = SPINDLE_ROPE_NTK_FIXED, .factor = 8};
  rule m[2], f[2];
  evaluate(&mixed, 128, 1, m);
  evaluate(&fixed, 128, 1, f);
  for (int c = 0; c < 2; c++)
    for (int32_t t = 0; t < 64; t++) cr_expect_float_eq(m[c].w[t] / f[c].w[t], 1, 1e-12);
}

/* Catches a ramp clamped at d/2 - 1 where the code has d - 1, and truncation lost or applied twice. */
Test(rules_numbers, yarn) {
  spindle_position p = {.rope = SPINDLE_ROPE_YARN, .factor = 4, .original_max_position_embeddings = 2048};
  EXPECT_W(p, 16, 1, 1, 0.316228, 0.1, 0.0256935, 0.00625, 0.0013835, 0.00025, 7.90569e-05);
  expect_factors(&p, 16, 1, 1.138629436, 1, 10);
  p.no_truncate = 1;
  EXPECT_W(p, 16, 1, 1, 0.316228, 0.1, 0.0238702, 0.00505697, 0.00081129, 0.00025, 7.90569e-05);
}

/* Where the ramp runs past the last pair (here it is 4..11, of 8 pairs), that one is interpolated in part only. */
Test(rules_numbers, yarn_ramp_beyond_the_last_pair) {
  spindle_position p = {.rope = SPINDLE_ROPE_YARN, .rope_theta = 100, .factor = 4, .original_max_position_embeddings = 2048};
  rule r[2];
  evaluate(&p, 16, 1, r);
  for (int c = 0; c < 2; c++)
    cr_expect_float_eq(r[c].w[7] / pow(100, -7.0 / 8), 3.0 / 7 / 4 + 4.0 / 7, 1e-12, "%s: %.12g", code[c], r[c].w[7]);
}

/* The last pair kept whole and the first one fully interpolated, as the configs of real models come out. */
static void expect_ramp(const spindle_position *p, int32_t d, int32_t low, int32_t high) {
  rule r[2];
  evaluate(p, d, 1, r);
  for (int c = 0; c < 2; c++) {
    int32_t kept = 0, slowed = 0;
    for (int32_t t = 0; t < d / 2; t++) {
      double ratio = r[c].w[t] / pow(p->rope_theta ? p->rope_theta : 10000, -2.0 * t / d);
      if (ratio > 1 - 1e-12) kept = t;
      if (ratio > (1 + 1e-12) / p->factor) slowed = t + 1;
    }
    cr_expect_eq(kept, low, "%s: last pair kept %d, printed %d", code[c], kept, low);
    cr_expect_eq(slowed, high, "%s: first pair interpolated %d, printed %d", code[c], slowed, high);
  }
}

/* Catches L taken from max_position_embeddings, and log10 or the wrong base in the correction dims. */
Test(rules_numbers, yarn_of_real_models) {
  spindle_position llama2 = {.rope = SPINDLE_ROPE_YARN, .factor = 16, .original_max_position_embeddings = 4096};
  expect_ramp(&llama2, 128, 20, 46);
  expect_factors(&llama2, 128, 1, 1.277259, 1, 7);
  spindle_position qwen = {.rope = SPINDLE_ROPE_YARN, .rope_theta = 1e6, .factor = 4, .original_max_position_embeddings = 32768};
  expect_ramp(&qwen, 128, 23, 40);
  spindle_position gpt_oss = {
      .rope = SPINDLE_ROPE_YARN, .rope_theta = 150000, .factor = 32, .original_max_position_embeddings = 4096};
  expect_ramp(&gpt_oss, 64, 8, 18);
  expect_factors(&gpt_oss, 64, 1, 1.346574, 1, 7);
}

/* gpt-oss keeps the ramp's borders 8.092779 and 17.398025: catches truncation where the model has none. */
Test(rules_numbers, gpt_oss_without_truncation) {
  spindle_position p = {
      .rope = SPINDLE_ROPE_YARN, .rope_theta = 150000, .factor = 32, .original_max_position_embeddings = 4096, .no_truncate = 1};
  spindle_position truncated = p;
  truncated.no_truncate = 0;
  rule r[2], cut[2];
  evaluate(&p, 64, 1, r);
  evaluate(&truncated, 64, 1, cut);
  for (int c = 0; c < 2; c++) {
    double worst = 0;
    for (int32_t t = 0; t < 32; t++) {
      double plain = pow(150000, -t / 32.0), ramp = fmin(fmax((t - 8.092779) / (17.398025 - 8.092779), 0), 1);
      cr_expect_float_eq(r[c].w[t] / plain, ramp / 32 + 1 - ramp, 1e-6, "%s, pair %d", code[c], t);
      worst = fmax(worst, fmax(r[c].w[t] / cut[c].w[t], cut[c].w[t] / r[c].w[t]) - 1);
    }
    cr_expect(test_as_printed(worst, 0.76, 2), "%s: truncation changes a pair by %.4g", code[c], worst);
  }
}

/* Catches A from one mscale alone, or mscale_all_dim in the numerator. */
Test(rules_numbers, yarn_attention_factor) {
  spindle_position p = {.rope = SPINDLE_ROPE_YARN, .factor = 40, .original_max_position_embeddings = 4096};
  p.mscale = 1;
  expect_factors(&p, 64, 1, 1.368887945, 1, 10); /* both or neither */
  p.mscale_all_dim = 1;
  expect_factors(&p, 64, 1, 1, 1, 10);
  p.mscale_all_dim = 0.707;
  expect_factors(&p, 64, 1, 1.368887945 / 1.260803777, 1, 9);
  p.attention_factor = 1.5;
  expect_factors(&p, 64, 1, 1.5, 1, 10);
}

/* Hugging Face configs leave factor out: catches max / L read as 0 or as 1. */
Test(rules_numbers, yarn_factor_from_lengths) {
  spindle_position p = {.rope = SPINDLE_ROPE_YARN, .original_max_position_embeddings = 2048, .max_position_embeddings = 8192};
  EXPECT_W(p, 16, 1, 1, 0.316228, 0.1, 0.0256935, 0.00625, 0.0013835, 0.00025, 7.90569e-05);
  expect_factors(&p, 16, 1, 1.138629436, 1, 10);
}

/* DeepSeek multiplies the whole score by mscale^2: catches A on cos and sin, and mscale unsquared. */
Test(rules_numbers, deepseek_yarn) {
  spindle_position p = {.rope = SPINDLE_ROPE_DEEPSEEK_YARN, .factor = 40, .original_max_position_embeddings = 4096};
  static const int32_t pairs[] = {0, 10, 11, 16, 22, 23, 24, 31};
  static const double printed[] = {1, 0.0562341, 0.0390069, 0.0055, 0.000177828, 3.3338e-05, 2.5e-05, 3.3338e-06};
  for (size_t k = 0; k < COUNT(pairs); k++) expect_pairs(&p, 64, 1, pairs[k], &printed[k], 1);
  expect_factors(&p, 64, 1, 1, 1.873854207, 10);
  p.mscale = 0.707;
  expect_factors(&p, 64, 1, 1, 1.589626165, 10);
  p.mscale = 1;
  rule r[2];
  evaluate(&p, 64, 1, r);
  for (int c = 0; c < 2; c++) cr_expect(test_as_printed(r[c].softmax_scale_factor / sqrt(192), 0.135233779, 9));
  expect_ramp(&p, 64, 10, 23);
  p.max_position_embeddings = 4096; /* not extended: plain */
  expect_factors(&p, 64, 1, 1, 1, 10);
  EXPECT_W(p, 8, 1, 1, 0.1, 0.01, 0.001);
}

/* Catches s = n / max for n / L, and A left at the value of another length. */
Test(rules_numbers, dynamic_yarn) {
  spindle_position p = {.rope = SPINDLE_ROPE_DYNAMIC_YARN, .original_max_position_embeddings = 2048};
  EXPECT_W(p, 16, 4096, 1, 0.316228, 0.1, 0.0276699, 0.0075, 0.00197642, 0.0005, 0.000158114);
  expect_factors(&p, 16, 4096, 1.069315, 1, 7);
  EXPECT_W(p, 8, 2048, 1, 0.1, 0.01, 0.001);
  expect_factors(&p, 8, 2048, 1, 1, 7);
  p.finetuned = 1;
  p.max_position_embeddings = 4096; /* s starts at 2 */
  EXPECT_W(p, 16, 1, 1, 0.316228, 0.1, 0.0276699, 0.0075, 0.00197642, 0.0005, 0.000158114);
  expect_factors(&p, 16, 1, 1.069315, 1, 7);
  expect_factors(&p, 16, 8192, 1.138629436, 1, 10);
}

/* Catches low and high swapped, and L / wavelength inverted in the smooth part. */
Test(rules_numbers, llama3) {
  spindle_position p = {.rope = SPINDLE_ROPE_LLAMA3, .rope_theta = 500000, .factor = 8, .original_max_position_embeddings = 8192};
  EXPECT_W(p, 16, 1, 1, 0.193923, 0.037606, 0.00729266, 0.000524846, 3.4281e-05, 6.64787e-06, 1.28917e-06);
  const double medium[] = {0.00216657, 0.00137189, 0.000856751, 0.000524846, 0.000312694, 0.000178508};
  expect_pairs(&p, 128, 1, 29, medium, COUNT(medium));
  expect_ramp(&p, 128, 28, 35);
}

/* Catches multiplying by the list, >= at the switch, and an A that depends on the list in use. */
Test(rules_numbers, longrope) {
  const double shorts[] = {1, 1, 1, 1}, longs[] = {1, 2, 4, 8};
  spindle_position p = {.rope = SPINDLE_ROPE_LONGROPE,
                        .short_factor = shorts,
                        .long_factor = longs,
                        .original_max_position_embeddings = 4096,
                        .max_position_embeddings = 131072};
  EXPECT_W(p, 8, 4096, 1, 0.1, 0.01, 0.001);
  EXPECT_W(p, 8, 4097, 1, 0.05, 0.0025, 0.000125);
  expect_factors(&p, 8, 4096, 1.190238071, 1, 10);
  expect_factors(&p, 8, 4097, 1.190238071, 1, 10);
  p.factor = 32;
  expect_factors(&p, 8, 1, 1.190238071, 1, 10);
  p.attention_factor = 1.25;
  expect_factors(&p, 8, 1, 1.25, 1, 10);
}

/* Catches the missing clamps: below L the lists would shrink under 1, beyond s L grow past themselves. */
Test(rules_numbers, longrope_dynamic) {
  const double longs[] = {1, 2, 4, 8};
  spindle_position p = {.rope = SPINDLE_ROPE_LONGROPE_DYNAMIC,
                        .long_factor = longs,
                        .original_max_position_embeddings = 4096,
                        .max_position_embeddings = 131072};
  EXPECT_W(p, 8, 1, 1, 0.1, 0.01, 0.001);
  EXPECT_W(p, 8, 4096, 1, 0.1, 0.01, 0.001);
  rule r[2];
  evaluate(&p, 8, 8192, r);
  const double ext[] = {1, 1.03226, 1.09677, 1.22581};
  for (int c = 0; c < 2; c++)
    for (int t = 0; t < 4; t++) cr_expect(test_as_printed(pow(10, -t) / r[c].w[t], ext[t], 6), "%s, pair %d", code[c], t);
  EXPECT_W(p, 8, 131072, 1, 0.05, 0.0025, 0.000125);
  EXPECT_W(p, 8, 1048576, 1, 0.05, 0.0025, 0.000125);
}

/* Catches the exponent taken over the rotating channels only, which is what partial rotary means elsewhere. */
Test(rules_numbers, proportional) {
  spindle_position p = {.rope = SPINDLE_ROPE_PROPORTIONAL, .rope_theta = 1e6, .partial_rotary_factor = 0.25};
  EXPECT_W(p, 16, 1, 1, 0.177828, 0, 0, 0, 0, 0, 0);
  p.factor = 4;
  EXPECT_W(p, 16, 1, 0.25, 0.044457, 0, 0, 0, 0, 0, 0);
  spindle_position partial = {.rope = SPINDLE_ROPE_DEFAULT, .rope_theta = 1e6};
  EXPECT_W(partial, 4, 1, 1, 0.001);
}

/* A division by zero in the exponent d / (d - 2): catches frequencies of NaN. */
Test(rules_numbers, ntk_refuses_two_channels) {
  spindle_position p = {.struct_size = sizeof p, .rope = SPINDLE_ROPE_NTK, .alpha = 2};
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = 2};
  cr_assert_neq(spindle_position_resolve(&p, &shape, 1, NULL, NULL, NULL), SPINDLE_OK);
}

/* Unlike the others these divide by zero or turn the ramp around: catches a silent acceptance. */
Test(rules_numbers, degenerate_ramps_are_refused) {
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = 64};
  spindle_position llama3 = {.struct_size = sizeof llama3,
                             .rope = SPINDLE_ROPE_LLAMA3,
                             .factor = 8,
                             .original_max_position_embeddings = 8192,
                             .low_freq_factor = 4,
                             .high_freq_factor = 4};
  cr_expect_neq(spindle_position_resolve(&llama3, &shape, 1, NULL, NULL, NULL), SPINDLE_OK);
  spindle_position yarn = {
      .struct_size = sizeof yarn, .rope = SPINDLE_ROPE_YARN, .factor = 8, .original_max_position_embeddings = 6};
  cr_expect_neq(spindle_position_resolve(&yarn, &shape, 1, NULL, NULL, NULL), SPINDLE_OK);
}
