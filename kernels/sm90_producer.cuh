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
  /* Warps. */
  static constexpr int BRINGS_K = 0, BRINGS_V = 1, LOOKS_AHEAD = 2, DESCRIBES = 3;

  using Job = Sm90Work<Tile::ROWS>;

  const Sm90Params &params;
  const spindle__attention_params &p;
  Smem &smem;
  Warpgroup team;

  SPINDLE__DEVICE Sm90Producer(const Sm90Params &all) : params(all), p(all.attention), smem(prim::shared<Smem>()) {}

  /* Of the block's n-th tile: work.turn + x is tile x of the segment. */
  SPINDLE__DEVICE uint64_t &landed_k(uint32_t n) const { return smem.landed_k[n % K_STAGES]; }
  SPINDLE__DEVICE uint64_t &landed_v(uint32_t n) const { return smem.landed_v[n % V_STAGES]; }
  SPINDLE__DEVICE uint64_t &full_k(uint32_t n) const { return smem.full_k[n % K_STAGES]; }
  SPINDLE__DEVICE uint64_t &full_v(uint32_t n) const { return smem.full_v[n % V_STAGES]; }
  SPINDLE__DEVICE uint32_t tile_k(uint32_t n) const { return prim::shared_address(smem.k[n % K_STAGES]); }
  SPINDLE__DEVICE uint32_t tile_v(uint32_t n) const { return prim::shared_address(smem.v[n % V_STAGES]); }
  SPINDLE__DEVICE KeyTile<KEYS> &keys_of(uint32_t n) const { return smem.keys[n % (K_STAGES + 1)]; }

  SPINDLE__DEVICE Columns &columns_of_tile(uint32_t n) const { return smem.columns[n % (K_STAGES + 1)]; }
  SPINDLE__DEVICE static int64_t slot_of(const Job &work, int x) { return work.slot0 + (int64_t)x * KEYS; }

  SPINDLE__DEVICE void free_k(uint32_t n) const {
    prim::mbarrier_wait(address(smem.empty_k[n % K_STAGES]), parity<K_STAGES>(n) ^ 1);
  }
  SPINDLE__DEVICE void free_v(uint32_t n) const {
    prim::mbarrier_wait(address(smem.empty_v[n % V_STAGES]), parity<V_STAGES>(n) ^ 1);
  }

  /* In shared memory, where it is in no register while keys are rotated. */
  SPINDLE__DEVICE Run &at() const { return smem.run[team.thread()]; }

  /* Whether there is work on K between its landing and its release. A pre-rotated copy holds T. */
  SPINDLE__DEVICE static bool expands(const Job &work) { return EXPANDS && work.source.copy < 0; }
  SPINDLE__DEVICE static bool changes(const Job &work) { return expands(work) || work.source.rotate; }

  SPINDLE__DEVICE void land_queries() const {
    prim::cp_async_wait_all();
    arrive(smem.full_q);
  }

  /* ---- Work on what has landed ---- */

  /* Between two barriers: e4m3 becomes To. */
  template <class To, class Layout>
  SPINDLE__DEVICE void expand(uint32_t tile) const {
    expand_landed<To, Layout, 128, KEYS % 64 ? 1 : 2>(tile, team);
  }

  SPINDLE__DEVICE void rotate_keys(const Job &work, uint32_t n) const {
    const KeyTile<KEYS> &keys = keys_of(n);
    Rotation rotation = key_rotation(p, work);
    rotation.decays = work.decays; /* no double that is compared at every row */
    rotate_tile<T, typename Tile::K, Tile::RUN, (Tile::PRODUCER > 96)>(
        tile_k(n), KEYS, rotary_of(p.shape), rotation, keys.position, keys.distance, team.thread(), team.threads());
  }

  /* K of the tile before the one that a thread is at is expanded, rotated, and given to the consumers. */
  SPINDLE__DEVICE void finish_keys(const Job &work) const {
    const auto n = [&] { return work.turn + at().tile - 1; }; /* neither */
    prim::mbarrier_wait(address(landed_k(n())), parity<K_STAGES>(n()));
    if (expands(work)) {
      expand<T, typename Tile::K>(tile_k(n()));
      if (work.source.rotate) team.sync();
    }
    if (work.source.rotate) rotate_keys(work, n());
    prim::fence_proxy_async();
    arrive(full_k(n()));
  }

  SPINDLE__DEVICE void finish_values(uint32_t n) const {
    if constexpr (EXPANDS) {
      prim::mbarrier_wait(address(landed_v(n)), parity<V_STAGES>(n));
      expand<ValueType<T, E>, typename Tile::V>(tile_v(n));
    }
    prim::fence_proxy_async();
    arrive(full_v(n));
  }

  /* ---- Tiles with slots that hold no key, and caches that boxes do not fit: copied by threads ---- */

  SPINDLE__DEVICE void copy_keys(const Job &work, int x) const {
    const uint32_t n = work.turn + x;
    KeyTile<KEYS> &keys = keys_of(n);
    free_k(n);
    if (team.thread() < KEYS) find_keys<E>(p, work, work.source, x, keys, team.thread());
    team.sync();
    if (team.thread() == 0) {
      set_columns(columns_of_tile(n), columns_of(p, work, keys));
      prim::mbarrier_arrive(address(landed_k(n))); /* every tile is a turn of it */
    }
    copy_to_panels<typename Tile::K, KEYS, 128>(expands(work), tile_k(n), keys.k, keys.valid, p.shape.head_dim_qk, team.thread());
  }

  SPINDLE__DEVICE void copy_values(uint32_t n) const {
    const KeyTile<KEYS> &keys = keys_of(n);
    free_v(n);
    if (EXPANDS && team.thread() == 0) prim::mbarrier_arrive(address(landed_v(n)));
    copy_to_panels<typename Tile::V, KEYS, 128>(EXPANDS, tile_v(n), keys.v, keys.valid, p.shape.head_dim_v, team.thread());
  }

  /* ---- Whole tiles, in boxes ---- */

  /* A tile, whose first box it is, from the cache; by one warp. */
  template <class Layout>
  SPINDLE__DEVICE void load_cached(uint32_t tile, const CUtensorMap &map, const Job &work, int first, uint64_t &barrier) const {
    const uint32_t to = EXPANDS ? landing_of<Layout>(tile) : tile;
    load_boxes<Layout, sizeof(E)>(to, map, params.boxes.rows, work.kv_head, address(barrier), [&](int box) -> BoxPlace {
      return {smem.ahead.row[first + box], smem.ahead.page[first + box]};
    });
  }

  /* K of tile x, whose first box it is, from the cache or from the copy that the segment reads. */
  SPINDLE__DEVICE void load_keys(const Job &work, int x, int first, uint64_t &barrier) const {
    const uint32_t tile = tile_k(work.turn + x);
    if (work.source.copy < 0) {
      load_cached<typename Tile::K>(tile, *smem.k_map, work, first, barrier);
      return;
    }
    const spindle__prepared &r = p.state.requests[work.request];
    const int64_t row = r.rotated_at + work.source.copy * r.num_slots + slot_of(work, x);
    load_boxes<typename Tile::K, 2>(tile, *smem.rotated_map, KEYS, work.kv_head - p.kv_begin, address(barrier),
                                    [&](int) -> BoxPlace {
                                      return {(int)row, 0};
                                    });
  }

  /* V of tile n; its arrivals are for all warps. */
  SPINDLE__DEVICE void bring_values(const Job &work, uint32_t n, int first) const {
    free_v(n);
    load_cached<typename Tile::V>(tile_v(n), *smem.v_map, work, first, EXPANDS ? landed_v(n) : full_v(n));
    if (!EXPANDS && prim::lane() > 0 && prim::lane() < 4) prim::mbarrier_arrive(address(full_v(n)));
  }

  /* That stay as they come: each warp at its own pace. Tiles [x, end) of the segment, of which `first` is the first box. */
  SPINDLE__DEVICE void stream_tiles(const Job &work, int x, int end, int first) const {
    SPINDLE__NO_UNROLL
    for (; x < end && prim::warp() != LOOKS_AHEAD; ++x, first += params.boxes.in_tile) {
      const uint32_t n = work.turn + x;
      if (prim::warp() == BRINGS_V)
        bring_values(work, n, first);
      else
        free_k(n);
      if (prim::warp() == BRINGS_K) load_keys(work, x, first, full_k(n));
      if (prim::warp() == DESCRIBES) {
        describe_whole_tile(p, work, params.boxes, smem.ahead, first, slot_of(work, x), keys_of(n), columns_of_tile(n));
        if (prim::lane() < 3) prim::mbarrier_arrive(address(full_k(n)));
        if (prim::lane() == 3) prim::mbarrier_arrive(address(landed_k(n)));
      }
      if (x == 0) land_queries();
    }
    if (prim::warp() == LOOKS_AHEAD && x == 0) land_queries();
  }

  /* The start of one that is to be worked on. */
  SPINDLE__DEVICE void begin_work(const Job &work, int x, int first) const {
    const uint32_t n = work.turn + x;
    KeyTile<KEYS> &keys = keys_of(n);
    free_k(n);
    if (prim::warp() == BRINGS_K) load_keys(work, x, first, changes(work) ? landed_k(n) : full_k(n));
    if (prim::warp() == DESCRIBES) {
      describe_whole_tile(p, work, params.boxes, smem.ahead, first, slot_of(work, x), keys, columns_of_tile(n));
      if (!changes(work) && prim::lane() < 3) prim::mbarrier_arrive(address(full_k(n)));
      if (!changes(work) && prim::lane() == 3) prim::mbarrier_arrive(address(landed_k(n)));
    }
    if (work.source.rotate && team.thread() < KEYS)
      set_position(work, keys, team.thread(),
                   index_of_column<KEYS>(p, work, params.boxes, smem.ahead, first, slot_of(work, x), team.thread()), true);
  }

  /* ---- A segment ---- */

  /* The run at work, tile by tile, by the warps together: tiles that are copied, expanded or rotated. V is a tile behind K, and
   * its release another. */
  SPINDLE__DEVICE void work_on_tiles(const Job &work) const {
    SPINDLE__NO_UNROLL
    for (at().tile = at().begin; at().tile <= at().end + 1; ++at().tile) {
      const bool has_k = at().tile < at().end;
      const bool has_v = at().begin < at().tile && at().tile <= at().end;
      if (at().whole) {
        const int first = at().first + (at().tile - at().begin) * params.boxes.in_tile;
        if (has_k) begin_work(work, at().tile, first);
        if (has_v && prim::warp() == BRINGS_V) bring_values(work, work.turn + at().tile - 1, first - params.boxes.in_tile);
      } else {
        if (has_k) copy_keys(work, at().tile);
        if (has_v) copy_values(work.turn + at().tile - 1);
        prim::cp_async_wait_all();
      }
      team.sync();
      if (at().tile == 0) land_queries();
      if (has_v && (!at().whole || changes(work))) finish_keys(work);
      if (at().tile > at().begin + 1 && (!at().whole || EXPANDS)) finish_values(work.turn + at().tile - 2);
    }
  }

  /* The next run begins at tile at().end, of which at().first is the first box: as many as are whole, or as are not. */
  SPINDLE__DEVICE void set_run() const {
    const uint32_t all = params.boxes.rows ? boxes_of_a_tile(params.boxes) : ~0u;
    uint32_t rest = params.boxes.rows ? smem.ahead.whole[at().table] >> at().first % 32 : 0;
    const bool whole = (rest & all) == all;
    int end = at().end;
    at().begin = end;
    do ++end, rest >>= params.boxes.in_tile;
    while (end < at().table_end && ((rest & all) == all) == whole);
    at().end = end;
    at().whole = whole;
  }

  SPINDLE__DEVICE void look_ahead(const Job &work, int x, int table) const {
    if (prim::warp() == LOOKS_AHEAD && params.boxes.rows)
      find_boxes(p, work, params.boxes, slot_of(work, x), KEYS, smem.ahead, table);
  }

  /* Q, then K and V: table by table of the boxes to come. While one is used, the next is filled. */
  SPINDLE__DEVICE void bring_segment(const Job &work) const {
    prim::mbarrier_wait(address(smem.empty_q), parity<1>(work.queries) ^ 1);
    copy_queries<typename Tile::Q>(p, work, prim::shared_address(smem.q), team);
    look_ahead(work, 0, 0);
    SPINDLE__NO_UNROLL
    for (at().end = at().table = 0; at().end < work.tiles; at().table ^= 1) {
      at().table_end = params.boxes.rows ? min(at().end + 32 / params.boxes.in_tile, work.tiles) : work.tiles;
      at().first = 32 * at().table;
      team.sync();
      if (at().table_end < work.tiles) look_ahead(work, at().table_end, at().table ^ 1);
      SPINDLE__NO_UNROLL
      while (at().end < at().table_end) {
        set_run();
        if (at().whole && !EXPANDS && !work.source.rotate)
          stream_tiles(work, at().begin, at().end, at().first);
        else
          work_on_tiles(work);
        at().first += (at().end - at().begin) * params.boxes.in_tile;
      }
    }
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
    const KeySource source = key_source(p, p.state.requests[work.request], work.segment->k_map);
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
