/* spindle-server: a small server with continuous batching, on Spindle's public API. Read server.c first: main and the requests;
 * then engine.c: every call of Spindle; check.c is the stand-in for a model, and the check of every number that comes out. */
#ifndef SERVER_H
#define SERVER_H

#include <spindle/spindle.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
  LAYERS = 2, /* of one kind, so one plan serves both */
  HEADS = 8,
  KV_HEADS = 2,
  DIM = 64,
  PAGE = 16,      /* keys a page */
  SEATS = 4,      /* requests at a time; a request's seat is its position slot too */
  MAX_KEYS = 128, /* of one request: the model's context */
  MAX_ROWS = 48,  /* of one step */
  DOCUMENT = 32,  /* tokens that the prompts have in common, cached once in pages of their own */
  DOCUMENT_PAGES = DOCUMENT / PAGE,
  ENTRIES = MAX_KEYS / PAGE + 1,          /* of a page table: the page before the document may end half full */
  POOL = SEATS * ENTRIES + DOCUMENT_PAGES /* pages; enough for the worst case, so nobody has to be preempted here */
};

#define TRY(call)                                                               \
  do {                                                                          \
    if ((call) != SPINDLE_OK) {                                                 \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, spindle_last_error()); \
      exit(EXIT_FAILURE);                                                       \
    }                                                                           \
  } while (0)

/* ---- A request, and a step of all of them (server.c) ---- */

/* Part of a text: the tokens [index, index + end) have their keys in slots [0, end) of a page. */
typedef struct entry {
  int64_t index;
  int32_t page;
  uint32_t end;
} entry;

typedef struct request {
  int32_t id, kind; /* kind -1: the seat is free */
  int64_t text[MAX_KEYS];
  int32_t length;   /* tokens of the text so far */
  int32_t cached;   /* the first of them have their keys in the pool */
  bool generates;   /* the prompt is read */
  int32_t document; /* index of the document in the text; -1: it is behind us */
  int32_t wanted;   /* tokens still to be generated */
  entry table[ENTRIES];
  int32_t entries;
} request;

/* What a step tells Spindle. Every array lies in one block that is copied to the same device memory each step: one copy, and
 * addresses that a captured CUDA graph could hold. */
typedef struct step {
  int64_t q_index[SEATS], n[SEATS];
  int64_t page_index[SEATS][ENTRIES];
  int64_t slot[MAX_ROWS]; /* where each row's key goes */
  uint32_t page_span[SEATS][ENTRIES];
  int32_t pages[SEATS][ENTRIES];
  int32_t q_begin[SEATS], q_len[SEATS], kv_len[SEATS], position[SEATS];
  int64_t token[MAX_ROWS]; /* this and the next are the host's */
  int32_t rows;
} step;

/* ---- Spindle's objects (engine.c) ---- */

typedef struct engine {
  spindle_context *context;
  spindle_stream stream;
  spindle_shape shape;
  spindle_positions *positions;
  spindle_plan *plan;
  int32_t page_size;
  size_t state_bytes, scratch_bytes;
  void *state, *scratch;
  void *k[LAYERS], *v[LAYERS]; /* [POOL][PAGE] or, dense, [SEATS][MAX_KEYS], of [KV_HEADS][DIM] */
  void *q, *k_new, *v_new, *o; /* [MAX_ROWS], of one layer after the other */
  step *step;
  void *staging; /* host: [MAX_ROWS][HEADS][DIM] */
} engine;

/* page_size 0: a dense cache. o_dtype: what attention returns. */
void engine_create(engine *e, int32_t backend, int32_t dtype, int32_t o_dtype, int32_t page_size);
void engine_destroy(engine *e);
/* A request comes, with a rule of its own. */
void engine_admit(engine *e, int32_t seat, const spindle_position *position);
/* Once a step: uploads it and schedules it. */
void engine_prepare(engine *e, const step *s);
/* Once a layer: writes the keys and values of the step's rows; attention of its rows, o: [rows][HEADS][DIM]. */
void engine_append(engine *e, int32_t layer, const step *s);
void engine_attend(engine *e, int32_t layer, const step *s, float *o);

/* ---- The stand-in for a model, and the check (check.c) ---- */

enum { QUERY, KEY, VALUE };

uint64_t scramble(uint64_t x);
size_t dtype_bytes(int32_t dtype);
/* What a layer projects tokens to: [count][HEADS or KV_HEADS][DIM] of dtype. */
void project(int32_t dtype, int32_t layer, int32_t what, const int64_t *token, int32_t count, void *out);
void to_floats(int32_t dtype, const void *x, size_t count, float *out);

/* How far an element of O may be from the float64 reference. */
double tolerance(int32_t dtype);
/* Recomputes the step on `oracle`, a dense reference engine, from the texts alone. The largest error; NAN where one is. */
double worst_error(engine *oracle, const step *s, const request *seats, float (*o)[MAX_ROWS * HEADS * DIM]);

#endif
