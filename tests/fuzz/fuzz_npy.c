/* libFuzzer target for the .npy header parser: what it accepts must be a shape whose bytes can be counted. */
#include <stdlib.h>
#include <string.h>

#include "bench/npy.h"

static void check(int holds) {
  if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  npy_array array;
  npy_error error = {""};
  size_t offset = 0;
  if (!npy_parse_header(data, size, &array, &offset, &error)) {
    check(error.text[0] != 0 && memchr(error.text, 0, sizeof error.text) != NULL);
    for (const char *c = error.text; *c; c++) check(*c >= ' ' && *c <= '~');
    return 0;
  }
  int64_t count = 1;
  check(offset <= size && array.rank >= 0 && array.rank <= NPY_MAX_RANK && !array.data);
  for (int32_t d = 0; d < array.rank; d++) {
    check(array.shape[d] >= 0);
    check(!__builtin_mul_overflow(count, array.shape[d], &count));
  }
  check(count == array.count && count <= INT64_MAX / (int64_t)sizeof(float));
  return 0;
}
