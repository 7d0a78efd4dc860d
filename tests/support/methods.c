#include "methods.h"

#include <math.h>
#include <stdio.h>

#define MAX_PAIRS 256

static const double *short_factors(void) {
  static double list[MAX_PAIRS];
  for (int t = 0; t < MAX_PAIRS; t++) list[t] = 1.0 + 0.01 * t;
  return list;
}

static const double *long_factors(void) {
  static double list[MAX_PAIRS];
  for (int t = 0; t < MAX_PAIRS; t++) list[t] = 1.0 + 0.5 * t;
  return list;
}

/* Some turn backwards, some not at all. */
static const double *frequencies(int32_t pairs) {
  static double list[MAX_PAIRS];
  for (int t = 0; t < MAX_PAIRS; t++) list[t] = t % 5 == 4 ? 0.0 : (t % 3 == 2 ? -1 : 1) * pow(500.0, -(double)t / pairs);
  return list;
}

spindle_position test_rule(int32_t rope, int32_t rotary_dim) {
  spindle_position p = {.struct_size = sizeof p, .rope = rope};
  bool has_factor = rope == SPINDLE_ROPE_LINEAR || (rope >= SPINDLE_ROPE_NTK_OLD && rope <= SPINDLE_ROPE_NTK_BY_PARTS_LEGACY) ||
                    rope == SPINDLE_ROPE_DYNAMIC_NTK || rope == SPINDLE_ROPE_YARN || rope == SPINDLE_ROPE_DEEPSEEK_YARN ||
                    rope == SPINDLE_ROPE_LLAMA3 || rope == SPINDLE_ROPE_LONGROPE || rope == SPINDLE_ROPE_LONGROPE_DYNAMIC;
  if (rope == SPINDLE_ROPE_NONE) return p;
  p.original_max_position_embeddings = 96;
  p.max_position_embeddings = rope == SPINDLE_ROPE_DYNAMIC_LINEAR || rope == SPINDLE_ROPE_DYNAMIC_NTK ? 96 : 192;
  if (has_factor) p.factor = 4;
  if (rope == SPINDLE_ROPE_NTK) p.alpha = 4;
  if (rope == SPINDLE_ROPE_DEEPSEEK_YARN) p.mscale = 0.7;
  if (rope == SPINDLE_ROPE_PROPORTIONAL) p.partial_rotary_factor = 0.5;
  if (rope == SPINDLE_ROPE_XPOS) p.scale_base = 64;
  if (rope == SPINDLE_ROPE_LONGROPE || rope == SPINDLE_ROPE_LONGROPE_DYNAMIC || rope == SPINDLE_ROPE_TABLE)
    p.num_pairs = rotary_dim / 2;
  if (rope == SPINDLE_ROPE_LONGROPE) p.short_factor = short_factors();
  if (rope == SPINDLE_ROPE_LONGROPE || rope == SPINDLE_ROPE_LONGROPE_DYNAMIC) p.long_factor = long_factors();
  if (rope == SPINDLE_ROPE_TABLE) {
    p.inv_freq = frequencies(rotary_dim / 2);
    p.attention_factor = 1.25;
  }
  return p;
}

bool test_rule_has_n(int32_t rope) {
  return rope == SPINDLE_ROPE_DYNAMIC_LINEAR || rope == SPINDLE_ROPE_DYNAMIC_NTK || rope == SPINDLE_ROPE_QWEN_DYNAMIC_NTK ||
         rope == SPINDLE_ROPE_DYNAMIC_YARN || rope == SPINDLE_ROPE_LONGROPE || rope == SPINDLE_ROPE_LONGROPE_DYNAMIC;
}

spindle_position test_remap(spindle_position p, int32_t remap) {
  p.remap = remap;
  switch (remap) {
    case SPINDLE_REMAP_LEAKY_REROPE: p.remap_k = 3; /* fall through */
    case SPINDLE_REMAP_REROPE: p.remap_window = 37; break;
    case SPINDLE_REMAP_SELF_EXTEND:
      p.remap_group = 4;
      p.remap_window = 32;
      break;
    case SPINDLE_REMAP_DCA:
      p.remap_chunk = 60;
      p.remap_local = 13;
      break;
    case SPINDLE_REMAP_DCA_PAPER:
      p.remap_pretrain = 80;
      p.remap_chunk = 60;
      break;
    case SPINDLE_REMAP_STREAMING:
    case SPINDLE_REMAP_LM_INFINITE:
      p.remap_sink_tokens = 5;
      p.remap_window = 40;
      break;
    default: break;
  }
  return p;
}

spindle_position test_mask(spindle_position p, int32_t mask) {
  bool only_causal = p.remap || p.rope == SPINDLE_ROPE_XPOS;
  switch (mask) {
    case 1: p.window_left = 50; break;
    case 2:
      p.window_left = 30;
      p.sink_tokens = 4;
      break;
    case 3: p.chunk = 45; break;
    case 4: p.s2_group = 40; break;
    case 5:
      p.s2_group = 40;
      p.s2_wrap = !p.remap;
      break;
    case 6: p.not_causal = !only_causal; break;
    case 7:
      p.not_causal = !only_causal;
      p.window_left = 33;
      p.window_right = only_causal ? 0 : 20;
      break;
    default: break;
  }
  return p;
}

spindle_position test_any_method(test_random *r, int32_t rotary_dim) {
  spindle_position p = test_rule((int32_t)test_random_int(r, 0, TEST_NUM_RULES - 1), rotary_dim);
  p = test_remap(p, test_random_once_in(r, 2) ? 0 : (int32_t)test_random_int(r, 0, TEST_NUM_REMAPS - 1));
  return test_mask(p, (int32_t)test_random_int(r, 0, TEST_NUM_MASKS - 1));
}

const char *test_method_name(const spindle_position *p) {
  static char text[200];
  snprintf(text, sizeof text, "rope %d, remap %d, not_causal %d, window %d+%d, sinks %d, chunk %d, s2 %d wrap %d, row scale %d",
           p->rope, p->remap, p->not_causal, (int)p->window_left, (int)p->window_right, (int)p->sink_tokens, (int)p->chunk,
           (int)p->s2_group, p->s2_wrap, p->row_scale);
  return text;
}
