/* The warpgroups of the Hopper kernel (prefill_sm90.cuh) that have the rows: products, softmax, and what becomes of an item. */
#ifndef SPINDLE_KERNELS_SM90_CONSUMER_CUH
#define SPINDLE_KERNELS_SM90_CONSUMER_CUH

#include "output.cuh"
#include "queries.cuh"
#include "scores.cuh"
#include "sm90_tile.cuh"

namespace spindle {

/* E: what K and V are stored in. */
template <class T, class E, int D, int DV, Scores S>
struct Sm90Consumer {
  using Tile = Sm90Tile<D, DV, S>;
  using Smem = Sm90Smem<D, DV, S>;
  using Rows = Sm90Work<Tile::ROWS>;
  using Value = ValueType<T, E>;
  static constexpr int KEYS = Tile::KEYS, K_STAGES = Tile::K_STAGES, V_STAGES = Tile::V_STAGES, WORDS = (KEYS + 63) / 64;
  static constexpr int STEPS = Tile::Q_IN_REGISTERS ? D / 16 : 1;

  const spindle__attention_params &p;
  Smem &smem;
  Warpgroup team;
  float o[DV / 8][4], maximum[2], sum[2];

  SPINDLE__DEVICE Sm90Consumer(const Sm90Params &all) : p(all.attention), smem(prim::shared<Smem>()) {}

  SPINDLE__DEVICE int first_row() const { return 64 * (team.number() - 1) + prim::warp() % 4 * 16; }
  SPINDLE__DEVICE int row_of(int h) const { return first_row() + 8 * h + prim::lane() / 4; }

  SPINDLE__DEVICE void clear() {
    maximum[0] = maximum[1] = -INFINITY;
    sum[0] = sum[1] = 0.0f;
    SPINDLE__UNROLL
    for (int i = 0; i < DV / 2; ++i) o[i / 4][i % 4] = 0.0f;
  }

  /* ---- One tile ---- */

  /* Begins S = Q K^T. */
  SPINDLE__DEVICE void multiply_keys(float (&s)[KEYS / 8][4], uint32_t (&q)[STEPS][4], uint32_t n) {
    using Layout = typename Tile::K;
    const uint32_t k = prim::shared_address(smem.k[n % K_STAGES]);
    prim::mbarrier_wait(address(smem.full_k[n % K_STAGES]), parity<K_STAGES>(n));
    prim::wgmma_fence(s, q);
    SPINDLE__UNROLL
    for (int step = 0; step < D / 16; ++step) {
      const uint64_t keys = Layout::along_channels(k, 0, step);
      if constexpr (Tile::Q_IN_REGISTERS) {
        prim::wgmma<T>(s, q[step], keys, step != 0);
      } else {
        const uint64_t rows = Tile::Q::along_channels(prim::shared_address(smem.q), 64 * (team.number() - 1), step);
        prim::wgmma<T>(s, rows, keys, step != 0);
      }
    }
    prim::wgmma_commit();
  }

  /* Begins O += P V. */
  SPINDLE__DEVICE void multiply_values(uint32_t (&weights)[KEYS / 16][4], uint32_t n) {
    using Layout = typename Tile::V;
    const uint32_t v = prim::shared_address(smem.v[n % V_STAGES]);
    prim::mbarrier_wait(address(smem.full_v[n % V_STAGES]), parity<V_STAGES>(n));
    prim::wgmma_fence(o, weights);
    SPINDLE__UNROLL
    for (int step = 0; step < KEYS / 16; ++step)
      prim::wgmma<Value, prim::MN_MAJOR>(o, weights[step], Layout::along_rows(v, step), true);
    prim::wgmma_commit();
  }

  /* Scores of tile n become weights, not packed yet; rescale: what O must be multiplied by before it takes them. */
  SPINDLE__DEVICE void weigh(const Rows &work, float (&s)[KEYS / 8][4], float (&rescale)[2], uint32_t n) {
    const KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    const Columns &columns = smem.columns[n % (K_STAGES + 1)];
    uint64_t seen = 0; /* by row lane % 16, of 64 columns from 64 (lane / 16) on */
    if (!columns.full && prim::lane() / 16 < WORDS) {
      int64_t from, to;
      seen_by_row(p, work, first_row() + prim::lane() % 16, from, to);
      seen = seen_columns(keys, columns, from, to, prim::lane() / 16);
    }
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = row_of(h);
      float scale = work.scale[row];
      if (S == Scores::GENERAL) {
        finish_scores(p, work, keys, columns, row, h, s);
        scale = 1.0f;
      }
      if (!columns.full) {
        SPINDLE__UNROLL
        for (int word = 0; word < WORDS; ++word) {
          const int from = 16 * word + 8 * h + prim::lane() / 4;
          const uint32_t low = prim::shfl((uint32_t)seen, from), high = prim::shfl((uint32_t)(seen >> 32), from);
          mask_row(s, h, (uint64_t)high << 32 | low, word);
        }
      }
      rescale[h] = softmax_row<Value>(s, h, scale, maximum[h], sum[h]);
    }
  }

  SPINDLE__DEVICE void scale_sums(const float (&by)[2]) {
    SPINDLE__UNROLL
    for (int i = 0; i < DV / 2; ++i) o[i / 4][i % 4] *= by[i % 4 / 2];
  }

  /* ---- A segment ---- */

  /* The consumers' turns: one's products run while the other weighs. */
  SPINDLE__DEVICE void take_turn(bool shared) const {
    if (shared) prim::bar_sync(3 + team.number(), 256);
  }
  SPINDLE__DEVICE void give_turn(bool shared) const {
    if (shared) prim::bar_arrive(6 - team.number(), 256);
  }

  SPINDLE__DEVICE void walk_tiles(const Rows &work, uint32_t (&q)[STEPS][4], bool shared) {
    const uint32_t first = work.turn, end = first + work.tiles;
    float s[KEYS / 8][4], rescale[2];
    uint32_t weights[KEYS / 16][4];
    multiply_keys(s, q, first);
    prim::wgmma_wait<0>(s);
    arrive(smem.empty_k[first % K_STAGES]);
    weigh(work, s, rescale, first);
    pack_weights<Value>(s, weights);
    SPINDLE__NO_UNROLL
    for (uint32_t n = first + 1; n < end; ++n) {
      take_turn(shared);
      multiply_keys(s, q, n);
      scale_sums(rescale);
      multiply_values(weights, n - 1);
      give_turn(shared);
      prim::wgmma_wait<1>(s);
      arrive(smem.empty_k[n % K_STAGES]);
      weigh(work, s, rescale, n);
      prim::wgmma_wait<0>(o);
      arrive(smem.empty_v[(n - 1) % V_STAGES]);
      pack_weights<Value>(s, weights);
    }
    scale_sums(rescale);
    multiply_values(weights, end - 1);
    prim::wgmma_wait<0>(o);
    arrive(smem.empty_v[(end - 1) % V_STAGES]);
  }

  /* A warpgroup without rows lets the tiles pass. */
  SPINDLE__DEVICE void pass_tiles(const Rows &work) {
    for (uint32_t n = work.turn; n < work.turn + work.tiles; ++n) {
      prim::mbarrier_wait(address(smem.full_k[n % K_STAGES]), parity<K_STAGES>(n));
      arrive(smem.empty_k[n % K_STAGES]);
      prim::mbarrier_wait(address(smem.full_v[n % V_STAGES]), parity<V_STAGES>(n));
      arrive(smem.empty_v[n % V_STAGES]);
    }
  }

  SPINDLE__DEVICE void walk_segment(const Rows &work) {
    const int first = 64 * (team.number() - 1);
    const int rows = num_rows(work);
    const bool works = rows > first, shared = rows > 64;
    const uint32_t tile = prim::shared_address(smem.q);
    uint32_t q[STEPS][4];
    prim::mbarrier_wait(address(smem.full_q), parity<1>(work.queries));
    rotate_queries<T, typename Tile::Q, Tile::RUN, true, 64>(p, work, tile, first, team);
    if (!Tile::Q_IN_REGISTERS) prim::fence_proxy_async();
    team.sync();
    if constexpr (Tile::Q_IN_REGISTERS) {
      load_rows<typename Tile::Q>(q, tile, first_row());
      arrive(smem.empty_q);
    }
    if (works)
      walk_tiles(work, q, shared);
    else
      pass_tiles(work);
    if (!Tile::Q_IN_REGISTERS) arrive(smem.empty_q);
  }

  /* ---- The item's rows ---- */

  /* The whole row's, of which a quad has four parts. */
  SPINDLE__DEVICE float row_sum(int h) const {
    const float two = sum[h] + prim::shfl_xor(sum[h], 1);
    return two + prim::shfl_xor(two, 2);
  }

  template <class Row>
  SPINDLE__DEVICE void store_row(const Row &row, int h, int channels, float factor) const {
    const int first = 2 * (prim::lane() % 4);
    const Row mine = row.at(first);
    SPINDLE__UNROLL
    for (int j = 0; j < DV / 8; ++j) {
      if (8 * j + first + 1 < channels)
        mine.put2(8 * j, o[j][2 * h] * factor, o[j][2 * h + 1] * factor);
      else if (8 * j + first < channels)
        mine.put(8 * j, o[j][2 * h] * factor);
    }
  }

  SPINDLE__DEVICE void store(const Rows &work) const {
    const spindle__prepared &r = p.state.requests[work.request];
    const bool stores = prim::lane() % 4 == 0, split = r.work.num_splits > 1;
    const int channels = split ? DV : p.shape.head_dim_v;
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = work.row[row_of(h)], head = work.head[row_of(h)];
      const float whole = row_sum(h);
      if (row < 0) continue;
      const int64_t partial = partial_row(p, r, work.item.split, row, head);
      const int64_t to = split ? partial * p.o_stride : output_row(p, r, row, head);
      void *const rows = split ? p.partial_o : p.args.o.data;
      if (split && stores) prim::st_global((float2 *)p.partial_ml + partial, make_float2(maximum[h], whole));
      const float factor = split ? 1.0f : finish_row(p, r, row, head, maximum[h], whole, stores);
      if (split || p.shape.o_dtype == SPINDLE_F32)
        store_row(GlobalRow<float>::of(rows, to), h, channels, factor);
      else
        store_row(GlobalRow<T>::of(rows, to), h, channels, factor);
    }
  }

  /* ---- Splits in turn: the sums of those before are kept in scratch, by the threads that have them here ---- */

  /* Pairs of sums of row half h, and (maximum, sum) after them; those of neighbours side by side. */
  static constexpr int PAIRS = DV / 8, APART = 128 * Tile::CONSUMERS;
  static_assert(2 * (PAIRS + 1) * APART * 2 == Tile::ROWS * (DV + 8), "what scratch has for a block");
  SPINDLE__DEVICE float2 *kept(int h) const {
    float *of_block = p.whole + (int64_t)prim::block_x() * Tile::ROWS * (p.o_stride + 8);
    return (float2 *)of_block + h * (PAIRS + 1) * APART + prim::thread_index() - 128;
  }

  SPINDLE__DEVICE void keep() const {
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      float2 *const to = kept(h);
      SPINDLE__UNROLL
      for (int j = 0; j < PAIRS; ++j) prim::st_global(to + j * APART, make_float2(o[j][2 * h], o[j][2 * h + 1]));
      prim::st_global(to + PAIRS * APART, make_float2(maximum[h], row_sum(h)));
    }
  }

  SPINDLE__DEVICE void add_splits_before() {
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const float2 *const from = kept(h);
      float2 all = prim::ld_global(from + PAIRS * APART);
      const MergeWeights w = merge(all.x, all.y, maximum[h], row_sum(h));
      maximum[h] = all.x;
      sum[h] = prim::lane() % 4 == 0 ? all.y : 0.0f;
      SPINDLE__UNROLL
      for (int j = 0; j < PAIRS; ++j) {
        const float2 pair = prim::ld_global(from + j * APART);
        o[j][2 * h] = merged(w, pair.x, o[j][2 * h]);
        o[j][2 * h + 1] = merged(w, pair.y, o[j][2 * h + 1]);
      }
    }
  }

  SPINDLE__DEVICE void run() {
    clear();
    if (team.number() == 2) give_turn(true); /* the first has the first turn */
    for (uint32_t n = 0;; ++n) {
      const Rows &work = smem.work[n % 2];
      prim::mbarrier_wait(address(smem.full_work[n % 2]), parity<2>(n));
      if (work.step == Step::STOP) break;
      if (work.step == Step::WALK) walk_segment(work);
      if (work.step == Step::ADD) add_splits_before();
      if (work.step == Step::KEEP) keep();
      if (work.step == Step::STORE) store(work);
      if (work.step == Step::KEEP || work.step == Step::STORE) clear();
      n = work.number; /* in no register meanwhile */
      arrive(smem.empty_work[n % 2]);
    }
    if (team.number() == 1) take_turn(true); /* no barrier is left half full */
  }
};

}  // namespace spindle

#endif
