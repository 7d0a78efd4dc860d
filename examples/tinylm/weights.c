#include "weights.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 64, MAX_FILE_BYTES = 1 << 28 };

typedef struct reader {
  const uint8_t *at; /* the next value; the size of the file has been checked against the header */
  bool finite, memory;
} reader;

static uint32_t read_u32(const uint8_t *b) { return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24; }

static float read_f32(const uint8_t *b) {
  uint32_t bits = read_u32(b);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* bf16 is the upper half of a float. */
static float *take_values(reader *r, size_t count) {
  float *values = malloc(count * sizeof *values);
  if (!values) return r->memory = false, NULL;
  for (size_t i = 0; i < count; i++, r->at += 2) {
    uint32_t bits = (uint32_t)r->at[0] << 16 | (uint32_t)r->at[1] << 24;
    memcpy(values + i, &bits, sizeof *values);
    r->finite &= isfinite(values[i]) != 0;
  }
  return values;
}

static void take_matrix(reader *r, tinylm_matrix *m, int out, int in) {
  float *rows = take_values(r, (size_t)out * (size_t)in);
  if (!rows || !tinylm_matrix_make(m, in, out, rows)) r->memory = false;
  free(rows);
}

static void take_layer(reader *r, const tinylm_weights *w, tinylm_layer *layer) {
  int q_width = w->heads * w->head_dim, kv_width = w->kv_heads * w->head_dim;
  layer->attn_norm = take_values(r, (size_t)w->width);
  take_matrix(r, &layer->wq, q_width, w->width);
  take_matrix(r, &layer->wk, kv_width, w->width);
  take_matrix(r, &layer->wv, kv_width, w->width);
  take_matrix(r, &layer->wo, w->width, q_width);
  layer->ffn_norm = take_values(r, (size_t)w->width);
  take_matrix(r, &layer->w_gate, w->hidden, w->width);
  take_matrix(r, &layer->w_up, w->hidden, w->width);
  take_matrix(r, &layer->w_down, w->width, w->hidden);
}

static void take_all(reader *r, tinylm_weights *w) {
  w->embed = take_values(r, (size_t)w->vocab * (size_t)w->width);
  if (!w->embed || !tinylm_matrix_make(&w->unembed, w->width, w->vocab, w->embed)) r->memory = false;
  w->layers = calloc((size_t)w->num_layers, sizeof *w->layers);
  if (!w->layers) r->memory = false;
  for (int l = 0; l < w->num_layers && r->memory; l++) take_layer(r, w, w->layers + l);
  if (r->memory) w->norm = take_values(r, (size_t)w->width);
}

static uint64_t count_parameters(const tinylm_weights *w) {
  uint64_t width = (uint64_t)w->width, heads = 2 * (uint64_t)(w->heads + w->kv_heads) * (uint64_t)w->head_dim;
  return width * ((uint64_t)w->vocab + 1 + (uint64_t)w->num_layers * (2 + heads + 3 * (uint64_t)w->hidden));
}

/* The limits keep count_parameters far from overflow, and a file that claims more is not of this kind anyway. */
static bool read_header(tinylm_weights *w, const uint8_t *data, size_t bytes, char message[256]) {
  const struct {
    const char *name;
    int *value;
    uint32_t least, most;
  } fields[] = {{"version", &(int){0}, 1, 1},        {"position", &w->position, 0, 1},   {"vocab", &w->vocab, 256, 256},
                {"layers", &w->num_layers, 1, 256},  {"width", &w->width, 1, 16384},     {"heads", &w->heads, 1, 256},
                {"kv_heads", &w->kv_heads, 1, 256},  {"head_dim", &w->head_dim, 4, 512}, {"hidden", &w->hidden, 1, 65536},
                {"context", &w->context, 2, 1 << 20}};
  if (bytes < HEADER_BYTES) return snprintf(message, 256, "%zu bytes, shorter than a header (%d)", bytes, HEADER_BYTES), false;
  if (memcmp(data, "TINYLM\0\0", 8)) return snprintf(message, 256, "does not start with TINYLM"), false;
  for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
    uint32_t value = read_u32(data + 8 + 4 * f);
    if (value < fields[f].least || value > fields[f].most)
      return snprintf(message, 256, "%s is %u; expected %u to %u", fields[f].name, value, fields[f].least, fields[f].most), false;
    *fields[f].value = (int)value;
  }
  if (w->heads % w->kv_heads) return snprintf(message, 256, "%d heads cannot share %d kv_heads", w->heads, w->kv_heads), false;
  if (w->head_dim % 4) return snprintf(message, 256, "head_dim is %d; expected a multiple of 4", w->head_dim), false;
  w->rope_theta = read_f32(data + 56);
  w->norm_eps = read_f32(data + 60);
  if (!(w->rope_theta > 1 && w->rope_theta < 1e30f)) return snprintf(message, 256, "rope_theta is %g", w->rope_theta), false;
  if (!(w->norm_eps > 0 && w->norm_eps < 1)) return snprintf(message, 256, "norm_eps is %g", w->norm_eps), false;

  uint64_t expected = count_parameters(w), declared = read_u32(data + 48);
  if (declared != expected)
    return snprintf(message, 256, "claims %llu parameters; its shape has %llu", (unsigned long long)declared,
                    (unsigned long long)expected),
           false;
  if (bytes != HEADER_BYTES + 2 * expected)
    return snprintf(message, 256, "%zu bytes; %llu parameters need %llu", bytes, (unsigned long long)expected,
                    (unsigned long long)(HEADER_BYTES + 2 * expected)),
           false;
  return true;
}

static uint8_t *read_file(const char *path, size_t *bytes, char message[256]) {
  FILE *file = fopen(path, "rb");
  long size = -1;
  uint8_t *data = NULL;
  if (file && !fseek(file, 0, SEEK_END)) size = ftell(file);
  if (size < 0 || size > MAX_FILE_BYTES)
    snprintf(message, 256, size < 0 ? "cannot be read" : "larger than any file of this kind");
  else if (!(data = malloc((size_t)size + 1)))
    snprintf(message, 256, "out of memory");
  else if (fseek(file, 0, SEEK_SET) || fread(data, 1, (size_t)size, file) != (size_t)size)
    snprintf(message, 256, "cannot be read"), free(data), data = NULL;
  if (file) fclose(file);
  *bytes = (size_t)size;
  return data;
}

bool tinylm_weights_open(tinylm_weights *w, const char *path, char message[256]) {
  size_t bytes = 0;
  uint8_t *data = read_file(path, &bytes, message);
  *w = (tinylm_weights){0};
  if (!data) return false;
  bool ok = read_header(w, data, bytes, message);
  if (ok) {
    reader r = {.at = data + HEADER_BYTES, .finite = true, .memory = true};
    take_all(&r, w);
    ok = r.finite && r.memory;
    if (!ok) snprintf(message, 256, r.memory ? "holds weights that are not finite" : "out of memory");
  }
  if (!ok) tinylm_weights_close(w);
  free(data);
  return ok;
}

void tinylm_weights_close(tinylm_weights *w) {
  for (int l = 0; w->layers && l < w->num_layers; l++) {
    tinylm_layer *layer = w->layers + l;
    tinylm_matrix *matrices[] = {&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->w_gate, &layer->w_up, &layer->w_down};
    for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++) tinylm_matrix_free(matrices[m]);
    free(layer->attn_norm);
    free(layer->ffn_norm);
  }
  tinylm_matrix_free(&w->unembed);
  free(w->embed);
  free(w->layers);
  free(w->norm);
  *w = (tinylm_weights){0};
}
