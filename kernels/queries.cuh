/* Query rows in shared memory: copied as they are, and rotated in place for the segment at work. */
#ifndef SPINDLE_KERNELS_QUERIES_CUH
#define SPINDLE_KERNELS_QUERIES_CUH

#include "rotate.cuh"
#include "work.cuh"

namespace spindle {

/* The threads that share a piece of work, and their barrier: here the block. */
struct Block {
  SPINDLE__DEVICE static int thread() { return prim::thread_index(); }
  SPINDLE__DEVICE static int threads() { return prim::block_threads(); }
  SPINDLE__DEVICE static void sync() { prim::sync_block(); }
};

/* Starts copying the item's rows into a tile of Rows rows; rows of none become 0. All threads of the team. */
template <class Layout, int Rows, class Team = Block>
SPINDLE__DEVICE void copy_queries(const spindle__attention_params &p, const Work<Rows> &work, uint32_t tile, Team team = {}) {
  const spindle__prepared &r = p.state.requests[work.request];
  const unsigned char *q = (const unsigned char *)p.args.q.data;
  SPINDLE__NO_UNROLL
  for (int i = team.thread(); i < Rows * Layout::CHUNKS; i += team.threads()) {
    const int at = i / Layout::CHUNKS, chunk = i % Layout::CHUNKS, row = work.row[at];
    const int bytes = row >= 0 ? chunk_bytes(p.shape.head_dim_qk, chunk) : 0;
    const int64_t from =
        r.number * p.args.q.batch + (int64_t)(r.request.q_begin + row) * p.args.q.row + work.head[at] * p.args.q.head;
    prim::cp_async<16>(tile + Layout::chunk(at, chunk), q + (bytes ? 2 * from + 16 * chunk : 0), bytes);
  }
}

template <int Rows>
SPINDLE__DEVICE Rotation rotation_of(const spindle__attention_params &p, const Work<Rows> &work, int scaled, float factor) {
  const spindle__prepared &r = p.state.requests[work.request];
  const int pairs = p.shape.rotary_dim / 2;
  Rotation rotation;
  rotation.phases = spindle__phases_of(&p.state, pairs, work.request, scaled);
  rotation.offsets = scaled == 2 ? p.state.offsets + (int64_t)work.request * pairs : nullptr;
  rotation.rates = work.rates;
  rotation.decays = r.scale_base > 0;
  rotation.factor = factor;
  return rotation;
}

/* Of the segment's keys: only queries have offsets. */
template <int Rows>
SPINDLE__DEVICE Rotation key_rotation(const spindle__attention_params &p, const Work<Rows> &work) {
  Rotation rotation = rotation_of(p, work, work.segment->k_map.scaled, 1.0f);
  rotation.offsets = nullptr;
  return rotation;
}

/* Rows [first, first + TeamRows), every one by its group's map and, where its scale is not positive, by the sign that the scale
 * leaves to it. All threads of the team, between its barriers. */
template <class T, class Layout, int Run, bool Steady, int TeamRows, int Rows, class Team = Block>
SPINDLE__DEVICE void rotate_queries(const spindle__attention_params &p, const Work<Rows> &work, uint32_t tile, int first = 0,
                                    Team team = {}) {
  constexpr int D = Layout::DIM;
  const spindle__prepared &r = p.state.requests[work.request];
  const int rows = min(num_rows(work) - first, TeamRows);
  const int scaled = work.segment->group[0].q_map.scaled; /* alike in all groups that share a key map */
  const float a = (float)r.attention_factor;
  const Rotation rotation = rotation_of(p, work, scaled, p.shape.key_state == SPINDLE_KEYS_RAW ? a * a : a);
  if (r.rotates || rotation.decays || rotation.factor != 1.0f)
    rotate_tile<T, Layout, Run, Steady>(tile + Layout::chunk(first, 0), rows, rotary_of(p.shape), rotation, work.position + first,
                                        work.distance + first, team.thread(), team.threads());
  uint32_t signs = 0;
  for (uint32_t word : work.signs) signs |= word;
  if (!signs) return;
  team.sync();
  SPINDLE__NO_UNROLL
  for (int i = team.thread(); i < TeamRows * D / 4; i += team.threads()) {
    const SharedRow<T, Layout> row = {tile, first + i / (D / 4)};
    float x[4];
    row.get4(i % (D / 4) * 4, x);
    SPINDLE__UNROLL
    for (int k = 0; k < 4; ++k) x[k] *= work.sign[row.row];
    row.put4(i % (D / 4) * 4, x);
  }
}

}  // namespace spindle

#endif
