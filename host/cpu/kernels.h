/* The inner loops of the CPU backend, as a table of functions: isa/isa.c is compiled once per instruction set, and each makes one
 * table.
 *
 * Layouts that they share with the code that calls them
 *     staged row    one row of Q or K in float, pairs apart: [first of each pair | second of each pair | channels that do not
 * rotate], each part padded to SPINDLE__CPU_PAD. Rotation is then the same loop for both pair layouts and any rotary dim and
 * offset. packed row    the same order without padding: depth = head_dim_qk floats. Q and K agree, so the order of channels does
 * not matter. packed keys   [blocks of keys][depth][block]: keys are columns, so that a product streams them as vectors. How many
 * floats a block has is the instruction set's affair; SPINDLE__CPU_BLOCK is the most. packed values [blocks of
 * channels][SPINDLE__CPU_TILE_KEYS][block].
 */
#ifndef SPINDLE_HOST_CPU_KERNELS_H
#define SPINDLE_HOST_CPU_KERNELS_H

#include "../../kernels/params.h"

#define SPINDLE__CPU_PAD        16  /* floats of the widest vector */
#define SPINDLE__CPU_BLOCK      64  /* four of the widest vectors */
#define SPINDLE__CPU_TILE_KEYS  128 /* two widest blocks, of 32 KB each at depth 128: one is live at a time, in L1 */
#define SPINDLE__CPU_MAX_ROWS   384 /* packed rows of an item */
#define SPINDLE__CPU_MAX_STAGED (SPINDLE__MAX_HEAD_DIM + 4 * SPINDLE__CPU_PAD)

/* Where the channels of a row of Q or K go in a staged row. */
typedef struct spindle__cpu_channels {
  int32_t depth;  /* head_dim_qk */
  int32_t offset; /* first rotated channel */
  int32_t pairs;
  int32_t pairs_padded;
  int32_t interleaved;
  int32_t staged; /* floats of a staged row, and of slack after it */
} spindle__cpu_channels;

/* Rows of storage: row c, of `dim` numbers of the dtype, at data + element offset[c]. */
typedef struct spindle__cpu_rows {
  const char *data;
  int32_t dtype, dim, count;
  const int64_t *offset;
} spindle__cpu_rows;

/* One key tile against the packed rows of one KV head. Row p of `rows` is query head p % group of index row p / group. */
typedef struct spindle__cpu_tile {
  int32_t rows, group, depth, values; /* values: head_dim_v */
  int32_t o_stride;
  const float *q;     /* [rows][depth], scaled so that q k is the score in units of log 2 (or tanh's argument, under a softcap) */
  const float *k, *v; /* packed, or few rows: */
  const spindle__cpu_rows *v_rows; /* s holds the scores already, values are read from storage; else NULL */
  float *s;                        /* [rows][SPINDLE__CPU_TILE_KEYS] */
  float *o;                        /* [rows][o_stride], not yet divided by l */
  float *m, *l;                    /* running maximum (log 2) and sum */
  const int32_t *lo, *hi;          /* [rows / group] columns that the index row sees: [lo, hi) */
  float softcap;                   /* c log2(e), or 0 */
  const float
      *bias; /* [group][bias_stride]: bias in units of log 2 at the distance that bias_shift - column belongs to; NULL: none */
  int32_t bias_stride, bias_shift;
  const int32_t *bias_column; /* column -> index of the key less the first's; NULL: the column itself */
  int32_t v_finite;           /* 0: some value is inf or NaN, so rows must not even multiply columns that they do not see by 0 */
} spindle__cpu_tile;

typedef struct spindle__cpu_kernels {
  const char *name;
  int32_t (*supported)(void);

  void (*to_float)(float *out, const void *in, int32_t dtype, int32_t count);
  void (*from_float)(void *out, const float *in, int32_t dtype, int32_t count);

  /* Canonical (cos, sin) of m[r] * step + offset, [rows][pairs]; pairs is padded. offset NULL: 0. See kernels/rope/phase.h. */
  void (*cos_sin)(const int64_t *m, int32_t rows, const uint64_t *step, const uint64_t *offset, int32_t pairs, float *c,
                  float *s);
  /* Row r of c and s times exp2(rate[t] * x[r]); like cos_sin canonical in x. |rate x| < 120. */
  void (*decay)(const int64_t *x, int32_t rows, const double *rate, int32_t pairs, float *c, float *s);

  /* c, s: [pairs_padded] of the row, or NULL: no rotation. staged: zeroed before its first use, for its padding. */
  void (*stage)(const spindle__cpu_channels *ch, const void *row, int32_t dtype, const float *c, const float *s, float *staged);
  void (*unstage)(const spindle__cpu_channels *ch, const float *staged, void *row, int32_t dtype);
  /* A packed row of Q: rotated channels times rotated_scale, the others times scale. */
  void (*pack_query)(const spindle__cpu_channels *ch, const float *staged, float rotated_scale, float scale, float *packed);

  /* c, s: [count][pairs_padded], or NULL: no rotation. */
  void (*pack_keys)(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                    float *packed);
  /* For few query rows: scores[rows][SPINDLE__CPU_TILE_KEYS] of queries [rows][staged] in staged order, straight from the keys.
   */
  void (*score_keys)(const spindle__cpu_channels *ch, const spindle__cpu_rows *keys, const float *c, const float *s,
                     const float *q, int32_t rows, float *scores);
  /* Returns 1 if all values are finite. */
  int32_t (*pack_values)(const spindle__cpu_rows *values, float *packed);

  /* out[x] = bias in units of log 2 at distance |first - x|, for x in [0, count). */
  void (*bias)(int32_t kind, float a, float p, int64_t first, int32_t count, float *out);
  /* Scores, online softmax, O += P V. */
  void (*attend)(const spindle__cpu_tile *tile);
} spindle__cpu_kernels;

extern const spindle__cpu_kernels spindle__cpu_kernels_portable;
#if defined(__x86_64__)
extern const spindle__cpu_kernels spindle__cpu_kernels_avx2;
extern const spindle__cpu_kernels spindle__cpu_kernels_avx512;
#endif

/* The best table that this machine can run; SPINDLE_CPU_ISA=portable|avx2|avx512 in the environment asks for a lesser one. */
const spindle__cpu_kernels *spindle__cpu_kernels_get(void);

#endif
