/* spindle_append and spindle_rotate: rows one by one, cos and sin of a row shared by its heads. */
#include <string.h>

#include "../../kernels/rope/rope.h"
#include "cpu.h"

#define ROWS_PER_CHUNK 16 /* rows of one thread's turn: a few KB each */

/* cos and sin of a row at `index`. */
typedef struct turn {
  float c[SPINDLE__MAX_PAIRS], s[SPINDLE__MAX_PAIRS];
  float factor; /* on the rotated channels */
} turn;

static void make_turn(const spindle_positions *positions, const int32_t *position, int64_t row, int64_t index, int64_t n,
                      bool inverse, turn *out) {
  const spindle__slot *slot =
      &positions->slots[position ? spindle__max(0, spindle__min(position[row], positions->capacity - 1)) : 0];
  spindle__resolved at_n;
  const spindle__resolved *rule = &slot->resolved;
  spindle__cpu_channels ch = spindle__cpu_channels_of(&positions->shape);
  if (slot->length_dependent) {
    spindle__resolve(slot, positions->shape.rotary_dim, n, &at_n);
    rule = &at_n;
  }
  spindle__cpu_kernels_get()->cos_sin(&index, 1, rule->step, NULL, ch.pairs_padded, out->c, out->s);
  for (int32_t t = 0; inverse && t < ch.pairs_padded; t++) out->s[t] = -out->s[t];
  out->factor = (float)(inverse ? 1 / rule->attention_factor : rule->attention_factor);
}

static void scale_pairs(const spindle__cpu_channels *ch, float factor, float *staged) {
  for (int32_t t = 0; t < 2 * ch->pairs_padded; t++) staged[t] *= factor;
}

/* ---- Append ---- */

static void append_row(const spindle_rows *from, int32_t from_dtype, const spindle_cache *to, int32_t to_dtype, int64_t row,
                       int64_t slot, int32_t page_size, int32_t heads, const spindle__cpu_channels *ch, const turn *by) {
  const spindle__cpu_kernels *kernels = spindle__cpu_kernels_get();
  size_t from_bytes = spindle__dtype_bytes(from_dtype), to_bytes = spindle__dtype_bytes(to_dtype);
  int64_t at = slot / page_size * to->page + slot % page_size * to->row;
  for (int32_t h = 0; h < heads; h++) {
    const char *in = (const char *)from->data + (row * from->row + h * from->head) * (int64_t)from_bytes;
    char *out = (char *)to->data + (at + h * to->head) * (int64_t)to_bytes;
    float staged[SPINDLE__CPU_MAX_STAGED] = {0};
    if (from_dtype == to_dtype && !by) {
      memcpy(out, in, (size_t)ch->depth * from_bytes);
      continue;
    }
    kernels->stage(ch, in, from_dtype, by ? by->c : NULL, by ? by->s : NULL, staged);
    if (by) scale_pairs(ch, by->factor, staged);
    if (to_dtype == SPINDLE_F8E4M3 && to->scale)
      for (int32_t x = 0; x < ch->staged; x++) staged[x] /= to->scale[h * to->scale_head];
    kernels->unstage(ch, staged, out, to_dtype);
  }
}

spindle_status spindle__cpu_append(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_append_args *args, spindle_stream stream) {
  (void)stream;
  bool rotating = positions && shape->key_state == SPINDLE_KEYS_ROTATED;
  int64_t slots = (int64_t)args->num_pages * args->page_size;
  spindle__cpu_channels k = spindle__cpu_channels_of(shape),
                        v = {.depth = shape->head_dim_v, .staged = shape->head_dim_v + SPINDLE__CPU_PAD};
#pragma omp parallel for schedule(static, ROWS_PER_CHUNK) num_threads(context->num_threads)
  for (int64_t row = 0; row < args->rows; row++) {
    int64_t slot = args->slot[row];
    turn by;
    if (slot < 0 || slot >= slots) continue;
    if (rotating) make_turn(positions, args->position, row, args->index[row], 1, false, &by);
    append_row(&args->k_new, args->src_dtype, &args->k, shape->kv_dtype, row, slot, args->page_size, shape->num_kv_heads, &k,
               rotating ? &by : NULL);
    append_row(&args->v_new, args->src_dtype, &args->v, shape->kv_dtype, row, slot, args->page_size, shape->num_kv_heads, &v,
               NULL);
  }
  return SPINDLE_OK;
}

/* ---- Rotate ---- */

static void rotate_row(const spindle_rotate_args *args, const spindle__cpu_channels *ch, int64_t row, const turn *by) {
  const spindle__cpu_kernels *kernels = spindle__cpu_kernels_get();
  int64_t bytes = (int64_t)spindle__dtype_bytes(args->dtype);
  for (int32_t h = 0; h < args->heads; h++) {
    float staged[SPINDLE__CPU_MAX_STAGED] = {0};
    kernels->stage(ch, (const char *)args->x.data + (row * args->x.row + h * args->x.head) * bytes, args->dtype, by->c, by->s,
                   staged);
    scale_pairs(ch, by->factor, staged);
    kernels->unstage(ch, staged, (char *)args->out.data + (row * args->out.row + h * args->out.head) * bytes, args->dtype);
  }
}

spindle_status spindle__cpu_rotate(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_rotate_args *args, spindle_stream stream) {
  (void)stream;
  spindle__cpu_channels ch = spindle__cpu_channels_of(shape);
#pragma omp parallel for schedule(static, ROWS_PER_CHUNK) num_threads(context->num_threads)
  for (int64_t row = 0; row < args->rows; row++) {
    turn by;
    make_turn(positions, args->position, row, args->index[row], args->n ? args->n[row] : 1, args->inverse, &by);
    rotate_row(args, &ch, row, &by);
  }
  return SPINDLE_OK;
}
