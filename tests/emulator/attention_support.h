/* What the tests of small attentions share: a problem with its solution in float64, and the search for planted bugs. */
#ifndef EMULATOR_ATTENTION_SUPPORT_H
#define EMULATOR_ATTENTION_SUPPORT_H

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "emulator.h"
#include "prim/prim.cuh"

namespace attention_support {

inline int failures;

struct Problem {
  int heads, n, d;
  std::vector<uint16_t> q, k, v; /* [heads][n][d], bf16 */
  std::vector<double> o, lse;
};

inline float widen(uint16_t h) {
  const uint32_t bits = (uint32_t)h << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* Uniform in [-2, 2], with few enough bits to be bf16. */
inline void fill(std::vector<uint16_t> &x, size_t size, uint64_t seed) {
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const float value = (float)((int)(seed >> 33 & 255) - 128) / 64.0f;
    uint32_t bits;
    memcpy(&bits, &value, 4);
    x.push_back((uint16_t)(bits >> 16));
  }
}

/* Causal, softmax scale 1 / sqrt(d). */
inline Problem make_problem(int heads, int n, int d) {
  Problem p = {heads, n, d, {}, {}, {}, {}, {}};
  const size_t size = (size_t)(heads * n * d);
  fill(p.q, size, 1), fill(p.k, size, 2), fill(p.v, size, 3);
  for (int row = 0; row < heads * n; ++row) {
    const int first = row / n * n;
    std::vector<double> weight;
    double maximum = -INFINITY, sum = 0;
    for (int key = first; key <= row; ++key) {
      double s = 0;
      for (int c = 0; c < d; ++c) s += (double)widen(p.q[(size_t)(row * d + c)]) * widen(p.k[(size_t)(key * d + c)]);
      weight.push_back(s / sqrt(d));
      maximum = std::fmax(maximum, weight.back());
    }
    for (double &w : weight) sum += w = exp(w - maximum);
    p.lse.push_back(maximum + log(sum));
    for (int c = 0; c < d; ++c) {
      double o = 0;
      for (size_t j = 0; j < weight.size(); ++j) o += weight[j] / sum * widen(p.v[((size_t)first + j) * (size_t)d + (size_t)c]);
      p.o.push_back(o);
    }
  }
  return p;
}

template <class T>
T *upload(const std::vector<T> &x) {
  void *device = nullptr;
  if (cudaMalloc(&device, x.size() * sizeof(T)) || cudaMemcpy(device, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice))
    exit(2);
  return (T *)device;
}

struct Outcome {
  bool found[EMULATOR_KINDS];
  bool right;
  emulator_counters shared; /* of ldmatrix and, in all, cp_async */
};

/* Weights and O are rounded to bf16, 2^-9 each, with |v| <= 2; LSE is float from sums of float products up to 32. */
constexpr double O_TOLERANCE = 4.0 / 512, LSE_TOLERANCE = 1e-4;

inline bool near(const std::vector<uint16_t> &o, const std::vector<float> &lse, const Problem &p) {
  for (size_t i = 0; i < o.size(); ++i) {
    if (!(fabs(widen(o[i]) - p.o[i]) <= O_TOLERANCE)) return false; /* NaN is not */
  }
  for (size_t i = 0; i < lse.size(); ++i) {
    if (!(fabs(lse[i] - p.lse[i]) <= LSE_TOLERANCE)) return false;
  }
  return true;
}

/* Every kind found so far, which is forgotten. */
inline Outcome take_findings() {
  Outcome outcome = {{}, false, emulator_counters_of(nullptr, 0)};
  for (int kind = 0; kind < EMULATOR_KINDS; ++kind) outcome.found[kind] = emulator_found(kind) != 0;
  emulator_forget(); /* or every call fails from now on */
  return outcome;
}

inline bool clean(const Outcome &o) {
  for (const bool found : o.found) {
    if (found) return false;
  }
  return true;
}

/* On the device; o and lse are not set. */
struct Tensors {
  spindle::bf16 *q, *k, *v, *o; /* [heads][n][d] */
  float *lse;                   /* [heads][n] */
};

/* What launch(tensors) finds, and whether it solves the problem. */
template <class Launch>
Outcome outcome_of(const Problem &p, const Launch &launch) {
  std::vector<uint16_t> o(p.o.size(), 0xffff);
  std::vector<float> lse(p.lse.size(), NAN);
  const Tensors t = {(spindle::bf16 *)upload(p.q), (spindle::bf16 *)upload(p.k), (spindle::bf16 *)upload(p.v),
                     (spindle::bf16 *)upload(o), upload(lse)};
  launch(t);
  Outcome outcome = take_findings();
  cudaMemcpy(o.data(), t.o, o.size() * 2, cudaMemcpyDeviceToHost);
  cudaMemcpy(lse.data(), t.lse, lse.size() * 4, cudaMemcpyDeviceToHost);
  for (void *x : {(void *)t.q, (void *)t.k, (void *)t.v, (void *)t.o, (void *)t.lse}) cudaFree(x);
  outcome.right = near(o, lse, p);
  return outcome;
}

/* Runs a mutant, 0 the healthy kernel. */
using Run = std::function<Outcome(const Problem &, int mutant)>;

/* The healthy kernel under every policy. */
inline void test_policies(const Run &run, int d) {
  int runs = 0;
  for (const int n : {1, 17, 64, 65, 130, 200}) {
    const Problem p = make_problem(2, n, d);
    for (int copies = EMULATOR_LATE; copies <= EMULATOR_RANDOM; ++copies) {
      for (int order = EMULATOR_ASCENDING; order <= EMULATOR_SHUFFLED; ++order, ++runs) {
        emulator_options options = {};
        options.copies = copies;
        options.order = order;
        options.seed = (uint64_t)runs;
        emulator_configure(&options);
        const Outcome o = run(p, 0);
        if (o.right && clean(o)) continue;
        printf("FAIL n = %d, copies %d, order %d: %s\n", n, copies, order, o.right ? "findings" : "wrong");
        ++failures;
      }
    }
  }
  printf("ok   healthy: %d runs over lengths and policies\n", runs);
}

/* What the healthy kernel does to shared memory, where nothing conflicts: every wavefront moves 128 bytes. */
inline void test_wavefronts(const Run &run, const Problem &p, const char *name, uint64_t instructions, uint64_t bytes) {
  emulator_configure(nullptr);
  const emulator_counters c = run(p, 0).shared;
  const bool same = c.instructions == instructions && c.bytes == bytes && c.wavefronts == bytes / 128 && c.ideal == c.wavefronts;
  printf("%s %s: %llu instructions, %llu bytes, %llu wavefronts\n", same ? "ok  " : "FAIL", name,
         (unsigned long long)c.instructions, (unsigned long long)c.bytes, (unsigned long long)c.wavefronts);
  failures += !same;
}

/* Ways to be found beyond the emulator's kinds. */
enum { WRONG_RESULT = EMULATOR_KINDS, CONFLICTS };

struct Expected {
  int mutant;
  const char *name;
  int found_as;
};

inline bool shows(const Outcome &o, int as) {
  if (as == WRONG_RESULT) return !o.right;
  if (as == CONFLICTS) return o.shared.wavefronts > 2 * o.shared.ideal;
  return o.found[as];
}

/* Says under which policies one of the problems shows the bug as what it is; there must be one. */
inline void test_mutant(const Run &run, const std::vector<Problem> &problems, const Expected &e) {
  static const char *const copies[] = {"late", "eager", "random"}, *const orders[] = {"ascending", "descending", "shuffled"};
  printf("     %-38s", e.name);
  bool found = false;
  for (int policy = 0; policy < 3; ++policy) {
    emulator_options options = {};
    options.copies = options.order = policy;
    options.quiet = 1;
    emulator_configure(&options);
    bool here = false;
    for (const Problem &p : problems) here |= shows(run(p, e.mutant), e.found_as);
    if (!here) continue;
    found = true;
    printf(" %s/%s", copies[policy], orders[policy]);
  }
  const char *as = e.found_as == WRONG_RESULT ? "wrong result"
                   : e.found_as == CONFLICTS  ? "bank conflicts"
                                              : emulator_kind_name(e.found_as);
  printf("%s: %s\n", found ? "" : " NOT FOUND", as);
  failures += !found;
}

template <size_t Count>
void test_mutants(const Run &run, const std::vector<Problem> &problems, const Expected (&expected)[Count]) {
  printf("mutants, and the policies that show them (%s build):\n", emulator_sees_plain_accesses() ? "check" : "plain");
  for (const Expected &e : expected) test_mutant(run, problems, e);
}

/* The program's exit status. */
inline int finish() {
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}

}  // namespace attention_support

#endif
