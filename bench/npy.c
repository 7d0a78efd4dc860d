#include "npy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

static bool fail(npy_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(npy_error *error, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(error->text, sizeof error->text, format, args);
  va_end(args);
  return false;
}

/* ---- Header: a Python dict literal ---- */

typedef struct cursor {
  const char *at, *end;
} cursor;

static void skip_spaces(cursor *c) {
  while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) c->at++;
}

static bool take(cursor *c, char wanted) {
  skip_spaces(c);
  if (c->at == c->end || *c->at != wanted) return false;
  c->at++;
  return true;
}

static bool take_word(cursor *c, const char *word) {
  size_t length = strlen(word);
  skip_spaces(c);
  if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0) return false;
  c->at += length;
  return true;
}

/* A quoted string without escapes. */
static bool take_string(cursor *c, char *text, size_t size) {
  skip_spaces(c);
  if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) return false;
  char quote = *c->at++;
  const char *begin = c->at;
  while (c->at < c->end && *c->at != quote) c->at++;
  size_t length = (size_t)(c->at - begin);
  if (c->at == c->end || length >= size) return false;
  memcpy(text, begin, length);
  text[length] = 0;
  c->at++;
  return true;
}

static bool take_dimension(cursor *c, int64_t *dimension) {
  skip_spaces(c);
  if (c->at == c->end || *c->at < '0' || *c->at > '9') return false;
  for (*dimension = 0; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
    if (*dimension > (INT64_MAX - 9) / 10) return false;
    *dimension = *dimension * 10 + (*c->at - '0');
  }
  return true;
}

static bool take_shape(cursor *c, npy_array *array, npy_error *error) {
  if (!take(c, '(')) return fail(error, "its header's shape is not a tuple");
  array->count = 1;
  for (array->rank = 0; !take(c, ')');) {
    int64_t dimension;
    if (array->rank == NPY_MAX_RANK) return fail(error, "it has more than %d dimensions", NPY_MAX_RANK);
    if (!take_dimension(c, &dimension)) return fail(error, "its header's shape is not a tuple of integers");
    if (dimension > 0 && array->count > INT64_MAX / (int64_t)sizeof(float) / dimension)
      return fail(error, "its shape has more elements than memory can hold");
    array->count *= dimension;
    array->shape[array->rank++] = dimension;
    if (take(c, ',')) continue;
    if (!take(c, ')')) return fail(error, "its header's shape does not end");
    break;
  }
  return true;
}

static bool take_entry(cursor *c, const char *key, npy_array *array, npy_error *error) {
  char descr[32];
  if (!strcmp(key, "shape")) return take_shape(c, array, error);
  if (!strcmp(key, "fortran_order")) {
    if (take_word(c, "False")) return true;
    return fail(error, take_word(c, "True") ? "it is in Fortran order, expected C order" : "its fortran_order is not a bool");
  }
  if (!take_string(c, descr, sizeof descr)) return fail(error, "its dtype is not a plain one, expected '<f4' (float32)");
  for (char *at = descr; *at; at++)
    if (*at < ' ' || *at > '~') *at = '?';
  return !strcmp(descr, "<f4") || fail(error, "its dtype is '%s', expected '<f4' (float32)", descr);
}

static bool parse_dict(cursor *c, npy_array *array, npy_error *error) {
  static const char *const keys[] = {"descr", "fortran_order", "shape"};
  bool found[3] = {false, false, false};
  if (!take(c, '{')) return fail(error, "its header is not a dict");
  while (!take(c, '}')) {
    char key[32];
    int k = 0;
    if (!take_string(c, key, sizeof key) || !take(c, ':')) return fail(error, "its header is not a dict of names");
    while (k < 3 && strcmp(key, keys[k]) != 0) k++;
    if (k == 3 || found[k]) return fail(error, "its header has an unknown or repeated key");
    found[k] = true;
    if (!take_entry(c, key, array, error)) return false;
    if (take(c, ',')) continue;
    if (!take(c, '}')) return fail(error, "its header does not end");
    break;
  }
  for (int k = 0; k < 3; k++)
    if (!found[k]) return fail(error, "its header has no '%s'", keys[k]);
  skip_spaces(c);
  return c->at == c->end || fail(error, "its header has something after the dict");
}

bool npy_parse_header(const void *file, size_t bytes, npy_array *array, size_t *data_offset, npy_error *error) {
  const unsigned char *b = file;
  memset(array, 0, sizeof *array);
  if (bytes < 10 || memcmp(b, magic, sizeof magic) != 0) return fail(error, "it is no .npy file");
  if (b[6] < 1 || b[6] > 2 || b[7] != 0) return fail(error, "its format version is %d.%d, expected 1.0 or 2.0", b[6], b[7]);
  size_t begin = b[6] == 1 ? 10 : 12, length = (size_t)b[8] | (size_t)b[9] << 8;
  if (bytes < begin) return fail(error, "it is truncated in its header");
  if (b[6] == 2) length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
  if (length > NPY_MAX_HEADER - 12)
    return fail(error, "its header has %zu bytes, expected at most %d", length, NPY_MAX_HEADER - 12);
  if (bytes - begin < length) return fail(error, "it is truncated in its header");
  cursor c = {(const char *)b + begin, (const char *)b + begin + length};
  *data_offset = begin + length;
  return parse_dict(&c, array, error);
}

/* ---- Reading ---- */

static bool check_size(FILE *file, long offset, const npy_array *array, npy_error *error) {
  long long wanted = array->count * (long long)sizeof(float);
  if (fseek(file, 0, SEEK_END) != 0) return fail(error, "it is no regular file");
  long size = ftell(file);
  if (size >= offset && size - offset == wanted) return true;
  return fail(error, "it has %ld bytes of data, expected %lld for its shape", size - offset, wanted);
}

static bool read_data(FILE *file, long offset, npy_array *array, npy_error *error) {
  array->data = malloc(array->count ? (size_t)array->count * sizeof(float) : 1);
  if (!array->data) return fail(error, "no memory for its %lld elements", (long long)array->count);
  if (!fseek(file, offset, SEEK_SET) && fread(array->data, sizeof(float), (size_t)array->count, file) == (size_t)array->count)
    return true;
  free(array->data);
  array->data = NULL;
  return fail(error, "it could not be read");
}

static bool read_file(const char *path, bool with_data, npy_array *array, npy_error *error) {
  size_t offset;
  memset(array, 0, sizeof *array);
  FILE *file = fopen(path, "rb");
  if (!file) return fail(error, "it could not be opened: %s", strerror(errno));
  char *header = malloc(NPY_MAX_HEADER);
  bool good = header || fail(error, "no memory for its header");
  if (good) good = npy_parse_header(header, fread(header, 1, NPY_MAX_HEADER, file), array, &offset, error);
  if (good) good = check_size(file, (long)offset, array, error);
  if (good && with_data) good = read_data(file, (long)offset, array, error);
  free(header);
  fclose(file);
  return good;
}

bool npy_read(const char *path, npy_array *array, npy_error *error) { return read_file(path, true, array, error); }

bool npy_read_shape(const char *path, npy_array *array, npy_error *error) { return read_file(path, false, array, error); }

/* ---- Writing ---- */

static char *part_path(const char *path) {
  size_t size = strlen(path) + sizeof ".part";
  char *part = malloc(size);
  if (part) snprintf(part, size, "%s.part", path);
  return part;
}

/* The header is padded so that the data begin at a multiple of 64 bytes, as numpy does. */
static bool write_header(FILE *file, const npy_array *array) {
  char dict[256];
  size_t used = (size_t)snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
  for (int32_t d = 0; d < array->rank; d++)
    used +=
        (size_t)snprintf(dict + used, sizeof dict - used, "%lld,%s", (long long)array->shape[d], d + 1 < array->rank ? " " : "");
  used += (size_t)snprintf(dict + used, sizeof dict - used, "), }");
  while ((10 + used + 1) % 64) dict[used++] = ' ';
  dict[used++] = '\n';
  unsigned char head[10] = {0, 0, 0, 0, 0, 0, 1, 0, (unsigned char)(used & 0xff), (unsigned char)(used >> 8)};
  memcpy(head, magic, sizeof magic);
  return fwrite(head, 1, sizeof head, file) == sizeof head && fwrite(dict, 1, used, file) == used;
}

bool npy_write(const char *path, const npy_array *array, npy_error *error) {
  char *part = part_path(path);
  FILE *file = part ? fopen(part, "wb") : NULL;
  bool good = file && write_header(file, array);
  good = good && fwrite(array->data, sizeof(float), (size_t)array->count, file) == (size_t)array->count;
  int reason = errno;
  if (file && fclose(file) != 0 && good) {
    reason = errno;
    good = false;
  }
  free(part);
  if (good) return true;
  if (file) npy_discard(path);
  return fail(error, "it could not be written: %s", strerror(reason));
}

bool npy_publish(const char *path, npy_error *error) {
  char *part = part_path(path);
  bool good = part && rename(part, path) == 0;
  free(part);
  return good || fail(error, "it could not be written: %s", strerror(errno));
}

void npy_discard(const char *path) {
  char *part = part_path(path);
  if (part) remove(part);
  free(part);
}
