/* Few query rows, as in decode: memory is the limit, so keys are neither transposed nor packed, and values are multiplied where
 * they lie. */
#ifndef SPINDLE_HOST_CPU_ISA_FEW_H
#define SPINDLE_HOST_CPU_ISA_FEW_H

#include "pack.h"

/* Lane r becomes the sum of x[r]'s lanes. */
ALWAYS_INLINE vf sum_each(vf *x) {
#pragma GCC unroll 4
  for (int count = WIDTH / 2; count; count /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) x[i] = ZIP_LOW(x[i], x[i + count]) + ZIP_HIGH(x[i], x[i + count]);
  return x[0];
}

/* One query row against WIDTH staged keys. Four keys at a time: their loads share the query's. */
ALWAYS_INLINE vf dot_keys(const float *q, const float *staged, int32_t stride, int32_t depth) {
  vf sum[WIDTH];
#pragma GCC unroll 4
  for (int r = 0; r < WIDTH; r += 4) {
    const float *k = staged + r * stride;
    vf a = {0}, b = {0}, c = {0}, d = {0};
    for (int32_t x = 0; x < depth; x += WIDTH) {
      vf y = load(q + x);
      a += y * load(k + x);
      b += y * load(k + stride + x);
      c += y * load(k + 2 * stride + x);
      d += y * load(k + 3 * stride + x);
    }
    sum[r] = a;
    sum[r + 1] = b;
    sum[r + 2] = c;
    sum[r + 3] = d;
  }
  return sum_each(sum);
}

/* The same against keys as they are turned, without a stop in memory: pays for one or two rows. */
ALWAYS_INLINE void dot_pairs(const spindle__cpu_channels *ch, const char *first, const int interleaved, const float *c,
                             const float *s, const float *q, const int rows, vf *sum, const int32_t dtype) {
  vf x, y;
  int32_t t;
  FOR_EACH_PAIRS(interleaved, {
    for (int r = 0; r < rows; r++) {
      const float *at = q + r * ch->staged + t;
      sum[r] += x * load(at);
      sum[r] += y * load(at + ch->pairs_padded);
    }
  })
}

ALWAYS_INLINE void dot_run(const char *in, int32_t count, const float *q, int32_t stride, const int rows, vf *sum,
                           const int32_t dtype) {
  int32_t size = size_of(dtype);
  for (int32_t x = 0; x < count; x += WIDTH) {
    vf k = x + WIDTH <= count ? load_as(in + x * size, dtype) : load_some(in + x * size, dtype, count - x);
    for (int r = 0; r < rows; r++) sum[r] += k * load(q + r * stride + x);
  }
}

ALWAYS_INLINE void dot_key(const spindle__cpu_channels *ch, const char *row, const float *c, const float *s, const float *q,
                           const int rows, vf *sum, const int32_t dtype) {
  int32_t size = size_of(dtype), after = ch->offset + 2 * ch->pairs;
  const float *rest = q + 2 * ch->pairs_padded;
  for (int r = 0; r < rows; r++) sum[r] = splat(0.0f);
  if (ch->interleaved)
    dot_pairs(ch, row + ch->offset * size, 1, c, s, q, rows, sum, dtype);
  else
    dot_pairs(ch, row + ch->offset * size, 0, c, s, q, rows, sum, dtype);
  dot_run(row, ch->offset, rest, ch->staged, rows, sum, dtype);
  dot_run(row + after * size, ch->depth - after, rest + ch->offset, ch->staged, rows, sum, dtype);
}

ALWAYS_INLINE void score_directly(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                                  const float *q, const int rows, float *scores, const int32_t dtype) {
  vf sums[2][WIDTH] = {{{0}}};
  for (int32_t g = 0; g < keys->count; g += WIDTH) {
    for (int32_t k = 0; k < WIDTH && g + k < keys->count; k++) {
      int64_t at = (int64_t)(g + k) * ch->pairs_padded;
      vf sum[2];
      fetch_ahead(keys, g + k);
      dot_key(ch, keys->data + keys->offset[g + k] * size_of(dtype), c ? c + at : NULL, s + at, q, rows, sum, dtype);
      for (int r = 0; r < rows; r++) sums[r][k] = sum[r];
    }
    for (int r = 0; r < rows; r++) store(scores + r * SPINDLE__CPU_TILE_KEYS + g, sum_each(sums[r]));
  }
}

ALWAYS_INLINE void score_staged(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                                const float *q, int32_t rows, float *scores, const int32_t dtype) {
  staged_rows staged;
  memset(staged.row, 0, (size_t)(WIDTH * ch->staged) * 4);
  for (int32_t g = 0; g < keys->count; g += WIDTH) {
    stage_keys(ch, keys, g, c, s, staged.row, dtype);
    for (int32_t r = 0; r < rows; r++)
      store(scores + r * SPINDLE__CPU_TILE_KEYS + g, dot_keys(q + (int64_t)r * ch->staged, staged.row, ch->staged, ch->staged));
  }
}

ALWAYS_INLINE void score_keys_as(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                                 const float *q, int32_t rows, float *scores, const int32_t dtype) {
  if (rows == 1)
    score_directly(ch, keys, c, s, q, 1, scores, dtype);
  else if (rows == 2)
    score_directly(ch, keys, c, s, q, 2, scores, dtype);
  else
    score_staged(ch, keys, c, s, q, rows, scores, dtype);
}

static void score_keys(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                       const float *q, int32_t rows,
                       float *scores){WITH_DTYPE(keys->dtype, score_keys_as, ch, keys, c, s, q, rows, scores)}

/* ---- Values ---- */

/* o = alpha o + s v over columns [lo, hi), for `rows` rows of s and o and `vectors` vectors of channels; the last channel vector
 * is cut to `count` channels where that is less than a vector. */
ALWAYS_INLINE void value_block(const int rows, const int vectors, const int count, const spindle__cpu_rows *v, int32_t channel,
                               const float *s, int32_t lo, int32_t hi, float *o, int32_t o_stride, const float *alpha,
                               const int fetch, const int32_t dtype) {
  vf acc[4][MAX_VECTORS];
  int32_t size = size_of(dtype);
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) acc[r][j] = load(o + r * o_stride + j * WIDTH) * alpha[r];
  for (int32_t k = lo; k < hi; k++) {
    const char *in = v->data + (v->offset[k] + channel) * size;
    if (fetch) fetch_ahead(v, k);
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
      vf y = count == WIDTH ? load_as(in + j * WIDTH * size, dtype) : load_some(in + j * WIDTH * size, dtype, count);
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) acc[r][j] += s[r * SPINDLE__CPU_TILE_KEYS + k] * y;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) store(o + r * o_stride + j * WIDTH, acc[r][j]);
}

ALWAYS_INLINE void value_rows(const int rows, const spindle__cpu_tile *t, int32_t row, int32_t lo, int32_t hi, const float *alpha,
                              const int32_t dtype) {
  const float *s = t->s + row * SPINDLE__CPU_TILE_KEYS;
  float *o = t->o + row * t->o_stride;
  int32_t x = 0, stride = t->o_stride;
  alpha += row;
  for (; x + BLOCK <= t->values; x += BLOCK) {
    if (x == 0 && row == 0)
      value_block(rows, MAX_VECTORS, WIDTH, t->v_rows, x, s, lo, hi, o + x, stride, alpha, 1, dtype);
    else
      value_block(rows, MAX_VECTORS, WIDTH, t->v_rows, x, s, lo, hi, o + x, stride, alpha, 0, dtype);
  }
  for (; x + WIDTH <= t->values; x += WIDTH) value_block(rows, 1, WIDTH, t->v_rows, x, s, lo, hi, o + x, stride, alpha, 0, dtype);
  if (x < t->values) value_block(rows, 1, t->values - x, t->v_rows, x, s, lo, hi, o + x, stride, alpha, 0, dtype);
}

/* Rows go together only if they see the same columns: what a row does not see is not even multiplied by 0, as it may be NaN. */
ALWAYS_INLINE void few_values_as(const spindle__cpu_tile *t, const float *alpha, const int32_t dtype) {
  for (int32_t row = 0, same; row < t->rows; row += same) {
    int32_t lo = t->lo[row / t->group], hi = t->hi[row / t->group];
    for (same = 1; same < 4 && row + same < t->rows; same++)
      if (t->lo[(row + same) / t->group] != lo || t->hi[(row + same) / t->group] != hi) break;
    if (same == 3) same = 2;
    if (lo >= hi) continue;
    if (same == 4)
      value_rows(4, t, row, lo, hi, alpha, dtype);
    else if (same == 2)
      value_rows(2, t, row, lo, hi, alpha, dtype);
    else
      value_rows(1, t, row, lo, hi, alpha, dtype);
  }
}

static void few_values(const spindle__cpu_tile *t, const float *alpha) { WITH_DTYPE(t->v_rows->dtype, few_values_as, t, alpha) }

#endif
