// ldmatrix and mma, for N matrices a rendezvous. Fragment layouts are those of kernels/prim/matrix.cuh.
#include <cstring>

#include "core.h"
#include "formats.h"
#include "prim_runtime.h"
#include "shadow.h"
#include "vectors.h"

namespace emulator {

constexpr int MAX_EACH = 32;

// ---- ldmatrix ---------------------------------------------------------------------------------------------------------

struct LoadMatrix {
  uint32_t *r;           // [each][4]
  const uint32_t *rows;  // [each]
  int each;
  bool trans;
};

static void load_row(Fiber *lane, uint32_t address, uint16_t *row, Site site, uint32_t warp_read) {
  memset(row, 0xff, 16);
  if (!shared_valid(lane, address, 16, 16, site, "ldmatrix")) return;
  shared_read(lane, address, 16, site, "ldmatrix", warp_read);
  memcpy(row, lane->block->arena + address, 16);
}

static void execute_ldmatrix(Block &block, int warp, Rendezvous &at) {
  const LoadMatrix &all = *(LoadMatrix *)at.argument[0];
  Fiber *lanes = &block.fibers[(size_t)warp * WARP];
  const uint32_t read = begin_warp_read(block, warp);
  for (int i = 0; i < all.each; ++i) {
    for (int m = 0; m < 4; ++m) {
      uint16_t row[8][8];
      uint32_t address[8];
      for (int r = 0; r < 8; ++r) {
        address[r] = ((LoadMatrix *)at.argument[8 * m + r])->rows[i];
        load_row(lanes + 8 * m + r, address[r], row[r], at.site, read);
      }
      count_matrix_rows(block, address, at.site);
      for (int l = 0; l < WARP; ++l) {
        const int g = l / 4, t = l % 4;
        const uint16_t first = all.trans ? row[2 * t][g] : row[g][2 * t];
        const uint16_t second = all.trans ? row[2 * t + 1][g] : row[g][2 * t + 1];
        ((LoadMatrix *)at.argument[l])->r[i * 4 + m] = first | (uint32_t)second << 16;
      }
    }
  }
  block.counters[SiteKey(at.site.file, at.site.line)].instructions += (uint64_t)all.each;
}

void ldmatrix(uint32_t *r, const uint32_t *rows, int each, bool trans, const char *file, int line) {
  LoadMatrix x = {r, rows, each, trans};
  rendezvous(execute_ldmatrix, ALL, &x, {file, line, nullptr});
}

// ---- mma --------------------------------------------------------------------------------------------------------------

struct Multiply {
  float *d;               // [each][4]
  const uint32_t *a, *b;  // [4], [each][2]
  int each;
};

template <bool Bf16>
static void widen(uint32_t two, float *first, float *second) {
  *first = Bf16 ? bf16_to_float((uint16_t)two) : f16_to_float((uint16_t)two);
  *second = Bf16 ? bits_float(two & 0xffff0000u) : f16_to_float((uint16_t)(two >> 16));
}

// Fragments of one lane into or out of the matrices; B and D are n = 8 each columns wide.
template <bool Bf16>
static void gather(const Multiply &x, int lane, float *a, float *b, float *d) {
  const int g = lane / 4, t = lane % 4, n = 8 * x.each;
  for (int i = 0; i < 4; ++i) {
    float *to = a + (g + (i & 1) * 8) * 16 + 2 * t + (i >> 1) * 8;
    widen<Bf16>(x.a[i], to, to + 1);
  }
  for (int j = 0; j < x.each; ++j) {
    for (int i = 0; i < 2; ++i) {
      float *to = b + (2 * t + 8 * i) * n + 8 * j + g;
      widen<Bf16>(x.b[2 * j + i], to, to + n);
    }
    for (int i = 0; i < 4; ++i) d[(g + (i >> 1) * 8) * n + 8 * j + 2 * t + (i & 1)] = x.d[4 * j + i];
  }
}

static void scatter(const Multiply &x, int lane, const float *d) {
  const int g = lane / 4, t = lane % 4, n = 8 * x.each;
  for (int j = 0; j < x.each; ++j) {
    for (int i = 0; i < 4; ++i) x.d[4 * j + i] = d[(g + (i >> 1) * 8) * n + 8 * j + 2 * t + (i & 1)];
  }
}

template <bool Bf16>
static void execute_mma(Block &block, int, Rendezvous &at) {
  alignas(32) float a[16 * 16], b[16 * 8 * MAX_EACH], d[16 * 8 * MAX_EACH];
  const int each = ((Multiply *)at.argument[0])->each;
  for (int l = 0; l < WARP; ++l) gather<Bf16>(*(Multiply *)at.argument[l], l, a, b, d);
  multiply(d, a, b, 16, 8 * each, 16);
  for (int l = 0; l < WARP; ++l) scatter(*(Multiply *)at.argument[l], l, d);
  block.work.mma += (uint64_t)each;
}

void mma(float *d, const uint32_t *a, const uint32_t *b, int each, bool is_bf16, const char *file, int line) {
  for (int done = 0; done < each; done += MAX_EACH) {
    Multiply x = {d + 4 * done, a, b + 2 * done, each - done < MAX_EACH ? each - done : MAX_EACH};
    rendezvous(is_bf16 ? execute_mma<true> : execute_mma<false>, ALL, &x, {file, line, nullptr});
  }
}

}  // namespace emulator
