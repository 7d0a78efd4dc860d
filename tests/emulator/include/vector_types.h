/* The CUDA built-in types that the project uses. */
#ifndef EMULATOR_VECTOR_TYPES_H
#define EMULATOR_VECTOR_TYPES_H

#ifdef __cplusplus
#define EMULATOR_VECTOR(name, align, members) \
  struct alignas(align) name {                \
    members                                   \
  };
#else
#define EMULATOR_VECTOR(name, align, members) \
  typedef struct name {                       \
    members                                   \
  } name;
#endif
EMULATOR_VECTOR(int2, 8, int x; int y;)
EMULATOR_VECTOR(int4, 16, int x; int y; int z; int w;)
EMULATOR_VECTOR(uint2, 8, unsigned x; unsigned y;)
EMULATOR_VECTOR(uint4, 16, unsigned x; unsigned y; unsigned z; unsigned w;)
EMULATOR_VECTOR(float2, 8, float x; float y;)
EMULATOR_VECTOR(float4, 16, float x; float y; float z; float w;)
#undef EMULATOR_VECTOR

typedef struct dim3 {
  unsigned x, y, z;
#ifdef __cplusplus
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
#endif
} dim3;

#endif
