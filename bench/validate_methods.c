/* Every method x {prefill, chunk of a prefill, decode} x layouts x GQA ratios and head dims x dtypes, and on a GPU x ways to
 * read keys. */
#include "validate.h"

/* Windows, chunks and trained lengths of the samples are shares of this, and every length below passes it. */
enum { TRAINED = 128, NUM_PROBLEMS = 3, NUM_HEADS = 3, NUM_READINGS = 3 };

typedef struct heads {
  int32_t num_q_heads, num_kv_heads, head_dim;
} heads;

/* Prefill, a chunk of it for two requests, decode. The longer ones span many tiles, and head dims from 96 to 256. */
static const tool_problem usual[NUM_PROBLEMS] = {
    {1, 160, 160, 0, 0, 160, 0, 0}, {2, 40, 200, 160, 0, 200, 0, 0}, {2, 1, 333, 332, 0, 333, 0, 0}};
static const tool_problem longer[NUM_PROBLEMS] = {
    {1, 1000, 1000, 0, 0, 1000, 0, 0}, {1, 300, 3000, 2700, 0, 3000, 0, 0}, {2, 1, 9001, 9000, 0, 9001, 0, 0}};
static const heads usual_heads[NUM_HEADS] = {{4, 4, 64}, {8, 2, 128}, {10, 2, 48}};
static const heads longer_heads[NUM_HEADS] = {{4, 1, 256}, {14, 2, 128}, {12, 4, 96}};

/* What kernels tell apart; to the cpu and reference backends schedules are one. */
static const struct {
  int32_t key_state, schedule;
} readings[NUM_READINGS] = {
    {SPINDLE_KEYS_RAW, SPINDLE_SCHEDULE_IN_LOOP},
    {SPINDLE_KEYS_RAW, SPINDLE_SCHEDULE_PREROTATE},
    {SPINDLE_KEYS_ROTATED, SPINDLE_SCHEDULE_AUTO},
};

static void add_problem(tool_row *row, tool_validation *v, const tool_case *c, const tool_method *method, spindle_shape *shape,
                        int32_t problem, int32_t only) {
  const tool_problem *p = v->longer ? &longer[problem] : &usual[problem];
  if (!v->gpu) {
    tool_row_add(row, v, method, shape, p, SPINDLE_SCHEDULE_AUTO);
    return;
  }
  for (int32_t r = 0; r < NUM_READINGS; r++) {
    if (only >= 0 && r != only) continue;
    /* Methods for raw keys alone read them as the plan thinks best instead. */
    shape->key_state = tool_case_reads_rotated(c) ? readings[r].key_state : SPINDLE_KEYS_RAW;
    tool_row_add(row, v, method, shape, p, readings[r].schedule);
  }
}

/* One layout, head shape and dtype over all problems. false: the case could not be built. */
static bool add_problems(tool_row *row, tool_validation *v, const tool_case *c, int32_t shape_number, int32_t layout,
                         int32_t dtype, bool few) {
  heads h = v->longer ? longer_heads[shape_number] : usual_heads[shape_number];
  tool_method method;
  spindle_shape shape;
  bool good = tool_case_method(c, TRAINED, h.num_q_heads, h.head_dim, layout, &method) &&
              tool_method_shape(&method, h.num_q_heads, h.num_kv_heads, h.head_dim, h.head_dim, dtype, &shape);
  for (int32_t p = 0; good && p < NUM_PROBLEMS; p++)
    add_problem(row, v, c, &method, &shape, p, few ? (shape_number + p) % NUM_READINGS : -1);
  tool_method_free(&method);
  return good;
}

static tool_row validate_case(tool_validation *v, const tool_case *c) {
  bool few = v->quick || v->longer;
  tool_row row = {0};
  for (int32_t s = 0; s < NUM_HEADS; s++)
    for (int32_t layout = SPINDLE_PAIRS_HALF; layout <= SPINDLE_PAIRS_INTERLEAVED; layout++)
      for (int32_t dtype = tool_first_dtype(v); dtype <= SPINDLE_BF16; dtype++) {
        /* Few: each head shape once, every dtype, both layouts; of three problems and readings each with each. */
        if (few && (layout != s % 2 || dtype != (v->gpu ? SPINDLE_BF16 - s % 2 : SPINDLE_F32 + s))) continue;
        if (!add_problems(&row, v, c, s, layout, dtype, few)) row.failed = true;
      }
  return row;
}

bool tool_validate_methods(tool_validation *v, const tool_case *cases, int32_t count) {
  int32_t misses = 0;
  if (!v->json) {
    printf(
        "Every method against the float64 reference: prefill, a chunk of it and decode, both layouts, %d head shapes,\n"
        "%s. Columns: the comparison that came closest to its bound. O is the output, LSE the log of the\n"
        "softmax's sum.\n\n%-38s",
        NUM_HEADS, v->gpu ? "f16 bf16, raw keys rotated in the loop and before it, rotated keys" : "f32 f16 bf16", "method");
    tool_row_print_head();
  }
  for (int32_t k = 0; k < count; k++) {
    const char *flag = cases[k].num_terms == 1 ? tool_family_flag(cases[k].terms[0].method->family) + 2 : "mix";
    tool_progress(cases[k].name, k, count);
    tool_row row = validate_case(v, &cases[k]);
    tool_progress_end();
    misses += !tool_row_good(&row);
    if (v->json) {
      tool_json_open(v->json, NULL, '{');
      tool_json_string(v->json, "family", flag);
      tool_json_string(v->json, "method", cases[k].name);
      tool_row_write(v->json, &row);
      tool_json_close(v->json, '}');
    } else {
      printf("%-6s %-31s", flag, cases[k].name);
      tool_row_print(&row);
    }
  }
  if (!v->json) printf("\n%d methods, %d missed\n", count, misses);
  return misses == 0;
}
