/* Runs the spindle tool (environment variable SPINDLE_TOOL) as a user does, in a folder of the test's own. */
#ifndef SPINDLE_TESTS_SUPPORT_CLI_H
#define SPINDLE_TESTS_SUPPORT_CLI_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEST_CLI_BYTES = 1 << 16 };

typedef struct test_cli {
  int status;
  char out[TEST_CLI_BYTES], err[TEST_CLI_BYTES]; /* what it printed, cut there */
} test_cli;

/* Makes an empty folder and goes there. A test that has not done so does when it first runs the tool. */
void test_cli_enter(void);
/* The arguments are words for the shell. The answer is overwritten by the next run. */
const test_cli *test_cli_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Runs it and wants status 0 and JSON on standard output; the caller deletes it. */
cJSON *test_cli_json(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Runs it and wants a refusal: status 2, nothing on standard output, one line on stderr that holds each of the words (may be
 * NULL). */
void test_cli_refuses(const char *arguments, const char *flag, const char *value, const char *expected);

void test_cli_write(const char *path, const void *data, size_t bytes);
bool test_cli_exists(const char *path);

/* A .npy file of these dimensions; element k is from(k). */
void test_cli_npy(const char *path, int rank, const int64_t *shape, float (*from)(int64_t k));
/* Reads the elements of a .npy file that the tool wrote, and wants this shape. */
void test_cli_read_npy(const char *path, int rank, const int64_t *shape, float *data);

/* Wants numbers at json[key], each as printed with so many significant digits; NAN stands for null. */
void test_cli_numbers(const cJSON *json, const char *key, const double *printed, int count, int digits);

#endif
