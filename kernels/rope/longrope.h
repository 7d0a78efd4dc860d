/* LongRoPE: a searched divisor per pair. Ding et al. 2024 (arXiv:2402.13753); microsoft/LongRoPE rope/longrope.py. */
#ifndef SPINDLE_KERNELS_ROPE_LONGROPE_H
#define SPINDLE_KERNELS_ROPE_LONGROPE_H

#include "interpolation.h"

SPINDLE__SHARED double spindle__longrope_factor(const spindle_position *p) {
  return p->factor > 0.0 ? p->factor : p->max_position_embeddings / p->original_max_position_embeddings;
}

/* One list for the whole call; the long one from the first n beyond L. */
SPINDLE__SHARED double spindle__longrope_inv_freq(const spindle_position *p, int32_t d, int32_t t, int64_t n) {
  const double *divisor = (double)n > p->original_max_position_embeddings ? p->long_factor : p->short_factor;
  return spindle__default_inv_freq(p->rope_theta, d, t) / divisor[t];
}

/* The long list fades in between L and s L. */
SPINDLE__SHARED double spindle__longrope_dynamic_inv_freq(const spindle_position *p, int32_t d, int32_t t, int64_t n) {
  double factor = spindle__longrope_factor(p), beyond = (double)n / p->original_max_position_embeddings - 1.0;
  double share = factor > 1.0 ? fmin(fmax(beyond / (factor - 1.0), 0.0), 1.0) : 0.0;
  return spindle__default_inv_freq(p->rope_theta, d, t) / (1.0 + (p->long_factor[t] - 1.0) * share);
}

/* Does not depend on which list is in use. */
SPINDLE__SHARED double spindle__longrope_attention_factor(const spindle_position *p) {
  double factor = spindle__longrope_factor(p);
  if (p->attention_factor > 0.0) return p->attention_factor;
  return factor <= 1.0 ? 1.0 : sqrt(1.0 + log(factor) / log(p->original_max_position_embeddings));
}

#endif
