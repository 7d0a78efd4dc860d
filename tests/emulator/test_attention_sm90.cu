/* The attention of attention_sm90.cuh: as test_attention.cu. */
#include "attention_sm90.cuh"

#include "attention_support.h"

namespace {

using attention_sm90::D;
using attention_sm90::Params;
using namespace attention_support;

template <int... I>
void (*mutant_kernel(int mutant, std::integer_sequence<int, I...>))(Params) {
  void (*const kernels[])(Params) = {attention_sm90::kernel<I>...};
  return kernels[mutant];
}

/* Boxes of `rows` rows of one panel of x[heads][n][D]. */
CUtensorMap panels(const Problem &p, const spindle::bf16 *x, uint32_t rows) {
  CUtensorMap map;
  const uint64_t extent[3] = {D, (uint64_t)p.n, (uint64_t)p.heads}, stride[2] = {D * 2, (uint64_t)p.n * D * 2};
  const uint32_t box[3] = {attention_sm90::WIDTH, rows, 1};
  if (spindle::prim::encode_tensor_map(&map, x, extent, stride, box, spindle::prim::SWIZZLE_128B)) exit(2);
  return map;
}

Outcome run(const Problem &p, int mutant) {
  const auto kernel = mutant_kernel(mutant, std::make_integer_sequence<int, attention_sm90::MUTANTS>());
  std::vector<uint16_t> o(p.o.size(), 0xffff);
  std::vector<float> lse(p.lse.size(), NAN);
  uint16_t *inputs[] = {upload(p.q), upload(p.k), upload(p.v), upload(o)};
  float *device_lse = upload(lse);
  const auto map = [&](int i, int rows) { return panels(p, (spindle::bf16 *)inputs[i], (uint32_t)rows); };
  const Params params = {map(0, attention_sm90::ROWS),
                         map(1, attention_sm90::KEYS),
                         map(2, attention_sm90::KEYS),
                         map(3, 64),
                         device_lse,
                         p.n,
                         (float)(1.4426950408889634 / sqrt(D))};
  const dim3 grid((unsigned)((p.n + attention_sm90::ROWS - 1) / attention_sm90::ROWS), (unsigned)p.heads);
  if (spindle::prim::allow_shared(kernel, sizeof(attention_sm90::Smem))) exit(2);
  (void)SPINDLE__LAUNCH(kernel, grid, attention_sm90::THREADS, sizeof(attention_sm90::Smem), nullptr, params);

  Outcome outcome = take_findings();
  cudaMemcpy(o.data(), inputs[3], o.size() * 2, cudaMemcpyDeviceToHost);
  cudaMemcpy(lse.data(), device_lse, lse.size() * 4, cudaMemcpyDeviceToHost);
  for (uint16_t *x : inputs) cudaFree(x);
  cudaFree(device_lse);
  outcome.right = near(o, lse, p);
  return outcome;
}

/* 128 rows, 2 tiles: each warpgroup reads Q and K, 4 KiB a wgmma, and V, 4 KiB of 16 keys; TMA moves all four tensors once.
 * Nothing conflicts. */
void test_wavefronts() {
  emulator_configure(nullptr);
  const emulator_counters c = run(make_problem(1, 128, D), attention_sm90::HEALTHY).shared;
  const uint64_t instructions = 2 * 2 * (8 + 4) + 2 * (1 + 2 + 2) + 2 * 2, bytes = 2 * 2 * (8 + 4) * 4096 + 4 * 128 * D * 2;
  const bool same = c.instructions == instructions && c.bytes == bytes && c.wavefronts == bytes / 128 && c.ideal == c.wavefronts;
  printf("%s wgmma and TMA: %llu instructions, %llu bytes, %llu wavefronts\n", same ? "ok  " : "FAIL",
         (unsigned long long)c.instructions, (unsigned long long)c.bytes, (unsigned long long)c.wavefronts);
  failures += !same;
}

const Expected EXPECTED[] = {
    {attention_sm90::NO_FULL_WAIT, "no wait for K", EMULATOR_PENDING},
    {attention_sm90::WRONG_PARITY, "wrong parity", EMULATOR_DEADLOCK},
    {attention_sm90::ONE_WARP_WAITS, "one warp waits for all", EMULATOR_READ_AFTER_WRITE},
    {attention_sm90::NO_EMPTY_WAIT, "no wait for a free stage", EMULATOR_BAD_MBARRIER},
    {attention_sm90::HALF_THE_BYTES, "half the bytes announced", EMULATOR_PENDING},
    {attention_sm90::NO_BYTES, "no bytes announced", EMULATOR_PENDING},
    {attention_sm90::TOO_MANY_ARRIVALS, "a missing arrival", EMULATOR_DEADLOCK},
    {attention_sm90::EARLY_RELEASE, "stage given back too early", EMULATOR_IN_FLIGHT},
    {attention_sm90::NO_INIT_FENCE, "no fence_mbarrier_init", EMULATOR_PROXY},
    {attention_sm90::NO_INIT_SYNC, "no barrier after mbarrier_init", EMULATOR_BAD_MBARRIER},
    {attention_sm90::NO_WGMMA_FENCE, "no wgmma_fence", EMULATOR_BAD_WGMMA},
    {attention_sm90::NO_WGMMA_COMMIT, "no wgmma_commit", EMULATOR_UNFINISHED},
    {attention_sm90::NO_WGMMA_WAIT, "no wgmma_wait", EMULATOR_UNFINISHED},
    {attention_sm90::WAIT_TOO_FEW, "a group too many left pending", WRONG_RESULT},
    {attention_sm90::EARLY_PACK, "A fragments change in flight", EMULATOR_IN_FLIGHT},
    {attention_sm90::EARLY_RESCALE, "accumulators change in flight", EMULATOR_IN_FLIGHT},
    {attention_sm90::MISSING_WARP, "a warp skips wgmma", EMULATOR_BAD_WGMMA},
    {attention_sm90::WRONG_SWIZZLE, "another swizzle in a descriptor", EMULATOR_BAD_WGMMA},
    {attention_sm90::WRONG_STRIDE, "wrong stride in a descriptor", WRONG_RESULT},
    {attention_sm90::WRONG_LEADING, "wrong leading dimension", WRONG_RESULT},
    {attention_sm90::NOT_TRANSPOSED, "V taken as K-major", WRONG_RESULT},
    {attention_sm90::NO_ADVANCE, "descriptor not advanced", WRONG_RESULT},
    {attention_sm90::MISALIGNED_TILE, "tile not aligned to its swizzle", EMULATOR_ALIGNMENT},
    {attention_sm90::WRONG_COORDINATE, "V one row late", WRONG_RESULT},
    {attention_sm90::NO_PROXY_FENCE, "no fence_proxy_async", EMULATOR_PROXY},
    {attention_sm90::NO_EPILOGUE_BARRIER, "no barrier in the epilogue", EMULATOR_READ_AFTER_WRITE},
    {attention_sm90::NO_STORE_WAIT, "no bulk_wait_read", EMULATOR_UNFINISHED},
    {attention_sm90::TOO_MANY_REGISTERS, "more registers than there are", EMULATOR_DEADLOCK},
    {attention_sm90::MASK_OFF_BY_ONE, "causal mask off by one", WRONG_RESULT},
};
static_assert(sizeof EXPECTED / sizeof *EXPECTED == attention_sm90::MUTANTS - 1, "every mutant is expected to be found");

}  // namespace

int main() {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  test_policies(run, D);
  test_wavefronts();
  /* A block of 6 tiles, and one of 2 with a tail. */
  const std::vector<Problem> problems = {make_problem(1, 330, D), make_problem(1, 100, D)};
  printf("mutants, and the policies that show them (%s build):\n", emulator_sees_plain_accesses() ? "check" : "plain");
  for (const Expected &e : EXPECTED) test_mutant(run, problems, e);
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
