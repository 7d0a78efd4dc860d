/* Small kernels that misuse one thing each, beside a twin that does not: the emulator reports the one, by kind and place, and not
 * the other. Findings about plain loads and stores need the check build. */
#include "checks_support.h"

namespace {

using namespace spindle;
using namespace checks_support;

struct Map {
  uint32_t at[256];
};

/* ---- Collectives and barriers ---------------------------------------------------------------------------------------- */

KERNEL different_places(uint32_t *out) {
  uint32_t votes;
  if (Wrong && LANE >= 16) {
    votes = prim::ballot(true);
  } else {
    votes = prim::ballot(true);
  }
  out[LANE] = votes;
}
KERNEL not_in_mask(uint32_t *out) {
  if (Wrong || LANE < 16) out[LANE] = prim::ballot(true, 0xffffu);
}
KERNEL overlapping_masks(uint32_t *out) {
  out[LANE] = prim::shfl_xor(1u, 1, !Wrong ? prim::ALL_LANES : LANE < 16 ? 0x1ffffu : 0xffff8000u);
}
KERNEL lane_missing(uint32_t *out) {
  if (Wrong && LANE == 3) return;
  prim::sync_warp();
  out[LANE] = 1;
}
KERNEL barrier_places(uint32_t *out) {
  if (Wrong && LANE % 2) {
    prim::sync_block();
  } else {
    prim::sync_block();
  }
  out[prim::thread_index()] = 1;
}
KERNEL half_a_barrier(uint32_t *out) {
  if (Wrong && prim::warp()) return;
  prim::sync_block();
  out[prim::thread_index()] = 1;
}
KERNEL barrier_count(uint32_t *) { prim::bar_sync(1, Wrong ? 33 : 64); }
KERNEL barrier_counts_differ(uint32_t *) { prim::bar_sync(1, Wrong && prim::warp() ? 32 : 64); }
KERNEL barrier_id(uint32_t *) { prim::bar_sync(Wrong ? 16 : 15, 64); }
/* A producer that does not wait for the consumer runs into its own barrier. */
KERNEL producer_ahead(uint32_t *out) {
  Map &map = prim::shared<Map>();
  const uint32_t slot = prim::shared_address(&map.at[LANE]);
  for (uint32_t round = 0; round < 3; ++round) {
    if (prim::warp() == 0) {
      if (!Wrong && round) prim::bar_sync(2, 64);
      prim::st_shared(slot, round);
      prim::bar_arrive(1, 64);
    } else {
      prim::bar_sync(1, 64);
      out[LANE] = prim::ld_shared<uint32_t>(slot ^ 4);
      if (!Wrong && round < 2) prim::bar_arrive(2, 64);
    }
  }
}

/* ---- Shared memory --------------------------------------------------------------------------------------------------- */

KERNEL shared_end(uint32_t *out) {
  const uint32_t word = prim::shared_address(&prim::shared<Map>().at[LANE]);
  prim::st_shared(word, 1u);
  out[LANE] = prim::ld_shared<uint32_t>(word + (Wrong ? 1024 : 0));
}
KERNEL map_too_large(uint32_t *) {
  struct Large {
    uint32_t at[257];
  };
  if (Wrong) prim::shared<Large>();
}
KERNEL address_of_other(uint32_t *out) { prim::shared_address(Wrong ? (void *)out : &prim::shared<Map>()); }
KERNEL shared_alignment(uint32_t *) {
  prim::st_shared(prim::shared_address(&prim::shared<Map>().at[4 * LANE % 256]) + (Wrong ? 8 : 0), make_uint4(1, 2, 3, 4));
}
KERNEL ldmatrix_alignment(uint32_t *out) {
  uint32_t r[4];
  const uint32_t words = prim::shared_address(&prim::shared<Map>());
  prim::st_shared(words + 16 * (uint32_t)LANE, make_uint4(0, 0, 0, 0));
  prim::sync_warp();
  prim::ldmatrix(r, words + 16 * (uint32_t)LANE + (Wrong ? 8 : 0));
  out[LANE] = r[0];
}
KERNEL read_after_write(uint32_t *out) {
  const uint32_t words = prim::shared_address(&prim::shared<Map>());
  prim::st_shared(words + 4 * (uint32_t)prim::thread_index(), 1u);
  if (!Wrong) prim::sync_block();
  out[prim::thread_index()] = prim::ld_shared<uint32_t>(words + 4 * (uint32_t)(prim::thread_index() ^ 32));
}
KERNEL write_after_read(uint32_t *out) {
  const uint32_t words = prim::shared_address(&prim::shared<Map>());
  prim::st_shared(words + 4 * (uint32_t)prim::thread_index(), 1u);
  prim::sync_block();
  out[prim::thread_index()] = prim::ld_shared<uint32_t>(words + 4 * (uint32_t)(prim::thread_index() ^ 32));
  if (!Wrong) prim::sync_block();
  prim::st_shared(words + 4 * (uint32_t)prim::thread_index(), 2u);
}
KERNEL write_after_write(uint32_t *) {
  const uint32_t word = prim::shared_address(&prim::shared<Map>().at[Wrong ? 0 : prim::thread_index()]);
  prim::st_shared(word, 1u);
}
KERNEL plain_read_after_write(uint32_t *out) {
  Map &map = prim::shared<Map>();
  map.at[LANE] = (uint32_t)LANE;
  if (!Wrong) prim::sync_warp();
  out[LANE] = map.at[LANE ^ 1];
}
KERNEL plain_unwritten(uint32_t *out) {
  Map &map = prim::shared<Map>();
  map.at[LANE] = 1;
  prim::sync_warp();
  out[LANE] = map.at[LANE + (Wrong ? 1 : 0)];
}
KERNEL plain_shared_end(uint32_t *) { prim::shared<Map>().at[LANE + (Wrong ? 256 : 0)] = 0; }
KERNEL shared_fault(uint32_t *) {
  volatile uint32_t *words = prim::shared<Map>().at;
  words[LANE + (Wrong ? 1 << 15 : 0)] = 0;
}

/* ---- Copies ---------------------------------------------------------------------------------------------------------- */

KERNEL overwrites_copy(uint32_t *in) {
  const uint32_t word = prim::shared_address(&prim::shared<Map>().at[LANE]);
  prim::cp_async<4>(word, in + LANE);
  prim::cp_async_commit();
  if (!Wrong) prim::cp_async_wait<0>();
  prim::st_shared(word, 1u);
  prim::cp_async_wait_all();
}
KERNEL leaves_copy(uint32_t *in) {
  prim::cp_async<4>(prim::shared_address(&prim::shared<Map>().at[LANE]), in + LANE);
  if (!Wrong) prim::cp_async_wait_all();
}
KERNEL copy_source_alignment(uint32_t *in) {
  prim::cp_async<16>(prim::shared_address(&prim::shared<Map>().at[4 * LANE % 256]), in + 4 * LANE + (Wrong ? 1 : 0));
  prim::cp_async_wait_all();
}
/* The copy is done for the thread that waits, not for its neighbour. */
KERNEL neighbours_copy(uint32_t *out) {
  Map &map = prim::shared<Map>();
  prim::cp_async<4>(prim::shared_address(&map.at[LANE]), out + LANE);
  prim::cp_async_wait_all();
  if (!Wrong) prim::sync_warp();
  out[64 + LANE] = prim::ld_shared<uint32_t>(prim::shared_address(&map.at[LANE ^ 1]));
}

/* ---- Global memory --------------------------------------------------------------------------------------------------- */

KERNEL global_end(uint32_t *out) { prim::st_global(out + LANE + (Wrong ? 1024 : 0), 1u); }
KERNEL plain_global_end(uint32_t *out) { out[LANE + (Wrong ? 1024 : 0)] = 1; }
KERNEL no_pointer(uint32_t *out) {
  const uintptr_t address = Wrong ? 16 : (uintptr_t)out;
  *(volatile uint32_t *)(address + 4 * (uintptr_t)LANE) = 1;
}
KERNEL blocks_collide(uint32_t *out) { prim::st_global(out + LANE + (Wrong ? 0 : 32 * prim::block_x()), 1u); }
/* The last block to arrive adds up what all have written, which their fences make visible. */
KERNEL no_device_fence(uint32_t *out) {
  const uint32_t shared = prim::shared_address(&prim::shared<Map>());
  prim::st_global(out + 32 * (1 + prim::block_x()) + LANE, 7u);
  if (!Wrong) prim::fence_device();
  prim::sync_block();
  if (LANE == 0) prim::st_shared(shared, prim::atomic_inc(out, (uint32_t)prim::grid_x() - 1));
  prim::sync_block();
  if (prim::ld_shared<uint32_t>(shared) + 1 < (uint32_t)prim::grid_x()) return;
  uint32_t sum = 0;
  for (int b = 0; b < prim::grid_x(); ++b) sum += prim::ld_global(out + 32 * (1 + b) + LANE);
  out[512 + LANE] = sum;
}

/* ---- Bank conflicts -------------------------------------------------------------------------------------------------- */

struct Rows {
  uint32_t at[32][32]; /* a row spans all banks */
};
/* Every lane stores a T; swizzled: 16-byte chunks move by row. */
template <class T>
__global__ void strided(uint32_t stride_bytes, uint32_t swizzled) {
  const uint32_t offset = (uint32_t)LANE * stride_bytes + (swizzled ? (uint32_t)LANE % 8 * 16 : 0);
  prim::st_shared(prim::shared_address(&prim::shared<Rows>()) + offset, T{});
}
constexpr int STORE_LINE = __LINE__ - 2;

/* ---- The cases ------------------------------------------------------------------------------------------------------- */

#define OUT(name, blocks, threads, kind, plain) TWINS(name, Map, blocks, threads, kind, plain)
const Case CASES[] = {
    OUT(different_places, 1, 32, DIVERGENCE, false),
    OUT(not_in_mask, 1, 32, DIVERGENCE, false),
    OUT(overlapping_masks, 1, 32, DIVERGENCE, false),
    OUT(lane_missing, 1, 32, DEADLOCK, false),
    OUT(barrier_places, 1, 64, DIVERGENCE, false),
    OUT(half_a_barrier, 1, 64, DEADLOCK, false),
    OUT(barrier_count, 1, 64, BAD_BARRIER, false),
    OUT(barrier_counts_differ, 1, 64, BAD_BARRIER, false),
    OUT(barrier_id, 1, 64, BAD_BARRIER, false),
    OUT(producer_ahead, 1, 64, DEADLOCK, false),
    OUT(shared_end, 1, 32, SHARED_BOUNDS, false),
    OUT(map_too_large, 1, 32, SHARED_BOUNDS, false),
    OUT(address_of_other, 1, 32, SHARED_BOUNDS, false),
    OUT(shared_alignment, 1, 32, ALIGNMENT, false),
    OUT(ldmatrix_alignment, 1, 32, ALIGNMENT, false),
    OUT(read_after_write, 1, 64, READ_AFTER_WRITE, false),
    OUT(write_after_read, 1, 64, WRITE_AFTER_READ, false),
    OUT(write_after_write, 1, 64, WRITE_AFTER_WRITE, false),
    OUT(plain_read_after_write, 1, 32, READ_AFTER_WRITE, true),
    OUT(plain_unwritten, 1, 32, UNINITIALISED, true),
    OUT(plain_shared_end, 1, 32, SHARED_BOUNDS, true),
    OUT(shared_fault, 1, 32, FAULT, false),
    OUT(overwrites_copy, 1, 32, PENDING, false),
    OUT(leaves_copy, 1, 32, UNFINISHED, false),
    OUT(copy_source_alignment, 1, 32, ALIGNMENT, false),
    OUT(neighbours_copy, 1, 32, READ_AFTER_WRITE, false),
    OUT(global_end, 1, 32, GLOBAL_BOUNDS, false),
    OUT(plain_global_end, 1, 32, GLOBAL_BOUNDS, true),
    OUT(no_pointer, 1, 32, FAULT, false),
    OUT(blocks_collide, 2, 32, GLOBAL_RACE, false),
    OUT(no_device_fence, 5, 32, GLOBAL_RACE, false),
};

template <class T>
void test_banks(uint32_t stride, uint32_t swizzled, uint64_t wavefronts, uint64_t ideal) {
  emulator_options options = {};
  options.count_accesses = options.no_shadow = 1;
  emulator_configure(&options);
  (void)SPINDLE__LAUNCH(strided<T>, dim3(2), 32, sizeof(Rows), nullptr, stride, swizzled);
  const emulator_counters c = emulator_counters_of("test_checks.cu", STORE_LINE);
  emulator_forget();
  if (c.instructions == 2 && c.bytes == 64 * sizeof(T) && c.wavefronts == 2 * wavefronts && c.ideal == 2 * ideal) return;
  printf("FAIL stride %u of %zu bytes: %llu wavefronts, %llu ideal\n", stride, sizeof(T), (unsigned long long)c.wavefronts,
         (unsigned long long)c.ideal);
  ++failures;
}

/* Memory of another device is out of bounds. */
void test_devices() {
  setenv("SPINDLE_EMULATED_DEVICES", "2", 1);
  emulator_options options = {};
  options.quiet = 1;
  emulator_configure(&options);
  uint32_t *words = nullptr;
  cudaSetDevice(1);
  cudaMalloc((void **)&words, 4096);
  for (int device = 0; device < 2; ++device) {
    cudaSetDevice(device);
    (void)SPINDLE__LAUNCH(global_end<false>, dim3(1), 32, sizeof(Map), nullptr, words);
    if (emulator_found(EMULATOR_GLOBAL_BOUNDS) == (device == 1)) {
      printf("FAIL device %d and memory of device 1\n", device);
      ++failures;
    }
    emulator_forget();
  }
  cudaFree(words);
}

/* Launches are numbered in 12 bits. Where the numbers come again, what the shadow of memory remembers is dropped, and no more. */
void test_many_launches() {
  emulator_options options = {};
  emulator_configure(&options);
  uint32_t *words = nullptr, kept[32], wrong = 0;
  cudaMalloc((void **)&words, sizeof kept);
  cudaMemset(words, 0x11, sizeof kept);
  for (int launch = 0; launch < 4100; ++launch)
    (void)SPINDLE__LAUNCH(barrier_id<false>, dim3(1), 64, sizeof(Map), nullptr, (uint32_t *)nullptr);
  cudaMemcpy(kept, words, sizeof kept, cudaMemcpyDeviceToHost);
  cudaFree(words);
  for (uint32_t word : kept) wrong += word != 0x11111111;
  if (wrong) printf("FAIL %u words of device memory change after 4096 launches\n", wrong);
  failures += wrong != 0;
}

/* A deadlock names every place where threads wait, and how many. */
void test_deadlock_report() {
  emulator_options options = {};
  options.quiet = 1;
  emulator_configure(&options);
  (void)SPINDLE__LAUNCH(half_a_barrier<true>, dim3(1), 64, sizeof(Map), nullptr, (uint32_t *)nullptr);
  const emulator_finding *list;
  const size_t count = emulator_findings(&list);
  bool named = false;
  for (size_t i = 0; i < count; ++i) {
    named |= list[i].kind == EMULATOR_DEADLOCK && strstr(list[i].message, "32 in sync_block at test_checks.cu:");
  }
  if (!named) printf("FAIL deadlock report\n");
  failures += !named;
  emulator_forget();
}

}  // namespace

int main() {
  for (const Case &c : CASES) test_case(c, "test_checks.cu:");
  test_deadlock_report();
  test_devices();
  test_many_launches();
  test_banks<uint32_t>(4, 0, 1, 1);    /* consecutive */
  test_banks<uint32_t>(8, 0, 2, 1);    /* every second bank */
  test_banks<uint32_t>(128, 0, 32, 1); /* a column */
  test_banks<uint32_t>(124, 0, 1, 1);  /* an odd number of words */
  test_banks<uint32_t>(0, 0, 1, 1);    /* one word for all */
  test_banks<uint2>(8, 0, 2, 2);
  test_banks<uint4>(16, 0, 4, 4);
  test_banks<uint4>(128, 0, 32, 4); /* a column of chunks: 8 rows in the same banks, four times */
  test_banks<uint4>(128, 1, 4, 4);  /* the same, swizzled */
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
