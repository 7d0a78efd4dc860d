/* Every remap under every mask at random parameters: the rows that the library derives from its segments against the reference
 * backend's, which decides pair by pair. Catches borders between regions, and masks that cut a remap's regions. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "host/reference/reference.h"
#include "support/random.h"

enum { DRAWS = 3000, MAX_N = 400 };

static void draw_remap(test_random *r, int32_t remap, int64_t n, spindle_position *p) {
  int64_t short_length = test_random_log(r, 1, n);
  p->remap = remap;
  switch (remap) {
    case SPINDLE_REMAP_LEAKY_REROPE: p->remap_k = test_random_real(r, 0.1, 20); /* fall through */
    case SPINDLE_REMAP_REROPE: p->remap_window = short_length; break;
    case SPINDLE_REMAP_SELF_EXTEND:
      p->remap_group = test_random_log(r, 1, 16);
      p->remap_window = p->remap_group * test_random_log(r, 1, n);
      break;
    case SPINDLE_REMAP_DCA:
      p->remap_chunk = short_length + 1;
      p->remap_local = test_random_int(r, 1, short_length);
      break;
    case SPINDLE_REMAP_DCA_PAPER:
      p->remap_chunk = short_length;
      p->remap_pretrain = short_length + test_random_int(r, 1, short_length);
      if (test_random_once_in(r, 2)) p->remap_local = p->remap_pretrain - p->remap_chunk;
      break;
    case SPINDLE_REMAP_STREAMING:
    case SPINDLE_REMAP_LM_INFINITE:
      p->remap_sink_tokens = test_random_log(r, 1, n);
      p->remap_window = short_length;
      break;
    default: break;
  }
}

/* Returns n, which must be a multiple of the group under S2 with wrap. */
static int64_t draw_mask(test_random *r, int64_t n, spindle_position *p) {
  if (p->remap == SPINDLE_REMAP_NONE && test_random_once_in(r, 3)) p->not_causal = 1;
  if (p->not_causal && test_random_once_in(r, 2)) p->window_right = test_random_log(r, 1, n);
  if (test_random_once_in(r, 2)) p->window_left = test_random_log(r, 1, n);
  if (p->window_left && test_random_once_in(r, 2)) p->sink_tokens = test_random_log(r, 1, n);
  if (test_random_once_in(r, 3)) p->chunk = test_random_log(r, 1, n);
  if (test_random_once_in(r, 3)) p->s2_group = 2 * test_random_log(r, 1, n);
  bool may_wrap = p->s2_group && !p->not_causal && !p->remap && !p->window_left && !p->chunk;
  if (!may_wrap || test_random_once_in(r, 2)) return n;
  p->s2_wrap = 1;
  return p->s2_group * ((n + p->s2_group - 1) / p->s2_group);
}

static bool agree(const spindle_position *p, bool shifted, int64_t row, int64_t n) {
  static double relative[2 * MAX_N]; /* n rounded up to a group */
  cr_assert_eq(spindle_position_relative(p, shifted, row, n, relative), SPINDLE_OK, "%s", spindle_last_error());
  spindle_position filled = *p;
  if (p->remap == SPINDLE_REMAP_DCA_PAPER) filled.remap_local = p->remap_pretrain - p->remap_chunk;
  for (int64_t j = 0; j < n; j++) {
    spindle__ref_offset r;
    bool seen = spindle__ref_relative(&filled, shifted, n, row, j, &r);
    double tolerance = p->remap == SPINDLE_REMAP_LEAKY_REROPE ? 1e-12 * fabs(r.hi) : 0;
    if (seen ? fabs(relative[j] - r.hi - r.lo) <= tolerance : isnan(relative[j])) continue;
    cr_log_error("key %lld: %g and %g", (long long)j, relative[j], seen ? r.hi + r.lo : NAN);
    return false;
  }
  return true;
}

Test(rules_relative_random, library_and_reference_agree) {
  test_random r = test_random_start();
  for (int32_t remap = SPINDLE_REMAP_NONE; remap <= SPINDLE_REMAP_LM_INFINITE; remap++)
    for (int32_t k = 0; k < DRAWS; k++) {
      int64_t n = test_random_log(&r, 1, MAX_N);
      bool shifted = test_random_once_in(&r, 2);
      spindle_position p;
      memset(&p, 0, sizeof p);
      p.struct_size = sizeof p;
      draw_remap(&r, remap, n, &p);
      n = draw_mask(&r, n, &p);
      int64_t row = test_random_int(&r, 0, n - 1);
      cr_expect(
          agree(&p, shifted, row, n),
          "remap %d row %lld n %lld shifted %d: window %lld group %lld chunk %lld local %lld pretrain %lld sinks %lld k %g; "
          "not_causal %d window %lld %lld sinks %lld chunk %lld s2 %lld wrap %d",
          remap, (long long)row, (long long)n, shifted, (long long)p.remap_window, (long long)p.remap_group,
          (long long)p.remap_chunk, (long long)p.remap_local, (long long)p.remap_pretrain, (long long)p.remap_sink_tokens,
          p.remap_k, p.not_causal, (long long)p.window_left, (long long)p.window_right, (long long)p.sink_tokens,
          (long long)p.chunk, (long long)p.s2_group, p.s2_wrap);
    }
}
