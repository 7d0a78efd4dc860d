/* A window, chunk or group that holds the whole text is no window: the result is that of plain attention. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "support/attend.h"
#include "support/methods.h"

#define KEYS 130

static void check_plain(test_random *r, spindle_position wide, const char *what) {
  spindle_shape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 32};
  spindle_position plain = {.rope = wide.rope, .not_causal = wide.not_causal};
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    test_setup setup = {.backend = backend, .shape = shape};
    test_request want = test_request_make(r, &shape, plain, KEYS, KEYS, 1), got = test_request_copy(&want, &shape);
    got.position = wide;
    test_attend(&setup, &want, 1);
    test_attend(&setup, &got, 1);
    test_requests_close(what, &shape, &got, &want, 2e-6);
    test_request_free(&want);
    test_request_free(&got);
  }
}

Test(properties_windows, as_long_as_the_text_are_plain) {
  test_random r = test_random_start();
  const int32_t rope = SPINDLE_ROPE_DEFAULT;
  check_plain(&r, (spindle_position){.rope = rope, .window_left = KEYS}, "window_left");
  check_plain(&r, (spindle_position){.rope = rope, .window_left = KEYS, .sink_tokens = 4}, "window_left with sinks");
  check_plain(&r, (spindle_position){.rope = rope, .window_left = 1, .sink_tokens = KEYS}, "sinks as long as the text");
  check_plain(&r, (spindle_position){.rope = rope, .not_causal = 1, .window_left = KEYS, .window_right = KEYS}, "both windows");
  check_plain(&r, (spindle_position){.rope = rope, .chunk = KEYS}, "chunk");
  check_plain(&r, (spindle_position){.rope = rope, .s2_group = 2 * KEYS}, "s2_group");
  check_plain(&r, (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_REROPE, .remap_window = KEYS}, "rerope");
  check_plain(&r, (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = KEYS, .remap_k = 7},
              "leaky rerope");
  check_plain(&r, (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 9, .remap_k = 1 + 1e-15},
              "leaky rerope, k 1");
  check_plain(&r, (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_SELF_EXTEND, .remap_window = KEYS, .remap_group = 2},
              "self-extend");
  check_plain(&r, (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_SELF_EXTEND, .remap_window = 8, .remap_group = 1},
              "self-extend, groups of 1");
  check_plain(&r, (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_DCA, .remap_chunk = KEYS + 9, .remap_local = 9}, "dca");
  check_plain(&r,
              (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_DCA_PAPER, .remap_chunk = KEYS, .remap_pretrain = 2 * KEYS},
              "dca-paper");
  check_plain(&r,
              (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_STREAMING, .remap_window = KEYS, .remap_sink_tokens = 3},
              "streaming");
  check_plain(&r,
              (spindle_position){.rope = rope, .remap = SPINDLE_REMAP_LM_INFINITE, .remap_window = KEYS, .remap_sink_tokens = 3},
              "lm-infinite");
}

/* Neutral numbers: a factor of 1 scales nothing, a base raised by nothing stays. */
Test(properties_windows, neutral_rules_are_the_default_rule) {
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 2, .head_dim_qk = 32};
  static const spindle_position neutral[] = {
      {.rope = SPINDLE_ROPE_LINEAR, .factor = 1},
      {.rope = SPINDLE_ROPE_NTK, .alpha = 1},
      {.rope = SPINDLE_ROPE_NTK_OLD, .factor = 1},
      {.rope = SPINDLE_ROPE_NTK_FIXED, .factor = 1},
      {.rope = SPINDLE_ROPE_NTK_MIXED, .factor = 1},
      {.rope = SPINDLE_ROPE_NTK_BY_PARTS, .factor = 1, .original_max_position_embeddings = 64},
      {.rope = SPINDLE_ROPE_NTK_BY_PARTS_LEGACY, .factor = 1, .original_max_position_embeddings = 64},
      {.rope = SPINDLE_ROPE_DYNAMIC_LINEAR, .max_position_embeddings = KEYS},
      {.rope = SPINDLE_ROPE_DYNAMIC_NTK, .factor = 8, .max_position_embeddings = KEYS},
      {.rope = SPINDLE_ROPE_QWEN_DYNAMIC_NTK, .original_max_position_embeddings = KEYS},
      {.rope = SPINDLE_ROPE_YARN, .factor = 1, .original_max_position_embeddings = 64},
      {.rope = SPINDLE_ROPE_DYNAMIC_YARN, .original_max_position_embeddings = KEYS},
      {.rope = SPINDLE_ROPE_DEEPSEEK_YARN,
       .factor = 40,
       .original_max_position_embeddings = KEYS,
       .max_position_embeddings = KEYS},
      {.rope = SPINDLE_ROPE_LLAMA3, .factor = 1, .original_max_position_embeddings = 64},
      {.rope = SPINDLE_ROPE_PROPORTIONAL, .partial_rotary_factor = 1},
  };
  for (size_t c = 0; c < sizeof neutral / sizeof *neutral; c++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape};
    test_request want = test_request_make(&r, &shape, (spindle_position){.rope = SPINDLE_ROPE_DEFAULT}, 50, KEYS, 1);
    test_request got = test_request_copy(&want, &shape);
    got.position = neutral[c];
    test_attend(&setup, &want, 1);
    test_attend(&setup, &got, 1);
    test_requests_close(test_method_name(&got.position), &shape, &got, &want, 2e-6);
    test_request_free(&want);
    test_request_free(&got);
  }
}
