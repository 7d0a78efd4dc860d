/* A call that must be refused: with this status, and a message that holds each of these words (argument, value, limit). */
#ifndef SPINDLE_TESTS_SUPPORT_REFUSED_H
#define SPINDLE_TESTS_SUPPORT_REFUSED_H

#include <criterion/criterion.h>
#include <string.h>

#include <spindle/spindle.h>

static inline void test_refused_(const char *file, int line, spindle_status got, spindle_status want, const char *const *words) {
  cr_assert_eq(got, want, "%s:%d: %s instead of %s: \"%s\"", file, line, spindle_status_name(got), spindle_status_name(want),
               spindle_last_error());
  for (; *words; words++)
    cr_assert(strstr(spindle_last_error(), *words), "%s:%d: \"%s\" does not say \"%s\"", file, line, spindle_last_error(),
              *words);
}

#define REFUSED(call, want, ...) test_refused_(__FILE__, __LINE__, (call), (want), (const char *const[]){__VA_ARGS__, NULL})

#endif
