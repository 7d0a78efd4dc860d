/* What prepare leaves on the device, against the host: requests, phases, tiles and segments as the shared functions give them one
 * at a time, items that cover every (row, head, split) once, and shares of scratch as a walk over the requests hands them out. */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <emulator.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/internal.h"
#include "kernels/launch.h"
#include "kernels/rope/rope.h"
#include "support/attend.h"
#include "support/batches.h"
#include "support/methods.h"

#define SLOTS      6
#define MAX_COPIES 40

/* One batch, prepared. */
typedef struct step {
  test_batch arrays;
  spindle__prepare_params p; /* all pointers are to host memory; p.state is what the device left */
  void *host[MAX_COPIES], *device[MAX_COPIES];
  int32_t num_host, num_device;
} step;

/* ---- Device memory: exactly as large as promised, so that whatever is touched beyond is found ---- */

static void *on_device(step *s, const void *from, size_t bytes) {
  if (!from && !bytes) return NULL;
  void *memory = NULL;
  cr_assert_lt(s->num_device, MAX_COPIES);
  cr_assert_eq(cudaMalloc(&memory, bytes ? bytes : 1), cudaSuccess);
  if (from && bytes) cr_assert_eq(cudaMemcpy(memory, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
  return s->device[s->num_device++] = memory;
}

static void *from_device(step *s, const void *memory, size_t bytes) {
  void *copy = malloc(bytes ? bytes : 1);
  cr_assert_lt(s->num_host, MAX_COPIES);
  cr_assert_eq(cudaMemcpy(copy, memory, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  return s->host[s->num_host++] = copy;
}

static void step_free(step *s) {
  for (int32_t k = 0; k < s->num_host; k++) free(s->host[k]);
  for (int32_t k = 0; k < s->num_device; k++) cr_assert_eq(cudaFree(s->device[k]), cudaSuccess);
  s->num_host = s->num_device = 0;
}

static spindle_batch batch_on_device(step *s) {
  spindle_batch b = s->arrays.batch;
  size_t requests = (size_t)b.max_requests;
  size_t entries = b.table_begin ? (size_t)b.table_begin[requests] : requests * (size_t)b.table_stride;
#define PUT(field, count) \
  if (b.field) b.field = on_device(s, b.field, (count) * sizeof *b.field)
  PUT(q_begin, requests);
  PUT(q_len, requests);
  PUT(kv_len, requests);
  PUT(q_index, requests);
  PUT(n, requests);
  PUT(position, requests);
  PUT(kv_index, requests);
  PUT(kv_begin, requests);
  PUT(kv_batch, requests);
  PUT(table_begin, requests + 1);
  PUT(pages, entries);
  PUT(page_index, entries);
  PUT(page_span, entries);
#undef PUT
  return b;
}

static void run(step *s) {
  spindle__prepare_params d = s->p;
  size_t requests = (size_t)d.batch.max_requests, tiles = (size_t)d.max_tiles, pairs = (size_t)d.rotary_dim / 2;
  size_t rooms = SPINDLE__PREPARE_THREADS * sizeof *d.state.rooms;
  d.batch = batch_on_device(s);
  d.slots = on_device(s, s->p.slots, SLOTS * sizeof *d.slots);
  d.state.rooms = on_device(s, NULL, rooms);
#define EACH_ARRAY(X)   \
  X(totals, 1)          \
  X(requests, requests) \
  X(tiles, tiles)       \
  X(tile_segments, tiles) X(segments, (size_t)d.max_segments) X(phases, requests * 2 * pairs) X(offsets, requests *pairs)
#define ALLOCATE(array, count) d.state.array = on_device(s, NULL, (count) * sizeof *d.state.array);
#define FETCH(array, count)    s->p.state.array = from_device(s, d.state.array, (count) * sizeof *d.state.array);
  EACH_ARRAY(ALLOCATE)
  cr_assert_eq(spindle__launch_prepare(&d, NULL), cudaSuccess);
  cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
  EACH_ARRAY(FETCH)
  cr_assert_eq(emulator_findings(NULL), 0);
}

/* ---- Random steps ---- */

static int32_t pick(test_random *r, const int32_t *values, int32_t count) { return values[test_random_int(r, 0, count - 1)]; }
#define PICK(r, ...) pick(r, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static spindle_positions *draw_slots(test_random *r, spindle_context *context, int32_t num_q_heads, int32_t rotary_dim) {
  spindle_shape shape = {.struct_size = sizeof shape,
                         .q_dtype = SPINDLE_F32,
                         .num_q_heads = num_q_heads,
                         .head_dim_qk = rotary_dim,
                         .rotary_dim = rotary_dim};
  spindle_positions *positions = NULL;
  test_ok(spindle_positions_create(&positions, context, &shape, SLOTS));
  for (int32_t slot = 0; slot < SLOTS; slot++) {
    spindle_position p = test_any_method(r, rotary_dim);
    if (!test_random_once_in(r, 8)) test_ok(spindle_positions_set(positions, slot, &p, NULL));
  }
  return positions;
}

/* Short requests, so that many fit into the rows; and long texts. */
static void draw_lengths(test_random *r, test_batch *b) {
  if (test_random_once_in(r, 2)) {
    b->bounds.max_q_rows = 5000;
    b->bounds.max_q_len = (int32_t)test_random_log(r, 1, 12);
  }
  if (b->batch.page_size || test_random_once_in(r, 4)) return;
  b->bounds.max_kv_len = b->batch.dense_rows = 1 << 20;
  for (int32_t k = 0; k < b->batch.max_requests; k++) b->kv_len[k] = (int32_t)test_random_log(r, 1, 1 << 20);
}

/* That auto splitting may leave. */
static int64_t most_partial_rows(const spindle__prepare_params *p) {
  return (2 * (int64_t)p->blocks[SPINDLE__LIST_PREFILL] + 4 * (int64_t)p->blocks[SPINDLE__LIST_DECODE]) * p->schedule.item_rows;
}

static void draw_step(test_random *r, step *s) {
  spindle__prepare_params *p = &s->p;
  static const int32_t requests[] = {1, 2, 5, 31, 255, 256, 257, 600};
  int32_t group = PICK(r, 1, 2, 4, 7), kv_heads = 2 * PICK(r, 1, 2, 4);
  memset(s, 0, sizeof *s);
  test_batch_draw(r, requests[test_random_int(r, 0, 7)], &s->arrays);
  draw_lengths(r, &s->arrays);
  s->arrays.bounds.capacity = SLOTS;
  p->batch = s->arrays.batch;
  p->bounds = s->arrays.bounds;
  p->schedule = (spindle__schedule){kv_heads * group, group, PICK(r, 4, 64, 128), 0};
  if (p->schedule.item_rows > 16 && test_random_once_in(r, 2)) p->schedule.few_rows = 16;
  p->rotary_dim = 2 * PICK(r, 2, 4, 24);
  p->raw_keys = !test_random_once_in(r, 4);
  p->rotate_when = (int32_t)test_random_int(r, SPINDLE_SCHEDULE_AUTO, SPINDLE_SCHEDULE_PREROTATE);
  p->split_keys = test_random_once_in(r, 3) ? (int32_t)test_random_log(r, 1, 5000) : 0;
  p->blocks[SPINDLE__LIST_PREFILL] = PICK(r, 1, 16, 132, 1000);
  p->blocks[SPINDLE__LIST_DECODE] = PICK(r, 0, 1, 16, 132);
  p->tile_keys = PICK(r, 32, 64, 128);
  int64_t most_partials = most_partial_rows(p);
  p->max_partials = test_random_once_in(r, 3) ? test_random_log(r, 1, 20000) - 1 : most_partials;
  p->max_rotated_rows = test_random_log(r, 1, 10000000) - 1;
  p->max_tiles = p->bounds.max_q_rows + p->batch.max_requests;
  p->max_segments = (int32_t)test_random_log(r, 1, test_random_once_in(r, 2) ? 500 : 100000);
}

/* ---- Requests and rules ---- */

/* How many of 256, 384, 512, 768, 1024, ... keys the request has, up to 31. */
static int32_t length_of(const spindle__request *q) {
  int32_t length = 0;
  for (int64_t least = 256; length < 31 && q->kv_len >= (length % 2 ? least + least / 2 : least); length++)
    if (length % 2) least *= 2;
  return length;
}

/* Used ones, as long as their rows are within the bound: the longer first, those of a length in their order. */
static int32_t check_requests(const step *s) {
  const spindle__prepare_params *p = &s->p;
  int32_t count = 0;
  for (int32_t length = 31; length >= 0; length--) {
    int64_t rows = 0;
    for (int32_t number = 0; number < p->batch.max_requests; number++) {
      spindle__request q;
      spindle__read_request(&p->batch, &p->bounds, number, &q);
      rows += q.q_len;
      if (!q.q_len || rows > p->bounds.max_q_rows || length_of(&q) != length) continue;
      const spindle__prepared *r = &p->state.requests[count++];
      cr_assert_eq(r->number, number);
      cr_assert(!memcmp(&r->request, &q, sizeof q), "request %d", number);
      cr_assert(!memcmp(&r->position, &p->slots[q.slot].position, sizeof r->position), "descriptor of request %d", number);
      cr_assert_eq(r->num_slots, spindle__num_slots(&p->batch, &q));
    }
  }
  cr_assert_eq(p->state.totals->num_requests, count);
  return count;
}

static void check_phase(const spindle__phase *phase, uint64_t step, const char *what) {
  float c, s;
  spindle__step_cos_sin(step, &c, &s);
  cr_assert_eq(phase->step, step, "%s", what);
  cr_assert(phase->cos_step == c && phase->sin_step == s, "cos and sin of %s", what);
}

static void check_rule(const step *s, int32_t k) {
  static spindle__resolved rule;
  const spindle__prepared *r = &s->p.state.requests[k];
  int32_t pairs = s->p.rotary_dim / 2;
  spindle__resolve(&s->p.slots[r->request.slot], s->p.rotary_dim, r->request.n, &rule);
  cr_assert(r->attention_factor == rule.attention_factor && r->softmax_scale_factor == rule.softmax_scale_factor, "factors");
  cr_assert(r->scale_base == rule.scale_base && r->rotates == rule.rotates, "rule %d", r->position.rope);
  for (int32_t t = 0; t < pairs; t++) {
    check_phase(&spindle__phases_of(&s->p.state, pairs, k, 0)[t], rule.step[t], "a pair");
    check_phase(&spindle__phases_of(&s->p.state, pairs, k, 1)[t], rule.scaled_step[t], "a scaled pair");
    cr_assert_eq(s->p.state.offsets[k * pairs + t], rule.scaled_offset[t]);
  }
}

/* ---- Tiles ---- */

static bool same_segment(const spindle__segment *a, const spindle__segment *b) {
  bool same = a->j0 == b->j0 && a->j1 == b->j1 && spindle__map_equal(&a->k_map, &b->k_map) && a->num_groups == b->num_groups;
  for (int32_t g = 0; same && g < a->num_groups; g++) {
    const spindle__row_group *x = &a->group[g], *y = &b->group[g];
    same =
        x->i0 == y->i0 && x->i1 == y->i1 && x->dmin == y->dmin && x->dmax == y->dmax && spindle__map_equal(&x->q_map, &y->q_map);
  }
  return same;
}

/* Returns the keys that the tile walks. taken: places of the pool that have an owner. */
static int64_t check_segments(const step *s, const spindle__prepared *r, int32_t tile, uint8_t *taken) {
  static spindle__segment segments[SPINDLE__MAX_SEGMENTS];
  const int32_t *rows = s->p.state.tiles + r->work.first_tile + tile;
  const spindle__tile *made = &s->p.state.tile_segments[r->work.first_tile + tile];
  const spindle__request *q = &r->request;
  int64_t keys = 0;
  for (int32_t shifted = 0; shifted < 2; shifted++) {
    int32_t count = 0;
    if (!shifted || r->position.s2_group)
      count = spindle__segments(&r->position, q->n, shifted, q->q_index + rows[0], q->q_index + rows[1], q->key_lo, q->key_hi,
                                segments);
    keys = spindle__max(keys, spindle__count_keys(segments, count));
    cr_assert(made->count[shifted] == count || (made->count[0] == -1 && made->count[1] == -1), "%d segments, not %d",
              made->count[shifted], count);
    for (int32_t x = 0; x < count && made->count[0] >= 0; x++) {
      int32_t at = made->first[shifted] + x;
      cr_assert(at >= 0 && at < s->p.max_segments && !taken[at], "place %d of the pool", at);
      taken[at] = 1;
      cr_assert(same_segment(&s->p.state.segments[at], &segments[x]), "segment %d: %s", x, test_method_name(&r->position));
    }
  }
  if (made->count[0] >= 0) cr_assert_eq(made->keys, keys);
  return made->count[0] < 0 ? -1 : keys;
}

/* Cut as the shared function cuts. Returns the longest walk, 0 if it is unknown of some tile. */
static int64_t check_tiles(const step *s, const spindle__prepared *r, uint8_t *taken) {
  int32_t *want = malloc(((size_t)r->request.q_len + 1) * sizeof *want);
  int32_t count = spindle__cut_tiles(&s->p.schedule, &r->position, r->request.q_index, r->request.q_len, want);
  int64_t longest = 0;
  bool known = true;
  cr_assert_eq(r->work.num_tiles, count);
  cr_assert(!memcmp(s->p.state.tiles + r->work.first_tile, want, ((size_t)count + 1) * sizeof *want), "tiles");
  for (int32_t tile = 0; tile < count; tile++) {
    int64_t keys = check_segments(s, r, tile, taken);
    known &= keys >= 0;
    longest = spindle__max(longest, keys);
  }
  free(want);
  return known ? longest : 0;
}

/* ---- Items ---- */

static void check_items(const step *s, const spindle__prepared *r) {
  const spindle__schedule *schedule = &s->p.schedule;
  int64_t heads = schedule->num_q_heads, splits = r->work.num_splits, items = spindle__num_items(schedule, &r->work);
  uint8_t *seen = calloc((size_t)(r->request.q_len * heads * splits), 1);
  for (int64_t x = 0; x < items; x++) {
    spindle__item item = spindle__work_item(schedule, &r->work, s->p.state.tiles, x);
    cr_assert(item.rows > 0 && item.h0 < item.h1 && item.rows * (item.h1 - item.h0) <= schedule->item_rows, "item %" PRId64, x);
    cr_assert_eq(item.shifted, r->position.s2_group && item.h0 >= heads / 2);
    for (int64_t row = item.row0; row < item.row0 + item.rows; row++)
      for (int32_t h = item.h0; h < item.h1; h++) {
        uint8_t *mark = &seen[(row * heads + h) * splits + item.split];
        cr_assert(!*mark && (!r->position.s2_group || (h >= heads / 2) == item.shifted), "row %" PRId64 ", head %d", row, h);
        *mark = 1;
      }
  }
  cr_assert_null(memchr(seen, 0, (size_t)(r->request.q_len * heads * splits)), "a row is left out");
  free(seen);
}

/* ---- Shares of scratch ---- */

typedef struct shares {
  bool pays[SPINDLE__NUM_LISTS];
  int64_t keys[SPINDLE__NUM_LISTS]; /* a share of them */
  int64_t partials, rotated, items[SPINDLE__NUM_LISTS], blocks;
} shares;

static shares begin_shares(const step *s, int32_t count, const int64_t *longest) {
  const spindle__prepare_params *p = &s->p;
  shares begun = {0};
  for (int list = 0; list < SPINDLE__NUM_LISTS; list++) {
    int64_t items = 0, keys = 0, wanted = spindle__max(p->blocks[list], 1) * (list == SPINDLE__LIST_DECODE ? 4 : 2);
    for (int32_t k = 0; k < count; k++) {
      spindle__work whole = p->state.requests[k].work;
      whole.num_splits = 1;
      if (p->state.requests[k].list != list) continue;
      items += spindle__num_items(&p->schedule, &whole);
      keys += longest[k] * spindle__num_items(&p->schedule, &whole);
    }
    begun.pays[list] = list == SPINDLE__LIST_DECODE || items < wanted;
    begun.keys[list] = spindle__max((keys + wanted - 1) / wanted, 512);
  }
  return begun;
}

static int64_t wanted_splits(const step *s, const spindle__prepared *r, const shares *so_far, int64_t longest) {
  const spindle__work *w = &r->work;
  int64_t size = s->p.split_keys;
  cr_assert_eq(w->split_by_index, size > 0);
  if (size) {
    int64_t end = spindle__max(r->request.key_hi, r->request.key_lo / size * size + 1);
    cr_assert(w->split_size == size && w->split_base == r->request.key_lo / size, "fixed splits");
    return so_far->pays[r->list] ? (end + size - 1) / size - w->split_base : 1;
  }
  int64_t share = so_far->keys[r->list];
  if (!so_far->pays[r->list] || longest / share < 2) return 1;
  size = (longest + longest / share - 1) / (longest / share);
  size = (size + s->p.tile_keys - 1) / s->p.tile_keys * s->p.tile_keys;
  return (longest + size - 1) / size;
}

static void check_shares(const step *s, const spindle__prepared *r, int64_t longest, shares *so_far) {
  const spindle__prepare_params *p = &s->p;
  const spindle__work *w = &r->work;
  int64_t rows = (int64_t)r->request.q_len * p->schedule.num_q_heads, splits = wanted_splits(s, r, so_far, longest);
  bool split = splits > 1 && splits <= (p->max_partials - so_far->partials) / rows;
  cr_assert_eq(w->num_splits, split ? splits : 1);
  if (split) {
    cr_assert_eq(w->first_partial, so_far->partials);
    if (!p->split_keys) cr_assert(splits * w->split_size >= longest && w->split_size >= 512 && w->split_size % p->tile_keys == 0);
    so_far->partials += splits * rows;
  }
  bool wants = p->raw_keys &&
               (p->rotate_when == SPINDLE_SCHEDULE_PREROTATE ||
                (p->rotate_when == SPINDLE_SCHEDULE_AUTO && r->request.q_len * p->schedule.group >= SPINDLE__PREROTATE_ROWS));
  int64_t copies = wants ? spindle__num_key_copies(r) : 0, wish = copies * r->num_slots;
  bool rotated = wish > 0 && wish <= p->max_rotated_rows - so_far->rotated;
  cr_assert_eq(r->rotated_at, rotated ? so_far->rotated : -1);
  cr_assert_eq(r->first_rotate_block, so_far->blocks);
  if (rotated) so_far->rotated += wish;
  if (rotated) so_far->blocks += (r->num_slots + SPINDLE__ROTATE_BLOCK - 1) / SPINDLE__ROTATE_BLOCK * copies;
  bool few = (int64_t)r->request.q_len * p->schedule.group <= SPINDLE__DECODE_ROWS && p->blocks[SPINDLE__LIST_DECODE] > 0;
  cr_assert_eq(r->list, few ? SPINDLE__LIST_DECODE : SPINDLE__LIST_PREFILL);
  cr_assert_arr_eq(r->items_before, so_far->items, sizeof so_far->items);
  cr_assert_eq(w->first_item, so_far->items[r->list]);
  so_far->items[r->list] += spindle__num_items(&p->schedule, w);
}

static void check_totals(const step *s, const shares *all) {
  const spindle__totals *t = s->p.state.totals;
  cr_assert_arr_eq(t->num_items, all->items, sizeof all->items);
  cr_assert_eq(t->num_partials, all->partials);
  cr_assert(t->num_rotated_rows == all->rotated && t->num_rotate_blocks == all->blocks, "rotated rows");
  cr_assert(t->items_taken[SPINDLE__LIST_PREFILL] == 0 && t->items_taken[SPINDLE__LIST_DECODE] == 0);
  if (!s->p.split_keys) cr_assert_leq(all->partials, most_partial_rows(&s->p));
}

static void check_step(const step *s) {
  static int64_t longest[TEST_BATCH_REQUESTS];
  int32_t count = check_requests(s), tiles = 0;
  uint8_t *taken = calloc((size_t)s->p.max_segments, 1);
  for (int32_t k = 0; k < count; k++) {
    const spindle__prepared *r = &s->p.state.requests[k];
    cr_assert_eq(r->work.first_tile, tiles);
    longest[k] = check_tiles(s, r, taken);
    tiles += r->work.num_tiles + 1;
    check_rule(s, k);
    check_items(s, r);
  }
  cr_assert_eq(s->p.state.totals->num_tiles, tiles);
  free(taken);
  shares so_far = begin_shares(s, count, longest);
  for (int32_t k = 0; k < count; k++) check_shares(s, &s->p.state.requests[k], longest[k], &so_far);
  check_totals(s, &so_far);
}

/* ---- Tests ---- */

static spindle_context *open_cpu(void) {
  spindle_context *context = NULL;
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CPU};
  test_ok(spindle_context_create(&context, &options));
  return context;
}

Test(prepare, is_what_the_host_would_make) {
  static step s;
  spindle_context *context = open_cpu();
  test_random r = test_random_start();
  for (int32_t round = 0; round < 300; round++) {
    draw_step(&r, &s);
    spindle_positions *positions = draw_slots(&r, context, s.p.schedule.num_q_heads, s.p.rotary_dim);
    emulator_options options = {.order = (int)test_random_int(&r, EMULATOR_ASCENDING, EMULATOR_SHUFFLED), .seed = r.state};
    emulator_configure(&options);
    s.p.slots = positions->slots;
    run(&s);
    check_step(&s);
    step_free(&s);
    spindle_positions_destroy(positions);
  }
  spindle_context_destroy(context);
}

/* Room for one tile a row and each request's end is what a plan gives; with less, nothing is written. */
Test(prepare, refuses_too_few_tiles) {
  spindle__prepare_params p = {.batch.max_requests = 3, .bounds.max_q_rows = 10, .max_tiles = 12};
  cr_assert_eq(spindle__launch_prepare(&p, NULL), cudaErrorInvalidValue);
}
