/* The cpu backend against the reference: random shapes, methods, storage and batches. */
#include <criterion/criterion.h>

#include "support/attention_case.h"

Test(cpu_random, plain) { cr_assert(test_case_check_cpu(0, 60)); }
Test(cpu_random, dtypes) { cr_assert(test_case_check_cpu(TEST_CASE_DTYPES, 60)); }
Test(cpu_random, storage) { cr_assert(test_case_check_cpu(TEST_CASE_STORAGE, 60)); }
Test(cpu_random, methods) { cr_assert(test_case_check_cpu(TEST_CASE_METHODS, 150)); }
Test(cpu_random, all) { cr_assert(test_case_check_cpu(TEST_CASE_DTYPES | TEST_CASE_STORAGE | TEST_CASE_METHODS, 150)); }
