/* Numbers of narrow types, one at a time: rounded to nearest even, as far as a type reaches. */
#ifndef SPINDLE_TESTS_SUPPORT_DTYPES_H
#define SPINDLE_TESTS_SUPPORT_DTYPES_H

#include <stddef.h>
#include <stdint.h>

#include <spindle/spindle.h>

size_t test_dtype_bytes(int32_t dtype);
/* Beyond the largest number: infinity, and for F8E4M3, which has none, +-448. */
void test_store(int32_t dtype, void *at, float value);
float test_load(int32_t dtype, const void *at);
/* What is left of a value once it is stored. */
float test_round(int32_t dtype, float value);
/* Half the spacing of numbers near 1. */
double test_unit_roundoff(int32_t dtype);

#endif
