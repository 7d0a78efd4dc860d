/* Command line flags and the numbers in them. Failures have been reported (tool_fail) when a function returns false. */
#ifndef SPINDLE_BENCH_FLAGS_H
#define SPINDLE_BENCH_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

/* A flag takes a value (`text`) or is a switch (`on`); the other pointer is NULL. */
typedef struct tool_flag {
  const char *name;  /* "--head-dim" */
  const char **text; /* set to the value; NULL before */
  bool *on;
} tool_flag;

/* Reads `--name value`, `--name=value` and switches. Each flag at most once; --help is the caller's. */
bool tool_read_flags(int argc, char **argv, const tool_flag *flags, int count);

/* The whole of text must be the number, decimal, finite and in [low, high]. `where` says whose value it is: "--rope yarn:
 * factor". */
bool tool_read_integer(const char *where, const char *text, int64_t low, int64_t high, int64_t *value);
bool tool_read_number(const char *where, const char *text, double low, double high, double *value);
/* An integer that may end in k (1024) or M (1048576). */
bool tool_read_length(const char *where, const char *text, int64_t low, int64_t high, int64_t *value);
bool tool_read_bool(const char *where, const char *text, bool *value);
/* One of `choices` (NULL at the end); *choice is its number. */
bool tool_read_choice(const char *where, const char *text, const char *const *choices, int *choice);

typedef struct tool_list {
  int32_t count; /* 0: not given */
  double *values;
} tool_list;

/* "a;b;c" of numbers in [low, high]. The caller frees list->values. */
bool tool_read_list(const char *where, const char *text, double low, double high, tool_list *list);

#define TOOL_MAX_INDEX ((int64_t)1 << 40)

#endif
