/* The warpgroup of the Hopper kernel (prefill_sm90.cuh) that takes items, makes each next step and brings Q, K and V. */
#ifndef SPINDLE_KERNELS_SM90_PRODUCER_CUH
#define SPINDLE_KERNELS_SM90_PRODUCER_CUH

#include "queries.cuh"
#include "sm90_tile.cuh"

namespace spindle {

/* E: what K and V are stored in. */
template <class T, class E, int D, int DV, Scores S>
struct Sm90Producer {
  using Tile = Sm90Tile<D, DV, S>;
  using Smem = Sm90Smem<D, DV, S>;
  static constexpr int KEYS = Tile::KEYS, K_STAGES = Tile::K_STAGES, V_STAGES = Tile::V_STAGES;
  static constexpr bool EXPANDS = sizeof(E) == 1;
  /* Warp 0 brings K, warp 1 V; so these are of the others. */
  static constexpr int LOOKS_AHEAD = 2, DESCRIBES = 3;
  static_assert(32 / (KEYS / LEAST_BOX) > 2, "a table is filled when the last V before it has been brought");

  using Job = Sm90Work<Tile::ROWS>;

  const Sm90Params &params;
  const spindle__attention_params &p;
  Smem &smem;
  Warpgroup team;

  SPINDLE__DEVICE Sm90Producer(const Sm90Params &all) : params(all), p(all.attention), smem(prim::shared<Smem>()) {}

  /* A tile from the cache, whose first box it is, or tile x of the segment from the copy that it reads; by one warp. */
  template <class Layout>
  SPINDLE__DEVICE void load_cached(uint32_t tile, const CUtensorMap &map, const Job &work, int first, uint64_t &barrier) const {
    const uint32_t to = EXPANDS ? landing_of<Layout>(tile) : tile;
    load_boxes<Layout, sizeof(E)>(to, map, params.boxes.rows, work.kv_head, address(barrier), [&](int box) -> BoxPlace {
      return {smem.ahead.row[first + box], smem.ahead.page[first + box]};
    });
  }
  SPINDLE__DEVICE void load_rotated(uint32_t tile, const Job &work, int x, uint64_t &barrier) const {
    const spindle__prepared &r = p.state.requests[work.request];
    const int64_t row = r.rotated_at + work.source.copy * r.num_slots + work.slot0 + (int64_t)x * KEYS;
    load_boxes<typename Tile::K, 2>(tile, *smem.rotated_map, KEYS, work.kv_head - p.kv_begin, address(barrier),
                                    [&](int) -> BoxPlace {
                                      return {(int)row, 0};
                                    });
  }

  /* Between two barriers: e4m3 becomes To. */
  template <class To, class Layout>
  SPINDLE__DEVICE void expand(uint32_t tile) const {
    expand_landed<To, Layout, 128, KEYS % 64 ? 1 : 2>(tile, team);
  }

  /* Whether there is work on K between its landing and its release. A pre-rotated copy holds T. */
  SPINDLE__DEVICE static bool expands(const Job &work) { return EXPANDS && work.source.copy < 0; }
  SPINDLE__DEVICE static bool changes(const Job &work) { return expands(work) || work.source.rotate; }

  /* Whether K of a tile comes by TMA. */
  SPINDLE__DEVICE bool boxed(const Job &work, const KeyTile<KEYS> &keys) const {
    return (params.boxes.rows || work.source.copy >= 0) && all_valid(keys);
  }

  SPINDLE__DEVICE void look_ahead(const Job &work, int x, int table) const {
    if (prim::warp() == LOOKS_AHEAD) find_boxes(p, work, params.boxes, work.slot0 + (int64_t)x * KEYS, KEYS, smem.ahead, table);
  }

  /* Tile x's first box. `begins`: of the tiles that are brought one by one, the first. The table that tile x + 1 begins is filled
   * while the other is used. */
  SPINDLE__DEVICE int first_box(const Job &work, int x, bool begins) const {
    const uint32_t n = work.turn + x;
    int first = 0;
    if (begins) {
      look_ahead(work, x, 0);
      team.sync();
    } else {
      first = next_box(params.boxes, smem.ahead, smem.first_box[(n - 1) % (K_STAGES + 1)]);
    }
    const int next = next_box(params.boxes, smem.ahead, first);
    if (next % 32 == 0) look_ahead(work, x + 1, next / 32);
    if (team.thread() == 0) smem.first_box[n % (K_STAGES + 1)] = first;
    return first;
  }

  /* Columns of tile x of the segment, and the start of K's copies. */
  SPINDLE__DEVICE void begin_keys(const Job &work, int x, bool begins) const {
    const uint32_t n = work.turn + x, stage = n % K_STAGES;
    KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    prim::mbarrier_wait(address(smem.empty_k[stage]), parity<K_STAGES>(n) ^ 1);
    const int first = params.boxes.rows ? first_box(work, x, begins) : 0;
    if (team.thread() < KEYS) {
      if (params.boxes.rows && tile_is_whole(params.boxes, smem.ahead, first))
        set_whole_tile(p, work, work.source, params.boxes, smem.ahead, first, work.slot0 + (int64_t)x * KEYS, keys,
                       team.thread());
      else
        find_keys<E>(p, work, work.source, x, keys, team.thread());
    }
    team.sync();
    const bool by_tma = boxed(work, keys);
    if (team.thread() == 32 * DESCRIBES) {
      const Columns columns = columns_of(p, work, keys);
      Columns &to = smem.columns[n % (K_STAGES + 1)]; /* by members: the check build sees no copies of structs */
      to.full = columns.full;
      to.affine = columns.affine;
      to.base = columns.base;
      if (!by_tma || !changes(work)) prim::mbarrier_arrive(address(smem.landed_k[stage])); /* every tile is a turn of it */
    }
    const uint32_t tile = prim::shared_address(smem.k[stage]);
    if (!by_tma) {
      copy_to_panels<typename Tile::K, KEYS, 128>(expands(work), tile, keys.k, keys.valid, p.shape.head_dim_qk, team.thread());
      return;
    }
    uint64_t &barrier = changes(work) ? smem.landed_k[stage] : smem.full_k[stage];
    if (prim::warp() == 0 && work.source.copy >= 0)
      load_rotated(tile, work, x, barrier);
    else if (prim::warp() == 0)
      load_cached<typename Tile::K>(tile, *smem.k_map, work, first, barrier);
    else if (!changes(work))
      arrive(barrier);
  }

  /* Waits for K of tile x. false: its own bytes give it to the consumers. */
  SPINDLE__DEVICE bool land_keys(const Job &work, int x) const {
    const uint32_t n = work.turn + x, stage = n % K_STAGES;
    const KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    if (!boxed(work, keys)) {
      prim::cp_async_wait_all();
      team.sync();
    } else if (changes(work)) {
      prim::mbarrier_wait(address(smem.landed_k[stage]), parity<K_STAGES>(n));
    } else {
      return false;
    }
    return true;
  }

  SPINDLE__DEVICE void expand_keys(const Job &work, int x) const {
    expand<T, typename Tile::K>(prim::shared_address(smem.k[(work.turn + x) % K_STAGES]));
    if (work.source.rotate) team.sync();
  }

  SPINDLE__DEVICE void rotate_keys(const Job &work, int x) const {
    const uint32_t n = work.turn + x;
    const KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    Rotation rotation = key_rotation(p, work);
    rotation.decays = work.decays; /* no double that is compared at every row */
    rotate_tile<T, typename Tile::K, Tile::RUN>(prim::shared_address(smem.k[n % K_STAGES]), KEYS, rotary_of(p.shape), rotation,
                                                keys.position, keys.distance, team.thread(), team.threads());
  }

  /* The start of V's copies. */
  SPINDLE__DEVICE void begin_values(const Job &work, int x) const {
    const uint32_t n = work.turn + x, stage = n % V_STAGES, tile = prim::shared_address(smem.v[stage]);
    const KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
    prim::mbarrier_wait(address(smem.empty_v[stage]), parity<V_STAGES>(n) ^ 1);
    if (params.boxes.rows && all_valid(keys)) {
      if (prim::warp() == 1)
        load_cached<typename Tile::V>(tile, *smem.v_map, work, smem.first_box[n % (K_STAGES + 1)],
                                      EXPANDS ? smem.landed_v[stage] : smem.full_v[stage]);
      else if (!EXPANDS)
        arrive(smem.full_v[stage]);
      return;
    }
    if (EXPANDS && team.thread() == 0) prim::mbarrier_arrive(address(smem.landed_v[stage]));
    copy_to_panels<typename Tile::V, KEYS, 128>(EXPANDS, tile, keys.v, keys.valid, p.shape.head_dim_v, team.thread());
  }

  /* V is given to the consumers, unless its own bytes do that. */
  SPINDLE__DEVICE void finish_values(const Job &work, int x) const {
    const uint32_t n = work.turn + x, stage = n % V_STAGES;
    const bool by_threads = !params.boxes.rows || !all_valid(smem.keys[n % (K_STAGES + 1)]);
    if (by_threads) prim::cp_async_wait_all();
    if constexpr (EXPANDS) {
      prim::mbarrier_wait(address(smem.landed_v[stage]), parity<V_STAGES>(n));
      if (by_threads) team.sync();
      expand<ValueType<T, E>, typename Tile::V>(prim::shared_address(smem.v[stage]));
    }
    if (!EXPANDS && !by_threads) return;
    prim::fence_proxy_async();
    arrive(smem.full_v[stage]);
  }

  SPINDLE__DEVICE int32_t &at() const { return smem.at[team.thread()]; }
  SPINDLE__DEVICE bool begins() const { return at() == smem.begin[team.thread()]; }

  SPINDLE__DEVICE void land_queries() const {
    prim::cp_async_wait_all();
    arrive(smem.full_q);
  }

  /* ---- Tiles one by one: the warps together, K a tile ahead of V ---- */

  SPINDLE__DEVICE void bring_tiles(const Job &work, int begin) const {
    smem.begin[team.thread()] = begin;
    SPINDLE__NO_UNROLL
    for (at() = begin; at() <= work.tiles; ++at()) {
      if (at() < work.tiles) begin_keys(work, at(), begins());
      if (at() == 0) land_queries();
      if (begins()) continue;
      if (EXPANDS) begin_values(work, at() - 1); /* they land behind the work on K */
      if (land_keys(work, at() - 1)) {
        if (expands(work)) expand_keys(work, at() - 1);
        if (work.source.rotate) rotate_keys(work, at() - 1);
        prim::fence_proxy_async();
        arrive(smem.full_k[(work.turn + at() - 1) % K_STAGES]);
      }
      if (!EXPANDS) begin_values(work, at() - 1);
      finish_values(work, at() - 1);
    }
  }

  /* ---- Tiles that are whole and stay as they come: each warp at its own pace ---- */

  SPINDLE__DEVICE bool streams(const Job &work) const {
    return !EXPANDS && params.boxes.rows && !work.source.rotate && (p.batch.shard_count == 1 || p.batch.page_index);
  }

  /* Tiles [x, end) of the segment; box: tile x's first. */
  SPINDLE__DEVICE void stream_keys(const Job &work, int x, int end, int box) const {
    SPINDLE__NO_UNROLL
    for (; x < end; ++x, box += params.boxes.in_tile) {
      const uint32_t n = work.turn + x, stage = n % K_STAGES, tile = prim::shared_address(smem.k[stage]);
      prim::mbarrier_wait(address(smem.empty_k[stage]), parity<K_STAGES>(n) ^ 1);
      if (work.source.copy >= 0)
        load_rotated(tile, work, x, smem.full_k[stage]);
      else
        load_cached<typename Tile::K>(tile, *smem.k_map, work, box, smem.full_k[stage]);
      if (x == 0) land_queries();
    }
  }
  SPINDLE__DEVICE void stream_values(const Job &work, int x, int end, int box) const {
    SPINDLE__NO_UNROLL
    for (; x < end; ++x, box += params.boxes.in_tile) {
      const uint32_t n = work.turn + x, stage = n % V_STAGES;
      prim::mbarrier_wait(address(smem.empty_v[stage]), parity<V_STAGES>(n) ^ 1);
      load_cached<typename Tile::V>(prim::shared_address(smem.v[stage]), *smem.v_map, work, box, smem.full_v[stage]);
      if (prim::lane() > 0 && prim::lane() < 4) prim::mbarrier_arrive(address(smem.full_v[stage])); /* for the other warps */
      if (x == 0) land_queries();
    }
  }
  SPINDLE__DEVICE void describe_tiles(const Job &work, int x, int end, int box) const {
    SPINDLE__NO_UNROLL
    for (; x < end; ++x, box += params.boxes.in_tile) {
      const uint32_t n = work.turn + x, stage = n % K_STAGES;
      KeyTile<KEYS> &keys = smem.keys[n % (K_STAGES + 1)];
      const int64_t base = smem.ahead.index[box], last = index_of_column<KEYS>(params.boxes, smem.ahead, box, KEYS - 1);
      const bool affine = last - base == KEYS - 1; /* indices ascend */
      prim::mbarrier_wait(address(smem.empty_k[stage]), parity<K_STAGES>(n) ^ 1);
      SPINDLE__NO_UNROLL
      for (int column = prim::lane(); !affine && column < KEYS; column += 32)
        keys.index[column] = index_of_column<KEYS>(params.boxes, smem.ahead, box, column);
      if (prim::lane() < KEYS / 32) keys.valid[prim::lane()] = ~0u;
      if (prim::lane() == 0) {
        Columns &columns = smem.columns[n % (K_STAGES + 1)];
        columns.full = base >= work.full_from && last <= work.full_to;
        columns.affine = affine;
        columns.base = base;
        prim::mbarrier_arrive(address(smem.landed_k[stage])); /* every tile is a turn of it */
      }
      prim::sync_warp();
      if (prim::lane() < 3) prim::mbarrier_arrive(address(smem.full_k[stage])); /* for the other warps */
      if (x == 0) land_queries();
    }
  }

  /* Up to the first that is none of these. Returns how many; if there is any, Q has landed. */
  SPINDLE__DEVICE int stream_tiles(const Job &work) const {
    const int in_table = 32 / params.boxes.in_tile;
    look_ahead(work, 0, 0);
    for (int x = 0, table = 0;; table ^= 1) {
      int end = x, box = 32 * table;
      team.sync();
      for (; end < x + in_table && tile_is_whole(params.boxes, smem.ahead, box); ++end) box += params.boxes.in_tile;
      if (prim::warp() == 0) stream_keys(work, x, end, 32 * table);
      if (prim::warp() == 1) stream_values(work, x, end, 32 * table);
      if (prim::warp() == DESCRIBES) describe_tiles(work, x, end, 32 * table);
      if (prim::warp() == LOOKS_AHEAD && x == 0 && end > 0) land_queries();
      if (end < x + in_table || end == work.tiles) return end;
      look_ahead(work, end, table ^ 1);
      x = end;
    }
  }

  /* The segment at work: Q, K and V. */
  SPINDLE__DEVICE void bring_segment(const Job &work) const {
    int begin = 0;
    prim::mbarrier_wait(address(smem.empty_q), parity<1>(work.queries) ^ 1);
    copy_queries<typename Tile::Q>(p, work, prim::shared_address(smem.q), team);
    if (streams(work)) {
      begin = stream_tiles(work);
      if (begin == work.tiles) return;
      team.sync(); /* the tables are free */
    }
    bring_tiles(work, begin);
  }

  /* An item's part of the step before, to go on from. */
  SPINDLE__DEVICE void carry_on(Job &work, const Job &before) const {
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

  SPINDLE__DEVICE void set_tiles(Job &work) const {
    work.slot0 &= -(int64_t)Tile::MOST_BOX;
    work.tiles = (int)((work.slot1 - work.slot0 + KEYS - 1) / KEYS);
    const KeySource source =
        key_source(p.state.requests[work.request], work.segment->k_map, p.shape.key_state == SPINDLE_KEYS_RAW);
    work.source.copy = source.copy; /* by members, too */
    work.source.rotate = source.rotate;
    work.decays = p.state.requests[work.request].scale_base > 0;
  }

  /* The step after `before`. */
  SPINDLE__DEVICE void find_step(Job &work, const Job &before) const {
    if (team.thread() == 0) work.number = before.number + 1;
    if (before.step == Step::STORE) {
      if (team.thread() == 0) next_item(p, work);
      team.sync();
      if (work.step == Step::STOP) return;
      begin_item(p, work);
    } else {
      carry_on(work, before);
    }
    team.sync();
    if (team.thread() == 0) {
      const bool walked = before.step == Step::WALK;
      work.turn = before.turn + (walked ? before.tiles : 0);
      work.queries = before.queries + walked;
      work.step = next_step(p, work);
      if (work.step == Step::WALK) set_tiles(work);
    }
    team.sync();
    if (work.step == Step::WALK) place_rows(p, work);
  }

  SPINDLE__DEVICE void run() const {
    for (uint32_t n = 0;;) {
      Job &work = smem.work[n % 2];
      prim::mbarrier_wait(address(smem.empty_work[n % 2]), parity<2>(n) ^ 1);
      find_step(work, smem.work[(n + 1) % 2]);
      const Step step = work.step;
      arrive(smem.full_work[work.number % 2]);
      if (step == Step::STOP) return;
      if (step == Step::WALK) bring_segment(work);
      n = work.number + 1;
    }
  }
};

}  // namespace spindle

#endif
