/* How prepare spreads a step's keys over the device: blocks take items in their order, and none should be left alone with a long
 * one, however different the requests are. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "support/attend.h"
#include "support/mirror.h"
#include "support/prepared.h"

enum { MOST_REQUESTS = 160, MOST_BLOCKS = 1024, KV_HEADS = 8 };

static const spindle_shape shape = {
    .struct_size = sizeof shape, .q_dtype = SPINDLE_BF16, .num_q_heads = 32, .num_kv_heads = KV_HEADS, .head_dim_qk = 128};

/* Requests of a step: q_len rows at the end of kv_len keys. */
typedef struct step {
  int32_t requests;
  int32_t q_begin[MOST_REQUESTS], q_len[MOST_REQUESTS], kv_len[MOST_REQUESTS];
} step;

static void add(step *s, int32_t count, int32_t q_len, int32_t kv_len) {
  for (; count > 0; count--) {
    const int32_t r = s->requests++;
    s->q_begin[r] = r ? s->q_begin[r - 1] + s->q_len[r - 1] : 0;
    s->q_len[r] = q_len;
    s->kv_len[r] = kv_len;
  }
}

/* Blocks that take one item after the other, each the one that is free first. */
typedef struct device {
  int32_t blocks;
  int64_t busy_until[MOST_BLOCKS], total; /* keys */
} device;

static void take(device *d, int64_t keys) {
  int32_t first = 0;
  for (int32_t b = 1; b < d->blocks; b++)
    if (d->busy_until[b] < d->busy_until[first]) first = b;
  d->busy_until[first] += keys;
  d->total += keys;
}

/* The items of a request whose rows all lie in one tile, a KV head after the other. */
static void take_request(device *d, const spindle__prepared *r) {
  cr_assert_eq(r->work.num_tiles, 1);
  for (int32_t head = 0; head < KV_HEADS; head++)
    for (int64_t split = 0; split < r->work.num_splits; split++) {
      const int64_t left = r->request.kv_len - (r->work.num_splits > 1 ? split * r->work.split_size : 0);
      cr_assert_gt(left, 0, "an item without keys");
      take(d, r->work.num_splits > 1 && left > r->work.split_size ? r->work.split_size : left);
    }
}

/* What the step takes, in units of what it would if every block had the same number of keys. */
static double makespan(const char *arch, const step *s) {
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  void *state;
  size_t bytes;
  spindle_context_options cuda = {.struct_size = sizeof cuda, .backend = SPINDLE_BACKEND_CUDA};
  spindle_plan_options bounds = {
      .struct_size = sizeof bounds, .max_requests = MOST_REQUESTS, .max_q_rows = 4096, .max_kv_len = 1 << 20};
  static device d;
  int64_t longest = 0;
  setenv("SPINDLE_EMULATED_ARCH", arch, 1);
  test_ok(spindle_context_create(&context, &cuda));
  test_ok(spindle_positions_create(&positions, context, &shape, 1));
  test_ok(spindle_plan_create(&plan, context, &shape, &bounds));
  test_ok(spindle_plan_workspace(plan, &bytes, NULL));
  test_ok(spindle_malloc(context, &state, bytes));
  test_mirror m = test_mirror_open(context);
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = s->requests,
                         .q_begin = test_mirror_in(&m, s->q_begin, sizeof s->q_begin),
                         .q_len = test_mirror_in(&m, s->q_len, sizeof s->q_len),
                         .kv_len = test_mirror_in(&m, s->kv_len, sizeof s->kv_len)};
  test_ok(spindle_plan_prepare(plan, positions, &batch, state, bytes, NULL));
  test_ok(spindle_stream_sync(context, NULL));

  const spindle__state prepared = test_prepared(plan);
  const int32_t list = prepared.requests[0].list;
  d = (device){.blocks = list == SPINDLE__LIST_DECODE ? plan->kernel.decode_blocks : plan->kernel.blocks};
  cr_assert(d.blocks > 0 && d.blocks <= MOST_BLOCKS);
  cr_assert_eq(prepared.totals->num_requests, s->requests);
  for (int32_t r = 0; r < s->requests; r++) {
    cr_assert_eq(prepared.requests[r].list, list);
    take_request(&d, &prepared.requests[r]);
  }
  for (int32_t b = 0; b < d.blocks; b++) longest = spindle__max(longest, d.busy_until[b]);
  test_mirror_close(&m);
  spindle_free(context, state);
  spindle_plan_destroy(plan);
  spindle_positions_destroy(positions);
  spindle_context_destroy(context);
  return (double)longest * d.blocks / (double)d.total;
}

static void check(const char *what, const step *s, double most) {
  static const char *const archs[] = {"80", "90"};
  for (int a = 0; a < 2; a++) {
    const double found = makespan(archs[a], s);
    cr_assert_leq(found, most, "%s on sm_%s: %.2f times what an even spread takes", what, archs[a], found);
  }
}

/* A request of a million keys beside a hundred short ones, wherever it comes in the batch. */
Test(balance, one_long_request_beside_many_short_ones) {
  for (int32_t last = 0; last < 2; last++) {
    step s = {0};
    if (!last) add(&s, 1, 1, 1 << 20);
    add(&s, 100, 1, 4096);
    if (last) add(&s, 1, 1, 1 << 20);
    check(last ? "the long one last" : "the long one first", &s, 1.1);
  }
}

/* One request alone has the whole device, whether decode has it or, of 64 packed rows, prefill. */
Test(balance, one_request) {
  static const int32_t rows[] = {1, 4, 16};
  for (int32_t k = 0; k < 3; k++) {
    step s = {0};
    add(&s, 1, rows[k], 1 << 17);
    check("one request", &s, 1.15);
  }
}

/* A step of a server: some of its requests are longer than others, none is split. */
Test(balance, requests_of_a_server) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < 8; round++) {
    step s = {0};
    for (int32_t q = 0; q < 128; q++) add(&s, 1, 1, (int32_t)test_random_int(&r, 1000, 8000));
    check("1000 to 8000 keys", &s, 1.06);
  }
}

/* Lengths between a few keys and a million, of which one has that many: an item has at most half a block's share of keys, so the
 * device is never busy for longer than one and a half even spreads. */
Test(balance, any_lengths) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < 12; round++) {
    step s = {0};
    for (int32_t q = (int32_t)test_random_log(&r, 1, MOST_REQUESTS); q > 0; q--)
      add(&s, 1, (int32_t)test_random_int(&r, 1, 4), (int32_t)test_random_log(&r, 4, 1 << 20));
    add(&s, s.requests < MOST_REQUESTS, 1, 1 << 20);
    check("any lengths", &s, 1.5);
  }
}
