/* spindle_append: rows of K and V into the pages that hold them, in the cache's type, keys rotated on the way if the cache has
 * rotated keys.
 *
 * Work. A block takes a row of both tensors; a thread takes four channels of a head, AHEAD of them at a time, loaded before the
 * first is stored. Rotated keys: four pairs of a head, whose (cos, sin) comes from the row's phases in shared memory.
 * Memory. A row of 8 heads of D = 128 in bf16 is 4 KB read and 4 KB written: 440 clk of an SM at what an H200's can copy (18.6
 * bytes a clk). 64 bytes a thread on their way at 6 blocks of 128 threads: 48 KB an SM, where 15 KB would cover 800 clk.
 * Issue: about 40 instructions for four channels, 512 threads' worth a row: 160 clk of four schedulers; rotated keys 250 more for
 * four pairs, 330 clk in all. Not measured yet.
 * Numerics. Rounded once, after the rotation. e4m3: value / scale, saturated at +-448. */
#ifndef SPINDLE_KERNELS_APPEND_CUH
#define SPINDLE_KERNELS_APPEND_CUH

#include "launch.h"
#include "requests.h"
#include "rotate.cuh"
#include "rows.cuh"

namespace spindle {

constexpr int APPEND_THREADS = 128, APPEND_BLOCKS = 6, APPEND_AHEAD = 4;

struct AppendSmem {
  spindle__phase phases[SPINDLE__MAX_PAIRS]; /* of the row's rule */
};

/* One of the two tensors: where the row comes from, and where it goes. */
template <class T>
struct AppendedTensor {
  const spindle_rows &from;
  const spindle_cache &to;
  int32_t dtype, heads, channels;
  int64_t row, element; /* the row's first element in `to` */
  SPINDLE__DEVICE GlobalRow<T> in(int head) const { return GlobalRow<T>::of(from.data, row * from.row + head * from.head); }
  SPINDLE__DEVICE AnyRow out(int head) const {
    return {to.data, element + head * to.head, dtype, to.scale ? to.scale[head * to.scale_head] : 1.0f};
  }
};

/* All heads' channels but [begin, end). */
template <class T>
SPINDLE__DEVICE void append_channels(const AppendedTensor<T> &t, int begin, int end) {
  const int fours = (t.channels + 3) / 4, units = t.heads * fours;
  for (int first = prim::thread_index(); first < units; first += APPEND_AHEAD * APPEND_THREADS) {
    float x[APPEND_AHEAD][4];
    SPINDLE__UNROLL
    for (int a = 0; a < APPEND_AHEAD; ++a) {
      const int unit = min(first + a * APPEND_THREADS, units - 1);
      get_some(t.in(unit / fours), unit % fours * 4, t.channels, x[a]);
    }
    SPINDLE__UNROLL
    for (int a = 0; a < APPEND_AHEAD; ++a) {
      const int unit = first + a * APPEND_THREADS;
      if (unit < units) put_some(t.out(unit / fours), unit % fours * 4, t.channels, x[a], begin, end);
    }
  }
}

/* The row's phases; a sync_block must follow. Length-dependent rules are refused: they would bake n in. */
SPINDLE__DEVICE Rotation find_phases(const spindle__append_params &p, AppendSmem &smem, int64_t row) {
  const int64_t slot = p.args.position ? spindle__clamp(p.args.position[row], 0, p.capacity - 1) : 0;
  const spindle__resolved &rule = p.slots[slot].resolved;
  for (int t = prim::thread_index(); t < p.shape.rotary_dim / 2; t += APPEND_THREADS) {
    smem.phases[t].step = rule.step[t];
    spindle__step_cos_sin(rule.step[t], &smem.phases[t].cos_step, &smem.phases[t].sin_step);
  }
  return {smem.phases, nullptr, nullptr, false, (float)rule.attention_factor};
}

template <class T>
SPINDLE__DEVICE void append_rotated(const AppendedTensor<T> &t, const Rotation &rotation, const Rotary &rotary, int64_t index) {
  const int groups = rotary_groups(rotary);
  for (int unit = prim::thread_index(); unit < t.heads * groups; unit += APPEND_THREADS) {
    const int head = unit / groups, group = unit % groups;
    float x[4], y[4];
    load_pairs(rotary, t.in(head), group, x, y);
    Turn turn = turn_of(rotation, rotary, group);
    turn_to(turn, index, rotation, rotary, group);
    rotate_pairs(turn, rotation, rotary, group, 0.0f, x, y);
    store_pairs(rotary, t.out(head), group, x, y);
  }
}

template <class T>
__global__ void __launch_bounds__(APPEND_THREADS, APPEND_BLOCKS) append(const __grid_constant__ spindle__append_params p) {
  AppendSmem &smem = prim::shared<AppendSmem>();
  const spindle_append_args &a = p.args;
  const Rotary rotary = rotary_of(p.shape);
  for (int64_t row = prim::block_x(); row < a.rows; row += prim::grid_x()) {
    const int64_t slot = a.slot[row];
    if (slot < 0 || slot >= (int64_t)a.num_pages * a.page_size) continue;
    int64_t offset;
    const int64_t page = spindle__divide(slot, a.page_size, &offset);
    const AppendedTensor<T> k = {
        a.k_new, a.k, p.shape.kv_dtype, p.shape.num_kv_heads, p.shape.head_dim_qk, row, page * a.k.page + offset * a.k.row};
    const AppendedTensor<T> v = {
        a.v_new, a.v, p.shape.kv_dtype, p.shape.num_kv_heads, p.shape.head_dim_v, row, page * a.v.page + offset * a.v.row};
    append_channels(v, 0, 0);
    if (!p.slots) {
      append_channels(k, 0, 0);
      continue;
    }
    const Rotation rotation = find_phases(p, smem, row);
    prim::sync_block();
    append_rotated(k, rotation, rotary, spindle__clamp(a.index[row], -SPINDLE__MAX_INDEX, SPINDLE__MAX_INDEX));
    if (2 * rotary.pairs < k.channels) append_channels(k, rotary.offset, rotary.offset + 2 * rotary.pairs);
    prim::sync_block();
  }
}

}  // namespace spindle

#endif
