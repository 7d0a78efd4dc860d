// What emulated primitives call. Each takes the place in the kernel that called it.
#ifndef EMULATOR_PRIM_RUNTIME_H
#define EMULATOR_PRIM_RUNTIME_H

#include <cstddef>
#include <cstdint>
#include <functional>

#include "cuda_runtime_api.h"

namespace emulator {

// thread, block
int thread_index();
int block_threads();
int block_index();
int grid_blocks();
void *shared_memory(size_t bytes, const char *file, int line);  // checks that so much was asked for
uint32_t shared_address(const void *object, const char *file, int line);

// barriers
void barrier(int id, int threads, bool waits, const char *file, int line);  // threads 0: all
void sync_warp(uint32_t mask, const char *file, int line);

// votes and shuffles
uint32_t shuffle(uint32_t value, int from, uint32_t mask, const char *file, int line);
uint32_t ballot(bool predicate, uint32_t mask, const char *file, int line);

// memory
void load_shared(uint32_t address, void *to, uint32_t bytes, const char *file, int line);
void store_shared(uint32_t address, const void *from, uint32_t bytes, const char *file, int line);
void load_global(const void *address, void *to, size_t bytes, const char *file, int line);
void store_global(void *address, const void *from, size_t bytes, const char *file, int line);
void fence_device();
uint32_t atomic_inc(uint32_t *address, uint32_t limit, const char *file, int line);

// cp.async
void copy(uint32_t to, const void *from, int bytes, int from_bytes, const char *file, int line);
void commit_copies();
void wait_copies(int pending);  // -1: all, committed or not

// matrices: `each` times four, by the addresses of their rows; d += a b[i]
void ldmatrix(uint32_t *r, const uint32_t *rows, int each, bool trans, const char *file, int line);
void mma(float *d, const uint32_t *a, const uint32_t *b, int each, bool is_bf16, const char *file, int line);

// mbarriers
void mbarrier_init(uint32_t barrier, uint32_t arrivals, const char *file, int line);
void fence_mbarrier_init();
void mbarrier_arrive(uint32_t barrier, uint32_t bytes, const char *file, int line);
void mbarrier_wait(uint32_t barrier, uint32_t parity, const char *file, int line);

// bulk copies
void fence_proxy_async();
void prefetch_tensor_map(const void *map, const char *file, int line);
void tma_load(uint32_t to, const void *map, const int *at, uint32_t barrier, const char *file, int line);

// wgmma
enum class Element { BF16, F16, E4M3 };
struct WgmmaCall {
  float *d;  // [columns / 8][4]
  int columns;
  const uint32_t *a;  // [4], or null: a_descriptor
  uint64_t a_descriptor, b_descriptor;
  bool accumulate, b_mn_major;
  Element element;
};
void wgmma_fence();
void wgmma(const WgmmaCall &call, const char *file, int line);
void wgmma_commit();
void wgmma_wait(int pending, const char *file, int line);

void set_registers(int registers, bool up, const char *file, int line);

// Runs the body as every thread of the grid, in stream order. `kernel` identifies it.
cudaError_t enqueue_launch(const void *kernel, dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream,
                           std::function<void()> body);

}  // namespace emulator

#endif
