/* The instructions under wgmma.cuh, one for every N, type and place of A: wgmma_issue<major of B>(T{}, d, a, b, accumulate). */
#ifndef SPINDLE_KERNELS_PRIM_WGMMA_SHAPES_CUH
#define SPINDLE_KERNELS_PRIM_WGMMA_SHAPES_CUH

namespace spindle::prim {

/* Text and operands of the accumulators up to column block i. */
#define SPINDLE__REGISTERS_0  "%0, %1, %2, %3"
#define SPINDLE__REGISTERS_1  SPINDLE__REGISTERS_0 ", %4, %5, %6, %7"
#define SPINDLE__REGISTERS_2  SPINDLE__REGISTERS_1 ", %8, %9, %10, %11"
#define SPINDLE__REGISTERS_3  SPINDLE__REGISTERS_2 ", %12, %13, %14, %15"
#define SPINDLE__REGISTERS_4  SPINDLE__REGISTERS_3 ", %16, %17, %18, %19"
#define SPINDLE__REGISTERS_5  SPINDLE__REGISTERS_4 ", %20, %21, %22, %23"
#define SPINDLE__REGISTERS_6  SPINDLE__REGISTERS_5 ", %24, %25, %26, %27"
#define SPINDLE__REGISTERS_7  SPINDLE__REGISTERS_6 ", %28, %29, %30, %31"
#define SPINDLE__REGISTERS_8  SPINDLE__REGISTERS_7 ", %32, %33, %34, %35"
#define SPINDLE__REGISTERS_9  SPINDLE__REGISTERS_8 ", %36, %37, %38, %39"
#define SPINDLE__REGISTERS_10 SPINDLE__REGISTERS_9 ", %40, %41, %42, %43"
#define SPINDLE__REGISTERS_11 SPINDLE__REGISTERS_10 ", %44, %45, %46, %47"
#define SPINDLE__REGISTERS_12 SPINDLE__REGISTERS_11 ", %48, %49, %50, %51"
#define SPINDLE__REGISTERS_13 SPINDLE__REGISTERS_12 ", %52, %53, %54, %55"
#define SPINDLE__REGISTERS_14 SPINDLE__REGISTERS_13 ", %56, %57, %58, %59"
#define SPINDLE__REGISTERS_15 SPINDLE__REGISTERS_14 ", %60, %61, %62, %63"
#define SPINDLE__REGISTERS_16 SPINDLE__REGISTERS_15 ", %64, %65, %66, %67"
#define SPINDLE__REGISTERS_17 SPINDLE__REGISTERS_16 ", %68, %69, %70, %71"
#define SPINDLE__REGISTERS_18 SPINDLE__REGISTERS_17 ", %72, %73, %74, %75"
#define SPINDLE__REGISTERS_19 SPINDLE__REGISTERS_18 ", %76, %77, %78, %79"
#define SPINDLE__REGISTERS_20 SPINDLE__REGISTERS_19 ", %80, %81, %82, %83"
#define SPINDLE__REGISTERS_21 SPINDLE__REGISTERS_20 ", %84, %85, %86, %87"
#define SPINDLE__REGISTERS_22 SPINDLE__REGISTERS_21 ", %88, %89, %90, %91"
#define SPINDLE__REGISTERS_23 SPINDLE__REGISTERS_22 ", %92, %93, %94, %95"
#define SPINDLE__REGISTERS_24 SPINDLE__REGISTERS_23 ", %96, %97, %98, %99"
#define SPINDLE__REGISTERS_25 SPINDLE__REGISTERS_24 ", %100, %101, %102, %103"
#define SPINDLE__REGISTERS_26 SPINDLE__REGISTERS_25 ", %104, %105, %106, %107"
#define SPINDLE__REGISTERS_27 SPINDLE__REGISTERS_26 ", %108, %109, %110, %111"
#define SPINDLE__REGISTERS_28 SPINDLE__REGISTERS_27 ", %112, %113, %114, %115"
#define SPINDLE__REGISTERS_29 SPINDLE__REGISTERS_28 ", %116, %117, %118, %119"
#define SPINDLE__REGISTERS_30 SPINDLE__REGISTERS_29 ", %120, %121, %122, %123"
#define SPINDLE__REGISTERS_31 SPINDLE__REGISTERS_30 ", %124, %125, %126, %127"
#define SPINDLE__BLOCK(i)     "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define SPINDLE__OPERANDS_0   SPINDLE__BLOCK(0)
#define SPINDLE__OPERANDS_1   SPINDLE__OPERANDS_0, SPINDLE__BLOCK(1)
#define SPINDLE__OPERANDS_2   SPINDLE__OPERANDS_1, SPINDLE__BLOCK(2)
#define SPINDLE__OPERANDS_3   SPINDLE__OPERANDS_2, SPINDLE__BLOCK(3)
#define SPINDLE__OPERANDS_4   SPINDLE__OPERANDS_3, SPINDLE__BLOCK(4)
#define SPINDLE__OPERANDS_5   SPINDLE__OPERANDS_4, SPINDLE__BLOCK(5)
#define SPINDLE__OPERANDS_6   SPINDLE__OPERANDS_5, SPINDLE__BLOCK(6)
#define SPINDLE__OPERANDS_7   SPINDLE__OPERANDS_6, SPINDLE__BLOCK(7)
#define SPINDLE__OPERANDS_8   SPINDLE__OPERANDS_7, SPINDLE__BLOCK(8)
#define SPINDLE__OPERANDS_9   SPINDLE__OPERANDS_8, SPINDLE__BLOCK(9)
#define SPINDLE__OPERANDS_10  SPINDLE__OPERANDS_9, SPINDLE__BLOCK(10)
#define SPINDLE__OPERANDS_11  SPINDLE__OPERANDS_10, SPINDLE__BLOCK(11)
#define SPINDLE__OPERANDS_12  SPINDLE__OPERANDS_11, SPINDLE__BLOCK(12)
#define SPINDLE__OPERANDS_13  SPINDLE__OPERANDS_12, SPINDLE__BLOCK(13)
#define SPINDLE__OPERANDS_14  SPINDLE__OPERANDS_13, SPINDLE__BLOCK(14)
#define SPINDLE__OPERANDS_15  SPINDLE__OPERANDS_14, SPINDLE__BLOCK(15)
#define SPINDLE__OPERANDS_16  SPINDLE__OPERANDS_15, SPINDLE__BLOCK(16)
#define SPINDLE__OPERANDS_17  SPINDLE__OPERANDS_16, SPINDLE__BLOCK(17)
#define SPINDLE__OPERANDS_18  SPINDLE__OPERANDS_17, SPINDLE__BLOCK(18)
#define SPINDLE__OPERANDS_19  SPINDLE__OPERANDS_18, SPINDLE__BLOCK(19)
#define SPINDLE__OPERANDS_20  SPINDLE__OPERANDS_19, SPINDLE__BLOCK(20)
#define SPINDLE__OPERANDS_21  SPINDLE__OPERANDS_20, SPINDLE__BLOCK(21)
#define SPINDLE__OPERANDS_22  SPINDLE__OPERANDS_21, SPINDLE__BLOCK(22)
#define SPINDLE__OPERANDS_23  SPINDLE__OPERANDS_22, SPINDLE__BLOCK(23)
#define SPINDLE__OPERANDS_24  SPINDLE__OPERANDS_23, SPINDLE__BLOCK(24)
#define SPINDLE__OPERANDS_25  SPINDLE__OPERANDS_24, SPINDLE__BLOCK(25)
#define SPINDLE__OPERANDS_26  SPINDLE__OPERANDS_25, SPINDLE__BLOCK(26)
#define SPINDLE__OPERANDS_27  SPINDLE__OPERANDS_26, SPINDLE__BLOCK(27)
#define SPINDLE__OPERANDS_28  SPINDLE__OPERANDS_27, SPINDLE__BLOCK(28)
#define SPINDLE__OPERANDS_29  SPINDLE__OPERANDS_28, SPINDLE__BLOCK(29)
#define SPINDLE__OPERANDS_30  SPINDLE__OPERANDS_29, SPINDLE__BLOCK(30)
#define SPINDLE__OPERANDS_31  SPINDLE__OPERANDS_30, SPINDLE__BLOCK(31)

/* `last` and `blocks`: index of the last column block, and how many there are. i0 to i6 number the operands after the
 * accumulators: a descriptor, b descriptor, accumulate, major; or a[0..3], b descriptor, accumulate, major. Of e4m3 both are
 * K-major, so the instruction does not say. */
#define SPINDLE__WGMMA_OF(name, T, shape, last, blocks, i0, i1, i2, i3, i4, i5, i6, major_ss, major_rs)                          \
  template <int B>                                                                                                               \
  SPINDLE__DEVICE void name(T, float(&d)[blocks][4], uint64_t a, uint64_t b, int accumulate) {                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i2 ", 0;\nwgmma.mma_async.sync.aligned." shape                            \
                 " {" SPINDLE__REGISTERS_##last "}, %" #i0 ", %" #i1 ", p, 1, 1" major_ss ";\n}"                                 \
                 : SPINDLE__OPERANDS_##last                                                                                      \
                 : "l"(a), "l"(b), "r"(accumulate), "n"(B));                                                                     \
  }                                                                                                                              \
  template <int B>                                                                                                               \
  SPINDLE__DEVICE void name(T, float(&d)[blocks][4], const uint32_t(&a)[4], uint64_t b, int accumulate) {                        \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i5 ", 0;\nwgmma.mma_async.sync.aligned." shape                            \
                 " {" SPINDLE__REGISTERS_##last "}, {%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4 ", p, 1, 1" major_rs ";\n}" \
                 : SPINDLE__OPERANDS_##last                                                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(B));                                 \
  }
#define SPINDLE__WGMMA(name, N, last, blocks, i0, i1, i2, i3, i4, i5, i6)                                                      \
  SPINDLE__WGMMA_OF(name, bf16, "m64n" #N "k16.f32.bf16.bf16", last, blocks, i0, i1, i2, i3, i4, i5, i6, ", 0, %" #i3,         \
                    ", %" #i6)                                                                                                 \
  SPINDLE__WGMMA_OF(name, f16, "m64n" #N "k16.f32.f16.f16", last, blocks, i0, i1, i2, i3, i4, i5, i6, ", 0, %" #i3, ", %" #i6) \
  SPINDLE__WGMMA_OF(name, e4m3, "m64n" #N "k32.f32.e4m3.e4m3", last, blocks, i0, i1, i2, i3, i4, i5, i6, "", "")
SPINDLE__WGMMA(wgmma_issue, 8, 0, 1, 4, 5, 6, 7, 8, 9, 10)
SPINDLE__WGMMA(wgmma_issue, 16, 1, 2, 8, 9, 10, 11, 12, 13, 14)
SPINDLE__WGMMA(wgmma_issue, 24, 2, 3, 12, 13, 14, 15, 16, 17, 18)
SPINDLE__WGMMA(wgmma_issue, 32, 3, 4, 16, 17, 18, 19, 20, 21, 22)
SPINDLE__WGMMA(wgmma_issue, 40, 4, 5, 20, 21, 22, 23, 24, 25, 26)
SPINDLE__WGMMA(wgmma_issue, 48, 5, 6, 24, 25, 26, 27, 28, 29, 30)
SPINDLE__WGMMA(wgmma_issue, 56, 6, 7, 28, 29, 30, 31, 32, 33, 34)
SPINDLE__WGMMA(wgmma_issue, 64, 7, 8, 32, 33, 34, 35, 36, 37, 38)
SPINDLE__WGMMA(wgmma_issue, 72, 8, 9, 36, 37, 38, 39, 40, 41, 42)
SPINDLE__WGMMA(wgmma_issue, 80, 9, 10, 40, 41, 42, 43, 44, 45, 46)
SPINDLE__WGMMA(wgmma_issue, 88, 10, 11, 44, 45, 46, 47, 48, 49, 50)
SPINDLE__WGMMA(wgmma_issue, 96, 11, 12, 48, 49, 50, 51, 52, 53, 54)
SPINDLE__WGMMA(wgmma_issue, 104, 12, 13, 52, 53, 54, 55, 56, 57, 58)
SPINDLE__WGMMA(wgmma_issue, 112, 13, 14, 56, 57, 58, 59, 60, 61, 62)
SPINDLE__WGMMA(wgmma_issue, 120, 14, 15, 60, 61, 62, 63, 64, 65, 66)
SPINDLE__WGMMA(wgmma_issue, 128, 15, 16, 64, 65, 66, 67, 68, 69, 70)
SPINDLE__WGMMA(wgmma_issue, 136, 16, 17, 68, 69, 70, 71, 72, 73, 74)
SPINDLE__WGMMA(wgmma_issue, 144, 17, 18, 72, 73, 74, 75, 76, 77, 78)
SPINDLE__WGMMA(wgmma_issue, 152, 18, 19, 76, 77, 78, 79, 80, 81, 82)
SPINDLE__WGMMA(wgmma_issue, 160, 19, 20, 80, 81, 82, 83, 84, 85, 86)
SPINDLE__WGMMA(wgmma_issue, 168, 20, 21, 84, 85, 86, 87, 88, 89, 90)
SPINDLE__WGMMA(wgmma_issue, 176, 21, 22, 88, 89, 90, 91, 92, 93, 94)
SPINDLE__WGMMA(wgmma_issue, 184, 22, 23, 92, 93, 94, 95, 96, 97, 98)
SPINDLE__WGMMA(wgmma_issue, 192, 23, 24, 96, 97, 98, 99, 100, 101, 102)
SPINDLE__WGMMA(wgmma_issue, 200, 24, 25, 100, 101, 102, 103, 104, 105, 106)
SPINDLE__WGMMA(wgmma_issue, 208, 25, 26, 104, 105, 106, 107, 108, 109, 110)
SPINDLE__WGMMA(wgmma_issue, 216, 26, 27, 108, 109, 110, 111, 112, 113, 114)
SPINDLE__WGMMA(wgmma_issue, 224, 27, 28, 112, 113, 114, 115, 116, 117, 118)
SPINDLE__WGMMA(wgmma_issue, 232, 28, 29, 116, 117, 118, 119, 120, 121, 122)
SPINDLE__WGMMA(wgmma_issue, 240, 29, 30, 120, 121, 122, 123, 124, 125, 126)
SPINDLE__WGMMA(wgmma_issue, 248, 30, 31, 124, 125, 126, 127, 128, 129, 130)
SPINDLE__WGMMA(wgmma_issue, 256, 31, 32, 128, 129, 130, 131, 132, 133, 134)
#undef SPINDLE__WGMMA
#undef SPINDLE__WGMMA_OF

}  // namespace spindle::prim

#endif
