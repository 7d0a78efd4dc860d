/* Statuses, the thread's last error, the version, and the reading of descriptors. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

static _Thread_local char last_error[512];

spindle_status spindle__fail(spindle_status status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(last_error, sizeof last_error, format, args);
  va_end(args);
  return status;
}

const char *spindle_last_error(void) { return last_error; }

int32_t spindle_version(void) { return SPINDLE_VERSION; }

const char *spindle_status_name(spindle_status status) {
  switch (status) {
    case SPINDLE_OK: return "SPINDLE_OK";
    case SPINDLE_INVALID_ARGUMENT: return "SPINDLE_INVALID_ARGUMENT";
    case SPINDLE_MISALIGNED: return "SPINDLE_MISALIGNED";
    case SPINDLE_OVERLAP: return "SPINDLE_OVERLAP";
    case SPINDLE_WORKSPACE_TOO_SMALL: return "SPINDLE_WORKSPACE_TOO_SMALL";
    case SPINDLE_LIMIT_EXCEEDED: return "SPINDLE_LIMIT_EXCEEDED";
    case SPINDLE_UNSUPPORTED: return "SPINDLE_UNSUPPORTED";
    case SPINDLE_CUDA_ERROR: return "SPINDLE_CUDA_ERROR";
    case SPINDLE_NO_DEVICE: return "SPINDLE_NO_DEVICE";
    case SPINDLE_OUT_OF_MEMORY: return "SPINDLE_OUT_OF_MEMORY";
    case SPINDLE_INTERNAL: return "SPINDLE_INTERNAL";
    default: return "unknown status";
  }
}

/* Far beyond any descriptor to come: a size above it is an uninitialised struct. */
#define MAX_DESCRIPTOR_BYTES 4096

spindle_status spindle__read_descriptor(void *dst, size_t dst_size, const void *src, const char *name) {
  size_t size;
  if (!src) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is NULL", name);
  memcpy(&size, src, sizeof size);
  if (size < sizeof size || size > MAX_DESCRIPTOR_BYTES)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s.struct_size is %zu, expected sizeof the struct (%zu)", name, size,
                         dst_size);
  for (size_t i = dst_size; i < size; i++)
    if (((const unsigned char *)src)[i])
      return spindle__fail(SPINDLE_INVALID_ARGUMENT,
                           "%s.struct_size is %zu, this library knows %zu bytes, and byte %zu beyond is not 0", name, size,
                           dst_size, i);
  memset(dst, 0, dst_size);
  memcpy(dst, src, size < dst_size ? size : dst_size);
  memcpy(dst, &dst_size, sizeof dst_size);
  return SPINDLE_OK;
}

spindle_status spindle__check_integer(const char *name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return SPINDLE_OK;
  return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is %lld, must be in [%lld, %lld]", name, (long long)value, (long long)low,
                       (long long)high);
}

spindle_status spindle__check_array(const char *name, const void *array, size_t alignment, bool required) {
  if (!array && required) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is NULL", name);
  if ((uintptr_t)array % alignment)
    return spindle__fail(SPINDLE_MISALIGNED, "%s is at %p, must be a multiple of %zu bytes", name, array, alignment);
  return SPINDLE_OK;
}
