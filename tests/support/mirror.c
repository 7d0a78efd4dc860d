#include "mirror.h"

#include <criterion/criterion.h>

#include "attend.h"

test_mirror test_mirror_open(spindle_context *context) {
  spindle_context_info info = {.struct_size = sizeof info};
  test_ok(spindle_context_get_info(context, &info));
  return (test_mirror){.context = context, .on_host = info.backend != SPINDLE_BACKEND_CUDA};
}

static void *take(test_mirror *m, void *host, size_t bytes, bool fetched) {
  void *device;
  if (m->on_host || !host) return host;
  cr_assert_lt(m->count, TEST_MIRROR_MAX);
  test_ok(spindle_malloc(m->context, &device, bytes ? bytes : 1)); /* a pointer even to no elements */
  test_ok(spindle_copy(m->context, device, host, bytes, NULL));
  m->array[m->count].host = host;
  m->array[m->count].device = device;
  m->array[m->count].bytes = bytes;
  m->array[m->count++].fetched = fetched;
  return device;
}

void *test_mirror_in(test_mirror *m, const void *host, size_t bytes) { return take(m, (void *)host, bytes, false); }

void *test_mirror_out(test_mirror *m, void *host, size_t bytes) { return take(m, host, bytes, true); }

void test_mirror_fetch(test_mirror *m, spindle_stream stream) {
  test_ok(spindle_stream_sync(m->context, stream));
  for (int32_t a = 0; a < m->count; a++)
    if (m->array[a].fetched) test_ok(spindle_copy(m->context, m->array[a].host, m->array[a].device, m->array[a].bytes, NULL));
}

void test_mirror_close(test_mirror *m) {
  for (int32_t a = 0; a < m->count; a++) spindle_free(m->context, m->array[a].device);
  m->count = 0;
}
