#include "timing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "output.h"

enum { MIN_ROUNDS = 5, MAX_ROUNDS = 41, MAX_REPEATS = 100, MAX_WARMING = 200, COUNTED_ROWS = 256 };
enum { MAX_WORKS = 3, WASHES = 8 };
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

/* Of one request: its rows are the last of its keys, whose indices begin at 0. Keys: what the first row sees, and one a row
 * after. */
static bool count_pairs(const tool_method *m, int32_t q_len, int32_t kv_len, double *pairs, double *keys) {
  int64_t count = 0, first = 0, rows = q_len < COUNTED_ROWS ? q_len : COUNTED_ROWS;
  int32_t halves = m->position.s2_group ? 2 : 1; /* the second half of the heads sees other keys under S2 only */
  double *relative = malloc((size_t)kv_len * sizeof *relative);
  bool good = relative || (tool_fail("no memory for %d keys", kv_len), false);
  for (int64_t r = 0; good && r < rows; r++) {
    int64_t row = kv_len - q_len + (2 * r + 1) * q_len / (2 * rows);
    for (int32_t shifted = 0; good && shifted < halves; shifted++) good = count_row(m, shifted, row, kv_len, relative, &count);
  }
  for (int32_t shifted = 0; good && shifted < halves; shifted++)
    good = count_row(m, shifted, kv_len - q_len, kv_len, relative, &first);
  free(relative);
  *keys = fmin(kv_len, (double)first / halves + q_len - 1);
  *pairs = (double)count / (double)(rows * halves) * q_len;
  return good;
}

/* Pairs and keys seen, over all requests. */
static bool count_seen(const tool_method *m, const tool_problem *p, double *pairs, double *keys) {
  int32_t rest_len = p->rest_len ? p->rest_len : p->kv_len, others = p->requests - 1;
  double first_pairs, first_keys, rest_pairs, rest_keys;
  if (!count_pairs(m, p->q_len, p->kv_len, &first_pairs, &first_keys)) return false;
  rest_pairs = first_pairs;
  rest_keys = first_keys;
  if (others && p->rest_len && !count_pairs(m, p->q_len, rest_len, &rest_pairs, &rest_keys)) return false;
  *pairs = first_pairs + others * rest_pairs;
  *keys = first_keys + others * rest_keys;
  return true;
}

static bool count_work(const tool_call *call, const tool_method *method, tool_timing *t) {
  const spindle_shape *s = &call->shape;
  const tool_problem *p = &call->problem;
  double pairs, keys, q_element = (double)tool_dtype_bytes(s->q_dtype), o_element = (double)tool_dtype_bytes(s->o_dtype);
  double row = s->num_q_heads * (q_element * s->head_dim_qk + o_element * s->head_dim_v + sizeof(float));
  double key = s->num_kv_heads * (double)tool_dtype_bytes(s->kv_dtype) * (s->head_dim_qk + s->head_dim_v);
  if (!count_seen(method, p, &pairs, &keys)) return false;
  t->visible_pairs = pairs / p->requests;
  t->flops = 2.0 * (s->head_dim_qk + s->head_dim_v) * pairs * s->num_q_heads;
  t->bytes = (double)p->requests * p->q_len * row + keys * key;
  return true;
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

/* What is timed: an attention call, or a copy where call is NULL. */
typedef struct work {
  tool_call *call;
  void *to;
  const void *from;
  size_t bytes;
} work;

typedef struct stopwatch {
  const tool_flush *flush;
  spindle_event *begin, *end;
} stopwatch;

static bool stopwatch_open(stopwatch *w, const tool_flush *flush) {
  *w = (stopwatch){.flush = flush};
  if (spindle_event_create(flush->context, &w->begin) == SPINDLE_OK &&
      spindle_event_create(flush->context, &w->end) == SPINDLE_OK)
    return true;
  tool_fail_library("events");
  return false;
}

static void stopwatch_close(stopwatch *w) {
  spindle_event_destroy(w->flush->context, w->begin);
  spindle_event_destroy(w->flush->context, w->end);
}

static bool copy(const tool_flush *f, void *to, const void *from, size_t bytes, spindle_stream stream) {
  return spindle_copy(f->context, to, from, bytes, stream) == SPINDLE_OK || (tool_fail_library("copy"), false);
}

/* Half of the source again, in pieces to one place: the lines that the first copy wrote make room for lines that are clean. */
static bool empty_cache(const tool_flush *f, spindle_stream stream) {
  size_t piece = f->bytes / (2 * WASHES);
  bool good = copy(f, f->to, f->from, f->bytes, stream);
  for (size_t k = 0; good && piece && k < WASHES; k++) good = copy(f, f->to, (char *)f->from + k * piece, piece, stream);
  return good;
}

/* Seconds a call, over as many as it takes to outlast the clock's and the scheduler's grain. */
static bool measure(stopwatch *w, const work *x, int32_t repeats, double *seconds) {
  const tool_flush *f = w->flush;
  spindle_stream stream = x->call ? x->call->stream : NULL;
  double milliseconds;
  if (!empty_cache(f, stream)) return false;
  if (spindle_event_record(f->context, w->begin, stream) != SPINDLE_OK) return tool_fail_library("events"), false;
  for (int32_t k = 0; k < repeats; k++)
    if (!(x->call ? tool_call_run(x->call) : copy(f, x->to, x->from, x->bytes, stream))) return false;
  if (spindle_event_record(f->context, w->end, stream) != SPINDLE_OK ||
      spindle_event_elapsed(f->context, w->begin, w->end, &milliseconds) != SPINDLE_OK)
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

/* How many calls to time at once, by the first of the works: one where the cache is to be cold. */
static bool warm_up(stopwatch *w, const work *works, int32_t count, int32_t *repeats) {
  double seconds[MAX_WORKS] = {0}, spent = 0;
  bool cold = w->flush->bytes > 0;
  *repeats = 1;
  for (int32_t k = 0; k < MAX_WARMING && spent < WARM_SECONDS; k++) {
    for (int32_t x = 0; x < count; x++) {
      if (!measure(w, &works[x], 1, &seconds[x])) return false;
      spent += seconds[x];
    }
    if (!cold) break;
  }
  if (cold || seconds[0] >= REPEAT_SECONDS) return true;
  *repeats = seconds[0] * MAX_REPEATS > REPEAT_SECONDS ? (int32_t)(REPEAT_SECONDS / seconds[0]) + 1 : MAX_REPEATS;
  return true;
}

/* Rounds of one measurement of each work. Who goes first takes turns: the others find warm caches. */
static bool take_rounds(const tool_flush *flush, const work *works, int32_t count, double times[][MAX_ROUNDS], int32_t *rounds) {
  double spent = 0;
  int32_t repeats;
  stopwatch watch;
  *rounds = 0;
  if (!stopwatch_open(&watch, flush)) return false;
  bool good = warm_up(&watch, works, count, &repeats);
  while (good && *rounds < MAX_ROUNDS && (*rounds < MIN_ROUNDS || spent < ROUNDS_SECONDS)) {
    for (int32_t k = 0; good && k < count; k++) {
      int32_t turn = (k + *rounds) % count;
      good = measure(&watch, &works[turn], repeats, &times[turn][*rounds]);
      spent += repeats * times[turn][*rounds];
    }
    ++*rounds;
  }
  stopwatch_close(&watch);
  return good;
}

static double median_ratio(const double *times, const double *base, int32_t count) {
  double ratios[MAX_ROUNDS];
  for (int32_t r = 0; r < count; r++) ratios[r] = times[r] / base[r];
  return median(ratios, count);
}

bool tool_time(tool_call *plain, tool_call *rotated, tool_call *call, const tool_method *method, const tool_flush *flush,
               tool_timing *t) {
  enum { PLAIN, METHOD, ROTATED };
  const work works[MAX_WORKS] = {{.call = plain}, {.call = call}, {.call = rotated}};
  double times[MAX_WORKS][MAX_ROUNDS];
  memset(t, 0, sizeof *t);
  if (!count_work(call, method, t) || !take_rounds(flush, works, rotated ? 3 : 2, times, &t->rounds)) return false;
  t->ratio = median_ratio(times[METHOD], times[PLAIN], t->rounds);
  t->ratio_to_rotated = rotated ? median_ratio(times[METHOD], times[ROTATED], t->rounds) : NAN;
  t->median_s = median(times[METHOD], t->rounds);
  t->min_s = times[METHOD][0];
  t->max_s = times[METHOD][t->rounds - 1];
  return true;
}

bool tool_time_copy(void *to, const void *from, size_t bytes, const tool_flush *flush, double *bytes_per_s) {
  const work x = {.to = to, .from = from, .bytes = bytes};
  double times[1][MAX_ROUNDS];
  int32_t rounds;
  if (!take_rounds(flush, &x, 1, times, &rounds)) return false;
  *bytes_per_s = 2 * (double)bytes / median(times[0], rounds);
  return true;
}
