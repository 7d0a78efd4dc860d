/* append, rotate and combine. */
#include "reference.h"

#include <math.h>
#include <string.h>

/* ---- Rotation of rows at their index ---- */

/* Rotates the rows' vectors by the rules of a table's slots; keeps the rule of the last row, for they mostly share one. */
typedef struct {
  const spindle_shape *shape;
  const spindle_positions *positions;
  spindle__ref_channels channels;
  int32_t slot; /* that `rope` was made of; -1: none yet */
  int64_t n;
  spindle__ref_rope rope;
} rotator;

static void use_rule(rotator *r, int32_t slot, int64_t n) {
  if (slot < 0) slot = 0;
  if (slot >= r->positions->capacity) slot = r->positions->capacity - 1;
  if (slot == r->slot && n == r->n) return;
  r->slot = slot;
  r->n = n;
  spindle__ref_rope_of_slot(&r->positions->slots[slot], r->shape->rotary_dim, n, &r->rope);
}

/* x[0..head_dim_qk) becomes A R(index) x, or R(-index) x / A. */
static void turn(const rotator *r, int64_t index, bool inverse, double *x) {
  for (int32_t t = 0; t < r->channels.num_pairs; t++) {
    double c, s, *first = &x[r->channels.first[t]], *second = &x[r->channels.second[t]];
    spindle__ref_cos_sin((spindle__ref_offset){(double)index, 0}, r->rope.w[t], &c, &s);
    double factor = r->rope.attention_factor;
    if (inverse) {
      factor = 1 / factor;
      s = -s;
    }
    double a = *first, b = *second;
    *first = factor * (a * c - b * s);
    *second = factor * (b * c + a * s);
  }
}

spindle_status spindle__ref_rotate(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_rotate_args *args, spindle_stream stream) {
  (void)context, (void)stream;
  rotator r = {.shape = shape, .positions = positions, .channels = spindle__ref_channels_of(shape), .slot = -1};
  size_t bytes = spindle__ref_element_bytes(args->dtype);
  for (int64_t row = 0; row < args->rows; row++) {
    use_rule(&r, args->position ? args->position[row] : 0, args->n ? args->n[row] : 1);
    for (int64_t head = 0; head < args->heads; head++) {
      int64_t from = row * args->x.row + head * args->x.head, to = row * args->out.row + head * args->out.head;
      double x[SPINDLE__MAX_HEAD_DIM];
      for (int32_t c = 0; c < shape->head_dim_qk; c++) x[c] = spindle__ref_load(args->dtype, args->x.data, from + c);
      turn(&r, args->index[row], args->inverse, x);
      /* Channels that pass keep their bits, NaNs too. */
      memmove((char *)args->out.data + (size_t)to * bytes, (const char *)args->x.data + (size_t)from * bytes,
              (size_t)shape->head_dim_qk * bytes);
      for (int32_t t = 0; t < r.channels.num_pairs; t++) {
        spindle__ref_store(args->dtype, args->out.data, to + r.channels.first[t], x[r.channels.first[t]]);
        spindle__ref_store(args->dtype, args->out.data, to + r.channels.second[t], x[r.channels.second[t]]);
      }
    }
  }
  return SPINDLE_OK;
}

/* ---- Append ---- */

/* Row `row` of a cache, one head: x / scale, rounded. */
static void store_row(const spindle_cache *cache, int32_t dtype, int64_t page, int64_t offset, int64_t head, int32_t dims,
                      const double *x) {
  double scale = cache->scale ? cache->scale[head * cache->scale_head] : 1.0;
  int64_t at = page * cache->page + offset * cache->row + head * cache->head;
  for (int32_t c = 0; c < dims; c++) spindle__ref_store(dtype, cache->data, at + c, x[c] / scale);
}

spindle_status spindle__ref_append(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_append_args *args, spindle_stream stream) {
  (void)context, (void)stream;
  bool rotate = positions && shape->key_state == SPINDLE_KEYS_ROTATED;
  rotator r = {.shape = shape, .positions = positions, .channels = spindle__ref_channels_of(shape), .slot = -1};
  for (int64_t row = 0; row < args->rows; row++) {
    int64_t slot = args->slot[row], page = slot / args->page_size, offset = slot % args->page_size;
    if (slot < 0 || page >= args->num_pages) continue;
    if (rotate) use_rule(&r, args->position ? args->position[row] : 0, 1);
    for (int64_t head = 0; head < shape->num_kv_heads; head++) {
      double x[SPINDLE__MAX_HEAD_DIM];
      const spindle_rows *k = &args->k_new, *v = &args->v_new;
      int64_t at = row * k->row + head * k->head;
      for (int32_t c = 0; c < shape->head_dim_qk; c++) x[c] = spindle__ref_load(args->src_dtype, k->data, at + c);
      if (rotate) turn(&r, args->index[row], false, x);
      store_row(&args->k, shape->kv_dtype, page, offset, head, shape->head_dim_qk, x);
      at = row * v->row + head * v->head;
      for (int32_t c = 0; c < shape->head_dim_v; c++) x[c] = spindle__ref_load(args->src_dtype, v->data, at + c);
      store_row(&args->v, shape->kv_dtype, page, offset, head, shape->head_dim_v, x);
    }
  }
  return SPINDLE_OK;
}

/* ---- Combine ---- */

static double part_lse(const spindle_combine_args *args, int64_t part, int64_t row, int64_t head) {
  const spindle_lse *lse = &args->part_lse;
  return lse->data[part * args->part_lse_stride + row * lse->row + head * lse->head];
}

/* log of the sum of exp over the parts, and the sink. */
static double total_lse(const spindle_combine_args *args, int64_t row, int64_t head) {
  double sink = args->sink_logits ? args->sink_logits[head] : -INFINITY, largest = sink, sum = 0;
  for (int64_t part = 0; part < args->parts; part++) largest = fmax(largest, part_lse(args, part, row, head));
  if (largest == -INFINITY) return -INFINITY;
  for (int64_t part = 0; part < args->parts; part++) sum += exp(part_lse(args, part, row, head) - largest);
  return largest + log(sum + exp(sink - largest));
}

spindle_status spindle__ref_combine(spindle_context *context, const spindle_combine_args *args, bool scale_only,
                                    spindle_stream stream) {
  (void)context, (void)stream;
  for (int64_t row = 0; row < args->rows; row++)
    for (int64_t head = 0; head < args->num_q_heads; head++) {
      double total = total_lse(args, row, head), o[SPINDLE__MAX_HEAD_DIM] = {0};
      int64_t first = scale_only ? args->own_part : 0, end = scale_only ? first + 1 : args->parts;
      for (int64_t part = first; part < end; part++) {
        double lse = part_lse(args, part, row, head);
        if (lse == -INFINITY) continue; /* its O may hold anything, NaN too */
        int64_t at = (scale_only ? 0 : part * args->part_o_stride) + row * args->part_o.row + head * args->part_o.head;
        for (int32_t e = 0; e < args->head_dim_v; e++)
          o[e] += exp(lse - total) * spindle__ref_load(args->part_dtype, args->part_o.data, at + e);
      }
      int64_t at = row * args->o.row + head * args->o.head;
      for (int32_t e = 0; e < args->head_dim_v; e++) spindle__ref_store(args->o_dtype, args->o.data, at + e, o[e]);
      if (args->lse.data) args->lse.data[row * args->lse.row + head * args->lse.head] = (float)total;
    }
  return SPINDLE_OK;
}
