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

/* get4 and put4 take four channels from a multiple of four on, get and put any; copy4 and copy take the bits as they are. */
template <class T>
struct GlobalRow {
  using Four = uint2;
  uint16_t *data;
  SPINDLE__DEVICE static GlobalRow of(void *tensor, int64_t element) { return {(uint16_t *)tensor + element}; }
  SPINDLE__DEVICE Four load4(int channel) const { return prim::ld_global((const Four *)(data + channel)); }
  SPINDLE__DEVICE static void unpack(Four bits, float (&x)[4]) { unpack4<T>(bits, x); }
  SPINDLE__DEVICE void get4(int channel, float (&x)[4]) const { unpack(load4(channel), x); }
  SPINDLE__DEVICE void put4(int channel, const float (&x)[4]) const { prim::st_global((uint2 *)(data + channel), pack4<T>(x)); }
  SPINDLE__DEVICE float get(int channel) const { return prim::unpack<T>(prim::ld_global(data + channel)).x; }
  SPINDLE__DEVICE void put(int channel, float x) const { prim::st_global(data + channel, (uint16_t)prim::pack<T>(x, 0.0f)); }
  SPINDLE__DEVICE void copy4(const GlobalRow &from, int channel) const {
    prim::st_global((Four *)(data + channel), from.load4(channel));
  }
  SPINDLE__DEVICE void copy(const GlobalRow &from, int channel) const {
    prim::st_global(data + channel, prim::ld_global(from.data + channel));
  }
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
  SPINDLE__DEVICE float get(int channel) const { return prim::ld_global(data + channel); }
  SPINDLE__DEVICE void put(int channel, float x) const { prim::st_global(data + channel, x); }
  SPINDLE__DEVICE void copy4(const GlobalRow &from, int channel) const {
    prim::st_global((Four *)(data + channel), from.load4(channel));
  }
  SPINDLE__DEVICE void copy(const GlobalRow &from, int channel) const { put(channel, from.get(channel)); }
  SPINDLE__DEVICE GlobalRow at(int64_t element) const { return {data + element}; }
};

}  // namespace spindle

#endif
