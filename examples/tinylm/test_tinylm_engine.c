/* The engine computes what PyTorch computes, however the text is cut into calls, and the cache holds no positions. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "methods.h"

enum { VOCAB = 256, BYTES = 1024, CHUNK = 512 };

static unsigned char *read_file(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  unsigned char *data = malloc(1 << 20);
  cr_assert(file && data, "%s", path);
  *bytes = fread(data, 1, 1 << 20, file);
  fclose(file);
  return data;
}

static void open_weights(tinylm_weights *w, const tinylm_method *method) {
  char message[256];
  const char *path = method->flags & TINYLM_MODEL_ALIBI ? TINYLM_DIR "/alibi.bin" : TINYLM_DIR "/rope.bin";
  cr_assert(tinylm_weights_open(w, path, message), "%s: %s", path, message);
}

static tinylm_engine *start(const tinylm_weights *w, const tinylm_method *method) {
  spindle_position position = tinylm_method_position(method, w, BYTES);
  tinylm_engine *e = tinylm_engine_create(w, BYTES, CHUNK, SPINDLE_BACKEND_CPU, SPINDLE_KEYS_RAW);
  cr_assert(e && tinylm_engine_set_position(e, &position), "%s", tinylm_engine_error());
  return e;
}

/* Appends text[length of the engine .. end) in calls of at most `chunk` bytes; logits[byte] for each. */
static void read_to(tinylm_engine *e, const unsigned char *text, int end, int chunk, int64_t n, float *logits) {
  while (tinylm_engine_length(e) < end) {
    int at = tinylm_engine_length(e), count = end - at < chunk ? end - at : chunk;
    cr_assert(tinylm_read(e, text + at, count, n, count, logits + (size_t)at * VOCAB), "%s", tinylm_engine_error());
  }
}

static double largest_difference(const float *a, const float *b, size_t count) {
  double most = 0;
  for (size_t i = 0; i < count; i++) {
    cr_assert(isfinite(a[i]) && isfinite(b[i])); /* fmax would drop a NaN */
    most = fmax(most, fabs((double)a[i] - b[i]));
  }
  return most;
}

static int32_t int_at(const unsigned char *b) {
  int32_t value;
  memcpy(&value, b, sizeof value);
  return value;
}

/* golden.bin: see train.py. */
Test(tinylm_engine, logits_equal_those_of_pytorch) {
  size_t bytes, text_bytes;
  unsigned char *golden = read_file(TINYLM_DIR "/golden.bin", &bytes), *text = read_file(TINYLM_DIR "/test.txt", &text_bytes);
  float *logits = malloc((size_t)BYTES * VOCAB * sizeof *logits), want[VOCAB];
  cr_assert(bytes > 28 && !memcmp(golden, "TINYGOLD", 8) && text_bytes >= BYTES && logits);
  int cases = int_at(golden + 12), positions = int_at(golden + 20);
  cr_assert_eq(int_at(golden + 16), BYTES);
  cr_assert_eq(bytes, 28 + 4 * (size_t)positions + (size_t)cases * (16 + (size_t)positions * sizeof want));
  const unsigned char *at = golden + 28 + 4 * (size_t)positions;
  for (int c = 0; c < cases; c++) {
    const char *name = (const char *)at;
    const tinylm_method *method = tinylm_method_find(strcmp(name, "dynamic") ? name : "dynamic-ntk");
    tinylm_weights w;
    double most = 0;
    cr_assert(method, "%s", name);
    open_weights(&w, method);
    tinylm_engine *e = start(&w, method);
    read_to(e, text, BYTES, CHUNK, BYTES, logits);
    at += 16;
    for (int p = 0; p < positions; p++, at += sizeof want) {
      memcpy(want, at, sizeof want);
      most = fmax(most, largest_difference(logits + (size_t)int_at(golden + 28 + 4 * (size_t)p) * VOCAB, want, VOCAB));
    }
    cr_expect(most < 1e-3, "%s: logits differ by %g", name, most);
    tinylm_engine_destroy(e);
    tinylm_weights_close(&w);
  }
  cr_expect(cases == 6);
  free(logits);
  free(golden);
  free(text);
}

/* n is given, or length-dependent rules would rightly differ from call to call. */
Test(tinylm_engine, chunks_and_single_bytes_equal_one_call) {
  enum { N = 500 };
  static const int chunks[] = {1, 63, 64, 200};
  size_t bytes;
  unsigned char *text = read_file(TINYLM_DIR "/test.txt", &bytes);
  float *whole = malloc((size_t)N * VOCAB * sizeof *whole), *parts = malloc((size_t)N * VOCAB * sizeof *parts);
  cr_assert(whole && parts);
  for (int m = 0; m < tinylm_num_methods; m++) {
    tinylm_weights w;
    open_weights(&w, tinylm_methods + m);
    tinylm_engine *e = start(&w, tinylm_methods + m);
    read_to(e, text, N, CHUNK, N, whole);
    for (size_t c = m % 4 ? 1 : 0; c < 4; c++) { /* bytes one by one take longest: for every fourth method */
      tinylm_engine_rewind(e, 0);
      read_to(e, text, N, chunks[c], N, parts);
      double most = largest_difference(whole, parts, (size_t)N * VOCAB);
      cr_expect(most < 2e-4, "%s: chunks of %d differ by %g", tinylm_methods[m].name, chunks[c], most);
    }
    tinylm_engine_destroy(e);
    tinylm_weights_close(&w);
  }
  free(whole);
  free(parts);
  free(text);
}

/* A look at the cache under other methods leaves no trace, to the bit. */
Test(tinylm_engine, other_methods_read_the_cache_without_a_trace) {
  enum { N = 400 };
  const tinylm_method *method = tinylm_method_find("yarn");
  size_t bytes;
  unsigned char *text = read_file(TINYLM_DIR "/test.txt", &bytes);
  float *logits = malloc((size_t)BYTES * VOCAB * sizeof *logits), first[VOCAB], again[VOCAB];
  tinylm_weights w;
  cr_assert(logits);
  open_weights(&w, method);
  tinylm_engine *e = start(&w, method);
  spindle_position own = tinylm_method_position(method, &w, BYTES);
  read_to(e, text, N, CHUNK, N, logits);
  cr_assert(tinylm_read(e, text + N, 1, N + 1, 1, first), "%s", tinylm_engine_error());
  for (int m = 0; m < tinylm_num_methods; m++) {
    if (tinylm_methods[m].flags & TINYLM_MODEL_ALIBI) continue;
    spindle_position other = tinylm_method_position(tinylm_methods + m, &w, BYTES);
    tinylm_engine_rewind(e, N);
    cr_assert(tinylm_engine_set_position(e, &other) && tinylm_read(e, text + N, 1, N + 1, 1, again), "%s", tinylm_engine_error());
    if (tinylm_methods + m != method)
      cr_expect(memcmp(first, again, sizeof first), "%s reads as YaRN does", tinylm_methods[m].name);
    tinylm_engine_rewind(e, N);
    cr_assert(tinylm_engine_set_position(e, &own) && tinylm_read(e, text + N, 1, N + 1, 1, again), "%s", tinylm_engine_error());
    cr_expect(!memcmp(first, again, sizeof first), "%s left a trace", tinylm_methods[m].name);
  }
  tinylm_engine_destroy(e);
  tinylm_weights_close(&w);
  free(logits);
  free(text);
}

Test(tinylm_engine, bytes_past_the_bounds_are_refused) {
  static unsigned char text[CHUNK + 1];
  static float logits[VOCAB];
  tinylm_weights w;
  open_weights(&w, tinylm_methods);
  tinylm_engine *e = start(&w, tinylm_methods);
  cr_expect(!tinylm_read(e, text, CHUNK + 1, 0, 1, logits) && !tinylm_read(e, text, 0, 0, 0, logits));
  cr_expect(tinylm_engine_error()[0]);
  for (int at = 0; at < BYTES; at += CHUNK) cr_assert(tinylm_read(e, text, CHUNK, 0, 0, NULL));
  cr_expect(!tinylm_read(e, text, 1, 0, 1, logits));
  tinylm_engine_destroy(e);
  tinylm_weights_close(&w);
}
