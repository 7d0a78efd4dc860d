/* The settings that spindle bench goes through: every combination of the values that lists of flags and presets give. */
#ifndef SPINDLE_BENCH_GRID_H
#define SPINDLE_BENCH_GRID_H

#include <stdbool.h>
#include <stdint.h>

/* What is the same for all methods that are compared. */
typedef struct tool_setting {
  int32_t heads, kv_heads, head_dim, head_dim_v; /* head_dim: of Q and K */
  int32_t dtype, batch, seq_len, q_len, keys;    /* query rows are the last of the keys */
  int32_t rest_len, page_size;                   /* of tool_problem */
  bool decode;                                   /* one query row a request */
} tool_setting;

/* F8E4M3 stands for keys and values of it with BF16 queries. Names in the order of SPINDLE_F32, ...; NULL at the end. */
extern const char *const tool_grid_dtype_names[];
/* In the order of SPINDLE_KEYS_RAW, ... */
extern const char *const tool_key_names[];

/* As given; NULL: not given. A preset gives the others. */
typedef struct tool_grid_flags {
  const char *preset, *phase, *heads, *kv_heads, *head_dim, *dtype, *batch, *seq_len, *q_len, *rest_len, *page_size, *keys,
      *method, *seconds;
} tool_grid_flags;

enum { TOOL_MAX_ENTRIES = 32 };

typedef struct tool_entries {
  int32_t count, values[TOOL_MAX_ENTRIES];
} tool_entries;

typedef struct tool_grid {
  tool_entries heads, kv_heads;        /* these two go together */
  tool_entries head_dims, head_dims_v; /* likewise */
  tool_entries dtypes, batches, lengths, rows, keys;
  bool decode[TOOL_MAX_ENTRIES]; /* the phase of lengths.values[k] */
  int32_t rest_len, page_size;
} tool_grid;

/* Puts in what the preset says. */
bool tool_grid_apply_preset(tool_grid_flags *flags);
/* dtypes stay empty where none is given: the backend has the default. */
bool tool_grid_read(tool_grid *grid, const tool_grid_flags *flags);

int32_t tool_grid_count(const tool_grid *grid);
/* Keys change fastest, then query rows, lengths, batches, dtypes, head dims and heads. */
tool_setting tool_grid_at(const tool_grid *grid, int32_t number);

#endif
