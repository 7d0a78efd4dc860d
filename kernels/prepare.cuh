/* Prepare: from a batch in device memory to the work list of the runs that follow it, in one block.
 *
 * Work. The batch's entries are read and clamped, unused ones dropped and the rest sorted, those of more keys first: blocks take
 * items in the order of the requests, and a long one at the end would be waited for. Every request's rule is evaluated at its n,
 * its query rows are cut into tiles, each tile's segments are made, and it is decided how keys are split and which are rotated in
 * advance. What comes out is a function of the batch, the slots and the parameters alone.
 *
 * Parallelism. Requests, (request, pair)s and tiles are spread over the threads. What depends on order (places in arrays, first
 * items, shares of scratch) is a running sum over the requests: threads of the first warp walk the wishes of one round of
 * requests, a list each, in shared memory.
 *
 * Resources. SPINDLE__PREPARE_THREADS threads of at most 128 registers; shared memory: PrepareShared. Segments are made in
 * state.rooms (global memory, one room a thread), for they are too large for a stack.
 *
 * Synchronisation. Steps are separated by sync_block, which orders global memory within the block as well. Within a step a thread
 * reads what earlier steps wrote and writes what is its own.
 *
 * Numerics. Rules in double by the shared C of rope/; phases are integers. Static rules are not evaluated: the host has done it.
 *
 * Bounds. Requests are clamped (requests.h), so there are at most max_q_rows tiles and the batch's number of requests; pools
 * (segments, partial results, pre-rotated rows) are given out up to their ends. */
#ifndef SPINDLE_KERNELS_PREPARE_CUH
#define SPINDLE_KERNELS_PREPARE_CUH

#include "launch.h"
#include "prim/prim.cuh"
#include "rope/rope.h"

namespace spindle {

constexpr int PREPARE_THREADS = SPINDLE__PREPARE_THREADS;
constexpr int LEAST_SPLIT = 512; /* keys: below, merging costs more than the split saves */

/* ---- Running sums over the requests ---- */

enum List {
  LIST_ROWS,
  LIST_TILES, /* these four at a time */
  LIST_SEGMENTS,
  LIST_WHOLE_ITEMS, /* as if no keys were split; of prefill and of decode */
  LIST_WHOLE_ITEMS_END = LIST_WHOLE_ITEMS + SPINDLE__NUM_LISTS - 1,
  LIST_KEYS, /* that items walk; likewise */
  LIST_KEYS_END = LIST_KEYS + SPINDLE__NUM_LISTS - 1,
  LIST_PARTIALS, /* these two at a time */
  LIST_ROTATED,
  LIST_ITEMS, /* likewise, and with the next at a time */
  LIST_ITEMS_END = LIST_ITEMS + SPINDLE__NUM_LISTS - 1,
  LIST_ROTATE_BLOCKS,
  NUM_LISTS
};
constexpr int MOST_LISTS = 4; /* at a time */

/* Classes of requests by their keys, in steps of 3/2 and 4/3, so of half powers of two: from 256 keys on; 0 is the longest. */
constexpr int LENGTHS = 32;

struct PrepareShared {
  int64_t line[MOST_LISTS][PREPARE_THREADS + 1]; /* one more: the walking threads meet different banks */
  int64_t taken[NUM_LISTS], limit[NUM_LISTS];
  int32_t of_length[LENGTHS], num_requests;
};
static_assert(sizeof(PrepareShared) == 8552, "8.4 KiB");

SPINDLE__DEVICE void begin_lists(const spindle__prepare_params &p, PrepareShared &shared) {
  const int list = prim::thread_index();
  if (list < LENGTHS) shared.of_length[list] = 0;
  if (list >= NUM_LISTS) return;
  shared.taken[list] = 0;
  shared.limit[list] = list == LIST_PARTIALS ? p.max_partials : list == LIST_ROTATED ? p.max_rotated_rows : INT64_MAX;
}

/* Each of the first `count` threads takes want[k] >= 0 from list first + k, in their order: place[k] is what was taken before, or
 * -1 if the list's limit leaves less. Then those after it may still find room. */
template <int N>
SPINDLE__DEVICE void in_turn(PrepareShared &shared, int first, int count, const int64_t (&want)[N], int64_t (&place)[N]) {
  constexpr int AHEAD = 8; /* loads in flight */
  static_assert(N <= MOST_LISTS && PREPARE_THREADS % AHEAD == 0, "");
  const int thread = prim::thread_index();
  SPINDLE__UNROLL
  for (int k = 0; k < N; ++k) shared.line[k][thread] = want[k];
  prim::sync_block();
  if (thread < N) {
    int64_t *line = shared.line[thread], taken = shared.taken[first + thread];
    const int64_t limit = shared.limit[first + thread];
    for (int x = 0; x < count; x += AHEAD) {
      int64_t wish[AHEAD];
      SPINDLE__UNROLL
      for (int y = 0; y < AHEAD; ++y) wish[y] = line[x + y];
      SPINDLE__UNROLL
      for (int y = 0; y < AHEAD; ++y) {
        const bool fits = wish[y] <= limit - taken;
        line[x + y] = fits ? taken : -1;
        if (fits) taken += wish[y];
      }
    }
    shared.taken[first + thread] = taken;
  }
  prim::sync_block();
  SPINDLE__UNROLL
  for (int k = 0; k < N; ++k) place[k] = shared.line[k][thread];
}

/* ---- Requests ---- */

SPINDLE__DEVICE int length_class(int64_t keys) {
  int length = LENGTHS - 1;
  for (int64_t least = 256; length > 0 && keys >= least; --length) least = length % 2 ? least / 2 * 3 : least / 3 * 4;
  return length;
}

/* Each of the first `count` threads takes the next place of its class; -1: of none. A thread a class walks them in their order.
 */
SPINDLE__DEVICE int in_class(PrepareShared &shared, int count, int length) {
  const int thread = prim::thread_index();
  int64_t *line = shared.line[0], *place = shared.line[1];
  line[thread] = length;
  prim::sync_block();
  if (thread < LENGTHS) {
    int32_t taken = shared.of_length[thread];
    SPINDLE__NO_UNROLL
    for (int x = 0; x < count; ++x)
      if (line[x] == thread) place[x] = taken++;
    shared.of_length[thread] = taken;
  }
  prim::sync_block();
  return length < 0 ? -1 : (int)place[thread];
}

SPINDLE__DEVICE int32_t segments_per_tile(const spindle_position &position) {
  return spindle__segment_bound(&position) * (position.s2_group ? 2 : 1);
}

SPINDLE__DEVICE void write_request(const spindle__prepare_params &p, int32_t number, const spindle__request &request,
                                   spindle__prepared &r) {
  const spindle__slot &slot = p.slots[request.slot];
  const bool few = (int64_t)request.q_len * p.schedule.group <= SPINDLE__DECODE_ROWS && p.blocks[SPINDLE__LIST_DECODE] > 0;
  spindle__work work = {};
  work.num_splits = 1;
  work.num_tiles = spindle__count_tiles(&p.schedule, &slot.position, request.q_index, request.q_len);
  spindle__cut_heads(&p.schedule, &slot.position, request.q_len, &work);
  r.number = number;
  r.request = request;
  r.work = work;
  r.list = few ? SPINDLE__LIST_DECODE : SPINDLE__LIST_PREFILL;
  r.position = slot.position;
  r.num_slots = spindle__num_slots(&p.batch, &request);
  if (slot.length_dependent) {
    r.rotates = 1; /* some pair turns, and if none did, turning them would change nothing */
    r.scale_base = 0.0;
    spindle__rope_factors(&slot.position, request.n, &r.attention_factor, &r.softmax_scale_factor);
  } else {
    r.rotates = slot.resolved.rotates;
    r.scale_base = slot.resolved.scale_base;
    r.attention_factor = slot.resolved.attention_factor;
    r.softmax_scale_factor = slot.resolved.softmax_scale_factor;
  }
}

/* The batch's requests, sorted if their classes' first places are known; else they are counted. Rows beyond max_q_rows in total
 * are not served: from the first request on that has some. */
SPINDLE__DEVICE void read_requests(const spindle__prepare_params &p, PrepareShared &shared, bool counted) {
  for (int first = 0; first < p.batch.max_requests; first += PREPARE_THREADS) {
    const int number = first + prim::thread_index(), count = min(PREPARE_THREADS, p.batch.max_requests - first);
    spindle__request request;
    request.q_len = 0;
    if (number < p.batch.max_requests) spindle__read_request(&p.batch, &p.bounds, number, &request);
    const int64_t rows[] = {request.q_len};
    int64_t row[1];
    in_turn(shared, LIST_ROWS, count, rows, row);
    const bool used = request.q_len > 0 && row[0] + request.q_len <= p.bounds.max_q_rows;
    const int place = in_class(shared, count, used ? length_class(request.kv_len) : -1);
    if (counted && used) write_request(p, number, request, p.state.requests[place]);
  }
}

SPINDLE__DEVICE void sort_requests(const spindle__prepare_params &p, PrepareShared &shared) {
  read_requests(p, shared, false);
  prim::sync_block();
  if (prim::thread_index() == 0) {
    int32_t before = 0;
    for (int32_t &of_length : shared.of_length) {
      const int32_t count = of_length;
      of_length = before;
      before += count;
    }
    shared.num_requests = before;
    shared.taken[LIST_ROWS] = 0;
  }
  prim::sync_block();
  read_requests(p, shared, true);
}

SPINDLE__DEVICE void place_tiles(const spindle__prepare_params &p, PrepareShared &shared) {
  for (int first = 0; first < shared.num_requests; first += PREPARE_THREADS) {
    const int k = first + prim::thread_index(), count = min(PREPARE_THREADS, shared.num_requests - first);
    int64_t want[] = {0, 0, 0, 0}, place[4];
    if (k < shared.num_requests) {
      const spindle__prepared &r = p.state.requests[k];
      want[0] = r.work.num_tiles + 1;
      want[1] = (int64_t)r.work.num_tiles * segments_per_tile(r.position);
      want[2 + r.list] = spindle__num_items(&p.schedule, &r.work);
    }
    in_turn(shared, LIST_TILES, count, want, place);
    if (k >= shared.num_requests) continue;
    p.state.requests[k].work.first_tile = (int32_t)place[0];
    p.state.requests[k].first_segment = place[1];
  }
}

/* ---- Rules ---- */

SPINDLE__DEVICE void write_phase(spindle__phase &phase, uint64_t step) {
  phase.step = step;
  phase.cos_step = 1.0f;
  phase.sin_step = 0.0f;
  if (step) spindle__step_cos_sin(step, &phase.cos_step, &phase.sin_step);
}

SPINDLE__DEVICE void resolve_rules(const spindle__prepare_params &p, int num_requests) {
  const int pairs = p.rotary_dim / 2;
  for (int x = prim::thread_index(); x < num_requests * pairs; x += PREPARE_THREADS) {
    const int request = x / pairs, t = x % pairs;
    const spindle__request &at = p.state.requests[request].request;
    const spindle__slot &slot = p.slots[at.slot];
    uint64_t step = slot.resolved.step[t], scaled_step = slot.resolved.scaled_step[t], offset = slot.resolved.scaled_offset[t];
    if (slot.length_dependent) spindle__resolve_pair(&slot, p.rotary_dim, t, at.n, &step, &scaled_step, &offset);
    spindle__phase *phases = p.state.phases + (int64_t)request * 2 * pairs;
    write_phase(phases[t], step);
    write_phase(phases[pairs + t], scaled_step);
    p.state.offsets[x] = offset;
  }
}

/* ---- Tiles ---- */

/* The request that entry x of state.tiles belongs to. */
SPINDLE__DEVICE const spindle__prepared &request_of_tile(const spindle__prepare_params &p, int num_requests, int x) {
  int low = 0, high = num_requests;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (p.state.requests[middle].work.first_tile <= x)
      low = middle;
    else
      high = middle;
  }
  return p.state.requests[low];
}

/* Where all tiles have the same number of rows each thread writes its own; else the thread of a request's first tile writes all.
 */
SPINDLE__DEVICE void cut_tiles(const spindle__prepare_params &p, int num_requests, int num_tiles) {
  for (int x = prim::thread_index(); x < num_tiles; x += PREPARE_THREADS) {
    const spindle__prepared &r = request_of_tile(p, num_requests, x);
    const int64_t number = x - r.work.first_tile;
    if (spindle__tiles_are_even(&r.position))
      p.state.tiles[x] = (int32_t)spindle__min(number * spindle__tile_rows(&p.schedule), r.request.q_len);
    else if (number == 0)
      spindle__cut_tiles(&p.schedule, &r.position, r.request.q_index, r.request.q_len, p.state.tiles + x);
  }
}

/* A tile has as much of the pool as its method may need, so that its place is known before its segments are. */
SPINDLE__DEVICE void make_segments(const spindle__prepare_params &p, int num_requests, int num_tiles) {
  spindle__segment_room *room = p.state.rooms + prim::thread_index();
  for (int x = prim::thread_index(); x < num_tiles; x += PREPARE_THREADS) {
    const spindle__prepared &r = request_of_tile(p, num_requests, x);
    const spindle__request &q = r.request;
    const int32_t number = x - r.work.first_tile, most = segments_per_tile(r.position), lists = r.position.s2_group ? 2 : 1;
    if (number == r.work.num_tiles) continue; /* the end of the last tile */
    const int64_t first = r.first_segment + (int64_t)number * most;
    spindle__tile tile = {{0, 0}, {-1, -1}, 0};
    for (int32_t shifted = 0; shifted < 2 && first + most <= p.max_segments; ++shifted) {
      tile.count[shifted] = 0;
      if (shifted == lists) break;
      tile.first[shifted] = (int32_t)first + shifted * (most / lists);
      spindle__segment *segments = p.state.segments + tile.first[shifted];
      tile.count[shifted] = spindle__segments_in(room, &r.position, q.n, shifted, q.q_index + p.state.tiles[x],
                                                 q.q_index + p.state.tiles[x + 1], q.key_lo, q.key_hi, segments);
      tile.keys = spindle__max(tile.keys, spindle__count_keys(segments, tile.count[shifted]));
    }
    p.state.tile_segments[x] = tile;
  }
}

/* ---- Splits ---- */

/* The most keys that a tile of the request walks; 0 if that is not known of all tiles. */
SPINDLE__DEVICE int64_t longest_walk(const spindle__prepare_params &p, const spindle__work &work) {
  int64_t most = 0;
  for (int32_t x = 0; x < work.num_tiles; ++x) {
    const spindle__tile &tile = p.state.tile_segments[work.first_tile + x];
    if (tile.count[0] < 0) return 0;
    most = spindle__max(most, tile.keys);
  }
  return most;
}

/* Whether splitting may: prefill's if there are fewer items than the device is to be filled with. Decode's always, for requests
 * of a step may be of very different lengths, and the longest would be waited for. */
SPINDLE__DEVICE bool pays(const spindle__prepare_params &p, const PrepareShared &shared, int32_t list) {
  return list == SPINDLE__LIST_DECODE ||
         shared.taken[LIST_WHOLE_ITEMS + list] < (int64_t)p.blocks[list] * spindle__items_per_block(list);
}

/* share[list]: a block's share of a list's keys, over items_per_block. Requests get as many splits as they have whole shares, so
 * that there are no more split items than the device is to be filled with. */
SPINDLE__DEVICE void share_keys(const spindle__prepare_params &p, PrepareShared &shared, int num_requests,
                                int64_t (&share)[SPINDLE__NUM_LISTS]) {
  for (int first = 0; first < num_requests; first += PREPARE_THREADS) {
    const int k = first + prim::thread_index(), count = min(PREPARE_THREADS, num_requests - first);
    int64_t keys[SPINDLE__NUM_LISTS] = {}, before[SPINDLE__NUM_LISTS];
    if (k < num_requests) {
      const spindle__prepared &r = p.state.requests[k];
      if (pays(p, shared, r.list)) keys[r.list] = longest_walk(p, r.work) * spindle__num_items(&p.schedule, &r.work);
    }
    in_turn(shared, LIST_KEYS, count, keys, before);
  }
  SPINDLE__UNROLL
  for (int list = 0; list < SPINDLE__NUM_LISTS; ++list) {
    const int64_t items = spindle__max(p.blocks[list], 1) * spindle__items_per_block(list);
    share[list] = spindle__max(spindle__ceil_div(shared.taken[LIST_KEYS + list], items), LEAST_SPLIT);
  }
}

/* How many items a request would like to walk its keys, and how they are split. Fixed splits change no bits: without items of
 * their own they are walked in turn. apart: they may have some. */
SPINDLE__DEVICE int64_t wanted_splits(const spindle__prepare_params &p, const spindle__request &q, bool apart, int64_t share,
                                      spindle__work &work) {
  if (p.split_keys) {
    const int64_t first = q.key_lo / p.split_keys, last = spindle__max(q.key_hi - 1, 0) / p.split_keys;
    work.split_by_index = 1;
    work.split_size = p.split_keys;
    work.split_base = first;
    return apart ? last - first + 1 : 1;
  }
  if (!apart) return 1;
  const int64_t keys = longest_walk(p, work), splits = keys / share;
  if (splits < 2) return 1;
  work.split_size = spindle__ceil_div(spindle__ceil_div(keys, splits), p.tile_keys) * p.tile_keys;
  return spindle__ceil_div(keys, work.split_size);
}

/* ---- Pre-rotation ---- */

SPINDLE__DEVICE bool wants_rotated_keys(const spindle__prepare_params &p, const spindle__prepared &r) {
  if (!p.raw_keys || p.rotate_when == SPINDLE_SCHEDULE_IN_LOOP) return false;
  return p.rotate_when == SPINDLE_SCHEDULE_PREROTATE || (int64_t)r.request.q_len * p.schedule.group >= SPINDLE__PREROTATE_ROWS;
}

/* ---- All together ---- */

/* The last step: a request's shares of scratch, then where its items and its blocks of keys to rotate begin. */
SPINDLE__DEVICE void place_request(const spindle__prepare_params &p, PrepareShared &shared, int first, int num_requests,
                                   const int64_t (&share)[SPINDLE__NUM_LISTS]) {
  const int k = first + prim::thread_index(), count = min(PREPARE_THREADS, num_requests - first);
  spindle__prepared &r = p.state.requests[min(k, num_requests - 1)];
  spindle__work work = r.work;
  int64_t splits = 1, copies = 0, wish[] = {0, 0}, place[2], size[SPINDLE__NUM_LISTS + 1] = {}, begin[SPINDLE__NUM_LISTS + 1];
  if (k < num_requests) {
    const int64_t rows = (int64_t)r.request.q_len * p.schedule.num_q_heads;
    splits = wanted_splits(p, r.request, pays(p, shared, r.list), share[r.list], work);
    copies = wants_rotated_keys(p, r) ? spindle__num_key_copies(&r) : 0;
    if (splits > 1 && splits <= p.max_partials / rows) wish[0] = splits * rows;
    wish[1] = copies * r.num_slots;
  }
  in_turn(shared, LIST_PARTIALS, count, wish, place);
  if (wish[0] > 0 && place[0] >= 0) {
    work.num_splits = (int32_t)splits;
    work.first_partial = place[0];
  }
  if (k < num_requests) {
    size[r.list] = spindle__num_items(&p.schedule, &work);
    if (place[1] >= 0) size[SPINDLE__NUM_LISTS] = spindle__ceil_div(r.num_slots, SPINDLE__ROTATE_BLOCK) * copies;
  }
  in_turn(shared, LIST_ITEMS, count, size, begin);
  if (k >= num_requests) return;
  work.first_item = begin[r.list];
  r.work = work;
  SPINDLE__UNROLL
  for (int list = 0; list < SPINDLE__NUM_LISTS; ++list) r.items_before[list] = begin[list];
  r.rotated_at = wish[1] > 0 ? place[1] : -1;
  r.first_rotate_block = begin[SPINDLE__NUM_LISTS];
}

SPINDLE__DEVICE void write_totals(const spindle__prepare_params &p, const PrepareShared &shared) {
  spindle__totals totals;
  totals.num_requests = shared.num_requests;
  totals.num_tiles = (int32_t)shared.taken[LIST_TILES];
  totals.num_segments = (int32_t)spindle__min(shared.taken[LIST_SEGMENTS], p.max_segments);
  SPINDLE__UNROLL
  for (int list = 0; list < SPINDLE__NUM_LISTS; ++list) {
    totals.num_items[list] = shared.taken[LIST_ITEMS + list];
    totals.items_taken[list] = 0;
  }
  totals.num_partials = shared.taken[LIST_PARTIALS];
  totals.num_rotated_rows = shared.taken[LIST_ROTATED];
  totals.num_rotate_blocks = shared.taken[LIST_ROTATE_BLOCKS];
  *p.state.totals = totals;
}

__global__ void prepare(const spindle__prepare_params p) {
  PrepareShared &shared = prim::shared<PrepareShared>();
  begin_lists(p, shared);
  prim::sync_block();
  sort_requests(p, shared);
  prim::sync_block();
  place_tiles(p, shared);
  prim::sync_block();
  const int num_requests = shared.num_requests, num_tiles = (int)shared.taken[LIST_TILES];
  resolve_rules(p, num_requests);
  cut_tiles(p, num_requests, num_tiles);
  prim::sync_block();
  make_segments(p, num_requests, num_tiles);
  prim::sync_block();
  int64_t share[SPINDLE__NUM_LISTS] = {};
  if (!p.split_keys) share_keys(p, shared, num_requests, share);
  for (int first = 0; first < num_requests; first += PREPARE_THREADS) place_request(p, shared, first, num_requests, share);
  if (prim::thread_index() == 0) write_totals(p, shared);
}

}  // namespace spindle

#endif
