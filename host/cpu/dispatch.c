/* Which instruction set runs. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static const spindle__cpu_kernels *const tables[] = {
#if defined(__x86_64__)
    &spindle__cpu_kernels_avx512,
    &spindle__cpu_kernels_avx2,
#endif
    &spindle__cpu_kernels_portable,
};

static const spindle__cpu_kernels *choose(void) {
  const char *asked = getenv("SPINDLE_CPU_ISA");
  const size_t count = sizeof tables / sizeof tables[0];
  size_t best = 0;
  while (!tables[best]->supported()) best++;
  for (size_t k = best; asked && k < count; k++)
    if (!strcmp(tables[k]->name, asked)) return tables[k];
  return tables[best];
}

const spindle__cpu_kernels *spindle__cpu_kernels_get(void) {
  static _Atomic(const spindle__cpu_kernels *) chosen; /* threads that race here choose the same */
  const spindle__cpu_kernels *kernels = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (!kernels) {
    kernels = choose();
    atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
  }
  return kernels;
}
