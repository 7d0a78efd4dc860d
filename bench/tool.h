/* The commands of the spindle tool. Each takes the arguments after its name and returns the exit status. */
#ifndef SPINDLE_BENCH_TOOL_H
#define SPINDLE_BENCH_TOOL_H

int tool_info(int argc, char **argv);
int tool_rope(int argc, char **argv);
int tool_map(int argc, char **argv);
int tool_attend(int argc, char **argv);
int tool_validate(int argc, char **argv);
int tool_bench(int argc, char **argv);

extern const char tool_info_help[], tool_rope_help[], tool_map_help[], tool_attend_help[], tool_validate_help[],
    tool_bench_help[];

#endif
