/* Rows of a cache as boxes that TMA copies: a panel's channels of consecutive rows. sm_90 and later.
 *
 * Boxes are cut from [pages or batch rows][heads][rows][channels], whatever the strides. Pages are where rows stop being
 * consecutive, so a box has at most a page's; and as it holds keys that all are there, only tiles in which every slot has one
 * come so. A copy is an instruction a box, where threads take 17 for each 16 bytes of a lane (units.cuh). */
#ifndef SPINDLE_KERNELS_BOXES_CUH
#define SPINDLE_KERNELS_BOXES_CUH

#include "keys.cuh"
#include "panels.cuh"

namespace spindle {

struct CacheBoxes {
  CUtensorMap k, v;
  int32_t rows; /* of a box; 0: no boxes fit the cache, and threads copy its rows */
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

/* Boxes of `rows` rows of K and V; none where rows is 0 or the caches' strides forbid them. */
inline void cut_boxes(CacheBoxes *boxes, const spindle__attention_params &p, int rows, const BoxShape &box) {
  const auto encode = p.shape.kv_dtype == SPINDLE_F8E4M3 ? encode_boxes<e4m3> : encode_boxes<bf16>; /* or any type of 16 bits */
  boxes->rows = rows;
  if (rows && (encode(&boxes->k, cache_of(p, p.args.k, p.shape.head_dim_qk), rows, box) ||
               encode(&boxes->v, cache_of(p, p.args.v, p.shape.head_dim_v), rows, box)))
    boxes->rows = 0;
}

/* ---- Device ---- */

/* Where a box begins. */
struct BoxPlace {
  int32_t row, page;
};

/* The lanes of a warp, together: the boxes of a tile, `rows` rows each, Bytes an element. place(first row of the box). */
template <class Layout, int Bytes, class Place>
SPINDLE__DEVICE void load_boxes(uint32_t tile, const CUtensorMap &map, int rows, int head, uint32_t barrier, const Place &place) {
  constexpr int AT_ONCE = 32 / Layout::PANELS; /* a lane a panel of a box */
  if (prim::lane() == 0) prim::mbarrier_arrive_expect_tx(barrier, Layout::BYTES / 2 * Bytes);
  prim::sync_warp();
  if (prim::lane() / Layout::PANELS == AT_ONCE) return;
  SPINDLE__NO_UNROLL
  for (int first = prim::lane() / Layout::PANELS * rows; first < Layout::ROWS; first += AT_ONCE * rows) {
    const int panel = prim::lane() % Layout::PANELS;
    const BoxPlace at = place(first);
    prim::tma_load(tile + (uint32_t)(panel * Layout::PANEL_BYTES + first * Bytes * Layout::WIDTH), map,
                   {panel * Layout::WIDTH, at.row, head, at.page}, barrier);
  }
}

}  // namespace spindle

#endif
