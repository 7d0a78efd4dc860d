#include "attention_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtypes.h"

static int64_t pick(test_random *r, const int64_t *values, size_t count) {
  return values[test_random_int(r, 0, (int64_t)count - 1)];
}
#define PICK(r, ...) pick(r, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

void *test_case_allocate(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 256, (bytes + 255) / 256 * 256 + 256)) abort();
  memset(memory, 0, bytes);
  return memory;
}

/* ---- Shape ---- */

static void draw_shape(test_random *r, int32_t features, spindle_shape *s) {
  *s = (spindle_shape){.struct_size = sizeof *s, .q_dtype = SPINDLE_F32};
  int32_t group = (int32_t)PICK(r, 1, 1, 2, 3, 4, 8);
  s->num_kv_heads = (int32_t)PICK(r, 1, 2, 3, 8 / group + 1);
  s->num_q_heads = s->num_kv_heads * group;
  s->head_dim_qk = (int32_t)PICK(r, 8, 16, 24, 40, 64, 72, 80, 96, 128, 192, 256);
  s->head_dim_v = test_random_once_in(r, 2) ? s->head_dim_qk : (int32_t)PICK(r, 8, 16, 40, 64, 128, 200);
  s->rotary_dim = s->head_dim_qk;
  if (test_random_once_in(r, 2)) s->rotary_dim = (int32_t)test_random_int(r, 2, s->head_dim_qk / 2) * 2;
  s->rotary_offset = (int32_t)test_random_int(r, 0, s->head_dim_qk - s->rotary_dim);
  s->pair_layout = (int32_t)test_random_int(r, 0, 1);
  if (features & TEST_CASE_DTYPES) {
    s->q_dtype = (int32_t)PICK(r, SPINDLE_F32, SPINDLE_F16, SPINDLE_BF16);
    s->kv_dtype = (int32_t)PICK(r, s->q_dtype, s->q_dtype, SPINDLE_F8E4M3);
    s->o_dtype = (int32_t)PICK(r, s->q_dtype, SPINDLE_F32);
  }
  if (!s->kv_dtype) s->kv_dtype = s->q_dtype;
  if (!s->o_dtype) s->o_dtype = s->q_dtype;
  if (features & TEST_CASE_METHODS) {
    s->key_state = test_random_once_in(r, 5) ? SPINDLE_KEYS_ROTATED : SPINDLE_KEYS_RAW;
    s->bias =
        test_random_once_in(r, 3) ? (int32_t)PICK(r, SPINDLE_BIAS_ALIBI, SPINDLE_BIAS_KERPLE_LOG, SPINDLE_BIAS_KERPLE_POWER) : 0;
  }
}

/* ---- Method ---- */

static void draw_rule(test_random *r, const test_case *c, spindle_position *p) {
  p->rope = (int32_t)PICK(r, SPINDLE_ROPE_NONE, SPINDLE_ROPE_DEFAULT, SPINDLE_ROPE_LINEAR, SPINDLE_ROPE_YARN,
                          SPINDLE_ROPE_DYNAMIC_LINEAR, SPINDLE_ROPE_DYNAMIC_YARN, SPINDLE_ROPE_DEEPSEEK_YARN, SPINDLE_ROPE_LLAMA3,
                          SPINDLE_ROPE_TABLE, SPINDLE_ROPE_XPOS);
  if (p->rope == SPINDLE_ROPE_XPOS && c->shape.key_state == SPINDLE_KEYS_ROTATED) p->rope = SPINDLE_ROPE_DEFAULT;
  switch (p->rope) {
    case SPINDLE_ROPE_LINEAR: p->factor = 4; break;
    case SPINDLE_ROPE_DYNAMIC_LINEAR: p->max_position_embeddings = 200; break;
    case SPINDLE_ROPE_YARN:
      p->factor = 8;
      p->original_max_position_embeddings = 512;
      break;
    case SPINDLE_ROPE_DYNAMIC_YARN: p->max_position_embeddings = p->original_max_position_embeddings = 256; break;
    case SPINDLE_ROPE_DEEPSEEK_YARN:
      p->factor = 40;
      p->original_max_position_embeddings = 4096;
      break;
    case SPINDLE_ROPE_LLAMA3:
      p->factor = 8;
      p->original_max_position_embeddings = 8192;
      break;
    case SPINDLE_ROPE_XPOS: p->scale_base = (double)PICK(r, 0, 20, 512); break;
    case SPINDLE_ROPE_TABLE:
      p->num_pairs = c->shape.rotary_dim / 2;
      p->inv_freq = c->list;
      p->attention_factor = 1.25;
      break;
    default: break;
  }
}

static void draw_remap(test_random *r, const test_case *c, spindle_position *p) {
  p->remap = (int32_t)test_random_int(r, 0, SPINDLE_REMAP_LM_INFINITE);
  if (c->shape.key_state == SPINDLE_KEYS_ROTATED) p->remap = SPINDLE_REMAP_NONE;
  p->remap_window = p->remap == SPINDLE_REMAP_NONE ? 0 : test_random_log(r, 1, 300);
  switch (p->remap) {
    case SPINDLE_REMAP_LEAKY_REROPE: p->remap_k = (double)PICK(r, 2, 3, 16); break;
    case SPINDLE_REMAP_SELF_EXTEND:
      p->remap_group = PICK(r, 2, 3, 8);
      p->remap_window = p->remap_group * test_random_log(r, 1, 60);
      break;
    case SPINDLE_REMAP_DCA:
      p->remap_window = 0;
      p->remap_chunk = test_random_log(r, 3, 300);
      p->remap_local = test_random_int(r, 1, p->remap_chunk - 1);
      break;
    case SPINDLE_REMAP_DCA_PAPER:
      p->remap_window = 0;
      p->remap_chunk = test_random_log(r, 1, 300);
      p->remap_pretrain = p->remap_chunk + test_random_log(r, 1, 100);
      break;
    case SPINDLE_REMAP_STREAMING:
    case SPINDLE_REMAP_LM_INFINITE: p->remap_sink_tokens = test_random_log(r, 1, 20); break;
    default: break;
  }
}

static void draw_mask(test_random *r, const test_case *c, spindle_position *p) {
  if (p->remap == SPINDLE_REMAP_NONE && p->rope != SPINDLE_ROPE_XPOS && test_random_once_in(r, 4)) {
    p->not_causal = 1;
    if (test_random_once_in(r, 2)) p->window_right = test_random_log(r, 1, 300);
  }
  if (test_random_once_in(r, 3)) {
    p->window_left = test_random_log(r, 1, 400);
    if (test_random_once_in(r, 2)) p->sink_tokens = test_random_log(r, 1, 20);
  }
  if (test_random_once_in(r, 6)) p->chunk = test_random_log(r, 1, 300);
  if (c->shape.num_q_heads % 2 == 0 && test_random_once_in(r, 6)) p->s2_group = 2 * test_random_log(r, 1, 100);
}

/* S2's paper rolls whole groups. */
static void draw_wrap(test_random *r, spindle_position *p, int64_t *n) {
  if (!p->s2_group || p->not_causal || p->remap || p->window_left || p->chunk || test_random_once_in(r, 2)) return;
  p->s2_wrap = 1;
  *n = (*n + p->s2_group - 1) / p->s2_group * p->s2_group;
}

static void draw_row_scale(test_random *r, spindle_position *p) {
  p->row_scale = test_random_once_in(r, 2) ? 0 : (int32_t)test_random_int(r, SPINDLE_ROWSCALE_LOGN, SPINDLE_ROWSCALE_SSMAX);
  if (p->row_scale && p->row_scale != SPINDLE_ROWSCALE_SSMAX) p->row_scale_length = 100;
  if (p->row_scale == SPINDLE_ROWSCALE_LLAMA4 || p->row_scale == SPINDLE_ROWSCALE_MINISTRAL) p->row_scale_beta = 0.1;
}

/* ---- Storage and batch ---- */

static void draw_lengths(test_random *r, int32_t features, test_case *c) {
  c->num_requests = (int32_t)test_random_int(r, 1, 3);
  for (int32_t x = 0; x < c->num_requests; x++) {
    c->kv_len[x] = (int32_t)test_random_log(r, 1, 700);
    c->q_len[x] = test_random_once_in(r, 2) ? (int32_t)test_random_log(r, 1, c->kv_len[x]) : (int32_t)PICK(r, 0, 1, 1, 4);
    if (c->q_len[x] > c->kv_len[x]) c->q_len[x] = c->kv_len[x];
    c->q_begin[x] = c->q_rows + (int32_t)test_random_int(r, 0, 1);
    c->q_rows = c->q_begin[x] + c->q_len[x];
    c->q_index[x] = c->kv_len[x] - c->q_len[x];
    if (features & TEST_CASE_STORAGE) c->q_index[x] += PICK(r, 0, 0, 3, 100);
  }
  c->q_rows += (int32_t)test_random_int(r, 1, 2);
}

static void draw_dense(test_random *r, int32_t features, test_case *c) {
  c->num_pages = c->num_requests;
  c->dense_rows = 720;
  c->shard_size = c->shard_count = 1;
  for (int32_t x = 0; (features & TEST_CASE_STORAGE) && x < c->num_requests; x++) {
    c->kv_begin[x] = (int32_t)test_random_int(r, 0, 20);
    c->kv_index[x] = PICK(r, 0, 0, 5, 1000, 1000000007);
    c->q_index[x] += c->kv_index[x];
  }
  if (!(features & TEST_CASE_STORAGE) || !test_random_once_in(r, 4)) return;
  c->shard_size = (int32_t)PICK(r, 1, 4, 16, 100);
  c->shard_count = (int32_t)PICK(r, 2, 3, 8);
  c->shard_rank = (int32_t)test_random_int(r, 0, c->shard_count - 1);
  for (int32_t x = 0; x < c->num_requests; x++)
    c->q_index[x] = c->kv_index[x] + test_random_int(r, 0, (int64_t)c->kv_len[x] * c->shard_count);
}

static void draw_pages(test_random *r, test_case *c) {
  int32_t size = c->options.page_size = (int32_t)PICK(r, 1, 3, 16, 64, 128);
  c->table_stride = (2 * 700 + size - 1) / size + 1; /* half-empty pages need twice as many */
  c->num_pages = c->table_stride * c->num_requests;
  size_t entries = (size_t)c->num_pages;
  c->pages = test_case_allocate(entries * sizeof *c->pages);
  test_random_permutation(r, c->pages, c->num_pages);
  if (size > 1 && test_random_once_in(r, 2)) {
    c->page_span = test_case_allocate(entries * sizeof *c->page_span);
    for (size_t e = 0; e < entries; e++) {
      uint32_t first = (uint32_t)test_random_int(r, 0, size / 2),
               end = first + (uint32_t)test_random_int(r, (size + 1) / 2, size - (int64_t)first);
      c->page_span[e] = first | end << 16;
    }
  }
  if (!test_random_once_in(r, 2)) return;
  c->page_index = test_case_allocate(entries * sizeof *c->page_index);
  for (int32_t x = 0; x < c->num_requests; x++) {
    int64_t index = 0;
    for (int32_t e = 0; e < c->table_stride; e++) {
      c->page_index[x * c->table_stride + e] = index;
      index += size + (test_random_once_in(r, 4) ? PICK(r, 1, 30, 3000) : 0);
    }
    int32_t entry = c->kv_len[x] / size;
    c->q_index[x] = c->page_index[x * c->table_stride + (entry < c->table_stride ? entry : c->table_stride - 1)] +
                    test_random_int(r, 0, size);
  }
}

/* Rows of storage that the request's keys take, in order: page, row. false past the last. */
typedef struct key_walk {
  int32_t entry, offset, seen;
} key_walk;

static bool next_key(const test_case *c, int32_t x, key_walk *w, int64_t *page, int64_t *row) {
  int32_t size = c->options.page_size;
  if (w->seen == c->kv_len[x]) return false;
  if (!size) {
    *page = x;
    *row = c->kv_begin[x] + w->seen++;
    return true;
  }
  for (;; w->entry++, w->offset = 0) {
    int64_t e = (int64_t)x * c->table_stride + w->entry;
    if (w->entry == c->table_stride) return false;
    int32_t first = c->page_span ? (int32_t)(c->page_span[e] & 0xffff) : 0,
            end = c->page_span ? (int32_t)(c->page_span[e] >> 16) : size;
    if (w->offset < first) w->offset = first;
    if (w->offset >= end) continue;
    *page = c->pages[e];
    *row = w->offset++;
    w->seen++;
    return true;
  }
}

static void fill_row(test_random *r, int32_t dtype, void *data, int64_t at, int32_t count) {
  for (int32_t x = 0; x < count; x++)
    test_store(dtype, (char *)data + (size_t)(at + x) * test_dtype_bytes(dtype), (float)test_random_normal(r));
}

int64_t test_case_padded(int32_t dim) { return (dim + 15) / 16 * 16; }

static void *nan_rows(int32_t dtype, int64_t count) {
  char *data = test_case_allocate((size_t)count * test_dtype_bytes(dtype));
  for (int64_t x = 0; x < count; x++) test_store(dtype, data + (size_t)x * test_dtype_bytes(dtype), NAN);
  return data;
}

static void fill_tensors(test_random *r, test_case *c) {
  const spindle_shape *s = &c->shape;
  int64_t rows = c->options.page_size ? c->options.page_size : c->dense_rows, hkv = s->num_kv_heads;
  int64_t k = test_case_padded(s->head_dim_qk), v = test_case_padded(s->head_dim_v);
  c->q = nan_rows(s->q_dtype, (int64_t)c->q_rows * s->num_q_heads * k);
  c->k = nan_rows(s->kv_dtype, c->num_pages * rows * hkv * k);
  c->v = nan_rows(s->kv_dtype, c->num_pages * rows * hkv * v);
  for (int32_t x = 0; x < c->num_requests; x++) {
    key_walk walk = {0};
    for (int64_t page, row; next_key(c, x, &walk, &page, &row);)
      for (int64_t h = 0; h < hkv; h++) {
        fill_row(r, s->kv_dtype, c->k, ((page * rows + row) * hkv + h) * k, s->head_dim_qk);
        fill_row(r, s->kv_dtype, c->v, ((page * rows + row) * hkv + h) * v, s->head_dim_v);
      }
    for (int64_t row = 0; row < c->q_len[x]; row++)
      for (int64_t h = 0; h < s->num_q_heads; h++)
        fill_row(r, s->q_dtype, c->q, ((c->q_begin[x] + row) * s->num_q_heads + h) * k, s->head_dim_qk);
  }
}

static float *weights(test_random *r, int32_t count, double lo, double hi) {
  float *w = test_case_allocate((size_t)count * sizeof *w);
  for (int32_t x = 0; x < count; x++) w[x] = (float)test_random_real(r, lo, hi);
  return w;
}

void test_case_draw(test_random *r, int32_t features, test_case *c) {
  memset(c, 0, sizeof *c);
  draw_shape(r, features, &c->shape);
  draw_lengths(r, features, c);
  c->options.struct_size = sizeof c->options;
  if ((features & TEST_CASE_STORAGE) && test_random_once_in(r, 2))
    draw_pages(r, c);
  else
    draw_dense(r, features, c);
  c->options.max_requests = c->num_requests;
  c->options.max_q_rows = c->q_rows;
  c->options.max_kv_len = 720;
  c->options.split_keys = (int32_t)PICK(r, 0, 0, 16, 100);
  c->list = test_case_allocate(256 * sizeof *c->list);
  for (int32_t t = 0; t < c->shape.rotary_dim / 2; t++) c->list[t] = test_random_real(r, -1, 1);
  for (int32_t x = 0; x < c->num_requests; x++) {
    spindle_position *p = &c->position[x];
    *p = (spindle_position){.struct_size = sizeof *p, .rope = SPINDLE_ROPE_DEFAULT};
    c->slot[x] = x;
    c->n[x] = c->q_index[x] + c->q_len[x] + 1;
    if (!(features & TEST_CASE_METHODS)) continue;
    draw_rule(r, c, p);
    draw_remap(r, c, p);
    draw_mask(r, c, p);
    draw_row_scale(r, p);
    if (!(features & TEST_CASE_STORAGE)) draw_wrap(r, p, &c->n[x]);
  }
  int32_t heads = c->shape.num_q_heads;
  c->bias_a = weights(r, heads, 0.01, 0.5);
  c->bias_p = weights(r, heads, 0.1, 2);
  c->sinks = weights(r, heads, -2, 2);
  c->row_scale_s = weights(r, heads, -0.5, 0.5);
  c->row_scale_b = weights(r, heads, -0.5, 0.5);
  c->k_scale = c->shape.kv_dtype == SPINDLE_F8E4M3 ? 0.5f : 1;
  c->v_scale = c->shape.kv_dtype == SPINDLE_F8E4M3 ? 2.0f : 1;
  if (features & TEST_CASE_METHODS) {
    c->softcap = test_random_once_in(r, 4) ? 3.0f : 0;
    c->use_sinks = test_random_once_in(r, 3);
  }
  fill_tensors(r, c);
  snprintf(c->text, sizeof c->text,
           "heads %d/%d dims %d/%d rotary %d+%d layout %d keys %d bias %d dtypes %d/%d/%d page %d index %d span %d shard %d/%d "
           "split %d softcap %g "
           "sinks %d | request 0: rows %d keys %d q_index %lld rope %d remap %d window %lld scale %d",
           heads, c->shape.num_kv_heads, c->shape.head_dim_qk, c->shape.head_dim_v, c->shape.rotary_offset, c->shape.rotary_dim,
           c->shape.pair_layout, c->shape.key_state, c->shape.bias, c->shape.q_dtype, c->shape.kv_dtype, c->shape.o_dtype,
           c->options.page_size, c->page_index != NULL, c->page_span != NULL, c->shard_size, c->shard_count,
           c->options.split_keys, (double)c->softcap, c->use_sinks, c->q_len[0], c->kv_len[0], (long long)c->q_index[0],
           c->position[0].rope, c->position[0].remap, (long long)c->position[0].window_left, c->position[0].row_scale);
}

void test_case_free(test_case *c) {
  void *memory[] = {c->pages, c->page_index, c->page_span, c->list,  c->q,           c->k,
                    c->v,     c->bias_a,     c->bias_p,    c->sinks, c->row_scale_s, c->row_scale_b};
  for (size_t x = 0; x < sizeof memory / sizeof *memory; x++) free(memory[x]);
}
