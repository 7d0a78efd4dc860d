/* Key tiles: where the rows of consecutive slots lie, which of them hold keys, and which columns a query row sees. */
#ifndef SPINDLE_KERNELS_KEYS_CUH
#define SPINDLE_KERNELS_KEYS_CUH

#include "e4m3.cuh"
#include "tile.cuh"
#include "work.cuh"

namespace spindle {

/* In shared memory: slots slot0 + x Keys ... of the segment at work. */
template <int Keys>
struct KeyTile {
  static_assert(Keys % 32 == 0, "a bit each in `valid`");
  const unsigned char *k[Keys], *v[Keys]; /* rows, inside the tensors even where there is no key */
  int64_t index[Keys];                    /* of valid columns; they ascend */
  int64_t position[Keys];
  float distance[Keys]; /* xPos: negative, keys grow where queries shrink */
  uint32_t valid[(Keys + 63) / 64 * 2];
};

/* Row of slot u of a request's pre-rotated keys. */
SPINDLE__DEVICE const unsigned char *rotated_row(const spindle__attention_params &p, const spindle__prepared &r, int kv_head,
                                                 int copy, int64_t u) {
  const int64_t row = r.rotated_at + copy * r.num_slots + spindle__clamp(u, 0, r.num_slots - 1);
  return (const unsigned char *)p.rotated + 2 * ((kv_head - p.kv_begin) * p.rotated_rows + row) * p.rotated_stride;
}

/* Where the segment's keys are read. */
struct KeySource {
  int copy;    /* pre-rotated copy; -1: the cache */
  bool rotate; /* in the loop */
};

SPINDLE__DEVICE KeySource key_source(const spindle__attention_params &p, const spindle__prepared &r, const spindle__map &k_map) {
  if (p.shape.key_state == SPINDLE_KEYS_ROTATED || spindle__map_is_plain(&r, &k_map)) return {-1, false};
  if (r.rotated_at >= 0) return {spindle__key_copy(&r, &k_map), false};
  return {-1, true};
}

/* Where a column's key is rotated to. */
template <int Keys, int Rows>
SPINDLE__DEVICE void set_position(const Work<Rows> &work, KeyTile<Keys> &keys, int column, int64_t index, bool valid) {
  keys.position[column] = valid ? spindle__map_at(&work.segment->k_map, index) : 0;
  keys.distance[column] = (float)(work.centre - index);
}

/* Threads 0 .. Keys - 1, a column each, or a warp 32 columns; a barrier must follow. E: e4m3, or any type of 16 bits. */
template <class E = bf16, int Keys, int Rows>
SPINDLE__DEVICE void find_keys(const spindle__attention_params &p, const Work<Rows> &work, const KeySource &source, int x,
                               KeyTile<Keys> &keys, int column = prim::thread_index()) {
  const spindle__prepared &r = p.state.requests[work.request];
  const int kv_head = work.kv_head;
  const int64_t u = work.slot0 + (int64_t)x * Keys + column;
  const spindle__key key = spindle__key_at(&p.batch, &r.request, u);
  const int64_t k = key.page * p.args.k.page + key.row * p.args.k.row + kv_head * p.args.k.head;
  const int64_t v = key.page * p.args.v.page + key.row * p.args.v.row + kv_head * p.args.v.head;
  keys.k[column] = source.copy >= 0 ? rotated_row(p, r, kv_head, source.copy, u)
                                    : (const unsigned char *)p.args.k.data + (int64_t)sizeof(E) * k;
  keys.v[column] = (const unsigned char *)p.args.v.data + (int64_t)sizeof(E) * v;
  const bool valid = key.run && u < work.slot1;
  keys.index[column] = key.index;
  if (source.rotate) set_position(work, keys, column, key.index, valid);
  const uint32_t mask = prim::ballot(valid);
  if (prim::lane() == 0) keys.valid[column / 32] = mask;
}

/* Starts copying the rows of K or V into a tile. Columns without a key become 0: 0 x NaN would reach the output. bytes: rows of
 * e4m3, which expand_e4m3 makes 16-bit elements of. */
template <class Layout, int Keys, int Threads>
SPINDLE__DEVICE void copy_rows(bool bytes, uint32_t tile, const unsigned char *const (&rows)[Keys],
                               const uint32_t (&valid)[(Keys + 63) / 64 * 2], int channels, int thread = prim::thread_index()) {
  const auto place = [tile](int row, int chunk) { return tile + Layout::chunk(row, chunk); };
  if (bytes)
    copy_e4m3<Layout, Keys, Threads>(tile, rows, valid, channels, thread);
  else
    copy_units<Layout::CHUNKS, Keys, Threads>(rows, valid, 2 * channels, thread, place);
}

/* The same into panels, where bytes land for expand_landed. */
template <class Panels, int Keys, int Threads>
SPINDLE__DEVICE void copy_to_panels(bool bytes, uint32_t tile, const unsigned char *const (&rows)[Keys],
                                    const uint32_t (&valid)[(Keys + 63) / 64 * 2], int channels, int thread) {
  if (bytes)
    land_rows<Panels, Keys, Threads>(tile, rows, valid, channels, thread);
  else
    copy_rows<Panels, Keys, Threads>(false, tile, rows, valid, channels, thread);
}

/* Whether every column has a key. */
template <int Keys>
SPINDLE__DEVICE bool all_valid(const KeyTile<Keys> &keys) {
  uint32_t valid = ~0u;
  SPINDLE__UNROLL
  for (int i = 0; i < Keys / 32; ++i) valid &= keys.valid[i];
  return valid == ~0u;
}

/* ---- Visibility ---- */

/* What all threads say alike about a tile. */
struct Columns {
  bool full;   /* every row of the item sees every column */
  bool affine; /* column c has index base + c, if it is valid */
  int64_t base;
};

/* By members: the check build sees no copies of structs. */
SPINDLE__DEVICE void set_columns(Columns &to, const Columns &columns) {
  to.full = columns.full;
  to.affine = columns.affine;
  to.base = columns.base;
}

/* Columns are bits of words of 64. */
SPINDLE__DEVICE uint64_t columns_below(int end) { return end >= 64 ? ~0ull : end <= 0 ? 0 : (1ull << end) - 1; }

template <int Keys>
SPINDLE__DEVICE uint64_t valid_columns(const KeyTile<Keys> &keys, int word) {
  const bool half = Keys % 64 && 2 * word + 1 == Keys / 32; /* a word's other half is of no tile */
  return keys.valid[2 * word] | (half ? 0 : (uint64_t)keys.valid[2 * word + 1] << 32);
}

template <int Keys, int Rows>
SPINDLE__DEVICE Columns columns_of(const spindle__attention_params &p, const Work<Rows> &work, const KeyTile<Keys> &keys) {
  Columns c;
  c.full = all_valid(keys) && keys.index[0] >= work.full_from && keys.index[Keys - 1] <= work.full_to;
  c.affine = p.batch.shard_count == 1 && (!p.batch.page_index || p.batch.page_size % Keys == 0);
  c.base = keys.index[0]; /* affine: right even where column 0 is a hole, for its slot is one of the segment's */
  return c;
}

/* Bit c: a row that sees keys [from, to) sees column 64 word + c. */
template <int Keys>
SPINDLE__DEVICE uint64_t seen_columns(const KeyTile<Keys> &keys, const Columns &columns, int64_t from, int64_t to, int word = 0) {
  const uint64_t valid = valid_columns(keys, word);
  if (columns.affine) {
    const int low = (int)spindle__clamp(from - columns.base, 0, Keys), high = (int)spindle__clamp(to - columns.base, 0, Keys);
    return valid & columns_below(high - 64 * word) & ~columns_below(low - 64 * word);
  }
  uint64_t seen = 0;
  SPINDLE__NO_UNROLL
  for (int c = 0; c < min(Keys - 64 * word, 64); ++c) {
    const int64_t index = keys.index[64 * word + c];
    seen |= (uint64_t)(index >= from && index < to) << c;
  }
  return valid & seen;
}

}  // namespace spindle

#endif
