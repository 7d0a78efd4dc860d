#include "exact.h"

#include <math.h>

__extension__ typedef __float128 quad;
__extension__ typedef __int128 int128;

/* In [0, 1): x turns without the whole ones. |x| < 2^100. */
static quad fraction(quad x) {
  quad f = x - (quad)(int128)x;
  return f < 0 ? f + 1 : f;
}

void test_exact_rotate(const spindle_shape *s, const double *w, int64_t position, double divisor, double factor,
                       const double *growth, const float *x, double *out) {
  quad two_pi = (quad)6.283185307179586 + (quad)2.4492935982947064e-16 + (quad)-5.989539619436679e-33;
  int32_t pairs = s->rotary_dim / 2;
  for (int32_t c = 0; c < s->head_dim_qk; c++) out[c] = (double)x[c];
  for (int32_t t = 0; t < pairs; t++) {
    int32_t a = s->rotary_offset + (s->pair_layout == SPINDLE_PAIRS_HALF ? t : 2 * t);
    int32_t b = s->pair_layout == SPINDLE_PAIRS_HALF ? a + pairs : a + 1;
    quad turns = fraction((quad)position * (quad)w[t] / ((quad)divisor * two_pi));
    long double angle = 6.283185307179586476925286766559L * (long double)turns;
    double c = (double)cosl(angle), sn = (double)sinl(angle), scale = growth ? factor * growth[t] : factor;
    out[a] = scale * ((double)x[a] * c - (double)x[b] * sn);
    out[b] = scale * ((double)x[b] * c + (double)x[a] * sn);
  }
}
