/* Canonical cos and sin for rows of positions, rotation of staged rows, and xPos' decay. Everything runs over whole vectors of
 * pairs, so a pair's bits do not depend on where it stands. */
#ifndef SPINDLE_HOST_CPU_ISA_ROPE_H
#define SPINDLE_HOST_CPU_ISA_ROPE_H

#include "../../../kernels/rope/phase.h"
#include "convert.h"

static void exact_cos_sin(int64_t m, const uint64_t *step, const uint64_t *offset, int32_t pairs, float *restrict c,
                          float *restrict s) {
  if (offset)
    for (int32_t t = 0; t < pairs; t++) spindle__phase_cos_sin((uint64_t)m * step[t] + offset[t], &c[t], &s[t]);
  else
    for (int32_t t = 0; t < pairs; t++) spindle__phase_cos_sin((uint64_t)m * step[t], &c[t], &s[t]);
}

/* `from` turned by the steps, `times` times. */
static void turn(const float *from_c, const float *from_s, const float *step_c, const float *step_s, int32_t times, int32_t pairs,
                 float *c, float *s) {
  for (int32_t t = 0; t < pairs; t += WIDTH) {
    vf x = load(from_c + t), y = load(from_s + t), a = load(step_c + t), b = load(step_s + t);
    for (int32_t k = 0; k < times; k++) {
      vf next = x * a - y * b;
      y = y * a + x * b;
      x = next;
    }
    store(c + t, x);
    store(s + t, y);
  }
}

/* 1 if row r's value follows from row r - 1's by `*times` canonical steps. */
ALWAYS_INLINE int continues_run(const int64_t *m, int32_t r, int32_t *times) {
  if (r == 0 || m[r] < m[r - 1] || (uint64_t)(m[r] ^ m[r - 1]) >= SPINDLE__PHASE_RUN) return 0;
  *times = (int32_t)(m[r] - m[r - 1]);
  return 1;
}

static void cos_sin(const int64_t *m, int32_t rows, const uint64_t *step, const uint64_t *offset, int32_t pairs, float *c,
                    float *s) {
  float step_c[SPINDLE__MAX_PAIRS], step_s[SPINDLE__MAX_PAIRS];
  for (int32_t t = 0; t < pairs; t++) spindle__step_cos_sin(step[t], &step_c[t], &step_s[t]);
  for (int32_t r = 0; r < rows; r++) {
    float *to_c = c + (int64_t)r * pairs, *to_s = s + (int64_t)r * pairs;
    int32_t times;
    if (continues_run(m, r, &times)) {
      turn(to_c - pairs, to_s - pairs, step_c, step_s, times, pairs, to_c, to_s);
    } else {
      exact_cos_sin(m[r] & ~(int64_t)(SPINDLE__PHASE_RUN - 1), step, offset, pairs, to_c, to_s);
      turn(to_c, to_s, step_c, step_s, (int32_t)(m[r] & (SPINDLE__PHASE_RUN - 1)), pairs, to_c, to_s);
    }
  }
}

/* 2^(rate x), held within the normal floats: what underflows is not seen in any sum. */
static void exact_decay(int64_t x, const double *restrict rate, int32_t pairs, float *restrict f) {
  for (int32_t t = 0; t < pairs; t++) {
    double v = rate[t] * (double)x;
    v = v < -126.0 ? -126.0 : v > 127.0 ? 127.0 : v;
    double whole = (v + 6755399441055744.0) - 6755399441055744.0; /* 1.5 * 2^52: to the nearest integer */
    float y = (float)(v - whole);
    float p = 1.53453e-4f;
    p = p * y + 1.33999312e-3f;
    p = p * y + 9.61848896e-3f;
    p = p * y + 5.55032878e-2f;
    p = p * y + 2.40226469e-1f;
    p = p * y + 6.93147206e-1f;
    p = p * y + 1.0f;
    f[t] = p * float_of((uint32_t)((int32_t)whole + 127) << 23);
  }
}

static void decay(const int64_t *x, int32_t rows, const double *rate, int32_t pairs, float *c, float *s) {
  float f[SPINDLE__MAX_PAIRS], g[SPINDLE__MAX_PAIRS];
  exact_decay(1, rate, pairs, g);
  for (int32_t r = 0; r < rows; r++) {
    float *row_c = c + (int64_t)r * pairs, *row_s = s + (int64_t)r * pairs;
    int32_t times;
    if (!continues_run(x, r, &times)) {
      exact_decay(x[r] & ~(int64_t)(SPINDLE__PHASE_RUN - 1), rate, pairs, f);
      times = (int32_t)(x[r] & (SPINDLE__PHASE_RUN - 1));
    }
    for (int32_t t = 0; t < pairs; t += WIDTH) {
      vf factor = load(f + t);
      for (int32_t k = 0; k < times; k++) factor *= load(g + t);
      store(f + t, factor);
      store(row_c + t, load(row_c + t) * factor);
      store(row_s + t, load(row_s + t) * factor);
    }
  }
}

/* A vector of pairs from pair t on: first members x, second members y, turned if there are cos and sin. `count` of them are
 * there, the others are 0. first: of the first rotated channel. */
ALWAYS_INLINE void load_pairs(const spindle__cpu_channels *ch, const char *first, const int interleaved, int32_t t,
                              const int count, const float *c, const float *s, const int32_t dtype, vf *x, vf *y) {
  int32_t size = size_of(dtype);
  const int all = count == WIDTH;
  if (interleaved) {
    const char *in = first + 2 * t * size;
    int32_t high = 2 * count - WIDTH; /* channels in the second vector */
    vf a = high >= 0 ? load_as(in, dtype) : load_some(in, dtype, 2 * count);
    vf b = all ? load_as(in + WIDTH * size, dtype) : high > 0 ? load_some(in + WIDTH * size, dtype, high) : splat(0.0f);
    *x = EVEN(a, b);
    *y = ODD(a, b);
  } else {
    const char *in = first + t * size, *second = in + ch->pairs * size;
    *x = all ? load_as(in, dtype) : load_some(in, dtype, count);
    *y = all ? load_as(second, dtype) : load_some(second, dtype, count);
  }
  if (c) {
    vf a = load(c + t), b = load(s + t), turned = *x * a - *y * b;
    *y = *y * a + *x * b;
    *x = turned;
  }
}

/* Runs `body` with x and y for the pairs from every t on. */
#define FOR_EACH_PAIRS(interleaved, body)                                      \
  for (t = 0; t + WIDTH <= ch->pairs; t += WIDTH) {                            \
    load_pairs(ch, first, interleaved, t, WIDTH, c, s, dtype, &x, &y);         \
    body                                                                       \
  }                                                                            \
  if (t < ch->pairs) {                                                         \
    load_pairs(ch, first, interleaved, t, ch->pairs - t, c, s, dtype, &x, &y); \
    body                                                                       \
  }

ALWAYS_INLINE void stage_pairs(const spindle__cpu_channels *ch, const char *first, const int interleaved, const float *c,
                               const float *s, float *staged, const int32_t dtype) {
  vf x, y;
  int32_t t;
  FOR_EACH_PAIRS(interleaved, {
    store(staged + t, x);
    store(staged + ch->pairs_padded + t, y);
  })
}

ALWAYS_INLINE void stage_as(const spindle__cpu_channels *ch, const char *row, const float *c, const float *s, float *staged,
                            const int32_t dtype) {
  int32_t size = size_of(dtype), after = ch->offset + 2 * ch->pairs;
  float *rest = staged + 2 * ch->pairs_padded;
  if (ch->interleaved)
    stage_pairs(ch, row + ch->offset * size, 1, c, s, staged, dtype);
  else
    stage_pairs(ch, row + ch->offset * size, 0, c, s, staged, dtype);
  to_float_as(rest, row, dtype, ch->offset);
  to_float_as(rest + ch->offset, row + after * size, dtype, ch->depth - after);
}

static void stage(const spindle__cpu_channels *ch, const void *row, int32_t dtype, const float *c, const float *s,
                  float *staged) {
  WITH_DTYPE(dtype, stage_as, ch, row, c, s, staged)
}

static void unstage(const spindle__cpu_channels *ch, const float *restrict staged, void *row, int32_t dtype) {
  char *out = row;
  int32_t size = size_of(dtype), pairs = ch->pairs, after = ch->offset + 2 * pairs;
  const float *second = staged + ch->pairs_padded, *rest = second + ch->pairs_padded;
  if (ch->interleaved) {
    float both[SPINDLE__MAX_HEAD_DIM];
    for (int32_t t = 0; t < pairs; t++) {
      both[2 * t] = staged[t];
      both[2 * t + 1] = second[t];
    }
    from_float(out + ch->offset * size, both, dtype, 2 * pairs);
  } else {
    from_float(out + ch->offset * size, staged, dtype, pairs);
    from_float(out + (ch->offset + pairs) * size, second, dtype, pairs);
  }
  from_float(out, rest, dtype, ch->offset);
  from_float(out + after * size, rest + ch->offset, dtype, ch->depth - after);
}

#endif
