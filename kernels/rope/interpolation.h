/* Rules that slow all pairs alike, and rules that are a table.
 *
 * Vaswani 2017, Su et al. 2021 (RoFormer, arXiv:2104.09864); Chen et al. 2023 (position interpolation, arXiv:2306.15595);
 * Sun et al. 2022 (xPos, arXiv:2212.10554); Hugging Face modeling_rope_utils ("proportional"). */
#ifndef SPINDLE_KERNELS_ROPE_INTERPOLATION_H
#define SPINDLE_KERNELS_ROPE_INTERPOLATION_H

#include <math.h>

#include "../common.h"

SPINDLE__SHARED double spindle__default_inv_freq(double theta, int32_t d, int32_t t) { return pow(theta, -2.0 * t / d); }

/* Interpolates by n / max from the first call that is longer than max. */
SPINDLE__SHARED double spindle__dynamic_linear_factor(const spindle_position *p, int64_t n) {
  return fmax(1.0, (double)n / p->max_position_embeddings);
}

/* The exponent runs over the full head and pairs do too; only the first ones turn. */
SPINDLE__SHARED double spindle__proportional_inv_freq(const spindle_position *p, int32_t d, int32_t t) {
  double live = floor(p->partial_rotary_factor * d / 2);
  return t < live ? spindle__default_inv_freq(p->rope_theta, d, t) / p->factor : 0.0;
}

/* xPos: log2 zeta_t, zeta_t = (2t + 0.4 d) / 1.4 d. Pair t of the product decays as zeta_t^(dist / scale_base). */
SPINDLE__SHARED double spindle__xpos_log2_zeta(int32_t d, int32_t t) { return log2((2.0 * t + 0.4 * d) / (1.4 * d)); }

#endif
