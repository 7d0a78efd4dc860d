/* One kernel a primitive, which writes what it observed. conformance.cu compares that with what the PTX ISA says. */
#ifndef EMULATOR_CONFORMANCE_CUH
#define EMULATOR_CONFORMANCE_CUH

#include "prim/prim.cuh"

namespace conformance {

using namespace spindle;

struct Tile {
  uint16_t at[4][8][8]; /* four 8x8 matrices */
};
struct Words {
  uint32_t at[64];
};

__global__ void indices(uint32_t *out) {
  uint32_t *mine = out + (prim::block_x() * prim::block_threads() + prim::thread_index()) * 4;
  mine[0] = (uint32_t)(prim::thread_index() | prim::block_threads() << 16);
  mine[1] = (uint32_t)(prim::warp() << 8 | prim::lane());
  mine[2] = (uint32_t)prim::block_x();
  mine[3] = (uint32_t)prim::grid_x();
}

__global__ void shared_address(uint32_t *out) {
  Words &words = prim::shared<Words>();
  const uint32_t base = prim::shared_address(&words);
  out[prim::lane()] = prim::shared_address(&words.at[prim::lane()]) - base;
  out[32 + prim::lane()] = base % 1024;
}

/* Element (matrix, row, column) of the tile has the value matrix * 64 + row * 8 + column. */
SPINDLE__DEVICE uint32_t fill(Tile &tile) {
  uint16_t *elements = &tile.at[0][0][0];
  for (int i = prim::lane(); i < 256; i += 32) elements[i] = (uint16_t)i;
  prim::sync_warp();
  return prim::shared_address(&tile);
}
template <bool Trans>
__global__ void ldmatrix(uint32_t *out) {
  const uint32_t row = fill(prim::shared<Tile>()) + (uint32_t)prim::lane() * 16;
  uint32_t r[4];
  if constexpr (Trans)
    prim::ldmatrix_trans(r, row);
  else
    prim::ldmatrix(r, row);
  for (int i = 0; i < 4; ++i) out[prim::lane() * 4 + i] = r[i];
}
template <bool Trans>
__global__ void ldmatrix_each(uint32_t *out) {
  const uint32_t base = fill(prim::shared<Tile>()), lane = (uint32_t)prim::lane();
  const uint32_t rows[2] = {base + lane * 16, base + (31 - lane) * 16};
  uint32_t r[2][4];
  if constexpr (Trans)
    prim::ldmatrix_trans_each(r, rows);
  else
    prim::ldmatrix_each(r, rows);
  for (int i = 0; i < 8; ++i) out[lane * 8 + (uint32_t)i] = r[i / 4][i % 4];
}

/* a [lane][4], b [lane][2], d [lane][4] in and out */
template <class T>
__global__ void mma(const uint32_t *a, const uint32_t *b, float *d) {
  uint32_t x[4], y[2];
  float z[4];
  for (int i = 0; i < 4; ++i) x[i] = a[prim::lane() * 4 + i];
  for (int i = 0; i < 2; ++i) y[i] = b[prim::lane() * 2 + i];
  for (int i = 0; i < 4; ++i) z[i] = d[prim::lane() * 4 + i];
  prim::mma<T>(z, x, y);
  for (int i = 0; i < 4; ++i) d[prim::lane() * 4 + i] = z[i];
}
/* The same with b and d of two column blocks, [block][lane][...]. */
template <class T>
__global__ void mma_each(const uint32_t *a, const uint32_t *b, float *d) {
  uint32_t x[4], y[2][2];
  float z[2][4];
  for (int i = 0; i < 4; ++i) x[i] = a[prim::lane() * 4 + i];
  for (int i = 0; i < 4; ++i) y[i / 2][i % 2] = b[(i / 2 * 32 + prim::lane()) * 2 + i % 2];
  for (int i = 0; i < 8; ++i) z[i / 4][i % 4] = d[(i / 4 * 32 + prim::lane()) * 4 + i % 4];
  prim::mma_each<T>(z, x, y);
  for (int i = 0; i < 8; ++i) d[(i / 4 * 32 + prim::lane()) * 4 + i % 4] = z[i / 4][i % 4];
}

/* Lane l copies l % (Bytes + 1) bytes of its word. */
template <int Bytes>
__global__ void cp_async(const unsigned char *in, unsigned char *out) {
  struct Map {
    alignas(16) unsigned char at[32][Bytes];
  };
  Map &map = prim::shared<Map>();
  const int lane = prim::lane();
  for (int i = 0; i < Bytes; ++i) map.at[lane][i] = 0xee;
  prim::cp_async<Bytes>(prim::shared_address(map.at[lane]), in + lane * Bytes, lane % (Bytes + 1));
  prim::cp_async_commit();
  prim::cp_async_wait<0>();
  for (int i = 0; i < Bytes; ++i) out[lane * Bytes + i] = map.at[lane][i];
}
/* Four groups, the third empty; after each wait, the words that must have landed. */
__global__ void cp_async_groups(const uint32_t *in, uint32_t *out) {
  struct Map {
    uint32_t at[5][32];
  };
  Map &map = prim::shared<Map>();
  const int lane = prim::lane();
  for (int i = 0; i < 3; ++i) {
    if (i == 2) prim::cp_async_commit();
    prim::cp_async<4>(prim::shared_address(&map.at[i][lane]), in + i * 32 + lane);
    prim::cp_async_commit();
  }
  prim::cp_async<4>(prim::shared_address(&map.at[3][lane]), in + 3 * 32 + lane);
  prim::cp_async_wait<3>();
  out[lane] = map.at[0][lane];
  prim::cp_async_wait<1>();
  out[32 + lane] = map.at[1][lane];
  prim::cp_async_wait<0>();
  out[64 + lane] = map.at[2][lane];
  prim::cp_async_wait_all();
  out[96 + lane] = map.at[3][lane];
}

__global__ void shuffles(uint32_t *out) {
  const uint32_t lane = (uint32_t)prim::lane();
  out[lane] = prim::shfl_xor(lane * 3, 5);
  out[32 + lane] = prim::as_bits(prim::shfl(prim::as_float(0x4b000000u + lane), (int)lane / 4));
  if (lane < 16) {
    out[64 + lane] = prim::shfl_xor(lane, 1, 0xffff);
  } else {
    out[64 + lane] = prim::shfl(lane, 17, 0xffff0000u);
  }
}
__global__ void votes(uint32_t *out) {
  const int lane = prim::lane();
  out[lane] = prim::ballot(lane % 3 == 0);
  out[32 + lane] = prim::any(lane == 7);
  out[64 + lane] = prim::any(lane > 99);
  if (lane % 2)
    out[96 + lane] = prim::ballot(lane > 8, 0xaaaaaaaau);
  else
    out[96 + lane] = 0;
}

__global__ void sync_warp(uint32_t *out) {
  Words &words = prim::shared<Words>();
  const int lane = prim::lane();
  words.at[lane] = (uint32_t)lane * 7;
  prim::sync_warp();
  out[lane] = words.at[lane ^ 9];
}
__global__ void sync_block(uint32_t *out) {
  Words &words = prim::shared<Words>();
  const int t = prim::thread_index();
  for (uint32_t round = 0; round < 3; ++round) {
    words.at[t] = round * 1000 + (uint32_t)t;
    prim::sync_block();
    out[round * 64 + (uint32_t)t] = words.at[63 - t];
    prim::sync_block();
  }
}
/* Warp 0 fills, warp 1 drains. */
__global__ void named_barriers(uint32_t *out) {
  Words &words = prim::shared<Words>();
  enum { FULL = 1, EMPTY = 2 };
  const int lane = prim::lane();
  for (int round = 0; round < 4; ++round) {
    if (prim::warp() == 0) {
      if (round) prim::bar_sync(EMPTY, 64);
      words.at[lane] = (uint32_t)(round * 100 + lane);
      prim::bar_arrive(FULL, 64);
    } else {
      prim::bar_sync(FULL, 64);
      out[round * 32 + lane] = words.at[lane ^ 3];
      if (round < 3) prim::bar_arrive(EMPTY, 64);
    }
  }
}

/* Each lane moves its 16 bytes through global and shared memory in units of T. */
template <class T>
__global__ void loads_stores(const T *in, T *out) {
  struct Map {
    alignas(16) unsigned char at[32][16];
  };
  constexpr int N = 16 / (int)sizeof(T);
  const uint32_t mine = prim::shared_address(prim::shared<Map>().at[prim::lane()]);
  const int first = prim::lane() * N;
  for (int i = 0; i < N; ++i) {
    prim::st_shared(mine + (uint32_t)(i * (int)sizeof(T)), prim::ld_global(in + first + i));
  }
  for (int i = 0; i < N; ++i) prim::st_global(out + first + i, prim::ld_shared<T>(mine + (uint32_t)(i * (int)sizeof(T))));
}

__global__ void atomics(uint32_t *word) { prim::atomic_inc(word, 99u); }
/* Every block writes a partial sum; the last to arrive adds them up. `arrived` is 0 again at the end. */
__global__ void last_arriver(float *partial, uint32_t *arrived, float *total) {
  Words &words = prim::shared<Words>();
  const int t = prim::thread_index(), blocks = prim::grid_x();
  partial[prim::block_x() * 64 + t] = (float)(prim::block_x() + t);
  prim::fence_device();
  prim::sync_block();
  if (t == 0) words.at[0] = prim::atomic_inc(arrived, (uint32_t)blocks - 1);
  prim::sync_block();
  if (words.at[0] != (uint32_t)blocks - 1) return;
  prim::fence_device();
  float sum = 0;
  for (int b = 0; b < blocks; ++b) sum += partial[b * 64 + (t + 1) % 64];
  total[t] = sum;
}

__global__ void approximations(const float *x, float *out, int n) {
  for (int i = prim::thread_index(); i < n; i += prim::block_threads()) {
    out[i] = prim::ex2_approx(x[i]);
    out[n + i] = prim::lg2_approx(fabsf(x[i]));
    out[2 * n + i] = prim::rcp_approx(x[i]);
  }
}
template <class T>
__global__ void packs(const float *x, uint32_t *out, int pairs) {
  for (int i = prim::thread_index(); i < pairs; i += prim::block_threads()) {
    const uint32_t two = prim::pack<T>(x[2 * i], x[2 * i + 1]);
    const float2 back = prim::unpack<T>(two);
    out[3 * i] = two;
    out[3 * i + 1] = prim::as_bits(back.x);
    out[3 * i + 2] = prim::as_bits(back.y);
  }
}
__global__ void e4m3(uint32_t *out) {
  const int t = prim::thread_index();
  for (int i = t; i < 256; i += prim::block_threads()) out[i] = prim::e4m3x2_to_f16x2((uint16_t)(i | (255 - i) << 8));
}
__global__ void to_e4m3(const float *x, uint32_t *out, int pairs) {
  for (int i = prim::thread_index(); i < pairs; i += prim::block_threads()) out[i] = prim::pack_e4m3x2(x[2 * i], x[2 * i + 1]);
}

}  // namespace conformance

#endif
