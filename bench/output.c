#include "output.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

int tool_fail(const char *format, ...) {
  char line[1024];
  va_list args;
  va_start(args, format);
  int wanted = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (wanted >= (int)sizeof line) memcpy(line + sizeof line - 4, "...", 4);
  for (char *c = line; *c; c++)
    if (iscntrl((unsigned char)*c)) *c = ' '; /* a value with line breaks must not make a second line */
  tool_progress_end();
  fprintf(stderr, "spindle: %s\n", line);
  return TOOL_BAD_INPUT;
}

/* ---- Progress ---- */

static bool progress_shown;

void tool_progress(const char *what, int64_t done, int64_t total) {
  if (!isatty(STDERR_FILENO)) return;
  fprintf(stderr, "\r\033[K%lld of %lld: %s", (long long)done, (long long)total, what);
  fflush(stderr);
  progress_shown = true;
}

void tool_progress_end(void) {
  if (progress_shown) fprintf(stderr, "\r\033[K");
  progress_shown = false;
}

/* ---- JSON ---- */

static void write_string(FILE *file, const char *text) {
  fputc('"', file);
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      fprintf(file, "\\%c", *c);
    else if (*c < 0x20)
      fprintf(file, "\\u%04x", *c);
    else
      fputc(*c, file);
  }
  fputc('"', file);
}

static void begin_value(tool_json *json, const char *key) {
  if (json->separate) fputs(", ", json->file);
  json->separate = true;
  if (!key) return;
  write_string(json->file, key);
  fputs(": ", json->file);
}

void tool_json_open(tool_json *json, const char *key, char bracket) {
  begin_value(json, key);
  fputc(bracket, json->file);
  json->separate = false;
}

void tool_json_close(tool_json *json, char bracket) {
  fputc(bracket, json->file);
  json->separate = true;
}

void tool_json_string(tool_json *json, const char *key, const char *value) {
  begin_value(json, key);
  write_string(json->file, value);
}

void tool_json_integer(tool_json *json, const char *key, int64_t value) {
  begin_value(json, key);
  fprintf(json->file, "%lld", (long long)value);
}

void tool_json_bool(tool_json *json, const char *key, bool value) {
  begin_value(json, key);
  fputs(value ? "true" : "false", json->file);
}

void tool_json_number(tool_json *json, const char *key, double value) {
  begin_value(json, key);
  if (isfinite(value))
    fprintf(json->file, "%.17g", value);
  else
    fputs("null", json->file);
}

void tool_json_numbers(tool_json *json, const char *key, const double *values, int64_t count) {
  tool_json_open(json, key, '[');
  for (int64_t k = 0; k < count; k++) tool_json_number(json, NULL, values[k]);
  tool_json_close(json, ']');
}

void tool_json_end(tool_json *json) {
  fputc('\n', json->file);
  json->separate = false;
}
