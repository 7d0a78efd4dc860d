/* test_checks.cu for mbarriers and bulk copies. */
#include "checks_sm90.cuh"

namespace {

using namespace checks_sm90;
using namespace checks_support;

/* ---- mbarriers ------------------------------------------------------------------------------------------------------- */

KERNEL no_mbarrier(uint32_t *) {
  Map &map = prepared(32);
  prim::mbarrier_arrive(Wrong ? at(map.other) : at(map.barrier));
}
KERNEL mbarrier_twice(uint32_t *) {
  Map &map = prepared(1);
  if (prim::thread_index() == 0) prim::mbarrier_init(Wrong ? at(map.barrier) : at(map.other), 1);
}
KERNEL mbarrier_of_none(uint32_t *) {
  if (LANE == 0) prim::mbarrier_init(at(prim::shared<Map>().barrier), Wrong ? 0 : 1);
}
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
KERNEL arrival_too_many(const __grid_constant__ CUtensorMap rows, uint32_t *) {
  Map &map = prepared(1);
  if (LANE == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), 1024);
    if (Wrong) prim::mbarrier_arrive(at(map.barrier));
    prim::tma_load(at(map.tile), rows, {0, 0, 0, 0}, at(map.barrier));
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

/* ---- Bulk copies ----------------------------------------------------------------------------------------------------- */

/* Announces some bytes and copies a tile. */
SPINDLE__DEVICE void load(Map &map, const CUtensorMap &rows, uint32_t announced) {
  if (prim::thread_index() == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), announced);
    prim::tma_load(at(map.tile), rows, {0, 0, 0, 0}, at(map.barrier));
  }
}
KERNEL bytes_not_announced(const __grid_constant__ CUtensorMap rows, uint32_t *words) {
  Map &map = prepared(1);
  if (LANE == 0) {
    if (Wrong) {
      prim::mbarrier_arrive(at(map.barrier));
    } else {
      prim::mbarrier_arrive_expect_tx(at(map.barrier), 1024);
    }
    prim::tma_load(at(map.tile), rows, {0, 0, 0, 0}, at(map.barrier));
  }
  prim::mbarrier_wait(at(map.barrier), 0);
  words[512 + LANE] = prim::ld_shared<uint32_t>(word(map, LANE));
}
KERNEL bytes_too_many(const __grid_constant__ CUtensorMap rows, uint32_t *) {
  Map &map = prepared(1);
  load(map, rows, Wrong ? 1040 : 1024);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_not_awaited(const __grid_constant__ CUtensorMap rows, uint32_t *) {
  Map &map = prepared(1);
  load(map, rows, 1024);
  if (!Wrong) prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_read_early(const __grid_constant__ CUtensorMap rows, uint32_t *words) {
  Map &map = prepared(1);
  load(map, rows, 1024);
  if (Wrong) words[512 + LANE] = prim::ld_shared<uint32_t>(word(map, LANE));
  prim::mbarrier_wait(at(map.barrier), 0);
  words[512 + LANE] = prim::ld_shared<uint32_t>(word(map, LANE));
}
KERNEL load_init_unfenced(const __grid_constant__ CUtensorMap rows, uint32_t *) {
  Map &map = prepared(1, !Wrong);
  load(map, rows, 1024);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_over_reads(const __grid_constant__ CUtensorMap rows, uint32_t *words) {
  Map &map = prepared(1);
  prim::st_shared(word(map, prim::thread_index()), 1u);
  prim::fence_proxy_async();
  prim::sync_block();
  words[512 + prim::thread_index()] = prim::ld_shared<uint32_t>(word(map, prim::thread_index()));
  if (!Wrong) prim::sync_block();
  load(map, rows, 1024);
  prim::mbarrier_wait(at(map.barrier), 0);
}
KERNEL load_over_unfenced(const __grid_constant__ CUtensorMap rows, uint32_t *) {
  Map &map = prepared(1);
  prim::st_shared(word(map, LANE), 1u);
  if (!Wrong) prim::fence_proxy_async();
  prim::sync_warp();
  load(map, rows, 1024);
  prim::mbarrier_wait(at(map.barrier), 0);
}

/* What no copy can be made of. */
enum LoadBug { OTHER_RANK, MISALIGNED, PAST_SHARED, NO_MAP, PAST_GLOBAL };
template <bool Wrong, int Bug>
__global__ void bad_load(const __grid_constant__ CUtensorMap rows) {
  Map &map = prepared(1);
  if (LANE == 0) {
    prim::mbarrier_arrive_expect_tx(at(map.barrier), Wrong ? 0 : 1024);
    CUtensorMap none = {};
    const uint32_t shift = Wrong && Bug == MISALIGNED ? 128 : Wrong && Bug == PAST_SHARED ? 16384 : 0;
    prim::tma_load(at(map.tile) + shift, Wrong && Bug == NO_MAP ? none : rows, {0, 8, 0, 0}, at(map.barrier));
  }
  prim::mbarrier_wait(at(map.barrier), 0);
}
template <int Bug>
cudaError_t launch_bad_load(bool wrong, uint32_t *words) {
  const CUtensorMap rows = wrong && Bug == OTHER_RANK    ? rows_of<3>(words)
                           : wrong && Bug == PAST_GLOBAL ? rows_of(words + 768)
                                                         : rows_of(words);
  return SPINDLE__LAUNCH((wrong ? bad_load<true, Bug> : bad_load<false, Bug>), dim3(1), 32, sizeof(Map), nullptr, rows);
}

/* ---- The cases ------------------------------------------------------------------------------------------------------- */

#define BLOCK(name, threads, kind) TWINS(name, Map, 1, threads, kind, false)
#define BAD_LOAD(bug, kind) \
  { "tma_load " #bug, EMULATOR_##kind, false, launch_bad_load<bug> }
const Case CASES[] = {
    BLOCK(no_mbarrier, 32, BAD_MBARRIER),
    BLOCK(mbarrier_twice, 32, BAD_MBARRIER),
    BLOCK(mbarrier_of_none, 32, BAD_MBARRIER),
    BLOCK(mbarrier_alignment, 32, ALIGNMENT),
    BLOCK(mbarrier_unseen, 32, BAD_MBARRIER),
    BLOCK(mbarrier_overwritten, 32, BAD_MBARRIER),
    TWINS(plain_mbarrier_read, Map, 1, 32, BAD_MBARRIER, true),
    LOADS(arrival_too_many, 32, BAD_MBARRIER),
    BLOCK(arrival_missing, 32, DEADLOCK),
    BLOCK(parity_wrong, 32, DEADLOCK),
    BLOCK(parity_of_two, 32, BAD_MBARRIER),
    BLOCK(written_after_arrival, 64, READ_AFTER_WRITE),
    LOADS(bytes_not_announced, 32, PENDING),
    LOADS(bytes_too_many, 32, DEADLOCK),
    LOADS(load_not_awaited, 32, UNFINISHED),
    LOADS(load_read_early, 32, PENDING),
    LOADS(load_read_early, 32, READ_AFTER_WRITE),
    LOADS(load_init_unfenced, 32, PROXY),
    LOADS(load_over_reads, 64, WRITE_AFTER_READ),
    LOADS(load_over_unfenced, 32, PROXY),
    BAD_LOAD(OTHER_RANK, BAD_COPY),
    BAD_LOAD(MISALIGNED, ALIGNMENT),
    BAD_LOAD(PAST_SHARED, SHARED_BOUNDS),
    BAD_LOAD(NO_MAP, BAD_COPY),
    BAD_LOAD(PAST_GLOBAL, GLOBAL_BOUNDS),
};

/* A deadlock says what the barrier lacks. */
void test_deadlock_report() {
  emulator_options options = {};
  options.quiet = 1;
  emulator_configure(&options);
  const Case missing = LOADS(bytes_too_many, 32, DEADLOCK);
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
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
