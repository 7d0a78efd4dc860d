/* Attention of few query rows over many keys, for every device from sm_80 on: up to 16 packed rows (row x query heads of one KV
 * head), so one mma tile.
 *
 * Work. A block takes items from the step's list of few-row requests. An item is the rows of a KV head and, if the request is
 * split, a part of its keys. Warps share the keys: tile x of a segment (KEYS slots) is warp x mod WARPS's, which copies, rotates,
 * scores and weighs it on its own, with sums of its own; at the part's end the warps' sums are merged in their order. No two
 * warps read the same key, and within a segment no warp waits for another.
 *
 * Floors (D = 128, bf16, 32/8 heads; per 64 keys of a warp: 32 KB of K and V). Memory: an H200 copies 4.3 TB/s, 18.6 bytes a clk
 * and SM: 1760 clk. Shared memory: written 32 KB, read 32 KB by ldmatrix, and for raw keys 16 KB read and written by the
 * rotation: 96 KB at 128 bytes a clk, 750 clk. Issue slots: copies 150 (pages of 16: 280; by threads 1060), what else a tile
 * takes about 860, rotation 3100: 1030 clk of the four schedulers. So both keep below the memory floor, raw keys too.
 * Latency, which is what few warps have most of (counted, tests/budgets/latency.py; waits for memory apart): a warp takes 3300
 * clk for a tile of rotated keys, 7900 for one of raw keys, and five warps have 8800 of memory's time. In flight: a warp's K is
 * copied while its V is used and the other way round; five warps have 80 KB under way on average, where 15 KB cover 800 clk. Not
 * measured yet. K and V of e4m3 (e4m3.cuh) are half the bytes, 880 clk, and half as many under way. Expanding takes a warp 1100
 * clk (K) and 770 (V): 1030 clk a tile for five warps, but 1960 where raw keys are rotated, who gain room by e4m3 and no time.
 *
 * Copies. A tile in which every slot holds a key comes by TMA where the device has it (sm_90 and later): a box a panel, as high
 * as the tile or the page. Other tiles (the last of a request, holes, pages of odd sizes), and all on other devices, come by
 * cp.async, in which rows without a key are zeros: 0 x NaN would reach the output. Tiles begin at slots that are multiples of
 * KEYS, so neither which keys share a tile nor a bit of the result depends on how they come.
 *
 * Registers (D = 128): O 64, S 32, fragments 20, row state 6. Shared memory: rows, Q and two sets of merged sums (22 KB at D =
 * 128), and 37 KB a warp: as many warps as fit, up to 8, so the block size is the launch's.
 *
 * Protocol of a warp, per tile: [K(x), V(x) under way, V later] wait for K [expand] [rotate] -> scores; sync_warp (K is free) ->
 * columns and copies of the warp's next K -> softmax -> wait for V [expand] -> O += P V (V is free) -> copies of the next V.
 * Groups of cp.async are committed in this order, empty ones too, so one pending group is always the later one; boxes of K and of
 * V have an mbarrier each, whose phases are the tiles that came so. Whoever has written to K or V (copies by threads, expansion,
 * rotation, sums) publishes it: fence_proxy_async, for boxes may land there next, then sync_warp.
 * Blocks meet at steps (work.cuh) and when sums are merged.
 *
 * Numerics. As prefill_sm80.cuh; the same rotation, so the same bits of a rotated key. */
#ifndef SPINDLE_KERNELS_DECODE_CUH
#define SPINDLE_KERNELS_DECODE_CUH

#include "boxes.cuh"
#include "merge.cuh"
#include "output.cuh"
#include "queries.cuh"
#include "rows.cuh"
#include "scores.cuh"

namespace spindle {

constexpr int DECODE_ROWS = SPINDLE__DECODE_ROWS, DECODE_MOST_WARPS = 8;

template <int D>
struct DecodeTile {
  static constexpr int KEYS = D == 256 ? 32 : 64; /* D = 256: 64 would leave room for three warps */
  static constexpr int N = KEYS / 8, C = D == 96 ? 6 : 8, CHUNKS = D / 8 / C;
  using K = Panels<D, KEYS>; /* V too */
};

struct DecodeParams {
  spindle__attention_params attention;
  CacheBoxes boxes;
};

template <int D>
struct DecodeWarp {
  alignas(1024) unsigned char k[DecodeTile<D>::K::BYTES]; /* later the warp's sums: O [16][D] */
  alignas(1024) unsigned char v[DecodeTile<D>::K::BYTES]; /* their maxima [16] and sums [16] */
  KeyTile<DecodeTile<D>::KEYS> keys[2];
  Columns columns[2];
  BoxesAhead<1, 16> ahead; /* 32 would cost a block of sm_80 a warp at D = 64 */
  uint64_t landed[2];      /* K's boxes; V's */
  uint64_t seen[DECODE_ROWS];

  SPINDLE__DEVICE float *rows() { return reinterpret_cast<float *>(k); }
  SPINDLE__DEVICE float *maxima() { return reinterpret_cast<float *>(v); }
  SPINDLE__DEVICE float *sums() { return maxima() + DECODE_ROWS; }
};

/* Sums of rows, merged. */
template <int D>
struct DecodeSums {
  float o[DECODE_ROWS][D], maximum[DECODE_ROWS], sum[DECODE_ROWS];
};

template <int D>
struct DecodeSmem {
  alignas(128) unsigned char q[DECODE_ROWS * 2 * D];
  Work<DECODE_ROWS> work;
  DecodeSums<D> part, whole; /* of the part that has been walked; of the parts before it, where a block walks them in turn */
  DecodeWarp<D> warp[1];     /* as many as the block has */
};

/* A warp as a team (queries.cuh). */
struct OneWarp {
  SPINDLE__DEVICE static int thread() { return prim::lane(); }
  SPINDLE__DEVICE static void sync() { prim::sync_warp(); }
};

/* E: what K and V are stored in. */
template <class T, class E, int D>
struct Decode {
  using Shape = DecodeTile<D>;
  using Layout = typename Shape::K;
  using Warp = DecodeWarp<D>;
  static constexpr int N = Shape::N, C = Shape::C, CHUNKS = Shape::CHUNKS, KEYS = Shape::KEYS;
  static constexpr bool EXPANDS = sizeof(E) == 1;
  using Value = ValueType<T, E>;

  const spindle__attention_params &p;
  const CacheBoxes &boxes;
  DecodeSmem<D> &smem;
  float o[CHUNKS][C][4], maximum[2], sum[2];
  int first_box = 0;  /* of the tile found last, in `ahead` */
  uint32_t turns = 0; /* bit i: parity of the phase that landed[i] is in */

  SPINDLE__DEVICE Decode(const DecodeParams &params)
      : p(params.attention), boxes(params.boxes), smem(prim::shared<DecodeSmem<D>>()) {}

  SPINDLE__DEVICE const spindle__prepared &request() const { return p.state.requests[smem.work.request]; }
  SPINDLE__DEVICE Warp &warp() const { return smem.warp[prim::warp()]; }
  SPINDLE__DEVICE bool has_boxes() const { return prim::BULK_COPIES && boxes.rows; }
  SPINDLE__DEVICE static int row_of(int h) { return 8 * h + prim::lane() / 4; }

  SPINDLE__DEVICE void clear() {
    SPINDLE__UNROLL
    for (int i = 0; i < CHUNKS * C * 4; ++i) o[i / (4 * C)][i / 4 % C][i % 4] = 0.0f;
    maximum[0] = maximum[1] = -INFINITY;
    sum[0] = sum[1] = 0.0f;
  }

  /* ---- One tile ---- */

  /* Tile x, of this warp's the next, or the first of a segment: its boxes and columns. Between two sync_warps. */
  SPINDLE__DEVICE void find_tile(const KeySource &source, int x, int parity, bool begins) {
    const int64_t u = smem.work.slot0 + (int64_t)x * KEYS;
    KeyTile<KEYS> &keys = warp().keys[parity];
    bool whole = false;
    if (has_boxes()) {
      first_box = begins || first_box + 2 * boxes.in_tile > warp().ahead.SIZE ? 0 : first_box + boxes.in_tile;
      if (first_box == 0) find_boxes(p, smem.work, boxes, u, prim::block_threads() / 32 * KEYS, warp().ahead, 0);
      prim::sync_warp();
      whole = source.copy < 0 && tile_is_whole(boxes, warp().ahead, first_box); /* copies are read by threads */
    }
    if (whole) {
      describe_whole_tile(p, smem.work, boxes, warp().ahead, first_box, u, keys, warp().columns[parity]);
      SPINDLE__NO_UNROLL
      for (int column = prim::lane(); source.rotate && column < KEYS; column += 32)
        set_position(smem.work, keys, column, index_of_column<KEYS>(p, smem.work, boxes, warp().ahead, first_box, u, column),
                     true);
      return;
    }
    SPINDLE__NO_UNROLL
    for (int column = prim::lane(); column < KEYS; column += 32) find_keys<E>(p, smem.work, source, x, keys, column);
    prim::sync_warp();
    if (prim::lane() == 0) set_columns(warp().columns[parity], columns_of(p, smem.work, keys));
  }

  SPINDLE__DEVICE void multiply_keys(float (&s)[N][4]) {
    const uint32_t q = prim::shared_address(smem.q), k = prim::shared_address(warp().k);
    const int lane = prim::lane();
    SPINDLE__UNROLL
    for (int i = 0; i < N * 4; ++i) s[i / 4][i % 4] = 0.0f;
    SPINDLE__UNROLL
    for (int step = 0; step < D / 16; ++step) {
      if (D == 256 && 16 * step >= p.shape.head_dim_qk) continue;
      uint32_t a[1][4], b[N][2];
      load_a<D>(a, q, 0, lane, step);
      load_keys<Layout>(b, k, lane, step);
      prim::mma_each<T>(s, a[0], b);
    }
  }

  /* Which columns each row sees, into warp().seen. */
  SPINDLE__DEVICE void see(const KeyTile<KEYS> &keys, const Columns &columns) {
    if (prim::lane() < DECODE_ROWS) {
      int64_t from, to;
      seen_by_row(p, smem.work, prim::lane(), from, to);
      warp().seen[prim::lane()] = seen_columns(keys, columns, from, to);
    }
    prim::sync_warp();
  }

  SPINDLE__DEVICE void weigh(float (&s)[N][4], uint32_t (&weights)[N][2], const KeyTile<KEYS> &keys, const Columns &columns) {
    float rescale[2];
    if (!columns.full) see(keys, columns);
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = row_of(h);
      float scale = smem.work.scale[row];
      if (scores_of(p) == Scores::GENERAL) {
        finish_scores(p, smem.work, keys, columns, row, h, s);
        scale = 1.0f;
      }
      if (!columns.full) mask_row(s, h, warp().seen[row]);
      rescale[h] = softmax_row<Value>(s, weights, h, scale, maximum[h], sum[h]);
    }
    SPINDLE__UNROLL
    for (int i = 0; i < CHUNKS * C * 4; ++i) o[i / (4 * C)][i / 4 % C][i % 4] *= rescale[i / 2 % 2];
  }

  SPINDLE__DEVICE void multiply_values(const uint32_t (&weights)[N][2]) {
    const uint32_t v = prim::shared_address(warp().v);
    const int lane = prim::lane();
    SPINDLE__UNROLL
    for (int step = 0; step < KEYS / 16; ++step) {
      const uint32_t a[4] = {weights[2 * step][0], weights[2 * step][1], weights[2 * step + 1][0], weights[2 * step + 1][1]};
      SPINDLE__UNROLL
      for (int c = 0; c < CHUNKS; ++c) {
        if (D == 256 && 8 * C * c >= p.shape.head_dim_v) continue;
        uint32_t b[C][2];
        load_values<Layout>(b, v, lane, 16 * step, C * c);
        prim::mma_each<Value>(o[c], a, b);
      }
    }
  }

  /* ---- A segment ---- */

  /* A pre-rotated copy holds T. */
  SPINDLE__DEVICE static bool expands(const KeySource &source) { return EXPANDS && source.copy < 0; }

  /* Whether K or V of a tile comes as boxes. */
  SPINDLE__DEVICE bool boxed_v(const KeyTile<KEYS> &keys) const { return has_boxes() && all_valid(keys); }
  SPINDLE__DEVICE bool boxed_k(const KeySource &source, const KeyTile<KEYS> &keys) const {
    return source.copy < 0 && boxed_v(keys);
  }

  /* Starts copying the rows of K or V: as boxes; or else by threads. */
  SPINDLE__DEVICE void copy_boxes(const unsigned char *tile, const CUtensorMap &map, const uint64_t &landed) const {
    if constexpr (prim::BULK_COPIES) {
      const uint32_t to = prim::shared_address(tile);
      load_boxes<Layout, sizeof(E)>(EXPANDS ? landing_of<Layout>(to) : to, map, boxes.rows, smem.work.kv_head,
                                    prim::shared_address(&landed), [this](int box) -> BoxPlace {
                                      return {warp().ahead.row[first_box + box], warp().ahead.page[first_box + box]};
                                    });
    }
  }
  SPINDLE__DEVICE void copy_k(const KeySource &source, const KeyTile<KEYS> &keys) const {
    if (boxed_k(source, keys))
      copy_boxes(warp().k, boxes.k, warp().landed[0]);
    else
      copy_to_panels<Layout, KEYS, 32>(expands(source), prim::shared_address(warp().k), keys.k, keys.valid, p.shape.head_dim_qk,
                                       prim::lane());
    prim::cp_async_commit();
  }
  SPINDLE__DEVICE void copy_v(const KeyTile<KEYS> &keys) const {
    if (boxed_v(keys))
      copy_boxes(warp().v, boxes.v, warp().landed[1]);
    else
      copy_to_panels<Layout, KEYS, 32>(EXPANDS, prim::shared_address(warp().v), keys.v, keys.valid, p.shape.head_dim_v,
                                       prim::lane());
    prim::cp_async_commit();
  }

  /* What lanes have written to K or V is everybody's, and boxes may land there afterwards. */
  SPINDLE__DEVICE void publish() const {
    if (has_boxes()) prim::fence_proxy_async();
    prim::sync_warp();
  }
  /* The older of two copies is there, for all lanes. */
  SPINDLE__DEVICE void wait(bool boxed, int operand) {
    prim::cp_async_wait<1>();
    if (boxed) {
      prim::mbarrier_wait(prim::shared_address(&warp().landed[operand]), turns >> operand & 1);
      turns ^= 1u << operand;
    } else {
      publish();
    }
  }

  /* K to T, V to Value. */
  template <class To>
  SPINDLE__DEVICE void expand(const unsigned char *tile) const {
    expand_landed<To, Layout, 32, 4>(prim::shared_address(tile), OneWarp());
    publish();
  }

  SPINDLE__DEVICE void rotate_tile_of_warp(const KeyTile<KEYS> &keys) const {
    rotate_tile<T, Layout, 8, true>(prim::shared_address(warp().k), KEYS, rotary_of(p.shape), key_rotation(p, smem.work),
                                    keys.position, keys.distance, prim::lane(), 32);
    publish();
  }

  /* This warp's tiles of the segment at work. The first round has none yet: what finds and copies tiles is in the code once. */
  SPINDLE__DEVICE void walk_tiles(const KeySource &source) {
    const int warps = prim::block_threads() / 32, tiles = (int)((smem.work.slot1 - smem.work.slot0 + KEYS - 1) / KEYS);
    if (prim::warp() >= tiles) return;
    SPINDLE__NO_UNROLL
    for (int x = prim::warp() - warps, parity = 1; x < tiles; x += warps, parity ^= 1) {
      const KeyTile<KEYS> &keys = warp().keys[parity];
      KeyTile<KEYS> &next = warp().keys[parity ^ 1];
      const bool first = x < 0, more = x + warps < tiles;
      float s[N][4];
      uint32_t weights[N][2];
      if (!first) {
        wait(boxed_k(source, keys), 0);
        if (expands(source)) expand<T>(warp().k);
        if (source.rotate) rotate_tile_of_warp(keys);
        multiply_keys(s);
        prim::sync_warp(); /* K is free, and what was said of the tile before */
      }
      if (more) {
        find_tile(source, x + warps, parity ^ 1, first);
        prim::sync_warp();
        if (first) publish();
        copy_k(source, next);
      } else {
        prim::cp_async_commit();
      }
      if (!first) {
        weigh(s, weights, keys, warp().columns[parity]);
        wait(boxed_v(keys), 1);
        if (EXPANDS) expand<Value>(warp().v);
        multiply_values(weights); /* its last mma.sync is after all lanes' reads of V */
      }
      if (more)
        copy_v(next);
      else
        prim::cp_async_commit();
    }
    prim::cp_async_wait_all();
  }

  SPINDLE__DEVICE void walk_segment() {
    const KeySource source = key_source(p, request(), smem.work.segment->k_map);
    const uint32_t q = prim::shared_address(smem.q);
    if (prim::thread_index() == 0) smem.work.slot0 &= -(int64_t)KEYS; /* tiles begin where boxes may */
    place_rows(p, smem.work);
    copy_queries<Tile<D>>(p, smem.work, q);
    prim::cp_async_commit();
    prim::cp_async_wait_all();
    prim::sync_block();
    rotate_queries<T, Tile<D>, 1, false, DECODE_ROWS>(p, smem.work, q);
    prim::sync_block();
    walk_tiles(source);
  }

  /* ---- A part: the warps' sums, merged ---- */

  SPINDLE__DEVICE static void clear_sums(DecodeSums<D> &sums) {
    for (int i = prim::thread_index(); i < DECODE_ROWS * D; i += prim::block_threads()) sums.o[i / D][i % D] = 0.0f;
    if (prim::thread_index() >= DECODE_ROWS) return;
    sums.maximum[prim::thread_index()] = -INFINITY;
    sums.sum[prim::thread_index()] = 0.0f;
  }

  /* Into the warp's K and V, which it has done with. */
  SPINDLE__DEVICE void store_sums() {
    float *rows = warp().rows();
    SPINDLE__UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = row_of(h);
      const float total = sum[h] + prim::shfl_xor(sum[h], 1);
      const float all = total + prim::shfl_xor(total, 2);
      if (prim::lane() % 4 == 0) {
        warp().maxima()[row] = maximum[h];
        warp().sums()[row] = all;
      }
      SPINDLE__UNROLL
      for (int j = 0; j < CHUNKS * C; ++j) {
        float *at = rows + row * D + 8 * j + 2 * (prim::lane() % 4);
        at[0] = o[j / C][j % C][2 * h];
        at[1] = o[j / C][j % C][2 * h + 1];
      }
    }
  }

  /* (rows, maximum, sum) join sums. All threads; a row at a time each. */
  SPINDLE__DEVICE static void add(DecodeSums<D> &sums, const float *rows, const float *maximum, const float *sum) {
    const int warps = prim::block_threads() / 32;
    SPINDLE__NO_UNROLL
    for (int row = prim::warp(); row < DECODE_ROWS; row += warps) {
      float m = sums.maximum[row], l = sums.sum[row];
      const MergeWeights w = merge(m, l, maximum[row], sum[row]);
      prim::sync_warp();
      if (prim::lane() == 0) {
        sums.maximum[row] = m;
        sums.sum[row] = l;
      }
      for (int c = prim::lane(); c < D; c += 32) sums.o[row][c] = merged(w, sums.o[row][c], rows[row * D + c]);
      prim::sync_warp();
    }
  }

  /* smem.part becomes the sums of all warps. */
  SPINDLE__DEVICE void merge_warps() {
    prim::sync_block();
    store_sums();
    clear_sums(smem.part);
    prim::sync_block();
    for (int w = 0; w < prim::block_threads() / 32; ++w)
      add(smem.part, smem.warp[w].rows(), smem.warp[w].maxima(), smem.warp[w].sums());
    prim::sync_block();
  }

  /* ---- Items ---- */

  /* Rows of the item, a warp each: partial results of a split, or O and LSE. */
  SPINDLE__DEVICE void store(const DecodeSums<D> &sums) {
    const spindle__prepared &r = request();
    const int warps = prim::block_threads() / 32;
    SPINDLE__NO_UNROLL
    for (int at = prim::warp(); at < DECODE_ROWS; at += warps) {
      const int row = smem.work.row[at], head = smem.work.head[at];
      if (row < 0) continue;
      if (r.work.num_splits > 1) {
        const int64_t partial = partial_row(p, r, smem.work.item.split, row, head);
        if (prim::lane() == 0) prim::st_global((float2 *)p.partial_ml + partial, make_float2(sums.maximum[at], sums.sum[at]));
        for (int c = prim::lane(); c < D; c += 32) p.partial_o[partial * p.o_stride + c] = sums.o[at][c];
        continue;
      }
      const float factor = finish_row(p, r, row, head, sums.maximum[at], sums.sum[at], prim::lane() == 0);
      for (int c = prim::lane(); c < p.shape.head_dim_v; c += 32) {
        const int64_t to = output_row(p, r, row, head);
        if (p.shape.o_dtype == SPINDLE_F32)
          GlobalRow<float>::of(p.args.o.data, to).put(c, sums.o[at][c] * factor);
        else
          GlobalRow<T>::of(p.args.o.data, to).put(c, sums.o[at][c] * factor);
      }
    }
  }

  /* Once. */
  SPINDLE__DEVICE void begin() {
    if (!has_boxes() || prim::lane() != 0) return;
    for (uint64_t &barrier : warp().landed) prim::mbarrier_init(prim::shared_address(&barrier), 1);
    prim::fence_mbarrier_init();
    if (prim::warp() != 0) return;
    prim::prefetch_tensor_map(boxes.k);
    prim::prefetch_tensor_map(boxes.v);
  }

  SPINDLE__DEVICE void run() {
    for (;;) {
      prim::sync_block();
      if (prim::thread_index() == 0) next_item(p, smem.work);
      prim::sync_block();
      if (smem.work.step == Step::STOP) return;
      begin_item(p, smem.work);
      clear();
      clear_sums(smem.whole);
      for (;;) {
        const Step step = decide(p, smem.work);
        if (step == Step::WALK) {
          walk_segment();
          continue;
        }
        if (step == Step::ADD) continue; /* the part is added below, whether or not it is the first */
        merge_warps();
        if (!smem.work.cursor.in_turn) break;
        add(smem.whole, smem.part.o[0], smem.part.maximum, smem.part.sum);
        if (step == Step::STORE) break;
        clear();
      }
      prim::sync_block();
      store(smem.work.cursor.in_turn ? smem.whole : smem.part);
    }
  }
};

template <class T, class E, int D>
SPINDLE__DEVICE void run_decode(const DecodeParams &params) {
  Decode<T, E, D> kernel(params);
  kernel.begin();
  kernel.run();
}

template <class T, int D>
__global__ void __launch_bounds__(32 * DECODE_MOST_WARPS, 1) decode(const __grid_constant__ DecodeParams params) {
  run_decode<T, T, D>(params);
}

/* K and V of e4m3. */
template <class T, int D>
__global__ void __launch_bounds__(32 * DECODE_MOST_WARPS, 1) decode_e4m3(const __grid_constant__ DecodeParams params) {
  run_decode<T, e4m3, D>(params);
}

}  // namespace spindle

#endif
