/* The relative positions that papers and released code print for single rows, against both readings of the remaps and masks: the
 * library's (spindle_position_relative, made of segments) and the reference backend's (per pair). */
#include <criterion/criterion.h>
#include <math.h>

#include "host/reference/reference.h"
#include "support/numbers.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))
#define MAX_N       16384
#define X           NAN /* not seen */

static const char *const code[2] = {"library", "reference"};

/* relative[c][j] of row `row`, by each code. */
static void evaluate(const spindle_position *given, bool shifted, int64_t row, int64_t n, double relative[2][MAX_N]) {
  spindle_position p = *given;
  p.struct_size = sizeof p;
  cr_assert_eq(spindle_position_relative(&p, shifted, row, n, relative[0]), SPINDLE_OK, "%s", spindle_last_error());
  for (int64_t j = 0; j < n; j++) {
    spindle__ref_offset r;
    relative[1][j] = spindle__ref_relative(&p, shifted, n, row, j, &r) ? r.hi + r.lo : NAN;
  }
}

static void expect_row(const spindle_position *p, bool shifted, int64_t row, const double *printed, size_t n) {
  static double relative[2][MAX_N];
  evaluate(p, shifted, row, (int64_t)n, relative);
  for (int c = 0; c < 2; c++)
    for (size_t j = 0; j < n; j++)
      cr_expect(isnan(printed[j]) ? isnan(relative[c][j]) : relative[c][j] == printed[j],
                "%s, remap %d, row %lld: key %zu at %g, printed %g", code[c], p->remap, (long long)row, j, relative[c][j],
                printed[j]);
}

#define EXPECT_ROW(p, row, ...)                              \
  do {                                                       \
    const double printed[] = {__VA_ARGS__};                  \
    expect_row(&(p), false, (row), printed, COUNT(printed)); \
  } while (0)

static void expect_entry(const spindle_position *p, int64_t row, int64_t key, double printed, int digits) {
  static double relative[2][MAX_N];
  evaluate(p, false, row, row + 1, relative);
  for (int c = 0; c < 2; c++)
    cr_expect(test_as_printed(relative[c][key], printed, digits), "%s: %.12g, printed %.12g", code[c], relative[c][key], printed);
}

/* Catches a near region one key too wide: distance w itself is far. */
Test(rules_relative, rerope) {
  spindle_position p = {.remap = SPINDLE_REMAP_REROPE, .remap_window = 3};
  EXPECT_ROW(p, 7, 3, 3, 3, 3, 3, 2, 1, 0);
}

/* Catches the blog's max() form of decoding, which is wrong for k < 1, and i / k without the offset w (1 - 1/k). */
Test(rules_relative, leaky_rerope) {
  spindle_position p = {.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 3, .remap_k = 2};
  EXPECT_ROW(p, 7, 5, 4.5, 4, 3.5, 3, 2, 1, 0);
  p.remap_k = 0.25; /* inverse leaky */
  EXPECT_ROW(p, 7, 19, 15, 11, 7, 3, 2, 1, 0);
  p = (spindle_position){.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 512, .remap_k = 16};
  expect_entry(&p, 16383, 0, 1503.94, 6);
  p = (spindle_position){.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 128, .remap_k = 0.0625};
  expect_entry(&p, 511, 0, 6256, 12); /* the longest position that its training sees */
}

/* Catches the fractional shift W / G of the released prefill, and groups counted from the query. */
Test(rules_relative, self_extend) {
  spindle_position p = {.remap = SPINDLE_REMAP_SELF_EXTEND, .remap_group = 2, .remap_window = 4};
  EXPECT_ROW(p, 11, 7, 7, 6, 6, 5, 5, 4, 4, 3, 2, 1, 0);
  double row[12];
  p = (spindle_position){.struct_size = sizeof p, .remap = SPINDLE_REMAP_SELF_EXTEND, .remap_group = 3, .remap_window = 4};
  cr_expect_eq(spindle_position_relative(&p, 0, 11, 12, row), SPINDLE_INVALID_ARGUMENT, "a shift W / G that is no integer");
}

/* With L = 4096, W = 1024, G = 8 the longest text is (L - W) G + W = 25600: catches a shift one group off. */
Test(rules_relative, self_extend_longest_text) {
  spindle_position p = {.remap = SPINDLE_REMAP_SELF_EXTEND, .remap_group = 8, .remap_window = 1024};
  spindle__ref_offset r;
  cr_assert(spindle__ref_relative(&p, false, 25601, 25599, 0, &r));
  cr_expect_eq(r.hi, 4095);
  cr_assert(spindle__ref_relative(&p, false, 25601, 25600, 0, &r));
  cr_expect_eq(r.hi, 4096);
}

/* Catches R keys in the window where StreamingLLM's step has R + 1, and sinks at their true distance. */
Test(rules_relative, streaming) {
  spindle_position p = {.remap = SPINDLE_REMAP_STREAMING, .remap_sink_tokens = 2, .remap_window = 3};
  EXPECT_ROW(p, 9, 5, 4, X, X, X, X, 3, 2, 1, 0);
  EXPECT_ROW(p, 3, 3, 2, 1, 0);
  EXPECT_ROW(p, 5, 5, 4, 3, 2, 1, 0);
  EXPECT_ROW(p, 6, 5, 4, X, 3, 2, 1, 0);
}

/* StreamingLLM step by step as its code runs it: the cache holds the first S and the last R tokens, a key's position is its index
 * in the cache. Catches a dense form that is right in the steady state only. */
Test(rules_relative, streaming_is_its_cache) {
  enum { S = 3, R = 5, N = 40 };
  spindle_position p = {.remap = SPINDLE_REMAP_STREAMING, .remap_sink_tokens = S, .remap_window = R};
  int cache[S + R + 1], length = 0;
  for (int i = 0; i < N; i++) {
    double row[N];
    for (int j = 0; j <= i; j++) row[j] = NAN;
    cache[length++] = i;
    for (int c = 0; c < length; c++) row[cache[c]] = length - 1 - c;
    expect_row(&p, false, i, row, (size_t)i + 1);
    if (length > S + R) {
      for (int c = S; c < length - 1; c++) cache[c] = cache[c + 1];
      length--;
    }
  }
}

/* Catches dist <= L, and global keys inside the window counted twice. */
Test(rules_relative, lm_infinite) {
  spindle_position p = {.remap = SPINDLE_REMAP_LM_INFINITE, .remap_sink_tokens = 2, .remap_window = 3};
  EXPECT_ROW(p, 7, 3, 3, X, X, X, 2, 1, 0);
  EXPECT_ROW(p, 3, 3, 2, 1, 0);
}

/* Catches s = chunk in the code's form (it is chunk - local), and positions up to chunk - 1 there (they reach chunk). */
Test(rules_relative, dual_chunk_attention) {
  spindle_position paper = {.remap = SPINDLE_REMAP_DCA_PAPER, .remap_pretrain = 10, .remap_chunk = 6, .remap_local = 4};
  EXPECT_ROW(paper, 12, 9, 8, 7, 6, 5, 4, 6, 5, 4, 3, 2, 1, 0);
  EXPECT_ROW(paper, 10, 9, 8, 7, 6, 5, 4, 4, 3, 2, 1, 0);
  spindle_position released = {.remap = SPINDLE_REMAP_DCA, .remap_chunk = 8, .remap_local = 2};
  EXPECT_ROW(released, 12, 8, 7, 6, 5, 4, 3, 6, 5, 4, 3, 2, 1, 0);
  EXPECT_ROW(released, 9, 8, 7, 6, 5, 4, 3, 3, 2, 1, 0);
}

/* ChunkLlama on Llama-2: chunk_size 3/4 and local window 1/8 of 4096. Catches an intermediate position of 2s - 1, unclamped. */
Test(rules_relative, dual_chunk_attention_of_llama_2) {
  spindle_position p = {.remap = SPINDLE_REMAP_DCA, .remap_chunk = 3072, .remap_local = 512};
  static double relative[2][MAX_N];
  evaluate(&p, false, 6000, 6001, relative);
  for (int c = 0; c < 2; c++) {
    cr_expect_eq(relative[c][0], 3072, "%s", code[c]);
    for (int64_t j = 6000 - 512; j <= 6000; j++)
      cr_expect_eq(relative[c][j], 6000 - j, "%s: exact within the local window", code[c]);
  }
}

/* Catches a window of W + 1 keys, and sinks that end with the window. */
Test(rules_relative, window) {
  spindle_position p = {.window_left = 3, .sink_tokens = 1};
  EXPECT_ROW(p, 5, 5, X, X, 2, 1, 0);
  p.sink_tokens = 0;
  EXPECT_ROW(p, 5, X, X, X, 2, 1, 0);
  p = (spindle_position){.not_causal = 1, .window_left = 2, .window_right = 3};
  EXPECT_ROW(p, 3, X, X, 1, 0, -1, -2, X, X);
}

/* Llama-4's chunked layers: catches a sliding window in their place. */
Test(rules_relative, chunk) {
  spindle_position p = {.chunk = 4};
  EXPECT_ROW(p, 6, X, X, X, X, 2, 1, 0);
  EXPECT_ROW(p, 8, X, X, X, X, X, X, X, X, 0);
}

/* Groups of all 16 rows, as strings; a row sees the keys of its group that precede it in the order of the roll. */
static void expect_groups(const spindle_position *p, bool shifted, const char *group, const int *order) {
  for (int64_t i = 0; i < 16; i++) {
    double row[16];
    for (int j = 0; j < 16; j++) row[j] = group[i] == group[j] && order[j] <= order[i] ? (double)(i - j) : NAN;
    expect_row(p, shifted, i, row, 16);
  }
}

/* Catches the wrap (and its leak of the future) as the default, and unshifted heads that shift. */
Test(rules_relative, s2) {
  int straight[16], rolled[16];
  for (int i = 0; i < 16; i++) {
    straight[i] = i;
    rolled[i] = (i + 14) % 16;
  }
  spindle_position p = {.s2_group = 4};
  expect_groups(&p, false, "0000111122223333", straight);
  expect_groups(&p, true, "0011112222333344", straight);
  p.s2_wrap = 1;
  expect_groups(&p, false, "0000111122223333", straight);
  expect_groups(&p, true, "3300001111222233", rolled);
}

/* The leak of the rolled variant, pair by pair as the paper's code has it. */
Test(rules_relative, s2_wrap_leaks) {
  static const int leak[4][2] = {{0, 14}, {0, 15}, {1, 14}, {1, 15}};
  static double relative[2][MAX_N];
  spindle_position p = {.s2_group = 4, .s2_wrap = 1};
  for (int k = 0; k < 4; k++) {
    evaluate(&p, true, leak[k][0], 16, relative);
    for (int c = 0; c < 2; c++) cr_expect_eq(relative[c][leak[k][1]], leak[k][0] - leak[k][1], "%s", code[c]);
  }
}
