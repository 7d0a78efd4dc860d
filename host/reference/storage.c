/* Numbers in memory, the walk over a request's keys, and which channels make a pair. */
#include "reference.h"

#include <math.h>
#include <string.h>

/* ---- Elements ---- */

/* A small binary floating-point format: value = (-1)^sign * 2^(exponent - bias) * 1.mantissa. */
typedef struct {
  int bits, mantissa_bits, bias;
  uint32_t overflow; /* pattern of what is too large: infinity, or the largest number where that saturates */
  uint32_t nan;
} small_format;

static const small_format F16 = {16, 10, 15, 0x7c00, 0x7e00};
static const small_format BF16 = {16, 7, 127, 0x7f80, 0x7fc0};
static const small_format F8E4M3 = {8, 3, 7, 0x7e, 0x7f}; /* no infinity; 0x7e is 448 */

static double decode(const small_format *f, uint32_t pattern) {
  uint32_t magnitude = pattern & ((1u << (f->bits - 1)) - 1);
  int exponent = (int)(magnitude >> f->mantissa_bits);
  double mantissa = magnitude & ((1u << f->mantissa_bits) - 1);
  double value;
  if (f == &F8E4M3 ? magnitude == f->nan : magnitude > f->overflow)
    value = NAN;
  else if (f != &F8E4M3 && magnitude == f->overflow)
    value = INFINITY;
  else if (exponent == 0)
    value = ldexp(mantissa, 1 - f->bias - f->mantissa_bits);
  else
    value = ldexp(mantissa + (1u << f->mantissa_bits), exponent - f->bias - f->mantissa_bits);
  return pattern >> (f->bits - 1) ? -value : value;
}

static uint32_t encode(const small_format *f, double value) {
  uint32_t sign = signbit(value) ? 1u << (f->bits - 1) : 0;
  double size = fabs(value);
  if (isnan(value)) return sign | f->nan;
  if (isinf(value)) return sign | f->overflow;
  int exponent = size > 0 ? ilogb(size) : 1 - f->bias;
  if (exponent < 1 - f->bias) exponent = 1 - f->bias;
  if (exponent > f->bias + 1) return sign | f->overflow;
  /* In units of the last place; a carry out of the mantissa walks into the exponent by itself. */
  uint32_t units = (uint32_t)nearbyint(ldexp(size, f->mantissa_bits - exponent));
  uint32_t pattern = ((uint32_t)(exponent + f->bias - 1) << f->mantissa_bits) + units;
  return sign | (pattern < f->overflow ? pattern : f->overflow);
}

size_t spindle__ref_element_bytes(int32_t dtype) { return dtype == SPINDLE_F32 ? 4 : dtype == SPINDLE_F8E4M3 ? 1 : 2; }

double spindle__ref_load(int32_t dtype, const void *data, int64_t element) {
  if (dtype == SPINDLE_F32) return ((const float *)data)[element];
  if (dtype == SPINDLE_F8E4M3) return decode(&F8E4M3, ((const uint8_t *)data)[element]);
  return decode(dtype == SPINDLE_F16 ? &F16 : &BF16, ((const uint16_t *)data)[element]);
}

void spindle__ref_store(int32_t dtype, void *data, int64_t element, double value) {
  if (dtype == SPINDLE_F32)
    ((float *)data)[element] = (float)value;
  else if (dtype == SPINDLE_F8E4M3)
    ((uint8_t *)data)[element] = (uint8_t)encode(&F8E4M3, value);
  else
    ((uint16_t *)data)[element] = (uint16_t)encode(dtype == SPINDLE_F16 ? &F16 : &BF16, value);
}

/* ---- Keys ---- */

static int64_t at_least_0(int64_t x) { return x > 0 ? x : 0; }

spindle__ref_keys spindle__ref_keys_of(const spindle_batch *batch, const spindle__request *request, int32_t r) {
  spindle__ref_keys keys = {.batch = batch, .request = request, .remaining = request->kv_len};
  if (batch->page_size == 0) {
    keys.end = request->kv_len;
  } else if (batch->table_begin) {
    keys.first_entry = at_least_0(batch->table_begin[r]);
    keys.end_entry = batch->table_begin[r + 1];
  } else {
    keys.first_entry = r * batch->table_stride;
    keys.end_entry = keys.first_entry + batch->table_stride;
  }
  keys.entry = keys.first_entry - 1;
  return keys;
}

/* Where key number s of this rank stands in the text, before kv_index. */
static int64_t shard_index(const spindle_batch *batch, int64_t s) {
  int64_t size = batch->shard_size > 0 ? batch->shard_size : 1, count = batch->shard_count > 0 ? batch->shard_count : 1;
  return (s / size * count + batch->shard_rank) * size + s % size;
}

/* Moves on to the next table entry that has valid slots. */
static bool open_entry(spindle__ref_keys *keys) {
  const spindle_batch *batch = keys->batch;
  while (keys->offset >= keys->end) {
    if (++keys->entry >= keys->end_entry) return false;
    uint32_t span = batch->page_span ? batch->page_span[keys->entry] : (uint32_t)batch->page_size << 16;
    keys->offset = span & 0xffff;
    keys->end = span >> 16 < (uint32_t)batch->page_size ? span >> 16 : (uint32_t)batch->page_size;
  }
  return true;
}

bool spindle__ref_next_key(spindle__ref_keys *keys, spindle__ref_key *key) {
  const spindle_batch *batch = keys->batch;
  const spindle__request *request = keys->request;
  if (keys->remaining <= 0) return false;
  if (batch->page_size == 0) {
    int64_t s = keys->offset++;
    *key = (spindle__ref_key){shard_index(batch, s) + request->kv_index, request->kv_batch, request->kv_begin + s};
  } else {
    if (!open_entry(keys)) return false;
    int64_t offset = keys->offset++;
    int64_t slot_number = (keys->entry - keys->first_entry) * batch->page_size + offset;
    int64_t page = at_least_0(batch->pages[keys->entry]);
    key->index = shard_index(batch, slot_number) + request->kv_index;
    if (batch->page_index) { /* clamped: what a table holds must not overflow */
      int64_t index = batch->page_index[keys->entry];
      index = index < SPINDLE__MAX_INDEX ? index : SPINDLE__MAX_INDEX;
      key->index = (index > -SPINDLE__MAX_INDEX ? index : -SPINDLE__MAX_INDEX) + offset;
    }
    key->page = page < batch->num_pages ? page : batch->num_pages - 1;
    key->row = offset;
  }
  keys->remaining--;
  return true;
}

/* ---- Channels ---- */

spindle__ref_channels spindle__ref_channels_of(const spindle_shape *shape) {
  spindle__ref_channels channels = {.num_pairs = shape->rotary_dim / 2};
  int32_t begin = shape->rotary_offset, pairs = channels.num_pairs;
  for (int32_t t = 0; t < pairs; t++) {
    bool interleaved = shape->pair_layout == SPINDLE_PAIRS_INTERLEAVED;
    channels.first[t] = begin + (interleaved ? 2 * t : t);
    channels.second[t] = begin + (interleaved ? 2 * t + 1 : t + pairs);
  }
  for (int32_t c = 0; c < shape->head_dim_qk; c++)
    if (c < begin || c >= begin + 2 * pairs) channels.plain[channels.num_plain++] = c;
  return channels;
}
