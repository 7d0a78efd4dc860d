/* The methods that validate and bench go through: every entry of the registry, and some compositions. */
#ifndef SPINDLE_BENCH_CASES_H
#define SPINDLE_BENCH_CASES_H

#include "method.h"

enum { TOOL_MAX_TERMS = 5, TOOL_MAX_CASES = 96 };

typedef struct tool_term {
  const spindle_method *method;
  const char *extra; /* keys to give beyond the required ones */
} tool_term;

typedef struct tool_case {
  char name[80]; /* "yarn", "yarn+rerope+logn+sinks" */
  tool_term terms[TOOL_MAX_TERMS];
  int32_t num_terms;
} tool_case;

/* All cases of that name ("all": all cases). 0: there is none, which has been reported. */
int32_t tool_cases(const char *name, tool_case cases[TOOL_MAX_CASES]);

/* Every method of it serves keys that are cached rotated. */
bool tool_case_reads_rotated(const tool_case *c);

enum { TOOL_TRAINED_STEP = 64 };
/* The case for a model that was trained on `trained` tokens (a multiple of 64): windows, chunks and lengths are shares of it. */
bool tool_case_method(const tool_case *c, int64_t trained, int32_t num_q_heads, int32_t head_dim, int32_t layout,
                      tool_method *method);

#endif
