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
template <int Bug>
cudaError_t launch_tensor(bool wrong, uint32_t *words) {
  const auto kernel = wrong ? tensor_kernel<true, Bug> : tensor_kernel<false, Bug>;
  return SPINDLE__LAUNCH(kernel, dim3(1), 32, sizeof(Map), nullptr, rows_of(words));
}

/* ---- The cases ------------------------------------------------------------------------------------------------------- */

#define BLOCK(name, threads, kind) TWINS(name, Map, 1, threads, kind, false)
#define TENSOR(bug, kind) \
  { "tensor copy, bug " #bug, EMULATOR_##kind, false, launch_tensor<bug> }
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
};

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
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
