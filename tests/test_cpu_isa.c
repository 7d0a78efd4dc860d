/* Every instruction set that this machine has computes the same attention. Each test is a process of its own, so each may choose.
 */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "host/cpu/kernels.h"
#include "support/attention_case.h"

static void check(const char *isa) {
  setenv("SPINDLE_CPU_ISA", isa, 1);
  if (strcmp(spindle__cpu_kernels_get()->name, isa)) cr_skip_test("this machine has no %s", isa);
  cr_assert(test_case_check_cpu(TEST_CASE_DTYPES | TEST_CASE_METHODS, 60));
}

Test(cpu_isa, portable) { check("portable"); }
Test(cpu_isa, avx2) { check("avx2"); }
Test(cpu_isa, avx512) { check("avx512"); }
