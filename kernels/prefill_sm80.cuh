/* Attention of many query rows, for every device from sm_80 on (cp.async, ldmatrix, mma.sync).
 *
 * Work. A block takes items from the step's list until there are no more. An item is up to ROWS packed query rows (row x query
 * heads of one KV head) and, if the request is split, a part of its keys. It walks the segments of its rows; a segment is walked
 * in tiles of KEYS slots. FlashAttention-2 (Dao 2023, arXiv:2307.08691) with positions applied on the way.
 *
 * Tiles (PrefillTile). 4 warps; a warp has 16 M rows, all KEYS columns and all of D. M = 2 where registers allow, for each
 * fragment of K and V read from shared memory is then used twice. Per 128 x 64 tile at D = 128: 4.2 MFLOP, 1640 clk of mma.sync
 * at the 2560 FLOP/clk that an SM of Hopper reaches with it; shared memory 4 warps x (16 KB K + 16 KB V + 8 KB Q) = 1280 clk; K
 * and V from L2 32 KB. So the tensor cores are the floor, and two blocks an SM cover each other's waits.
 *
 * Registers (D = 128): O 128, S 64 (P takes its place), Q and K fragments up to 46 (STEPS), row state 8: 255 are there, no spills
 * (tests/budgets). All that happens between segments would not fit beside O: there O lies in the tiles' shared memory.
 * Shared memory (PrefillSmem): Q, one K tile, one V tile, together as large as O in float: 64 KiB at D = 128, and 11 KiB of rows,
 * columns and the segment. Storing and loading O: 2 x 64 KB a segment, 1000 clk at 128 B/clk.
 *
 * Positions. Q is copied as it is and rotated in place at a segment's start. Keys of a raw cache are pre-rotated (read from
 * scratch like rotated ones) or rotated in place once their tile has landed, one rotation a block, not a warp. Both use
 * rotate_tile's canonical (cos, sin): the same bits. Per tile of 64 x 64 pairs: 32 KB of shared memory traffic (256 clk) and
 * about 4096 x 50 / 128 = 1600 issue slots of a block, a quarter of them on each scheduler: 400 clk, which the other block
 * covers. K and V of e4m3 are expanded where they land, by whoever copied them (e4m3.cuh): at D = 128 1380 issue slots a tile,
 * 345 clk, and 48 KB more of shared memory traffic; f16 250 clk. Pre-rotated keys are T already.
 *
 * Protocol, per tile x: [copies of K(x) in flight] wait [expand]; sync_block A (K(x) landed; V(x-1) and columns x-1 are free) ->
 * copies of V(x); columns of x+1 -> [rotate K(x); sync_block] -> scores -> wait [expand]; sync_block B (V(x) landed, K(x) is
 * free, columns x+1 are written) -> copies of K(x+1) -> softmax, O += P V. A step begins with a sync_block: all are done with the
 * one before. Around a segment: sync_block (all are done with the tiles) -> O to shared memory -> steps, each thread its own
 * warp's rows -> O to registers -> sync_block (the tiles are free) -> copies of Q and K(0).
 *
 * Numerics. Products in float from 16-bit operands; weights rounded to T (f16 beside V of e4m3) for the second product, their sum
 * not; exponentials by ex2.approx. A^2 of the rule is in Q, which is rounded once, after its rotation. Rows that see nothing: O =
 * 0, LSE = -inf. */
#ifndef SPINDLE_KERNELS_PREFILL_SM80_CUH
#define SPINDLE_KERNELS_PREFILL_SM80_CUH

#include "keys.cuh"
#include "output.cuh"
#include "queries.cuh"
#include "scores.cuh"

namespace spindle {

/* Of each head dim; others are padded to the next. D = 256: O alone takes the registers that two 16-row blocks would, and 64 keys
 * would leave the 99 KiB that a block may have on sm_86, sm_89 and sm_120. */
template <int D>
struct PrefillTile {
  static constexpr int M = D == 256 ? 1 : 2;
  static constexpr int ROWS = 64 * M, KEYS = D == 256 ? 32 : 64, THREADS = 128;
  static constexpr int BLOCKS = 2;                /* an SM holds, by their registers */
  static constexpr int COLUMNS = D == 96 ? 6 : 8; /* of O, in blocks of 8, that one rendezvous of the second product covers */
  static constexpr int RUN = D == 64 ? 4 : 8;     /* rows that a thread rotates in turn: a tile keeps all threads busy */
  /* Of 16 channels of the first product, between which fragments are loaded ahead. All 8 at D = 128 would take more registers
   * than S leaves. */
  static constexpr int STEPS = D == 96 ? 6 : 4;
};

template <int D>
struct PrefillSmem {
  using Shape = PrefillTile<D>;
  static_assert(Shape::ROWS == 2 * Shape::KEYS, "O in float is as large as the tiles");
  struct Tiles {
    unsigned char q[Shape::ROWS * 2 * D], k[Shape::KEYS * 2 * D], v[Shape::KEYS * 2 * D];
  };
  union {
    Tiles tiles;                          /* while a segment is walked */
    unsigned char o[Shape::ROWS * 4 * D]; /* otherwise: O so far, in float (SumsTile) */
  };
  KeyTile<Shape::KEYS> keys[2]; /* columns of tile x in keys[x % 2] */
  union {
    uint64_t seen[Shape::ROWS]; /* by the rows of a warp, in the tile at work */
    float2 sums[Shape::ROWS];   /* with o: a row's maximum and sum so far */
  };
  Work<Shape::ROWS> work;
};

/* E: what K and V are stored in. */
template <class T, class E, int D, Scores S>
struct Prefill {
  using Shape = PrefillTile<D>;
  using Smem = PrefillSmem<D>;
  static constexpr int M = Shape::M, N = Shape::KEYS / 8, C = Shape::COLUMNS, CHUNKS = D / 8 / C;
  static constexpr bool EXPANDS = sizeof(E) == 1;
  using Value = ValueType<T, E>;

  const spindle__attention_params &p;
  Smem &smem;
  float o[M][CHUNKS][C][4]; /* columns 8 (C c + n) ... as o[m][c][n] */
  float maximum[M][2], sum[M][2];

  SPINDLE__DEVICE Prefill(const spindle__attention_params &params) : p(params), smem(prim::shared<Smem>()) {}

  SPINDLE__DEVICE static int first_row() { return prim::warp() * 16 * M; }
  SPINDLE__DEVICE static int row_of(int m, int h) { return first_row() + 16 * m + 8 * h + prim::lane() / 4; }
  SPINDLE__DEVICE const spindle__prepared &request() const { return p.state.requests[smem.work.request]; }

  /* ---- Sums, in registers while a segment is walked, else in shared memory ---- */

  SPINDLE__DEVICE void clear() {
    SPINDLE__UNROLL
    for (int m = 0; m < M; ++m) {
      maximum[m][0] = maximum[m][1] = -INFINITY;
      sum[m][0] = sum[m][1] = 0.0f;
      SPINDLE__UNROLL
      for (int i = 0; i < CHUNKS * C * 4; ++i) o[m][i / (4 * C)][i / 4 % C][i % 4] = 0.0f;
    }
  }

  SPINDLE__DEVICE void load_sums() {
    const uint32_t tile = prim::shared_address(smem.o);
    SPINDLE__UNROLL
    for (int i = 0; i < M * 2; ++i) {
      const int m = i / 2, h = i % 2, row = row_of(m, h), t = prim::lane() % 4;
      maximum[m][h] = smem.sums[row].x;
      sum[m][h] = t == 0 ? smem.sums[row].y : 0.0f; /* a quad's four are added */
      SPINDLE__UNROLL
      for (int n = 0; n < D / 8; ++n) {
        const float2 two = prim::ld_shared<float2>(tile + SumsTile<D>::element(row, 8 * n + 2 * t));
        o[m][n / C][n % C][2 * h] = two.x;
        o[m][n / C][n % C][2 * h + 1] = two.y;
      }
    }
  }

  SPINDLE__DEVICE void store_sums() {
    const uint32_t tile = prim::shared_address(smem.o);
    SPINDLE__UNROLL
    for (int i = 0; i < M * 2; ++i) {
      const int m = i / 2, h = i % 2, row = row_of(m, h), t = prim::lane() % 4;
      float whole = sum[m][h];
      whole += prim::shfl_xor(whole, 1);
      whole += prim::shfl_xor(whole, 2);
      if (t == 0) smem.sums[row] = make_float2(maximum[m][h], whole);
      SPINDLE__UNROLL
      for (int n = 0; n < D / 8; ++n) {
        const float(&from)[4] = o[m][n / C][n % C];
        prim::st_shared(tile + SumsTile<D>::element(row, 8 * n + 2 * t), make_float2(from[2 * h], from[2 * h + 1]));
      }
    }
  }

  /* ---- Tiles ---- */

  /* A pre-rotated copy holds T. */
  SPINDLE__DEVICE static bool expands(const KeySource &source) { return EXPANDS && source.copy < 0; }

  SPINDLE__DEVICE void copy_k(const KeySource &source, const KeyTile<Shape::KEYS> &keys) {
    copy_rows<Tile<D>, Shape::KEYS, Shape::THREADS>(expands(source), prim::shared_address(smem.tiles.k), keys.k, keys.valid,
                                                    p.shape.head_dim_qk);
    prim::cp_async_commit();
  }
  SPINDLE__DEVICE void copy_v(const KeyTile<Shape::KEYS> &keys) {
    copy_rows<Tile<D>, Shape::KEYS, Shape::THREADS>(EXPANDS, prim::shared_address(smem.tiles.v), keys.v, keys.valid,
                                                    p.shape.head_dim_v);
    prim::cp_async_commit();
  }
  /* What this thread has copied and waited for. */
  template <class To>
  SPINDLE__DEVICE static void expand(const unsigned char *tile) {
    expand_e4m3<To, Tile<D>, Shape::KEYS, Shape::THREADS>(prim::shared_address(tile), prim::thread_index());
  }

  SPINDLE__DEVICE void rotate_keys(const KeyTile<Shape::KEYS> &keys) {
    rotate_tile<T, Tile<D>, Shape::RUN, true>(prim::shared_address(smem.tiles.k), Shape::KEYS, rotary_of(p.shape),
                                              key_rotation(p, smem.work), keys.position, keys.distance);
  }

  /* Scores; 0 if the warp has none to compute: undefined on one path they would be in registers all along. */
  SPINDLE__DEVICE void multiply_keys(float (&s)[M][N][4], bool works) {
    const uint32_t q = prim::shared_address(smem.tiles.q), k = prim::shared_address(smem.tiles.k);
    const int lane = prim::lane(), row = first_row();
    SPINDLE__UNROLL
    for (int i = 0; i < M * N * 4; ++i) s[i / (4 * N)][i / 4 % N][i % 4] = 0.0f;
    if (!works) return;
    SPINDLE__NO_UNROLL
    for (int first = 0; first < D / 16; first += Shape::STEPS) {
      if (D == 256 && 16 * first >= p.shape.head_dim_qk) break;
      SPINDLE__UNROLL
      for (int step = 0; step < Shape::STEPS; ++step) {
        uint32_t a[M][4], b[N][2];
        load_a<D>(a, q, row, lane, first + step);
        load_keys<Tile<D>>(b, k, lane, first + step);
        SPINDLE__UNROLL
        for (int m = 0; m < M; ++m) prim::mma_each<T>(s[m], a[m], b);
      }
    }
  }

  /* Whether this warp's rows see any column; which, into smem.seen, unless all see all. A lane a row. */
  SPINDLE__DEVICE bool sees(const KeyTile<Shape::KEYS> &keys, const Columns &columns) {
    if (columns.full) return true;
    uint64_t seen = 0;
    if (prim::lane() < 16 * M) {
      const int row = first_row() + prim::lane();
      int64_t from, to;
      seen_by_row(p, smem.work, row, from, to);
      seen = seen_columns(keys, columns, from, to);
      smem.seen[row] = seen;
    }
    return prim::any(seen != 0);
  }

  SPINDLE__DEVICE void weigh(float (&s)[M][N][4], uint32_t (&weights)[M][N][2], const KeyTile<Shape::KEYS> &keys,
                             const Columns &columns) {
    float rescale[M][2];
    bool unchanged = true;
    SPINDLE__UNROLL
    for (int m = 0; m < M; ++m) {
      SPINDLE__UNROLL
      for (int h = 0; h < 2; ++h) {
        const int row = row_of(m, h);
        float scale = smem.work.scale[row];
        if (S == Scores::GENERAL) {
          finish_scores(p, smem.work, keys, columns, row, h, s[m]);
          scale = 1.0f;
        }
        if (!columns.full) mask_row(s[m], h, smem.seen[row]);
        rescale[m][h] = softmax_row<Value>(s[m], weights[m], h, scale, maximum[m][h], sum[m][h]);
        unchanged = unchanged && rescale[m][h] == 1.0f;
      }
    }
    if (!prim::any(!unchanged)) return; /* most tiles bring no new maximum */
    SPINDLE__UNROLL
    for (int m = 0; m < M; ++m) {
      SPINDLE__UNROLL
      for (int i = 0; i < CHUNKS * C * 4; ++i) o[m][i / (4 * C)][i / 4 % C][i % 4] *= rescale[m][i / 2 % 2];
    }
  }

  SPINDLE__DEVICE void multiply_values(const uint32_t (&weights)[M][N][2]) {
    const uint32_t v = prim::shared_address(smem.tiles.v);
    const int lane = prim::lane();
    SPINDLE__UNROLL
    for (int step = 0; step < Shape::KEYS / 16; ++step) {
      SPINDLE__UNROLL
      for (int c = 0; c < CHUNKS; ++c) {
        if (D == 256 && 8 * C * c >= p.shape.head_dim_v) continue;
        uint32_t b[C][2];
        load_values<Tile<D>>(b, v, lane, 16 * step, C * c);
        SPINDLE__UNROLL
        for (int m = 0; m < M; ++m) {
          const uint32_t a[4] = {weights[m][2 * step][0], weights[m][2 * step][1], weights[m][2 * step + 1][0],
                                 weights[m][2 * step + 1][1]};
          prim::mma_each<Value>(o[m][c], a, b);
        }
      }
    }
  }

  /* ---- Segments ---- */

  SPINDLE__DEVICE void walk_tiles(const KeySource &source) {
    const int tiles = (int)((smem.work.slot1 - smem.work.slot0 + Shape::KEYS - 1) / Shape::KEYS);
    for (int x = 0; x < tiles; ++x) {
      const KeyTile<Shape::KEYS> &keys = smem.keys[x % 2];
      prim::cp_async_wait<0>();
      if (expands(source)) expand<T>(smem.tiles.k);
      prim::sync_block(); /* A */
      copy_v(keys);
      if (x + 1 < tiles && prim::thread_index() < Shape::KEYS) find_keys<E>(p, smem.work, source, x + 1, smem.keys[(x + 1) % 2]);
      if (source.rotate) {
        rotate_keys(keys);
        prim::sync_block();
      }
      const bool works = first_row() < num_rows(smem.work) && sees(keys, columns_of(p, smem.work, keys));
      float s[M][N][4];
      uint32_t weights[M][N][2];
      multiply_keys(s, works);
      prim::cp_async_wait<0>();
      if (EXPANDS) expand<Value>(smem.tiles.v);
      prim::sync_block(); /* B */
      if (x + 1 < tiles) copy_k(source, smem.keys[(x + 1) % 2]);
      if (!works) continue;
      weigh(s, weights, keys, columns_of(p, smem.work, keys));
      multiply_values(weights);
    }
  }

  /* The sums so far are in shared memory before and after; there are none in front of the first segment. */
  SPINDLE__DEVICE void walk_segment(bool first) {
    const KeySource source = key_source(p, request(), smem.work.segment->k_map);
    const uint32_t q = prim::shared_address(smem.tiles.q);
    place_rows(p, smem.work);
    if (prim::thread_index() < Shape::KEYS) find_keys<E>(p, smem.work, source, 0, smem.keys[0]);
    if (first)
      clear();
    else
      load_sums();
    prim::sync_block();
    copy_queries<Tile<D>>(p, smem.work, q);
    prim::cp_async_commit();
    copy_k(source, smem.keys[0]);
    prim::cp_async_wait<1>();
    prim::sync_block();
    rotate_queries<T, Tile<D>, Shape::RUN, true, Shape::ROWS>(p, smem.work, q);
    walk_tiles(source);
    prim::sync_block(); /* all are done with the tiles */
    store_sums();
  }

  /* ---- Items ---- */

  SPINDLE__DEVICE void run() {
    for (;;) {
      prim::sync_block();
      if (prim::thread_index() == 0) next_item(p, smem.work);
      prim::sync_block();
      if (smem.work.step == Step::STOP) return;
      begin_item(p, smem.work);
      const Output<T, D, 16 * M, Work<Shape::ROWS>> output(p, smem.work, smem.o, smem.sums);
      bool empty = true; /* no sums yet */
      for (;;) {
        const Step step = decide(p, smem.work);
        if (step == Step::WALK) {
          walk_segment(empty);
          empty = false;
          continue;
        }
        if (empty) output.clear();
        empty = step == Step::KEEP;
        if (step == Step::ADD) output.add_splits_before();
        if (step == Step::KEEP) output.keep();
        if (step == Step::STORE) break;
      }
      output.store();
    }
  }
};

template <class T, int D, Scores S>
__global__ void __launch_bounds__(PrefillTile<D>::THREADS, PrefillTile<D>::BLOCKS)
    prefill_sm80(const __grid_constant__ spindle__attention_params params) {
  Prefill<T, T, D, S> kernel(params);
  kernel.run();
}

/* K and V of e4m3. */
template <class T, int D, Scores S>
__global__ void __launch_bounds__(PrefillTile<D>::THREADS, PrefillTile<D>::BLOCKS)
    prefill_sm80_e4m3(const __grid_constant__ spindle__attention_params params) {
  Prefill<T, e4m3, D, S> kernel(params);
  kernel.run();
}

}  // namespace spindle

#endif
