/* conformance.cu for the primitives of sm_90a:
 *
 *   nvcc -std=c++17 -gencode arch=compute_90a,code=sm_90a -Ikernels -Itests/emulator tests/emulator/conformance_sm90.cu -o
 * conformance_sm90 */
#include "conformance_sm90.cuh"

#include <cstdlib>
#include <map>
#include <thread>

#include "conformance_support.h"

namespace {

using namespace conformance;
namespace prim = spindle::prim;
using spindle::bf16;
using spindle::e4m3;
using spindle::f16;

void test_mbarriers() {
  Buffer<uint32_t> out(160);
  check(SPINDLE__LAUNCH(conformance::mbarriers, dim3(1), 64, 256, nullptr, out.device), "launch");
  expect("mbarrier_init, arrive, wait", out.read(), [](size_t i) { return (double)(i / 32 * 100 + (i % 32 ^ 3)); });
}

void test_warpgroup() {
  Buffer<uint32_t> threads(384);
  check(SPINDLE__LAUNCH(conformance::registers, dim3(1), 384, 0, nullptr, threads.device), "launch");
  expect("setmaxnreg_dec, setmaxnreg_inc", threads.read(), [](size_t i) { return (double)i * 3; });
}

/* ---- Tensor maps ----------------------------------------------------------------------------------------------------- */

/* PTX ISA, "Swizzling modes": which 16-byte chunk of row `row` (of the span) holds chunk `chunk`. */
size_t swizzled_chunk(size_t row, size_t chunk, prim::Swizzle mode) {
  switch (mode) {
    case prim::SWIZZLE_128B: return chunk ^ row % 8;
    case prim::SWIZZLE_64B: return chunk ^ row / 2 % 4;
    case prim::SWIZZLE_32B: return chunk ^ row / 4 % 2;
    default: return chunk;
  }
}

enum { RANK = 4 };
struct Case {
  uint64_t extent[RANK];
  uint32_t box[RANK];
  int at[RANK];
};

/* Index of a box's element in the tensor, -1 outside. Row pitch of the tensor: rows are padded by 16 bytes. */
template <class T>
long element_of(const Case &c, size_t i) {
  long index = 0, pitch = 1;
  for (int d = 0; d < RANK; ++d) {
    const long x = c.at[d] + (long)(i % c.box[d]);
    i /= c.box[d];
    if (x < 0 || x >= (long)c.extent[d]) return -1;
    index += x * pitch;
    pitch *= (long)c.extent[d];
    if (!d) pitch += 16 / (long)sizeof(T);
  }
  return index;
}

template <class T>
CUtensorMap encode_case(const Case &c, const T *base, prim::Swizzle mode, size_t *elements) {
  CUtensorMap map;
  uint64_t extent[RANK], stride[RANK - 1], bytes = c.extent[0] * sizeof(T) + 16;
  uint32_t box[RANK];
  for (int d = 0; d < RANK; ++d) {
    extent[d] = c.extent[d], box[d] = c.box[d];
    if (d) stride[d - 1] = bytes, bytes *= c.extent[d];
  }
  *elements = bytes / sizeof(T);
  if (base) check(prim::encode_tensor_map(&map, base, extent, stride, box, mode), "encode_tensor_map");
  return map;
}

/* Shared memory byte of the box's element i. */
template <class T>
size_t place_of(const Case &c, size_t i, prim::Swizzle mode) {
  const size_t row_bytes = c.box[0] * sizeof(T), row = i / c.box[0], byte = i % c.box[0] * sizeof(T);
  return row * row_bytes + swizzled_chunk(row, byte / 16, mode) * 16 + byte % 16;
}

template <class T>
void test_tensor(const char *name, const Case &c, prim::Swizzle mode) {
  size_t elements, inside = 1;
  encode_case<T>(c, nullptr, mode, &elements);
  std::vector<T> tensor(elements);
  for (size_t i = 0; i < elements; ++i) {
    const uint32_t value = (uint32_t)i * 2654435761u;
    memcpy(&tensor[i], &value, sizeof(T));
  }
  for (int d = 0; d < RANK; ++d) inside *= c.box[d];
  Buffer<T> global(tensor);
  const CUtensorMap map = encode_case<T>(c, global.device, mode, &elements);
  Box box = {{}, (uint32_t)(inside * sizeof(T))};
  memcpy(box.at, c.at, sizeof box.at);

  std::vector<unsigned char> expected(16384, 0xee);
  for (size_t i = 0; i < inside; ++i) {
    const long from = element_of<T>(c, i);
    unsigned char *to = &expected[place_of<T>(c, i, mode)];
    if (from < 0) {
      memset(to, 0, sizeof(T));
    } else {
      memcpy(to, &tensor[(size_t)from], sizeof(T));
    }
  }
  Buffer<uint32_t> out(4096);
  check(SPINDLE__LAUNCH(conformance::tma_load, dim3(1), 32, 16384 + 8, nullptr, map, box, out.device), "launch");
  const std::vector<uint32_t> words = out.read();
  const unsigned char *bytes = (const unsigned char *)words.data();
  expect(std::string("tma_load ") + name, std::vector<unsigned char>(bytes, bytes + 16384),
         [&](size_t i) { return (double)expected[i]; });
}

void test_tensors() {
  test_tensor<bf16>("no swizzle", {{40, 9, 1, 1}, {24, 5, 1, 1}, {3, 2, 0, 0}}, prim::SWIZZLE_NONE);
  test_tensor<bf16>("128B", {{96, 40, 1, 1}, {64, 32, 1, 1}, {16, 4, 0, 0}}, prim::SWIZZLE_128B);
  test_tensor<bf16>("64B", {{64, 40, 1, 1}, {32, 24, 1, 1}, {32, 1, 0, 0}}, prim::SWIZZLE_64B);
  test_tensor<bf16>("32B", {{64, 40, 1, 1}, {16, 40, 1, 1}, {16, 0, 0, 0}}, prim::SWIZZLE_32B);
  test_tensor<bf16>("past the end", {{96, 40, 1, 1}, {64, 16, 1, 1}, {64, 33, 0, 0}}, prim::SWIZZLE_128B);
  test_tensor<bf16>("before the start", {{96, 40, 1, 1}, {64, 16, 1, 1}, {-5, -3, 0, 0}}, prim::SWIZZLE_128B);
  test_tensor<f16>("wholly outside", {{64, 8, 1, 1}, {64, 8, 1, 1}, {0, 8, 0, 0}}, prim::SWIZZLE_128B);
  test_tensor<bf16>("in three dimensions", {{64, 10, 3, 1}, {64, 16, 2, 1}, {0, 3, 2, 0}}, prim::SWIZZLE_128B);
  test_tensor<bf16>("in four", {{64, 5, 4, 3}, {64, 3, 2, 2}, {0, -1, 2, 2}}, prim::SWIZZLE_128B);
  test_tensor<unsigned char>("of bytes", {{64, 5, 4, 3}, {64, 2, 2, 2}, {0, 1, -1, 1}}, prim::SWIZZLE_64B);
}

/* ---- Boxes of a cache ------------------------------------------------------------------------------------------------ */

/* [pages][rows][heads][channels], as caches lie: rows are further apart than heads, and the map is told of as many rows as an
 * extent counts, for how many there are is not its business. Channels past the last are zeros. */
struct Cache {
  int channels, heads, rows, pages;
};
size_t cache_index(const Cache &c, const conformance::BoxPlace &place, int row, int head, int channel) {
  return ((size_t)((place.page * c.rows + place.row + row) * c.heads + head)) * (size_t)c.channels + (size_t)channel;
}

template <class T, int Boxes, int Panels>
void test_boxes(const char *name, const Cache &c, int width, int box_rows, prim::Swizzle mode) {
  constexpr int HEAD = 1;
  const uint32_t row_bytes = (uint32_t)(width * (int)sizeof(T)), box_bytes = row_bytes * (uint32_t)box_rows;
  const uint64_t pitch = (uint64_t)c.channels * sizeof(T), row = pitch * (uint64_t)c.heads;
  std::vector<T> cache((size_t)(c.pages * c.rows * c.heads * c.channels));
  for (size_t i = 0; i < cache.size(); ++i) {
    const uint32_t value = (uint32_t)i * 2654435761u >> 7;
    memcpy(&cache[i], &value, sizeof(T));
  }
  std::vector<conformance::BoxPlace> places;
  for (int box = 0; box < Boxes; ++box) places.push_back({(box * 5 + 3) % (c.rows - box_rows + 1), (box * 2 + 1) % c.pages});

  Buffer<T> global(cache);
  Buffer<conformance::BoxPlace> at(places);
  Buffer<uint32_t> out(Boxes * Panels * box_bytes / 4);
  CUtensorMap map;
  check(
      prim::encode_tensor_map<T, 4>(&map, global.device, {(uint64_t)c.channels, INT32_MAX, (uint64_t)c.heads, (uint64_t)c.pages},
                                    {row, pitch, row * (uint64_t)c.rows}, {(uint32_t)width, (uint32_t)box_rows, 1, 1}, mode),
      "encode_tensor_map of a cache");
  check(SPINDLE__LAUNCH((conformance::tma_boxes<Boxes, Panels>), dim3(1), 64, 16384 + 1024, nullptr, map, at.device, HEAD, width,
                        box_bytes, out.device),
        "launch");

  const std::vector<uint32_t> words = out.read();
  std::vector<T> got(words.size() * 4 / sizeof(T)), expected(got.size());
  memcpy(got.data(), words.data(), words.size() * 4);
  for (int i = 0; i < Boxes * Panels * box_rows * width; ++i) {
    const int channel = i % width, line = i / width % box_rows, box = i / width / box_rows % Boxes,
              panel = i / width / box_rows / Boxes;
    const size_t byte = (size_t)channel * sizeof(T), to = (size_t)((panel * Boxes + box) * box_rows + line) * row_bytes +
                                                          swizzled_chunk((size_t)line, byte / 16, mode) * 16 + byte % 16;
    const bool inside = panel * width + channel < c.channels;
    expected[to / sizeof(T)] = inside ? cache[cache_index(c, places[(size_t)box], line, HEAD, panel * width + channel)] : T{};
  }
  expect(std::string("boxes of a cache, a lane each: ") + name,
         std::vector<unsigned char>((unsigned char *)got.data(), (unsigned char *)(got.data() + got.size())),
         [&](size_t i) { return (double)((unsigned char *)expected.data())[i]; });
}

void test_caches() {
  test_boxes<bf16, 4, 2>("16 rows of 64 channels", {128, 3, 40, 3}, 64, 16, prim::SWIZZLE_128B);
  test_boxes<f16, 1, 2>("64 rows", {128, 2, 70, 2}, 64, 64, prim::SWIZZLE_128B);
  test_boxes<bf16, 8, 3>("8 rows of 32 channels, 80 of 96 there", {80, 2, 30, 3}, 32, 8, prim::SWIZZLE_64B);
  test_boxes<bf16, 2, 1>("40 channels of 64 there", {40, 2, 64, 2}, 64, 32, prim::SWIZZLE_128B);
  test_boxes<e4m3, 4, 2>("bytes, no swizzle", {128, 3, 40, 3}, 64, 16, prim::SWIZZLE_NONE);
  test_boxes<e4m3, 4, 3>("bytes, 80 of 96 channels there", {80, 2, 40, 3}, 32, 8, prim::SWIZZLE_NONE);
}

/* The encoder wants a context; a thread that only makes maps has none yet. */
void test_fresh_thread() {
  Buffer<bf16> memory(4096);
  std::vector<int> got(1);
  std::thread fresh([&] {
    CUtensorMap map;
    got[0] = prim::encode_tensor_map<bf16, 2>(&map, memory.device, {64, 64}, {128}, {64, 16}, prim::SWIZZLE_128B);
  });
  fresh.join();
  expect("encode_tensor_map on a thread that has run nothing", got, [](size_t) { return (double)cudaSuccess; });
}

/* What the driver refuses. */
void test_refusals() {
  Buffer<bf16> memory(4096);
  const auto result = [&](size_t offset, uint64_t stride, uint32_t inner, uint32_t rows, prim::Swizzle mode) {
    CUtensorMap map;
    const uint64_t extent[2] = {64, 16}, strides[1] = {stride};
    const uint32_t box[2] = {inner, rows};
    return prim::encode_tensor_map(&map, memory.device + offset, extent, strides, box, mode);
  };
  const std::vector<int> got = {result(0, 128, 64, 16, prim::SWIZZLE_128B),  result(4, 128, 64, 16, prim::SWIZZLE_128B),
                                result(0, 136, 64, 16, prim::SWIZZLE_128B),  result(0, 128, 128, 16, prim::SWIZZLE_128B),
                                result(0, 128, 64, 257, prim::SWIZZLE_128B), result(0, 128, 64, 0, prim::SWIZZLE_128B),
                                result(0, 128, 4, 16, prim::SWIZZLE_NONE),   result(0, 128, 64, 256, prim::SWIZZLE_128B)};
  expect("encode_tensor_map: misaligned base, stride, inner box past the span, box of 257 or 0 rows, of 8 bytes", got,
         [](size_t i) { return i == 0 || i == 7 ? (double)cudaSuccess : (double)cudaErrorInvalidValue; });
}

/* ---- wgmma ----------------------------------------------------------------------------------------------------------- */

/* Small whole numbers: every sum is exact. */
double a_at(size_t row, size_t k) { return (double)((row * 7 + k * 3) % 11) - 5; }
double b_at(size_t k, size_t column) { return (double)((k * 5 + column * 2) % 9) - 4; }
double c_at(size_t row, size_t column) { return (double)(row * 100 + column); }

template <class T>
uint16_t bits_of(double x) {
  static std::map<double, uint16_t> known; /* encode searches */
  const auto found = known.find(x);
  const Format f = std::is_same_v<T, bf16> ? BF16 : std::is_same_v<T, f16> ? F16 : E4M3;
  return found != known.end() ? found->second : known[x] = (uint16_t)encode(x, f);
}

/* PTX ISA, "Register fragments and shared memory matrix layouts", D of m64nNk16: warp w holds rows 16 w to 16 w + 15; there as
 * mma.m16n8k16's C for every 8 columns. */
size_t d_row(size_t thread, size_t i) { return thread / 32 * 16 + thread % 32 / 4 + (i % 4 < 2 ? 0 : 8); }
size_t d_column(size_t thread, size_t i) { return i / 4 * 8 + thread % 4 * 2 + i % 2; }

std::vector<float> c_fragments(size_t n) {
  std::vector<float> c(128 * n / 2);
  for (size_t i = 0; i < c.size(); ++i) c[i] = (float)c_at(d_row(i / (n / 2), i % (n / 2)), d_column(i / (n / 2), i % (n / 2)));
  return c;
}
/* Elements of a k-step. */
template <class T>
constexpr size_t STEP = 32 / sizeof(T);

double product(size_t n, size_t depth, size_t i, bool with_c) {
  const size_t row = d_row(i / (n / 2), i % (n / 2)), column = d_column(i / (n / 2), i % (n / 2));
  double sum = with_c ? c_at(row, column) : 0;
  for (size_t k = 0; k < depth; ++k) sum += a_at(row, k) * b_at(k, column);
  return sum;
}

/* A picture of shared memory with element (i, j) where the manual's "Canonical layouts" put it: `line` is the index of whole rows
 * of the span (i in K-major: rows of A or columns of B; k in MN-major), `along` runs within it; panels of a span's width lie
 * `leading` apart. Without swizzle: core matrices of 8 lines of 16 bytes, `stride` and `leading` apart, which is which depending
 * on the order. */
size_t canonical(size_t line, size_t along_bytes, prim::Swizzle mode, prim::Major order, size_t leading, size_t stride) {
  if (mode == prim::SWIZZLE_NONE) {
    const size_t by_line = order == prim::K_MAJOR ? stride : leading, by_along = order == prim::K_MAJOR ? leading : stride;
    return line / 8 * by_line + along_bytes / 16 * by_along + line % 8 * 16 + along_bytes % 16;
  }
  const size_t span = mode == prim::SWIZZLE_128B ? 128 : mode == prim::SWIZZLE_64B ? 64 : 32;
  const size_t panel = along_bytes / span, byte = along_bytes % span;
  return panel * leading + line / 8 * stride + line % 8 * span + swizzled_chunk(line, byte / 16, mode) * 16 + byte % 16;
}
template <class T, class L>
std::vector<uint4> image(size_t lines, size_t length, prim::Major order, double (*at)(size_t line, size_t along)) {
  std::vector<uint4> picture(L::BYTES / 16);
  for (size_t line = 0; line < lines; ++line) {
    for (size_t along = 0; along < length; ++along) {
      const uint16_t bits = bits_of<T>(at(line, along));
      memcpy((char *)picture.data() + canonical(line, along * sizeof(T), L::SWIZZLE, order, L::LEADING, L::STRIDE), &bits,
             sizeof(T));
    }
  }
  return picture;
}
double b_transposed(size_t column, size_t k) { return b_at(k, column); }

template <class T, int N, prim::Swizzle Mode>
void test_ss(const char *name) {
  constexpr uint32_t SPAN = prim::swizzle_span(Mode), NONE = Mode == prim::SWIZZLE_NONE;
  constexpr int STEPS = NONE ? 1 : (int)SPAN / 32;
  using A = Layout<Mode, NONE ? 128 : 16, NONE ? 256 : 8 * SPAN, 32, 64 * 32 * STEPS>;
  using B = Layout<Mode, NONE ? 128 : 16, NONE ? 256 : 8 * SPAN, 32, N * 32 * STEPS>;
  Buffer<uint4> a(image<T, A>(64, STEP<T> * STEPS, prim::K_MAJOR, a_at)),
      b(image<T, B>(N, STEP<T> * STEPS, prim::K_MAJOR, b_transposed));
  Buffer<float> d(c_fragments(N));
  const auto kernel = conformance::wgmma_ss<T, N, STEPS, A, B>;
  constexpr size_t BYTES = sizeof(OperandMap<A, B>);
  check(prim::allow_shared(kernel, BYTES), "allow_shared");
  check(SPINDLE__LAUNCH(kernel, dim3(1), 128, BYTES, nullptr, a.device, b.device, d.device), "launch");
  expect("wgmma SS, n = " + std::to_string(N) + ", " + name, d.read(),
         [](size_t i) { return product(N, STEP<T> * STEPS, i, true); });
}

/* Two k-steps in MN-major, as many as a row has in K-major. */
template <class T, int N, prim::Swizzle Mode, prim::Major Order>
void test_rs(const char *name) {
  constexpr uint32_t SPAN = prim::swizzle_span(Mode), NONE = Mode == prim::SWIZZLE_NONE;
  constexpr int STEPS = Order == prim::MN_MAJOR ? 2 : NONE ? 1 : (int)SPAN / 32;
  constexpr uint32_t MN_LEADING = NONE ? N / 8 * 128 : 16 * STEPS * SPAN, MN_STRIDE = NONE ? 128 : 8 * SPAN;
  using MnMajor = Layout<Mode, MN_LEADING, MN_STRIDE, NONE ? 2 * MN_LEADING : 16 * SPAN, N * 32 * STEPS>;
  using KMajor = Layout<Mode, NONE ? 128 : 16, NONE ? 256 : 8 * SPAN, 32, N * 32 * STEPS>;
  using B = std::conditional_t<Order == prim::MN_MAJOR, MnMajor, KMajor>;
  std::vector<uint32_t> fragments;
  for (size_t thread = 0; thread < 128; ++thread) {
    for (size_t i = 0; i < 4 * STEPS; ++i) { /* as mma.m16n8k16's A, m16n8k32's for 8 bits; 16 rows a warp */
      constexpr size_t IN_REGISTER = 4 / sizeof(T);
      const size_t row = thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
      const size_t k = i / 4 * STEP<T> + thread % 4 * IN_REGISTER + i % 4 / 2 * STEP<T> / 2;
      uint32_t bits = 0;
      for (size_t e = IN_REGISTER; e-- > 0;) bits = bits << 32 / IN_REGISTER | bits_of<T>(a_at(row, k + e));
      fragments.push_back(bits);
    }
  }
  Buffer<uint32_t> a(fragments);
  Buffer<uint4> b(Order == prim::MN_MAJOR ? image<T, B>(16 * STEPS, N, Order, b_at)
                                          : image<T, B>(N, STEP<T> * STEPS, Order, b_transposed));
  std::vector<float> c = c_fragments(N);
  c.resize(2 * c.size());
  Buffer<float> d(c);
  const auto kernel = conformance::wgmma_rs<T, N, STEPS, B, Order>;
  constexpr size_t BYTES = sizeof(OperandMap<Layout<prim::SWIZZLE_NONE, 16, 16, 0, 16>, B>);
  check(prim::allow_shared(kernel, BYTES), "allow_shared");
  check(SPINDLE__LAUNCH(kernel, dim3(1), 128, BYTES, nullptr, a.device, b.device, d.device), "launch");
  expect(std::string("wgmma RS, n = ") + std::to_string(N) + (Order == prim::MN_MAJOR ? ", MN-major, " : ", K-major, ") + name,
         d.read(), [](size_t i) { return product(N, STEP<T> * STEPS, i % (64 * N), i < 64 * N); });
}

void test_wgmma() {
  test_ss<bf16, 64, prim::SWIZZLE_128B>("bf16 128B"), test_ss<f16, 64, prim::SWIZZLE_128B>("f16 128B");
  test_ss<bf16, 96, prim::SWIZZLE_64B>("bf16 64B"), test_ss<f16, 128, prim::SWIZZLE_32B>("f16 32B");
  test_ss<bf16, 80, prim::SWIZZLE_NONE>("bf16, no swizzle"), test_ss<bf16, 8, prim::SWIZZLE_128B>("bf16 128B");
  test_ss<bf16, 176, prim::SWIZZLE_128B>("bf16 128B"), test_ss<bf16, 192, prim::SWIZZLE_128B>("bf16 128B");
  test_ss<bf16, 256, prim::SWIZZLE_128B>("bf16 128B"), test_ss<f16, 256, prim::SWIZZLE_64B>("f16 64B");
  test_rs<bf16, 64, prim::SWIZZLE_128B, prim::K_MAJOR>("bf16 128B"),
      test_rs<f16, 128, prim::SWIZZLE_128B, prim::K_MAJOR>("f16 128B");
  test_rs<bf16, 64, prim::SWIZZLE_128B, prim::MN_MAJOR>("bf16 128B"),
      test_rs<f16, 128, prim::SWIZZLE_128B, prim::MN_MAJOR>("f16 128B");
  test_rs<bf16, 96, prim::SWIZZLE_64B, prim::MN_MAJOR>("bf16 64B"),
      test_rs<bf16, 80, prim::SWIZZLE_32B, prim::MN_MAJOR>("bf16 32B");
  test_rs<bf16, 128, prim::SWIZZLE_NONE, prim::MN_MAJOR>("bf16, no swizzle");
  test_rs<bf16, 192, prim::SWIZZLE_128B, prim::MN_MAJOR>("bf16 128B");
  test_ss<e4m3, 64, prim::SWIZZLE_128B>("e4m3 128B"), test_ss<e4m3, 128, prim::SWIZZLE_64B>("e4m3 64B");
  test_rs<e4m3, 96, prim::SWIZZLE_128B, prim::K_MAJOR>("e4m3 128B"), test_rs<e4m3, 64, prim::SWIZZLE_NONE, prim::K_MAJOR>("e4m3");
}

}  // namespace

int main() {
  setenv("SPINDLE_EMULATED_ARCH", "90", 1); /* a GPU does not mind */
  test_mbarriers();
  test_warpgroup();
  test_tensors();
  test_caches();
  test_fresh_thread();
  test_refusals();
  test_wgmma();
  check(cudaDeviceSynchronize(), "at the end");
  printf(failures ? "%d failed\n" : "all as the manual says\n", failures);
  return failures != 0;
}
