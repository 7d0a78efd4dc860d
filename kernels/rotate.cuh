/* Rotation of rows by their positions, four pairs of channels at a time, in registers.
 *
 * (cos, sin) is canonical: exact at the position's multiple of 8, then at most 7 float rotations by the step (rope/phase.h). It
 * is a function of the position and the frequency alone, in one order of operations, written with fmaf so that no compiler
 * chooses another: a key has the same bits whoever rotates it. A thread that walks consecutive positions pays one exact phase
 * in 8.
 *
 * Cost of a row of four pairs: 16 FMA-pipe operations for the step, 16 for the rotation, an eighth of an exact phase (about 30
 * each). */
#ifndef SPINDLE_KERNELS_ROTATE_CUH
#define SPINDLE_KERNELS_ROTATE_CUH

#include "rope/phase.h"
#include "rows.cuh"
#include "state.h"
#include "tile.cuh"

namespace spindle {

/* Which channels turn: pair t is (offset + t, offset + t + pairs), or (offset + 2t, offset + 2t + 1) if interleaved. */
struct Rotary {
  int offset, pairs;
  bool interleaved;
  bool vectors; /* four pairs are two aligned vectors of four channels */
};

SPINDLE__DEVICE Rotary rotary_of(const spindle_shape &s) {
  return {s.rotary_offset, s.rotary_dim / 2, s.pair_layout == SPINDLE_PAIRS_INTERLEAVED,
          s.rotary_offset % 4 == 0 && s.rotary_dim % 8 == 0};
}

SPINDLE__DEVICE int rotary_groups(const Rotary &r) { return (r.pairs + 3) / 4; }

/* ---- Rows: get4/put4 take four channels from a multiple of four on, get/put any ---- */

/* Layout: where a tile has its elements (Tile, Panels). */
template <class T, class Layout>
struct SharedRow {
  uint32_t tile;
  int row;
  SPINDLE__DEVICE void get4(int channel, float (&x)[4]) const {
    unpack4<T>(prim::ld_shared<uint2>(tile + Layout::element(row, channel)), x);
  }
  SPINDLE__DEVICE void put4(int channel, const float (&x)[4]) const {
    prim::st_shared(tile + Layout::element(row, channel), pack4<T>(x));
  }
  SPINDLE__DEVICE float get(int channel) const {
    return prim::unpack<T>(prim::ld_shared<uint16_t>(tile + Layout::element(row, channel))).x;
  }
  SPINDLE__DEVICE void put(int channel, float x) const {
    prim::st_shared(tile + Layout::element(row, channel), (uint16_t)prim::pack<T>(x, 0.0f));
  }
};

/* ---- Positions to (cos, sin) ---- */

/* How a row turns: the rule's phases under one map. */
struct Rotation {
  const spindle__phase *phases; /* [pairs] */
  const uint64_t *offsets;      /* [pairs] or NULL */
  const float *rates;           /* [pairs] with decays */
  bool decays;                  /* xPos: channels grow by 2^(rate x distance) */
  float factor;                 /* on the rotated channels */
};

/* (cos, sin) of pairs W group .. W group + W - 1 at a position, and of a step. The steps themselves are read where a run begins:
 * there are few registers beside accumulators. */
template <int W>
struct Turns {
  float c[W], s[W];
  float cos_step[W], sin_step[W];
  int64_t at;
};
using Turn = Turns<4>;

/* Number k of a group's pairs. Whole: groups have all their pairs; then they are at one address and what an instruction adds. */
template <int W, bool Whole>
SPINDLE__DEVICE int pair_of(const Rotary &rotary, int group, int k) {
  return Whole ? W * group + k : min(W * group + k, rotary.pairs - 1);
}

template <int W = 4, bool Whole = false>
SPINDLE__DEVICE Turns<W> turn_of(const Rotation &rotation, const Rotary &rotary, int group) {
  Turns<W> t;
  t.at = INT64_MIN;
  SPINDLE__UNROLL
  for (int k = 0; k < W; ++k) {
    t.c[k] = t.s[k] = 0.0f; /* not used; undefined they would be in registers long before */
    const spindle__phase &phase = rotation.phases[pair_of<W, Whole>(rotary, group, k)];
    t.cos_step[k] = phase.cos_step;
    t.sin_step[k] = phase.sin_step;
  }
  return t;
}

/* To the next position, if it goes on. */
template <int W>
SPINDLE__DEVICE void step_turn(Turns<W> &t, bool goes) {
  t.at += goes;
  SPINDLE__UNROLL
  for (int k = 0; k < W; ++k) {
    const float c = fmaf(-t.s[k], t.sin_step[k], t.c[k] * t.cos_step[k]), s = fmaf(t.c[k], t.sin_step[k], t.s[k] * t.cos_step[k]);
    t.c[k] = goes ? c : t.c[k];
    t.s[k] = goes ? s : t.s[k];
  }
}

template <bool Whole = false, int W>
SPINDLE__DEVICE void turn_to(Turns<W> &t, int64_t position, const Rotation &rotation, const Rotary &rotary, int group) {
  if (position == t.at) return;
  if (position != t.at + 1 || position % SPINDLE__PHASE_RUN == 0) {
    t.at = position & ~(int64_t)(SPINDLE__PHASE_RUN - 1);
    SPINDLE__UNROLL
    for (int k = 0; k < W; ++k) {
      const int pair = pair_of<W, Whole>(rotary, group, k);
      const uint64_t offset = rotation.offsets ? rotation.offsets[pair] : 0;
      spindle__phase_cos_sin((uint64_t)t.at * rotation.phases[pair].step + offset, &t.c[k], &t.s[k]);
    }
  }
  SPINDLE__NO_UNROLL
  while (t.at < position) step_turn(t, true);
}

/* ---- Pairs of a row: (x, y) are a pair's two channels ---- */

template <class Row>
SPINDLE__DEVICE void load_pair(const Rotary &r, const Row &row, int t, float &x, float &y) {
  x = row.get(r.offset + (r.interleaved ? 2 * t : t));
  y = row.get(r.offset + (r.interleaved ? 2 * t + 1 : t + r.pairs));
}

template <class Row>
SPINDLE__DEVICE void store_pair(const Rotary &r, const Row &row, int t, float x, float y) {
  row.put(r.offset + (r.interleaved ? 2 * t : t), x);
  row.put(r.offset + (r.interleaved ? 2 * t + 1 : t + r.pairs), y);
}

/* Four of them, where they are vectors. */
template <class Row>
SPINDLE__DEVICE void load_vectors(const Rotary &r, const Row &row, int group, float (&x)[4], float (&y)[4]) {
  if (r.interleaved) {
    float a[4], b[4];
    row.get4(r.offset + 8 * group, a);
    row.get4(r.offset + 8 * group + 4, b);
    x[0] = a[0], y[0] = a[1], x[1] = a[2], y[1] = a[3], x[2] = b[0], y[2] = b[1], x[3] = b[2], y[3] = b[3];
  } else {
    row.get4(r.offset + 4 * group, x);
    row.get4(r.offset + r.pairs + 4 * group, y);
  }
}

template <class Row>
SPINDLE__DEVICE void store_vectors(const Rotary &r, const Row &row, int group, const float (&x)[4], const float (&y)[4]) {
  if (r.interleaved) {
    const float a[4] = {x[0], y[0], x[1], y[1]}, b[4] = {x[2], y[2], x[3], y[3]};
    row.put4(r.offset + 8 * group, a);
    row.put4(r.offset + 8 * group + 4, b);
  } else {
    row.put4(r.offset + 4 * group, x);
    row.put4(r.offset + r.pairs + 4 * group, y);
  }
}

/* Four of them. Pairs past the last are 0 when loaded and not stored. */
template <class Row>
SPINDLE__DEVICE void load_pairs(const Rotary &r, const Row &row, int group, float (&x)[4], float (&y)[4]) {
  if (r.vectors) return load_vectors(r, row, group, x, y);
  SPINDLE__UNROLL
  for (int k = 0; k < 4; ++k) {
    x[k] = y[k] = 0.0f;
    if (4 * group + k < r.pairs) load_pair(r, row, 4 * group + k, x[k], y[k]);
  }
}

template <class Row>
SPINDLE__DEVICE void store_pairs(const Rotary &r, const Row &row, int group, const float (&x)[4], const float (&y)[4]) {
  if (r.vectors) return store_vectors(r, row, group, x, y);
  SPINDLE__UNROLL
  for (int k = 0; k < 4; ++k)
    if (4 * group + k < r.pairs) store_pair(r, row, 4 * group + k, x[k], y[k]);
}

/* Turns x and y in place. distance: from the centre of decay (xPos). */
template <bool Whole = false, int W>
SPINDLE__DEVICE void rotate_pairs(const Turns<W> &t, const Rotation &rotation, const Rotary &rotary, int group, float distance,
                                  float (&x)[W], float (&y)[W]) {
  SPINDLE__UNROLL
  for (int k = 0; k < W; ++k) {
    float factor = rotation.factor;
    if (rotation.decays) factor *= prim::ex2_approx(rotation.rates[pair_of<W, Whole>(rotary, group, k)] * distance);
    const float c = t.c[k] * factor, s = t.s[k] * factor, a = x[k];
    x[k] = fmaf(-y[k], s, a * c);
    y[k] = fmaf(y[k], c, a * s);
  }
}

/* ---- A tile, in place ---- */

/* Run consecutive rows a thread, W pairs: four where they are vectors, else one. */
template <class T, class Layout, int Run, int W>
SPINDLE__DEVICE void rotate_run(uint32_t tile, int row, const Rotary &rotary, const Rotation &rotation, const int64_t *positions,
                                const float *distances, int group) {
  Turns<W> turn = turn_of<W, true>(rotation, rotary, group);
  /* Accumulators are in registers meanwhile, so it is not unrolled, and nothing says where it ends. */
  SPINDLE__NO_UNROLL
  for (bool more = true; more; more = ++row % Run != 0) {
    float x[W], y[W];
    const SharedRow<T, Layout> at = {tile, row};
    turn_to<true>(turn, positions[row], rotation, rotary, group); /* first: it takes the registers that x and y do */
    if constexpr (W == 4)
      load_vectors(rotary, at, group, x, y);
    else
      load_pair(rotary, at, group, x[0], y[0]);
    rotate_pairs<true>(turn, rotation, rotary, group, rotation.decays ? distances[row] : 0.0f, x, y);
    if constexpr (W == 4)
      store_vectors(rotary, at, group, x, y);
    else
      store_pair(rotary, at, group, x[0], y[0]);
  }
}

/* Whether positions go on by 0 or 1, without passing a multiple of PHASE_RUN: as those of keys do that begin at one, and those of
 * query rows that share theirs with the heads of a group. */
template <int Run>
SPINDLE__DEVICE bool goes_on(const int64_t *positions) {
  uint64_t steps = 0;
  SPINDLE__UNROLL
  for (int k = 1; k < Run; ++k) steps |= (uint64_t)(positions[k] - positions[k - 1]);
  return steps <= 1 && (positions[0] ^ positions[Run - 1]) < SPINDLE__PHASE_RUN;
}

/* The same for these, to the same bits, without a branch and with four rows under way: a warp that is on its own takes 330 clk a
 * row otherwise, of which 66 are its instructions. */
template <class T, class Layout, int Run, bool Interleaved>
SPINDLE__DEVICE void rotate_steady_run(uint32_t tile, int row, Rotary rotary, const Rotation &rotation, const int64_t *positions,
                                       int group) {
  constexpr int BATCH = 4;
  Turns<4> turn = turn_of<4, true>(rotation, rotary, group);
  turn_to<true>(turn, positions[row], rotation, rotary, group);
  rotary.interleaved = Interleaved;
  SPINDLE__NO_UNROLL
  for (int end = row + Run; row < end; row += BATCH) {
    float x[BATCH][4], y[BATCH][4];
    SPINDLE__UNROLL
    for (int k = 0; k < BATCH; ++k) load_vectors(rotary, SharedRow<T, Layout>{tile, row + k}, group, x[k], y[k]);
    SPINDLE__UNROLL
    for (int k = 0; k < BATCH; ++k) {
      const bool goes = (int32_t)turn.at != (int32_t)positions[row + k];
      step_turn(turn, goes);
      rotate_pairs<true>(turn, rotation, rotary, group, 0.0f, x[k], y[k]);
    }
    SPINDLE__UNROLL
    for (int k = 0; k < BATCH; ++k) store_vectors(rotary, SharedRow<T, Layout>{tile, row + k}, group, x[k], y[k]);
  }
}

/* W pairs at a time. */
template <class T, class Layout, int Run, int W, bool Steady>
SPINDLE__DEVICE void rotate_runs(uint32_t tile, int rows, const Rotary &rotary, const Rotation &rotation,
                                 const int64_t *positions, const float *distances, int thread, int threads) {
  const int groups = (rotary.pairs + W - 1) / W, runs = (rows + Run - 1) / Run;
  SPINDLE__NO_UNROLL
  for (int unit = thread; unit < groups * runs; unit += threads) {
    const int group = unit % groups, row = unit / groups * Run;
    if (!Steady || rotation.decays || !goes_on<Run>(positions + row))
      rotate_run<T, Layout, Run, W>(tile, row, rotary, rotation, positions, distances, group);
    else if (rotary.interleaved)
      rotate_steady_run<T, Layout, Run, true>(tile, row, rotary, rotation, positions, group);
    else
      rotate_steady_run<T, Layout, Run, false>(tile, row, rotary, rotation, positions, group);
  }
}

/* Rows [0, rows) of a tile in shared memory, and the others of the last run; positions and distances (of decay) are in shared
 * memory too. 8-byte accesses of 16 lanes cover a row's 128 bytes, free of bank conflicts. Steady: with code for steady runs,
 * which takes 32 registers more. The caller puts a sync_block (or sync_warp, if the threads are a warp's) before and after. */
template <class T, class Layout, int Run, bool Steady>
SPINDLE__DEVICE void rotate_tile(uint32_t tile, int rows, const Rotary &rotary, const Rotation &rotation,
                                 const int64_t *positions, const float *distances, int thread = prim::thread_index(),
                                 int threads = prim::block_threads()) {
  if (rotary.vectors)
    rotate_runs<T, Layout, Run, 4, Steady>(tile, rows, rotary, rotation, positions, distances, thread, threads);
  else
    rotate_runs<T, Layout, Run, 1, false>(tile, rows, rotary, rotation, positions, distances, thread, threads);
}

}  // namespace spindle

#endif
