/* What tables say is device memory: a page may stand at two positions of a text, and values out of range are clamped, so that no
 * kernel reads or writes out of bounds. Nor do rows that the batch names and the tensors do not have. */
#include <criterion/criterion.h>
#include <string.h>

#include "support/again.h"
#include "support/attend.h"
#include "support/batches.h"
#include "support/dtypes.h"
#include "support/methods.h"

enum {
  REQUESTS = 3,
  ROWS = 60,
  KEYS = 96,
  PAGE = 16,
  PAGES = 20,
  STRIDE = 6,
  HEADS = 2,
  DIM = 64,
  ELEMENTS = PAGES * PAGE * DIM
};

/* In the emulated device's memory, which is the host's. */
typedef struct arrays {
  int32_t q_begin[REQUESTS], q_len[REQUESTS], kv_len[REQUESTS], position[REQUESTS], pages[REQUESTS][STRIDE];
  int64_t q_index[REQUESTS], n[REQUESTS], page_index[REQUESTS][STRIDE];
  uint32_t page_span[REQUESTS][STRIDE];
} arrays;

typedef struct step {
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  arrays *a;
  void *state, *scratch;
  size_t state_bytes, scratch_bytes;
  uint16_t *q, *k, *v, *o;
  spindle_batch batch;
} step;

static void *allocate(const step *s, size_t bytes) {
  void *memory = NULL;
  test_ok(spindle_malloc(s->context, &memory, bytes));
  return memory;
}

/* Three requests of 20 rows at the end of 96 keys. */
static void fill(step *s) {
  for (int r = 0; r < REQUESTS; r++) {
    s->a->q_begin[r] = ROWS / REQUESTS * r;
    s->a->q_len[r] = ROWS / REQUESTS;
    s->a->kv_len[r] = KEYS;
    s->a->position[r] = r % 2;
    s->a->q_index[r] = KEYS - ROWS / REQUESTS;
    s->a->n[r] = KEYS;
    for (int e = 0; e < STRIDE; e++) {
      s->a->pages[r][e] = (r * STRIDE + e) % PAGES;
      s->a->page_index[r][e] = e * PAGE;
      s->a->page_span[r][e] = (uint32_t)PAGE << 16;
    }
  }
}

static void make_plan(step *s, int32_t schedule, int32_t split_keys) {
  spindle_shape shape = {
      .struct_size = sizeof shape, .q_dtype = SPINDLE_BF16, .num_q_heads = HEADS, .num_kv_heads = 1, .head_dim_qk = DIM};
  spindle_plan_options bounds = {.struct_size = sizeof bounds,
                                 .max_requests = REQUESTS,
                                 .max_q_rows = ROWS,
                                 .max_kv_len = KEYS,
                                 .page_size = PAGE,
                                 .split_keys = split_keys,
                                 .schedule = schedule};
  spindle_position method[2] = {test_mask(test_rule(SPINDLE_ROPE_DYNAMIC_NTK, DIM), 1),
                                test_remap(test_rule(SPINDLE_ROPE_YARN, DIM), SPINDLE_REMAP_DCA)};
  test_ok(spindle_positions_create(&s->positions, s->context, &shape, 2));
  for (int i = 0; i < 2; i++) test_ok(spindle_positions_set(s->positions, i, &method[i], NULL));
  test_ok(spindle_plan_create(&s->plan, s->context, &shape, &bounds));
  test_ok(spindle_plan_workspace(s->plan, &s->state_bytes, &s->scratch_bytes));
}

static step open_step(test_random *r, int32_t schedule, int32_t split_keys) {
  step s = {0};
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  test_ok(spindle_context_create(&s.context, &options));
  make_plan(&s, schedule, split_keys);
  s.a = allocate(&s, sizeof *s.a);
  s.state = allocate(&s, s.state_bytes);
  s.scratch = allocate(&s, s.scratch_bytes);
  s.q = allocate(&s, ROWS * HEADS * DIM * sizeof *s.q);
  s.o = allocate(&s, ROWS * HEADS * DIM * sizeof *s.o);
  s.k = allocate(&s, ELEMENTS * sizeof *s.k);
  s.v = allocate(&s, ELEMENTS * sizeof *s.v);
  for (int x = 0; x < ROWS * HEADS * DIM; x++) test_store(SPINDLE_BF16, &s.q[x], (float)test_random_normal(r));
  for (int x = 0; x < ELEMENTS; x++) {
    test_store(SPINDLE_BF16, &s.k[x], (float)test_random_normal(r));
    test_store(SPINDLE_BF16, &s.v[x], (float)test_random_normal(r));
  }
  s.batch = (spindle_batch){.struct_size = sizeof s.batch,
                            .max_requests = REQUESTS,
                            .page_size = PAGE,
                            .num_pages = PAGES,
                            .q_begin = s.a->q_begin,
                            .q_len = s.a->q_len,
                            .kv_len = s.a->kv_len,
                            .q_index = s.a->q_index,
                            .n = s.a->n,
                            .position = s.a->position,
                            .pages = s.a->pages[0],
                            .table_stride = STRIDE,
                            .page_index = s.a->page_index[0],
                            .page_span = s.a->page_span[0]};
  fill(&s);
  return s;
}

static void close_step(step *s) {
  void *memory[] = {s->a, s->state, s->scratch, s->q, s->o, s->k, s->v};
  for (size_t m = 0; m < sizeof memory / sizeof *memory; m++) spindle_free(s->context, memory[m]);
  spindle_plan_destroy(s->plan);
  spindle_positions_destroy(s->positions);
  spindle_context_destroy(s->context);
}

/* On the first `rows` rows of q and o. */
static void run_rows(const step *s, int32_t rows, uint16_t *q, uint16_t *o) {
  spindle_attention_args args = {.struct_size = sizeof args,
                                 .q_rows = rows,
                                 .q = {.data = q},
                                 .o = {.data = o},
                                 .k = {.data = s->k},
                                 .v = {.data = s->v},
                                 .scratch = s->scratch,
                                 .scratch_bytes = s->scratch_bytes};
  test_ok(spindle_plan_prepare(s->plan, s->positions, &s->batch, s->state, s->state_bytes, NULL));
  test_ok(spindle_attention(s->plan, &args, NULL));
  test_ok(spindle_stream_sync(s->context, NULL));
}

static void run(const step *s) { run_rows(s, ROWS, s->q, s->o); }

/* Two places of a text, or two requests, read one page: as if each had a copy. */
Test(prefill_tables, one_page_at_two_positions) {
  test_random r = test_random_start();
  static uint16_t want[ROWS * HEADS * DIM];
  for (int32_t schedule = SPINDLE_SCHEDULE_IN_LOOP; schedule <= SPINDLE_SCHEDULE_PREROTATE; schedule++) {
    step s = open_step(&r, schedule, 0);
    for (int entry = 3; entry < 6; entry++) {
      memcpy(s.k + s.a->pages[1][entry] * PAGE * DIM, s.k, PAGE * DIM * sizeof *s.k);
      memcpy(s.v + s.a->pages[1][entry] * PAGE * DIM, s.v, PAGE * DIM * sizeof *s.v);
    }
    run(&s);
    memcpy(want, s.o, sizeof want);
    for (int entry = 3; entry < 6; entry++) s.a->pages[1][entry] = 0;
    run(&s);
    cr_assert(!memcmp(s.o, want, sizeof want));
    close_step(&s);
  }
}

/* Rows that two requests claim are written by both: rows are wild where there is one request. */
static void make_wild(test_random *r, arrays *a, bool alone) {
  int32_t *small[] = {a->kv_len, a->position};
  int64_t *large[] = {a->q_index, a->n};
  if (alone) {
    a->q_begin[0] = (int32_t)test_batch_wild(r, a->q_begin[0]);
    a->q_len[0] = (int32_t)test_batch_wild(r, INT32_MAX);
    a->q_len[1] = a->q_len[2] = 0;
  }
  for (int x = 0; x < REQUESTS; x++) {
    for (int k = 0; k < 2; k++) small[k][x] = (int32_t)test_batch_wild(r, small[k][x]);
    for (int k = 0; k < 2; k++) large[k][x] = test_batch_wild(r, large[k][x]);
    for (int e = 0; e < STRIDE; e++) {
      a->pages[x][e] = (int32_t)test_batch_wild(r, a->pages[x][e]);
      a->page_index[x][e] = test_batch_wild(r, a->page_index[x][e]);
      a->page_span[x][e] = (uint32_t)test_batch_wild(r, a->page_span[x][e]);
    }
  }
}

Test(prefill_tables, values_out_of_range_stay_within_memory) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < (test_again() ? 20 : 40); round++) {
    step s = open_step(&r, round % 2 ? SPINDLE_SCHEDULE_IN_LOOP : SPINDLE_SCHEDULE_PREROTATE, 0);
    make_wild(&r, s.a, round % 4 < 2);
    run(&s);
    close_step(&s);
  }
}

/* A plan's bound may be larger than the tensors of one run, which end within a request of prefill or of decode, its keys split or
 * not. */
Test(prefill_tables, rows_beyond_the_tensors_are_left_alone) {
  test_random r = test_random_start();
  static const int32_t rows[] = {7, 43};
  for (int32_t k = 0; k < 4; k++) {
    const size_t bytes = (size_t)rows[k % 2] * HEADS * DIM * sizeof(uint16_t);
    step s = open_step(&r, SPINDLE_SCHEDULE_AUTO, k / 2 * 40);
    s.a->q_len[1] = s.a->q_len[2] = 6; /* decode's */
    uint16_t *q = allocate(&s, bytes), *o = allocate(&s, bytes);
    run(&s);
    memcpy(q, s.q, bytes);
    run_rows(&s, rows[k % 2], q, o);
    cr_assert(!memcmp(o, s.o, bytes), "%d rows, splits of %d", rows[k % 2], k / 2 * 40);
    spindle_free(s.context, q);
    spindle_free(s.context, o);
    close_step(&s);
  }
}
