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

#define ROWS_AHEAD 8 /* about the latency of memory: 4 KB of float rows of 128 */

/* Rows are read in halves and by blocks of channels, which hardware does not see to be one stream: fetch whole rows, in order. */
ALWAYS_INLINE void fetch_ahead(const spindle__cpu_rows *rows, int32_t r) {
  if (r + ROWS_AHEAD >= rows->count) return;
  const char *p = rows->data + rows->offset[r + ROWS_AHEAD] * size_of(rows->dtype);
  for (int32_t x = 0; x < rows->dim * size_of(rows->dtype); x += 64) __builtin_prefetch(p + x);
}

/* Floats of WIDTH staged rows. Padding stays 0: it is multiplied. */
typedef struct staged_rows {
  float row[WIDTH * SPINDLE__CPU_MAX_STAGED] __attribute__((aligned(64)));
} staged_rows;

/* Keys [g, g + WIDTH) of the tile, turned; rows past its end are 0. */
ALWAYS_INLINE void stage_keys(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, int32_t g, const float *c,
                              const float *s, float *staged, const int32_t dtype) {
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

ALWAYS_INLINE void pack_keys_as(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                                float *packed, const int32_t dtype) {
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

static void pack_keys(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                      float *packed){WITH_DTYPE(keys->dtype, pack_keys_as, ch, keys, c, s, packed)}

/* ---- Values ---- */

ALWAYS_INLINE vi not_finite(vf v) {
  return ((vi)v & 0x7f800000) == 0x7f800000;
}

ALWAYS_INLINE void pack_values_as(const spindle__cpu_rows *values, float *packed, int32_t *finite, const int32_t dtype) {
  vi bad = {0};
  int32_t size = size_of(dtype), dim = values->dim;
  for (int32_t r = 0; r < values->count; r++) {
    const char *in = values->data + values->offset[r] * size;
    float *out = packed + r * BLOCK;
    int32_t x = 0;
    fetch_ahead(values, r);
    for (; x + BLOCK <= dim; x += BLOCK, out += SPINDLE__CPU_TILE_KEYS * BLOCK) {
#pragma GCC unroll 4
      for (int32_t j = 0; j < BLOCK; j += WIDTH) {
        vf v = load_as(in + (x + j) * size, dtype);
        bad |= not_finite(v);
        store(out + j, v);
      }
    }
    for (int32_t j = 0; x + j < dim; j += WIDTH) {
      vf v = x + j + WIDTH <= dim ? load_as(in + (x + j) * size, dtype) : load_some(in + (x + j) * size, dtype, dim - x - j);
      bad |= not_finite(v);
      store(out + j, v);
    }
  }
  int32_t any = 0;
  for (int32_t i = 0; i < WIDTH; i++) any |= bad[i];
  *finite = !any;
}

static int32_t pack_values(const spindle__cpu_rows *values, float *packed) {
  int32_t finite;
  WITH_DTYPE(values->dtype, pack_values_as, values, packed, &finite)
  return finite;
}

/* ---- Queries ---- */

static void pack_query(const spindle__cpu_channels *ch, const float *restrict staged, float rotated_scale, float scale,
                       float *restrict packed) {
  int32_t pairs = ch->pairs;
  const float *second = staged + ch->pairs_padded, *rest = second + ch->pairs_padded;
  for (int32_t t = 0; t < pairs; t++) packed[t] = staged[t] * rotated_scale;
  for (int32_t t = 0; t < pairs; t++) packed[pairs + t] = second[t] * rotated_scale;
  for (int32_t x = 0; x < ch->depth - 2 * pairs; x++) packed[2 * pairs + x] = rest[x] * scale;
}

#endif
