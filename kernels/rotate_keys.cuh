/* Rotation of rows in global memory: the pre-rotation of keys into scratch, and spindle_rotate. One kernel, two sources of rows.
 *
 * Work. Blocks take items in steps of the grid. An item is a number of lines of up to LINE rows; a thread walks a line for one
 * group of four pairs.
 *
 *     PrerotatedKeys   an item: ROTATE_BLOCK slots of a request under one KV head and key map. A line: 8 slots in turn, so that
 *                      7 of 8 rows cost a step rather than an exact phase
 *     RotatedRows      an item: up to 8 rows, each with a rule and an n of its own, evaluated once for all heads. A line: 8 heads
 *                      of a row, which share (cos, sin)
 *
 * Memory. 16 lanes of a half-split bf16 row at D = 128 read 128 contiguous bytes twice, and write as many: whole sectors. An item
 * of 64 keys is 16 KB read and 16 KB written. What a copy reaches on an H200, 4.3 TB/s on 132 SMs at 1.75 GHz, is 18.6 bytes a
 * clk and SM: 1760 clk an item. A line's loads are all under way before its first row is needed (cp.async into a stage that only
 * the thread itself touches, so no registers are held): 16 KB a block, 64 KB an SM with its 4 blocks, where 15 KB would cover
 * 800 clk.
 * Issue, counted in sm_90a's code: four pairs of a row are about 150 instructions (step or exact phase 45 on average, rotation
 * 45, loads, conversions and addresses the rest), and opening an item about 500 a warp: 4 warps x (8 x 150 + 500) = 6800, 1700
 * clk of an SM's four schedulers. So an item's instructions take as long as its bytes.
 * The time is not measured yet. Registers: at most 128, so 4 blocks of 128 threads an SM. (cos, sin), steps and their cos and sin
 * are 26 of them. Shared memory (RotateSmem), 16-bit rows at most: stage 16 KB, where rows lie 2.3 KB; floats: stage 32 KB,
 * phases 4 KB. Keys of e4m3 are read as such and written in the queries' type: half the bytes in, 1320 clk an item.
 *
 * Protocol. open() writes source.rows; sync_block; lines; sync_block, after which the next item may be opened.
 *
 * Numerics. turn_to and rotate_pairs of rotate.cuh, as tiles are rotated in the loop: the same bits. Rounded once. */
#ifndef SPINDLE_KERNELS_ROTATE_KEYS_CUH
#define SPINDLE_KERNELS_ROTATE_KEYS_CUH

#include "e4m3.cuh"
#include "launch.h"
#include "rope/interpolation.h"
#include "rope/rope.h"
#include "rotate.cuh"
#include "rows.cuh"

namespace spindle {

constexpr int ROTATE_THREADS = 128, ROTATE_LINE = 8, ROTATE_LINES = SPINDLE__ROTATE_BLOCK / ROTATE_LINE, ROTATE_BLOCKS = 4;

/* ---- Keys that prepare chose, into scratch ---- */

/* E: what the cache holds; T: what the copy does. */
template <class E, class T>
struct PrerotatedKeys {
  using Params = spindle__attention_params;
  using In = GlobalRow<E>;
  using Out = GlobalRow<T>;
  struct Rows {
    In key[SPINDLE__ROTATE_BLOCK]; /* data NULL: the slot holds no key */
    int64_t position[SPINDLE__ROTATE_BLOCK];
    float distance[SPINDLE__ROTATE_BLOCK]; /* xPos: from the key to its centre */
    float rates[SPINDLE__MAX_PAIRS];
  };

  const Params &p;
  Rows &rows;
  Out out; /* of the item's first slot */
  int slots;
  Rotation rotation;

  SPINDLE__DEVICE PrerotatedKeys(const Params &params, Rows &room) : p(params), rows(room) {}

  SPINDLE__DEVICE int lines() const { return ROTATE_LINES; }
  SPINDLE__DEVICE int64_t items() const { return p.state.totals->num_rotate_blocks * (p.kv_end - p.kv_begin); }

  /* The request that a block belongs to: the last whose first one is not after it. */
  SPINDLE__DEVICE int32_t request_of(int64_t block) const {
    int32_t low = 0, high = p.state.totals->num_requests;
    while (high - low > 1) {
      const int32_t middle = low + (high - low) / 2;
      if (p.state.requests[middle].first_rotate_block <= block)
        low = middle;
      else
        high = middle;
    }
    return low;
  }

  /* Heads are innermost: those of a slot lie side by side. */
  SPINDLE__DEVICE void open(int64_t item) {
    const int heads = p.kv_end - p.kv_begin, pairs = p.shape.rotary_dim / 2;
    int64_t head;
    const int64_t block = spindle__divide(item, heads, &head);
    const int32_t request = request_of(block);
    const spindle__prepared &r = p.state.requests[request];
    const int64_t blocks_of_copy = spindle__ceil_div(r.num_slots, SPINDLE__ROTATE_BLOCK), x = block - r.first_rotate_block;
    const int64_t copy = x >= blocks_of_copy; /* there are at most two */
    const int64_t u0 = (x - copy * blocks_of_copy) * SPINDLE__ROTATE_BLOCK;
    spindle__map maps[2];
    spindle__key_maps(&r.position, maps);
    const spindle__map map = copy ? maps[1] : maps[0];
    find_keys(r, map, u0, p.kv_begin + head);
    for (int t = prim::thread_index(); r.scale_base > 0 && t < pairs; t += ROTATE_THREADS)
      rows.rates[t] = (float)(spindle__xpos_log2_zeta(p.shape.rotary_dim, t) / r.scale_base);
    slots = (int)spindle__min(SPINDLE__ROTATE_BLOCK, r.num_slots - u0);
    const int64_t row = r.rotated_at + copy * r.num_slots + u0;
    out = Out::of(p.rotated, (head * p.rotated_rows + row) * p.rotated_stride);
    rotation.phases = spindle__phases_of(&p.state, pairs, request, map.scaled);
    rotation.offsets = nullptr; /* queries have them */
    rotation.rates = rows.rates;
    rotation.decays = r.scale_base > 0;
    rotation.factor = 1.0f; /* A is on the query, twice */
  }

  SPINDLE__DEVICE void find_keys(const spindle__prepared &r, const spindle__map &map, int64_t u0, int64_t kv_head) {
    const int slot = prim::thread_index();
    if (slot >= SPINDLE__ROTATE_BLOCK) return;
    const spindle__key key = spindle__key_at(&p.batch, &r.request, u0 + slot);
    rows.key[slot].data = nullptr;
    if (key.run)
      rows.key[slot] = In::of(p.args.k.data, key.page * p.args.k.page + key.row * p.args.k.row + kv_head * p.args.k.head);
    rows.position[slot] = spindle__map_at(&map, key.index);
    if (r.scale_base > 0) {
      const int64_t block = spindle__decay_block(r.scale_base);
      rows.distance[slot] = (float)(spindle__floor_div(key.index, block) * block - key.index);
    }
  }

  struct Line {
    using In = GlobalRow<E>;
    using Out = GlobalRow<T>;
    const PrerotatedKeys &keys;
    int first, count;
    SPINDLE__DEVICE bool has(int k) const { return keys.rows.key[first + k].data != nullptr; }
    SPINDLE__DEVICE In in(int k) const { return keys.rows.key[first + k]; }
    SPINDLE__DEVICE Out out(int k) const { return keys.out.at((int64_t)(first + k) * keys.p.rotated_stride); }
    SPINDLE__DEVICE float distance(int k) const { return keys.rotation.decays ? keys.rows.distance[first + k] : 0.0f; }
    SPINDLE__DEVICE Turn start(const Rotary &rotary, int group, Rotation &rotation) const {
      rotation = keys.rotation;
      return turn_of(rotation, rotary, group);
    }
    SPINDLE__DEVICE void go_to(Turn &turn, int k, const Rotary &rotary, int group) const {
      turn_to(turn, keys.rows.position[first + k], keys.rotation, rotary, group);
    }
  };
  SPINDLE__DEVICE Line line(int number) const {
    return {*this, number * ROTATE_LINE, min(ROTATE_LINE, slots - number * ROTATE_LINE)};
  }
};

/* ---- Rows of spindle_rotate ---- */

/* Rows of an item: as many as there is room for their phases. */
SPINDLE__SHARED int32_t spindle__rotate_rows(const spindle__rotate_params *p) {
  return (int32_t)spindle__min(ROTATE_LINE, 2 * SPINDLE__MAX_PAIRS / spindle__max(p->shape.rotary_dim, 1));
}
SPINDLE__SHARED int64_t spindle__rotate_items(const spindle__rotate_params *p) {
  return spindle__ceil_div(p->args.rows, spindle__rotate_rows(p));
}

template <class T>
struct RotatedRows {
  using Params = spindle__rotate_params;
  using In = GlobalRow<T>;
  struct Rows {
    spindle__phase phases[SPINDLE__MAX_PAIRS]; /* [rows of the item][pairs] */
    float factor[ROTATE_LINE];
  };

  const Params &p;
  Rows &rows;
  int64_t first;   /* row of the item */
  int count, each; /* rows of the item, lines of a row */

  SPINDLE__DEVICE RotatedRows(const Params &params, Rows &room)
      : p(params), rows(room), first(0), count(0), each((params.args.heads + ROTATE_LINE - 1) / ROTATE_LINE) {}

  SPINDLE__DEVICE int64_t items() const { return spindle__rotate_items(&p); }
  SPINDLE__DEVICE int lines() const { return count * each; }

  SPINDLE__DEVICE void open(int64_t item) {
    const int pairs = p.shape.rotary_dim / 2;
    first = item * spindle__rotate_rows(&p);
    count = (int)spindle__min(spindle__rotate_rows(&p), p.args.rows - first);
    for (int x = prim::thread_index(); x < count * pairs; x += ROTATE_THREADS)
      rows.phases[x] = phase_of(first + x / pairs, x % pairs);
    if (prim::thread_index() < count) rows.factor[prim::thread_index()] = factor_of(first + prim::thread_index());
  }

  SPINDLE__DEVICE const spindle__slot &slot_of(int64_t row) const {
    return p.slots[p.args.position ? spindle__clamp(p.args.position[row], 0, p.capacity - 1) : 0];
  }
  SPINDLE__DEVICE int64_t n_of(int64_t row) const { return p.args.n ? spindle__clamp(p.args.n[row], 1, SPINDLE__MAX_INDEX) : 1; }
  SPINDLE__DEVICE spindle__phase phase_of(int64_t row, int pair) const {
    const spindle__slot &slot = slot_of(row);
    spindle__phase phase = {slot.resolved.step[pair], 1.0f, 0.0f};
    uint64_t scaled_step, scaled_offset;
    if (slot.length_dependent)
      spindle__resolve_pair(&slot, p.shape.rotary_dim, pair, n_of(row), &phase.step, &scaled_step, &scaled_offset);
    spindle__step_cos_sin(phase.step, &phase.cos_step, &phase.sin_step);
    return phase;
  }
  SPINDLE__DEVICE float factor_of(int64_t row) const {
    const spindle__slot &slot = slot_of(row);
    double factor = slot.resolved.attention_factor, unused;
    if (slot.length_dependent) spindle__rope_factors(&slot.position, n_of(row), &factor, &unused);
    return (float)(p.args.inverse ? 1 / factor : factor);
  }

  struct Line {
    using In = GlobalRow<T>;
    const RotatedRows &source;
    int row, head, count;
    SPINDLE__DEVICE bool has(int) const { return true; }
    SPINDLE__DEVICE In in(int k) const { return of(source.p.args.x, k); }
    SPINDLE__DEVICE In out(int k) const { return of(source.p.args.out, k); }
    SPINDLE__DEVICE In of(const spindle_rows &t, int k) const {
      return In::of(t.data, (source.first + row) * t.row + (head + k) * t.head);
    }
    SPINDLE__DEVICE float distance(int) const { return 0.0f; }
    /* All of a line is at one position. The inverse is -sin of the same phase. */
    SPINDLE__DEVICE Turn start(const Rotary &rotary, int group, Rotation &rotation) const {
      const int64_t index = source.p.args.index[source.first + row];
      rotation = {source.rows.phases + row * rotary.pairs, nullptr, nullptr, false, source.rows.factor[row]};
      Turn turn = turn_of(rotation, rotary, group);
      turn_to(turn, spindle__clamp(index, -SPINDLE__MAX_INDEX, SPINDLE__MAX_INDEX), rotation, rotary, group);
      SPINDLE__UNROLL
      for (int k = 0; k < 4; ++k) turn.s[k] = source.p.args.inverse ? -turn.s[k] : turn.s[k];
      return turn;
    }
    SPINDLE__DEVICE void go_to(Turn &, int, const Rotary &, int) const {}
  };
  SPINDLE__DEVICE Line line(int number) const {
    const int head = number % each * ROTATE_LINE;
    return {*this, number / each, head, min(ROTATE_LINE, p.args.heads - head)};
  }
};

/* ---- The kernel ---- */

/* Where a thread's loads land, two vectors of four channels a row; nobody else touches them. */
template <class Row>
struct RotateStage {
  typename Row::Four at[ROTATE_LINE][2][ROTATE_THREADS];
};

/* A row whose two vectors are in the stage. Where pairs are not vectors, channels come from memory. */
template <class Row>
struct StagedRow {
  Row row;
  uint32_t vectors[2];
  int first; /* channel of vector 0 */
  SPINDLE__DEVICE void get4(int channel, float (&x)[4]) const {
    Row::unpack(prim::ld_shared<typename Row::Four>(channel == first ? vectors[0] : vectors[1]), x);
  }
  SPINDLE__DEVICE float get(int channel) const { return row.get(channel); }
};

/* A line's rows, four pairs of each. */
template <class Line>
SPINDLE__DEVICE void rotate_line(const Line &line, RotateStage<typename Line::In> &stage, const Rotary &rotary, int group) {
  using In = typename Line::In;
  const int first = rotary.offset + (rotary.interleaved ? 8 : 4) * group,
            second = first + (rotary.interleaved ? 4 : rotary.pairs);
  const int thread = prim::thread_index();
  for (int k = 0; rotary.vectors && k < line.count; ++k) {
    if (!line.has(k)) continue;
    prim::cp_async<sizeof(typename In::Four)>(prim::shared_address(&stage.at[k][0][thread]), line.in(k).data + first);
    prim::cp_async<sizeof(typename In::Four)>(prim::shared_address(&stage.at[k][1][thread]), line.in(k).data + second);
  }
  prim::cp_async_commit();
  Rotation rotation;
  Turn turn = line.start(rotary, group, rotation);
  prim::cp_async_wait<0>();
  for (int k = 0; k < line.count; ++k) {
    float x[4], y[4];
    if (!line.has(k)) continue;
    const uint32_t vectors[] = {prim::shared_address(&stage.at[k][0][thread]), prim::shared_address(&stage.at[k][1][thread])};
    load_pairs(rotary, StagedRow<In>{line.in(k), {vectors[0], vectors[1]}, first}, group, x, y);
    line.go_to(turn, k, rotary, group);
    rotate_pairs(turn, rotation, rotary, group, line.distance(k), x, y);
    store_pairs(rotary, line.out(k), group, x, y);
  }
}

/* A line's rows, those of four channels that do not turn. */
template <class Line>
SPINDLE__DEVICE void copy_line(const Line &line, const Rotary &rotary, int channel, int channels) {
  const int begin = rotary.offset, end = rotary.offset + 2 * rotary.pairs;
  if (channel >= begin && min(channel + 4, channels) <= end) return;
  for (int k = 0; k < line.count; ++k) {
    float x[4];
    if (!line.has(k) || (const void *)line.in(k).data == line.out(k).data) continue;
    get_some(line.in(k), channel, channels, x);
    put_some(line.out(k), channel, channels, x, begin, end);
  }
}

template <class Source>
SPINDLE__DEVICE void copy_item(const Source &source, const Rotary &rotary, int channels) {
  const int fours = (channels + 3) / 4;
  for (int unit = prim::thread_index(); unit < fours * source.lines(); unit += ROTATE_THREADS)
    copy_line(source.line(unit / fours), rotary, unit % fours * 4, channels);
}

template <class Source>
struct RotateSmem {
  RotateStage<typename Source::In> stage;
  typename Source::Rows rows;
};

template <class Source>
__global__ void __launch_bounds__(ROTATE_THREADS, ROTATE_BLOCKS)
    rotate_rows(const __grid_constant__ typename Source::Params params) {
  RotateSmem<Source> &smem = prim::shared<RotateSmem<Source>>();
  Source source(params, smem.rows);
  const Rotary rotary = rotary_of(params.shape);
  const int groups = rotary_groups(rotary), channels = params.shape.head_dim_qk;
  for (int64_t item = prim::block_x(); item < source.items(); item += prim::grid_x()) {
    source.open(item);
    prim::sync_block();
    for (int unit = prim::thread_index(); unit < groups * source.lines(); unit += ROTATE_THREADS)
      rotate_line(source.line(unit / groups), smem.stage, rotary, unit % groups);
    if (2 * rotary.pairs < channels) copy_item(source, rotary, channels);
    prim::sync_block();
  }
}

}  // namespace spindle

#endif
