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
  const dim3 grid((unsigned)((p.n + attention::ROWS - 1) / attention::ROWS * p.heads));
  return outcome_of(p, [&](const Tensors &t) {
    const Params params = {t.q, t.k, t.v, t.o, t.lse, p.n, (float)(1.4426950408889634 / sqrt(D))};
    (void)SPINDLE__LAUNCH(kernel, grid, attention::THREADS, sizeof(attention::Smem), nullptr, params);
  });
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
  /* Two blocks, three pairs of tiles. Of each a warp loads K (16 x4) and V (16 x4), and of its block's Q 4 x4: 512 bytes each. */
  const uint64_t instructions = 4 * (3 * (16 + 16) + 2 * 4);
  test_wavefronts(run, make_problem(1, 128, D), "ldmatrix", instructions, instructions * 512);
  /* 200: three full tiles and a tail; 100: no tile before the tail, so what it leaves unwritten is still poison. */
  test_mutants(run, {make_problem(1, 200, D), make_problem(1, 100, D)}, EXPECTED);
  return finish();
}
