/* Tiles, shared memory and barriers of the Hopper kernel (prefill_sm90.cuh says how they are used). */
#ifndef SPINDLE_KERNELS_SM90_TILE_CUH
#define SPINDLE_KERNELS_SM90_TILE_CUH

#include "keys.cuh"
#include "panels.cuh"
#include "sm90.cuh"
#include "work.cuh"

namespace spindle {

/* Of each pair of head dims, of Q and K and of V; others are padded to the next. 128 keys and three stages of K fill shared
 * memory at 128/128: with two, a tile to be rotated could not land while another is. 192/128 (MLA): beside Q's 48 KB two stages
 * each of 128 keys do not fit (233 KB of 227), of 96 they take 190 KB; and S of 96 leaves registers for Q, which both consumers
 * would else read for every tile. 256/256: O and S of 128 keys do not fit registers beside each other.
 *
 * Registers of a consumer: O DV / 2, S and P 3/4 KEYS, Q D / 4, and about 24, or 50 with softcap and bias. Where that is more
 * than 224, Q stays in shared memory. The producer has what is left of the 168 a thread that a block of 384 is launched with;
 * where that is 56, it works with what lies in shared memory. Nothing is spilled. */
template <int D, int DV, Scores S>
struct Sm90Tile {
  static constexpr int ROWS = 128, KEYS = D == 256 ? 64 : D == 192 ? 96 : 128, K_STAGES = D > 128 ? 2 : 3, V_STAGES = 2;
  static constexpr bool Q_IN_REGISTERS = S == Scores::PLAIN && D <= 192;
  static constexpr int CONSUMERS = 2, THREADS = 128 * (1 + CONSUMERS);
  static constexpr int CONSUMER = D < 128 ? 200 : 224;
  static constexpr int PRODUCER = 3 * 168 - CONSUMERS * CONSUMER;
  static constexpr int RUN = 8; /* rows that a thread rotates in turn */
  /* Tiles start on slots that are multiples of it, whatever the pages: where a tile starts must not depend on where keys are
   * stored, for the bits of the result do. So boxes of pages may be as high. */
  static constexpr int MOST_BOX = KEYS % 64 ? 32 : 64;
  using Q = Panels<D, ROWS>;
  using K = Panels<D, KEYS>;
  using V = Panels<DV, KEYS>;
  static_assert(K::WIDTH == V::WIDTH, "boxes of one shape");
  static_assert(KEYS % MOST_BOX == 0, "whole boxes");
};

/* A step: what lasts while a segment is brought is kept here. */
template <int Rows>
struct Sm90Work : Work<Rows> {
  KeySource source;
  int tiles;
  bool decays;                    /* xPos */
  uint32_t number, turn, queries; /* of the step; of the tiles and segments before it: Work has its own segments */
};

/* Tiles [begin, end) of a segment that are brought in one way, for they are whole or not, and the one that a thread of the
 * producer is at. `first` is their first box, of those ahead, which are of the tiles up to table_end. */
struct Run {
  int32_t tile, begin, end, first, table, table_end;
  bool whole;
};

template <int D, int DV, Scores S>
struct Sm90Smem {
  using Tile = Sm90Tile<D, DV, S>;
  alignas(1024) unsigned char q[Tile::Q::BYTES];
  alignas(1024) unsigned char k[Tile::K_STAGES][Tile::K::BYTES];
  alignas(1024) unsigned char v[Tile::V_STAGES][Tile::V::BYTES];
  KeyTile<Tile::KEYS> keys[Tile::K_STAGES + 1];
  Columns columns[Tile::K_STAGES + 1];
  BoxesAhead<2> ahead;
  Sm90Work<Tile::ROWS> work[2];
  /* What threads of the producer would have in registers all the time: */
  Run run[128];
  const CUtensorMap *k_map, *v_map, *rotated_map; /* of the parameters */
  uint64_t full_work[2], empty_work[2], full_q, empty_q;
  uint64_t landed_k[Tile::K_STAGES], full_k[Tile::K_STAGES], empty_k[Tile::K_STAGES];
  uint64_t landed_v[Tile::V_STAGES], full_v[Tile::V_STAGES], empty_v[Tile::V_STAGES];
};

/* Its number is not kept: it would be in a register of the loop's. */
struct Warpgroup {
  SPINDLE__DEVICE static int number() { return (int)((uint32_t)prim::warp() / 4); }
  SPINDLE__DEVICE static int thread() { return (int)((uint32_t)prim::thread_index() % 128); }
  SPINDLE__DEVICE static int threads() { return 128; }
  SPINDLE__DEVICE static void sync() { prim::bar_sync(1 + number(), 128); }
};

SPINDLE__DEVICE uint32_t address(const uint64_t &barrier) { return prim::shared_address(&barrier); }

/* Turn n of a barrier that Stages of its kind take in turn: its phase's parity. */
template <int Stages>
SPINDLE__DEVICE uint32_t parity(uint32_t turn) {
  return turn / Stages & 1;
}

/* One arrival a warp, after what all its lanes did. */
SPINDLE__DEVICE void arrive(uint64_t &barrier) {
  prim::sync_warp();
  if (prim::lane() == 0) prim::mbarrier_arrive(address(barrier));
}

}  // namespace spindle

#endif
