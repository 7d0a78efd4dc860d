#include "timing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "output.h"

enum { MIN_ROUNDS = 5, MAX_ROUNDS = 41, MAX_REPEATS = 100, MAX_WARMING = 200, COUNTED_ROWS = 256 };
static const double ROUNDS_SECONDS = 0.4;   /* enough rounds, once this has passed */
static const double REPEAT_SECONDS = 0.002; /* the least to time at once */
static const double WARM_SECONDS = 0.05;    /* clocks of a GPU rise under load */

/* ---- Pairs ---- */

static bool count_row(const tool_method *m, bool shifted, int64_t row, int64_t n, double *relative, int64_t *count) {
  if (spindle_position_relative(&m->position, shifted, row, n, relative) != SPINDLE_OK)
    return tool_fail_library("POSITION"), false;
  for (int64_t j = 0; j < n; j++) *count += !isnan(relative[j]);
  return true;
}

/* Rows and keys of the problems timed are those of one text: key j has index j, the last row is at the last key. */
static bool count_pairs(const tool_method *m, const tool_problem *p, double *pairs) {
  int64_t count = 0, rows = p->q_len < COUNTED_ROWS ? p->q_len : COUNTED_ROWS, n = p->kv_len;
  int32_t halves = m->position.s2_group ? 2 : 1; /* the second half of the heads sees other keys under S2 only */
  double *relative = malloc((size_t)n * sizeof *relative);
  bool good = relative || (tool_fail("no memory for %lld keys", (long long)n), false);
  for (int64_t r = 0; good && r < rows; r++) {
    int64_t row = p->q_index + (2 * r + 1) * p->q_len / (2 * rows);
    for (int32_t shifted = 0; good && shifted < halves; shifted++) good = count_row(m, shifted, row, n, relative, &count);
  }
  free(relative);
  *pairs = (double)count / (double)(rows * halves) * p->q_len;
  return good;
}

static double count_bytes(const tool_call *call, double visible_pairs) {
  const spindle_shape *s = &call->shape;
  const tool_problem *p = &call->problem;
  double keys = fmin(p->kv_len, visible_pairs); /* of one row as many as it sees; more rows see all between them */
  double element = (double)tool_dtype_bytes(s->q_dtype), o_element = (double)tool_dtype_bytes(s->o_dtype);
  double row = s->num_q_heads * (element * s->head_dim_qk + o_element * s->head_dim_v + sizeof(float));
  double key = s->num_kv_heads * element * (s->head_dim_qk + s->head_dim_v);
  return p->requests * (p->q_len * row + keys * key);
}

/* ---- Time ---- */

bool tool_flush_open(tool_flush *f, spindle_context *context, size_t bytes) {
  *f = (tool_flush){.context = context, .bytes = bytes / 2};
  if (spindle_malloc(context, &f->from, f->bytes) == SPINDLE_OK && spindle_malloc(context, &f->to, f->bytes) == SPINDLE_OK)
    return true;
  tool_fail_library("--flush");
  return false;
}

void tool_flush_close(tool_flush *f) {
  spindle_free(f->context, f->from);
  spindle_free(f->context, f->to);
  *f = (tool_flush){0};
}

typedef struct stopwatch {
  spindle_context *context;
  const tool_flush *flush;
  spindle_event *begin, *end;
} stopwatch;

static bool stopwatch_open(stopwatch *w, spindle_context *context, const tool_flush *flush) {
  *w = (stopwatch){.context = context, .flush = flush};
  if (spindle_event_create(context, &w->begin) == SPINDLE_OK && spindle_event_create(context, &w->end) == SPINDLE_OK) return true;
  tool_fail_library("events");
  return false;
}

static void stopwatch_close(stopwatch *w) {
  spindle_event_destroy(w->context, w->begin);
  spindle_event_destroy(w->context, w->end);
}

/* Seconds a call, over as many as it takes to outlast the clock's and the scheduler's grain. */
static bool measure(stopwatch *w, tool_call *call, int32_t repeats, double *seconds) {
  const tool_flush *f = w->flush;
  double milliseconds;
  if (spindle_copy(w->context, f->to, f->from, f->bytes, call->stream) != SPINDLE_OK) return tool_fail_library("copy"), false;
  if (spindle_event_record(w->context, w->begin, call->stream) != SPINDLE_OK) return tool_fail_library("events"), false;
  for (int32_t k = 0; k < repeats; k++)
    if (!tool_call_run(call)) return false;
  if (spindle_event_record(w->context, w->end, call->stream) != SPINDLE_OK ||
      spindle_event_elapsed(w->context, w->begin, w->end, &milliseconds) != SPINDLE_OK)
    return tool_fail_library("events"), false;
  *seconds = milliseconds * 1e-3 / repeats;
  return true;
}

static int compare_doubles(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

/* Sorts the values. */
static double median(double *values, int32_t count) {
  qsort(values, (size_t)count, sizeof *values, compare_doubles);
  return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* How many calls to time at once: one where the cache is to be cold. */
static bool warm_up(stopwatch *w, tool_call *plain, tool_call *call, int32_t *repeats) {
  double method_s = 0, plain_s = 0, spent = 0;
  bool cold = w->flush->bytes > 0;
  *repeats = 1;
  for (int32_t k = 0; k < MAX_WARMING && spent < WARM_SECONDS; k++) {
    if (!measure(w, call, 1, &method_s) || !measure(w, plain, 1, &plain_s)) return false;
    spent += method_s + plain_s;
    if (!cold) break;
  }
  if (cold || plain_s >= REPEAT_SECONDS) return true;
  *repeats = plain_s * MAX_REPEATS > REPEAT_SECONDS ? (int32_t)(REPEAT_SECONDS / plain_s) + 1 : MAX_REPEATS;
  return true;
}

bool tool_time(tool_call *plain, tool_call *call, const tool_method *method, const tool_flush *flush, tool_timing *t) {
  double times[MAX_ROUNDS], ratios[MAX_ROUNDS], spent = 0, base;
  int32_t repeats;
  stopwatch watch;
  memset(t, 0, sizeof *t);
  if (!count_pairs(method, &call->problem, &t->visible_pairs) || !stopwatch_open(&watch, call->context, flush)) return false;
  bool good = warm_up(&watch, plain, call, &repeats);
  while (good && t->rounds < MAX_ROUNDS && (t->rounds < MIN_ROUNDS || spent < ROUNDS_SECONDS)) {
    int32_t r = t->rounds;
    /* Who goes first takes turns: the second finds warm caches. */
    good = r % 2 ? measure(&watch, call, repeats, &times[r]) && measure(&watch, plain, repeats, &base)
                 : measure(&watch, plain, repeats, &base) && measure(&watch, call, repeats, &times[r]);
    ratios[r] = times[r] / base;
    spent += repeats * (times[r] + base);
    t->rounds++;
  }
  stopwatch_close(&watch);
  if (!good) return false;
  t->ratio = median(ratios, t->rounds);
  t->median_s = median(times, t->rounds);
  t->min_s = times[0];
  t->max_s = times[t->rounds - 1];
  const spindle_shape *s = &call->shape;
  t->flops = 2.0 * (s->head_dim_qk + s->head_dim_v) * t->visible_pairs * s->num_q_heads * call->problem.requests;
  t->bytes = count_bytes(call, t->visible_pairs);
  return true;
}
