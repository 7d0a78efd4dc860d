// kernels/prim on the CPU: the same functions, with the call's place taken by default arguments.
#ifndef EMULATOR_PRIM_H
#define EMULATOR_PRIM_H

#include <cmath>
#include <cstring>
#include <tuple>

#include "formats.h"
#include "prim_runtime.h"

#define SPINDLE__DEVICE        inline
#define SPINDLE__DEVICE_CALLED inline
#define SPINDLE__UNROLL
#define SPINDLE__NO_UNROLL
#define SPINDLE__LAUNCH(kernel, grid, threads, shared_bytes, stream, ...) \
  ::spindle::prim::launch((kernel), (grid), (threads), (shared_bytes), (stream), __VA_ARGS__)

#define EMULATOR_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace spindle::prim {

// thread.cuh
inline int thread_index() { return emulator::thread_index(); }
inline int block_threads() { return emulator::block_threads(); }
inline int lane() { return thread_index() % 32; }
inline int warp() { return thread_index() / 32; }
inline int block_x() { return emulator::block_index(); }
inline int grid_x() { return emulator::grid_blocks(); }
template <class Map>
Map &shared(EMULATOR_HERE) {
  return *static_cast<Map *>(emulator::shared_memory(sizeof(Map), file, line));
}
inline uint32_t shared_address(const void *object, EMULATOR_HERE) { return emulator::shared_address(object, file, line); }

// barrier.cuh
inline void sync_block(EMULATOR_HERE) { emulator::barrier(0, 0, true, file, line); }
inline void bar_sync(int id, int threads, EMULATOR_HERE) { emulator::barrier(id, threads, true, file, line); }
inline void bar_arrive(int id, int threads, EMULATOR_HERE) { emulator::barrier(id, threads, false, file, line); }

// warp.cuh
constexpr uint32_t ALL_LANES = 0xffffffffu;
inline void sync_warp(uint32_t mask = ALL_LANES, EMULATOR_HERE) { emulator::sync_warp(mask, file, line); }
template <class T>
T shfl(T value, int from, uint32_t mask = ALL_LANES, EMULATOR_HERE) {
  static_assert(sizeof(T) == 4, "one register");
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = emulator::shuffle(bits, from & 31, mask, file, line);
  memcpy(&value, &bits, 4);
  return value;
}
template <class T>
T shfl_xor(T value, int x, uint32_t mask = ALL_LANES, EMULATOR_HERE) {
  return shfl(value, lane() ^ x, mask, file, line);
}
inline uint32_t ballot(bool predicate, uint32_t mask = ALL_LANES, EMULATOR_HERE) {
  return emulator::ballot(predicate, mask, file, line);
}
inline bool any(bool predicate, uint32_t mask = ALL_LANES, EMULATOR_HERE) {
  return emulator::ballot(predicate, mask, file, line) != 0;
}

// memory.cuh
template <class T>
constexpr bool is_word =
    std::is_same_v<T, uint16_t> || std::is_same_v<T, uint32_t> || std::is_same_v<T, float> || std::is_same_v<T, uint2> ||
    std::is_same_v<T, float2> || std::is_same_v<T, uint4> || std::is_same_v<T, float4>;
template <class T>
T ld_shared(uint32_t address, EMULATOR_HERE) {
  static_assert(is_word<T>, "see memory.cuh");
  T v;
  emulator::load_shared(address, &v, sizeof v, file, line);
  return v;
}
template <class T>
T ld_global(const T *address, EMULATOR_HERE) {
  static_assert(is_word<T>, "see memory.cuh");
  T v;
  emulator::load_global(address, &v, sizeof v, file, line);
  return v;
}
template <class T>
void st_shared(uint32_t address, T value, EMULATOR_HERE) {
  static_assert(is_word<T>, "see memory.cuh");
  emulator::store_shared(address, &value, sizeof value, file, line);
}
template <class T>
void st_global(T *address, T value, EMULATOR_HERE) {
  static_assert(is_word<T>, "see memory.cuh");
  emulator::store_global(address, &value, sizeof value, file, line);
}
inline void fence_device() { emulator::fence_device(); }
inline uint32_t atomic_inc(uint32_t *address, uint32_t limit, EMULATOR_HERE) {
  return emulator::atomic_inc(address, limit, file, line);
}

// copy.cuh
template <int Bytes>
void cp_async(uint32_t to, const void *from, int from_bytes = Bytes, EMULATOR_HERE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "sizes of cp.async");
  emulator::copy(to, from, Bytes, from_bytes, file, line);
}
inline void cp_async_commit() { emulator::commit_copies(); }
template <int Pending>
void cp_async_wait() {
  emulator::wait_copies(Pending);
}
inline void cp_async_wait_all() { emulator::wait_copies(-1); }

// matrix.cuh
inline void ldmatrix(uint32_t (&r)[4], uint32_t row, EMULATOR_HERE) { emulator::ldmatrix(r, &row, 1, false, file, line); }
inline void ldmatrix_trans(uint32_t (&r)[4], uint32_t row, EMULATOR_HERE) { emulator::ldmatrix(r, &row, 1, true, file, line); }
template <class T>
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMULATOR_HERE) {
  emulator::mma(d, a, b, 1, std::is_same_v<T, bf16>, file, line);
}
template <int N>
void ldmatrix_each(uint32_t (&r)[N][4], const uint32_t (&row)[N], EMULATOR_HERE) {
  emulator::ldmatrix(r[0], row, N, false, file, line);
}
template <int N>
void ldmatrix_trans_each(uint32_t (&r)[N][4], const uint32_t (&row)[N], EMULATOR_HERE) {
  emulator::ldmatrix(r[0], row, N, true, file, line);
}
template <class T, int N>
void mma_each(float (&d)[N][4], const uint32_t (&a)[4], const uint32_t (&b)[N][2], EMULATOR_HERE) {
  emulator::mma(d[0], a, b[0], N, std::is_same_v<T, bf16>, file, line);
}

// mbarrier.cuh
inline void mbarrier_init(uint32_t barrier, uint32_t arrivals, EMULATOR_HERE) {
  emulator::mbarrier_init(barrier, arrivals, file, line);
}
inline void fence_mbarrier_init() { emulator::fence_mbarrier_init(); }
inline void mbarrier_arrive(uint32_t barrier, EMULATOR_HERE) { emulator::mbarrier_arrive(barrier, 0, file, line); }
inline void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes, EMULATOR_HERE) {
  emulator::mbarrier_arrive(barrier, bytes, file, line);
}
inline void mbarrier_wait(uint32_t barrier, uint32_t parity, EMULATOR_HERE) {
  emulator::mbarrier_wait(barrier, parity, file, line);
}

// warpgroup.cuh
template <int Registers>
void setmaxnreg_dec(EMULATOR_HERE) {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "setmaxnreg");
  emulator::set_registers(Registers, false, file, line);
}
template <int Registers>
void setmaxnreg_inc(EMULATOR_HERE) {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "setmaxnreg");
  emulator::set_registers(Registers, true, file, line);
}

// tma.cuh
constexpr bool BULK_COPIES = true;  // that the device has them, calls check
inline void fence_proxy_async() { emulator::fence_proxy_async(); }
inline void prefetch_tensor_map(const CUtensorMap &map, EMULATOR_HERE) { emulator::prefetch_tensor_map(&map, file, line); }
inline void tma_load(uint32_t to, const CUtensorMap &map, const int (&at)[4], uint32_t barrier, EMULATOR_HERE) {
  emulator::tma_load(to, &map, at, barrier, file, line);
}

// wgmma.cuh
enum Major { K_MAJOR = 0, MN_MAJOR = 1 };
template <Swizzle S, uint32_t Leading, uint32_t Stride>
uint64_t matrix_descriptor(uint32_t address) {
  static_assert(Leading % 16 == 0 && Leading < 1u << 18 && Stride % 16 == 0 && Stride < 1u << 18,
                "fields of 14 bits, in units of 16");
  return (address & 0x3ffff) >> 4 | (uint64_t)(Leading >> 4) << 16 | (uint64_t)(Stride >> 4) << 32 | (uint64_t)S << 62;
}
inline uint64_t advance_descriptor(uint64_t descriptor, uint32_t bytes) { return descriptor + (bytes >> 4); }
template <class X>
void pin(X &) {}
template <class... Arrays>
void wgmma_fence(Arrays &...) {
  emulator::wgmma_fence();
}
inline void wgmma_commit() { emulator::wgmma_commit(); }
template <int Pending>
void wgmma_wait(EMULATOR_HERE) {
  emulator::wgmma_wait(Pending, file, line);
}
template <int Pending, class X>
void wgmma_wait(X &, EMULATOR_HERE) {
  emulator::wgmma_wait(Pending, file, line);
}
template <int Pending, class X, class Y>
void wgmma_wait(X &, Y &, EMULATOR_HERE) {
  emulator::wgmma_wait(Pending, file, line);
}
template <int Pending, class X, class Y, class Z>
void wgmma_wait(X &, Y &, Z &, EMULATOR_HERE) {
  emulator::wgmma_wait(Pending, file, line);
}
template <class T, Major B, int Blocks>
void wgmma_checked(float (&d)[Blocks][4], const uint32_t *a, uint64_t a_descriptor, uint64_t b, bool accumulate, const char *file,
                   int line) {
  constexpr bool is_bf16 = std::is_same_v<T, bf16>, is_e4m3 = std::is_same_v<T, e4m3>;
  static_assert((is_bf16 || is_e4m3 || std::is_same_v<T, f16>)&&Blocks <= 32 && (!is_e4m3 || B == K_MAJOR), "see wgmma.cuh");
  constexpr emulator::Element element = is_bf16   ? emulator::Element::BF16
                                        : is_e4m3 ? emulator::Element::E4M3
                                                  : emulator::Element::F16;
  emulator::wgmma({d[0], 8 * Blocks, a, a_descriptor, b, accumulate, B == MN_MAJOR, element}, file, line);
}
template <class T, Major B = K_MAJOR, int Blocks>
void wgmma(float (&d)[Blocks][4], uint64_t a, uint64_t b, bool accumulate, EMULATOR_HERE) {
  wgmma_checked<T, B>(d, nullptr, a, b, accumulate, file, line);
}
template <class T, Major B = K_MAJOR, int Blocks>
void wgmma(float (&d)[Blocks][4], const uint32_t (&a)[4], uint64_t b, bool accumulate, EMULATOR_HERE) {
  wgmma_checked<T, B>(d, a, 0, b, accumulate, file, line);
}

// math.cuh. Better than the hardware's approximations, within whose errors the tests' tolerances lie.
inline float ex2_approx(float x) { return emulator::flush(exp2f(emulator::flush(x))); }
inline float lg2_approx(float x) { return log2f(emulator::flush(x)); }
inline float rcp_approx(float x) { return emulator::flush(1.0f / emulator::flush(x)); }

// convert.cuh
inline uint32_t as_bits(float x) { return emulator::float_bits(x); }
inline float as_float(uint32_t bits) { return emulator::bits_float(bits); }
template <class T>
uint32_t pack(float first, float second) {
  if constexpr (std::is_same_v<T, bf16>) {
    return emulator::float_to_bf16(first) | (uint32_t)emulator::float_to_bf16(second) << 16;
  } else {
    static_assert(std::is_same_v<T, f16>, "bf16 or f16");
    return emulator::float_to_f16(first) | (uint32_t)emulator::float_to_f16(second) << 16;
  }
}
template <class T>
float2 unpack(uint32_t two) {
  const uint16_t first = (uint16_t)two, second = (uint16_t)(two >> 16);
  if constexpr (std::is_same_v<T, bf16>) {
    return {emulator::bf16_to_float(first), emulator::bf16_to_float(second)};
  } else {
    static_assert(std::is_same_v<T, f16>, "bf16 or f16");
    return {emulator::f16_to_float(first), emulator::f16_to_float(second)};
  }
}
inline uint32_t e4m3x2_to_f16x2(uint16_t two) {
  return emulator::e4m3_to_f16((uint8_t)two) | (uint32_t)emulator::e4m3_to_f16((uint8_t)(two >> 8)) << 16;
}
inline uint16_t pack_e4m3x2(float first, float second) {
  return (uint16_t)(emulator::float_to_e4m3(first) | emulator::float_to_e4m3(second) << 8);
}

// launch.cuh
template <class... Parameters>
cudaError_t allow_shared(void (*kernel)(Parameters...), size_t shared_bytes) {
  return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
}
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream,
                   Arguments... arguments) {
  auto body = [kernel, values = std::tuple<Parameters...>(arguments...)] { std::apply(kernel, values); };
  return emulator::enqueue_launch((const void *)kernel, grid, threads, shared_bytes, stream, body);
}

}  // namespace spindle::prim

#undef EMULATOR_HERE

#endif
