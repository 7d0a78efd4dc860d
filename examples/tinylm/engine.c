#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers.h"

enum { PAGE = 64 };

/* What a step tells Spindle about its one request, in device memory. */
typedef struct step {
  int32_t q_begin, q_len, kv_len;
  int64_t n;
} step;

struct tinylm_engine {
  const tinylm_weights *w;
  int max_bytes, max_chunk, length, num_pages;
  spindle_shape shape;
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  void *state, *scratch;
  size_t state_bytes, scratch_bytes;
  step *step;
  int32_t *pages;               /* [num_pages]: the page table, page of the pool that holds keys PAGE * e and on */
  int64_t *slot, *index;        /* [max_chunk]: where each new key goes, and its place in the text */
  float *slopes;                /* ALiBi: [heads] */
  float **k, **v;               /* per layer: [num_pages][PAGE][kv_heads][head_dim] */
  float *q, *k_new, *v_new, *o; /* [max_chunk][heads or kv_heads][head_dim] */
  float *x, *h, *gate, *up;     /* [max_chunk][width], ..., [max_chunk][hidden] */
};

static _Thread_local char error[256];

const char *tinylm_engine_error(void) { return error; }

static bool ok(spindle_status status) {
  if (status) snprintf(error, sizeof error, "%s: %.200s", spindle_status_name(status), spindle_last_error());
  return !status;
}

static bool allocate(tinylm_engine *e, void *pointer, size_t bytes) {
  void *memory = NULL;
  if (!ok(spindle_malloc(e->context, &memory, bytes))) return false;
  memcpy(pointer, &memory, sizeof memory); /* pointer: the address of a pointer of any type */
  return true;
}

static bool allocate_floats(tinylm_engine *e, float **pointer, int rows, int width) {
  return allocate(e, pointer, (size_t)rows * (size_t)width * sizeof(float));
}

static bool create_objects(tinylm_engine *e, int backend, int key_state) {
  const tinylm_weights *w = e->w;
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  spindle_plan_options bounds = {
      .struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = e->max_chunk, .page_size = PAGE, .max_kv_len = e->max_bytes};
  e->shape = (spindle_shape){.struct_size = sizeof e->shape,
                             .q_dtype = SPINDLE_F32,
                             .num_q_heads = w->heads,
                             .num_kv_heads = w->kv_heads,
                             .head_dim_qk = w->head_dim,
                             .key_state = key_state,
                             .bias = w->position == TINYLM_ALIBI ? SPINDLE_BIAS_ALIBI : SPINDLE_BIAS_NONE};
  return ok(spindle_context_create(&e->context, &options)) &&
         ok(spindle_positions_create(&e->positions, e->context, &e->shape, 1)) &&
         ok(spindle_plan_create(&e->plan, e->context, &e->shape, &bounds)) &&
         ok(spindle_plan_workspace(e->plan, &e->state_bytes, &e->scratch_bytes)) && allocate(e, &e->state, e->state_bytes) &&
         allocate(e, &e->scratch, e->scratch_bytes);
}

static bool create_buffers(tinylm_engine *e) {
  const tinylm_weights *w = e->w;
  int q_width = w->heads * w->head_dim, kv_width = w->kv_heads * w->head_dim, rows = e->max_chunk;
  e->num_pages = (e->max_bytes + PAGE - 1) / PAGE;
  e->k = calloc((size_t)w->num_layers, sizeof *e->k);
  e->v = calloc((size_t)w->num_layers, sizeof *e->v);
  if (!e->k || !e->v) return snprintf(error, sizeof error, "out of memory"), false;
  for (int l = 0; l < w->num_layers; l++)
    if (!allocate_floats(e, e->k + l, e->num_pages * PAGE, kv_width) ||
        !allocate_floats(e, e->v + l, e->num_pages * PAGE, kv_width))
      return false;
  return allocate(e, &e->step, sizeof *e->step) && allocate(e, &e->pages, (size_t)e->num_pages * sizeof *e->pages) &&
         allocate(e, &e->slot, (size_t)rows * sizeof *e->slot) && allocate(e, &e->index, (size_t)rows * sizeof *e->index) &&
         allocate_floats(e, &e->slopes, 1, w->heads) && allocate_floats(e, &e->q, rows, q_width) &&
         allocate_floats(e, &e->o, rows, q_width) && allocate_floats(e, &e->k_new, rows, kv_width) &&
         allocate_floats(e, &e->v_new, rows, kv_width) && allocate_floats(e, &e->x, rows, w->width) &&
         allocate_floats(e, &e->h, rows, w->width) && allocate_floats(e, &e->gate, rows, w->hidden) &&
         allocate_floats(e, &e->up, rows, w->hidden);
}

tinylm_engine *tinylm_engine_create(const tinylm_weights *w, int max_bytes, int max_chunk, int backend, int key_state) {
  tinylm_engine *e = calloc(1, sizeof *e);
  spindle_position plain = {.struct_size = sizeof plain};
  if (!e) return snprintf(error, sizeof error, "out of memory"), NULL;
  *e = (tinylm_engine){.w = w, .max_bytes = max_bytes, .max_chunk = max_chunk};
  if (w->position == TINYLM_ROPE) {
    plain.rope = SPINDLE_ROPE_DEFAULT;
    plain.rope_theta = w->rope_theta;
  }
  if (!create_objects(e, backend, key_state) || !create_buffers(e) || !tinylm_engine_set_position(e, &plain) ||
      !ok(spindle_alibi_slopes(w->heads, 0, 0, 0, e->slopes)))
    return tinylm_engine_destroy(e), NULL;
  /* Pages need not follow each other: the text runs through the pool backwards, to show it. */
  for (int i = 0; i < e->num_pages; i++) e->pages[i] = e->num_pages - 1 - i;
  return e;
}

void tinylm_engine_destroy(tinylm_engine *e) {
  if (!e) return;
  if (e->context) {
    void *memory[] = {e->state, e->scratch, e->step,  e->pages, e->slot, e->index, e->slopes, e->q,
                      e->o,     e->k_new,   e->v_new, e->x,     e->h,    e->gate,  e->up};
    for (size_t m = 0; m < sizeof memory / sizeof *memory; m++) spindle_free(e->context, memory[m]);
    for (int l = 0; e->k && e->v && l < e->w->num_layers; l++) {
      spindle_free(e->context, e->k[l]);
      spindle_free(e->context, e->v[l]);
    }
  }
  free(e->k);
  free(e->v);
  spindle_plan_destroy(e->plan);
  spindle_positions_destroy(e->positions);
  spindle_context_destroy(e->context);
  free(e);
}

bool tinylm_engine_set_position(tinylm_engine *e, const spindle_position *position) {
  return ok(spindle_positions_set(e->positions, 0, position, NULL));
}

int tinylm_engine_length(const tinylm_engine *e) { return e->length; }

void tinylm_engine_rewind(tinylm_engine *e, int length) {
  if (length < e->length) e->length = length;
}

/* Once for all layers: lengths, where the new keys go, and the schedule. */
static bool prepare(tinylm_engine *e, int count, int64_t n) {
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .page_size = PAGE,
                         .num_pages = e->num_pages,
                         .q_begin = &e->step->q_begin,
                         .q_len = &e->step->q_len,
                         .kv_len = &e->step->kv_len,
                         .n = &e->step->n,
                         .pages = e->pages,
                         .table_stride = e->num_pages};
  *e->step = (step){.q_begin = 0, .q_len = count, .kv_len = e->length + count, .n = n ? n : e->length + count};
  for (int i = 0; i < count; i++) {
    e->index[i] = e->length + i;
    e->slot[i] = (int64_t)e->pages[e->index[i] / PAGE] * PAGE + e->index[i] % PAGE;
  }
  return ok(spindle_plan_prepare(e->plan, e->positions, &batch, e->state, e->state_bytes, NULL));
}

static bool append(tinylm_engine *e, int l, int count) {
  spindle_append_args args = {.struct_size = sizeof args,
                              .rows = count,
                              .page_size = PAGE,
                              .num_pages = e->num_pages,
                              .k_new = {.data = e->k_new},
                              .v_new = {.data = e->v_new},
                              .k = {.data = e->k[l]},
                              .v = {.data = e->v[l]},
                              .slot = e->slot};
  bool rotate = e->shape.key_state == SPINDLE_KEYS_ROTATED;
  if (rotate) args.index = e->index;
  return ok(spindle_append(e->context, &e->shape, rotate ? e->positions : NULL, &args, NULL));
}

static bool attend(tinylm_engine *e, int l, int count) {
  spindle_attention_args args = {.struct_size = sizeof args,
                                 .q_rows = count,
                                 .q = {.data = e->q},
                                 .o = {.data = e->o},
                                 .k = {.data = e->k[l]},
                                 .v = {.data = e->v[l]},
                                 .bias_a = e->w->position == TINYLM_ALIBI ? e->slopes : NULL,
                                 .scratch = e->scratch,
                                 .scratch_bytes = e->scratch_bytes};
  return ok(spindle_attention(e->plan, &args, NULL));
}

/* only_cache: nothing of the layer is wanted but its keys and values. */
static bool run_layer(tinylm_engine *e, int l, int count, bool only_cache) {
  const tinylm_weights *w = e->w;
  const tinylm_layer *layer = w->layers + l;
  tinylm_rmsnorm(e->x, layer->attn_norm, w->norm_eps, count, w->width, e->h);
  tinylm_matrix_apply(&layer->wk, e->h, count, e->k_new, false);
  tinylm_matrix_apply(&layer->wv, e->h, count, e->v_new, false);
  if (!append(e, l, count)) return false;
  if (only_cache) return true;
  tinylm_matrix_apply(&layer->wq, e->h, count, e->q, false);
  if (!attend(e, l, count)) return false;
  tinylm_matrix_apply(&layer->wo, e->o, count, e->x, true);

  tinylm_rmsnorm(e->x, layer->ffn_norm, w->norm_eps, count, w->width, e->h);
  tinylm_matrix_apply(&layer->w_gate, e->h, count, e->gate, false);
  tinylm_matrix_apply(&layer->w_up, e->h, count, e->up, false);
  tinylm_swiglu(e->gate, e->up, (size_t)count * (size_t)w->hidden);
  tinylm_matrix_apply(&layer->w_down, e->gate, count, e->x, true);
  return true;
}

bool tinylm_read(tinylm_engine *e, const uint8_t *bytes, int count, int64_t n, int num_logits, float *logits) {
  const tinylm_weights *w = e->w;
  if (count < 1 || count > e->max_chunk || count > e->max_bytes - e->length || num_logits > count)
    return snprintf(error, sizeof error, "%d bytes after %d: chunks have 1 to %d, texts up to %d", count, e->length, e->max_chunk,
                    e->max_bytes),
           false;
  for (int i = 0; i < count; i++)
    memcpy(e->x + (size_t)i * w->width, w->embed + (size_t)bytes[i] * w->width, (size_t)w->width * sizeof *e->x);
  if (!prepare(e, count, n)) return false;
  for (int l = 0; l < w->num_layers; l++)
    if (!run_layer(e, l, count, num_logits == 0 && l == w->num_layers - 1)) return false;
  e->length += count;

  const float *last = e->x + (size_t)(count - num_logits) * w->width;
  tinylm_rmsnorm(last, w->norm, w->norm_eps, num_logits, w->width, e->h);
  tinylm_matrix_apply(&w->unembed, e->h, num_logits, logits, false);
  return true;
}
