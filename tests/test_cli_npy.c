/* Hostile .npy files given to spindle attend: a refusal that names the file, and no output. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/cli.h"

static const int64_t shape[] = {1, 2, 1, 4};
static float number(int64_t k) { return (float)k; }

/* A file of this version and dict, then `data` bytes. */
static void write_file(int major, const char *dict, size_t data) {
  char file[4096] = "\x93NUMPY";
  size_t length = strlen(dict), begin = major == 1 ? 10 : 12;
  file[6] = (char)major;
  file[8] = (char)length;
  file[9] = (char)(length >> 8);
  memcpy(file + begin, dict, length);
  test_cli_write("bad.npy", file, begin + length + data);
}

static void refused(const char *expected) {
  test_cli_refuses("attend --q bad.npy --k k.npy --v k.npy --out o.npy", "--q", "bad.npy", expected);
  cr_expect(!test_cli_exists("o.npy") && !test_cli_exists("o.npy.part"));
}

#define DICT(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"

Test(cli_npy, versions_1_and_2_are_read) {
  test_cli_npy("k.npy", 4, shape, number);
  for (int major = 1; major <= 2; major++) {
    write_file(major, DICT("'<f4'", "False", "(1, 2, 1, 4)"), 32);
    const test_cli *r = test_cli_run("attend --q bad.npy --k k.npy --v k.npy --out o.npy");
    cr_expect_eq(r->status, 0, "%s", r->err);
  }
}

Test(cli_npy, headers) {
  test_cli_npy("k.npy", 4, shape, number);
  test_cli_write("bad.npy", "", 0);
  refused("no .npy file");
  test_cli_write("bad.npy", "\x93NUMPX\1\0\0\0\0", 11);
  refused("no .npy file");
  write_file(3, DICT("'<f4'", "False", "(1, 2, 1, 4)"), 32);
  refused("version is 3.0");
  test_cli_write("bad.npy", "\x93NUMPY\1\0\xff\0{", 11);
  refused("truncated in its header");
  test_cli_write("bad.npy", "\x93NUMPY\2\0\xff\xff\xff\x7f{", 13);
  refused("header has 2147483647 bytes");
  write_file(1, "[1, 2]\n", 32);
  refused("not a dict");
  write_file(1, "{'descr': '<f4', 'fortran_order': False}\n", 32);
  refused("no 'shape'");
  write_file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,", 32);
  refused("shape");
  write_file(1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (8,)}\n", 32);
  refused("repeated key");
  write_file(1, DICT("'<f4'", "False", "(8,)") "import os", 32);
  refused("after the dict");
}

Test(cli_npy, types_and_shapes) {
  test_cli_npy("k.npy", 4, shape, number);
  write_file(1, DICT("'<f8'", "False", "(1, 2, 1, 4)"), 64);
  refused("'<f8', expected '<f4'");
  write_file(1, DICT("'>f4'", "False", "(1, 2, 1, 4)"), 32);
  refused("'>f4', expected '<f4'");
  write_file(1, DICT("[('a', '<f4')]", "False", "(1, 2, 1, 4)"), 32);
  refused("dtype");
  write_file(1, DICT("'<f4'", "True", "(1, 2, 1, 4)"), 32);
  refused("Fortran order");
  write_file(1, DICT("'<f4'", "False", "(1, 2, 1, 4, 1)"), 32);
  refused("more than 4 dimensions");
  write_file(1, DICT("'<f4'", "False", "(1, -2, 1, 4)"), 32);
  refused("integers");
  write_file(1, DICT("'<f4'", "False", "(1, 0, 1, 4)"), 0);
  refused("dimension 1 of 0");
  write_file(1, DICT("'<f4'", "False", "(8,)"), 32);
  refused("1 dimensions, expected 4");
}

/* What a header claims must not be believed: the product of a shape overflows, or names more than the file holds. */
Test(cli_npy, sizes_that_lie) {
  test_cli_npy("k.npy", 4, shape, number);
  write_file(1, DICT("'<f4'", "False", "(4294967296, 4294967296, 2, 4)"), 32);
  refused("more elements than memory");
  write_file(1, DICT("'<f4'", "False", "(99999999999999999999, 2, 1, 4)"), 32);
  refused("shape");
  write_file(1, DICT("'<f4'", "False", "(1, 1099511627776, 1, 4)"), 32);
  refused("32 bytes of data");
  write_file(1, DICT("'<f4'", "False", "(1, 2, 1, 4)"), 31);
  refused("31 bytes of data, expected 32");
  write_file(1, DICT("'<f4'", "False", "(1, 2, 1, 4)"), 33);
  refused("33 bytes of data, expected 32");
}
