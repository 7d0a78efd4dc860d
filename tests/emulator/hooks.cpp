// The check build. Kernel sources are compiled with -fsanitize=thread, which puts a call before every load and store; here are
// the functions called, in place of ThreadSanitizer's runtime, which is not linked. Only shared and device memory are looked at.
// A compiler may leave out accesses that it can prove to be harmless or has merged: what it drops is not seen.
#include <cstring>

#include "core.h"
#include "global.h"
#include "shadow.h"

namespace emulator {

static void shared_access(Fiber *fiber, uint32_t address, uint32_t bytes, bool write, Site site) {
  if (!shared_valid(fiber, address, bytes, 1, site, write ? "a store" : "a load")) return;
  if (fiber->block->launch->options.count_accesses) count_access(fiber, address, (int)bytes, site);
  if (write) {
    shared_write(fiber, address, bytes, site, "a store");
  } else {
    shared_read(fiber, address, bytes, site, "a load");
  }
}

static void access(const void *pointer, size_t bytes, bool write, const void *pc) {
  Fiber *fiber = current;
  if (!fiber) return;  // host code of the same file
  const char *p = (const char *)pointer;
  if ((size_t)(p - fiber->context.stack) < fiber->context.size) return;
  Block &block = *fiber->block;
  ++block.work.plain_accesses;
  const Site site = {nullptr, 0, pc};
  if ((size_t)(p - block.arena + ARENA_BYTES) < 3 * (size_t)ARENA_BYTES) {  // with the guards on both sides
    shared_access(fiber, (uint32_t)(p - block.arena), (uint32_t)bytes, write, site);
  } else if (find_allocation(p)) {
    if (!global_valid(fiber, p, bytes, 1, site, write ? "a store" : "a load")) return;
    if (write) {
      global_write(fiber, p, bytes, site, "a store");
    } else {
      global_read(fiber, p, bytes, site, "a load");
    }
  }
}

}  // namespace emulator

extern "C" {
#define PC __builtin_return_address(0)
void __tsan_init() { emulator::plain_accesses_seen = true; }
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
#define HOOKS(n)                                                                \
  void __tsan_read##n(void *p) { emulator::access(p, n, false, PC); }           \
  void __tsan_write##n(void *p) { emulator::access(p, n, true, PC); }           \
  void __tsan_volatile_read##n(void *p) { emulator::access(p, n, false, PC); }  \
  void __tsan_volatile_write##n(void *p) { emulator::access(p, n, true, PC); }  \
  void __tsan_unaligned_read##n(void *p) { emulator::access(p, n, false, PC); } \
  void __tsan_unaligned_write##n(void *p) { emulator::access(p, n, true, PC); } \
  void __tsan_read_write##n(void *p) {                                          \
    emulator::access(p, n, false, PC);                                          \
    emulator::access(p, n, true, PC);                                           \
  }                                                                             \
  void __tsan_unaligned_read_write##n(void *p) {                                \
    emulator::access(p, n, false, PC);                                          \
    emulator::access(p, n, true, PC);                                           \
  }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8) HOOKS(16)
#undef HOOKS
    void __tsan_read_range(void *p, size_t n) {
  emulator::access(p, n, false, PC);
}
void __tsan_write_range(void *p, size_t n) { emulator::access(p, n, true, PC); }
void *__tsan_memcpy(void *to, const void *from, size_t n) {
  emulator::access(from, n, false, PC);
  emulator::access(to, n, true, PC);
  return memcpy(to, from, n);
}
void *__tsan_memmove(void *to, const void *from, size_t n) {
  emulator::access(from, n, false, PC);
  emulator::access(to, n, true, PC);
  return memmove(to, from, n);
}
void *__tsan_memset(void *to, int value, size_t n) {
  emulator::access(to, n, true, PC);
  return memset(to, value, n);
}
// Guards of static variables and reference counts in host code of the same file.
#define ATOMICS(bits, T)                                                                                            \
  T __tsan_atomic##bits##_load(const volatile T *p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }           \
  void __tsan_atomic##bits##_store(volatile T *p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }           \
  T __tsan_atomic##bits##_fetch_add(volatile T *p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_sub(volatile T *p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); }
ATOMICS(8, uint8_t) ATOMICS(32, uint32_t) ATOMICS(64, uint64_t)
#undef ATOMICS
}
