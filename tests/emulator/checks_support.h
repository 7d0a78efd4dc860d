/* Kernels that misuse one thing each, beside a twin that does not. */
#ifndef EMULATOR_CHECKS_SUPPORT_H
#define EMULATOR_CHECKS_SUPPORT_H

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "emulator.h"
#include "prim/prim.cuh"

#define KERNEL          \
  template <bool Wrong> \
  __global__ void
#define LANE prim::lane()

namespace checks_support {

inline int failures;

struct Case {
  const char *name;
  int kind;
  bool plain;                                         /* found in the check build only */
  cudaError_t (*launch)(bool wrong, uint32_t *words); /* words: 1024 of device memory, zeros */
};

template <void (*Wrong)(uint32_t *), void (*Right)(uint32_t *), class Map, int Blocks, int Threads>
cudaError_t launch_twins(bool wrong, uint32_t *words) {
  return SPINDLE__LAUNCH(wrong ? Wrong : Right, dim3(Blocks), Threads, sizeof(Map), nullptr, words);
}
#define TWINS(name, Map, blocks, threads, kind, plain) \
  { #name, EMULATOR_##kind, plain, launch_twins < name < true>, name < false>, Map, blocks, threads> }

/* What was found, as a set of kinds; bit 31: something at a place that is none of the test's. */
inline unsigned run(const Case &c, bool wrong, const char *place) {
  uint32_t *words = nullptr;
  cudaMalloc((void **)&words, 4096);
  cudaMemset(words, 0, 4096);
  (void)c.launch(wrong, words);
  unsigned kinds = 0;
  const emulator_finding *list;
  const size_t count = emulator_findings(&list);
  for (size_t i = 0; i < count; ++i) {
    /* A fault has none without debug information. */
    const bool placed = strstr(list[i].where, place) || list[i].kind == EMULATOR_FAULT;
    kinds |= placed ? 1u << list[i].kind : 1u << 31;
  }
  emulator_forget();
  cudaFree(words);
  return kinds;
}

inline void test_case(const Case &c, const char *place) {
  const bool can = (!c.plain || emulator_sees_plain_accesses()) && (c.kind != EMULATOR_FAULT || emulator_catches_faults());
  unsigned wrong = 0, right = 0;
  for (int policy = 0; policy < 3; ++policy) {
    emulator_options options = {};
    options.copies = options.order = policy;
    options.quiet = 1;
    emulator_configure(&options);
    if (can) wrong |= run(c, true, place);
    right |= run(c, false, place);
  }
  if ((!can || (wrong >> c.kind & 1 && !(wrong >> 31))) && !right) return;
  printf("FAIL %s: kinds %x expected in %x, none in %x\n", c.name, 1u << c.kind, wrong, right);
  ++failures;
}

}  // namespace checks_support

#endif
