/* test_checks.cu for wgmma and setmaxnreg. */
#include "checks_sm90.cuh"

namespace {

using namespace checks_sm90;
using namespace checks_support;

/* ---- wgmma ----------------------------------------------------------------------------------------------------------- */

enum WgmmaBug {
  NO_FENCE,
  NO_PROXY_FENCE,
  NO_BARRIER,
  B_OVERWRITTEN,
  A_OVERWRITTEN,
  D_OVERWRITTEN,
  NO_WAIT,
  NO_COMMIT,
  MISSING_WARP,
  MID_PATTERN,
  B_BOUNDS,
  DISAGREEMENT,
  D_SHARED
};
/* One product of 64 x 8 x 16 after another, of ones. */
template <bool Wrong, int Bug>
__global__ void wgmma_kernel(uint32_t *out) {
  const auto wrong = [](int bug) { return Wrong && Bug == bug; };
  Map &map = prim::shared<Map>();
  const int t = prim::thread_index();
  prim::st_shared(at(map.tile) + (uint32_t)t * 8, make_uint2(0x3f803f80u, 0x3f803f80u));
  if (!wrong(NO_PROXY_FENCE)) prim::fence_proxy_async();
  if (!wrong(NO_BARRIER)) prim::sync_block();
  if (wrong(MISSING_WARP) && prim::warp() == 2) return;

  float d[2][1][4] = {};
  uint32_t a[1][4] = {{0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u}};
  const uint32_t shift = wrong(MID_PATTERN) ? 256 : wrong(B_BOUNDS) ? 16384 : wrong(DISAGREEMENT) && t == 77 ? 32 : 0;
  const uint64_t b = prim::matrix_descriptor<prim::SWIZZLE_128B, 16, 1024>(at(map.tile) + shift);
  if (!wrong(NO_FENCE)) prim::wgmma_fence(d[0], a);
  prim::wgmma<bf16>(d[0], a[0], b, true);
  if (wrong(D_SHARED)) prim::wgmma<bf16>(*(float(*)[1][4]) & d[0][0][2], a[0], b, true);
  if (!wrong(NO_COMMIT)) prim::wgmma_commit();
  if (wrong(B_OVERWRITTEN) && t == 0) prim::st_shared(at(map.tile), 0u);
  if (wrong(A_OVERWRITTEN)) a[0][3] = 0;
  if (wrong(D_OVERWRITTEN)) d[0][0][1] = 1;
  if (!wrong(NO_WAIT)) prim::wgmma_wait<0>(d[0]);
  prim::sync_block();
  if (t == 0) prim::st_shared(at(map.tile), a[0][3]);
  out[t] = prim::as_bits(d[0][0][0] + d[0][0][3]);
}

/* A tile is read with the swizzle that it was loaded with. */
KERNEL other_swizzle(const __grid_constant__ CUtensorMap rows, uint32_t *) {
  Map &map = prepared(1);
  if (prim::thread_index() == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), sizeof map.tile);
    prim::tma_load(at(map.tile), rows, {0, 0, 0, 0}, at(map.barrier));
  }
  prim::mbarrier_wait(at(map.barrier), 0);
  constexpr prim::Swizzle MODE = Wrong ? prim::SWIZZLE_64B : prim::SWIZZLE_128B;
  float d[1][4];
  const uint32_t a[4] = {};
  prim::wgmma_fence(d);
  prim::wgmma<bf16>(d, a, prim::matrix_descriptor<MODE, 16, 8 * prim::swizzle_span(MODE)>(at(map.tile)), false);
  prim::wgmma_commit();
  prim::wgmma_wait<0>(d);
}

/* cp_async writes as threads do: wgmma needs the fence after the wait. */
KERNEL copied_by_threads(uint32_t *words) {
  Map &map = prim::shared<Map>();
  const int t = prim::thread_index();
  prim::cp_async<8>(at(map.tile) + 8 * (uint32_t)t, words + 2 * t);
  prim::cp_async_wait_all();
  if (!Wrong) prim::fence_proxy_async();
  prim::sync_block();
  float d[1][4];
  const uint32_t a[4] = {};
  prim::wgmma_fence(d);
  prim::wgmma<bf16>(d, a, prim::matrix_descriptor<prim::SWIZZLE_128B, 16, 1024>(at(map.tile)), false);
  prim::wgmma_commit();
  prim::wgmma_wait<0>(d);
}

/* One warpgroup loads a tile and changes it in place, another multiplies by it: both proxies take turns at the same bytes. */
KERNEL changed_in_place(const __grid_constant__ CUtensorMap rows, uint32_t *) {
  Map &map = prepared(1);
  const uint32_t full = at(map.barrier), changed = at(map.other), empty = at(map.third),
                 mine = at(map.tile) + 8 * (uint32_t)(prim::thread_index() % 128);
  if (prim::thread_index() == 0) {
    prim::mbarrier_init(changed, 4);
    prim::mbarrier_init(empty, 4);
  }
  prim::sync_block();
  float d[1][4] = {};
  const uint32_t a[4] = {};
  for (uint32_t round = 0; round < 4; ++round) {
    if (prim::warp() < 4) {
      if (prim::thread_index() == 0) {
        prim::mbarrier_wait(empty, (round & 1) ^ 1);
        prim::mbarrier_arrive_expect_tx(full, sizeof map.tile);
        prim::tma_load(at(map.tile), rows, {0, 0, 0, 0}, full);
      }
      prim::mbarrier_wait(full, round & 1);
      prim::st_shared(mine, prim::ld_shared<uint32_t>(mine) + 1);
      if (!Wrong) prim::fence_proxy_async();
      prim::sync_warp();
      if (LANE == 0) prim::mbarrier_arrive(changed);
    } else {
      prim::mbarrier_wait(changed, round & 1);
      prim::wgmma_fence(d);
      prim::wgmma<bf16>(d, a, prim::matrix_descriptor<prim::SWIZZLE_128B, 16, 1024>(at(map.tile)), true);
      prim::wgmma_commit();
      prim::wgmma_wait<0>(d);
      if (LANE == 0) prim::mbarrier_arrive(empty);
    }
  }
}

/* ---- Registers ------------------------------------------------------------------------------------------------------- */

/* 384 threads have 168 registers each; the first 128 leave 64 to each of the others. */
KERNEL registers_too_many(uint32_t *) {
  if (prim::warp() < 4) {
    prim::setmaxnreg_dec<40>();
  } else {
    prim::setmaxnreg_inc<Wrong ? 240 : 232>();
  }
}
KERNEL registers_up_is_down(uint32_t *) {
  if (Wrong) {
    prim::setmaxnreg_inc<64>();
  } else {
    prim::setmaxnreg_dec<64>();
  }
}
KERNEL registers_of_three_warps(uint32_t *) {
  if (!Wrong || prim::warp() != 3) prim::setmaxnreg_dec<64>();
}

/* ---- The cases ------------------------------------------------------------------------------------------------------- */

#define BLOCK(name, threads, kind) TWINS(name, Map, 1, threads, kind, false)
#define WGMMA(bug, kind) \
  { "wgmma " #bug, EMULATOR_##kind, false, launch_twins<wgmma_kernel<true, bug>, wgmma_kernel<false, bug>, Map, 1, 128> }
const Case CASES[] = {
    LOADS(other_swizzle, 128, BAD_WGMMA),
    WGMMA(NO_FENCE, BAD_WGMMA),
    WGMMA(NO_PROXY_FENCE, PROXY),
    WGMMA(NO_BARRIER, READ_AFTER_WRITE),
    WGMMA(B_OVERWRITTEN, IN_FLIGHT),
    WGMMA(A_OVERWRITTEN, IN_FLIGHT),
    WGMMA(D_OVERWRITTEN, IN_FLIGHT),
    WGMMA(NO_WAIT, UNFINISHED),
    WGMMA(NO_COMMIT, UNFINISHED),
    WGMMA(MISSING_WARP, DEADLOCK),
    WGMMA(MID_PATTERN, BAD_WGMMA),
    WGMMA(B_BOUNDS, SHARED_BOUNDS),
    WGMMA(DISAGREEMENT, BAD_WGMMA),
    WGMMA(D_SHARED, BAD_WGMMA),
    BLOCK(copied_by_threads, 128, PROXY),
    LOADS(changed_in_place, 256, PROXY),
    BLOCK(registers_too_many, 384, DEADLOCK),
    BLOCK(registers_up_is_down, 128, BAD_REGISTERS),
    BLOCK(registers_of_three_warps, 128, BAD_REGISTERS),
};

/* No device but those of sm_90a has wgmma. */
void test_arch() {
  emulator_options options = {};
  options.quiet = 1;
  emulator_configure(&options);
  const Case fine = WGMMA(NO_WAIT, UNFINISHED);
  for (const char *arch : {"80", "100"}) {
    setenv("SPINDLE_EMULATED_ARCH", arch, 1);
    const unsigned kinds = run(fine, false, "test_checks_wgmma.cu:");
    if (kinds == 1u << EMULATOR_BAD_LAUNCH) continue;
    printf("FAIL wgmma on sm_%s: kinds %x\n", arch, kinds);
    ++failures;
  }
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
}

}  // namespace

int main() {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  for (const Case &c : CASES) test_case(c, "test_checks_wgmma.cu:");
  test_arch();
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
