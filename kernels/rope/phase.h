/* Exact phases and canonical (cos, sin). */
#ifndef SPINDLE_KERNELS_ROPE_PHASE_H
#define SPINDLE_KERNELS_ROPE_PHASE_H

#include <math.h>

#include "../common.h"

/* round(w / (k 2 pi) 2^64) mod 2^64: the phase, in 2^-64 turns, that one token adds at w / k radians per token. w is taken as given and
 * divided by k 2 pi in double-double, so the error is the rounding to an integer alone (half a unit: 1.9e-7 rad at position 2^40). */
SPINDLE__SHARED uint64_t spindle__phase_step(double w, double k);

/* cos and sin of phase * 2 pi / 2^64 in float; error at most 1.2e-7. */
SPINDLE__SHARED void spindle__phase_cos_sin(uint64_t phase, float *c, float *s);

/* Canonical (cos, sin) of m * step + offset: exact at m & ~7, then m & 7 rotations by `step` in float. A function of its arguments alone,
 * so a rotated key has the same bits in every tile, split, page and schedule. Error at most 1e-6. */
SPINDLE__SHARED void spindle__canonical_cos_sin(int64_t m, uint64_t step, uint64_t offset, float *c, float *s);

#endif
