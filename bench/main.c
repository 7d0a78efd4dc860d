/* spindle: the library from the command line. */
#include <string.h>

#include "method.h"
#include "output.h"
#include "tool.h"

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *help;
  bool takes_position;
} commands[] = {
    {"info", tool_info, tool_info_help, false},
    {"rope", tool_rope, tool_rope_help, true},
    {"map", tool_map, tool_map_help, true},
    {"attend", tool_attend, tool_attend_help, true},
    {"validate", tool_validate, tool_validate_help, false},
    {"bench", tool_bench, tool_bench_help, false},
};
#define NUM_COMMANDS (sizeof commands / sizeof *commands)

static const char overview[] =
    "spindle: attention for long contexts, on keys cached without positions.\n"
    "\n"
    "  spindle info      what this build can do, and every method with its keys and source\n"
    "  spindle rope      the frequencies and factors that a rule comes to\n"
    "  spindle map       at which position difference each key of a row is scored\n"
    "  spindle attend    attention over .npy tensors\n"
    "  spindle validate  every method, or a model's layers, against float64\n"
    "  spindle bench     the time of every method, and its ratio to plain RoPE\n"
    "\n"
    "`spindle COMMAND --help` has the flags and an example. Exit status: 0; 1 where validate finds a miss; 2 for bad input.\n"
    "Example: spindle map --remap rerope:window=4 --row 9 --kv-len 10\n";

static bool wants_help(int argc, char **argv) {
  for (int a = 0; a < argc; a++)
    if (!strcmp(argv[a], "--help") || !strcmp(argv[a], "-h")) return true;
  return false;
}

int main(int argc, char **argv) {
  if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
    if (argc < 2) return tool_fail("command: got none, expected info, rope, map, attend, validate or bench (see spindle --help)");
    fputs(overview, stdout);
    return TOOL_OK;
  }
  for (size_t c = 0; c < NUM_COMMANDS; c++) {
    if (strcmp(argv[1], commands[c].name) != 0) continue;
    if (!wants_help(argc - 2, argv + 2)) return commands[c].run(argc - 2, argv + 2);
    fputs(commands[c].help, stdout);
    if (commands[c].takes_position) printf("\n%s", tool_position_help);
    return TOOL_OK;
  }
  return tool_fail("command: got '%s', expected info, rope, map, attend, validate or bench", argv[1]);
}
