/* Requests over tensors on a device with strides far beyond 2^31 elements: memory of which only the rows in use are touched. */
#ifndef SPINDLE_TESTS_SUPPORT_FAR_H
#define SPINDLE_TESTS_SUPPORT_FAR_H

#include <stdbool.h>
#include <stdint.h>

typedef struct test_far {
  int32_t rows;      /* 10 to 20 of one head each: up to 16 are decode's */
  int32_t page_size; /* 4 or 64: three pages of keys */
  int32_t schedule, split_keys;
  bool appended; /* K and V are written by spindle_append */
} test_far;

/* Fails the test where O or LSE have other bits than with packed tensors. */
void test_far_check(const test_far *far);

#endif
