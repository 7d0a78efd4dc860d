/* A small flash attention that uses the device layer as the real kernels do: bf16, head dim 64, causal, tiles of 64 x 64,
 * cp.async double buffering, swizzled tiles, ldmatrix, mma.sync, online softmax, O and LSE staged through shared memory. One
 * block has 64 query rows of one head, a warp 16 of them.
 *
 * Mutant != HEALTHY plants one bug. Mutants are what shows that the emulator finds bugs; test_attention.cu says who must be found
 * how.
 *
 * Protocol: key tile j lies in stage j % 2 and is copy group j (group 0 also has Q; past the last tile groups are empty). FULL:
 * wait for the group, then sync_block. FREE: sync_block after the last ldmatrix of a stage, before the copies of tile j + 2 are
 * issued. */
#ifndef EMULATOR_ATTENTION_CUH
#define EMULATOR_ATTENTION_CUH

#include "prim/prim.cuh"

namespace attention {

using namespace spindle;

enum Mutant {
  HEALTHY,
  NO_WAIT,             /* no cp_async_wait */
  WAIT_TOO_FEW,        /* one group too many left pending */
  NO_COMMIT,           /* the first group is not closed */
  NO_SYNC_FULL,        /* no barrier after the wait */
  NO_SYNC_FREE,        /* no barrier before a stage is filled again */
  NO_SYNC_EPILOGUE,    /* no barrier between writing and reading the staged O */
  NO_SYNC_WARP,        /* none between writing and reading the staged LSE */
  WRONG_SWIZZLE,       /* K is read with another swizzle than it is written with */
  NO_SWIZZLE,          /* none at all: right, but slow */
  MASK_OFF_BY_ONE,     /* a row does not see its own key */
  NO_ROW_GUARD,        /* copies read past the last row */
  NO_ZERO_FILL,        /* rows past the last are not copied, so not zeroed either */
  NO_RESCALE,          /* O keeps the scale of the maximum so far */
  NO_ROW_MAXIMUM,      /* a shuffle of the row maximum is missing */
  DIVERGENT_SHUFFLE,   /* half the lanes skip it */
  UNSET_ACCUMULATOR,   /* O is not zeroed */
  STORE_OUT_OF_BOUNDS, /* LSE goes one row too far */
  LDMATRIX_OUT_OF_BOUNDS,
  MISALIGNED_COPY,
  HALF_BARRIER, /* a barrier in a branch that one warp does not take */
  WRONG_BLOCK,  /* every second block computes the rows of the one before */
  MUTANTS
};

constexpr int D = 64, ROWS = 64, KEYS = 64, THREADS = 128;

struct Smem {             /* 41.25 KiB */
  bf16 q[ROWS][D];        /* later O */
  bf16 kv[2][2][KEYS][D]; /* [stage][K or V] */
  float lse[ROWS];
};

struct Params {
  const bf16 *q, *k, *v; /* [heads][n][D] */
  bf16 *o;
  float *lse; /* [heads][n], natural logarithm */
  int n;
  float scale_log2; /* softmax scale times log2(e) */
};

/* Byte offset of 16-byte chunk `chunk` of row `row` in a tile with rows of 128 bytes. */
template <int Mutant>
SPINDLE__DEVICE uint32_t swizzle(int row, int chunk) {
  return (uint32_t)(row * 128 + (Mutant == NO_SWIZZLE ? chunk : chunk ^ (row & 7)) * 16);
}

/* Copies rows [first, first + 64) of x[n][D] into a tile, rows past n as zeros. */
template <int Mutant>
SPINDLE__DEVICE void copy_tile(uint32_t tile, const bf16 *x, int first, int n) {
  SPINDLE__UNROLL
  for (int i = prim::thread_index(); i < 64 * 8; i += THREADS) {
    const int row = i / 8, chunk = i % 8;
    const bool valid = Mutant == NO_ROW_GUARD || first + row < n;
    if (Mutant == NO_ZERO_FILL && !valid) continue;
    const bf16 *from = x + (int64_t)(valid ? first + row : 0) * D + chunk * 8 + (Mutant == MISALIGNED_COPY ? 4 : 0);
    prim::cp_async<16>(tile + swizzle<Mutant>(row, chunk), from, valid ? 16 : 0);
  }
}

/* S = Q K^T for a warp's 16 rows. */
template <int Mutant>
SPINDLE__DEVICE void scores(float (&s)[8][4], const uint32_t (&q)[4][4], uint32_t k) {
  const int lane = prim::lane();
  SPINDLE__UNROLL
  for (int j = 0; j < 8; ++j) {
    SPINDLE__UNROLL
    for (int i = 0; i < 4; ++i) s[j][i] = 0.0f;
  }
  SPINDLE__UNROLL
  for (int step = 0; step < 4; step += 2) { /* 32 channels: four matrices of 8 keys x 8 channels */
    uint32_t rows[8], r[8][4], b[2][8][2];
    SPINDLE__UNROLL
    for (int j = 0; j < 8; ++j) {
      const int chunk = 2 * step + lane / 8;
      const int key = 8 * j + lane % 8 + (Mutant == LDMATRIX_OUT_OF_BOUNDS && j == 7 ? 4 * KEYS : 0);
      rows[j] = k + swizzle<Mutant>(key, Mutant == WRONG_SWIZZLE ? chunk ^ (lane & 4) : chunk);
    }
    prim::ldmatrix_each(r, rows);
    SPINDLE__UNROLL
    for (int j = 0; j < 8; ++j) {
      SPINDLE__UNROLL
      for (int i = 0; i < 4; ++i) b[i / 2][j][i % 2] = r[j][i];
    }
    prim::mma_each<bf16>(s, q[step], b[0]);
    prim::mma_each<bf16>(s, q[step + 1], b[1]);
  }
}

/* Keys a row must not see get -inf. */
template <int Mutant>
SPINDLE__DEVICE void mask(float (&s)[8][4], int first_row, int first_key, int n) {
  const int g = prim::lane() / 4, t = prim::lane() % 4;
  SPINDLE__UNROLL
  for (int j = 0; j < 8; ++j) {
    SPINDLE__UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + g + (i / 2) * 8, key = first_key + 8 * j + 2 * t + i % 2;
      if (key >= n || (Mutant == MASK_OFF_BY_ONE && row > 0 ? key >= row : key > row)) s[j][i] = -INFINITY;
    }
  }
}

/* One row half (h = 0: rows g, 1: rows g + 8) of the online softmax: s becomes p, packed for the second product. */
template <int Mutant>
SPINDLE__DEVICE void softmax(float (&s)[8][4], uint32_t (&p)[8][2], float (&o)[8][4], float &maximum, float &sum, int h,
                             float scale_log2) {
  float m = maximum;
  SPINDLE__UNROLL
  for (int j = 0; j < 8; ++j) m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
  if (Mutant != DIVERGENT_SHUFFLE || prim::lane() < 16) m = fmaxf(m, prim::shfl_xor(m, 1));
  if (Mutant != NO_ROW_MAXIMUM) m = fmaxf(m, prim::shfl_xor(m, 2));
  const float shift = m == -INFINITY ? 0.0f : m * scale_log2; /* else a row with no key so far gives inf - inf */
  const float rescale = prim::ex2_approx(maximum * scale_log2 - shift);
  maximum = m;
  sum *= rescale;
  SPINDLE__UNROLL
  for (int j = 0; j < 8; ++j) {
    const float first = prim::ex2_approx(s[j][2 * h] * scale_log2 - shift);
    const float second = prim::ex2_approx(s[j][2 * h + 1] * scale_log2 - shift);
    sum += first + second;
    p[j][h] = prim::pack<bf16>(first, second);
    if (Mutant == NO_RESCALE) continue;
    o[j][2 * h] *= rescale;
    o[j][2 * h + 1] *= rescale;
  }
}

/* O += P V. */
template <int Mutant>
SPINDLE__DEVICE void accumulate(float (&o)[8][4], const uint32_t (&p)[8][2], uint32_t v) {
  const int lane = prim::lane();
  SPINDLE__UNROLL
  for (int step = 0; step < 4; ++step) { /* 16 keys */
    const uint32_t a[4] = {p[2 * step][0], p[2 * step][1], p[2 * step + 1][0], p[2 * step + 1][1]};
    uint32_t rows[4], r[4][4], b[8][2];
    SPINDLE__UNROLL
    for (int j = 0; j < 4; ++j) rows[j] = v + swizzle<Mutant>(16 * step + lane % 16, 2 * j + lane / 16);
    prim::ldmatrix_trans_each(r, rows);
    SPINDLE__UNROLL
    for (int j = 0; j < 8; ++j) {
      b[j][0] = r[j / 2][j % 2 * 2];
      b[j][1] = r[j / 2][j % 2 * 2 + 1];
    }
    prim::mma_each<bf16>(o, a, b);
  }
}

/* Normalises, stages and stores. */
template <int Mutant>
SPINDLE__DEVICE void store(const Params &p, Smem &smem, float (&o)[8][4], const float (&maximum)[2], float (&sum)[2], int head,
                           int first_row) {
  const int lane = prim::lane(), g = lane / 4, t = lane % 4, warp_row = prim::warp() * 16;
  const uint32_t tile = prim::shared_address(smem.q);
  SPINDLE__UNROLL
  for (int h = 0; h < 2; ++h) {
    const int row = warp_row + g + 8 * h;
    sum[h] += prim::shfl_xor(sum[h], 1);
    sum[h] += prim::shfl_xor(sum[h], 2);
    const float inverse = 1.0f / sum[h];
    SPINDLE__UNROLL
    for (int j = 0; j < 8; ++j) {
      prim::st_shared(tile + swizzle<Mutant>(row, j) + (uint32_t)t * 4,
                      prim::pack<bf16>(o[j][2 * h] * inverse, o[j][2 * h + 1] * inverse));
    }
    if (t == 0) prim::st_shared(prim::shared_address(&smem.lse[row]), maximum[h] * p.scale_log2 * 0.69314718f + logf(sum[h]));
  }
  if (Mutant != NO_SYNC_WARP) prim::sync_warp();
  const int row = first_row + warp_row + lane + (Mutant == STORE_OUT_OF_BOUNDS ? 1 : 0);
  if (lane < 16 && first_row + warp_row + lane < p.n) {
    prim::st_global(p.lse + (int64_t)head * p.n + row, prim::ld_shared<float>(prim::shared_address(&smem.lse[warp_row + lane])));
  }
  if (Mutant != NO_SYNC_EPILOGUE) prim::sync_block();
  for (int i = prim::thread_index(); i < ROWS * 8; i += THREADS) {
    const int out = first_row + i / 8;
    if (out >= p.n) continue;
    uint4 *to = reinterpret_cast<uint4 *>(p.o + ((int64_t)head * p.n + out) * D + i % 8 * 8);
    prim::st_global(to, prim::ld_shared<uint4>(tile + swizzle<Mutant>(i / 8, i % 8)));
  }
}

template <int Mutant>
__global__ void __launch_bounds__(THREADS) kernel(Params p) {
  Smem &smem = prim::shared<Smem>();
  const int blocks = (p.n + ROWS - 1) / ROWS, head = prim::block_x() / blocks, own = prim::block_x() % blocks;
  const int block = Mutant == WRONG_BLOCK ? own & ~1 : own;
  const int first_row = block * ROWS, warp_row = prim::warp() * 16;
  const int tiles = block + 1, lane = prim::lane();
  const int64_t base = (int64_t)head * p.n * D;
  auto copy_keys = [&](int tile) {
    if (tile < tiles) {
      copy_tile<Mutant>(prim::shared_address(smem.kv[tile % 2][0]), p.k + base, tile * KEYS, p.n);
      copy_tile<Mutant>(prim::shared_address(smem.kv[tile % 2][1]), p.v + base, tile * KEYS, p.n);
    }
    if (Mutant != NO_COMMIT || tile) prim::cp_async_commit();
  };
  copy_tile<Mutant>(prim::shared_address(smem.q), p.q + base, first_row, p.n);
  copy_keys(0);

  uint32_t q[4][4];
  float o[8][4], maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
  for (int i = 0; i < 32 && Mutant != UNSET_ACCUMULATOR; ++i) o[i / 4][i % 4] = 0.0f;

  for (int tile = 0; tile < tiles; ++tile) {
    copy_keys(tile + 1);
    if (Mutant != NO_WAIT) prim::cp_async_wait<Mutant == WAIT_TOO_FEW ? 2 : 1>();
    if (Mutant != NO_SYNC_FULL && (Mutant != HALF_BARRIER || warp_row)) prim::sync_block();
    if (tile == 0) {
      uint32_t rows[4];
      SPINDLE__UNROLL
      for (int i = 0; i < 4; ++i)
        rows[i] = prim::shared_address(smem.q) + swizzle<Mutant>(warp_row + lane % 16, 2 * i + lane / 16);
      prim::ldmatrix_each(q, rows);
    }
    float s[8][4];
    uint32_t weights[8][2];
    scores<Mutant>(s, q, prim::shared_address(smem.kv[tile % 2][0]));
    if (tile == tiles - 1) mask<Mutant>(s, first_row + warp_row, tile * KEYS, p.n);
    softmax<Mutant>(s, weights, o, maximum[0], sum[0], 0, p.scale_log2);
    softmax<Mutant>(s, weights, o, maximum[1], sum[1], 1, p.scale_log2);
    accumulate<Mutant>(o, weights, prim::shared_address(smem.kv[tile % 2][1]));
    if (Mutant != NO_SYNC_FREE) prim::sync_block();
  }
  prim::cp_async_wait_all();
  store<Mutant>(p, smem, o, maximum, sum, head, first_row);
}

}  // namespace attention

#endif
