/* Rules that ramp from extrapolation (fast pairs) to interpolation (slow pairs): NTK-by-parts, YaRN and Llama 3.
 *
 * Peng et al. 2023 (YaRN, arXiv:2309.00071) and its code (jquesnelle/yarn); DeepSeek-V3 inference/model.py; gpt-oss model.py;
 * Hugging Face modeling_rope_utils ("yarn", "llama3"). The paper's ramp is linear in rotations, the released code's in the pair
 * index: up to 204 % apart, so both are here. */
#ifndef SPINDLE_KERNELS_ROPE_YARN_H
#define SPINDLE_KERNELS_ROPE_YARN_H

#include "ntk.h"
#include "phase.h"

SPINDLE__SHARED double spindle__clamp01(double x) { return fmin(fmax(x, 0.0), 1.0); }

/* The (fractional) pair that turns r times within L tokens. */
SPINDLE__SHARED double spindle__correction_dim(const spindle_position *p, int32_t d, double r) {
  return d * log(p->original_max_position_embeddings / (SPINDLE__TWO_PI * r)) / (2.0 * log(p->rope_theta));
}

/* 0 up to the pair of `fast` rotations, 1 from the pair of `slow` ones. The upper clamp is d - 1, as in all released code. */
SPINDLE__SHARED double spindle__yarn_ramp(const spindle_position *p, int32_t d, int32_t t, double fast, double slow) {
  double low = spindle__correction_dim(p, d, fast), high = spindle__correction_dim(p, d, slow);
  if (!p->no_truncate) {
    low = floor(low);
    high = ceil(high);
  }
  low = fmax(low, 0.0);
  high = fmin(high, d - 1.0);
  if (low == high) high += 0.001;
  return spindle__clamp01((t - low) / (high - low));
}

SPINDLE__SHARED double spindle__yarn_inv_freq(const spindle_position *p, double factor, int32_t d, int32_t t) {
  double w = spindle__default_inv_freq(p->rope_theta, d, t);
  double ramp = spindle__yarn_ramp(p, d, t, p->beta_fast, p->beta_slow);
  return w / factor * ramp + w * (1.0 - ramp);
}

/* m(s) = 0.1 mscale ln s + 1: the square root of the inverse temperature. */
SPINDLE__SHARED double spindle__yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

SPINDLE__SHARED double spindle__yarn_attention_factor(const spindle_position *p, double factor) {
  if (p->attention_factor > 0.0) return p->attention_factor;
  if (p->mscale != 0.0 && p->mscale_all_dim != 0.0)
    return spindle__yarn_mscale(factor, p->mscale) / spindle__yarn_mscale(factor, p->mscale_all_dim);
  return spindle__yarn_mscale(factor, 1.0);
}

/* s of dynamic YaRN: 1 (plain RoPE) up to the trained length, then n / L; a finetuned model starts at max / L. */
SPINDLE__SHARED double spindle__dynamic_yarn_factor(const spindle_position *p, int64_t n) {
  double trained = p->original_max_position_embeddings, longest = fmax(p->max_position_embeddings, trained);
  if (p->finetuned) return fmax((double)n, longest) / trained;
  return (double)n > longest ? (double)n / trained : 1.0;
}

/* DeepSeek leaves a model that runs within its original length alone. */
SPINDLE__SHARED double spindle__deepseek_factor(const spindle_position *p) {
  double longest = p->max_position_embeddings;
  return longest > 0.0 && longest <= p->original_max_position_embeddings ? 1.0 : p->factor;
}

/* YaRN paper, Def. 2: alpha = 1, beta = 32 rotations. */
SPINDLE__SHARED double spindle__by_parts_inv_freq(const spindle_position *p, int32_t d, int32_t t) {
  double w = spindle__default_inv_freq(p->rope_theta, d, t);
  double rotations = p->original_max_position_embeddings * w / SPINDLE__TWO_PI;
  double keep = spindle__clamp01((rotations - p->beta_slow) / (p->beta_fast - p->beta_slow));
  return (1.0 - keep) * w / p->factor + keep * w;
}

/* The form before YaRN (LlamaPartNTKScaledRotaryEmbedding): interpolation -> NTK between 0.75 and 1.25 rotations, NTK -> plain
 * between 2 and 16. */
SPINDLE__SHARED double spindle__by_parts_legacy_inv_freq(const spindle_position *p, int32_t d, int32_t t) {
  double plain = spindle__default_inv_freq(p->rope_theta, d, t);
  double ntk = spindle__default_inv_freq(spindle__ntk_theta(p->rope_theta, p->factor, d), d, t);
  double to_linear = spindle__yarn_ramp(p, d, t, 1.25, 0.75), to_ntk = spindle__yarn_ramp(p, d, t, 16.0, 2.0);
  double w = plain / p->factor * to_linear + ntk * (1.0 - to_linear);
  return w * to_ntk + plain * (1.0 - to_ntk);
}

/* Wavelengths over L / low are interpolated, under L / high kept. */
SPINDLE__SHARED double spindle__llama3_inv_freq(const spindle_position *p, int32_t d, int32_t t) {
  double w = spindle__default_inv_freq(p->rope_theta, d, t);
  double rotations = p->original_max_position_embeddings * w / SPINDLE__TWO_PI;
  double keep = spindle__clamp01((rotations - p->low_freq_factor) / (p->high_freq_factor - p->low_freq_factor));
  return (1.0 - keep) * w / p->factor + keep * w;
}

#endif
