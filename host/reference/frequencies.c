/* The scaling rules, formula by formula. beta is theta^(2/d): pair t turns by beta^-t radians a token. */
#include "reference.h"

#include <math.h>

#define TWO_PI 6.28318530717958647692528676655900577

static double given(double value, double otherwise) { return value != 0 ? value : otherwise; }

static double clamp01(double x) { return fmin(fmax(x, 0.0), 1.0); }

static double frequency(double theta, int32_t t, int32_t d) { return pow(theta, -2.0 * t / d); }

/* NTK-aware: the base at which the last pair is slowed by exactly alpha and the first not at all. */
static double ntk_base(double theta, double alpha, int32_t d) { return theta * pow(alpha, (double)d / (d - 2)); }

/* ---- YaRN and its relatives ---- */

/* The (fractional) pair that turns `rotations` times within L tokens. */
static double correction_dim(double rotations, double theta, double length, int32_t d) {
  return d * log(length / (TWO_PI * rotations)) / (2 * log(theta));
}

typedef struct {
  double low, high;
} ramp_range;

static ramp_range correction_range(double low_rotations, double high_rotations, double theta, double length, int32_t d,
                                   bool truncate) {
  ramp_range range = {correction_dim(low_rotations, theta, length, d), correction_dim(high_rotations, theta, length, d)};
  if (truncate) {
    range.low = floor(range.low);
    range.high = ceil(range.high);
  }
  range.low = fmax(range.low, 0);
  range.high = fmin(range.high, d - 1); /* d - 1, not d/2 - 1, in all released code */
  if (range.low == range.high) range.high += 0.001;
  return range;
}

/* 0 before the range (extrapolate), 1 behind it (interpolate). */
static double ramp(ramp_range range, int32_t t) { return clamp01((t - range.low) / (range.high - range.low)); }

static double yarn_mscale(double s, double m) { return s <= 1 ? 1.0 : 0.1 * m * log(s) + 1.0; }

static void yarn_frequencies(const spindle_position *p, double theta, double s, int32_t d, double *w) {
  ramp_range range = correction_range(given(p->beta_fast, 32), given(p->beta_slow, 1), theta, p->original_max_position_embeddings,
                                      d, !p->no_truncate);
  for (int32_t t = 0; t < d / 2; t++) {
    double plain = frequency(theta, t, d), keep = 1 - ramp(range, t);
    w[t] = plain / s * (1 - keep) + plain * keep;
  }
}

static void yarn(const spindle_position *p, double theta, int32_t d, spindle__ref_rope *rope) {
  double s = given(p->factor, p->max_position_embeddings / p->original_max_position_embeddings);
  yarn_frequencies(p, theta, s, d, rope->w);
  if (p->mscale != 0 && p->mscale_all_dim != 0)
    rope->attention_factor = yarn_mscale(s, p->mscale) / yarn_mscale(s, p->mscale_all_dim);
  else
    rope->attention_factor = yarn_mscale(s, 1);
  rope->attention_factor = given(p->attention_factor, rope->attention_factor);
}

static void dynamic_yarn(const spindle_position *p, double theta, int32_t d, double n, spindle__ref_rope *rope) {
  double length = p->original_max_position_embeddings;
  double trained = given(p->max_position_embeddings, length);
  double s = 1;
  if (p->finetuned)
    s = fmax(n, p->max_position_embeddings) / length;
  else if (n > trained)
    s = n / length;
  s = fmax(s, 1); /* the paper's s = max(1, n / L); s = 1 is plain RoPE, A = 1 */
  yarn_frequencies(p, theta, s, d, rope->w);
  rope->attention_factor = given(p->attention_factor, yarn_mscale(s, 1));
}

static void deepseek_yarn(const spindle_position *p, double theta, int32_t d, spindle__ref_rope *rope) {
  double length = p->original_max_position_embeddings;
  if (p->max_position_embeddings != 0 && p->max_position_embeddings <= length) return;
  yarn_frequencies(p, theta, p->factor, d, rope->w);
  double mscale = yarn_mscale(p->factor, given(p->mscale, 1));
  rope->softmax_scale_factor = mscale * mscale;
}

/* YaRN paper, definition 2: the ramp is linear in the number of rotations within L. */
static void by_parts(const spindle_position *p, double theta, int32_t d, double *w) {
  double alpha = given(p->beta_slow, 1), beta = given(p->beta_fast, 32);
  for (int32_t t = 0; t < d / 2; t++) {
    double plain = frequency(theta, t, d);
    double rotations = p->original_max_position_embeddings * plain / TWO_PI;
    double gamma = clamp01((rotations - alpha) / (beta - alpha));
    w[t] = (1 - gamma) * plain / p->factor + gamma * plain;
  }
}

/* jquesnelle's LlamaPartNTKScaledRotaryEmbedding with both of its factors at 1. */
static void by_parts_legacy(const spindle_position *p, double theta, int32_t d, double *w) {
  double length = p->original_max_position_embeddings;
  ramp_range to_ntk = correction_range(1.25, 0.75, theta, length, d, true);
  ramp_range to_plain = correction_range(16, 2, theta, length, d, true);
  double scaled_theta = ntk_base(theta, p->factor, d);
  for (int32_t t = 0; t < d / 2; t++) {
    double plain = frequency(theta, t, d), linear = plain / p->factor, ntk = frequency(scaled_theta, t, d);
    double m = 1 - ramp(to_ntk, t);
    double mixed = linear * (1 - m) + ntk * m;
    m = 1 - ramp(to_plain, t);
    w[t] = mixed * (1 - m) + plain * m;
  }
}

/* ---- Llama 3, LongRoPE ---- */

static void llama3(const spindle_position *p, double theta, int32_t d, double *w) {
  double length = p->original_max_position_embeddings;
  double low = given(p->low_freq_factor, 1), high = given(p->high_freq_factor, 4);
  for (int32_t t = 0; t < d / 2; t++) {
    double plain = frequency(theta, t, d), wavelength = TWO_PI / plain;
    if (wavelength < length / high) {
      w[t] = plain;
    } else if (wavelength > length / low) {
      w[t] = plain / p->factor;
    } else {
      double smooth = (length / wavelength - low) / (high - low);
      w[t] = (1 - smooth) * plain / p->factor + smooth * plain;
    }
  }
}

static void longrope(const spindle_position *p, double theta, int32_t d, double n, spindle__ref_rope *rope) {
  double length = p->original_max_position_embeddings;
  double s = given(p->factor, p->max_position_embeddings / length);
  double fade = 1; /* how much of the list applies */
  const double *list = p->long_factor;
  if (p->rope == SPINDLE_ROPE_LONGROPE) {
    if (n <= length) list = p->short_factor;
  } else {
    fade = s > 1 ? clamp01((n / length - 1) / (s - 1)) : 0; /* s <= 1: a model that was not extended */
  }
  for (int32_t t = 0; t < d / 2; t++) rope->w[t] = frequency(theta, t, d) / (1 + (list[t] - 1) * fade);
  rope->attention_factor = given(p->attention_factor, s <= 1 ? 1.0 : sqrt(1 + log(s) / log(length)));
}

/* ---- Su's mixed radix ---- */

static void ntk_mixed(const spindle_position *p, double theta, int32_t d, double *w) {
  double b = given(p->ntk_b, 0.625), a = log(p->factor) / pow(d / 2, b);
  for (int32_t t = 0; t < d / 2; t++) w[t] = frequency(theta, t, d) / exp(a * pow(t + 1, b));
}

static void ntk_fixed(const spindle_position *p, double theta, int32_t d, double *w) {
  double beta = pow(theta, 2.0 / d), lambda = pow(p->factor, 2.0 / d);
  for (int32_t t = 0; t < d / 2; t++) w[t] = 1 / (lambda * pow(beta * lambda, t));
}

/* ---- The rules that change the base or all pairs alike ---- */

static void scaled(double theta, double divisor, int32_t d, double *w) {
  for (int32_t t = 0; t < d / 2; t++) w[t] = frequency(theta, t, d) / divisor;
}

static double dynamic_ntk_alpha(const spindle_position *p, double n) {
  double most = p->max_position_embeddings;
  return n > most ? p->factor * n / most - (p->factor - 1) : 1.0;
}

static double qwen_alpha(const spindle_position *p, double n) {
  return fmax(exp2(ceil(log2(n / p->original_max_position_embeddings) + 1)) - 1, 1.0);
}

static void proportional(const spindle_position *p, double theta, int32_t d, double *w) {
  double rotating = floor(given(p->partial_rotary_factor, 1) * d / 2);
  for (int32_t t = 0; t < d / 2; t++) w[t] = t < rotating ? frequency(theta, t, d) / given(p->factor, 1) : 0.0;
}

static void xpos(const spindle_position *p, double theta, int32_t d, spindle__ref_rope *rope) {
  scaled(theta, 1, d, rope->w);
  rope->decays = true;
  for (int32_t t = 0; t < d / 2; t++) rope->log_decay[t] = log((2 * t + 0.4 * d) / (1.4 * d)) / given(p->scale_base, 512);
}

static void table(const spindle_position *p, int32_t d, spindle__ref_rope *rope) {
  for (int32_t t = 0; t < d / 2; t++) rope->w[t] = p->inv_freq[t];
  rope->attention_factor = given(p->attention_factor, 1);
}

void spindle__ref_rope_at(const spindle_position *p, int32_t d, int64_t n, spindle__ref_rope *rope) {
  double theta = given(p->rope_theta, 10000), length = (double)n;
  *rope = (spindle__ref_rope){.num_pairs = d / 2, .attention_factor = 1, .softmax_scale_factor = 1};
  scaled(theta, 1, d, rope->w);
  switch (p->rope) {
    case SPINDLE_ROPE_NONE:
      for (int32_t t = 0; t < d / 2; t++) rope->w[t] = 0;
      break;
    case SPINDLE_ROPE_LINEAR: scaled(theta, p->factor, d, rope->w); break;
    case SPINDLE_ROPE_NTK: scaled(ntk_base(theta, p->alpha, d), 1, d, rope->w); break;
    case SPINDLE_ROPE_NTK_OLD: scaled(theta * p->factor, 1, d, rope->w); break;
    case SPINDLE_ROPE_NTK_FIXED: ntk_fixed(p, theta, d, rope->w); break;
    case SPINDLE_ROPE_NTK_MIXED: ntk_mixed(p, theta, d, rope->w); break;
    case SPINDLE_ROPE_NTK_BY_PARTS: by_parts(p, theta, d, rope->w); break;
    case SPINDLE_ROPE_NTK_BY_PARTS_LEGACY: by_parts_legacy(p, theta, d, rope->w); break;
    case SPINDLE_ROPE_DYNAMIC_LINEAR: scaled(theta, fmax(length / p->max_position_embeddings, 1), d, rope->w); break;
    case SPINDLE_ROPE_DYNAMIC_NTK: scaled(ntk_base(theta, dynamic_ntk_alpha(p, length), d), 1, d, rope->w); break;
    case SPINDLE_ROPE_QWEN_DYNAMIC_NTK: scaled(ntk_base(theta, qwen_alpha(p, length), d), 1, d, rope->w); break;
    case SPINDLE_ROPE_YARN: yarn(p, theta, d, rope); break;
    case SPINDLE_ROPE_DYNAMIC_YARN: dynamic_yarn(p, theta, d, length, rope); break;
    case SPINDLE_ROPE_DEEPSEEK_YARN: deepseek_yarn(p, theta, d, rope); break;
    case SPINDLE_ROPE_LLAMA3: llama3(p, theta, d, rope->w); break;
    case SPINDLE_ROPE_LONGROPE:
    case SPINDLE_ROPE_LONGROPE_DYNAMIC: longrope(p, theta, d, length, rope); break;
    case SPINDLE_ROPE_PROPORTIONAL: proportional(p, theta, d, rope->w); break;
    case SPINDLE_ROPE_XPOS: xpos(p, theta, d, rope); break;
    case SPINDLE_ROPE_TABLE: table(p, d, rope); break;
    default: break; /* SPINDLE_ROPE_DEFAULT */
  }
}

void spindle__ref_rope_of_slot(const spindle__slot *slot, int32_t d, int64_t n, spindle__ref_rope *rope) {
  spindle_position p = slot->position;
  p.inv_freq = slot->inv_freq;
  p.short_factor = slot->short_factor;
  p.long_factor = slot->long_factor;
  spindle__ref_rope_at(&p, d, n, rope);
}
