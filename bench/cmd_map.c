/* spindle map: one row's effective position differences. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "output.h"
#include "source.h"
#include "tool.h"

const char tool_map_help[] =
    "spindle map POSITION --row I --kv-len N [--shifted] [--json]\n"
    "\n"
    "Prints, for every key 0..N-1, the position difference at which row I (0 <= I < N) scores it, or that it is\n"
    "masked (JSON: null). --shifted shows the second half of the heads, which differs under --mask s2 only.\n"
    "Example: spindle map --remap rerope:window=4 --row 9 --kv-len 10\n";

static void print_json(int64_t row, const double *relative, int64_t n) {
  tool_json json = {.file = stdout};
  tool_json_open(&json, NULL, '{');
  tool_json_integer(&json, "row", row);
  tool_json_numbers(&json, "relative", relative, n);
  tool_json_close(&json, '}');
  tool_json_end(&json);
}

/* Thirds, as of Leaky ReRoPE with k = 3, do not add up exactly. */
static bool equal(double x, double y) { return fabs(x - y) < 1e-6 || (isnan(x) && isnan(y)); }

/* Keys in runs whose differences fall by the same step. */
static void print_text(int64_t row, const double *relative, int64_t n) {
  printf("Row %lld over %lld keys: the position difference at which each key is scored\n", (long long)row, (long long)n);
  printf("%12s  %12s  %s\n", "first key", "last key", "difference (first to last key)");
  for (int64_t j = 0; j < n;) {
    int64_t end = j + 1;
    double step = end < n ? relative[end] - relative[j] : 0;
    while (end < n && equal(relative[end] - relative[end - 1], step)) end++;
    if (isnan(relative[j]))
      for (end = j + 1; end < n && isnan(relative[end]);) end++;
    else if (end < n && isnan(step))
      end = j + 1;
    printf("%12lld  %12lld  ", (long long)j, (long long)(end - 1));
    if (isnan(relative[j]))
      printf("masked\n");
    else if (equal(relative[j], relative[end - 1]))
      printf("%.17g\n", relative[j]);
    else
      printf("%.17g to %.17g\n", relative[j], relative[end - 1]);
    j = end;
  }
}

static int map(const tool_position_flags *position, int64_t row, int64_t n, bool shifted, bool json) {
  spindle_config *config;
  tool_method m;
  double *relative = malloc((size_t)n * sizeof *relative);
  int status = TOOL_BAD_INPUT;
  if (!relative) {
    tool_fail("--kv-len: got %lld, no memory for that many keys", (long long)n);
    return status;
  }
  if (tool_method_load(&m, &config, position)) {
    if (spindle_position_relative(&m.position, shifted, row, n, relative) != SPINDLE_OK) {
      tool_fail_library("POSITION");
    } else {
      (json ? print_json : print_text)(row, relative, n);
      status = TOOL_OK;
    }
  }
  free(relative);
  tool_method_free(&m);
  spindle_config_destroy(config);
  return status;
}

int tool_map(int argc, char **argv) {
  tool_position_flags position = {0};
  const char *row_text = NULL, *kv_len_text = NULL;
  bool json = false, shifted = false;
  const tool_flag flags[] = {TOOL_POSITION_FLAGS(position),
                             {"--row", &row_text, NULL},
                             {"--kv-len", &kv_len_text, NULL},
                             {"--shifted", NULL, &shifted},
                             {"--json", NULL, &json}};
  int64_t row, n;
  if (!tool_read_flags(argc, argv, flags, TOOL_NUM_POSITION_FLAGS + 4)) return TOOL_BAD_INPUT;
  if (!kv_len_text) return tool_fail("--kv-len: not given, expected the number of keys");
  if (!row_text) return tool_fail("--row: not given, expected the index of a query row");
  if (!tool_read_integer("--kv-len", kv_len_text, 1, (int64_t)1 << 28, &n)) return TOOL_BAD_INPUT;
  if (!tool_read_integer("--row", row_text, 0, n - 1, &row)) return TOOL_BAD_INPUT;
  return map(&position, row, n, shifted, json);
}
