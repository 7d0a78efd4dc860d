/* The .npy reader and writer by themselves: what is written reads back, and every prefix of a file is refused. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/npy.h"

static char path[] = "/tmp/spindle-npy-XXXXXX";

static void make_path(void) {
  int file = mkstemp(path);
  cr_assert(file >= 0);
  close(file);
}

static void remove_path(void) { remove(path); }

TestSuite(npy, .init = make_path, .fini = remove_path);

static void publish(const npy_array *array) {
  npy_error error;
  cr_assert(npy_write(path, array, &error), "%s", error.text);
  cr_assert(npy_publish(path, &error), "%s", error.text);
}

Test(npy, what_is_written_reads_back) {
  float data[24];
  npy_error error;
  for (int k = 0; k < 24; k++) data[k] = 1.0f / (float)(k + 1);
  for (int32_t rank = 0; rank <= NPY_MAX_RANK; rank++) {
    npy_array written = {.rank = rank, .shape = {2, 3, 4, 1}, .count = 1, .data = data}, read;
    for (int32_t d = 0; d < rank; d++) written.count *= written.shape[d];
    for (int32_t d = rank; d < NPY_MAX_RANK; d++) written.shape[d] = 0;
    publish(&written);
    cr_assert(npy_read(path, &read, &error), "%s", error.text);
    cr_expect_eq(read.rank, rank);
    cr_expect_eq(read.count, written.count);
    cr_expect_arr_eq(read.shape, written.shape, sizeof read.shape);
    cr_expect_arr_eq(read.data, data, (size_t)read.count * sizeof *data);
    free(read.data);
    cr_assert(npy_read_shape(path, &read, &error));
    cr_expect_null(read.data);
  }
}

Test(npy, every_prefix_is_refused) {
  float data[6] = {0};
  char whole[256], cut[256];
  npy_array array = {.rank = 2, .shape = {2, 3}, .count = 6, .data = data};
  npy_error error;
  publish(&array);
  FILE *file = fopen(path, "rb");
  size_t bytes = fread(whole, 1, sizeof whole, file);
  fclose(file);
  cr_assert(bytes > 24 && (bytes - 24) % 64 == 0, "the data do not begin at a multiple of 64: %zu", bytes - 24);
  for (size_t length = 0; length < bytes; length++) {
    snprintf(cut, sizeof cut, "%s.cut", path);
    file = fopen(cut, "wb");
    fwrite(whole, 1, length, file);
    fclose(file);
    error.text[0] = 0;
    cr_expect(!npy_read(cut, &array, &error) && error.text[0] && !array.data, "%zu bytes", length);
  }
  remove(cut);
}

Test(npy, headers_as_python_may_write_them) {
  static const char *const good[] = {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
                                     "{\"shape\":(2,3,),\"fortran_order\":False,\"descr\":\"<f4\"}  \n",
                                     "{ 'shape' : ( 2 , 3 ) , 'descr' : '<f4' , 'fortran_order' : False , } "};
  for (size_t k = 0; k < sizeof good / sizeof *good; k++) {
    char file[256] = "\x93NUMPY\1";
    size_t length = strlen(good[k]), offset;
    npy_array array;
    npy_error error;
    file[8] = (char)length;
    memcpy(file + 10, good[k], length);
    cr_expect(npy_parse_header(file, 10 + length, &array, &offset, &error), "%s: %s", good[k], error.text);
    cr_expect(array.rank == 2 && array.shape[0] == 2 && array.shape[1] == 3 && array.count == 6 && offset == 10 + length);
  }
}

Test(npy, nothing_is_published_until_it_is_whole) {
  float data[1] = {1};
  npy_array array = {.rank = 1, .shape = {1}, .count = 1, .data = data};
  npy_error error;
  char part[64];
  snprintf(part, sizeof part, "%s.part", path);
  remove(path);
  cr_assert(npy_write(path, &array, &error));
  cr_expect(access(path, F_OK) != 0 && access(part, F_OK) == 0);
  npy_discard(path);
  cr_expect(access(path, F_OK) != 0 && access(part, F_OK) != 0);
  cr_expect(!npy_write("/nonexistent/x.npy", &array, &error) && strstr(error.text, "could not be written"));
}
