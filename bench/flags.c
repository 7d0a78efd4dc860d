#include "flags.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

/* ---- Flags ---- */

static const tool_flag *find_flag(const char *argument, size_t length, const tool_flag *flags, int count) {
  for (int f = 0; f < count; f++)
    if (strlen(flags[f].name) == length && !strncmp(flags[f].name, argument, length)) return &flags[f];
  return NULL;
}

static bool fail_unknown(const char *argument, const tool_flag *flags, int count) {
  char names[512] = "";
  for (int f = 0; f < count; f++) {
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", f ? " " : "", flags[f].name);
  }
  tool_fail("%s: unknown argument, expected one of: %s", argument, names);
  return false;
}

bool tool_read_flags(int argc, char **argv, const tool_flag *flags, int count) {
  for (int a = 0; a < argc; a++) {
    size_t length = strcspn(argv[a], "=");
    const tool_flag *flag = find_flag(argv[a], length, flags, count);
    const char *value = argv[a][length] ? argv[a] + length + 1 : NULL;
    if (!flag) return fail_unknown(argv[a], flags, count);
    if (flag->on ? *flag->on : *flag->text != NULL) return tool_fail("%s: given twice, expected once", flag->name), false;
    if (flag->on) {
      if (value) return tool_fail("%s: got '%s', expected no value", flag->name, value), false;
      *flag->on = true;
      continue;
    }
    if (!value && a + 1 < argc && strncmp(argv[a + 1], "--", 2) != 0) value = argv[++a];
    if (!value || !*value) return tool_fail("%s: got nothing, expected a value", flag->name), false;
    *flag->text = value;
  }
  return true;
}

/* ---- Numbers ---- */

/* strtod alone would also take spaces, "inf", "nan" and hexadecimal. */
static bool is_decimal(const char *text) { return *text && strspn(text, "+-.0123456789eE") == strlen(text); }

bool tool_read_number(const char *where, const char *text, double low, double high, double *value) {
  char *end;
  double read = is_decimal(text) ? strtod(text, &end) : NAN;
  if (isfinite(read) && end != text && !*end && read >= low && read <= high) {
    *value = read;
    return true;
  }
  if (low == -HUGE_VAL || high == HUGE_VAL)
    tool_fail("%s: got '%s', expected a finite number%s", where, text, low >= 0 ? " that is not negative" : "");
  else
    tool_fail("%s: got '%s', expected a number in [%g, %g]", where, text, low, high);
  return false;
}

static bool read_scaled(const char *where, const char *text, const char *suffixes, int64_t low, int64_t high, int64_t *value) {
  char *end = NULL;
  errno = 0;
  long long read = strspn(text, "+-0123456789") ? strtoll(text, &end, 10) : 0;
  bool good = end && end != text && !errno;
  if (good && *end && strchr(suffixes, *end)) {
    long long scale = *end == 'k' ? 1024 : 1024 * 1024;
    good = llabs(read) <= high / scale;
    if (good) read *= scale;
    end++;
  }
  if (good && !*end && read >= low && read <= high) {
    *value = read;
    return true;
  }
  tool_fail("%s: got '%s', expected an integer in [%lld, %lld]%s", where, text, (long long)low, (long long)high,
            *suffixes ? ", as 4096 or 4k or 1M" : "");
  return false;
}

bool tool_read_integer(const char *where, const char *text, int64_t low, int64_t high, int64_t *value) {
  return read_scaled(where, text, "", low, high, value);
}

bool tool_read_length(const char *where, const char *text, int64_t low, int64_t high, int64_t *value) {
  return read_scaled(where, text, "kM", low, high, value);
}

bool tool_read_bool(const char *where, const char *text, bool *value) {
  *value = !strcmp(text, "1") || !strcmp(text, "true");
  if (*value || !strcmp(text, "0") || !strcmp(text, "false")) return true;
  tool_fail("%s: got '%s', expected 0, 1, true or false", where, text);
  return false;
}

bool tool_read_choice(const char *where, const char *text, const char *const *choices, int *choice) {
  char names[256] = "";
  for (*choice = 0; choices[*choice]; ++*choice) {
    if (!strcmp(text, choices[*choice])) return true;
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", choices[*choice]);
  }
  tool_fail("%s: got '%s', expected one of: %s", where, text, names);
  return false;
}

bool tool_read_list(const char *where, const char *text, double low, double high, tool_list *list) {
  int32_t count = 1;
  for (const char *c = text; *c; c++) count += *c == ';';
  char *copy = strdup(text), *next = copy;
  list->values = malloc((size_t)count * sizeof *list->values);
  list->count = 0;
  if (!copy || !list->values) tool_fail("%s: no memory for %d values", where, count);
  bool good = copy && list->values;
  for (int32_t k = 0; good && k < count; k++) {
    char *entry = next;
    next += strcspn(next, ";");
    if (*next) *next++ = 0;
    good = tool_read_number(where, entry, low, high, &list->values[k]);
  }
  free(copy);
  if (!good) {
    free(list->values);
    list->values = NULL;
    return false;
  }
  list->count = count;
  return true;
}
