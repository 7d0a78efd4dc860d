#include "benchmark.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum { MAX_ROWS = 1 << 30, MAX_OPEN_CALLS = 3, REASON_BYTES = 256 };

/* Page tables, weights, and what an allocator loses. */
static const int64_t MARGIN_BYTES = (int64_t)64 << 20;

double tool_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool is_late(const tool_benchmark *b) { return b->seconds > 0 && tool_seconds() - b->begin > b->seconds; }

/* ---- One setting's tensors ---- */

static tool_problem problem_of(const tool_setting *s) {
  int32_t n = s->seq_len;
  return (tool_problem){.requests = s->batch,
                        .q_len = s->q_len,
                        .kv_len = n,
                        .q_index = n - s->q_len,
                        .n = n,
                        .page_size = s->page_size,
                        .rest_len = s->rest_len};
}

static bool make_method(const tool_benchmark *b, const tool_setting *s, const tool_case *c, tool_method *method,
                        spindle_shape *shape) {
  bool fp8 = s->dtype == SPINDLE_F8E4M3;
  if (!tool_case_method(c, tool_benchmark_trained(b, s), s->heads, s->head_dim, SPINDLE_PAIRS_HALF, method) ||
      !tool_method_shape(method, s->heads, s->kv_heads, s->head_dim, s->head_dim_v, fp8 ? SPINDLE_BF16 : s->dtype, shape))
    return false;
  shape->kv_dtype = s->dtype;
  shape->key_state = s->keys;
  return true;
}

/* ---- What is measured at all ---- */

typedef enum answer { YES, NO /* reported as a row */, FAILED /* reported as an error */ } answer;

static answer missing(tool_benchmark *b, const tool_setting *s, const char *name, const char *asked, tool_absence absence,
                      const char *reason) {
  tool_benchmark_missing(b, s, name, asked, absence, reason);
  return NO;
}

static answer missing_late(tool_benchmark *b, const tool_setting *s, const char *name, const char *asked) {
  char reason[REASON_BYTES];
  snprintf(reason, sizeof reason, "%g seconds have passed", b->seconds);
  return missing(b, s, name, asked, TOOL_LATE, reason);
}

/* What a plan said. Beyond its bounds is a setting that no caller can run; the rest is no answer but an error. */
static answer judge(tool_benchmark *b, const tool_setting *s, const char *name, const char *asked, spindle_status status) {
  char reason[REASON_BYTES];
  if (status == SPINDLE_OK) return YES;
  if (status != SPINDLE_UNSUPPORTED && status != SPINDLE_LIMIT_EXCEEDED) return tool_fail_library("tensors"), FAILED;
  snprintf(reason, sizeof reason, "%s", spindle_last_error());
  return missing(b, s, name, asked, TOOL_UNSUPPORTED, reason);
}

/* Whether the tensors are allowed and, on a GPU, find room. */
static bool fits(const tool_benchmark *b, const tool_call *call, int64_t workspace, char reason[REASON_BYTES]) {
  int64_t bytes = MAX_OPEN_CALLS * workspace;
  void *memory = NULL;
  for (int32_t tensor = 0; tensor < TOOL_NUM_INPUTS; tensor++) bytes += tool_call_input_bytes(call, tensor);
  double mib = (double)bytes / (1 << 20), allowed = (double)b->memory_bytes / (1 << 20);
  snprintf(reason, REASON_BYTES, "%.0f MiB of tensors are more than --memory (%.0f)", mib, allowed);
  if (b->memory_bytes && bytes > b->memory_bytes) return false;
  if (b->info.backend != SPINDLE_BACKEND_CUDA) return true;
  bool good = spindle_malloc(b->context, &memory, (size_t)(bytes + MARGIN_BYTES) + b->flush.bytes) == SPINDLE_OK;
  spindle_free(b->context, memory);
  snprintf(reason, REASON_BYTES, "the device has no room for %.0f MiB of tensors", mib);
  return good;
}

static answer is_measurable(tool_benchmark *b, const tool_setting *s, const spindle_shape *shape, const char *asked) {
  char reason[REASON_BYTES];
  tool_call call = {.shape = *shape, .problem = problem_of(s)};
  int64_t rows = (int64_t)s->batch * (s->page_size ? s->seq_len : s->q_len), workspace;
  if (is_late(b)) return missing_late(b, s, NULL, asked);
  if (rows > MAX_ROWS) {
    snprintf(reason, sizeof reason, "%lld rows are more than a call takes (%d)", (long long)rows, MAX_ROWS);
    return missing(b, s, NULL, asked, TOOL_SKIPPED, reason);
  }
  answer served = judge(b, s, NULL, asked, tool_call_needs(b->context, shape, &call.problem, b->schedule, &workspace));
  if (served != YES || fits(b, &call, workspace, reason)) return served;
  return missing(b, s, NULL, asked, TOOL_SKIPPED, reason);
}

/* ---- Measurement ---- */

/* What the calls of a setting share. */
typedef struct field {
  const tool_setting *setting;
  const char *asked;
  tool_call plain, rotated; /* rotated: not open where it would be plain, or is not wanted */
  double copy_per_s, plain_pairs;
} field;

/* From K to V, which needs no memory more and leaves numbers that do as well; on a GPU no less than what empties its cache, for a
 * smaller copy would end before its writes have left it. */
static bool time_copy(tool_benchmark *b, field *f) {
  tool_call *c = &f->plain;
  size_t bytes = (size_t)tool_call_input_bytes(c, TOOL_K);
  void *to = NULL;
  if (bytes >= b->flush.bytes) return tool_time_copy(c->args.v.data, c->args.k.data, bytes, &b->flush, &f->copy_per_s);
  bytes = b->flush.bytes;
  if (spindle_malloc(b->context, &to, bytes) != SPINDLE_OK) return tool_fail_library("memory"), false;
  bool good = tool_time_copy(to, b->flush.from, bytes, &b->flush, &f->copy_per_s);
  spindle_free(b->context, to);
  return good;
}

static bool open_field(tool_benchmark *b, field *f, const tool_method *method, const spindle_shape *shape) {
  const tool_setting *s = f->setting;
  tool_problem problem = problem_of(s);
  tool_random random = {1};
  spindle_shape rotated = *shape;
  rotated.key_state = SPINDLE_KEYS_ROTATED;
  if (!tool_call_open(&f->plain, b->context, method, shape, &problem, b->schedule) ||
      !tool_call_fill(&f->plain, TOOL_Q, &random) || !tool_call_fill(&f->plain, TOOL_K, &random) ||
      !tool_call_fill(&f->plain, TOOL_V, &random))
    return false;
  if (s->decode && !time_copy(b, f)) return false;
  if (!tool_benchmark_times_rotated(s) || s->keys == SPINDLE_KEYS_ROTATED) return true;
  if (!tool_call_open(&f->rotated, b->context, method, &rotated, &problem, b->schedule)) return false;
  tool_call_borrow(&f->rotated, &f->plain);
  return true;
}

static bool time_case(tool_benchmark *b, field *f, const tool_case *c) {
  const tool_setting *s = f->setting;
  spindle_shape shape;
  tool_method method;
  tool_call call = {0};
  tool_timing t;
  answer served = FAILED;
  if (is_late(b)) return missing_late(b, s, c->name, f->asked), true;
  bool good = make_method(b, s, c, &method, &shape);
  if (good) served = judge(b, s, c->name, f->asked, tool_context_serves(b->context, &shape));
  if (served == YES) {
    good = tool_call_open(&call, b->context, &method, &shape, &f->plain.problem, b->schedule);
    if (good) tool_call_borrow(&call, &f->plain);
    good = good && tool_time(&f->plain, f->rotated.context ? &f->rotated : NULL, &call, &method, &b->flush, &t);
    tool_call_close(&call);
  }
  tool_method_free(&method);
  if (served != YES || !good) return served == NO;
  if (s->keys == SPINDLE_KEYS_ROTATED) t.ratio_to_rotated = t.ratio;
  if (f->plain_pairs == 0) f->plain_pairs = t.visible_pairs;
  tool_progress_end();
  tool_benchmark_row(b, s, c, &t, f->copy_per_s, f->plain_pairs);
  return true;
}

static bool time_cases(tool_benchmark *b, field *f, const tool_case *rope, const tool_case *cases, int32_t count) {
  bool good = time_case(b, f, rope);
  for (int32_t k = 0; good && k < count; k++) {
    if (!strcmp(cases[k].name, rope->name)) continue;
    if (f->setting->keys == SPINDLE_KEYS_ROTATED && !tool_case_reads_rotated(&cases[k])) continue;
    tool_progress(cases[k].name, k, count);
    good = time_case(b, f, &cases[k]);
  }
  tool_progress_end();
  return good;
}

static bool time_setting(tool_benchmark *b, const tool_setting *s, const char *asked, const tool_case *cases, int32_t count) {
  static tool_case all[TOOL_MAX_CASES];
  const tool_case *rope = &all[0];
  spindle_shape shape;
  tool_method method;
  field f = {.setting = s, .asked = asked, .copy_per_s = NAN};
  tool_cases("default", all);
  answer measurable = FAILED;
  bool good = make_method(b, s, rope, &method, &shape);
  if (good) measurable = is_measurable(b, s, &shape, asked);
  if (measurable == YES) {
    good = open_field(b, &f, &method, &shape);
    if (good) tool_benchmark_print_head(b, s, f.copy_per_s);
    good = good && time_cases(b, &f, rope, cases, count);
    tool_call_close(&f.rotated);
    tool_call_close(&f.plain);
  }
  tool_method_free(&method);
  return good && measurable != FAILED;
}

bool tool_benchmark_run(tool_benchmark *b, const char *asked, const tool_case *cases, int32_t count) {
  bool good = true;
  tool_benchmark_print_intro(b);
  for (int32_t k = 0; good && k < tool_grid_count(&b->grid); k++) {
    tool_setting s = tool_grid_at(&b->grid, k);
    good = time_setting(b, &s, asked, cases, count);
  }
  if (good && b->text && b->missing)
    printf("\n%d not measured: not served, too large, or later than --seconds allows.\n", b->missing);
  return good;
}
