/* Keys that are rotated on the way into the cache score as raw keys do, for every rule that does not depend on the length. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/methods.h"

#define KEYS 140
#define ROWS 40

/* A copy of the request whose keys are rotated at their indices by spindle_rotate. */
static test_request with_rotated_keys(const test_request *raw, const spindle_shape *shape, int32_t backend) {
  spindle_shape s = test_shape(*shape);
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  spindle_context *context;
  spindle_positions *positions;
  spindle_position p = raw->position;
  size_t count = (size_t)KEYS * (size_t)s.num_kv_heads * (size_t)s.head_dim_qk;
  test_request rotated = test_request_copy(raw, shape);
  float *x = test_memory(count * sizeof *x), *out = test_memory(count * sizeof *out);
  int64_t index[KEYS];
  p.struct_size = sizeof p;
  for (int j = 0; j < KEYS; j++) index[j] = raw->kv_index + j;
  memcpy(x, raw->k, count * sizeof *x);
  test_ok(spindle_context_create(&context, &options));
  test_ok(spindle_positions_create(&positions, context, &s, 1));
  test_ok(spindle_positions_set(positions, 0, &p, NULL));
  spindle_rotate_args a = {
      .struct_size = sizeof a, .rows = KEYS, .heads = s.num_kv_heads, .x = {.data = x}, .out = {.data = out}, .index = index};
  test_ok(spindle_rotate(context, &s, positions, &a, NULL));
  memcpy(rotated.k, out, count * sizeof *out);
  spindle_positions_destroy(positions);
  spindle_context_destroy(context);
  free(x);
  free(out);
  return rotated;
}

static void check_same(test_random *r, spindle_shape shape, spindle_position position, int32_t backend, int64_t kv_index) {
  test_setup setup = {.backend = backend, .shape = shape, .random = r};
  test_request raw = test_request_make(r, &shape, position, ROWS, KEYS, 1);
  raw.kv_index = kv_index;
  test_request_at_end(&raw);
  test_request rotated = with_rotated_keys(&raw, &shape, backend);
  char text[300];
  test_attend(&setup, &raw, 1);
  setup.shape.key_state = SPINDLE_KEYS_ROTATED;
  test_attend(&setup, &rotated, 1);
  snprintf(text, sizeof text, "rotated keys from %lld, layout %d, rotary %d at %d, %s", (long long)kv_index, shape.pair_layout,
           shape.rotary_dim, shape.rotary_offset, test_method_name(&position));
  test_requests_close(text, &shape, &rotated, &raw, 3e-5);
  test_request_free(&raw);
  test_request_free(&rotated);
}

Test(properties_rotated_keys, score_as_raw_ones) {
  test_random r = test_random_start();
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++)
    for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++)
      for (int32_t variant = 0; variant < 4; variant++) {
        spindle_shape shape = {.num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 48, .pair_layout = variant % 2};
        if (variant >= 2) {
          shape.rotary_dim = 20;
          shape.rotary_offset = 28;
        }
        if (test_rule_has_n(rope) || rope == SPINDLE_ROPE_XPOS) continue;
        spindle_position p = test_mask(test_rule(rope, variant >= 2 ? 20 : 48), (rope + variant) % TEST_NUM_MASKS);
        p.s2_wrap = 0;
        check_same(&r, shape, p, backend, variant == 1 ? 10000000 : variant * 7);
      }
}

/* The one remap that leaves keys at their index. */
Test(properties_rotated_keys, serve_streaming) {
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 2, .head_dim_qk = 32};
  check_same(&r, shape, test_remap(test_rule(SPINDLE_ROPE_YARN, 32), SPINDLE_REMAP_STREAMING), SPINDLE_BACKEND_CPU, 0);
  check_same(&r, shape, test_remap(test_rule(SPINDLE_ROPE_LLAMA3, 32), SPINDLE_REMAP_STREAMING), SPINDLE_BACKEND_REFERENCE, 0);
}
