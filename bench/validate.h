/* What validate's two lists, of methods and of models, share. */
#ifndef SPINDLE_BENCH_VALIDATE_H
#define SPINDLE_BENCH_VALIDATE_H

#include "cases.h"
#include "compare.h"
#include "output.h"

typedef struct tool_validation {
  spindle_context *tested, *reference;
  const char *backend; /* the tested one's name */
  bool gpu;            /* the tested one is cuda: f16 and bf16, and schedules that differ */
  uint64_t seed;
  bool quick, longer;
  tool_json *json; /* NULL: text */
} tool_validation;

/* The comparisons that make up a row of the report. */
typedef struct tool_row {
  int32_t comparisons;
  bool failed;           /* a call did not run */
  tool_difference worst; /* by its ratio to the bound */
} tool_row;

/* Adds one comparison; the seed advances. schedule: SPINDLE_SCHEDULE_* of the tested backend. */
void tool_row_add(tool_row *row, tool_validation *v, const tool_method *method, const spindle_shape *shape,
                  const tool_problem *problem, int32_t schedule);
bool tool_row_good(const tool_row *row);
/* The columns that all rows have: comparisons, errors, bounds, verdict. Text begins after the caller's own columns. */
void tool_row_print_head(void);
void tool_row_print(const tool_row *row);
void tool_row_write(tool_json *json, const tool_row *row);

/* The dtypes tried are this one to BF16: matrix units take no f32. */
int32_t tool_first_dtype(const tool_validation *v);

/* false: some row missed. */
bool tool_validate_methods(tool_validation *v, const tool_case *cases, int32_t count);
bool tool_validate_models(tool_validation *v, const char *const *configs, int32_t count);

#endif
