/* float32 to and from the formats of tensors, round to nearest even. */
#ifndef SPINDLE_BENCH_CONVERT_H
#define SPINDLE_BENCH_CONVERT_H

#include <stddef.h>
#include <stdint.h>

size_t tool_dtype_bytes(int32_t dtype);
const char *tool_dtype_name(int32_t dtype);
/* Names in the order of SPINDLE_F32, SPINDLE_F16, SPINDLE_BF16; NULL at the end. */
extern const char *const tool_dtype_names[];
/* Half the distance from 1 to the next number. */
double tool_dtype_roundoff(int32_t dtype);

/* To e4m3 too. */
void tool_from_f32(int32_t dtype, void *out, const float *in, int64_t count);
void tool_to_f32(int32_t dtype, float *out, const void *in, int64_t count);

#endif
