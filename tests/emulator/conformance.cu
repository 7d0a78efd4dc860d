/* Does this machine do what the PTX ISA says? Compiled for the emulator it is a test of the emulator; by nvcc it runs on a GPU,
 * and says whether the emulator and the kernels share a misreading of the manual:
 *
 *   nvcc -std=c++17 -arch=native -Ikernels -Itests/emulator tests/emulator/conformance.cu -o conformance && ./conformance
 *
 * What is expected is computed below from the manual's tables, with nothing of the emulator's. */
#include "conformance.cuh"

#include "conformance_support.h"

namespace {

using namespace conformance;

/* The nearest number of the format, ties to the even mantissa, what is half a step past the largest and more to infinity. */
double round_to(double x, Format f) {
  if (std::isnan(x) || std::isinf(x) || x == 0) return x;
  const int bias = (1 << (f.exponent_bits - 1)) - 1;
  const int exponent = std::max((int)floor(log2(fabs(x))), 1 - bias);
  const double step = exp2(exponent - f.mantissa_bits);
  const double y = nearbyint(x / step) * step; /* the default rounding mode is to nearest even */
  return fabs(y) >= exp2(bias + 1) ? copysign(INFINITY, x) : y;
}

/* Table of OCP FP8 E4M3: bias 7, no infinity, NaN is S.1111.111. */
double decode_e4m3(uint32_t b) {
  const double sign = b & 0x80 ? -1 : 1;
  const int exponent = (int)(b >> 3) & 15, mantissa = (int)b & 7;
  if (exponent == 15 && mantissa == 7) return NAN;
  return exponent ? sign * (1 + mantissa / 8.0) * exp2(exponent - 7) : sign * mantissa / 8.0 * exp2(-6);
}

/* ---- Cases ----------------------------------------------------------------------------------------------------------- */

void test_indices() {
  Buffer<uint32_t> out(12 * 64 * 4);
  check(SPINDLE__LAUNCH(conformance::indices, dim3(12), 64, 0, nullptr, out.device), "launch");
  expect("indices of thread, block and grid", out.read(), [](size_t i) {
    const size_t thread = i / 4 % 64, block = i / 256;
    switch (i % 4) {
      case 0: return (double)(thread | 64 << 16);
      case 1: return (double)(thread / 32 << 8 | thread % 32);
      case 2: return (double)block;
      default: return 12.0;
    }
  });
}

void test_shared_address() {
  Buffer<uint32_t> out(64);
  check(SPINDLE__LAUNCH(conformance::shared_address, dim3(1), 32, sizeof(conformance::Words), nullptr, out.device), "launch");
  expect("shared memory: addresses, 1024-byte aligned", out.read(), [](size_t i) { return i < 32 ? (double)i * 4 : 0.0; });
}

/* PTX ISA, ldmatrix: thread T holds row T / 4, elements 2 (T % 4) and the next; rows come from threads 0-7, 8-15, ...; .trans
 * loads the matrix in column-major format. */
uint32_t matrix_fragment(size_t lane, size_t matrix, bool trans) {
  const size_t row = lane / 4, column = lane % 4 * 2;
  const size_t first = trans ? column * 8 + row : row * 8 + column,
               second = trans ? (column + 1) * 8 + row : row * 8 + column + 1;
  return (uint32_t)(matrix * 64 + first) | (uint32_t)(matrix * 64 + second) << 16;
}

template <bool Trans>
void test_ldmatrix() {
  Buffer<uint32_t> out(32 * 4);
  check(SPINDLE__LAUNCH(conformance::ldmatrix<Trans>, dim3(1), 32, sizeof(conformance::Tile), nullptr, out.device), "launch");
  expect(std::string("ldmatrix") + (Trans ? " trans" : ""), out.read(),
         [](size_t i) { return matrix_fragment(i / 4, i % 4, Trans); });
}

template <bool Trans>
void test_ldmatrix_each() {
  Buffer<uint32_t> out(32 * 8);
  check(SPINDLE__LAUNCH((conformance::ldmatrix_each<Trans>), dim3(1), 32, sizeof(conformance::Tile), nullptr, out.device),
        "launch");
  expect(std::string("ldmatrix_each") + (Trans ? " trans" : ""), out.read(), [](size_t i) {
    const size_t lane = i / 8, load = i / 4 % 2, matrix = i % 4;
    if (!load) return (double)matrix_fragment(lane, matrix, Trans);
    /* The rows were given from the last to the first: row r of matrix m is row 7 - r of matrix 3 - m. */
    const size_t row = lane / 4, column = lane % 4 * 2;
    auto element = [&](size_t r, size_t c) { return (uint32_t)((3 - matrix) * 64 + (7 - r) * 8 + c); };
    return (double)(Trans ? element(column, row) | element(column + 1, row) << 16
                          : element(row, column) | element(row, column + 1) << 16);
  });
}

/* PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type". Small whole numbers: every sum is exact. */
double a_at(size_t row, size_t k) { return (double)((row * 7 + k * 3) % 11) - 5; }
double b_at(size_t k, size_t column) { return (double)((k * 5 + column * 2) % 9) - 4; }
double c_at(size_t row, size_t column) { return (double)(row * 100 + column); }

template <class T>
uint32_t two(double first, double second) {
  const Format f = std::is_same_v<T, spindle::bf16> ? BF16 : F16;
  uint32_t bits = 0;
  for (const double x : {second, first}) bits = bits << 16 | encode(x, f);
  return bits;
}
template <class T>
std::vector<uint32_t> a_fragments() {
  std::vector<uint32_t> a;
  for (size_t lane = 0; lane < 32; ++lane) {
    for (size_t i = 0; i < 8;
         i += 2) { /* a_i: row = groupID for i in {0,1,4,5}, else + 8; column = 2 threadID + (i & 1), + 8 for i >= 4 */
      const size_t row = lane / 4 + (i == 0 || i == 4 ? 0 : 8), k = lane % 4 * 2 + (i < 4 ? 0 : 8);
      a.push_back(two<T>(a_at(row, k), a_at(row, k + 1)));
    }
  }
  return a;
}
template <class T>
std::vector<uint32_t> b_fragments(size_t blocks) {
  std::vector<uint32_t> b;
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t lane = 0; lane < 32; ++lane) {
      for (size_t i = 0; i < 4; i += 2) { /* b_i: row = 2 threadID + (i & 1), + 8 for i >= 2; column = groupID */
        const size_t k = lane % 4 * 2 + (i < 2 ? 0 : 8);
        b.push_back(two<T>(b_at(k, lane / 4 + 8 * block), b_at(k + 1, lane / 4 + 8 * block)));
      }
    }
  }
  return b;
}
/* c_i: row = groupID for i < 2, else + 8; column = 2 threadID + (i & 1). */
size_t c_row(size_t i) { return i / 4 % 32 / 4 + (i % 4 < 2 ? 0 : 8); }
size_t c_column(size_t i) { return i / 4 % 32 % 4 * 2 + i % 2 + i / 128 * 8; }
double product(size_t i) {
  double sum = c_at(c_row(i), c_column(i));
  for (size_t k = 0; k < 16; ++k) sum += a_at(c_row(i), k) * b_at(k, c_column(i));
  return sum;
}
template <class T>
void test_mma(const char *name) {
  for (const size_t blocks : {1, 2}) {
    std::vector<float> c(128 * blocks);
    for (size_t i = 0; i < c.size(); ++i) c[i] = (float)c_at(c_row(i), c_column(i));
    Buffer<uint32_t> a(a_fragments<T>()), b(b_fragments<T>(blocks));
    Buffer<float> d(c);
    auto kernel = blocks == 1 ? conformance::mma<T> : conformance::mma_each<T>;
    check(SPINDLE__LAUNCH(kernel, dim3(1), 32, 0, nullptr, a.device, b.device, d.device), "launch");
    expect(std::string(blocks == 1 ? "mma " : "mma_each ") + name, d.read(), product);
  }
}

template <int Bytes>
void test_cp_async() {
  std::vector<unsigned char> in(32 * Bytes);
  for (size_t i = 0; i < in.size(); ++i) in[i] = (unsigned char)(i * 5 + 1);
  Buffer<unsigned char> from(in), out(in.size());
  check(SPINDLE__LAUNCH(conformance::cp_async<Bytes>, dim3(1), 32, 32 * Bytes, nullptr, from.device, out.device), "launch");
  expect("cp_async of " + std::to_string(Bytes) + " bytes, the tail zero", out.read(), [&](size_t i) {
    const size_t lane = i / Bytes, byte = i % Bytes;
    return byte < lane % (Bytes + 1) ? (double)in[i] : 0.0;
  });
}
void test_cp_async_groups() {
  std::vector<uint32_t> in(128);
  for (size_t i = 0; i < in.size(); ++i) in[i] = (uint32_t)i + 1000;
  Buffer<uint32_t> from(in), out(128);
  check(SPINDLE__LAUNCH(conformance::cp_async_groups, dim3(1), 32, 5 * 128, nullptr, from.device, out.device), "launch");
  expect("cp_async groups", out.read(), [](size_t i) { return (double)i + 1000; });
}

void test_warp() {
  Buffer<uint32_t> out(128);
  check(SPINDLE__LAUNCH(conformance::shuffles, dim3(1), 32, 0, nullptr, out.device), "launch");
  std::vector<uint32_t> got = out.read();
  got.resize(96);
  expect("shfl_xor, shfl, under masks", got, [](size_t i) {
    const size_t lane = i % 32;
    if (i < 32) return (double)((lane ^ 5) * 3);
    if (i >= 64) return (double)(lane < 16 ? lane ^ 1 : 17);
    return (double)(0x4b000000u + lane / 4); /* the floats from 2^23 up */
  });
  check(SPINDLE__LAUNCH(conformance::votes, dim3(1), 32, 0, nullptr, out.device), "launch");
  expect("ballot, any", out.read(), [](size_t i) {
    uint32_t thirds = 0, odd = 0;
    for (uint32_t l = 0; l < 32; ++l) thirds |= (uint32_t)(l % 3 == 0) << l, odd |= (uint32_t)(l % 2 && l > 8) << l;
    return (double)(i < 32 ? thirds : i < 64 ? 1 : i < 96 ? 0 : i % 2 ? odd : 0);
  });
  Buffer<uint32_t> exchanged(32);
  check(SPINDLE__LAUNCH(conformance::sync_warp, dim3(1), 32, 256, nullptr, exchanged.device), "launch");
  expect("sync_warp", exchanged.read(), [](size_t i) { return (double)(i ^ 9) * 7; });
}

void test_barriers() {
  Buffer<uint32_t> rounds(192), drained(128);
  check(SPINDLE__LAUNCH(conformance::sync_block, dim3(1), 64, 256, nullptr, rounds.device), "launch");
  expect("sync_block", rounds.read(), [](size_t i) { return (double)(i / 64 * 1000 + 63 - i % 64); });
  check(SPINDLE__LAUNCH(conformance::named_barriers, dim3(1), 64, 256, nullptr, drained.device), "launch");
  expect("bar_sync, bar_arrive", drained.read(), [](size_t i) { return (double)(i / 32 * 100 + (i % 32 ^ 3)); });
}

template <class T>
void test_loads_stores(const char *name) {
  std::vector<T> in(512 / sizeof(T));
  for (size_t i = 0; i < 512; ++i) ((unsigned char *)in.data())[i] = (unsigned char)(i * 3 + i / 100);
  Buffer<T> from(in), to(in.size());
  check(SPINDLE__LAUNCH(conformance::loads_stores<T>, dim3(1), 32, 512, nullptr, from.device, to.device), "launch");
  const std::vector<T> out = to.read();
  const std::vector<unsigned char> bytes((const unsigned char *)out.data(), (const unsigned char *)out.data() + 512);
  expect(std::string("loads and stores of ") + name, bytes,
         [&](size_t i) { return (double)((const unsigned char *)in.data())[i]; });
}

void test_atomics() {
  Buffer<uint32_t> word(1);
  check(SPINDLE__LAUNCH(conformance::atomics, dim3(5), 64, 0, nullptr, word.device), "launch");
  expect("atomic_inc", word.read(), [](size_t) { return 320 % 100; });
  Buffer<float> partial(7 * 64), total(64);
  Buffer<uint32_t> arrived(1);
  for (int again = 0; again < 2; ++again) {
    check(SPINDLE__LAUNCH(conformance::last_arriver, dim3(7), 64, 256, nullptr, partial.device, arrived.device, total.device),
          "launch");
    expect("fence_device: the last block reads what all wrote", total.read(),
           [](size_t i) { return 21 + 7.0 * (double)((i + 1) % 64); });
  }
}

void test_approximations() {
  std::vector<float> x;
  for (int i = -400; i <= 400; ++i) x.push_back((float)i * 0.319f);
  for (const float special : {0.0f, -0.0f, (float)INFINITY, (float)-INFINITY, 1.0f, 0.75f, 1.5f}) x.push_back(special);
  const int n = (int)x.size();
  Buffer<float> in(x), out(3 * x.size());
  check(SPINDLE__LAUNCH(conformance::approximations, dim3(1), 64, 0, nullptr, in.device, out.device, n), "launch");
  const std::vector<float> all = out.read();
  auto part = [&](int k) { return std::vector<float>(all.begin() + k * n, all.begin() + (k + 1) * n); };
  const double tiny = exp2(-126); /* below: flushed to 0 */
  expect(
      "ex2_approx", part(0),
      [&](size_t i) {
        const double y = exp2((double)x[i]);
        return y < tiny ? 0 : y;
      },
      exp2(-21));
  expect(
      "lg2_approx", part(1), [&](size_t i) { return log2(fabs((double)x[i])); }, exp2(-21), exp2(-21));
  expect(
      "rcp_approx", part(2), [&](size_t i) { return 1 / (double)x[i]; }, exp2(-22));
}

template <class T>
void test_packs(const char *name, Format f) {
  std::vector<float> x;
  for (uint32_t i = 0; i < 4096; ++i) x.push_back(bits_to_float(i * 1048573u)); /* all exponents, odd mantissas */
  for (uint32_t h = 0x3f80; h < 0x3f90; ++h) {                                  /* ties of bf16 and their neighbours */
    for (const uint32_t low : {0x7fffu, 0x8000u, 0x8001u}) x.push_back(bits_to_float(h << 16 | low));
  }
  for (int i = 0; i < 64; ++i) x.push_back((float)(i - 32) * 0x1p-26f), x.push_back(65472.0f + (float)i); /* around f16's ends */
  const int pairs = (int)x.size() / 2;
  Buffer<float> in(x);
  Buffer<uint32_t> out((size_t)pairs * 3);
  check(SPINDLE__LAUNCH(conformance::packs<T>, dim3(1), 64, 0, nullptr, in.device, out.device, pairs), "launch");
  const std::vector<uint32_t> all = out.read();
  std::vector<double> packed, back;
  for (size_t i = 0; i < (size_t)pairs; ++i) {
    packed.push_back(decode(all[3 * i] & 0xffff, f));
    packed.push_back(decode(all[3 * i] >> 16, f));
    back.push_back(bits_to_float(all[3 * i + 1]));
    back.push_back(bits_to_float(all[3 * i + 2]));
  }
  expect(std::string("pack ") + name, packed, [&](size_t i) { return round_to((double)x[i], f); });
  expect(std::string("unpack ") + name, back, [&](size_t i) { return packed[i]; });
}

void test_e4m3() {
  Buffer<uint32_t> out(256);
  check(SPINDLE__LAUNCH(conformance::e4m3, dim3(1), 64, 0, nullptr, out.device), "launch");
  std::vector<double> halves;
  for (const uint32_t w : out.read()) halves.push_back(decode(w & 0xffff, F16)), halves.push_back(decode(w >> 16, F16));
  expect("e4m3x2_to_f16x2, all codes", halves, [](size_t i) { return decode_e4m3((uint32_t)(i % 2 ? 255 - i / 2 : i / 2)); });
}

/* PTX ISA, cvt: .rn.satfinite to .e4m3x2. Halves of steps and their neighbours, small and large. */
void test_to_e4m3() {
  std::vector<float> x = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 464.0f, -1e30f, 1e-30f};
  for (uint32_t b = 0; b < 0x7e; ++b) {
    const float middle = (float)((decode_e4m3(b) + decode_e4m3(b + 1)) / 2);
    for (const float y : {nextafterf(middle, 0), middle, nextafterf(middle, 1e3f), (float)decode_e4m3(b)})
      x.push_back(b % 2 ? y : -y);
  }
  Buffer<float> in(x);
  Buffer<uint32_t> out(x.size() / 2);
  check(SPINDLE__LAUNCH(conformance::to_e4m3, dim3(1), 64, 0, nullptr, in.device, out.device, (int)(x.size() / 2)), "launch");
  std::vector<double> got;
  for (const uint32_t w : out.read()) got.push_back(decode_e4m3(w & 0xff)), got.push_back(decode_e4m3(w >> 8));
  expect("pack_e4m3x2", got, [&](size_t i) {
    const double y = x[i], step = exp2(std::max(floor(log2(fabs(y))), -6.0) - 3);
    return std::isnan(y) ? NAN : fabs(y) < 448 ? nearbyint(y / step) * step : copysign(448, y);
  });
}

}  // namespace

int main() {
  test_indices();
  test_shared_address();
  test_ldmatrix<false>(), test_ldmatrix_each<false>();
  test_ldmatrix<true>(), test_ldmatrix_each<true>();
  test_mma<spindle::bf16>("bf16"), test_mma<spindle::f16>("f16");
  test_cp_async<4>(), test_cp_async<8>(), test_cp_async<16>(), test_cp_async_groups();
  test_warp();
  test_barriers();
  test_loads_stores<uint16_t>("16 bits"), test_loads_stores<uint32_t>("32 bits"), test_loads_stores<float>("a float");
  test_loads_stores<uint2>("64 bits"), test_loads_stores<float2>("two floats");
  test_loads_stores<uint4>("128 bits"), test_loads_stores<float4>("four floats");
  test_atomics();
  test_approximations();
  test_packs<spindle::bf16>("bf16", BF16), test_packs<spindle::f16>("f16", F16);
  test_e4m3();
  test_to_e4m3();
  check(cudaDeviceSynchronize(), "at the end");
  printf(failures ? "%d failed\n" : "all as the manual says\n", failures);
  return failures != 0;
}
