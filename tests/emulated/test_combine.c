/* spindle_combine and spindle_combine_scale on the device, and the merging of a request's splits, against double. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/launch.h"
#include "support/attend.h"
#include "support/dtypes.h"
#include "support/mirror.h"

enum { MOST_PARTS = 131 };

static spindle_context *open_device(void) {
  spindle_context *context;
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  test_ok(spindle_context_create(&context, &options));
  return context;
}

/* Parts of one row: log2 or natural maxima, sums, whether a sink joins them. exp_of: what turns a unit into a weight. */
static double whole_lse(const double *lse, int32_t parts, double sink) {
  double top = sink, sum = 0;
  for (int32_t p = 0; p < parts; p++) top = fmax(top, lse[p]);
  if (top == -INFINITY) return top;
  for (int32_t p = 0; p < parts; p++) sum += exp(lse[p] - top);
  return top + log(sum + exp(sink - top));
}

static void check_lse(const char *what, double got, double want, double scale) {
  cr_assert(want == -INFINITY ? got == want : fabs(got - want) <= 3e-6 + 4e-7 * scale, "%s: LSE is %.9g, not %.9g", what, got,
            want);
}

/* ---- combine and combine_scale ---- */

typedef struct combine_case {
  spindle_combine_args a;
  bool in_place, with_sinks;
  size_t o_part, lse_part; /* elements of a part */
  char *part_o, *o;
  float *part_lse, *lse;
  float sink[5];
} combine_case;

static combine_case draw_case(test_random *r, bool scale_only) {
  static const int32_t dims[] = {1, 5, 64, 96, 128, 200, 512};
  double spread = test_random_once_in(r, 4) ? 1e5 : 5;
  combine_case c = {.with_sinks = test_random_once_in(r, 2), .in_place = test_random_once_in(r, 2)};
  spindle_combine_args *a = &c.a;
  *a = (spindle_combine_args){.struct_size = sizeof *a, .num_q_heads = 5, .head_dim_v = dims[test_random_int(r, 0, 6)]};
  a->parts = (int32_t)test_random_log(r, 1, MOST_PARTS);
  a->rows = (int32_t)test_random_int(r, 1, 7);
  a->part_dtype = (int32_t)test_random_int(r, SPINDLE_F32, SPINDLE_BF16);
  a->o_dtype = c.in_place ? a->part_dtype : (int32_t)test_random_int(r, SPINDLE_F32, SPINDLE_BF16);
  a->own_part = scale_only ? (int32_t)test_random_int(r, 0, a->parts - 1) : 0;
  int32_t head = (a->head_dim_v + 7) / 8 * 8, count = a->rows * 5;
  c.o_part = (size_t)(count * head);
  c.lse_part = (size_t)count;
  a->part_o = a->o = (spindle_rows){.head = head, .row = 5 * head};
  a->part_o_stride = (int64_t)c.o_part;
  a->part_lse_stride = (int64_t)c.lse_part;
  c.part_o = test_memory((size_t)a->parts * c.o_part * 4);
  c.part_lse = test_memory((size_t)a->parts * c.lse_part * 4);
  c.o = test_memory(c.o_part * 4);
  c.lse = test_memory(c.lse_part * 4);
  for (int32_t h = 0; h < 5; h++) c.sink[h] = h == 3 ? -INFINITY : (float)(spread * test_random_normal(r));
  for (int32_t p = 0; p < a->parts; p++)
    for (int32_t x = 0; x < count; x++) { /* the O of parts that saw nothing stays NaN; row 0 saw nothing at all */
      bool nothing = x < 5 || test_random_once_in(r, 4);
      c.part_lse[(size_t)(p * count + x)] = nothing ? -INFINITY : (float)(spread * test_random_normal(r));
      for (int32_t d = 0; d < a->head_dim_v && !nothing && (!scale_only || p == a->own_part); d++)
        test_store(
            a->part_dtype,
            c.part_o + ((scale_only ? 0 : (size_t)p * c.o_part) + (size_t)(x * head + d)) * test_dtype_bytes(a->part_dtype),
            (float)test_random_normal(r));
    }
  return c;
}

static void free_case(combine_case *c) {
  free(c->part_o);
  free(c->part_lse);
  free(c->o);
  free(c->lse);
}

/* O in c->o, LSE in c->lse. */
static void run_case(spindle_context *context, const combine_case *c, bool scale_only) {
  test_mirror m = test_mirror_open(context);
  spindle_combine_args a = c->a;
  size_t element = test_dtype_bytes(a.part_dtype), o_bytes = c->o_part * test_dtype_bytes(a.o_dtype);
  char *part_o = test_memory((size_t)a.parts * c->o_part * element);
  float *part_lse = test_memory((size_t)a.parts * c->lse_part * 4);
  memcpy(part_o, c->part_o, (size_t)a.parts * c->o_part * element);
  memcpy(part_lse, c->part_lse, (size_t)a.parts * c->lse_part * 4);
  a.part_o.data = test_mirror_out(&m, part_o, (size_t)a.parts * c->o_part * element);
  a.part_lse.data = test_mirror_out(&m, part_lse, (size_t)a.parts * c->lse_part * 4);
  a.o.data = c->in_place ? a.part_o.data : test_mirror_out(&m, c->o, o_bytes);
  a.lse.data = c->in_place ? a.part_lse.data : test_mirror_out(&m, c->lse, c->lse_part * 4);
  if (c->with_sinks) a.sink_logits = test_mirror_in(&m, c->sink, sizeof c->sink);
  test_ok(scale_only ? spindle_combine_scale(context, &a, NULL) : spindle_combine(context, &a, NULL));
  test_mirror_fetch(&m, NULL);
  test_mirror_close(&m);
  if (c->in_place) memcpy(c->o, part_o, o_bytes);
  if (c->in_place) memcpy(c->lse, part_lse, c->lse_part * 4);
  free(part_o);
  free(part_lse);
}

static void check_case(const combine_case *c, bool scale_only) {
  const spindle_combine_args *a = &c->a;
  int32_t count = a->rows * 5;
  double lse[MOST_PARTS], unit = test_unit_roundoff(a->o_dtype);
  for (int32_t x = 0; x < count; x++) {
    for (int32_t p = 0; p < a->parts; p++) lse[p] = (double)c->part_lse[(size_t)(p * count + x)];
    double all = whole_lse(lse, a->parts, c->with_sinks ? (double)c->sink[x % 5] : -INFINITY);
    check_lse("combine", (double)c->lse[x], all, fabs(all));
    for (int32_t d = 0; d < a->head_dim_v; d++) {
      double want = 0, size = 0,
             got = (double)test_load(a->o_dtype, c->o + (size_t)(x * a->o.head + d) * test_dtype_bytes(a->o_dtype));
      for (int32_t p = 0; p < a->parts; p++) {
        size_t at = (scale_only ? 0 : (size_t)p * c->o_part) + (size_t)(x * a->part_o.head + d);
        if (lse[p] == -INFINITY || (scale_only && p != a->own_part)) continue;
        double term = exp(lse[p] - all) * (double)test_load(a->part_dtype, c->part_o + at * test_dtype_bytes(a->part_dtype));
        want += term;
        size += fabs(term);
      }
      cr_assert(fabs(got - want) <= 1.01 * unit * fabs(want) + 4e-6 * size + (a->o_dtype == SPINDLE_F16 ? 0x1p-25 : 1e-37),
                "%d parts, row %d, channel %d of %d: %.9g, not %.9g", a->parts, x, d, a->head_dim_v, got, want);
    }
  }
}

static void check_many(bool scale_only) {
  test_random r = test_random_start();
  spindle_context *context = open_device();
  for (int round = 0; round < 40; round++) {
    combine_case c = draw_case(&r, scale_only);
    run_case(context, &c, scale_only);
    check_case(&c, scale_only);
    free_case(&c);
  }
  spindle_context_destroy(context);
}

Test(combine, merges_parts) { check_many(false); }
Test(combine, scales_a_part) { check_many(true); }

/* ---- Splits of requests ---- */

enum { REQUESTS = 70, HEADS = 3, ROWS = 150, O_STRIDE = 64, MOST_PARTIALS = 4000 };

typedef struct splits_case {
  spindle_shape shape;
  spindle__prepared request[REQUESTS];
  float o[MOST_PARTIALS][O_STRIDE], ml[MOST_PARTIALS][2];
  float sink[HEADS];
  char out[ROWS * HEADS * O_STRIDE * 4];
  float lse[ROWS * HEADS];
  int32_t q_rows;
  bool with_sinks;
  int64_t num_partials;
} splits_case;

static splits_case *draw_splits(test_random *r) {
  splits_case *c = test_memory(sizeof *c);
  int32_t row = 0;
  memset(c->request, 0, sizeof c->request);
  c->shape = (spindle_shape){.o_dtype = (int32_t)test_random_int(r, SPINDLE_F32, SPINDLE_BF16), .num_q_heads = HEADS};
  c->shape.head_dim_v = (int32_t)test_random_int(r, 1, O_STRIDE);
  c->with_sinks = test_random_once_in(r, 2);
  c->num_partials = 0;
  for (int32_t h = 0; h < HEADS; h++) c->sink[h] = (float)test_random_normal(r);
  for (int32_t q = 0; q < REQUESTS; q++) {
    spindle__prepared *p = &c->request[q];
    p->number = q;
    p->request.q_begin = row;
    p->request.q_len = (int32_t)test_random_int(r, 1, 3);
    row += p->request.q_len;
    p->work.num_splits = test_random_once_in(r, 3) ? (int32_t)test_random_log(r, 2, 40) : 1;
    int64_t partials = (int64_t)p->request.q_len * HEADS * p->work.num_splits;
    if (row > ROWS || c->num_partials + partials > MOST_PARTIALS) p->work.num_splits = 1;
    if (p->work.num_splits == 1) continue;
    p->work.first_partial = c->num_partials;
    c->num_partials += partials;
  }
  c->q_rows = (int32_t)test_random_int(r, ROWS - 40, ROWS);
  for (int64_t x = 0; x < c->num_partials; x++) { /* o of splits that saw nothing stays NaN */
    bool nothing = x < 60 || test_random_once_in(r, 4);
    c->ml[x][0] = nothing ? -INFINITY : (float)(8 * test_random_normal(r));
    c->ml[x][1] = nothing ? 0 : (float)test_random_real(r, 1, 50);
    for (int32_t d = 0; d < c->shape.head_dim_v && !nothing; d++) c->o[x][d] = (float)test_random_normal(r);
  }
  return c;
}

static void launch_splits(spindle_context *context, splits_case *c) {
  test_mirror m = test_mirror_open(context);
  spindle__totals totals = {.num_requests = REQUESTS, .num_partials = c->num_partials};
  spindle__attention_params p = {.shape = c->shape, .blocks = 2, .with_sinks = c->with_sinks, .o_stride = O_STRIDE};
  p.args.q_rows = c->q_rows;
  p.args.o = (spindle_rows){.head = O_STRIDE, .row = HEADS * O_STRIDE};
  p.args.lse = (spindle_lse){.head = 1, .row = HEADS};
  p.args.o.data = test_mirror_out(&m, c->out, sizeof c->out);
  p.args.lse.data = test_mirror_out(&m, c->lse, sizeof c->lse);
  p.args.sink_logits = test_mirror_in(&m, c->sink, sizeof c->sink);
  p.partial_o = test_mirror_in(&m, c->o, sizeof c->o);
  p.partial_ml = test_mirror_in(&m, c->ml, sizeof c->ml);
  p.state.totals = test_mirror_in(&m, &totals, sizeof totals);
  p.state.requests = test_mirror_in(&m, c->request, sizeof c->request);
  cr_assert_eq(spindle__launch_merge_splits(&p, NULL), 0);
  test_mirror_fetch(&m, NULL);
  test_mirror_close(&m);
}

static void check_row(const splits_case *c, const spindle__prepared *p, int32_t row, int32_t head, bool *merged) {
  int32_t splits = p->work.num_splits, at = (p->request.q_begin + row) * HEADS + head;
  int64_t first = p->work.first_partial + ((int64_t)row * HEADS + head) * splits;
  double lse[64], all;
  for (int32_t s = 0; s < splits; s++)
    lse[s] = c->ml[first + s][0] == -INFINITY ? -INFINITY : c->ml[first + s][0] * log(2) + log(c->ml[first + s][1]);
  all = whole_lse(lse, splits, c->with_sinks ? (double)c->sink[head] : -INFINITY);
  check_lse("splits", (double)c->lse[at], all, fabs(all));
  for (int32_t d = 0; d < c->shape.head_dim_v; d++) {
    double want = 0, size = 0;
    double got = (double)test_load(c->shape.o_dtype, c->out + (size_t)(at * O_STRIDE + d) * test_dtype_bytes(c->shape.o_dtype));
    for (int32_t s = 0; s < splits; s++) {
      if (lse[s] == -INFINITY) continue;
      double term = exp(lse[s] - all) / c->ml[first + s][1] * c->o[first + s][d];
      want += term;
      size += fabs(term);
    }
    cr_assert(fabs(got - want) <= 1.01 * test_unit_roundoff(c->shape.o_dtype) * fabs(want) + 4e-6 * size + 0x1p-25,
              "request %d, row %d, head %d, channel %d: %.9g, not %.9g", p->number, row, head, d, got, want);
  }
  merged[at] = true;
}

Test(combine, merges_splits) {
  test_random r = test_random_start();
  spindle_context *context = open_device();
  for (int round = 0; round < 6; round++) {
    splits_case *c = draw_splits(&r);
    bool merged[ROWS * HEADS] = {false};
    launch_splits(context, c);
    for (int32_t q = 0; q < REQUESTS; q++)
      for (int32_t x = 0; c->request[q].work.num_splits > 1 && x < c->request[q].request.q_len * HEADS; x++)
        if (c->request[q].request.q_begin + x / HEADS < c->q_rows) check_row(c, &c->request[q], x / HEADS, x % HEADS, merged);
    size_t bytes = test_dtype_bytes(c->shape.o_dtype);
    for (int32_t x = 0; x < ROWS * HEADS;
         x++) { /* rows of requests that were not split, rows beyond q_rows, channels beyond O's */
      size_t from = merged[x] ? (size_t)c->shape.head_dim_v : 0;
      cr_assert(merged[x] || isnan(c->lse[x]), "LSE of row %d was written", x);
      for (size_t b = from * bytes; b < O_STRIDE * bytes; b++)
        cr_assert_eq((unsigned char)c->out[(size_t)x * O_STRIDE * bytes + b], 0xff, "row %d: byte %zu was written", x, b);
    }
    free(c);
  }
  spindle_context_destroy(context);
}
