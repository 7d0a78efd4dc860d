/* Which keys a query sees, and at which difference of positions: every mask and remap from its definition, for one pair. */
#include "reference.h"

#include <math.h>

static int64_t div_down(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static int64_t mod_up(int64_t a, int64_t b) { return a - div_down(a, b) * b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- Masks ---- */

/* LongLoRA's shifted sparse attention. Without wrap the groups of the shifted heads are [0, G/2), [G/2, 3G/2), ..., each causal
 * as usual. With wrap (Algorithm 1 of the paper) the whole sequence of n tokens is rolled by G/2 and causality is that of the
 * rolled order, in which the first half group stands behind the end. */
static bool s2_sees(const spindle_position *p, bool shifted, int64_t n, int64_t i, int64_t j) {
  int64_t group = p->s2_group, half = group / 2;
  bool causal_order = j <= i;
  if (shifted && p->s2_wrap) {
    i = mod_up(i - half, n);
    j = mod_up(j - half, n);
    causal_order = j <= i;
  } else if (shifted) {
    i += half;
    j += half;
  }
  return div_down(i, group) == div_down(j, group) && (p->not_causal || causal_order);
}

static bool mask_sees(const spindle_position *p, bool shifted, int64_t n, int64_t i, int64_t j) {
  int64_t dist = i - j;
  if (p->s2_group > 0) {
    if (!s2_sees(p, shifted, n, i, j)) return false;
  } else if (!p->not_causal && dist < 0) {
    return false;
  }
  if (p->window_left > 0 && !(dist < p->window_left || j < p->sink_tokens)) return false;
  if (p->not_causal && p->window_right > 0 && !(-dist < p->window_right)) return false;
  if (p->chunk > 0 && div_down(i, p->chunk) != div_down(j, p->chunk)) return false;
  return true;
}

/* ---- Remaps ---- */

/* w + (dist - w) / k, to twice the precision of a double. */
static spindle__ref_offset leaky(int64_t dist, int64_t window, double k) {
  double w = (double)window, past = (double)(dist - window);
  double quotient = past / k, rest = fma(-quotient, k, past) / k;
  double sum = w + quotient, part = sum - w;
  double lost = (w - (sum - part)) + (quotient - part);
  return (spindle__ref_offset){sum, lost + rest};
}

/* Dual chunk attention: keys sit at j mod s; a query takes one of three positions, by how many chunks the key lies behind it. */
static int64_t dca(const spindle_position *p, int64_t i, int64_t j) {
  bool paper = p->remap == SPINDLE_REMAP_DCA_PAPER;
  int64_t s = paper ? p->remap_chunk : p->remap_chunk - p->remap_local;
  int64_t behind = i / s - j / s, u = i % s;
  int64_t query = u;
  if (behind == 1 && paper)
    query = u < p->remap_local ? s + u : p->remap_pretrain - 1;
  else if (behind == 1)
    query = smaller(u + s, p->remap_chunk);
  else if (behind > 1)
    query = paper ? p->remap_pretrain - 1 : smaller(2 * s - 1, p->remap_chunk);
  return query - j % s;
}

bool spindle__ref_relative(const spindle_position *p, bool shifted_heads, int64_t n, int64_t i, int64_t j,
                           spindle__ref_offset *relative) {
  if (!mask_sees(p, shifted_heads, n, i, j)) return false;
  int64_t dist = i - j, w = p->remap_window, group = p->remap_group, sinks = p->remap_sink_tokens;
  int64_t rel = dist;
  switch (p->remap) {
    case SPINDLE_REMAP_REROPE: rel = smaller(dist, w); break;
    case SPINDLE_REMAP_LEAKY_REROPE:
      if (dist >= w) {
        *relative = leaky(dist, w, p->remap_k);
        return true;
      }
      break;
    case SPINDLE_REMAP_SELF_EXTEND:
      if (dist >= w) rel = i / group - j / group + w - w / group;
      break;
    case SPINDLE_REMAP_DCA:
    case SPINDLE_REMAP_DCA_PAPER: rel = dca(p, i, j); break;
    case SPINDLE_REMAP_STREAMING:
      if (j < sinks)
        rel = smaller(i, sinks + w) - j;
      else if (dist > w)
        return false;
      break;
    case SPINDLE_REMAP_LM_INFINITE:
      if (dist >= w) {
        if (j >= sinks) return false;
        rel = w;
      }
      break;
    default: break;
  }
  *relative = (spindle__ref_offset){(double)rel, 0};
  return true;
}

/* hi * w is split into its rounded value and the rounding error (fma), and libm reduces the former exactly at any size: the
 * result is right to a few 1e-16 at every position below 2^53, where cos(hi * w) alone is off by 1e-4 at 2^40. */
void spindle__ref_cos_sin(spindle__ref_offset offset, double w, double *c, double *s) {
  double angle = offset.hi * w;
  double rest = fma(offset.hi, w, -angle) + offset.lo * w;
  double ca = cos(angle), sa = sin(angle), cr = 1, sr = rest;
  if (fabs(rest) > 0x1p-28) { /* below it these are cos and sin of it, to the last bit */
    cr = cos(rest);
    sr = sin(rest);
  }
  *c = ca * cr - sa * sr;
  *s = sa * cr + ca * sr;
}
