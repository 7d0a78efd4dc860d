/* Attention of many query rows on Hopper (TMA, wgmma, setmaxnreg): sm_90a.
 *
 * Work. As prefill_sm80.cuh: a block takes items (128 packed query rows, perhaps a part of the keys) until there are none, and
 * walks the segments of each in tiles of KEYS slots. One block an SM, three warpgroups. The first produces: it takes items, makes
 * each next step, and brings Q, K and V to shared memory; the others consume, 64 rows each, with O in registers until the item is
 * stored. FlashAttention-3 (Shah et al. 2024, arXiv:2407.08608) with positions applied on the way.
 *
 * Per tile of 128 keys at D = 128: both products 2048 clk of the tensor cores, K and V read from shared memory by both consumers
 * 1024 clk, exponentials and the rest of the softmax about 1050 issue slots a scheduler. So the tensor cores are the floor. A
 * consumer's softmax runs behind its own second product, and behind the other's both (ping-pong).
 *
 * Positions. Q is copied as it is for each segment; the consumers rotate their rows in shared memory and take them to registers
 * (D = 256 has none left: there wgmma reads Q from shared memory), after which the producer may bring the next segment's. Keys of
 * a raw cache are pre-rotated (read from scratch like rotated ones), or the producer rotates each tile in place between its
 * landing and its release to the consumers. Both have the bits of rotate.cuh.
 *
 * Copies. A tile in which every slot holds a key comes by TMA: one box a panel, or, from pages, of 16 rows each. Other tiles (the
 * last of a request, holes, pages that boxes do not fit) come by cp.async, in which rows without a key are zeros: 0 x NaN would
 * reach the output.
 *
 * Protocol. Every mbarrier's turn n ends phase n; consumers wait for full_* of turn n, the producer for empty_* of the turn
 * before.
 *   full_work, empty_work [2]   steps of items: arrivals of 4 producer warps / 8 consumer warps
 *   full_q, empty_q             4 / 8
 *   landed_k [K_STAGES]         1 and the bytes: raw keys that the producer rotates
 *   full_k, empty_k [K_STAGES]  4 and the bytes, if they come by TMA and stay as they are / 8
 *   full_v, empty_v [V_STAGES]  4 and the bytes / 8
 * Columns of tile n lie in keys[n % (K_STAGES + 1)]: written when K of turn n - K_STAGES is free, and then the softmax of turn n
 * - K_STAGES - 1 is done. What threads write to shared memory and wgmma reads has their fence_proxy_async before they arrive.
 * Named barriers: 1 + w the threads of warpgroup w; 4 and 5 the consumers' turns at the tensor cores.
 *
 * Registers: Tile::PRODUCER and CONSUMER a thread; no spills, no serialised wgmma (tests/budgets). D = 128: O 64, S 64, P 32, Q
 * 32. Numerics: as prefill_sm80.cuh. */
#ifndef SPINDLE_KERNELS_PREFILL_SM90_CUH
#define SPINDLE_KERNELS_PREFILL_SM90_CUH

#include "output.cuh"
#include "panels.cuh"
#include "queries.cuh"
#include "scores.cuh"
#include "sm90.cuh"

namespace spindle {

/* Of each head dim; others are padded to the next. 128 keys and three stages of K fill shared memory at D = 128: with two, a tile
 * to be rotated could not land while another is. D = 256: O and S of 128 keys do not fit registers beside each other.
 *
 * Registers of a consumer: O D / 2, S and P 96 (D = 256: 48), Q D / 4, and about 24. Where that is more than 224, Q stays in
 * shared memory: at D = 256, and at D = 128 beside softcap and bias. The producer has what is left of the 65536 / 384 = 168 a
 * thread that the block is launched with; at 56 what it does between segments takes more, and is spilled. */
template <int D, Scores S>
struct Sm90Tile {
  static constexpr int ROWS = 128, KEYS = D == 256 ? 64 : 128, K_STAGES = D == 256 ? 2 : 3, V_STAGES = 2;
  static constexpr bool Q_IN_REGISTERS = D < 128 || (D == 128 && S == Scores::PLAIN);
  static constexpr int CONSUMERS = 2, THREADS = 128 * (1 + CONSUMERS);
  static constexpr int CONSUMER = D < 128 ? 200 : Q_IN_REGISTERS ? 224 : 208, PRODUCER = 3 * 168 - CONSUMERS * CONSUMER;
  static constexpr int RUN = 8; /* rows that a thread rotates in turn */
  using Q = Panels<D, ROWS>;
  using K = Panels<D, KEYS>;
};

/* A step: what lasts while a segment is brought is kept here, for the producer has few registers. */
template <int Rows>
struct Sm90Work : Work<Rows> {
  KeySource source;
  int tiles;
  uint32_t number, turn, queries; /* of the step; of the tiles and segments before it: Work has its own segments */
};

template <int D, Scores S>
struct Sm90Smem {
  using Tile = Sm90Tile<D, S>;
  alignas(1024) unsigned char q[Tile::Q::BYTES];
  alignas(1024) unsigned char k[Tile::K_STAGES][Tile::K::BYTES];
  alignas(1024) unsigned char v[Tile::V_STAGES][Tile::K::BYTES];
  KeyTile<Tile::KEYS> keys[Tile::K_STAGES + 1];
  Columns columns[Tile::K_STAGES + 1];
  Sm90Work<Tile::ROWS> work[2];
  uint64_t full_work[2], empty_work[2], full_q, empty_q;
  uint64_t landed_k[Tile::K_STAGES], full_k[Tile::K_STAGES], empty_k[Tile::K_STAGES];
  uint64_t full_v[Tile::V_STAGES], empty_v[Tile::V_STAGES];
};

/* Its number is not kept: it would be in a register of the loop's. */
struct Warpgroup {
  SPINDLE__DEVICE static int number() { return prim::warp() / 4; }
  SPINDLE__DEVICE static int thread() { return prim::thread_index() % 128; }
  SPINDLE__DEVICE static int threads() { return 128; }
  SPINDLE__DEVICE static void sync() { prim::bar_sync(1 + number(), 128); }
};

SPINDLE__DEVICE uint32_t at(const uint64_t &barrier) { return prim::shared_address(&barrier); }

/* Turn n of a barrier that Stages of its kind take in turn: its phase's parity. */
template <int Stages>
SPINDLE__DEVICE uint32_t parity(uint32_t turn) {
  return turn / Stages & 1;
}

/* One arrival a warp, after what all its lanes did. */
SPINDLE__DEVICE void arrive(uint64_t &barrier) {
  prim::sync_warp();
  if (prim::lane() == 0) prim::mbarrier_arrive(at(barrier));
}

/* ---- The producer ---- */

template <class T, int D, Scores S>
struct Sm90Producer {
  using Tile = Sm90Tile<D, S>;
  using Smem = Sm90Smem<D, S>;
  static constexpr int KEYS = Tile::KEYS, K_STAGES = Tile::K_STAGES, V_STAGES = Tile::V_STAGES;

  using Step = Sm90Work<Tile::ROWS>;
  using Next = spindle::Step;

  const Sm90Params &params;
  const spindle__attention_params &p;
  Smem &smem;
  Warpgroup team;

  SPINDLE__DEVICE Sm90Producer(const Sm90Params &all) : params(all), p(all.attention), smem(prim::shared<Smem>()) {}

  /* Tile x of the segment, by the lanes of one warp. */
  SPINDLE__DEVICE void load_boxes(uint32_t tile, const CUtensorMap &map, const Step &work, int x, int copy,
                                  uint64_t &barrier) const {
    using Layout = typename Tile::K;
    const spindle__prepared &r = p.state.requests[work.request];
    const int64_t u = work.slot0 + (int64_t)x * KEYS;
    const int rows = copy >= 0 ? KEYS : params.box_rows;
    if (prim::lane() == 0) prim::mbarrier_arrive_expect_tx(at(barrier), Layout::BYTES);
    prim::sync_warp();
    SPINDLE__NO_UNROLL
    for (int i = prim::lane(); i < KEYS / rows * Layout::PANELS; i += 32) {
      const int box = i / Layout::PANELS, panel = i % Layout::PANELS;
      const uint32_t to = tile + (uint32_t)(panel * Layout::PANEL_BYTES + box * rows * 2 * Layout::WIDTH);
      if (copy >= 0) {
        const int row = (int)(r.rotated_at + copy * r.num_slots + u);
        prim::tma_load(to, map, {panel * Layout::WIDTH, row, work.kv_head - p.kv_begin, 0}, at(barrier));
      } else {
        const spindle__key key = spindle__key_at(&p.batch, &r.request, u + box * rows);
        prim::tma_load(to, map, {panel * Layout::WIDTH, key.row, work.kv_head, key.page}, at(barrier));
      }
    }
  }

  SPINDLE__DEVICE bool whole(const KeyTile<KEYS> &keys) const {
    bool all = true;
    SPINDLE__UNROLL
    for (int i = 0; i < KEYS / 32; ++i) all = all && keys.valid[i] == ~0u;
    return all;
  }

  /* Whether K of a tile comes by TMA. */
  SPINDLE__DEVICE bool boxed(const Step &work, const KeyTile<KEYS> &keys) const {
    return (params.box_rows || work.source.copy >= 0) && whole(keys);
  }

  /* Columns of tile x of the segment, and the start of K's copies. */
  SPINDLE__DEVICE void begin_keys(const Step &work, int x) const {
    const uint32_t n = work.turn + x, stage = n % K_STAGES;
    KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    prim::mbarrier_wait(at(smem.empty_k[stage]), parity<K_STAGES>(n) ^ 1);
    if (team.thread() < KEYS) find_keys(p, work, work.source, x, keys, team.thread());
    team.sync();
    const bool by_tma = boxed(work, keys);
    if (team.thread() == 0) {
      smem.columns[n % (K_STAGES + 1)] = columns_of(p, work, keys);
      if (!by_tma || !work.source.rotate) prim::mbarrier_arrive(at(smem.landed_k[stage])); /* every tile is a turn of it */
    }
    const uint32_t tile = prim::shared_address(smem.k[stage]);
    if (!by_tma) {
      copy_keys<typename Tile::K, KEYS, 128>(tile, keys.k, keys.valid, p.shape.head_dim_qk, team.thread());
      return;
    }
    uint64_t &barrier = work.source.rotate ? smem.landed_k[stage] : smem.full_k[stage];
    if (prim::warp() == 0)
      load_boxes(tile, work.source.copy >= 0 ? params.rotated : params.k, work, x, work.source.copy, barrier);
    else if (!work.source.rotate)
      arrive(barrier);
  }

  /* K is given to the consumers, unless its own bytes do that. */
  SPINDLE__DEVICE void finish_keys(const Step &work, int x) const {
    const uint32_t n = work.turn + x, stage = n % K_STAGES;
    const KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    if (!boxed(work, keys)) {
      prim::cp_async_wait_all();
      team.sync();
    } else if (work.source.rotate) {
      prim::mbarrier_wait(at(smem.landed_k[stage]), parity<K_STAGES>(n));
    } else {
      return;
    }
    if (work.source.rotate)
      rotate_tile<T, typename Tile::K, Tile::RUN>(prim::shared_address(smem.k[stage]), KEYS, rotary_of(p.shape),
                                                  key_rotation(p, work), keys.position, keys.distance, team.thread(),
                                                  team.threads());
    prim::fence_proxy_async();
    arrive(smem.full_k[stage]);
  }

  SPINDLE__DEVICE void load_values(const Step &work, int x) const {
    const uint32_t n = work.turn + x, stage = n % V_STAGES, tile = prim::shared_address(smem.v[stage]);
    const KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    prim::mbarrier_wait(at(smem.empty_v[stage]), parity<V_STAGES>(n) ^ 1);
    if (params.box_rows && whole(keys)) {
      if (prim::warp() == 1)
        load_boxes(tile, params.v, work, x, -1, smem.full_v[stage]);
      else
        arrive(smem.full_v[stage]);
      return;
    }
    copy_keys<typename Tile::K, KEYS, 128>(tile, keys.v, keys.valid, p.shape.head_dim_v, team.thread());
    prim::cp_async_wait_all();
    prim::fence_proxy_async();
    arrive(smem.full_v[stage]);
  }

  /* The segment at work: Q, then K a tile ahead of V. */
  SPINDLE__DEVICE void bring_segment(const Step &work) const {
    prim::mbarrier_wait(at(smem.empty_q), parity<1>(work.queries) ^ 1);
    copy_queries<typename Tile::Q>(p, work, prim::shared_address(smem.q), team);
    SPINDLE__NO_UNROLL
    for (int x = 0; x <= work.tiles; ++x) {
      if (x < work.tiles) begin_keys(work, x);
      if (x == 0) {
        prim::cp_async_wait_all();
        arrive(smem.full_q);
      } else {
        finish_keys(work, x - 1);
        load_values(work, x - 1);
      }
    }
  }

  /* An item's part of the step before, to go on from. */
  SPINDLE__DEVICE void carry_on(Step &work, const Step &before) const {
    static_assert(Tile::ROWS == 128, "a thread a row");
    const int at = team.thread();
    work.row[at] = before.row[at];
    work.head[at] = before.head[at];
    work.scale[at] = before.scale[at];
    work.sign[at] = before.sign[at];
    work.bias_a[at] = before.bias_a[at];
    work.bias_p[at] = before.bias_p[at];
    if (at % 32 == 0) work.signs[at / 32] = before.signs[at / 32];
    if (p.state.requests[before.request].scale_base > 0 && at < p.shape.rotary_dim / 2) work.rates[at] = before.rates[at];
    if (at > 0) return;
    work.item = before.item;
    work.request = before.request;
    work.kv_head = before.kv_head;
    work.num_segments = before.num_segments;
    work.segments = before.segments;
    work.step = before.step;
    work.cursor = before.cursor;
  }

  SPINDLE__DEVICE void set_tiles(Step &work) const {
    work.slot0 &= -(int64_t)SM90_SLOT_STEP;
    work.tiles = (int)((work.slot1 - work.slot0 + KEYS - 1) / KEYS);
    work.source = key_source(p.state.requests[work.request], work.segment->k_map, p.shape.key_state == SPINDLE_KEYS_RAW);
  }

  /* The step after `before`. */
  SPINDLE__DEVICE void find_step(Step &work, const Step &before) const {
    if (before.step == Next::STORE) {
      if (team.thread() == 0) next_item(p, work);
      team.sync();
      if (work.step == Next::STOP) return;
      begin_item(p, work);
    } else {
      carry_on(work, before);
    }
    team.sync();
    if (team.thread() == 0) {
      const bool walked = before.step == Next::WALK;
      work.number = before.number + 1;
      work.turn = before.turn + (walked ? before.tiles : 0);
      work.queries = before.queries + walked;
      work.step = next_step(p, work);
      if (work.step == Next::WALK) set_tiles(work);
    }
    team.sync();
    if (work.step == Next::WALK) place_rows(p, work);
  }

  SPINDLE__DEVICE void run() const {
    for (uint32_t n = 0;;) {
      Step &work = smem.work[n % 2];
      prim::mbarrier_wait(at(smem.empty_work[n % 2]), parity<2>(n) ^ 1);
      find_step(work, smem.work[(n + 1) % 2]);
      const Next next = work.step;
      arrive(smem.full_work[n % 2]);
      if (next == Next::STOP) return;
      if (next == Next::WALK) bring_segment(work);
      n = work.number + 1;
    }
  }
};

/* ---- A consumer ---- */

template <class T, int D, Scores S>
struct Sm90Consumer {
  using Tile = Sm90Tile<D, S>;
  using Smem = Sm90Smem<D, S>;
  using Rows = Sm90Work<Tile::ROWS>;
  static constexpr int KEYS = Tile::KEYS, K_STAGES = Tile::K_STAGES, V_STAGES = Tile::V_STAGES, WORDS = KEYS / 64;
  static constexpr int STEPS = Tile::Q_IN_REGISTERS ? D / 16 : 1;

  const spindle__attention_params &p;
  Smem &smem;
  Warpgroup team;
  float o[D / 8][4], maximum[2], sum[2];

  SPINDLE__DEVICE Sm90Consumer(const Sm90Params &all) : p(all.attention), smem(prim::shared<Smem>()) {}

  SPINDLE__DEVICE int first_row() const { return 64 * (team.number() - 1) + prim::warp() % 4 * 16; }
  SPINDLE__DEVICE int row_of(int h) const { return first_row() + 8 * h + prim::lane() / 4; }

  SPINDLE__DEVICE void clear() {
    maximum[0] = maximum[1] = -INFINITY;
    sum[0] = sum[1] = 0.0f;
    SPINDLE__UNROLL
    for (int i = 0; i < D / 2; ++i) o[i / 4][i % 4] = 0.0f;
  }

  /* ---- One tile ---- */

  /* Begins S = Q K^T. */
  SPINDLE__DEVICE void multiply_keys(float (&s)[KEYS / 8][4], uint32_t (&q)[STEPS][4], uint32_t n) {
    using Layout = typename Tile::K;
    const uint32_t k = prim::shared_address(smem.k[n % K_STAGES]);
    prim::mbarrier_wait(at(smem.full_k[n % K_STAGES]), parity<K_STAGES>(n));
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
    using Layout = typename Tile::K;
    const uint32_t v = prim::shared_address(smem.v[n % V_STAGES]);
    prim::mbarrier_wait(at(smem.full_v[n % V_STAGES]), parity<V_STAGES>(n));
    prim::wgmma_fence(o, weights);
    SPINDLE__UNROLL
    for (int step = 0; step < KEYS / 16; ++step)
      prim::wgmma<T, prim::MN_MAJOR>(o, weights[step], Layout::along_rows(v, step), true);
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
      rescale[h] = softmax_row(s, h, scale, maximum[h], sum[h]);
    }
  }

  SPINDLE__DEVICE void scale_sums(const float (&by)[2]) {
    SPINDLE__UNROLL
    for (int i = 0; i < D / 2; ++i) o[i / 4][i % 4] *= by[i % 4 / 2];
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
    pack_weights<T>(s, weights);
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
      pack_weights<T>(s, weights);
    }
    scale_sums(rescale);
    multiply_values(weights, end - 1);
    prim::wgmma_wait<0>(o);
    arrive(smem.empty_v[(end - 1) % V_STAGES]);
  }

  /* A warpgroup without rows lets the tiles pass. */
  SPINDLE__DEVICE void pass_tiles(const Rows &work) {
    for (uint32_t n = work.turn; n < work.turn + work.tiles; ++n) {
      prim::mbarrier_wait(at(smem.full_k[n % K_STAGES]), parity<K_STAGES>(n));
      arrive(smem.empty_k[n % K_STAGES]);
      prim::mbarrier_wait(at(smem.full_v[n % V_STAGES]), parity<V_STAGES>(n));
      arrive(smem.empty_v[n % V_STAGES]);
    }
  }

  SPINDLE__DEVICE void walk_segment(const Rows &work) {
    const int first = 64 * (team.number() - 1);
    const bool works = first<num_rows(work), shared = num_rows(work)> 64;
    const uint32_t tile = prim::shared_address(smem.q);
    uint32_t q[STEPS][4];
    prim::mbarrier_wait(at(smem.full_q), parity<1>(work.queries));
    rotate_queries<T, typename Tile::Q, Tile::RUN, 64>(p, work, tile, p.shape.key_state == SPINDLE_KEYS_RAW, first, team);
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
    SPINDLE__UNROLL
    for (int j = 0; j < D / 8; ++j) {
      const int channel = 8 * j + 2 * (prim::lane() % 4);
      if (channel + 1 < channels)
        row.put2(channel, o[j][2 * h] * factor, o[j][2 * h + 1] * factor);
      else if (channel < channels)
        row.put(channel, o[j][2 * h] * factor);
    }
  }

  SPINDLE__DEVICE void store(const Rows &work) const {
    const spindle__prepared &r = p.state.requests[work.request];
    const bool stores = prim::lane() % 4 == 0;
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = work.row[row_of(h)], head = work.head[row_of(h)];
      const float whole = row_sum(h);
      if (row < 0) continue;
      if (r.work.num_splits > 1) {
        const int64_t partial = partial_row(p, r, work.item.split, row, head);
        if (stores) prim::st_global((float2 *)p.partial_ml + partial, make_float2(maximum[h], whole));
        store_row(GlobalRow<float>::of(p.partial_o, partial * p.o_stride), h, D, 1.0f);
        continue;
      }
      const float factor = finish_row(p, r, row, head, maximum[h], whole, stores);
      const int64_t to = output_row(p, r, row, head);
      if (p.shape.o_dtype == SPINDLE_F32)
        store_row(GlobalRow<float>::of(p.args.o.data, to), h, p.shape.head_dim_v, factor);
      else
        store_row(GlobalRow<T>::of(p.args.o.data, to), h, p.shape.head_dim_v, factor);
    }
  }

  /* Splits in turn: the sums of those before are kept in scratch, by the threads that have them here. */
  SPINDLE__DEVICE GlobalRow<float> kept_row(int h) const {
    return GlobalRow<float>::of(p.whole, ((int64_t)prim::block_x() * Tile::ROWS + row_of(h)) * (p.o_stride + 8));
  }

  SPINDLE__DEVICE void keep() const {
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const GlobalRow<float> to = kept_row(h);
      const float whole = row_sum(h);
      store_row(to, h, D, 1.0f);
      if (prim::lane() % 4 == 0) to.put2(p.o_stride, maximum[h], whole);
    }
    prim::sync_warp();
  }

  SPINDLE__DEVICE void add_splits_before() {
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const GlobalRow<float> from = kept_row(h);
      float2 all = from.get2(p.o_stride);
      const MergeWeights w = merge(all.x, all.y, maximum[h], row_sum(h));
      maximum[h] = all.x;
      sum[h] = prim::lane() % 4 == 0 ? all.y : 0.0f;
      SPINDLE__UNROLL
      for (int j = 0; j < D / 8; ++j) {
        const float2 kept = from.get2(8 * j + 2 * (prim::lane() % 4));
        o[j][2 * h] = merged(w, kept.x, o[j][2 * h]);
        o[j][2 * h + 1] = merged(w, kept.y, o[j][2 * h + 1]);
      }
    }
    prim::sync_warp();
  }

  SPINDLE__DEVICE void run() {
    clear();
    if (team.number() == 2) give_turn(true); /* the first has the first turn */
    for (uint32_t n = 0;; ++n) {
      const Rows &work = smem.work[n % 2];
      prim::mbarrier_wait(at(smem.full_work[n % 2]), parity<2>(n));
      const Step step = work.step;
      if (step == Step::STOP) break;
      if (step == Step::WALK) walk_segment(work);
      if (step == Step::ADD) add_splits_before();
      if (step == Step::KEEP) keep();
      if (step == Step::STORE) store(work);
      if (step == Step::KEEP || step == Step::STORE) clear();
      arrive(smem.empty_work[n % 2]);
    }
    if (team.number() == 1) take_turn(true); /* no barrier is left half full */
  }
};

template <class T, int D, Scores S>
__global__ void __launch_bounds__(Sm90Tile<D, S>::THREADS, 1) prefill_sm90(const __grid_constant__ Sm90Params params) {
  using Tile = Sm90Tile<D, S>;
  Sm90Smem<D, S> &smem = prim::shared<Sm90Smem<D, S>>();
  if (prim::thread_index() == 0) {
    const auto init = [](uint64_t &barrier, uint32_t arrivals) { prim::mbarrier_init(at(barrier), arrivals); };
    for (int i = 0; i < 2; ++i) init(smem.full_work[i], 4), init(smem.empty_work[i], 8);
    for (int i = 0; i < Tile::K_STAGES; ++i) init(smem.landed_k[i], 1), init(smem.full_k[i], 4), init(smem.empty_k[i], 8);
    for (int i = 0; i < Tile::V_STAGES; ++i) init(smem.full_v[i], 4), init(smem.empty_v[i], 8);
    init(smem.full_q, 4), init(smem.empty_q, 8);
    Sm90Work<Tile::ROWS> &before = smem.work[1]; /* the first step comes after what ends an item */
    before.step = Step::STORE;
    before.number = ~0u;
    before.turn = before.queries = 0;
    prim::fence_mbarrier_init();
  }
  prim::sync_block();
  if (Warpgroup::number() == 0) {
    prim::setmaxnreg_dec<Tile::PRODUCER>();
    const Sm90Producer<T, D, S> producer(params);
    producer.run();
  } else {
    prim::setmaxnreg_inc<Tile::CONSUMER>();
    Sm90Consumer<T, D, S> consumer(params);
    consumer.run();
  }
}

}  // namespace spindle

#endif
