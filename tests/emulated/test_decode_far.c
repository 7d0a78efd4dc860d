/* Tensors pass 2^31 elements: offsets of append, of decode and of the merging of splits are 64 bits wide everywhere. */
#include <criterion/criterion.h>

#include "support/far.h"

Test(decode_far, offsets_beyond_2_31_elements) {
  test_far_check(&(test_far){.rows = 16});
  test_far_check(&(test_far){.rows = 16, .split_keys = 4});
}

Test(decode_far, append) { test_far_check(&(test_far){.rows = 16, .appended = true}); }
