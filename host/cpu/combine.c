/* spindle_combine and spindle_combine_scale. */
#include <math.h>

#include "cpu.h"

static float part_lse(const spindle_combine_args *a, int64_t part, int64_t row, int64_t head) {
  return a->part_lse.data[part * a->part_lse_stride + row * a->part_lse.row + head * a->part_lse.head];
}

/* log of the sum of exp over parts and sink; -inf if all are. */
static double whole_lse(const spindle_combine_args *a, int64_t row, int64_t head) {
  double top = a->sink_logits ? (double)a->sink_logits[head] : -INFINITY, sum = 0;
  for (int64_t p = 0; p < a->parts; p++) top = fmax(top, part_lse(a, p, row, head));
  if (top == -INFINITY) return top;
  for (int64_t p = 0; p < a->parts; p++) sum += exp(part_lse(a, p, row, head) - top);
  if (a->sink_logits) sum += exp(a->sink_logits[head] - top);
  return top + log(sum);
}

static void combine_row(const spindle_combine_args *a, bool scale_only, int64_t row, int64_t head) {
  const spindle__cpu_kernels *kernels = spindle__cpu_kernels_get();
  int32_t dim = a->head_dim_v, parts = scale_only ? 1 : a->parts;
  double lse = whole_lse(a, row, head);
  float sum[SPINDLE__MAX_HEAD_DIM] = {0}, part[SPINDLE__MAX_HEAD_DIM];
  const char *in =
      (const char *)a->part_o.data + (row * a->part_o.row + head * a->part_o.head) * (int64_t)spindle__dtype_bytes(a->part_dtype);
  for (int64_t p = 0; p < parts; p++) {
    float own = part_lse(a, scale_only ? a->own_part : p, row, head);
    if (own == -INFINITY) continue; /* whatever its O holds */
    float factor = (float)exp(own - lse);
    kernels->to_float(part, in + p * a->part_o_stride * (int64_t)spindle__dtype_bytes(a->part_dtype), a->part_dtype, dim);
    for (int32_t c = 0; c < dim; c++) sum[c] += factor * part[c];
  }
  char *out = (char *)a->o.data + (row * a->o.row + head * a->o.head) * (int64_t)spindle__dtype_bytes(a->o_dtype);
  kernels->from_float(out, sum, a->o_dtype, dim);
  if (a->lse.data) a->lse.data[row * a->lse.row + head * a->lse.head] = (float)lse;
}

spindle_status spindle__cpu_combine(spindle_context *context, const spindle_combine_args *args, bool scale_only,
                                    spindle_stream stream) {
  (void)stream;
  int64_t count = (int64_t)args->rows * args->num_q_heads;
#pragma omp parallel for schedule(static) num_threads(context->num_threads)
  for (int64_t x = 0; x < count; x++) combine_row(args, scale_only, x / args->num_q_heads, x % args->num_q_heads);
  return SPINDLE_OK;
}
