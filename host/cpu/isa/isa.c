/* One table of inner loops. Compiled once per instruction set, with SPINDLE__ISA its name. */
#include "../kernels.h"

#include "attend.h"
#include "bias.h"
#include "pack.h"

#define JOIN2(a, b) a##b
#define JOIN(a, b)  JOIN2(a, b)
#define TEXT2(a)    #a
#define TEXT(a)     TEXT2(a)

static int32_t supported(void) {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("fma");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#else
  return 1;
#endif
}

const spindle__cpu_kernels JOIN(spindle__cpu_kernels_, SPINDLE__ISA) = {
    .name = TEXT(SPINDLE__ISA),
    .supported = supported,
    .to_float = to_float,
    .from_float = from_float,
    .cos_sin = cos_sin,
    .decay = decay,
    .stage = stage,
    .unstage = unstage,
    .pack_query = pack_query,
    .pack_keys = pack_keys,
    .score_keys = score_keys,
    .pack_values = pack_values,
    .bias = bias,
    .attend = attend,
};
