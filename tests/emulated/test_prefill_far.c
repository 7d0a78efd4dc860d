/* Tensors pass 2^31 elements: offsets of prefill and of pre-rotation are 64 bits wide everywhere. */
#include <criterion/criterion.h>
#include <spindle/spindle.h>

#include "support/far.h"

Test(prefill_far, offsets_beyond_2_31_elements) {
  test_far_check(&(test_far){.rows = 20, .schedule = SPINDLE_SCHEDULE_IN_LOOP});
  test_far_check(&(test_far){.rows = 20, .schedule = SPINDLE_SCHEDULE_PREROTATE});
}
