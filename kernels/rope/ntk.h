/* Rules that change the base: NTK-aware scaling and its kin.
 *
 * bloc97 2023 ("NTK-aware scaled RoPE"); Peng et al. 2023 (YaRN, arXiv:2309.00071, Def. 1); Su 2023 (kexue.fm/9675, 9706: mixed
 * radix); Qwen-1 modeling_qwen.py; Hugging Face modeling_rope_utils ("dynamic"). */
#ifndef SPINDLE_KERNELS_ROPE_NTK_H
#define SPINDLE_KERNELS_ROPE_NTK_H

#include "interpolation.h"

/* theta' = theta alpha^(d/(d-2)): pair 0 keeps its frequency, the last one is slowed by exactly alpha. d > 2. */
SPINDLE__SHARED double spindle__ntk_theta(double theta, double alpha, int32_t d) { return theta * pow(alpha, d / (d - 2.0)); }

/* alpha = s n / max - (s - 1). Below max the bracket would fall under 1 and then under 0: hence the clamp. */
SPINDLE__SHARED double spindle__dynamic_ntk_alpha(const spindle_position *p, int64_t n) {
  double longest = fmax((double)n, p->max_position_embeddings);
  return p->factor * longest / p->max_position_embeddings - (p->factor - 1.0);
}

/* Steps 1, 3, 7, 15, ... each time n passes a power of two times L. */
SPINDLE__SHARED double spindle__qwen_ntk_alpha(const spindle_position *p, int64_t n) {
  double doublings = ceil(log2((double)n / p->original_max_position_embeddings) + 1.0);
  return fmax(exp2(doublings) - 1.0, 1.0);
}

/* kexue.fm/9706: lambda = s^(2/d) on the base, and, in the fixed form, once more on every pair. */
SPINDLE__SHARED double spindle__ntk_fixed_inv_freq(const spindle_position *p, int32_t d, int32_t t) {
  return spindle__default_inv_freq(p->rope_theta * p->factor, d, t) * pow(p->factor, -2.0 / d);
}

/* kexue.fm/9706: pair m = t + 1 is slowed by exp(a m^b) with a (d/2)^b = ln s; b = 1 is the fixed form, b -> 0 interpolation. */
SPINDLE__SHARED double spindle__ntk_mixed_inv_freq(const spindle_position *p, int32_t d, int32_t t) {
  double a = log(p->factor) / pow(d / 2.0, p->ntk_b);
  return spindle__default_inv_freq(p->rope_theta, d, t) * exp(-a * pow(t + 1.0, p->ntk_b));
}

#endif
