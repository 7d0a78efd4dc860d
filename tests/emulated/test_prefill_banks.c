/* Tiles are swizzled so that matrices are read from shared memory without bank conflicts, at every head dim. */
#include <criterion/criterion.h>
#include <emulator.h>

#include "support/attend.h"
#include "support/methods.h"

Test(prefill_banks, have_no_conflicts) {
  test_random r = test_random_start();
  static const int32_t dims[] = {64, 96, 128, 256};
  for (int k = 0; k < 4; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                        .shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = dims[k]}};
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_DEFAULT, dims[k]), 64, 128, 1);
    emulator_forget();
    test_attend(&setup, &q, 1);
    const emulator_counters reads = emulator_counters_of(NULL, 0); /* of ldmatrix */
    cr_assert_gt(reads.wavefronts, 0);
    cr_assert_eq(reads.wavefronts, reads.ideal, "head dim %d: %llu wavefronts, %llu without conflicts", dims[k],
                 (unsigned long long)reads.wavefronts, (unsigned long long)reads.ideal);
    test_request_free(&q);
  }
}
