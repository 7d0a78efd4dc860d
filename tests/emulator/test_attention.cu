/* The attention of attention.cuh under every policy against float64, its bank conflicts, and its mutants: each must be found. */
#include "attention.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "emulator.h"

namespace {

using attention::D;
using attention::Params;

struct Problem {
  int heads, n;
  std::vector<uint16_t> q, k, v;
  std::vector<double> o, lse;
};

float widen(uint16_t h) {
  const uint32_t bits = (uint32_t)h << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* Uniform in [-2, 2], with few enough bits to be bf16. */
void fill(std::vector<uint16_t> &x, size_t size, uint64_t seed) {
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const float value = (float)((int)(seed >> 33 & 255) - 128) / 64.0f;
    uint32_t bits;
    memcpy(&bits, &value, 4);
    x.push_back((uint16_t)(bits >> 16));
  }
}

Problem make_problem(int heads, int n) {
  Problem p = {heads, n, {}, {}, {}, {}, {}};
  const size_t size = (size_t)(heads * n * D);
  fill(p.q, size, 1), fill(p.k, size, 2), fill(p.v, size, 3);
  for (int row = 0; row < heads * n; ++row) {
    const int first = row / n * n;
    std::vector<double> weight;
    double maximum = -INFINITY, sum = 0;
    for (int key = first; key <= row; ++key) {
      double s = 0;
      for (int c = 0; c < D; ++c) s += (double)widen(p.q[(size_t)(row * D + c)]) * widen(p.k[(size_t)(key * D + c)]);
      weight.push_back(s / sqrt(D));
      maximum = std::fmax(maximum, weight.back());
    }
    for (double &w : weight) sum += w = exp(w - maximum);
    p.lse.push_back(maximum + log(sum));
    for (int c = 0; c < D; ++c) {
      double o = 0;
      for (size_t j = 0; j < weight.size(); ++j) o += weight[j] / sum * widen(p.v[((size_t)first + j) * D + (size_t)c]);
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

bool near(const std::vector<uint16_t> &o, const std::vector<float> &lse, const Problem &p) {
  for (size_t i = 0; i < o.size(); ++i) {
    if (!(fabs(widen(o[i]) - p.o[i]) <= O_TOLERANCE)) return false; /* NaN is not */
  }
  for (size_t i = 0; i < lse.size(); ++i) {
    if (!(fabs(lse[i] - p.lse[i]) <= LSE_TOLERANCE)) return false;
  }
  return true;
}

Outcome run(const Problem &p, void (*kernel)(Params)) {
  std::vector<uint16_t> o(p.o.size(), 0xffff);
  std::vector<float> lse(p.lse.size(), NAN);
  uint16_t *inputs[] = {upload(p.q), upload(p.k), upload(p.v), upload(o)};
  float *device_lse = upload(lse);
  const auto bf16 = [&](int i) { return (spindle::bf16 *)inputs[i]; };
  const Params params = {bf16(0), bf16(1), bf16(2), bf16(3), device_lse, p.n, (float)(1.4426950408889634 / sqrt(D))};
  const dim3 grid((unsigned)((p.n + attention::ROWS - 1) / attention::ROWS), (unsigned)p.heads);
  (void)SPINDLE__LAUNCH(kernel, grid, attention::THREADS, sizeof(attention::Smem), nullptr, params);

  Outcome outcome = {{}, false, emulator_counters_of(nullptr, 0)};
  for (int kind = 0; kind < EMULATOR_KINDS; ++kind) outcome.found[kind] = emulator_found(kind) != 0;
  emulator_forget(); /* or the calls below fail */
  cudaMemcpy(o.data(), inputs[3], o.size() * 2, cudaMemcpyDeviceToHost);
  cudaMemcpy(lse.data(), device_lse, lse.size() * 4, cudaMemcpyDeviceToHost);
  for (uint16_t *x : inputs) cudaFree(x);
  cudaFree(device_lse);
  outcome.right = near(o, lse, p);
  return outcome;
}

bool clean(const Outcome &o) {
  for (const bool found : o.found) {
    if (found) return false;
  }
  return true;
}

/* ---- The healthy kernel ---------------------------------------------------------------------------------------------- */

int failures;

void test_policies() {
  int runs = 0;
  for (const int n : {1, 17, 64, 65, 130, 200}) {
    const Problem p = make_problem(2, n);
    for (int copies = EMULATOR_LATE; copies <= EMULATOR_RANDOM; ++copies) {
      for (int order = EMULATOR_ASCENDING; order <= EMULATOR_SHUFFLED; ++order, ++runs) {
        emulator_options options = {};
        options.copies = copies;
        options.order = order;
        options.seed = (uint64_t)runs;
        emulator_configure(&options);
        const Outcome o = run(p, attention::kernel<attention::HEALTHY>);
        if (o.right && clean(o)) continue;
        printf("FAIL n = %d, copies %d, order %d: %s\n", n, copies, order, o.right ? "findings" : "wrong");
        ++failures;
      }
    }
  }
  printf("ok   healthy: %d runs over lengths and policies\n", runs);
}

/* Per tile pair a warp loads K (16 x4) and V (16 x4), once a block Q (4 x4): 4 wavefronts of 128 bytes each, when nothing
 * conflicts. */
void test_wavefronts() {
  emulator_configure(nullptr);
  const Outcome o = run(make_problem(1, 128), attention::kernel<attention::HEALTHY>);
  const uint64_t instructions = 4 * (3 * (16 + 16) + 2 * 4);
  const bool same = o.shared.instructions == instructions && o.shared.bytes == instructions * 512 &&
                    o.shared.wavefronts == instructions * 4 && o.shared.ideal == o.shared.wavefronts;
  printf("%s ldmatrix: %llu instructions, %llu bytes, %llu wavefronts\n", same ? "ok  " : "FAIL",
         (unsigned long long)o.shared.instructions, (unsigned long long)o.shared.bytes, (unsigned long long)o.shared.wavefronts);
  failures += !same;
}

/* ---- The mutants ----------------------------------------------------------------------------------------------------- */

enum { WRONG_RESULT = EMULATOR_KINDS, CONFLICTS };

struct Expected {
  attention::Mutant mutant;
  const char *name;
  int found_as;
};
const Expected EXPECTED[] = {
    {attention::NO_WAIT, "no cp_async_wait", EMULATOR_PENDING},
    {attention::WAIT_TOO_FEW, "a group too many left pending", EMULATOR_PENDING},
    {attention::NO_COMMIT, "first group not committed", EMULATOR_PENDING},
    {attention::NO_SYNC_FULL, "no barrier after the wait", EMULATOR_READ_AFTER_WRITE},
    {attention::NO_SYNC_FREE, "no barrier before refilling a stage", EMULATOR_WRITE_AFTER_READ},
    {attention::NO_SYNC_EPILOGUE, "no barrier in the epilogue", EMULATOR_READ_AFTER_WRITE},
    {attention::NO_SYNC_WARP, "no sync_warp", EMULATOR_READ_AFTER_WRITE},
    {attention::WRONG_SWIZZLE, "another swizzle for reading", WRONG_RESULT},
    {attention::NO_SWIZZLE, "no swizzle", CONFLICTS},
    {attention::MASK_OFF_BY_ONE, "causal mask off by one", WRONG_RESULT},
    {attention::NO_ROW_GUARD, "copies past the last row", EMULATOR_GLOBAL_BOUNDS},
    {attention::NO_ZERO_FILL, "tail rows not zeroed", WRONG_RESULT},
    {attention::NO_RESCALE, "no rescale of O", WRONG_RESULT},
    {attention::NO_ROW_MAXIMUM, "row maximum over half the columns", WRONG_RESULT},
    {attention::DIVERGENT_SHUFFLE, "shuffle in a branch", EMULATOR_DIVERGENCE},
    {attention::UNSET_ACCUMULATOR, "O not zeroed", WRONG_RESULT},
    {attention::STORE_OUT_OF_BOUNDS, "LSE stored past its end", EMULATOR_GLOBAL_BOUNDS},
    {attention::LDMATRIX_OUT_OF_BOUNDS, "ldmatrix past shared memory", EMULATOR_SHARED_BOUNDS},
    {attention::MISALIGNED_COPY, "misaligned cp_async", EMULATOR_ALIGNMENT},
    {attention::HALF_BARRIER, "barrier not reached by a warp", EMULATOR_DEADLOCK},
    {attention::WRONG_BLOCK, "two blocks write the same rows", EMULATOR_GLOBAL_RACE},
};
static_assert(sizeof EXPECTED / sizeof *EXPECTED == attention::MUTANTS - 1, "every mutant is expected to be found");

template <int... I>
void (*mutant_kernel(int mutant, std::integer_sequence<int, I...>))(Params) {
  void (*const kernels[])(Params) = {attention::kernel<I>...};
  return kernels[mutant];
}

bool shows(const Outcome &o, int as) {
  if (as == WRONG_RESULT) return !o.right;
  if (as == CONFLICTS) return o.shared.wavefronts > 2 * o.shared.ideal;
  return o.found[as];
}

/* 200: three full tiles and a tail; 100: no tile before the tail, so what it leaves unwritten is still poison. */
void test_mutant(const Problem (&problems)[2], const Expected &e) {
  static const char *const copies[] = {"late", "eager", "random"}, *const orders[] = {"ascending", "descending", "shuffled"};
  printf("     %-38s", e.name);
  bool found = false;
  for (int policy = 0; policy < 3; ++policy) {
    emulator_options options = {};
    options.copies = options.order = policy;
    options.quiet = 1;
    emulator_configure(&options);
    bool here = false;
    for (const Problem &p : problems) {
      here |= shows(run(p, mutant_kernel(e.mutant, std::make_integer_sequence<int, attention::MUTANTS>())), e.found_as);
    }
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

}  // namespace

int main() {
  test_policies();
  test_wavefronts();
  const Problem problems[] = {make_problem(1, 200), make_problem(1, 100)};
  printf("mutants, and the policies that show them (%s build):\n", emulator_sees_plain_accesses() ? "check" : "plain");
  for (const Expected &e : EXPECTED) test_mutant(problems, e);
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
