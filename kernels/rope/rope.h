/* All scaling rules behind two pure functions, and their evaluation into phases. */
#ifndef SPINDLE_KERNELS_ROPE_ROPE_H
#define SPINDLE_KERNELS_ROPE_ROPE_H

#include "../params.h"

/* p: a descriptor with its defaults filled in and its list pointers set. d: rotary dim. */
SPINDLE__SHARED double spindle__rope_inv_freq(const spindle_position *p, int32_t d, int32_t t, int64_t n);
SPINDLE__SHARED void spindle__rope_factors(const spindle_position *p, int64_t n, double *attention_factor, double *softmax_scale_factor);
SPINDLE__SHARED int spindle__rope_is_length_dependent(int32_t rope);

/* The slot's rule at length n, as phases. */
SPINDLE__SHARED void spindle__resolve(const spindle__slot *slot, int32_t rotary_dim, int64_t n, spindle__resolved *out);

#endif
