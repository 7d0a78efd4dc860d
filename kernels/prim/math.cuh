/* Approximations of the special function unit. Denormal inputs and results are 0.
 * PTX ISA: Floating-Point Instructions. */
#ifndef SPINDLE_KERNELS_PRIM_MATH_CUH
#define SPINDLE_KERNELS_PRIM_MATH_CUH

namespace spindle::prim {

/* 2^x, relative error 2^-22; -inf gives 0. ex2.approx.ftz.f32. */
SPINDLE__DEVICE float ex2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/* log2 x, absolute error 2^-22 for x in (0.5, 2), else relative 2^-22; 0 gives -inf. lg2.approx.ftz.f32. */
SPINDLE__DEVICE float lg2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/* 1 / x, 1 ulp. rcp.approx.ftz.f32. */
SPINDLE__DEVICE float rcp_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace spindle::prim

#endif
