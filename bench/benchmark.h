/* A run of spindle bench: where it runs, what it measures, and what it says about it. */
#ifndef SPINDLE_BENCH_BENCHMARK_H
#define SPINDLE_BENCH_BENCHMARK_H

#include "cases.h"
#include "grid.h"
#include "output.h"
#include "timing.h"

typedef struct tool_benchmark {
  spindle_context *context;
  spindle_context_info info;
  tool_grid grid;
  int schedule; /* SPINDLE_SCHEDULE_* */
  int32_t flush_mib;
  int32_t trained; /* tokens that the methods' windows and lengths are shares of; 0: a quarter of the text */
  tool_flush flush;
  int64_t memory_bytes; /* of tensors; 0: as much as the device gives */
  double seconds;       /* nothing begins later; 0: no limit */
  double begin;         /* of tool_seconds */
  tool_json json;       /* file NULL: not wanted */
  bool text;            /* the table goes to standard output, which --json - takes for itself */
  char date[32];
  int32_t missing; /* rows of what was not measured */
} tool_benchmark;

/* Of a clock that only goes forward. */
double tool_seconds(void);

/* Every setting of the grid: plain RoPE against itself, which shows the noise, and the cases that the setting's keys allow. What
 * the backend does not serve, what does not fit the memory and what comes too late is reported as a row of its own. `asked` names
 * the cases in the row of a setting that was not measured. false: something failed, which has been reported. */
bool tool_benchmark_run(tool_benchmark *b, const char *asked, const tool_case *cases, int32_t count);

/* ---- Report ---- */

extern const char *const tool_schedule_names[]; /* in the order of SPINDLE_SCHEDULE_AUTO, ... */

void tool_benchmark_print_intro(const tool_benchmark *b);
/* copy_per_s: of tool_time_copy; NaN where it was not timed. */
void tool_benchmark_print_head(const tool_benchmark *b, const tool_setting *s, double copy_per_s);
/* What the methods of the setting are trained on. */
int32_t tool_benchmark_trained(const tool_benchmark *b, const tool_setting *s);
/* Plain RoPE on rotated keys is timed in every round: where rows are few beside keys, whose rotation is what counts then. */
bool tool_benchmark_times_rotated(const tool_setting *s);
void tool_benchmark_row(tool_benchmark *b, const tool_setting *s, const tool_case *c, const tool_timing *t, double copy_per_s,
                        double plain_pairs);

/* Of those that come too late the table shows the number alone. */
typedef enum tool_absence { TOOL_UNSUPPORTED, TOOL_SKIPPED, TOOL_LATE } tool_absence;
/* name NULL: the cases asked for, of which none was measured. */
void tool_benchmark_missing(tool_benchmark *b, const tool_setting *s, const char *name, const char *asked, tool_absence absence,
                            const char *reason);

#endif
