/* Descriptors answered on the host: frequencies and effective distances. */
#include <math.h>

#include "../kernels/rope/rope.h"
#include "../kernels/segments.h"
#include "internal.h"

spindle_status spindle_position_resolve(const spindle_position *position, const spindle_shape *shape, int64_t n, double *inv_freq,
                                        double *attention_factor, double *softmax_scale_factor) {
  spindle_shape s;
  spindle_position p;
  double a, c;
  SPINDLE__TRY(spindle__check_shape(shape, &s));
  SPINDLE__TRY(spindle__check_position(position, &s, &p));
  SPINDLE__TRY(spindle__check_integer("n", n, 1, SPINDLE__MAX_INDEX));
  spindle__rope_factors(&p, n, &a, &c);
  if (attention_factor) *attention_factor = a;
  if (softmax_scale_factor) *softmax_scale_factor = c;
  for (int32_t t = 0; inv_freq && t < s.rotary_dim / 2; t++) inv_freq[t] = spindle__rope_inv_freq(&p, s.rotary_dim, t, n);
  return SPINDLE_OK;
}

/* P(i) - P(j), or for maps that count in units of 1/k what they differ by in tokens. */
static double position_difference(const spindle_position *p, const spindle__map *q_map, int64_t i, const spindle__map *k_map,
                                  int64_t j) {
  double difference = (double)(spindle__map_at(q_map, i) - spindle__map_at(k_map, j)), w = (double)p->remap_window;
  return q_map->scaled ? w + (difference - w) / p->remap_k : difference;
}

spindle_status spindle_position_relative(const spindle_position *position, int32_t shifted_heads, int64_t row, int64_t n,
                                         double *relative) {
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 2, .head_dim_qk = 128};
  spindle_position p;
  spindle__segment segments[SPINDLE__MAX_SEGMENTS];
  SPINDLE__TRY(spindle__read_descriptor(&p, sizeof p, position, "position"));
  if (p.num_pairs > 0 && p.num_pairs <= SPINDLE__MAX_PAIRS) shape.head_dim_qk = 2 * p.num_pairs;
  SPINDLE__TRY(spindle__check_shape(&shape, &shape));
  SPINDLE__TRY(spindle__check_position(&p, &shape, &p));
  if (!relative) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "relative is NULL");
  SPINDLE__TRY(spindle__check_integer("n", n, 1, SPINDLE__MAX_INDEX));
  SPINDLE__TRY(spindle__check_integer("row", row, 0, n - 1));

  for (int64_t j = 0; j < n; j++) relative[j] = NAN;
  int32_t count = spindle__segments(&p, n, shifted_heads != 0, row, row + 1, 0, n, segments);
  for (int32_t s = 0; s < count; s++)
    for (int64_t j = segments[s].j0; j < segments[s].j1; j++) {
      const spindle__row_group *g = &segments[s].group[0]; /* a tile of one row has groups of one row */
      if (row - j < g->dmin || row - j > g->dmax) continue;
      relative[j] = position_difference(&p, &g->q_map, row, &segments[s].k_map, j);
    }
  return SPINDLE_OK;
}
