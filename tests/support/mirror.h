/* Host arrays as a backend wants them: the arrays themselves where it runs on the host, copies of exactly their size on a device.
 */
#ifndef SPINDLE_TESTS_SUPPORT_MIRROR_H
#define SPINDLE_TESTS_SUPPORT_MIRROR_H

#include <stdbool.h>

#include <spindle/spindle.h>

#define TEST_MIRROR_MAX 64

typedef struct test_mirror {
  spindle_context *context;
  bool on_host;
  int32_t count;
  struct {
    void *host, *device;
    size_t bytes;
    bool fetched; /* what the device writes is wanted */
  } array[TEST_MIRROR_MAX];
} test_mirror;

test_mirror test_mirror_open(spindle_context *context);
/* What to hand to the library for an array that it reads; NULL for NULL. */
void *test_mirror_in(test_mirror *m, const void *host, size_t bytes);
/* For one that it writes: the device starts with what `host` holds, and test_mirror_fetch brings it back. */
void *test_mirror_out(test_mirror *m, void *host, size_t bytes);
/* Waits for the stream. */
void test_mirror_fetch(test_mirror *m, spindle_stream stream);
void test_mirror_close(test_mirror *m);

#endif
