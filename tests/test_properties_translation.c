/* Relative methods see differences alone: moving a whole text changes nothing, not even a billion tokens on. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "support/attend.h"
#include "support/methods.h"

#define ROWS 60
#define KEYS 150

static const int32_t backends[] = {SPINDLE_BACKEND_CPU, SPINDLE_BACKEND_REFERENCE};

/* Nothing in the method counts from the first token, or it counts in units that divide `unit`. */
static bool is_relative(const spindle_position *p) {
  return !p->sink_tokens && !p->remap_sink_tokens && !p->s2_wrap && !p->row_scale;
}

static int64_t unit_of(const spindle_position *p) {
  int64_t unit = 1;
  if (p->remap == SPINDLE_REMAP_SELF_EXTEND) unit *= p->remap_group;
  if (p->remap == SPINDLE_REMAP_DCA) unit *= p->remap_chunk - p->remap_local;
  if (p->remap == SPINDLE_REMAP_DCA_PAPER) unit *= p->remap_chunk;
  if (p->chunk) unit *= p->chunk;
  if (p->s2_group) unit *= p->s2_group;
  return unit;
}

static void check_moved(test_random *r, const spindle_shape *shape, spindle_position position, test_setup setup) {
  static const int64_t shifts[] = {1000000, 1000000000, ((int64_t)1 << 40) - 100000};
  test_request here = test_request_make(r, shape, position, ROWS, KEYS, 1);
  here.n = KEYS;
  test_attend(&setup, &here, 1);
  for (int s = 0; s < 3; s++) {
    int64_t unit = unit_of(&position), shift = shifts[s] / unit * unit;
    test_request there = test_request_copy(&here, shape);
    char text[300];
    there.q_index += shift;
    there.kv_index += shift;
    test_attend(&setup, &there, 1);
    snprintf(text, sizeof text, "moved by %lld, backend %d, bias %d, %s", (long long)shift, setup.backend, shape->bias,
             test_method_name(&position));
    /* 1e-6 on cos and sin moves a score of D / sqrt(D) = 6 by 1e-5; positions themselves are exact. */
    test_requests_close(text, shape, &there, &here, 4e-5);
    test_request_free(&there);
  }
  test_request_free(&here);
}

Test(properties_translation, every_relative_method) {
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 32};
  for (int32_t b = 0; b < 2; b++)
    for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++)
      for (int32_t remap = 0; remap < TEST_NUM_REMAPS; remap++)
        for (int32_t mask = 0; mask < TEST_NUM_MASKS; mask++) {
          spindle_position p = test_mask(test_remap(test_rule(rope, 32), remap), mask);
          bool drawn = (rope + 3 * remap + 5 * mask) % (b ? 37 : 11) == 0;
          if (!is_relative(&p) || !(drawn || (rope == 1 && !b))) continue;
          check_moved(&r, &shape, p, (test_setup){.backend = backends[b], .shape = shape, .num_threads = 1});
        }
}

Test(properties_translation, every_bias) {
  test_random r = test_random_start();
  const float a[] = {0.5f, 0.01f}, p[] = {0.8f, 1.5f};
  for (int32_t b = 0; b < 2; b++)
    for (int32_t bias = SPINDLE_BIAS_ALIBI; bias <= SPINDLE_BIAS_KERPLE_POWER; bias++)
      for (int32_t mask = 0; mask < TEST_NUM_MASKS; mask++) {
        spindle_shape shape = {.num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 32, .bias = bias};
        spindle_position position = test_mask(test_rule(SPINDLE_ROPE_DEFAULT, 32), mask);
        test_setup setup = {
            .backend = backends[b], .shape = shape, .args = {.bias_a = a, .bias_p = bias == SPINDLE_BIAS_ALIBI ? NULL : p}};
        if (is_relative(&position)) check_moved(&r, &shape, position, setup);
      }
}
