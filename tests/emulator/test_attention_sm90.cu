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

/* Boxes of KEYS rows of one panel of x[heads][n][D]. */
CUtensorMap panels(const Problem &p, const spindle::bf16 *x) {
  CUtensorMap map;
  const uint64_t head = (uint64_t)p.n * D * 2, extent[4] = {D, (uint64_t)p.n, (uint64_t)p.heads, 1};
  const uint64_t stride[3] = {D * 2, head, head * (uint64_t)p.heads};
  const uint32_t box[4] = {attention_sm90::WIDTH, attention_sm90::KEYS, 1, 1};
  if (spindle::prim::encode_tensor_map(&map, x, extent, stride, box, spindle::prim::SWIZZLE_128B)) exit(2);
  return map;
}

Outcome run(const Problem &p, int mutant) {
  const auto kernel = mutant_kernel(mutant, std::make_integer_sequence<int, attention_sm90::MUTANTS>());
  const dim3 grid((unsigned)((p.n + attention_sm90::ROWS - 1) / attention_sm90::ROWS * p.heads));
  if (spindle::prim::allow_shared(kernel, sizeof(attention_sm90::Smem))) exit(2);
  return outcome_of(p, [&](const Tensors &t) {
    const Params params = {panels(p, t.k), panels(p, t.v), t.q, t.o, t.lse, p.n, (float)(1.4426950408889634 / sqrt(D))};
    (void)SPINDLE__LAUNCH(kernel, grid, attention_sm90::THREADS, sizeof(attention_sm90::Smem), nullptr, params);
  });
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
    {attention_sm90::NO_QUERY_BARRIER, "no barrier after copying Q", EMULATOR_READ_AFTER_WRITE},
    {attention_sm90::TOO_MANY_REGISTERS, "more registers than there are", EMULATOR_DEADLOCK},
    {attention_sm90::MASK_OFF_BY_ONE, "causal mask off by one", WRONG_RESULT},
};
static_assert(sizeof EXPECTED / sizeof *EXPECTED == attention_sm90::MUTANTS - 1, "every mutant is expected to be found");

}  // namespace

int main() {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  test_policies(run, D);
  /* 128 rows, 2 tiles: each warpgroup reads Q and K, 4 KiB a wgmma, and V, 4 KiB of 16 keys; TMA moves K and V once. */
  test_wavefronts(run, make_problem(1, 128, D), "wgmma and TMA", 2 * 2 * (8 + 4) + 2 * (2 + 2),
                  2 * 2 * (8 + 4) * 4096 + 2 * 128 * D * 2);
  /* A block of 6 tiles, and one of 2 with a tail. */
  test_mutants(run, {make_problem(1, 330, D), make_problem(1, 100, D)}, EXPECTED);
  return finish();
}
