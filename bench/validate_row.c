#include <math.h>

#include "validate.h"

void tool_row_add(tool_row *row, tool_validation *v, const tool_method *method, const spindle_shape *shape,
                  const tool_problem *problem, int32_t schedule) {
  tool_difference d = {0};
  row->comparisons++;
  if (!tool_compare(v->tested, v->reference, method, shape, problem, schedule, v->seed++, &d)) {
    row->failed = true;
  } else if (row->comparisons == 1 || tool_difference_ratio(&d) > tool_difference_ratio(&row->worst)) {
    row->worst = d;
  }
}

int32_t tool_first_dtype(const tool_validation *v) { return v->gpu ? SPINDLE_F16 : SPINDLE_F32; }

bool tool_row_good(const tool_row *row) {
  return !row->failed && row->comparisons > 0 && tool_difference_ratio(&row->worst) <= 1;
}

void tool_row_print_head(void) {
  printf("%6s  %9s %9s  %9s %9s  %s\n", "cases", "O error", "allowed", "LSE error", "allowed", "verdict");
}

void tool_row_print(const tool_row *row) {
  const tool_difference *d = &row->worst;
  printf("%6d  %9.1e %9.1e  %9.1e %9.1e  %s\n", row->comparisons, d->o, d->o_tolerance, d->lse, d->lse_tolerance,
         row->failed          ? "FAILED"
         : tool_row_good(row) ? "ok"
                              : "MISS");
  fflush(stdout);
}

void tool_row_write(tool_json *json, const tool_row *row) {
  const tool_difference *d = &row->worst;
  tool_json_integer(json, "cases", row->comparisons);
  tool_json_number(json, "o_error", d->o);
  tool_json_number(json, "o_tolerance", d->o_tolerance);
  tool_json_number(json, "lse_error", d->lse);
  tool_json_number(json, "lse_tolerance", d->lse_tolerance);
  tool_json_bool(json, "ok", tool_row_good(row));
}
