/* Rows of storage into the layouts that the products stream. */
#ifndef SPINDLE_HOST_CPU_ISA_PACK_H
#define SPINDLE_HOST_CPU_ISA_PACK_H

#include "rope.h"

/* One of the log2(WIDTH) perfect shuffles that make a transpose. */
ALWAYS_INLINE void shuffle_rows(const vf *x, vf *y) {
#pragma GCC unroll 8
  for (int i = 0; i < WIDTH / 2; i++) {
    y[2 * i] = ZIP_LOW(x[i], x[i + WIDTH / 2]);
    y[2 * i + 1] = ZIP_HIGH(x[i], x[i + WIDTH / 2]);
  }
}

/* Columns [0, count) of WIDTH rows at `in` become rows of BLOCK floats at `out`. */
static void transpose(const float *in, int32_t in_stride, int32_t count, float *out) {
  for (int32_t x = 0; x < count; x += WIDTH) {
    vf a[WIDTH], b[WIDTH];
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++) a[i] = load(in + (int64_t)i * in_stride + x);
    shuffle_rows(a, b);
    shuffle_rows(b, a);
#if WIDTH >= 8
    shuffle_rows(a, b);
#endif
#if WIDTH == 16
    shuffle_rows(b, a);
#endif
    const vf *t = WIDTH == 8 ? b : a;
    int32_t rows = count - x < WIDTH ? count - x : WIDTH;
    if (rows == WIDTH) {
#pragma GCC unroll 16
      for (int i = 0; i < WIDTH; i++) store(out + (int64_t)(x + i) * BLOCK, t[i]);
    } else {
      for (int i = 0; i < rows; i++) store(out + (int64_t)(x + i) * BLOCK, t[i]);
    }
  }
}

/* Fetches into L2 what will be read after this call: row r of what comes next while row r of this is at work. */
ALWAYS_INLINE void fetch_ahead(const spindle__cpu_rows *rows, int32_t r) {
  if (r >= rows->ahead_count) return;
  const char *p = rows->ahead + rows->ahead_offset[r] * size_of(rows->dtype);
  for (int32_t x = 0; x < rows->ahead_bytes; x += 64) __builtin_prefetch(p + x, 0, 2);
}

/* Floats of WIDTH staged rows. Padding stays 0: it is multiplied. */
typedef struct staged_rows {
  float row[WIDTH * SPINDLE__CPU_MAX_STAGED] __attribute__((aligned(64)));
} staged_rows;

/* Keys [g, g + WIDTH) of the tile, turned; rows past its end are 0. */
ALWAYS_INLINE void stage_keys(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, int32_t g, const float *c, const float *s,
                              float *staged, const int32_t dtype) {
  int32_t padded = ch->pairs_padded, size = size_of(dtype);
  for (int32_t r = 0; r < WIDTH; r++) {
    float *row = staged + r * ch->staged;
    if (g + r >= keys->count) {
      memset(row, 0, (size_t)ch->staged * 4);
      continue;
    }
    int64_t at = (int64_t)(g + r) * padded;
    fetch_ahead(keys, g + r);
    stage_as(ch, keys->data + keys->offset[g + r] * size, c ? c + at : NULL, s + at, row, dtype);
  }
}

ALWAYS_INLINE void pack_keys_as(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s, float *packed,
                                const int32_t dtype) {
  staged_rows staged;
  int32_t pairs = ch->pairs, padded = ch->pairs_padded;
  memset(staged.row, 0, (size_t)(WIDTH * ch->staged) * 4);
  for (int32_t g = 0; g < keys->count; g += WIDTH) {
    float *out = packed + (int64_t)(g / BLOCK) * ch->depth * BLOCK + g % BLOCK;
    stage_keys(ch, keys, g, c, s, staged.row, dtype);
    transpose(staged.row, ch->staged, pairs, out);
    transpose(staged.row + padded, ch->staged, pairs, out + (int64_t)pairs * BLOCK);
    transpose(staged.row + 2 * padded, ch->staged, ch->depth - 2 * pairs, out + (int64_t)2 * pairs * BLOCK);
  }
}

static void pack_keys(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s, float *packed) {
  WITH_DTYPE(keys->dtype, pack_keys_as, ch, keys, c, s, packed)
}

/* ---- Few query rows: products with staged keys, nothing is transposed ---- */

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

ALWAYS_INLINE void score_keys_as(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s, const float *q,
                                 int32_t rows, float *scores, const int32_t dtype) {
  staged_rows staged;
  memset(staged.row, 0, (size_t)(WIDTH * ch->staged) * 4);
  for (int32_t g = 0; g < keys->count; g += WIDTH) {
    stage_keys(ch, keys, g, c, s, staged.row, dtype);
    for (int32_t r = 0; r < rows; r++)
      store(scores + r * SPINDLE__CPU_TILE_KEYS + g, dot_keys(q + (int64_t)r * ch->staged, staged.row, ch->staged, ch->staged));
  }
}

static void score_keys(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s, const float *q,
                       int32_t rows, float *scores) {
  WITH_DTYPE(keys->dtype, score_keys_as, ch, keys, c, s, q, rows, scores)
}

/* ---- Values ---- */

ALWAYS_INLINE void pack_values_as(const spindle__cpu_rows *values, int32_t dim, float *packed, int32_t *finite, const int32_t dtype) {
  vi not_finite = {0};
  int32_t size = size_of(dtype);
  for (int32_t r = 0; r < values->count; r++) {
    const char *in = values->data + values->offset[r] * size;
    fetch_ahead(values, r);
    for (int32_t x = 0; x < dim; x += WIDTH) {
      vf v = x + WIDTH <= dim ? load_as(in + x * size, dtype) : load_some(in + x * size, dtype, dim - x);
      not_finite |= ((vi)v & 0x7f800000) == 0x7f800000;
      store(packed + ((int64_t)(x / BLOCK) * SPINDLE__CPU_TILE_KEYS + r) * BLOCK + x % BLOCK, v);
    }
  }
  int32_t any = 0;
  for (int32_t i = 0; i < WIDTH; i++) any |= not_finite[i];
  *finite = !any;
}

static int32_t pack_values(const spindle__cpu_rows *values, int32_t dim, float *packed) {
  int32_t finite;
  WITH_DTYPE(values->dtype, pack_values_as, values, dim, packed, &finite)
  return finite;
}

/* ---- Queries ---- */

static void pack_query(const spindle__cpu_channels *ch, const float *restrict staged, float rotated_scale, float scale, float *restrict packed) {
  int32_t pairs = ch->pairs;
  const float *second = staged + ch->pairs_padded, *rest = second + ch->pairs_padded;
  for (int32_t t = 0; t < pairs; t++) packed[t] = staged[t] * rotated_scale;
  for (int32_t t = 0; t < pairs; t++) packed[pairs + t] = second[t] * rotated_scale;
  for (int32_t x = 0; x < ch->depth - 2 * pairs; x++) packed[2 * pairs + x] = rest[x] * scale;
}

#endif
