/* NumPy's .npy files of float32, for tensors of up to 4 dimensions (format: numpy.lib.format, versions 1.0 and 2.0).
 *
 * Files are not trusted: what a header claims is checked against the file's size before memory is taken for it. Functions that
 * fail say why in `error`, one line. */
#ifndef SPINDLE_BENCH_NPY_H
#define SPINDLE_BENCH_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NPY_MAX_RANK = 4, NPY_MAX_HEADER = 65536 };

typedef struct npy_error {
  char text[256];
} npy_error;

typedef struct npy_array {
  int32_t rank;
  int64_t shape[NPY_MAX_RANK];
  int64_t count; /* of elements */
  float *data;   /* C order; from malloc */
} npy_array;

/* The header in the first `bytes` bytes of a file: array's rank, shape and count, and where its data begin. */
bool npy_parse_header(const void *file, size_t bytes, npy_array *array, size_t *data_offset, npy_error *error);

bool npy_read(const char *path, npy_array *array, npy_error *error);
/* All of it but the data, which are there. */
bool npy_read_shape(const char *path, npy_array *array, npy_error *error);

/* Outputs appear whole or not at all: npy_write makes PATH.part, npy_publish renames it to PATH, npy_discard removes it. */
bool npy_write(const char *path, const npy_array *array, npy_error *error);
bool npy_publish(const char *path, npy_error *error);
void npy_discard(const char *path);

#endif
