/* Every row of instances.def is what some shape is served by, in prefill and in decode, through the public API, and every shape
 * that a plan accepts has a row. Hopper's serve on a 9.0 device, beside those that serve everywhere. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/halves.h"
#include "support/methods.h"

/* The def's words; decode's rows are for both kinds of scores. */
enum { IS_bf16 = SPINDLE_BF16, IS_f16 = SPINDLE_F16, IS_PLAIN = 0, IS_GENERAL = 1, IS_BOTH = 2 };

typedef struct row {
  const char *kernel;
  int32_t dtype, kv_dtype, head_dim, head_dim_v, scores;
} row;
static const row rows[] = {
#define SPINDLE__PREFILL(kernel, T, D, scores)      {#kernel, IS_##T, IS_##T, D, D, IS_##scores},
#define SPINDLE__PREFILL_E4M3(kernel, T, D, scores) {#kernel, IS_##T, SPINDLE_F8E4M3, D, D, IS_##scores},
#include "kernels/instances.def"
};
static const row hopper[] = {
#define SPINDLE__PREFILL_SM90(kernel, T, D, DV, scores)      {#kernel, IS_##T, IS_##T, D, DV, IS_##scores},
#define SPINDLE__PREFILL_SM90_E4M3(kernel, T, D, DV, scores) {#kernel, IS_##T, SPINDLE_F8E4M3, D, DV, IS_##scores},
#include "kernels/instances.def"
};
static const row decode[] = {
#define SPINDLE__DECODE(kernel, T, D)      {#kernel, IS_##T, IS_##T, D, D, IS_BOTH},
#define SPINDLE__DECODE_E4M3(kernel, T, D) {#kernel, IS_##T, SPINDLE_F8E4M3, D, D, IS_BOTH},
#include "kernels/instances.def"
};
enum { NUM_ROWS = sizeof rows / sizeof *rows, NUM_HOPPER = sizeof hopper / sizeof *hopper };
enum { NUM_DECODE = sizeof decode / sizeof *decode, MOST_KERNELS = 16 };
enum { PREFILL = 40, DECODE = 3 }; /* query rows of a request: more than a tile of decode, or fewer */

typedef struct launched {
  size_t count;
  const void *kernel[MOST_KERNELS];
} launched;

static bool has(const launched *l, const void *kernel) {
  for (size_t k = 0; k < l->count; k++)
    if (l->kernel[k] == kernel) return true;
  return false;
}

static launched run(test_random *r, const row *at, int32_t head_dim, int32_t key_state, int32_t q_len, bool general) {
  static const float slopes[] = {0.1f, 0.2f};
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                      .shape = {.q_dtype = at->dtype,
                                .kv_dtype = at->kv_dtype,
                                .num_q_heads = 2,
                                .head_dim_qk = head_dim,
                                .head_dim_v = head_dim < at->head_dim_v ? head_dim : at->head_dim_v,
                                .key_state = key_state,
                                .bias = general ? SPINDLE_BIAS_ALIBI : SPINDLE_BIAS_NONE},
                      .args = {.bias_a = general ? slopes : NULL}};
  test_request q = test_request_make(r, &setup.shape, test_rule(SPINDLE_ROPE_DEFAULT, head_dim), q_len, 50, 1);
  const void *const *list;
  launched l;
  char text[100];
  snprintf(text, sizeof text, "%s: %d rows, dtypes %d and %d, head dim %d of %d, keys %d, general %d", at->kernel, q_len,
           at->dtype, at->kv_dtype, head_dim, at->head_dim, key_state, general);
  emulator_forget();
  test_halves(text, &setup, &q, 1);
  l.count = emulator_kernels(&list);
  cr_assert_leq(l.count, MOST_KERNELS);
  memcpy(l.kernel, list, l.count * sizeof *list);
  test_request_free(&q);
  return l;
}

/* A row's own kernel runs for its head dims and for the least that is padded to it, with raw keys and with rotated ones, with the
 * scores that it is for, and for no other row. */
static void check_rows(const row *list, int32_t count, int32_t q_len) {
  static launched exact[NUM_HOPPER], padded[NUM_HOPPER];
  test_random r = test_random_start();
  for (int32_t x = 0; x < count; x++) {
    int32_t below = 0;
    for (int32_t y = 0; y < count; y++)
      if (list[y].head_dim < list[x].head_dim && list[y].head_dim > below) below = list[y].head_dim;
    exact[x] = run(&r, &list[x], list[x].head_dim, SPINDLE_KEYS_RAW, q_len, list[x].scores != IS_PLAIN);
    padded[x] = run(&r, &list[x], below + 2, SPINDLE_KEYS_ROTATED, q_len, list[x].scores == IS_GENERAL);
  }
  for (int32_t x = 0; x < count; x++) {
    int own = 0;
    for (size_t k = 0; k < exact[x].count; k++) {
      int others = 0;
      for (int32_t y = 0; y < count; y++) others += y != x && has(&exact[y], exact[x].kernel[k]);
      own += !others && has(&padded[x], exact[x].kernel[k]);
    }
    cr_assert(own, "row %d (dtypes %d and %d, head dim %d, scores %d) has no kernel of its own", x, list[x].dtype,
              list[x].kv_dtype, list[x].head_dim, list[x].scores);
  }
}

Test(instances, every_row_is_reached) { check_rows(rows, NUM_ROWS, PREFILL); }
Test(instances, every_row_is_reached_in_decode) { check_rows(decode, NUM_DECODE, DECODE); }

Test(instances, every_row_of_hopper_is_reached) {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  check_rows(hopper, NUM_HOPPER, PREFILL);
}

/* A build for Hopper alone has no others. */
Test(instances, hopper_has_what_others_have) {
  for (int32_t x = 0; x < NUM_ROWS; x++) {
    const row *r = &rows[x];
    bool has = false;
    for (int32_t y = 0; y < NUM_HOPPER; y++)
      has |= hopper[y].dtype == r->dtype && hopper[y].kv_dtype == r->kv_dtype && hopper[y].scores == r->scores &&
             hopper[y].head_dim >= r->head_dim && hopper[y].head_dim_v >= r->head_dim_v;
    cr_assert(has, "row %d (dtypes %d and %d, head dim %d, scores %d)", x, r->dtype, r->kv_dtype, r->head_dim, r->scores);
  }
}

static bool has_row(const spindle_shape *s) {
  for (int32_t x = 0; x < NUM_ROWS; x++)
    if (rows[x].dtype == s->q_dtype && rows[x].kv_dtype == s->kv_dtype && rows[x].head_dim >= s->head_dim_qk &&
        rows[x].head_dim >= s->head_dim_v)
      return true;
  return false;
}

/* Others are refused as unsupported, when the plan is made. */
Test(instances, plans_are_accepted_where_there_is_a_row) {
  test_random r = test_random_start();
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  spindle_plan_options bounds = {.struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 1, .max_kv_len = 1};
  spindle_context *context;
  test_ok(spindle_context_create(&context, &options));
  for (int32_t round = 0; round < 400; round++) {
    spindle_plan *plan = NULL;
    spindle_shape s = test_shape((spindle_shape){.q_dtype = (int32_t)test_random_int(&r, SPINDLE_F32, SPINDLE_BF16),
                                                 .num_q_heads = 1,
                                                 .head_dim_qk = (int32_t)test_random_log(&r, 1, 512),
                                                 .head_dim_v = (int32_t)test_random_log(&r, 1, 512),
                                                 .key_state = (int32_t)test_random_int(&r, 0, 1)});
    if (test_random_once_in(&r, 4)) s.kv_dtype = (int32_t)test_random_int(&r, SPINDLE_F32, SPINDLE_F8E4M3);
    spindle_status status = spindle_plan_create(&plan, context, &s, &bounds);
    cr_assert_eq(status, has_row(&s) ? SPINDLE_OK : SPINDLE_UNSUPPORTED, "dtypes %d and %d, head dims %d and %d: %s", s.q_dtype,
                 s.kv_dtype, s.head_dim_qk, s.head_dim_v, spindle_status_name(status));
    spindle_plan_destroy(plan);
  }
  spindle_context_destroy(context);
}
