/* Loads, stores, atomics and fences. Plain C++ accesses are fine too; these name the state space, the width (one instruction of
 * up to 16 bytes; addresses are multiples of the size) and the cache policy. T is uint16_t, uint32_t, float, or 2 or 4 of the
 * latter two. */
#ifndef SPINDLE_KERNELS_PRIM_MEMORY_CUH
#define SPINDLE_KERNELS_PRIM_MEMORY_CUH

namespace spindle::prim {

/* ld.shared, PTX 9.7.9.8. */
template <class T>
SPINDLE__DEVICE T ld_shared(uint32_t address);
/* ld.global, PTX 9.7.9.8. */
template <class T>
SPINDLE__DEVICE T ld_global(const T *address);
/* ld.global.nc: for memory that no thread writes while the kernel runs. PTX 9.7.9.9. */
template <class T>
SPINDLE__DEVICE T ld_global_nc(const T *address);
/* st.shared, st.global, PTX 9.7.9.12. */
template <class T>
SPINDLE__DEVICE void st_shared(uint32_t address, T value);
template <class T>
SPINDLE__DEVICE void st_global(T *address, T value);

#define SPINDLE__LD_ST_1(T, ptx, c)                                                   \
  template <>                                                                         \
  SPINDLE__DEVICE T ld_shared<T>(uint32_t address) {                                  \
    T v;                                                                              \
    asm volatile("ld.shared." ptx " %0, [%1];" : "=" c(v) : "r"(address) : "memory"); \
    return v;                                                                         \
  }                                                                                   \
  template <>                                                                         \
  SPINDLE__DEVICE T ld_global<T>(const T *address) {                                  \
    T v;                                                                              \
    asm volatile("ld.global." ptx " %0, [%1];" : "=" c(v) : "l"(address) : "memory"); \
    return v;                                                                         \
  }                                                                                   \
  template <>                                                                         \
  SPINDLE__DEVICE T ld_global_nc<T>(const T *address) {                               \
    T v;                                                                              \
    asm("ld.global.nc." ptx " %0, [%1];" : "=" c(v) : "l"(address));                  \
    return v;                                                                         \
  }                                                                                   \
  template <>                                                                         \
  SPINDLE__DEVICE void st_shared<T>(uint32_t address, T v) {                          \
    asm volatile("st.shared." ptx " [%0], %1;" ::"r"(address), c(v) : "memory");      \
  }                                                                                   \
  template <>                                                                         \
  SPINDLE__DEVICE void st_global<T>(T * address, T v) {                               \
    asm volatile("st.global." ptx " [%0], %1;" ::"l"(address), c(v) : "memory");      \
  }
#define SPINDLE__LD_ST_2(T, ptx, c)                                                                          \
  template <>                                                                                                \
  SPINDLE__DEVICE T ld_shared<T>(uint32_t address) {                                                         \
    T v;                                                                                                     \
    asm volatile("ld.shared.v2." ptx " {%0, %1}, [%2];" : "=" c(v.x), "=" c(v.y) : "r"(address) : "memory"); \
    return v;                                                                                                \
  }                                                                                                          \
  template <>                                                                                                \
  SPINDLE__DEVICE T ld_global<T>(const T *address) {                                                         \
    T v;                                                                                                     \
    asm volatile("ld.global.v2." ptx " {%0, %1}, [%2];" : "=" c(v.x), "=" c(v.y) : "l"(address) : "memory"); \
    return v;                                                                                                \
  }                                                                                                          \
  template <>                                                                                                \
  SPINDLE__DEVICE T ld_global_nc<T>(const T *address) {                                                      \
    T v;                                                                                                     \
    asm("ld.global.nc.v2." ptx " {%0, %1}, [%2];" : "=" c(v.x), "=" c(v.y) : "l"(address));                  \
    return v;                                                                                                \
  }                                                                                                          \
  template <>                                                                                                \
  SPINDLE__DEVICE void st_shared<T>(uint32_t address, T v) {                                                 \
    asm volatile("st.shared.v2." ptx " [%0], {%1, %2};" ::"r"(address), c(v.x), c(v.y) : "memory");          \
  }                                                                                                          \
  template <>                                                                                                \
  SPINDLE__DEVICE void st_global<T>(T * address, T v) {                                                      \
    asm volatile("st.global.v2." ptx " [%0], {%1, %2};" ::"l"(address), c(v.x), c(v.y) : "memory");          \
  }
#define SPINDLE__LD_ST_4(T, ptx, c)                                                                                         \
  template <>                                                                                                               \
  SPINDLE__DEVICE T ld_shared<T>(uint32_t address) {                                                                        \
    T v;                                                                                                                    \
    asm volatile("ld.shared.v4." ptx " {%0, %1, %2, %3}, [%4];"                                                             \
                 : "=" c(v.x), "=" c(v.y), "=" c(v.z), "=" c(v.w)                                                           \
                 : "r"(address)                                                                                             \
                 : "memory");                                                                                               \
    return v;                                                                                                               \
  }                                                                                                                         \
  template <>                                                                                                               \
  SPINDLE__DEVICE T ld_global<T>(const T *address) {                                                                        \
    T v;                                                                                                                    \
    asm volatile("ld.global.v4." ptx " {%0, %1, %2, %3}, [%4];"                                                             \
                 : "=" c(v.x), "=" c(v.y), "=" c(v.z), "=" c(v.w)                                                           \
                 : "l"(address)                                                                                             \
                 : "memory");                                                                                               \
    return v;                                                                                                               \
  }                                                                                                                         \
  template <>                                                                                                               \
  SPINDLE__DEVICE T ld_global_nc<T>(const T *address) {                                                                     \
    T v;                                                                                                                    \
    asm("ld.global.nc.v4." ptx " {%0, %1, %2, %3}, [%4];" : "=" c(v.x), "=" c(v.y), "=" c(v.z), "=" c(v.w) : "l"(address)); \
    return v;                                                                                                               \
  }                                                                                                                         \
  template <>                                                                                                               \
  SPINDLE__DEVICE void st_shared<T>(uint32_t address, T v) {                                                                \
    asm volatile("st.shared.v4." ptx " [%0], {%1, %2, %3, %4};" ::"r"(address), c(v.x), c(v.y), c(v.z), c(v.w) : "memory"); \
  }                                                                                                                         \
  template <>                                                                                                               \
  SPINDLE__DEVICE void st_global<T>(T * address, T v) {                                                                     \
    asm volatile("st.global.v4." ptx " [%0], {%1, %2, %3, %4};" ::"l"(address), c(v.x), c(v.y), c(v.z), c(v.w) : "memory"); \
  }
SPINDLE__LD_ST_1(uint16_t, "u16", "h")
SPINDLE__LD_ST_1(uint32_t, "u32", "r")
SPINDLE__LD_ST_1(float, "f32", "f")
SPINDLE__LD_ST_2(uint2, "u32", "r")
SPINDLE__LD_ST_2(float2, "f32", "f")
SPINDLE__LD_ST_4(uint4, "u32", "r")
SPINDLE__LD_ST_4(float4, "f32", "f")
#undef SPINDLE__LD_ST_1
#undef SPINDLE__LD_ST_2
#undef SPINDLE__LD_ST_4

/* Makes what this thread has seen and written visible to the device before what it writes next. For schemes in which the last
 * block to arrive at a counter reads what the others wrote: write; fence_device; sync_block; one thread atomic_add; sync_block;
 * if last: fence_device; read. fence.acq_rel.gpu, PTX 9.7.13.4. */
SPINDLE__DEVICE void fence_device() { __threadfence(); }

/* Global memory, relaxed; the old value is returned. atom.global.{add,inc}, PTX 9.7.13.5. */
SPINDLE__DEVICE uint32_t atomic_add(uint32_t *address, uint32_t value) { return atomicAdd(address, value); }
SPINDLE__DEVICE float atomic_add(float *address, float value) { return atomicAdd(address, value); }
/* old >= limit ? 0 : old + 1: a counter of limit + 1 arrivals that is ready for the next launch. */
SPINDLE__DEVICE uint32_t atomic_inc(uint32_t *address, uint32_t limit) { return atomicInc(address, limit); }

}  // namespace spindle::prim

#endif
