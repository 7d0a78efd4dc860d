/* Prepare: the requests as they are now, their rules at their n, and the work list. */
#include "../../kernels/rope/rope.h"
#include "cpu.h"

/* With fewer items than this a thread, keys are split. */
#define ITEMS_PER_THREAD 4
#define LEAST_SPLIT      512 /* keys: below, starting an item costs more than its share of the keys */

typedef struct prepared {
  const spindle_plan *plan;
  const spindle__cpu_layout *layout;
  spindle__cpu_state *state;
  spindle__cpu_request *requests;
  int32_t *tiles;
} prepared;

static void take_request(prepared *p, const spindle_positions *positions, int32_t number, const spindle__request *request) {
  const spindle__schedule *schedule = &p->layout->schedule;
  spindle__cpu_request *r = &p->requests[p->state->num_requests];
  const spindle__slot *slot = &positions->slots[request->slot];
  r->number = number;
  r->request = *request;
  r->position = slot->position;
  if (slot->length_dependent)
    spindle__resolve(slot, p->plan->shape.rotary_dim, request->n, &r->resolved);
  else
    r->resolved = slot->resolved;
  r->work = (spindle__work){.num_splits = 1, .first_tile = p->state->num_tiles};
  r->work.num_tiles =
      spindle__cut_tiles(schedule, &r->position, request->q_index, request->q_len, p->tiles + p->state->num_tiles);
  spindle__cut_heads(schedule, &r->position, request->q_len, &r->work);
  p->state->num_tiles += r->work.num_tiles + 1;
  p->state->num_requests++;
}

/* The most keys that a tile of the request walks. */
static int64_t longest_walk(const prepared *p, const spindle__cpu_request *r) {
  const int32_t *tile = p->tiles + r->work.first_tile;
  int64_t most = 0;
  for (int32_t x = 0; x < r->work.num_tiles; x++) {
    spindle__segment segments[SPINDLE__MAX_SEGMENTS];
    int64_t i0 = r->request.q_index + tile[x], i1 = r->request.q_index + tile[x + 1];
    for (int32_t shifted = 0; shifted <= (r->position.s2_group > 0); shifted++) {
      int32_t count =
          spindle__segments(&r->position, r->request.n, shifted, i0, i1, r->request.key_lo, r->request.key_hi, segments);
      most = spindle__max(most, spindle__count_keys(segments, count));
    }
  }
  return most;
}

/* Gives the request `splits` parts if there is room for their results. */
static void split_request(prepared *p, spindle__cpu_request *r, int64_t splits) {
  int64_t rows = (int64_t)r->request.q_len * p->layout->schedule.num_q_heads,
          room = p->layout->max_partials - p->state->num_partials;
  if (splits < 2 || splits > room / rows) return;
  r->work.num_splits = (int32_t)splits;
  r->work.first_partial = p->state->num_partials;
  p->state->num_partials += splits * rows;
}

/* Where splits are fixed they change no bits: here is only decided whether several threads walk them, or one in turn. */
static void split_at_multiples(prepared *p, spindle__cpu_request *r, int64_t split_keys, bool parallel) {
  int64_t first = r->request.key_lo / split_keys, last = spindle__max(r->request.key_hi - 1, 0) / split_keys;
  r->work.split_by_index = 1;
  r->work.split_size = split_keys;
  r->work.split_base = first;
  if (parallel) split_request(p, r, last - first + 1);
}

/* A thread's share of all keys is cut into ITEMS_PER_THREAD parts. */
static void split_to_fit(prepared *p) {
  const spindle__schedule *schedule = &p->layout->schedule;
  int64_t total = 0;
  for (int32_t k = 0; k < p->state->num_requests; k++)
    total += longest_walk(p, &p->requests[k]) * spindle__num_items(schedule, &p->requests[k].work);
  int64_t size = spindle__max(total / ((int64_t)p->plan->context->num_threads * ITEMS_PER_THREAD), LEAST_SPLIT);
  for (int32_t k = 0; k < p->state->num_requests; k++) {
    spindle__cpu_request *r = &p->requests[k];
    int64_t keys = longest_walk(p, r), rows = (int64_t)r->request.q_len * schedule->num_q_heads;
    int64_t splits = spindle__min(spindle__ceil_div(keys, size), (p->layout->max_partials - p->state->num_partials) / rows);
    if (splits < 2) continue;
    r->work.split_size = spindle__ceil_div(spindle__ceil_div(keys, splits), SPINDLE__CPU_TILE_KEYS) * SPINDLE__CPU_TILE_KEYS;
    split_request(p, r, spindle__ceil_div(keys, r->work.split_size));
  }
}

static void split_keys(prepared *p) {
  int64_t items = 0, split = p->plan->options.split_keys;
  int32_t threads = p->plan->context->num_threads;
  for (int32_t k = 0; k < p->state->num_requests; k++) items += spindle__num_items(&p->layout->schedule, &p->requests[k].work);
  bool pays = threads > 1 && items < (int64_t)threads * ITEMS_PER_THREAD;
  for (int32_t k = 0; split && k < p->state->num_requests; k++) split_at_multiples(p, &p->requests[k], split, pays);
  if (pays && !split) split_to_fit(p);
}

spindle_status spindle__cpu_prepare(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                                    void *state, spindle_stream stream) {
  (void)stream;
  spindle__cpu_layout layout;
  spindle__cpu_layout_of(plan, &layout);
  char *base = state;
  prepared p = {plan, &layout, state, (void *)(base + layout.requests), (void *)(base + layout.tiles)};
  *p.state = (spindle__cpu_state){0};
  int64_t rows = 0;
  for (int32_t x = 0; x < batch->max_requests; x++) {
    spindle__request request;
    spindle__batch_request(plan, positions, batch, x, &request);
    rows += request.q_len;
    if (request.q_len && rows <= plan->options.max_q_rows) take_request(&p, positions, x, &request);
  }
  split_keys(&p);
  for (int32_t k = 0; k < p.state->num_requests; k++) {
    p.requests[k].work.first_item = p.state->num_items;
    p.state->num_items += spindle__num_items(&layout.schedule, &p.requests[k].work);
  }
  return SPINDLE_OK;
}
