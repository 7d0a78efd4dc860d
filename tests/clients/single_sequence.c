/* A program with one sequence and one cache, as local inference tools have it: when the cache is full, half of the text behind a
 * kept beginning is dropped and the rest moves down ("context shift"). Keys carry no position, so a shift edits the page table
 * and touches no key.
 *
 * Runs 100 shifts on the cpu and compares rows along the way with the reference backend on the text as it then stands, dense and
 * fresh. Exit 0 if all agree. */
#include <math.h>
#include <spindle/spindle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  HEADS = 4,
  KV_HEADS = 2,
  DIM = 32,
  PAGE = 16,
  CELLS = 128,
  PAGES = CELLS / PAGE + 2,
  ENTRIES = 4 * PAGES,
  KEEP = 21,
  SHIFTS = 100
};

#define TRY(call)                                                               \
  do {                                                                          \
    if ((call) != SPINDLE_OK) {                                                 \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, spindle_last_error()); \
      exit(1);                                                                  \
    }                                                                           \
  } while (0)

/* ---- The text, and what a model would make of its tokens ---- */

typedef struct text {
  int64_t token[CELLS];
  int32_t length;
} text;

/* Channel c of what token t projects to, of stream s: any function will do that is the same whenever the token is met again. */
static float projection(int64_t t, int s, int c) {
  return (float)sin(0.37 * (double)(t % 10007) * (c + 1) + 1.3 * s + 0.11 * c * c);
}

static void project(int64_t t, int s, int channels, float *out) {
  for (int c = 0; c < channels; c++) out[c] = projection(t, s, c);
}

/* ---- The cache: entries of a page table ---- */

typedef struct entry {
  int32_t page;
  int64_t index;       /* of slot 0, which need not be valid */
  uint32_t first, end; /* valid slots */
} entry;

typedef struct cache {
  entry table[ENTRIES];
  int32_t entries, keys;
  int32_t users[PAGES]; /* entries per page */
} cache;

static int32_t free_page(const cache *c) {
  for (int32_t p = 0; p < PAGES; p++)
    if (!c->users[p]) return p;
  fprintf(stderr, "no free page\n");
  exit(1);
}

/* The slot of the token that comes next, at `index`. A page that two entries share is never written: its free slots may be the
 * other's. */
static int64_t next_slot(cache *c, int64_t index) {
  entry *last = c->entries ? &c->table[c->entries - 1] : NULL;
  if (!last || last->end == PAGE || c->users[last->page] > 1) {
    last = &c->table[c->entries++];
    *last = (entry){free_page(c), index, 0, 0};
    c->users[last->page]++;
  }
  c->keys++;
  return (int64_t)last->page * PAGE + last->end++;
}

/* Forgets indices [begin, begin + count) and moves what follows down by count. */
static void drop(cache *c, int64_t begin, int64_t count) {
  entry kept[ENTRIES];
  int32_t n = 0;
  for (int32_t e = 0; e < c->entries; e++) {
    entry before = c->table[e], after = before;
    int64_t lo = before.index + before.first, hi = before.index + before.end;
    c->users[before.page]--;
    if (lo < begin) {
      if (hi > begin) before.end = (uint32_t)(begin - before.index);
      kept[n++] = before;
      c->users[before.page]++;
    }
    if (hi > begin + count) {
      if (lo < begin + count) after.first = (uint32_t)(begin + count - after.index);
      after.index -= count;
      kept[n++] = after;
      c->users[after.page]++;
    }
  }
  memcpy(c->table, kept, (size_t)n * sizeof *kept);
  c->entries = n;
  c->keys -= (int32_t)count;
}

/* ---- The model's attention layer ---- */

typedef struct layer {
  spindle_context *context;
  spindle_shape shape;
  spindle_positions *positions;
  spindle_plan *plan;
  void *state, *scratch;
  size_t state_bytes, scratch_bytes;
  uint16_t *k, *v;              /* device: the cache */
  float *q, *o, *new_k, *new_v; /* device: one token */
  void *metadata;               /* device */
} layer;

static void *device(layer *l, size_t bytes) {
  void *memory;
  TRY(spindle_malloc(l->context, &memory, bytes));
  return memory;
}

static layer make_layer(int32_t backend, int32_t page_size) {
  layer l = {.shape = {.struct_size = sizeof l.shape,
                       .q_dtype = SPINDLE_F32,
                       .kv_dtype = SPINDLE_F16,
                       .num_q_heads = HEADS,
                       .num_kv_heads = KV_HEADS,
                       .head_dim_qk = DIM}};
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend, .num_threads = 1}; /* rows are tiny */
  spindle_plan_options bounds = {
      .struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 1, .page_size = page_size, .max_kv_len = CELLS};
  /* Its frequencies follow the length of the text as it is now, up and down again. */
  spindle_position rule = {
      .struct_size = sizeof rule, .rope = SPINDLE_ROPE_DYNAMIC_NTK, .factor = 2, .max_position_embeddings = 64};
  TRY(spindle_context_create(&l.context, &options));
  TRY(spindle_positions_create(&l.positions, l.context, &l.shape, 1));
  TRY(spindle_positions_set(l.positions, 0, &rule, NULL));
  TRY(spindle_plan_create(&l.plan, l.context, &l.shape, &bounds));
  TRY(spindle_plan_workspace(l.plan, &l.state_bytes, &l.scratch_bytes));
  size_t cells = page_size ? (size_t)PAGES * PAGE : CELLS;
  l.state = device(&l, l.state_bytes);
  l.scratch = device(&l, l.scratch_bytes);
  l.k = device(&l, cells * KV_HEADS * DIM * sizeof *l.k);
  l.v = device(&l, cells * KV_HEADS * DIM * sizeof *l.v);
  l.q = device(&l, HEADS * DIM * sizeof(float));
  l.o = device(&l, HEADS * DIM * sizeof(float));
  l.new_k = device(&l, KV_HEADS * DIM * sizeof(float));
  l.new_v = device(&l, KV_HEADS * DIM * sizeof(float));
  l.metadata = device(&l, 65536);
  return l;
}

static void free_layer(layer *l) {
  void *all[] = {l->state, l->scratch, l->k, l->v, l->q, l->o, l->new_k, l->new_v, l->metadata};
  for (size_t m = 0; m < sizeof all / sizeof *all; m++) spindle_free(l->context, all[m]);
  spindle_plan_destroy(l->plan);
  spindle_positions_destroy(l->positions);
  spindle_context_destroy(l->context);
}

/* Writes a token's key and value; no position is needed for that. */
static void append(layer *l, int64_t token, int64_t slot, int32_t page_size, int32_t pages) {
  float k[KV_HEADS * DIM], v[KV_HEADS * DIM];
  project(token, 1, KV_HEADS * DIM, k);
  project(token, 2, KV_HEADS * DIM, v);
  TRY(spindle_copy(l->context, l->new_k, k, sizeof k, NULL));
  TRY(spindle_copy(l->context, l->new_v, v, sizeof v, NULL));
  TRY(spindle_copy(l->context, l->metadata, &slot, sizeof slot, NULL));
  spindle_append_args a = {.struct_size = sizeof a,
                           .rows = 1,
                           .page_size = page_size,
                           .num_pages = pages,
                           .k_new = {.data = l->new_k},
                           .v_new = {.data = l->new_v},
                           .k = {.data = l->k},
                           .v = {.data = l->v},
                           .slot = l->metadata};
  TRY(spindle_append(l->context, &l->shape, NULL, &a, NULL));
}

/* The last token's row over the keys that `batch` describes. */
static void attend(layer *l, const spindle_batch *batch, int64_t token, float *out) {
  float q[HEADS * DIM];
  project(token, 0, HEADS * DIM, q);
  TRY(spindle_copy(l->context, l->q, q, sizeof q, NULL));
  TRY(spindle_plan_prepare(l->plan, l->positions, batch, l->state, l->state_bytes, NULL));
  spindle_attention_args a = {.struct_size = sizeof a,
                              .q_rows = 1,
                              .q = {.data = l->q},
                              .o = {.data = l->o},
                              .k = {.data = l->k},
                              .v = {.data = l->v},
                              .scratch = l->scratch,
                              .scratch_bytes = l->scratch_bytes};
  TRY(spindle_attention(l->plan, &a, NULL));
  TRY(spindle_copy(l->context, out, l->o, HEADS * DIM * sizeof(float), NULL));
}

/* ---- The program, and its check ---- */

/* Everything about one step that changes, in one block of device memory. */
typedef struct metadata {
  int32_t q_begin, q_len, kv_len, unused;
  int64_t q_index;
  int64_t page_index[ENTRIES];
  int32_t pages[ENTRIES];
  uint32_t page_span[ENTRIES];
} metadata;

static void decode(layer *l, const cache *c, const text *t, float *out) {
  metadata m = {.q_len = 1, .kv_len = c->keys, .q_index = t->length - 1};
  const metadata *d = l->metadata;
  for (int32_t e = 0; e < c->entries; e++) {
    m.pages[e] = c->table[e].page;
    m.page_index[e] = c->table[e].index;
    m.page_span[e] = c->table[e].first | c->table[e].end << 16;
  }
  TRY(spindle_copy(l->context, l->metadata, &m, sizeof m, NULL));
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .page_size = PAGE,
                         .num_pages = PAGES,
                         .q_begin = &d->q_begin,
                         .q_len = &d->q_len,
                         .kv_len = &d->kv_len,
                         .q_index = &d->q_index,
                         .pages = d->pages,
                         .table_stride = ENTRIES,
                         .page_index = d->page_index,
                         .page_span = d->page_span};
  TRY(spindle_batch_check(l->plan, l->positions, &batch, NULL));
  attend(l, &batch, t->token[t->length - 1], out);
}

/* The same row from scratch: every token of the text appended anew, dense, in order. */
static void decode_afresh(const text *t, float *out) {
  layer l = make_layer(SPINDLE_BACKEND_REFERENCE, 0);
  const int32_t zero = 0, one = 1;
  for (int32_t i = 0; i < t->length; i++) append(&l, t->token[i], i, CELLS, 1);
  spindle_batch batch = {.struct_size = sizeof batch, .max_requests = 1, .q_begin = &zero, .q_len = &one, .kv_len = &t->length};
  attend(&l, &batch, t->token[t->length - 1], out);
  free_layer(&l);
}

static int agree(const float *got, const float *want, int shifts) {
  for (int c = 0; c < HEADS * DIM; c++)
    if (!(fabsf(got[c] - want[c]) < 2e-5f)) {
      fprintf(stderr, "after %d shifts channel %d is %g, not %g\n", shifts, c, (double)got[c], (double)want[c]);
      return 0;
    }
  return 1;
}

int main(void) {
  layer l = make_layer(SPINDLE_BACKEND_CPU, PAGE);
  cache c = {.entries = 0};
  text t = {.length = 0};
  float got[HEADS * DIM], want[HEADS * DIM];
  int shifts = 0, checked = 0;
  for (int64_t token = 1; shifts < SHIFTS; token++) {
    if (t.length == CELLS - PAGE) { /* full, but for the tail page that a shift may leave half used */
      int32_t count = (t.length - KEEP) / 2 + shifts % 7;
      drop(&c, KEEP, count);
      memmove(t.token + KEEP, t.token + KEEP + count, (size_t)(t.length - KEEP - count) * sizeof *t.token);
      t.length -= count;
      shifts++;
    }
    append(&l, token, next_slot(&c, t.length), PAGE, PAGES);
    t.token[t.length++] = token;
    decode(&l, &c, &t, got);
    if (token % 97 && t.length != CELLS - PAGE) continue;
    decode_afresh(&t, want);
    if (!agree(got, want, shifts)) return 1;
    checked++;
  }
  printf("%d shifts, %d rows compared with the text from scratch\n", shifts, checked);
  free_layer(&l);
  return 0;
}
