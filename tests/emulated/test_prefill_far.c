/* Tensors pass 2^31 elements: offsets of prefill and of pre-rotation are 64 bits wide everywhere, strides of TMA's boxes too. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <spindle/spindle.h>
#include <stdlib.h>

#include "support/far.h"

Test(prefill_far, offsets_beyond_2_31_elements) {
  test_far_check(&(test_far){.rows = 20, .page_size = 4, .schedule = SPINDLE_SCHEDULE_IN_LOOP});
  test_far_check(&(test_far){.rows = 20, .page_size = 4, .schedule = SPINDLE_SCHEDULE_PREROTATE});
}

Test(prefill_far, boxes_beyond_2_31_elements) {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  test_far_check(&(test_far){.rows = 20, .page_size = 64, .schedule = SPINDLE_SCHEDULE_IN_LOOP});
  cr_assert_gt(emulator_work_done().bulk_bytes, 0, "nothing came by TMA");
}
