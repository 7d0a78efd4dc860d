/* Every method x {prefill, chunk of a prefill, decode} x layouts x GQA ratios and head dims x dtypes. */
#include "validate.h"

/* Windows, chunks and trained lengths of the samples are shares of this, and every length below passes it. */
enum { TRAINED = 128 };

static const tool_problem problems[] = {
    {1, 160, 160, 0, 0, 160},  /* prefill */
    {2, 40, 200, 160, 0, 200}, /* a chunk of it, two requests */
    {2, 1, 333, 332, 0, 333},  /* decode */
};
static const struct { int32_t num_q_heads, num_kv_heads, head_dim; } heads[] = {{4, 4, 64}, {8, 2, 128}, {10, 2, 48}};

enum { NUM_PROBLEMS = sizeof problems / sizeof *problems, NUM_HEADS = sizeof heads / sizeof *heads };

/* One layout, head shape and dtype over all problems. false: the case could not be built. */
static bool add_problems(tool_row *row, tool_validation *v, const tool_case *c, int32_t shape_number, int32_t layout,
                         int32_t dtype) {
  int32_t q_heads = heads[shape_number].num_q_heads, dim = heads[shape_number].head_dim;
  tool_method method;
  spindle_shape shape;
  bool good = tool_case_method(c, TRAINED, q_heads, dim, layout, &method) &&
              tool_method_shape(&method, q_heads, heads[shape_number].num_kv_heads, dim, dim, dtype, &shape);
  for (int32_t p = 0; good && p < NUM_PROBLEMS; p++) tool_row_add(row, v, &method, &shape, &problems[p]);
  tool_method_free(&method);
  return good;
}

static tool_row validate_case(tool_validation *v, const tool_case *c) {
  tool_row row = {0};
  for (int32_t s = 0; s < NUM_HEADS; s++)
    for (int32_t layout = SPINDLE_PAIRS_HALF; layout <= SPINDLE_PAIRS_INTERLEAVED; layout++)
      for (int32_t dtype = SPINDLE_F32; dtype <= SPINDLE_BF16; dtype++) {
        /* Quick: each head shape and dtype once, both layouts. */
        if (v->quick && (layout != s % 2 || dtype != SPINDLE_F32 + s)) continue;
        if (!add_problems(&row, v, c, s, layout, dtype)) row.failed = true;
      }
  return row;
}

bool tool_validate_methods(tool_validation *v, const tool_case *cases, int32_t count) {
  int32_t misses = 0;
  if (!v->json) {
    printf(
        "Every method against the float64 reference: prefill, a chunk of it and decode, both layouts, %d head shapes,\n"
        "f32 f16 bf16. Columns: the comparison that came closest to its bound. O is the output, LSE the log of the\n"
        "softmax's sum.\n\n%-38s",
        NUM_HEADS, "method");
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
