/* Tiles are swizzled so that shared memory is read and written without bank conflicts, at every head dim, by prefill and by
 * decode. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdlib.h>

#include "support/attend.h"
#include "support/methods.h"

enum { DIMS = 5 };
static const int32_t dims[DIMS] = {64, 96, 128, 192, 256}; /* of Q and K; beside 192, V's is 128 */

/* Raw keys, in tiles that are full and in one that is not. */
typedef struct problem {
  int32_t rows, keys;
} problem;
static const problem prefill = {64, 200}, decode = {3, 700};

static void attend(test_random *r, const problem *p, int32_t dim) {
  test_setup setup = {
      .backend = SPINDLE_BACKEND_CUDA,
      .schedule = SPINDLE_SCHEDULE_IN_LOOP,
      .shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = dim, .head_dim_v = dim == 192 ? 128 : dim}};
  test_request q = test_request_make(r, &setup.shape, test_rule(SPINDLE_ROPE_DEFAULT, dim), p->rows, p->keys, 1);
  emulator_forget();
  test_attend(&setup, &q, 1);
  test_request_free(&q);
}

/* What is always counted: ldmatrix; on Hopper wgmma and TMA too. */
static void check_matrices(const char *arch, const problem *p) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", arch, 1);
  for (int k = 0; k < DIMS; k++) {
    attend(&r, p, dims[k]);
    const emulator_counters all = emulator_counters_of(NULL, 0);
    cr_assert_gt(all.wavefronts, 0);
    cr_assert_eq(all.wavefronts, all.ideal, "head dim %d: %llu wavefronts, %llu without conflicts", dims[k],
                 (unsigned long long)all.wavefronts, (unsigned long long)all.ideal);
  }
}

Test(banks, matrices_of_prefill) { check_matrices("80", &prefill); }
Test(banks, matrices_of_prefill_on_hopper) { check_matrices("90", &prefill); }
Test(banks, matrices_of_decode) { check_matrices("80", &decode); }
Test(banks, matrices_of_decode_on_hopper) { check_matrices("90", &decode); }

/* The accesses of a file: at most so many times the wavefronts that they would take without conflicts. */
static void check_file(const char *arch, const problem *p, const char *file, const uint64_t most[DIMS]) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", arch, 1);
  emulator_configure(&(emulator_options){.count_accesses = 1});
  for (int k = 0; k < DIMS; k++) {
    uint64_t wavefronts = 0, ideal = 0;
    attend(&r, p, dims[k]);
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

/* A row of 96 channels is one and a half lines of banks, so lanes go on in the next row, or (Hopper, decode) in a panel of 64
 * bytes that lies on the same banks. */
Test(banks, copies) { check_file("80", &prefill, "units.cuh", (uint64_t[]){1, 1, 1, 1, 1}); }
Test(banks, copies_of_queries_to_hopper) { check_file("90", &prefill, "queries.cuh", (uint64_t[]){1, 2, 1, 1, 1}); }
Test(banks, copies_of_keys_to_hopper) { check_file("90", &prefill, "units.cuh", (uint64_t[]){1, 2, 1, 1, 1}); }
Test(banks, copies_of_decode) { check_file("80", &decode, "units.cuh", (uint64_t[]){1, 2, 1, 1, 1}); }

/* Hopper and decode, 64 channels: half a warp has a row and the eighth after it, which lie on the same half of the banks;
 * 192 channels, which are 24 lanes: every third half does, there and before Hopper. */
Test(banks, rotation) { check_file("80", &prefill, "rotate.cuh", (uint64_t[]){1, 2, 1, 2, 1}); }
Test(banks, rotation_on_hopper) { check_file("90", &prefill, "rotate.cuh", (uint64_t[]){2, 3, 1, 2, 1}); }
Test(banks, rotation_of_decode) { check_file("80", &decode, "rotate.cuh", (uint64_t[]){2, 3, 1, 2, 1}); }
