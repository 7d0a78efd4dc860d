/* Tensors pass 2^31 elements: offsets of append, of decode and of the merging of splits are 64 bits wide everywhere, strides of
 * TMA's boxes too. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdlib.h>

#include "support/far.h"

Test(decode_far, offsets_beyond_2_31_elements) {
  test_far_check(&(test_far){.rows = 16, .page_size = 4});
  test_far_check(&(test_far){.rows = 16, .page_size = 4, .split_keys = 4});
}

Test(decode_far, boxes_beyond_2_31_elements) {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  test_far_check(&(test_far){.rows = 16, .page_size = 64});
  cr_assert_gt(emulator_work_done().bulk_bytes, 0, "nothing came by TMA");
}

Test(decode_far, append) { test_far_check(&(test_far){.rows = 16, .page_size = 4, .appended = true}); }
