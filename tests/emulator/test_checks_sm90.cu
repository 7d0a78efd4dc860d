/* test_checks.cu for what sm_90a brings. */
#include "checks_support.h"

namespace {

using namespace spindle;
using namespace checks_support;

struct Map {
  alignas(1024) bf16 tile[8][64]; /* a B operand of 8 columns, K-major with 128-byte swizzle, or plain data */
  alignas(1024) uint32_t at[256];
  uint64_t barrier, other, third;
};

template <class T>
SPINDLE__DEVICE uint32_t at(const T &object) {
  return prim::shared_address(&object);
}

/* The map, with one barrier that all may use, copies too. */
SPINDLE__DEVICE Map &prepared(uint32_t arrivals, bool fence = true) {
  Map &map = prim::shared<Map>();
  if (prim::thread_index() == 0) {
    prim::mbarrier_init(at(map.barrier), arrivals);
    if (fence) prim::fence_mbarrier_init();
  }
  prim::sync_block();
  return map;
}

/* ---- mbarriers ------------------------------------------------------------------------------------------------------- */

KERNEL no_mbarrier(uint32_t *) {
  Map &map = prepared(32);
  prim::mbarrier_arrive(Wrong ? at(map.other) : at(map.barrier));
}
KERNEL mbarrier_twice(uint32_t *) {
  Map &map = prepared(1);
  if (prim::thread_index() == 0) prim::mbarrier_init(Wrong ? at(map.barrier) : at(map.other), 1);
}
KERNEL mbarrier_of_none(uint32_t *) { prepared(Wrong ? 0 : 1); }
KERNEL mbarrier_alignment(uint32_t *) {
  if (LANE == 0) prim::mbarrier_init(at(prim::shared<Map>().at[Wrong ? 1 : 2]), 1);
}
KERNEL mbarrier_unseen(uint32_t *) {
  Map &map = prim::shared<Map>();
  if (LANE == 0) prim::mbarrier_init(at(map.barrier), 32);
  if (!Wrong) prim::sync_warp();
  if (LANE || !Wrong) prim::mbarrier_arrive(at(map.barrier));
}
KERNEL mbarrier_overwritten(uint32_t *) {
  Map &map = prepared(1);
  if (LANE == 0) prim::st_shared(Wrong ? at(map.barrier) : at(map.other), 1u);
}
KERNEL plain_mbarrier_read(uint32_t *out) {
  Map &map = prepared(1);
  if (LANE) return;
  map.other = 1;
  out[0] = (uint32_t)(Wrong ? map.barrier : map.other);
}
/* Bytes are missing, so the phase does not end, but all arrivals have been made. */
KERNEL arrival_too_many(uint32_t *in) {
  Map &map = prepared(1);
  if (LANE == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), 16);
    if (Wrong) prim::mbarrier_arrive(at(map.barrier));
    prim::bulk_load(at(map.at), in, 16, at(map.barrier));
  }
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL arrival_missing(uint32_t *) {
  Map &map = prepared(32);
  if (!Wrong || LANE) prim::mbarrier_arrive(at(map.barrier));
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL parity_wrong(uint32_t *) {
  Map &map = prepared(32);
  prim::mbarrier_arrive(at(map.barrier));
  prim::mbarrier_wait(at(map.barrier), 0);
  prim::mbarrier_wait(at(map.barrier), Wrong ? 1 : 0);
}
KERNEL parity_of_two(uint32_t *) { prim::mbarrier_wait(at(prepared(1).barrier), Wrong ? 2 : 1); }
KERNEL written_after_arrival(uint32_t *out) {
  Map &map = prepared(32);
  if (prim::warp() == 0) {
    if (!Wrong) prim::st_shared(at(map.at[LANE]), 1u);
    prim::mbarrier_arrive(at(map.barrier));
    if (Wrong) prim::st_shared(at(map.at[LANE]), 1u);
  } else {
    prim::mbarrier_wait(at(map.barrier), 0);
    out[LANE] = prim::ld_shared<uint32_t>(at(map.at[LANE ^ 1]));
  }
}
KERNEL no_election(uint32_t *out) {
  if (Wrong && LANE == 5) return;
  out[LANE] = prim::elect_one();
}

/* ---- Bulk copies ----------------------------------------------------------------------------------------------------- */

/* Announces `announced` bytes and copies `bytes`; all threads wait and read. */
SPINDLE__DEVICE void load(Map &map, uint32_t *words, uint32_t announced, uint32_t bytes) {
  if (prim::thread_index() == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), announced);
    prim::bulk_load(at(map.at), words, bytes, at(map.barrier));
  }
}
KERNEL bytes_not_announced(uint32_t *words) {
  Map &map = prepared(1);
  if (LANE == 0) {
    if (Wrong) {
      prim::mbarrier_arrive(at(map.barrier));
    } else {
      prim::mbarrier_arrive_expect_tx(at(map.barrier), 128);
    }
    prim::bulk_load(at(map.at), words, 128, at(map.barrier));
  }
  prim::mbarrier_wait(at(map.barrier), 0);
  words[512 + LANE] = prim::ld_shared<uint32_t>(at(map.at[LANE]));
}
KERNEL bytes_too_many(uint32_t *words) {
  Map &map = prepared(1);
  load(map, words, Wrong ? 144 : 128, 128);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_not_awaited(uint32_t *words) {
  Map &map = prepared(1);
  load(map, words, 128, 128);
  if (!Wrong) prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_read_early(uint32_t *words) {
  Map &map = prepared(1);
  load(map, words, 128, 128);
  if (Wrong) words[512 + LANE] = prim::ld_shared<uint32_t>(at(map.at[LANE]));
  prim::mbarrier_wait(at(map.barrier), 0);
  words[512 + LANE] = prim::ld_shared<uint32_t>(at(map.at[LANE]));
}
KERNEL load_of_8_bytes(uint32_t *words) {
  Map &map = prepared(1);
  load(map, words, Wrong ? 0 : 16, Wrong ? 8 : 16);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_alignment(uint32_t *words) {
  Map &map = prepared(1);
  load(map, words + (Wrong ? 1 : 4), Wrong ? 0 : 16, 16);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_bounds(uint32_t *words) {
  Map &map = prepared(1);
  load(map, words + 1020, Wrong ? 0 : 16, Wrong ? 32 : 16);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_init_unfenced(uint32_t *words) {
  Map &map = prepared(1, !Wrong);
  load(map, words, 128, 128);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_over_reads(uint32_t *words) {
  Map &map = prepared(1);
  prim::st_shared(at(map.at[prim::thread_index()]), 1u);
  prim::fence_proxy_async();
  prim::sync_block();
  words[512 + prim::thread_index()] = prim::ld_shared<uint32_t>(at(map.at[prim::thread_index()]));
  if (!Wrong) prim::sync_block();
  load(map, words, 256, 256);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_over_unfenced(uint32_t *words) {
  Map &map = prepared(1);
  prim::st_shared(at(map.at[LANE]), 1u);
  if (!Wrong) prim::fence_proxy_async();
  prim::sync_warp();
  load(map, words, 128, 128);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL store_unfenced(uint32_t *out) {
  Map &map = prim::shared<Map>();
  prim::st_shared(at(map.at[LANE]), 1u);
  if (!Wrong) prim::fence_proxy_async();
  prim::sync_warp();
  if (LANE == 0) {
    prim::bulk_store(out, at(map.at), 128);
    prim::bulk_commit();
    prim::bulk_wait<0>();
  }
}
KERNEL store_overwritten(uint32_t *out) {
  Map &map = prim::shared<Map>();
  prim::st_shared(at(map.at[LANE]), 1u);
  prim::fence_proxy_async();
  prim::sync_warp();
  if (LANE == 0) {
    prim::bulk_store(out, at(map.at), 128);
    prim::bulk_commit();
    if (!Wrong) prim::bulk_wait_read<0>();
    prim::st_shared(at(map.at[3]), 2u);
    prim::bulk_wait_read<0>();
  }
}
KERNEL store_not_committed(uint32_t *out) {
  Map &map = prim::shared<Map>();
  if (LANE == 0) {
    for (int i = 0; i < 4; ++i) prim::st_shared(at(map.at[i]), 1u);
    prim::fence_proxy_async();
    prim::bulk_store(out, at(map.at), 16);
    if (!Wrong) prim::bulk_commit();
    prim::bulk_wait<0>();
  }
}

/* The words as a tensor of 32 rows of 64 bf16, in boxes of 8 rows. */
CUtensorMap rows_of(uint32_t *words) {
  CUtensorMap map;
  const uint64_t extent[2] = {64, 32}, stride[1] = {128};
  const uint32_t box[2] = {64, 8};
  if (prim::encode_tensor_map(&map, (bf16 *)words, extent, stride, box, prim::SWIZZLE_128B)) exit(2);
  return map;
}
template <bool Wrong, int Bug>
__global__ void tensor_kernel(const __grid_constant__ CUtensorMap rows) {
  enum { RANK, ALIGNMENT, BOUNDS, NO_MAP };
  Map &map = prepared(1);
  if (LANE == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), Wrong ? 0 : 1024); /* what is wrong makes no copy */
    CUtensorMap none = {};
    const uint32_t shift = Wrong && Bug == ALIGNMENT ? 128 : Wrong && Bug == BOUNDS ? 16384 : 0;
    if (Wrong && Bug == RANK) {
      prim::tma_load(at(map.tile), rows, {0, 0, 0}, at(map.barrier));
    } else {
      prim::tma_load(at(map.tile) + shift, Wrong && Bug == NO_MAP ? none : rows, {0, 8}, at(map.barrier));
    }
  }
  prim::mbarrier_wait(at(map.barrier), 0);
}
/* A tile is read with the swizzle that it was loaded with. */
KERNEL other_swizzle(const __grid_constant__ CUtensorMap rows) {
  Map &map = prepared(1);
  if (prim::thread_index() == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), sizeof map.tile);
    prim::tma_load(at(map.tile), rows, {0, 0}, at(map.barrier));
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
cudaError_t launch_other_swizzle(bool wrong, uint32_t *words) {
  return SPINDLE__LAUNCH(wrong ? other_swizzle<true> : other_swizzle<false>, dim3(1), 128, sizeof(Map), nullptr, rows_of(words));
}
template <int Bug>
cudaError_t launch_tensor(bool wrong, uint32_t *words) {
  const auto kernel = wrong ? tensor_kernel<true, Bug> : tensor_kernel<false, Bug>;
  return SPINDLE__LAUNCH(kernel, dim3(1), 32, sizeof(Map), nullptr, rows_of(words));
}

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

/* One warpgroup loads a tile and changes it in place, another multiplies by it: both proxies take turns at the same bytes. */
KERNEL changed_in_place(uint32_t *words) {
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
        prim::bulk_load(at(map.tile), words, sizeof map.tile, full);
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
#define TENSOR(bug, kind) \
  { "tensor copy, bug " #bug, EMULATOR_##kind, false, launch_tensor<bug> }
#define WGMMA(bug, kind) \
  { "wgmma " #bug, EMULATOR_##kind, false, launch_twins<wgmma_kernel<true, bug>, wgmma_kernel<false, bug>, Map, 1, 128> }
const Case CASES[] = {
    BLOCK(no_mbarrier, 32, BAD_MBARRIER),
    BLOCK(mbarrier_twice, 32, BAD_MBARRIER),
    BLOCK(mbarrier_of_none, 32, BAD_MBARRIER),
    BLOCK(mbarrier_alignment, 32, ALIGNMENT),
    BLOCK(mbarrier_unseen, 32, BAD_MBARRIER),
    BLOCK(mbarrier_overwritten, 32, BAD_MBARRIER),
    TWINS(plain_mbarrier_read, Map, 1, 32, BAD_MBARRIER, true),
    BLOCK(arrival_too_many, 32, BAD_MBARRIER),
    BLOCK(arrival_missing, 32, DEADLOCK),
    BLOCK(parity_wrong, 32, DEADLOCK),
    BLOCK(parity_of_two, 32, BAD_MBARRIER),
    BLOCK(written_after_arrival, 64, READ_AFTER_WRITE),
    BLOCK(no_election, 32, DEADLOCK),
    BLOCK(bytes_not_announced, 32, PENDING),
    BLOCK(bytes_too_many, 32, DEADLOCK),
    BLOCK(load_not_awaited, 32, UNFINISHED),
    BLOCK(load_read_early, 32, PENDING),
    BLOCK(load_read_early, 32, READ_AFTER_WRITE),
    BLOCK(load_of_8_bytes, 32, BAD_COPY),
    BLOCK(load_alignment, 32, ALIGNMENT),
    BLOCK(load_bounds, 32, GLOBAL_BOUNDS),
    BLOCK(load_init_unfenced, 32, PROXY),
    BLOCK(load_over_reads, 64, WRITE_AFTER_READ),
    BLOCK(load_over_unfenced, 32, PROXY),
    BLOCK(store_unfenced, 32, PROXY),
    BLOCK(store_overwritten, 32, IN_FLIGHT),
    BLOCK(store_not_committed, 32, UNFINISHED),
    TENSOR(0, BAD_COPY),
    TENSOR(1, ALIGNMENT),
    TENSOR(2, SHARED_BOUNDS),
    TENSOR(3, BAD_COPY),
    {"other swizzle", EMULATOR_BAD_WGMMA, false, launch_other_swizzle},
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
    BLOCK(changed_in_place, 256, PROXY),
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
    const unsigned kinds = run(fine, false, "test_checks_sm90.cu:");
    if (kinds == 1u << EMULATOR_BAD_LAUNCH) continue;
    printf("FAIL wgmma on sm_%s: kinds %x\n", arch, kinds);
    ++failures;
  }
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
}

/* A deadlock says what the barrier lacks. */
void test_deadlock_report() {
  emulator_options options = {};
  options.quiet = 1;
  emulator_configure(&options);
  const Case missing = BLOCK(bytes_too_many, 32, DEADLOCK);
  uint32_t *words = nullptr;
  cudaMalloc((void **)&words, 4096);
  (void)missing.launch(true, words);
  const emulator_finding *list;
  const size_t count = emulator_findings(&list);
  bool named = false;
  for (size_t i = 0; i < count; ++i) {
    named |= strstr(list[i].message, "for parity 0 (offset 2048, phase 0, 0 of 1 arrivals and 16 bytes missing)") != nullptr;
  }
  if (!named) printf("FAIL deadlock report\n");
  failures += !named;
  emulator_forget();
  cudaFree(words);
}

}  // namespace

int main() {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  for (const Case &c : CASES) test_case(c, "test_checks_sm90.cu:");
  test_deadlock_report();
  test_arch();
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
