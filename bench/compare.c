#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "output.h"
#include "random.h"

/* ---- How large an error is legal ----
 *
 * u = 2^-24 is the roundoff of f32, in which every backend accumulates. r is that of the tensors' dtype, where the backend rounds
 * to it for its matrix unit (cuda), else 0. Inputs are independent with mean 0; then a sum of n products is off by C u times the
 * product of norms but for a vanishing share of inputs, whatever n (Higham and Mary 2020, "Sharper probabilistic backward error
 * analysis"); C = 4 here.
 *
 * Score. S = rowscale * scale * A^2 * max|q| * max|k| bounds its magnitude, 6 S / sqrt(D) does so for such inputs. Its error E:
 *   rotation        2 C 1e-6 S / sqrt(D): cos and sin are promised to 1e-6 at any position; D/2 independent errors, q's and k's
 *   accumulation    C u S
 *   rounding q, k   6 * 0.6 r S / sqrt(D): D independent errors of both rotated vectors, each of 0.42 r root mean square; 6 for
 *                   the worst of 10^9 scores, since no other term leaves room for it
 *   the score       its own roundings by scale, row scale, softcap and exponent base: 4 u of its magnitude
 *   bias            16 u B: distance times slope, log and pow to a few u. B is the bias where it matters: keys whose bias lies
 *                   12 S / sqrt(D) + 20 below that of the nearest visible key weigh exp(-20) or less
 *
 * LSE. E, the sum of Nk exponentials (C sqrt(Nk) u, exp itself 4 u), its own rounding.
 *
 * O. sum_j p_j v_j under relative errors e_j of p_j is off by |sum_j p_j e_j (v_j - O)| <= max|e| sum_j p_j |v_j - O|. e is E,
 * the error of exp and of the sum, and r for p as a factor of the second product; the sum is the values' mean deviation from
 * their mean, 0.8 over many values of deviation 1, and 2 allows for few. That O is then rounded to its dtype is no error: only
 * what exceeds half a unit of the dtype's last place counts. */
#define U       0x1p-24
#define C       4.0
#define COS_SIN 1e-6

static double largest_norm(const float *x, int64_t vectors, int32_t dim) {
  double largest = 0;
  for (int64_t r = 0; r < vectors; r++, x += dim) {
    double sum = 0;
    for (int32_t c = 0; c < dim; c++) sum += (double)x[c] * x[c];
    if (sum > largest) largest = sum;
  }
  return sqrt(largest);
}

static double row_scale_bound(const tool_method *m, const tool_problem *p) {
  const spindle_position *position = &m->position;
  double last = (double)(p->q_index + p->q_len), length = position->row_scale_length;
  if (p->n > last) last = (double)p->n;
  if (last < 2) last = 2;
  switch (position->row_scale) {
    case SPINDLE_ROWSCALE_LOGN: return fmax(1, log(last) / log(length));
    case SPINDLE_ROWSCALE_LLAMA4:
    case SPINDLE_ROWSCALE_MINISTRAL: return 1 + fabs(position->row_scale_beta) * log(1 + last / length);
    case SPINDLE_ROWSCALE_SSMAX: {
      double s = 0;
      for (int32_t h = 0; h < m->ssmax.count; h++) s = fmax(s, fabs(m->ssmax.values[h]));
      return s * log(last);
    }
    default: return 1;
  }
}

/* |bias| at the nearest key of the row that is farthest from its nearest key. */
static double bias_bound(const tool_call *call, const tool_method *m) {
  const tool_problem *p = &call->problem;
  double last_row = (double)(p->q_index + p->q_len - 1), last_key = (double)(p->kv_index + p->kv_len - 1);
  double dist = fmax(0, fmax(last_row - last_key, (double)(p->kv_index - p->q_index))), bound = 0;
  tool_weights w;
  if (m->shape.bias == SPINDLE_BIAS_NONE || !tool_method_weights(m, call->shape.num_q_heads, &w)) return 0;
  for (int32_t h = 0; h < call->shape.num_q_heads; h++) {
    double a = w.bias_a[h], power = w.bias_p ? w.bias_p[h] : 1;
    double bias = m->shape.bias == SPINDLE_BIAS_KERPLE_LOG ? power * log(1 + a * dist) : a * pow(dist, power);
    bound = fmax(bound, fabs(bias));
  }
  tool_weights_free(&w);
  return bound;
}

typedef struct inputs {
  float *q, *k, *v;
  int64_t q_count, k_count, v_count;
} inputs;

static bool bound(const tool_call *call, bool rounds, const tool_method *m, const inputs *in, double largest_lse,
                  tool_difference *d) {
  const spindle_shape *s = &call->shape;
  double a, c, r = rounds ? tool_dtype_roundoff(s->q_dtype) : 0, dims = sqrt(s->head_dim_qk), keys = sqrt(call->problem.kv_len);
  if (spindle_position_resolve(&m->position, s, call->problem.n, NULL, &a, &c) != SPINDLE_OK)
    return tool_fail_library("POSITION"), false;
  double scale = m->scale ? fabs(m->scale) : 1 / dims;
  double norms = largest_norm(in->q, in->q_count / s->head_dim_qk, s->head_dim_qk) *
                 largest_norm(in->k, in->k_count / s->head_dim_qk, s->head_dim_qk);
  double largest = row_scale_bound(m, &call->problem) * scale * fabs(c) * fmax(1, a * a) * norms;
  double magnitude = fmin(largest, 6 * largest / dims);
  double score = (2 * C * COS_SIN + 6 * 0.6 * r) * largest / dims + C * U * largest + 4 * U * magnitude;
  if (s->bias != SPINDLE_BIAS_NONE) score += 16 * U * (bias_bound(call, m) + 2 * magnitude + 20);
  double sum = (C * keys + 4) * U;
  d->lse_tolerance = score + sum + U * (largest_lse + 1);
  d->o_tolerance = 2 * (score + sum + r);
  return true;
}

/* ---- The two runs ---- */

static bool run(spindle_context *context, const tool_method *m, const spindle_shape *shape, const tool_problem *p,
                int32_t schedule, const inputs *in, float *o, float *lse) {
  tool_call call;
  bool good = tool_call_open(&call, context, m, shape, p, schedule) && tool_call_load(&call, TOOL_Q, in->q) &&
              tool_call_load(&call, TOOL_K, in->k) && tool_call_load(&call, TOOL_V, in->v) && tool_call_run(&call) &&
              tool_call_fetch(&call, o, lse);
  tool_call_close(&call);
  return good;
}

/* Beyond what rounding to a type of this roundoff does. Rows that see nothing have LSE = -inf in both; any other infinity or NaN
 * counts as infinitely far. */
static double largest_difference(const float *got, const float *expected, int64_t count, double roundoff) {
  double largest = 0;
  for (int64_t k = 0; k < count; k++) {
    double difference =
        got[k] == expected[k] ? 0 : fabs((double)got[k] - (double)expected[k]) - roundoff * fabs((double)expected[k]);
    if (!(difference <= largest)) largest = isnan(difference) ? HUGE_VAL : difference;
  }
  return largest;
}

static double largest_finite(const float *x, int64_t count) {
  double largest = 0;
  for (int64_t k = 0; k < count; k++)
    if (isfinite(x[k])) largest = fmax(largest, fabs((double)x[k]));
  return largest;
}

/* Queries are drawn wide, so that a few keys carry most of the weight and a wrong position shows. */
static void draw(inputs *in, uint64_t seed) {
  tool_random r = {seed};
  tool_random_fill(&r, in->q, in->q_count, 2);
  tool_random_fill(&r, in->k, in->k_count, 1);
  tool_random_fill(&r, in->v, in->v_count, 1);
}

/* One block for all tensors: inputs, then twice O and LSE. */
static float *take_tensors(const spindle_shape *s, const tool_problem *p, inputs *in, int64_t *o_count, int64_t *lse_count) {
  *lse_count = (int64_t)p->requests * p->q_len * s->num_q_heads;
  *o_count = *lse_count * s->head_dim_v;
  in->q_count = *lse_count * s->head_dim_qk;
  in->k_count = (int64_t)p->requests * p->kv_len * s->num_kv_heads * s->head_dim_qk;
  in->v_count = (int64_t)p->requests * p->kv_len * s->num_kv_heads * s->head_dim_v;
  int64_t total = in->q_count + in->k_count + in->v_count + 2 * (*o_count + *lse_count);
  in->q = malloc((size_t)total * sizeof *in->q);
  if (!in->q) return tool_fail("no memory for %lld elements", (long long)total), NULL;
  in->k = in->q + in->q_count;
  in->v = in->k + in->k_count;
  return in->v + in->v_count;
}

bool tool_compare(spindle_context *tested, spindle_context *reference, const tool_method *m, const spindle_shape *shape,
                  const tool_problem *p, int32_t schedule, uint64_t seed, tool_difference *d) {
  spindle_shape exact = *shape;
  inputs in;
  int64_t o_count, lse_count;
  exact.o_dtype = SPINDLE_F32; /* the reference's own rounding would hide that of the backend */
  float *o = take_tensors(shape, p, &in, &o_count, &lse_count);
  if (!o) return false;
  float *o_ref = o + o_count, *lse = o_ref + o_count, *lse_ref = lse + lse_count;
  draw(&in, seed);
  tool_call described = {.shape = *shape, .problem = *p};
  spindle_context_info info = {.struct_size = sizeof info};
  spindle_context_get_info(tested, &info);
  bool rounds = info.backend == SPINDLE_BACKEND_CUDA && shape->q_dtype != SPINDLE_F32;
  bool good = run(tested, m, shape, p, schedule, &in, o, lse) &&
              run(reference, m, &exact, p, SPINDLE_SCHEDULE_AUTO, &in, o_ref, lse_ref) &&
              bound(&described, rounds, m, &in, largest_finite(lse_ref, lse_count), d);
  d->o = good ? largest_difference(o, o_ref, o_count, tool_dtype_roundoff(shape->o_dtype)) : HUGE_VAL;
  d->lse = good ? largest_difference(lse, lse_ref, lse_count, 0) : HUGE_VAL;
  free(in.q);
  return good;
}

double tool_difference_ratio(const tool_difference *d) { return fmax(d->o / d->o_tolerance, d->lse / d->lse_tolerance); }
