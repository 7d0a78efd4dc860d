/* Rows of a cache as boxes that TMA copies: a panel's channels of consecutive rows. sm_90 and later.
 *
 * Boxes are cut from [pages or batch rows][heads][rows][channels], whatever the strides. Pages are where rows stop being
 * consecutive, so a box has at most a page's; and as it holds keys that all are there, only tiles in which every slot has one
 * come so. A copy is an instruction a box, where threads take 17 for each 16 bytes of a lane (units.cuh).
 *
 * Where a box lies takes a chain of loads and a division to find, 500 clk of latency and more, which no warp that brings tiles
 * has for each. So a warp finds up to 32 boxes at a time, those of the tiles to come. */
#ifndef SPINDLE_KERNELS_BOXES_CUH
#define SPINDLE_KERNELS_BOXES_CUH

#include "keys.cuh"
#include "panels.cuh"

namespace spindle {

constexpr int LEAST_BOX = 16; /* rows */

struct CacheBoxes {
  CUtensorMap k, v;
  int32_t rows;    /* of a box; 0: no boxes fit the cache, and threads copy its rows */
  int32_t in_tile; /* boxes of a tile */
};

/* ---- Host ---- */

struct Tensor {
  const void *data;
  int64_t channels, rows, heads, pages;
  int64_t row, head, page; /* strides in elements */
};

/* What boxes are for: their channels, and how they land. */
struct BoxShape {
  int32_t channels;
  prim::Swizzle swizzle;
};

/* A dimension of one may have any stride, which the encoder would still check. */
template <class E>
uint64_t stride_bytes(int64_t elements, int64_t extent) {
  return extent > 1 ? (uint64_t)elements * sizeof(E) : 16;
}

/* Fails where no boxes can be cut from a tensor, for its strides. */
template <class E>
cudaError_t encode_boxes(CUtensorMap *map, const Tensor &t, int rows, const BoxShape &box) {
  const uint64_t extents[] = {(uint64_t)t.channels, (uint64_t)t.rows, (uint64_t)t.heads, (uint64_t)t.pages};
  const uint64_t strides[] = {stride_bytes<E>(t.row, t.rows), stride_bytes<E>(t.head, t.heads), stride_bytes<E>(t.page, t.pages)};
  return prim::encode_tensor_map<E, 4>(map, (const E *)t.data, extents, strides, {(uint32_t)box.channels, (uint32_t)rows, 1, 1},
                                       box.swizzle);
}

inline Tensor cache_of(const spindle__attention_params &p, const spindle_cache &t, int32_t channels) {
  const int64_t rows = p.batch.page_size ? p.batch.page_size : p.batch.dense_rows;
  const int64_t pages = t.page ? p.batch.num_pages : 1;
  return {t.data, channels, rows, p.shape.num_kv_heads, pages, t.row, t.head, t.page};
}

/* Boxes of K and V as high as a tile, or, from pages, as the page and `most` rows allow, for tiles begin at multiples of that;
 * none where that is too little or the caches' strides forbid them. */
inline void cut_boxes(CacheBoxes *boxes, const spindle__attention_params &p, int tile_keys, int most, const BoxShape &box) {
  const auto encode = p.shape.kv_dtype == SPINDLE_F8E4M3 ? encode_boxes<e4m3> : encode_boxes<bf16>; /* or any type of 16 bits */
  const int32_t page = p.batch.page_size, rows = page ? min(page & -page, most) : tile_keys;
  boxes->rows = 0;
  if (rows < LEAST_BOX || encode(&boxes->k, cache_of(p, p.args.k, p.shape.head_dim_qk), rows, box) ||
      encode(&boxes->v, cache_of(p, p.args.v, p.shape.head_dim_v), rows, box))
    return;
  boxes->rows = rows;
  boxes->in_tile = tile_keys / rows;
}

/* ---- Device ---- */

/* Where a box begins. */
struct BoxPlace {
  int32_t row, page;
};

/* Boxes of the tiles to come, in tables of Size, at most a lane each; a tile's are in one. */
template <int Tables, int Size = 32>
struct BoxesAhead {
  static constexpr int SIZE = Size;
  int64_t index[Tables * Size]; /* of the box's first key */
  int32_t row[Tables * Size], page[Tables * Size];
  uint32_t whole[Tables]; /* bit b: every slot of box b holds a key */
};

/* One warp, a lane a box: those of the tiles that begin at slots u, u + step, ... fill a table; a barrier must follow. */
template <class Ahead, int Rows>
SPINDLE__DEVICE void find_boxes(const spindle__attention_params &p, const Work<Rows> &work, const CacheBoxes &boxes, int64_t u,
                                int step, Ahead &ahead, int table) {
  const int lane = prim::lane(), tile = lane / boxes.in_tile;
  const int64_t first = u + (int64_t)tile * step + (lane - tile * boxes.in_tile) * boxes.rows;
  const spindle__key key = spindle__key_at(&p.batch, &p.state.requests[work.request].request, first);
  if (lane < Ahead::SIZE) {
    ahead.index[Ahead::SIZE * table + lane] = key.index;
    ahead.row[Ahead::SIZE * table + lane] = key.row;
    ahead.page[Ahead::SIZE * table + lane] = key.page;
  }
  const uint32_t whole = prim::ballot(key.run >= boxes.rows && first + boxes.rows <= work.slot1);
  if (lane == 0) ahead.whole[table] = whole;
}

SPINDLE__DEVICE uint32_t boxes_of_a_tile(const CacheBoxes &boxes) { return ~0u >> (32 - boxes.in_tile); }

/* Whether every slot of a tile holds a key. first: its first box. */
template <class Ahead>
SPINDLE__DEVICE bool tile_is_whole(const CacheBoxes &boxes, const Ahead &ahead, int first) {
  const uint32_t all = boxes_of_a_tile(boxes);
  return (ahead.whole[first / Ahead::SIZE] >> first % Ahead::SIZE & all) == all;
}

/* Whether keys that lie side by side may be far apart in the text, whatever box they are in. */
SPINDLE__DEVICE bool is_sharded(const spindle_batch &b) { return b.shard_count > 1 && !b.page_index; }

/* The index of a column of a whole tile that begins at slot u. first: its first box. */
template <int Keys, class Ahead, int Rows>
SPINDLE__DEVICE int64_t index_of_column(const spindle__attention_params &p, const Work<Rows> &work, const CacheBoxes &boxes,
                                        const Ahead &ahead, int first, int64_t u, int column) {
  if (is_sharded(p.batch)) return spindle__sharded_index(&p.batch, &p.state.requests[work.request].request, u + column);
  const int box = column * boxes.in_tile / Keys;
  return ahead.index[first + box] + (column - box * boxes.rows);
}

/* The lanes of a warp, together, which sync then: what find_keys and columns_of would say of a whole tile, but where rows lie and
 * are rotated to. */
template <int Keys, class Ahead, int Rows>
SPINDLE__DEVICE void describe_whole_tile(const spindle__attention_params &p, const Work<Rows> &work, const CacheBoxes &boxes,
                                         const Ahead &ahead, int first, int64_t u, KeyTile<Keys> &keys, Columns &columns) {
  const int64_t base = ahead.index[first];
  int64_t last = ahead.index[first + boxes.in_tile - 1] + boxes.rows - 1;
  if (is_sharded(p.batch)) last = index_of_column<Keys>(p, work, boxes, ahead, first, u, Keys - 1);
  const bool affine = last - base == Keys - 1, full = base >= work.full_from && last <= work.full_to; /* indices ascend */
  SPINDLE__NO_UNROLL
  for (int column = prim::lane(); !affine && column < Keys; column += 32)
    keys.index[column] = index_of_column<Keys>(p, work, boxes, ahead, first, u, column);
  if (prim::lane() < Keys / 32) keys.valid[prim::lane()] = ~0u;
  if (prim::lane() == 0) set_columns(columns, {full, affine, base});
  prim::sync_warp();
}

/* The lanes of a warp, together: boxes of `rows` rows fill a tile of Bytes an element. place(box): where one begins. */
template <class Layout, int Bytes, class Place>
SPINDLE__DEVICE void load_boxes(uint32_t tile, const CUtensorMap &map, int rows, int head, uint32_t barrier, const Place &place) {
  constexpr int AT_ONCE = 32 / Layout::PANELS; /* a lane a panel of a box */
  const int panel = prim::lane() % Layout::PANELS;
  int box = prim::lane() / Layout::PANELS;
  if (prim::lane() == 0) prim::mbarrier_arrive_expect_tx(barrier, Layout::BYTES / 2 * Bytes);
  prim::sync_warp();
  if (box == AT_ONCE) return;
  SPINDLE__NO_UNROLL
  for (; box * rows < Layout::ROWS; box += AT_ONCE) {
    const BoxPlace at = place(box);
    prim::tma_load(tile + (uint32_t)(panel * Layout::PANEL_BYTES + box * rows * Bytes * Layout::WIDTH), map,
                   {panel * Layout::WIDTH, at.row, head, at.page}, barrier);
  }
}

}  // namespace spindle

#endif
