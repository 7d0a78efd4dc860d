/* Rows of tensors in global memory, in the type that they are stored in. Rows begin on multiples of 16 bytes, so four channels
 * from a multiple of four on are one access. */
#ifndef SPINDLE_KERNELS_ROWS_CUH
#define SPINDLE_KERNELS_ROWS_CUH

#include "common.h"
#include "prim/prim.cuh"

namespace spindle {

/* Four channels of 16 bits. */
template <class T>
SPINDLE__DEVICE void unpack4(uint2 bits, float (&x)[4]) {
  const float2 low = prim::unpack<T>(bits.x), high = prim::unpack<T>(bits.y);
  x[0] = low.x, x[1] = low.y, x[2] = high.x, x[3] = high.y;
}
template <class T>
SPINDLE__DEVICE uint2 pack4(const float (&x)[4]) {
  return make_uint2(prim::pack<T>(x[0], x[1]), prim::pack<T>(x[2], x[3]));
}

/* get4 and put4 take four channels from a multiple of four on, get2 and put2 two from an even one on, get and put any. */
template <class T>
struct GlobalRow {
  using Four = uint2;
  uint16_t *data;
  SPINDLE__DEVICE static GlobalRow of(void *tensor, int64_t element) { return {(uint16_t *)tensor + element}; }
  SPINDLE__DEVICE Four load4(int channel) const { return prim::ld_global((const Four *)(data + channel)); }
  SPINDLE__DEVICE static void unpack(Four bits, float (&x)[4]) { unpack4<T>(bits, x); }
  SPINDLE__DEVICE void get4(int channel, float (&x)[4]) const { unpack(load4(channel), x); }
  SPINDLE__DEVICE void put4(int channel, const float (&x)[4]) const { prim::st_global((uint2 *)(data + channel), pack4<T>(x)); }
  SPINDLE__DEVICE void put2(int channel, float x, float y) const {
    prim::st_global((uint32_t *)(data + channel), prim::pack<T>(x, y));
  }
  SPINDLE__DEVICE float get(int channel) const { return prim::unpack<T>(prim::ld_global(data + channel)).x; }
  SPINDLE__DEVICE void put(int channel, float x) const { prim::st_global(data + channel, (uint16_t)prim::pack<T>(x, 0.0f)); }
  SPINDLE__DEVICE GlobalRow at(int64_t element) const { return {data + element}; }
};

template <>
struct GlobalRow<float> {
  using Four = float4;
  float *data;
  SPINDLE__DEVICE static GlobalRow of(void *tensor, int64_t element) { return {(float *)tensor + element}; }
  SPINDLE__DEVICE Four load4(int channel) const { return prim::ld_global((const Four *)(data + channel)); }
  SPINDLE__DEVICE static void unpack(Four v, float (&x)[4]) { x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w; }
  SPINDLE__DEVICE void get4(int channel, float (&x)[4]) const { unpack(load4(channel), x); }
  SPINDLE__DEVICE void put4(int channel, const float (&x)[4]) const {
    prim::st_global((float4 *)(data + channel), make_float4(x[0], x[1], x[2], x[3]));
  }
  SPINDLE__DEVICE float2 get2(int channel) const { return prim::ld_global((const float2 *)(data + channel)); }
  SPINDLE__DEVICE void put2(int channel, float x, float y) const {
    prim::st_global((float2 *)(data + channel), make_float2(x, y));
  }
  SPINDLE__DEVICE float get(int channel) const { return prim::ld_global(data + channel); }
  SPINDLE__DEVICE void put(int channel, float x) const { prim::st_global(data + channel, x); }
  SPINDLE__DEVICE GlobalRow at(int64_t element) const { return {data + element}; }
};

/* A row of any type, for writing. e4m3: value / divisor is stored. */
struct AnyRow {
  void *tensor;
  int64_t element; /* the row's first */
  int32_t dtype;
  float divisor;
  SPINDLE__DEVICE void put4(int channel, const float (&x)[4]) const {
    if (dtype == SPINDLE_F32) GlobalRow<float>::of(tensor, element).put4(channel, x);
    if (dtype == SPINDLE_BF16) GlobalRow<bf16>::of(tensor, element).put4(channel, x);
    if (dtype == SPINDLE_F16) GlobalRow<f16>::of(tensor, element).put4(channel, x);
    if (dtype != SPINDLE_F8E4M3) return;
    const uint32_t low = prim::pack_e4m3x2(x[0] / divisor, x[1] / divisor);
    const uint32_t high = prim::pack_e4m3x2(x[2] / divisor, x[3] / divisor);
    prim::st_global((uint32_t *)((uint8_t *)tensor + element + channel), low | high << 16);
  }
  SPINDLE__DEVICE void put(int channel, float x) const {
    if (dtype == SPINDLE_F32) GlobalRow<float>::of(tensor, element).put(channel, x);
    if (dtype == SPINDLE_BF16) GlobalRow<bf16>::of(tensor, element).put(channel, x);
    if (dtype == SPINDLE_F16) GlobalRow<f16>::of(tensor, element).put(channel, x);
    if (dtype == SPINDLE_F8E4M3) ((uint8_t *)tensor)[element + channel] = (uint8_t)prim::pack_e4m3x2(x / divisor, 0.0f);
  }
};

/* ---- Four channels of a row of `channels`, of which the last may be fewer ---- */

template <class Row>
SPINDLE__DEVICE void get_some(const Row &row, int channel, int channels, float (&x)[4]) {
  if (channel + 4 <= channels) {
    row.get4(channel, x);
    return;
  }
  SPINDLE__UNROLL
  for (int k = 0; k < 4; ++k) x[k] = channel + k < channels ? row.get(channel + k) : 0.0f;
}

/* Those that are not in [begin, end). */
template <class Row>
SPINDLE__DEVICE void put_some(const Row &row, int channel, int channels, const float (&x)[4], int begin = 0, int end = 0) {
  if (channel + 4 <= channels && (channel + 4 <= begin || channel >= end)) {
    row.put4(channel, x);
    return;
  }
  SPINDLE__UNROLL
  for (int k = 0; k < 4; ++k) {
    const int c = channel + k;
    if (c < channels && (c < begin || c >= end)) row.put(c, x[k]);
  }
}

}  // namespace spindle

#endif
