#include "cli.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "numbers.h"

static char folder[64];

static void leave(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  if (system(command) != 0) perror(folder);
}

void test_cli_enter(void) {
  if (*folder) return;
  strcpy(folder, "/tmp/spindle-cli-XXXXXX");
  cr_assert(mkdtemp(folder) && chdir(folder) == 0, "no folder to run in");
  atexit(leave);
}

static void read_text(const char *path, char *text) {
  FILE *file = fopen(path, "r");
  cr_assert(file, "%s", path);
  text[fread(text, 1, TEST_CLI_BYTES - 1, file)] = 0;
  fclose(file);
  remove(path);
}

static const test_cli *run(const char *format, va_list arguments) {
  static test_cli result;
  static char words[TEST_CLI_BYTES], command[TEST_CLI_BYTES + 512];
  const char *tool = getenv("SPINDLE_TOOL");
  cr_assert(tool, "SPINDLE_TOOL does not say where the tool is");
  test_cli_enter();
  vsnprintf(words, sizeof words, format, arguments);
  snprintf(command, sizeof command, "'%s' %s >.stdout 2>.stderr", tool, words);
  int status = system(command);
  cr_assert(WIFEXITED(status), "'%s' crashed", words);
  result.status = WEXITSTATUS(status);
  read_text(".stdout", result.out);
  read_text(".stderr", result.err);
  return &result;
}

const test_cli *test_cli_run(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const test_cli *result = run(format, arguments);
  va_end(arguments);
  return result;
}

cJSON *test_cli_json(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const test_cli *result = run(format, arguments);
  va_end(arguments);
  cr_assert_eq(result->status, 0, "%s: status %d: %s", format, result->status, result->err);
  cJSON *json = cJSON_Parse(result->out);
  cr_assert(json, "%s: no JSON: %.200s", format, result->out);
  return json;
}

void test_cli_refuses(const char *arguments, const char *flag, const char *value, const char *expected) {
  const test_cli *result = test_cli_run("%s", arguments);
  const char *words[] = {flag, value, expected};
  size_t length = strlen(result->err);
  cr_expect_eq(result->status, 2, "%s: status %d", arguments, result->status);
  cr_expect_str_empty(result->out, "%s", arguments);
  cr_expect(length > 0 && strchr(result->err, '\n') == result->err + length - 1, "%s: not one line: %s", arguments, result->err);
  for (int k = 0; k < 3; k++)
    if (words[k]) cr_expect(strstr(result->err, words[k]), "%s: no '%s' in: %s", arguments, words[k], result->err);
}

void test_cli_write(const char *path, const void *data, size_t bytes) {
  test_cli_enter();
  FILE *file = fopen(path, "wb");
  cr_assert(file && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0, "%s", path);
}

bool test_cli_exists(const char *path) {
  struct stat found;
  return stat(path, &found) == 0;
}

/* ---- .npy ---- */

static int64_t make_header(char *header, size_t size, int rank, const int64_t *shape) {
  int64_t count = 1;
  int used = snprintf(header, size, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
  for (int d = 0; d < rank; d++) {
    used += snprintf(header + used, size - (size_t)used, "%lld, ", (long long)shape[d]);
    count *= shape[d];
  }
  used += snprintf(header + used, size - (size_t)used, ")}");
  while ((used + 11) % 64) header[used++] = ' ';
  header[used++] = '\n';
  header[used] = 0;
  return count;
}

void test_cli_npy(const char *path, int rank, const int64_t *shape, float (*from)(int64_t k)) {
  char header[512];
  int64_t count = make_header(header, sizeof header, rank, shape);
  size_t length = strlen(header), bytes = 10 + length + (size_t)count * sizeof(float);
  char *file = malloc(bytes);
  cr_assert(file);
  memcpy(file, "\x93NUMPY\1\0", 8);
  file[8] = (char)length;
  file[9] = (char)(length >> 8);
  memcpy(file + 10, header, length);
  for (int64_t k = 0; k < count; k++) {
    float x = from(k);
    memcpy(file + 10 + length + (size_t)k * sizeof x, &x, sizeof x);
  }
  test_cli_write(path, file, bytes);
  free(file);
}

void test_cli_read_npy(const char *path, int rank, const int64_t *shape, float *data) {
  char head[10], header[1024], wanted[128] = "'shape': (";
  int64_t count = 1;
  FILE *file = fopen(path, "rb");
  cr_assert(file, "%s", path);
  cr_assert(fread(head, 1, sizeof head, file) == sizeof head && !memcmp(head, "\x93NUMPY\1\0", 8));
  size_t length = (size_t)(unsigned char)head[8] | (size_t)(unsigned char)head[9] << 8;
  cr_assert(length < sizeof header && (length + 10) % 64 == 0 && fread(header, 1, length, file) == length);
  header[length] = 0;
  for (int d = 0; d < rank; d++) {
    size_t used = strlen(wanted);
    snprintf(wanted + used, sizeof wanted - used, "%s%lld", d ? ", " : "", (long long)shape[d]);
    count *= shape[d];
  }
  cr_assert(strstr(header, wanted), "%s: %s, not %s", path, header, wanted);
  cr_assert_eq(fread(data, sizeof *data, (size_t)count, file), (size_t)count);
  cr_assert_eq(fgetc(file), EOF);
  fclose(file);
}

/* ---- JSON ---- */

void test_cli_numbers(const cJSON *json, const char *key, const double *printed, int count, int digits) {
  const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, key);
  cr_assert_eq(cJSON_GetArraySize(list), count, "%s has %d entries", key, cJSON_GetArraySize(list));
  for (int k = 0; k < count; k++) {
    const cJSON *item = cJSON_GetArrayItem(list, k);
    if (isnan(printed[k]))
      cr_expect(cJSON_IsNull(item), "%s[%d] is not null", key, k);
    else
      cr_expect(cJSON_IsNumber(item) && test_as_printed(item->valuedouble, printed[k], digits), "%s[%d] is %.17g, not %g", key, k,
                item->valuedouble, printed[k]);
  }
}
