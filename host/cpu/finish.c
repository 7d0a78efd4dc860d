/* From running sums to rows of O and LSE; merging of sums over disjoint keys. */
#include <math.h>
#include <string.h>

#include "cpu.h"

void spindle__cpu_clear(const spindle__cpu_task *t, spindle__cpu_sums *sums) {
  memset(sums->o, 0, (size_t)t->num_packed * (size_t)t->run->layout.o_stride * sizeof *sums->o);
  memset(sums->l, 0, (size_t)t->num_packed * sizeof *sums->l);
  for (int32_t p = 0; p < t->num_packed; p++) sums->m[p] = -INFINITY;
}

/* 2^(m - top), 0 for a side that has seen nothing. */
static float weight(float m, float top) { return m == -INFINITY ? 0.0f : exp2f(m - top); }

void spindle__cpu_merge(spindle__cpu_sums *into, const spindle__cpu_sums *from, int64_t rows, int32_t o_stride) {
  for (int64_t r = 0; r < rows; r++) {
    if (from->m[r] == -INFINITY && from->l[r] == 0) continue; /* saw nothing: O is 0 */
    float top = fmaxf(into->m[r], from->m[r]);
    float a = weight(into->m[r], top), b = weight(from->m[r], top);
    float *o = into->o + r * o_stride;
    const float *x = from->o + r * o_stride;
    for (int32_t c = 0; c < o_stride; c++) o[c] = a * o[c] + b * x[c];
    into->l[r] = a * into->l[r] + b * from->l[r];
    into->m[r] = top;
  }
}

void spindle__cpu_finish_row(const spindle__cpu_run *run, const spindle__cpu_request *r, int32_t row, int32_t head, float *o,
                             float m, float l) {
  const spindle_attention_args *args = run->args;
  const spindle_shape *shape = &run->plan->shape;
  int64_t at = r->request.q_begin + row;
  if (at >= args->q_rows) return;
  double top = m, sum = l, factor = 1;
  if (args->sink_logits && !run->plan->options.partial) {
    double sink = args->sink_logits[head] * SPINDLE__CPU_LOG2_E;
    top = fmax(m, sink);
    factor = m == -INFINITY ? 0 : exp2(m - top);
    sum = l * factor + (sink == -INFINITY ? 0 : exp2(sink - top));
  }
  double lse = sum == 0 ? -INFINITY : (top + log2(sum)) * SPINDLE__CPU_LN_2;
  factor = sum == 0 ? 0 : factor / sum;
  if (args->v.scale && shape->kv_dtype == SPINDLE_F8E4M3)
    factor *= (double)args->v.scale[head / run->layout.schedule.group * args->v.scale_head];
  for (int32_t c = 0; c < shape->head_dim_v; c++) o[c] *= (float)factor;
  char *out = (char *)args->o.data + (r->number * args->o.batch + at * args->o.row + head * args->o.head) *
                                         (int64_t)spindle__dtype_bytes(shape->o_dtype);
  run->kernels->from_float(out, o, shape->o_dtype, shape->head_dim_v);
  if (args->lse.data) args->lse.data[r->number * args->lse.batch + at * args->lse.row + head * args->lse.head] = (float)lse;
}
