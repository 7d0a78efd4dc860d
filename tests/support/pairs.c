#include "pairs.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* LongLoRA, arXiv:2309.12307, Algorithm 1: tokens rolled by half a group, causal in rolled order. n is a multiple of the group.
 */
static bool rolled_group_sees(const test_method *m, int64_t i, int64_t j) {
  int64_t group = m->position.s2_group, half = group / 2;
  int64_t row = (i - half + m->n) % m->n, key = (j - half + m->n) % m->n;
  return row / group == key / group && key <= row;
}

/* The released code without wrap: segments [0, G/2), [G/2, 3G/2), ... for shifted heads. */
static bool group_sees(const test_method *m, int64_t i, int64_t j) {
  int64_t shift = m->shifted ? m->position.s2_group / 2 : 0;
  return (i + shift) / m->position.s2_group == (j + shift) / m->position.s2_group;
}

/* StreamingLLM keeps S + R tokens beside the newest; LM-Infinite a lambda. */
static bool remap_sees(const spindle_position *p, int64_t i, int64_t j) {
  if (p->remap == SPINDLE_REMAP_STREAMING) return j < p->remap_sink_tokens || i - j <= p->remap_window;
  if (p->remap == SPINDLE_REMAP_LM_INFINITE) return j < p->remap_sink_tokens || i - j < p->remap_window;
  return true;
}

bool test_pair_visible(const test_method *m, int64_t i, int64_t j) {
  const spindle_position *p = &m->position;
  bool rolled = p->s2_group && p->s2_wrap && m->shifted;
  if (rolled && !rolled_group_sees(m, i, j)) return false;
  if (p->s2_group && !rolled && !group_sees(m, i, j)) return false;
  if (!p->not_causal && !rolled && j > i) return false;
  if (p->not_causal && p->window_right && j - i >= p->window_right) return false;
  if (p->window_left && i - j >= p->window_left && j >= p->sink_tokens) return false;
  if (p->chunk && i / p->chunk != j / p->chunk) return false;
  return remap_sees(p, i, j);
}

/* ChunkLlama and arXiv:2402.17463: keys at j mod s; intra, successive and inter chunk queries. */
static int64_t dual_chunk(const spindle_position *p, int64_t i, int64_t j) {
  bool paper = p->remap == SPINDLE_REMAP_DCA_PAPER;
  int64_t s = paper ? p->remap_chunk : p->remap_chunk - p->remap_local;
  int64_t apart = i / s - j / s, u = i % s, last = paper ? p->remap_pretrain - 1 : p->remap_chunk;
  int64_t q = u;
  if (apart == 1 && paper) q = u < p->remap_pretrain - s ? s + u : last;
  if (apart == 1 && !paper) q = least(u + s, last);
  if (apart >= 2) q = paper ? last : least(2 * s - 1, last);
  return q - j % s;
}

int64_t test_pair_relative(const test_method *m, int64_t i, int64_t j) {
  const spindle_position *p = &m->position;
  int64_t dist = i - j, w = p->remap_window, g = p->remap_group, whole = m->k_num;
  switch (p->remap) {
    case SPINDLE_REMAP_REROPE: return whole * least(dist, w);
    case SPINDLE_REMAP_LEAKY_REROPE: return dist < w ? whole * dist : whole * w + m->k_den * (dist - w);
    case SPINDLE_REMAP_SELF_EXTEND: return whole * (dist < w ? dist : i / g - j / g + w - w / g);
    case SPINDLE_REMAP_DCA:
    case SPINDLE_REMAP_DCA_PAPER: return whole * dual_chunk(p, i, j);
    case SPINDLE_REMAP_STREAMING: return whole * (j < p->remap_sink_tokens ? least(i, p->remap_sink_tokens + w) - j : dist);
    case SPINDLE_REMAP_LM_INFINITE: return whole * (dist < w ? dist : w);
    default: return whole * dist;
  }
}
