/* All scaling rules behind pure functions of (parameters, pair, n), and their evaluation into phases.
 *
 * p is a descriptor with its defaults filled in and its list pointers set; d is the rotary dim. */
#ifndef SPINDLE_KERNELS_ROPE_ROPE_H
#define SPINDLE_KERNELS_ROPE_ROPE_H

#include "../params.h"
#include "longrope.h"
#include "yarn.h"

SPINDLE__SHARED int spindle__rope_is_length_dependent(int32_t rope) {
  switch (rope) {
    case SPINDLE_ROPE_DYNAMIC_LINEAR:
    case SPINDLE_ROPE_DYNAMIC_NTK:
    case SPINDLE_ROPE_QWEN_DYNAMIC_NTK:
    case SPINDLE_ROPE_DYNAMIC_YARN:
    case SPINDLE_ROPE_LONGROPE:
    case SPINDLE_ROPE_LONGROPE_DYNAMIC: return 1;
    default: return 0;
  }
}

/* w_t, in radians per token. */
SPINDLE__SHARED double spindle__rope_inv_freq(const spindle_position *p, int32_t d, int32_t t, int64_t n) {
  double theta = p->rope_theta;
  switch (p->rope) {
    case SPINDLE_ROPE_DEFAULT:
    case SPINDLE_ROPE_XPOS: return spindle__default_inv_freq(theta, d, t);
    case SPINDLE_ROPE_LINEAR: return spindle__default_inv_freq(theta, d, t) / p->factor;
    case SPINDLE_ROPE_DYNAMIC_LINEAR: return spindle__default_inv_freq(theta, d, t) / spindle__dynamic_linear_factor(p, n);
    case SPINDLE_ROPE_NTK: return spindle__default_inv_freq(spindle__ntk_theta(theta, p->alpha, d), d, t);
    case SPINDLE_ROPE_NTK_OLD: return spindle__default_inv_freq(theta * p->factor, d, t);
    case SPINDLE_ROPE_NTK_FIXED: return spindle__ntk_fixed_inv_freq(p, d, t);
    case SPINDLE_ROPE_NTK_MIXED: return spindle__ntk_mixed_inv_freq(p, d, t);
    case SPINDLE_ROPE_DYNAMIC_NTK:
      return spindle__default_inv_freq(spindle__ntk_theta(theta, spindle__dynamic_ntk_alpha(p, n), d), d, t);
    case SPINDLE_ROPE_QWEN_DYNAMIC_NTK:
      return spindle__default_inv_freq(spindle__ntk_theta(theta, spindle__qwen_ntk_alpha(p, n), d), d, t);
    case SPINDLE_ROPE_NTK_BY_PARTS: return spindle__by_parts_inv_freq(p, d, t);
    case SPINDLE_ROPE_NTK_BY_PARTS_LEGACY: return spindle__by_parts_legacy_inv_freq(p, d, t);
    case SPINDLE_ROPE_YARN: return spindle__yarn_inv_freq(p, p->factor, d, t);
    case SPINDLE_ROPE_DYNAMIC_YARN: return spindle__yarn_inv_freq(p, spindle__dynamic_yarn_factor(p, n), d, t);
    case SPINDLE_ROPE_DEEPSEEK_YARN: return spindle__yarn_inv_freq(p, spindle__deepseek_factor(p), d, t);
    case SPINDLE_ROPE_LLAMA3: return spindle__llama3_inv_freq(p, d, t);
    case SPINDLE_ROPE_LONGROPE: return spindle__longrope_inv_freq(p, d, t, n);
    case SPINDLE_ROPE_LONGROPE_DYNAMIC: return spindle__longrope_dynamic_inv_freq(p, d, t, n);
    case SPINDLE_ROPE_PROPORTIONAL: return spindle__proportional_inv_freq(p, d, t);
    case SPINDLE_ROPE_TABLE: return p->inv_freq[t];
    default: return 0.0; /* SPINDLE_ROPE_NONE */
  }
}

/* A, on the rotated channels of Q and of K; and the factor on the whole score. */
SPINDLE__SHARED void spindle__rope_factors(const spindle_position *p, int64_t n, double *attention_factor,
                                           double *softmax_scale_factor) {
  *attention_factor = 1.0;
  *softmax_scale_factor = 1.0;
  switch (p->rope) {
    case SPINDLE_ROPE_YARN: *attention_factor = spindle__yarn_attention_factor(p, p->factor); break;
    case SPINDLE_ROPE_DYNAMIC_YARN:
      *attention_factor = spindle__yarn_attention_factor(p, spindle__dynamic_yarn_factor(p, n));
      break;
    case SPINDLE_ROPE_DEEPSEEK_YARN: {
      double m = spindle__yarn_mscale(spindle__deepseek_factor(p), p->mscale);
      *softmax_scale_factor = m * m;
      break;
    }
    case SPINDLE_ROPE_LONGROPE:
    case SPINDLE_ROPE_LONGROPE_DYNAMIC: *attention_factor = spindle__longrope_attention_factor(p); break;
    case SPINDLE_ROPE_TABLE:
      if (p->attention_factor > 0.0) *attention_factor = p->attention_factor;
      break;
    default: break;
  }
}

/* The slot's descriptor, as the rules above take it. */
SPINDLE__SHARED spindle_position spindle__slot_position(const spindle__slot *slot) {
  spindle_position p = slot->position;
  p.inv_freq = slot->inv_freq;
  p.short_factor = slot->short_factor;
  p.long_factor = slot->long_factor;
  return p;
}

/* Pair t of the slot's rule at length n, as phases. A remap that scales positions by 1/k (Leaky ReRoPE) has steps of its own:
 * w / k, and, for the query, the phase of window (1 - 1/k), taken as window (step - scaled_step) so that both branches meet
 * exactly at the window. */
SPINDLE__SHARED void spindle__resolve_pair(const spindle__slot *slot, int32_t rotary_dim, int32_t t, int64_t n, uint64_t *step,
                                           uint64_t *scaled_step, uint64_t *scaled_offset) {
  spindle_position p = spindle__slot_position(slot);
  int scaled = p.remap == SPINDLE_REMAP_LEAKY_REROPE;
  double w = spindle__rope_inv_freq(&p, rotary_dim, t, n);
  *step = spindle__phase_step(w, 1.0);
  *scaled_step = scaled ? spindle__phase_step(w, p.remap_k) : 0;
  *scaled_offset = scaled ? (uint64_t)p.remap_window * (*step - *scaled_step) : 0;
}

/* The slot's rule at length n, all pairs of it. */
SPINDLE__SHARED void spindle__resolve(const spindle__slot *slot, int32_t rotary_dim, int64_t n, spindle__resolved *out) {
  const spindle_position *p = &slot->position;
  spindle__rope_factors(p, n, &out->attention_factor, &out->softmax_scale_factor);
  out->scale_base = p->rope == SPINDLE_ROPE_XPOS ? p->scale_base : 0.0;
  out->num_pairs = rotary_dim / 2;
  out->rotates = 0;
  for (int32_t t = 0; t < out->num_pairs; t++) {
    spindle__resolve_pair(slot, rotary_dim, t, n, &out->step[t], &out->scaled_step[t], &out->scaled_offset[t]);
    out->rotates |= out->step[t] != 0;
  }
}

#endif
