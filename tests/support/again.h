/* Programs that run a second time, on an emulated device of another architecture, where the prefill kernel is another. */
#ifndef SPINDLE_TESTS_SUPPORT_AGAIN_H
#define SPINDLE_TESTS_SUPPORT_AGAIN_H

#include <stdbool.h>
#include <stdlib.h>

/* The second time random tests run fewer rounds: what does not depend on the kernel has been tested. */
static inline bool test_again(void) { return getenv("SPINDLE_EMULATED_ARCH") != NULL; }

#endif
