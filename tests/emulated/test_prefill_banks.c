/* Tiles are swizzled so that shared memory is read and written without bank conflicts, at every head dim. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdlib.h>

#include "support/attend.h"
#include "support/methods.h"

enum { DIMS = 4 };
static const int32_t dims[DIMS] = {64, 96, 128, 256};

/* Raw keys, in tiles that are full and in one that is not. */
static void attend(test_random *r, int32_t dim) {
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                      .schedule = SPINDLE_SCHEDULE_IN_LOOP,
                      .shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = dim}};
  test_request q = test_request_make(r, &setup.shape, test_rule(SPINDLE_ROPE_DEFAULT, dim), 64, 200, 1);
  emulator_forget();
  test_attend(&setup, &q, 1);
  test_request_free(&q);
}

/* What is always counted: ldmatrix; on Hopper wgmma and TMA too. */
static void check_matrices(const char *arch) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", arch, 1);
  for (int k = 0; k < DIMS; k++) {
    attend(&r, dims[k]);
    const emulator_counters all = emulator_counters_of(NULL, 0);
    cr_assert_gt(all.wavefronts, 0);
    cr_assert_eq(all.wavefronts, all.ideal, "head dim %d: %llu wavefronts, %llu without conflicts", dims[k],
                 (unsigned long long)all.wavefronts, (unsigned long long)all.ideal);
  }
}

Test(prefill_banks, matrices_have_no_conflicts) { check_matrices("80"); }
Test(prefill_banks, matrices_of_hopper_have_no_conflicts) { check_matrices("90"); }

/* The accesses of a file: at most so many times the wavefronts that they would take without conflicts. */
static void check_file(const char *arch, const char *file, const uint64_t most[DIMS]) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", arch, 1);
  emulator_configure(&(emulator_options){.count_accesses = 1});
  for (int k = 0; k < DIMS; k++) {
    uint64_t wavefronts = 0, ideal = 0;
    attend(&r, dims[k]);
    for (int line = 1; line < 500; line++) {
      const emulator_counters c = emulator_counters_of(file, line);
      wavefronts += c.wavefronts;
      ideal += c.ideal;
    }
    cr_assert_gt(ideal, 0, "%s: nothing was counted", file);
    cr_assert_leq(wavefronts, most[k] * ideal, "%s, head dim %d: %llu wavefronts, %llu without conflicts", file, dims[k],
                  (unsigned long long)wavefronts, (unsigned long long)ideal);
  }
}

/* A row of 96 channels is one and a half lines of banks, so lanes go on in the next row, or (Hopper) in a panel of 64 bytes that
 * lies on the same banks. */
Test(prefill_banks, copies) { check_file("80", "units.cuh", (uint64_t[]){1, 1, 1, 1}); }
Test(prefill_banks, copies_of_queries_to_hopper) { check_file("90", "queries.cuh", (uint64_t[]){1, 2, 1, 1}); }
Test(prefill_banks, copies_of_keys_to_hopper) { check_file("90", "units.cuh", (uint64_t[]){1, 2, 1, 1}); }

/* Hopper, 64 channels: half a warp has a row and the eighth after it, which lie on the same half of the banks. */
Test(prefill_banks, rotation) { check_file("80", "rotate.cuh", (uint64_t[]){1, 2, 1, 1}); }
Test(prefill_banks, rotation_on_hopper) { check_file("90", "rotate.cuh", (uint64_t[]){2, 3, 1, 1}); }
