/* The thread's last error. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

static _Thread_local char last_error[SPINDLE__CONFIG_ERROR_BYTES];

const char *spindle_config_last_error(void) { return last_error; }

void spindle__config_set_error(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(last_error, sizeof last_error, format, args);
  va_end(args);
}
