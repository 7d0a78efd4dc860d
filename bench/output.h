/* What the tool says: one-line errors, progress, JSON. */
#ifndef SPINDLE_BENCH_OUTPUT_H
#define SPINDLE_BENCH_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { TOOL_OK = 0, TOOL_MISS = 1 /* a validation missed */, TOOL_BAD_INPUT = 2 };

/* One line on stderr, whatever the arguments hold. Returns TOOL_BAD_INPUT, so that callers can `return tool_fail(...)`. */
int tool_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Shown on stderr when it is a terminal, and wiped by tool_progress_end. */
void tool_progress(const char *what, int64_t done, int64_t total);
void tool_progress_end(void);

/* A JSON document, written as it is made. Inside an object every value takes its key, elsewhere NULL. */
typedef struct tool_json {
  FILE *file;
  bool separate; /* a value precedes at this depth */
} tool_json;

void tool_json_open(tool_json *json, const char *key, char bracket);
void tool_json_close(tool_json *json, char bracket);
void tool_json_string(tool_json *json, const char *key, const char *value);
void tool_json_integer(tool_json *json, const char *key, int64_t value);
void tool_json_bool(tool_json *json, const char *key, bool value);
/* 17 significant digits; null where JSON has no such number (NaN, infinity). */
void tool_json_number(tool_json *json, const char *key, double value);
void tool_json_numbers(tool_json *json, const char *key, const double *values, int64_t count);
/* Ends a document, or a line of JSON lines. */
void tool_json_end(tool_json *json);

#endif
