/* One key tile against the rows of a KV head: S = Q K, online softmax in units of log 2, O += P V. */
#ifndef SPINDLE_HOST_CPU_ISA_ATTEND_H
#define SPINDLE_HOST_CPU_ISA_ATTEND_H

#include <math.h>

#include "few.h"
#include "gemm.h"

#define TILE       SPINDLE__CPU_TILE_KEYS
#define MAX_PANELS (SPINDLE__CPU_MAX_ROWS / MAX_ROWS + 3)

/* Rows that one register block takes together, and the columns that any of them sees. */
typedef struct panel {
  int32_t row, rows, line, lo, hi;
} panel;

static int32_t make_panels(const spindle__cpu_tile *t, int32_t most_rows, panel *panels) {
  int32_t count = 0;
  for (int32_t row = 0; row < t->rows;) {
    panel *p = &panels[count++];
    p->row = row;
    p->rows = gemm_rows(t->rows - row < most_rows ? t->rows - row : most_rows, &p->line);
    p->lo = TILE;
    p->hi = 0;
    row += p->rows;
    for (int32_t i = p->row / t->group; i <= (row - 1) / t->group; i++) {
      if (t->lo[i] >= t->hi[i]) continue;
      p->lo = t->lo[i] < p->lo ? t->lo[i] : p->lo;
      p->hi = t->hi[i] > p->hi ? t->hi[i] : p->hi;
    }
    if (p->lo >= p->hi) count--;
  }
  return count;
}

/* Blocks of keys outermost: one block stays in L1 while all rows pass. Vectors of columns that no row of a panel sees are left
 * out. */
static void scores(const spindle__cpu_tile *t, const panel *panels, int32_t num_panels) {
  for (int32_t first = 0; first < TILE; first += BLOCK) {
    const float *k = t->k + (int64_t)first * t->depth;
    for (int32_t n = 0; n < num_panels; n++) {
      const panel *p = &panels[n];
      int32_t lo = (p->lo > first ? p->lo - first : 0) / WIDTH * WIDTH;
      int32_t hi = p->hi < first + BLOCK ? p->hi - first : BLOCK;
      if (lo >= hi) continue;
      gemm_table[p->line][(hi - lo + WIDTH - 1) / WIDTH - 1](t->depth, t->q + (int64_t)p->row * t->depth, t->depth, k + lo,
                                                             t->s + (int64_t)p->row * TILE + first + lo, TILE, NULL);
    }
  }
}

/* c tanh(score / c); x is 2 log2(e) score / c. Beyond 40 tanh is 1 in float; NaN stays. */
ALWAYS_INLINE vf softcapped(vf x, float softcap) {
  x = blend(x > 40.0f, splat(40.0f), x);
  return softcap - 2.0f * softcap / (exp2_vec(x) + 1.0f);
}

ALWAYS_INLINE vf bias_at(const spindle__cpu_tile *t, const float *table, int32_t column) {
  if (!t->bias_column) return load(table + column);
  vf b;
  for (int32_t i = 0; i < WIDTH; i++) b[i] = table[t->bias_column[column + i]];
  return b;
}

/* Turns a row of scores into weights 2^(score - maximum) and returns their sum. Columns outside [lo, hi) were never computed, or
 * are masked: they become 0 whatever they hold. `rescale` becomes what the row's older sums are multiplied with. */
ALWAYS_INLINE float softmax_row(const spindle__cpu_tile *t, int32_t row, int32_t lo, int32_t hi, int32_t begin, int32_t end,
                                const int plain, float *maximum) {
  float *s = t->s + (int64_t)row * TILE;
  vf top = splat(-INFINITY), sum = {0};
  vi column = iota();
  const float *table = t->bias ? t->bias + (int64_t)(row % t->group) * t->bias_stride + t->bias_shift - row / t->group : NULL;
  for (int32_t x = begin; x < end; x += WIDTH) {
    vf y = load(s + x);
    if (!plain) {
      if (t->softcap != 0.0f) y = softcapped(y, t->softcap);
      if (table) y += bias_at(t, table, x);
      y = blend((column + x >= lo) & (column + x < hi), y, splat(-INFINITY));
      store(s + x, y);
    }
    top = vec_max(top, y);
  }
  float m = horizontal_max(top);
  m = m > *maximum ? m : *maximum;
  *maximum = m;
  if (m == -INFINITY) m = 0.0f; /* nothing seen yet: -inf - -inf would be NaN */
  for (int32_t x = begin; x < end; x += WIDTH) {
    vf y = exp2_vec(load(s + x) - m);
    sum += y;
    store(s + x, y);
  }
  return horizontal_sum(sum);
}

/* alpha[row] = 2^(old maximum - new): rows that see nothing of this tile keep theirs. */
static void softmax(const spindle__cpu_tile *t, const panel *p, float *alpha) {
  float old[8], new[8], sum[8] = {0};
  int32_t begin = p->lo / WIDTH * WIDTH, end = (p->hi + WIDTH - 1) / WIDTH * WIDTH;
  for (int32_t r = 0; r < p->rows; r++) {
    int32_t row = p->row + r, lo = t->lo[row / t->group], hi = t->hi[row / t->group];
    old[r] = new[r] = t->m[row];
    if (lo >= hi)
      memset(t->s + (int64_t)row * TILE + begin, 0, (size_t)(end - begin) * 4);
    else if (lo <= begin && hi >= end && !t->bias && t->softcap == 0.0f)
      sum[r] = softmax_row(t, row, lo, hi, begin, end, 1, &new[r]);
    else
      sum[r] = softmax_row(t, row, lo, hi, begin, end, 0, &new[r]);
  }
  for (int32_t r = 0; r < p->rows; r++) {
    vf a = exp2_vec(splat(new[r] == -INFINITY ? 0.0f : old[r] - new[r]));
    alpha[r] = a[0];
    t->m[p->row + r] = new[r];
    t->l[p->row + r] = t->l[p->row + r] * a[0] + sum[r];
  }
}

static void values(const spindle__cpu_tile *t, const panel *panels, int32_t num_panels, const float *alpha) {
  for (int32_t first = 0; first < t->values; first += BLOCK) {
    int32_t wide = t->values - first < BLOCK ? t->values - first : BLOCK;
    const float *v = t->v + (int64_t)first * TILE;
    for (int32_t n = 0; n < num_panels; n++) {
      const panel *p = &panels[n];
      gemm_table[p->line][(wide + WIDTH - 1) / WIDTH - 1](
          p->hi - p->lo, t->s + (int64_t)p->row * TILE + p->lo, TILE, v + (int64_t)p->lo * BLOCK,
          t->o + (int64_t)p->row * t->o_stride + first, t->o_stride, alpha + p->row);
    }
  }
}

static void attend(const spindle__cpu_tile *t) {
  panel panels[SPINDLE__CPU_MAX_ROWS];
  float alpha[SPINDLE__CPU_MAX_ROWS];
  int32_t num_panels = make_panels(t, MAX_ROWS, panels);
  if (!t->v_rows) scores(t, panels, num_panels);
  for (int32_t n = 0; n < num_panels; n++) softmax(t, &panels[n], alpha + panels[n].row);
  if (t->v_rows) {
    few_values(t, alpha);
    return;
  }
  if (!t->v_finite) num_panels = make_panels(t, 1, panels); /* 0 * NaN: each row multiplies its own columns only */
  values(t, panels, num_panels, alpha);
}

#endif
