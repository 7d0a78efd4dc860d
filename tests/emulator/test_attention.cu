/* The attention of attention.cuh under every policy against float64, its bank conflicts, and its mutants: each must be found. */
#include "attention.cuh"

#include "attention_support.h"

namespace {

using attention::D;
using attention::Params;
using namespace attention_support;

template <int... I>
void (*mutant_kernel(int mutant, std::integer_sequence<int, I...>))(Params) {
  void (*const kernels[])(Params) = {attention::kernel<I>...};
  return kernels[mutant];
}

Outcome run(const Problem &p, int mutant) {
  const auto kernel = mutant_kernel(mutant, std::make_integer_sequence<int, attention::MUTANTS>());
  std::vector<uint16_t> o(p.o.size(), 0xffff);
  std::vector<float> lse(p.lse.size(), NAN);
  uint16_t *inputs[] = {upload(p.q), upload(p.k), upload(p.v), upload(o)};
  float *device_lse = upload(lse);
  const auto bf16 = [&](int i) { return (spindle::bf16 *)inputs[i]; };
  const Params params = {bf16(0), bf16(1), bf16(2), bf16(3), device_lse, p.n, (float)(1.4426950408889634 / sqrt(D))};
  const dim3 grid((unsigned)((p.n + attention::ROWS - 1) / attention::ROWS), (unsigned)p.heads);
  (void)SPINDLE__LAUNCH(kernel, grid, attention::THREADS, sizeof(attention::Smem), nullptr, params);

  Outcome outcome = take_findings();
  cudaMemcpy(o.data(), inputs[3], o.size() * 2, cudaMemcpyDeviceToHost);
  cudaMemcpy(lse.data(), device_lse, lse.size() * 4, cudaMemcpyDeviceToHost);
  for (uint16_t *x : inputs) cudaFree(x);
  cudaFree(device_lse);
  outcome.right = near(o, lse, p);
  return outcome;
}

/* Per tile pair a warp loads K (16 x4) and V (16 x4), once a block Q (4 x4): 4 wavefronts of 128 bytes each, when nothing
 * conflicts. */
void test_wavefronts() {
  emulator_configure(nullptr);
  const Outcome o = run(make_problem(1, 128, D), attention::HEALTHY);
  const uint64_t instructions = 4 * (3 * (16 + 16) + 2 * 4);
  const bool same = o.shared.instructions == instructions && o.shared.bytes == instructions * 512 &&
                    o.shared.wavefronts == instructions * 4 && o.shared.ideal == o.shared.wavefronts;
  printf("%s ldmatrix: %llu instructions, %llu bytes, %llu wavefronts\n", same ? "ok  " : "FAIL",
         (unsigned long long)o.shared.instructions, (unsigned long long)o.shared.bytes, (unsigned long long)o.shared.wavefronts);
  failures += !same;
}

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

}  // namespace

int main() {
  test_policies(run, D);
  test_wavefronts();
  /* 200: three full tiles and a tail; 100: no tile before the tail, so what it leaves unwritten is still poison. */
  const std::vector<Problem> problems = {make_problem(1, 200, D), make_problem(1, 100, D)};
  printf("mutants, and the policies that show them (%s build):\n", emulator_sees_plain_accesses() ? "check" : "plain");
  for (const Expected &e : EXPECTED) test_mutant(run, problems, e);
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
