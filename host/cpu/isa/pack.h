/* Rows of storage into the layouts that the products stream. */
#ifndef SPINDLE_HOST_CPU_ISA_PACK_H
#define SPINDLE_HOST_CPU_ISA_PACK_H

#include "rope.h"

#if WIDTH == 16
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif WIDTH == 8
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

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

static void pack_keys(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s, float *packed) {
  float staged[WIDTH * (SPINDLE__MAX_HEAD_DIM + 3 * SPINDLE__CPU_PAD)] __attribute__((aligned(64)));
  int32_t pairs = ch->pairs, padded = ch->pairs_padded, size = size_of(keys->dtype);
  for (int32_t g = 0; g < keys->count; g += WIDTH) {
    for (int32_t r = 0; r < WIDTH; r++) {
      float *row = staged + r * ch->staged;
      if (g + r >= keys->count) {
        memset(row, 0, (size_t)ch->staged * 4);
        continue;
      }
      stage(ch, keys->data + keys->offset[g + r] * size, keys->dtype, row);
      if (c) rotate(ch, row, c + (int64_t)(g + r) * padded, s + (int64_t)(g + r) * padded);
    }
    float *out = packed + (int64_t)(g / BLOCK) * ch->depth * BLOCK + g % BLOCK;
    transpose(staged, ch->staged, pairs, out);
    transpose(staged + padded, ch->staged, pairs, out + (int64_t)pairs * BLOCK);
    transpose(staged + 2 * padded, ch->staged, ch->depth - 2 * pairs, out + (int64_t)2 * pairs * BLOCK);
  }
}

static int32_t pack_values(const spindle__cpu_rows *values, int32_t dim, float *packed) {
  float converted[SPINDLE__MAX_HEAD_DIM + WIDTH] __attribute__((aligned(64)));
  vi not_finite = {0};
  int32_t size = size_of(values->dtype);
  for (int32_t r = 0; r < values->count; r++) {
    const char *in = values->data + values->offset[r] * size;
    const float *row = (const float *)(const void *)in;
    if (values->dtype != SPINDLE_F32 || dim % WIDTH) {
      to_float(converted, in, values->dtype, dim);
      for (int32_t x = dim; x % WIDTH; x++) converted[x] = 0.0f;
      row = converted;
    }
    for (int32_t x = 0; x < dim; x += WIDTH) {
      vf v = load(row + x);
      not_finite |= ((vi)v & 0x7f800000) == 0x7f800000;
      store(packed + ((int64_t)(x / BLOCK) * SPINDLE__CPU_TILE_KEYS + r) * BLOCK + x % BLOCK, v);
    }
  }
  int32_t any = 0;
  for (int32_t i = 0; i < WIDTH; i++) any |= not_finite[i];
  return !any;
}

static void pack_query(const spindle__cpu_channels *ch, const float *restrict staged, float rotated_scale, float scale, float *restrict packed) {
  int32_t pairs = ch->pairs;
  const float *second = staged + ch->pairs_padded, *rest = second + ch->pairs_padded;
  for (int32_t t = 0; t < pairs; t++) packed[t] = staged[t] * rotated_scale;
  for (int32_t t = 0; t < pairs; t++) packed[pairs + t] = second[t] * rotated_scale;
  for (int32_t x = 0; x < ch->depth - 2 * pairs; x++) packed[2 * pairs + x] = rest[x] * scale;
}

#endif
