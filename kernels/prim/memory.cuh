/* Loads, stores, atomics and fences. Plain C++ accesses are fine too; these name the state space, the width (one instruction of
 * up to 16 bytes; addresses are multiples of the size) and the cache policy. T is uint16_t, uint32_t, float, or 2 or 4 of the
 * latter two.
 * PTX ISA: Data Movement and Conversion; atom and fence under Parallel Synchronization and Communication. */
#ifndef SPINDLE_KERNELS_PRIM_MEMORY_CUH
#define SPINDLE_KERNELS_PRIM_MEMORY_CUH

namespace spindle::prim {

template <class T>
SPINDLE__DEVICE T ld_shared(uint32_t address);
template <class T>
SPINDLE__DEVICE T ld_global(const T *address);
template <class T>
SPINDLE__DEVICE void st_shared(uint32_t address, T value);
template <class T>
SPINDLE__DEVICE void st_global(T *address, T value);

/* ld.shared, ld.global, st.shared, st.global of `type`, which has n registers of constraint c; `out` and `in` name
 * them in a load and in a store, `at` the load's address. */
#define SPINDLE__LD_ST(T, type, n, c, out, at, in)                                                  \
  template <>                                                                                       \
  SPINDLE__DEVICE T ld_shared<T>(uint32_t a) {                                                      \
    T v;                                                                                            \
    asm volatile("ld.shared." type " " out ", [" at "];" : SPINDLE__OUT##n(c) : "r"(a) : "memory"); \
    return v;                                                                                       \
  }                                                                                                 \
  template <>                                                                                       \
  SPINDLE__DEVICE T ld_global<T>(const T *a) {                                                      \
    T v;                                                                                            \
    asm volatile("ld.global." type " " out ", [" at "];" : SPINDLE__OUT##n(c) : "l"(a) : "memory"); \
    return v;                                                                                       \
  }                                                                                                 \
  template <>                                                                                       \
  SPINDLE__DEVICE void st_shared<T>(uint32_t a, T v) {                                              \
    asm volatile("st.shared." type " [%0], " in ";" ::"r"(a), SPINDLE__IN##n(c) : "memory");        \
  }                                                                                                 \
  template <>                                                                                       \
  SPINDLE__DEVICE void st_global<T>(T * a, T v) {                                                   \
    asm volatile("st.global." type " [%0], " in ";" ::"l"(a), SPINDLE__IN##n(c) : "memory");        \
  }
#define SPINDLE__OUT1(c) "=" c(v)
#define SPINDLE__OUT2(c) "=" c(v.x), "=" c(v.y)
#define SPINDLE__OUT4(c) "=" c(v.x), "=" c(v.y), "=" c(v.z), "=" c(v.w)
#define SPINDLE__IN1(c)  c(v)
#define SPINDLE__IN2(c)  c(v.x), c(v.y)
#define SPINDLE__IN4(c)  c(v.x), c(v.y), c(v.z), c(v.w)
SPINDLE__LD_ST(uint16_t, "u16", 1, "h", "%0", "%1", "%1")
SPINDLE__LD_ST(uint32_t, "u32", 1, "r", "%0", "%1", "%1")
SPINDLE__LD_ST(float, "f32", 1, "f", "%0", "%1", "%1")
SPINDLE__LD_ST(uint2, "v2.u32", 2, "r", "{%0, %1}", "%2", "{%1, %2}")
SPINDLE__LD_ST(float2, "v2.f32", 2, "f", "{%0, %1}", "%2", "{%1, %2}")
SPINDLE__LD_ST(uint4, "v4.u32", 4, "r", "{%0, %1, %2, %3}", "%4", "{%1, %2, %3, %4}")
SPINDLE__LD_ST(float4, "v4.f32", 4, "f", "{%0, %1, %2, %3}", "%4", "{%1, %2, %3, %4}")
#undef SPINDLE__LD_ST
#undef SPINDLE__OUT1
#undef SPINDLE__OUT2
#undef SPINDLE__OUT4
#undef SPINDLE__IN1
#undef SPINDLE__IN2
#undef SPINDLE__IN4

/* Makes what this thread has seen and written visible to the device before what it writes next. For schemes in which the last
 * block to arrive at a counter reads what the others wrote: write; fence_device; sync_block; one thread atomic_inc; sync_block;
 * if last: fence_device; read. fence.acq_rel.gpu. */
SPINDLE__DEVICE void fence_device() { __threadfence(); }

/* Global memory, relaxed: old >= limit ? 0 : old + 1, a counter of limit + 1 arrivals that is ready for the next launch. The old
 * value is returned. atom.global.inc. */
SPINDLE__DEVICE uint32_t atomic_inc(uint32_t *address, uint32_t limit) { return atomicInc(address, limit); }

}  // namespace spindle::prim

#endif
