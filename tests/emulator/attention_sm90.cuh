/* attention.cuh the Hopper way: bf16, head dim 128, causal; a block has 128 query rows of one head. Of its three warpgroups the
 * first loads K and V by TMA, the others have 64 rows each, which they copy themselves: S = Q K^T from shared memory, P V with P
 * in registers and V as it lies, rows = keys. The product of the next tile runs behind the softmax of this one.
 *
 * Mutant != HEALTHY plants one bug; test_attention_sm90.cu says who must be found how.
 *
 * Protocol: key tile j lies in stage j % 2 and is turn j / 2 of that stage. full_k and full_v end a turn when the producer has
 * announced its bytes and they have landed; consumers wait with parity turn % 2. empty_k and empty_v end it when the 8 consumer
 * warps are done reading; the producer waits for the turn before, parity turn % 2 ^ 1, which passes at once for turn 0.
 * Registers: 168 a thread at launch, the producer keeps 40, consumers get 232. */
#ifndef EMULATOR_ATTENTION_SM90_CUH
#define EMULATOR_ATTENTION_SM90_CUH

#include "prim/prim.cuh"

namespace attention_sm90 {

using namespace spindle;

enum Mutant {
  HEALTHY,
  NO_FULL_WAIT,       /* K is read without waiting for it */
  WRONG_PARITY,       /* of the wait for V */
  ONE_WARP_WAITS,     /* for V, and the others go on */
  NO_EMPTY_WAIT,      /* the producer does not wait for a free stage */
  HALF_THE_BYTES,     /* are announced */
  NO_BYTES,           /* announced at all: arrives only */
  TOO_MANY_ARRIVALS,  /* expected at empty_k */
  EARLY_RELEASE,      /* V's stage is given back before its product is done */
  NO_INIT_FENCE,      /* between mbarrier_init and TMA */
  NO_INIT_SYNC,       /* between mbarrier_init and the others */
  NO_WGMMA_FENCE,     /* before P V */
  NO_WGMMA_COMMIT,    /* of the last P V */
  NO_WGMMA_WAIT,      /* for the last P V */
  WAIT_TOO_FEW,       /* S is used while one group too many may be under way */
  EARLY_PACK,         /* P changes while P V reads it */
  EARLY_RESCALE,      /* O changes while P V adds to it */
  MISSING_WARP,       /* one warp skips P V */
  WRONG_SWIZZLE,      /* in the descriptor of K */
  WRONG_STRIDE,       /* in the descriptor of K */
  WRONG_LEADING,      /* in the descriptor of V */
  NOT_TRANSPOSED,     /* V as if it were K-major */
  NO_ADVANCE,         /* every k-step reads the first 16 channels */
  MISALIGNED_TILE,    /* K begins 512 bytes late */
  WRONG_COORDINATE,   /* V one row late */
  NO_PROXY_FENCE,     /* between copying Q and multiplying it */
  NO_QUERY_BARRIER,   /* there neither */
  TOO_MANY_REGISTERS, /* 8 more than there are */
  MASK_OFF_BY_ONE,
  MUTANTS
};

constexpr int D = 128, ROWS = 128, KEYS = 64, STAGES = 2, THREADS = 384, WIDTH = 64; /* columns of a swizzled panel */

template <int Rows>
struct Tile {
  alignas(1024) bf16 panel[D / WIDTH][Rows][WIDTH];
};
struct Smem { /* 97 KiB */
  Tile<ROWS> q;
  Tile<KEYS> k[STAGES], v[STAGES];
  uint64_t full_k[STAGES], full_v[STAGES], empty_k[STAGES], empty_v[STAGES];
  uint64_t spare[56]; /* for a mutant that moves a tile up */
};

struct Params {
  CUtensorMap k, v; /* boxes of KEYS rows of a panel */
  const bf16 *q;    /* [heads][n][D], as are K, V and O */
  bf16 *o;
  float *lse; /* [heads][n], natural logarithm */
  int n;
  float scale_log2; /* softmax scale times log2(e) */
};

template <class T>
SPINDLE__DEVICE uint32_t at(const T &object) {
  return prim::shared_address(&object);
}

/* Both panels of a tile from row `row` of a head. */
SPINDLE__DEVICE void load(const Tile<KEYS> &tile, const CUtensorMap &map, int row, int head, uint32_t full, uint32_t shift = 0) {
  SPINDLE__UNROLL
  for (int p = 0; p < D / WIDTH; ++p) prim::tma_load(at(tile.panel[p]) + shift, map, {p * WIDTH, row, head, 0}, full);
}

template <int Mutant>
SPINDLE__DEVICE void produce(Smem &smem, const Params &p, int head, int tiles) {
  constexpr uint32_t BYTES = sizeof(Tile<KEYS>), ANNOUNCED = Mutant == HALF_THE_BYTES ? BYTES / 2 : BYTES;
  prim::prefetch_tensor_map(p.k);
  for (int j = 0; j < tiles; ++j) {
    const int stage = j % STAGES;
    const uint32_t before = (uint32_t)(j / STAGES & 1) ^ 1;
    if (Mutant != NO_EMPTY_WAIT) prim::mbarrier_wait(at(smem.empty_k[stage]), before);
    if (Mutant == NO_BYTES) {
      prim::mbarrier_arrive(at(smem.full_k[stage]));
    } else {
      prim::mbarrier_arrive_expect_tx(at(smem.full_k[stage]), ANNOUNCED);
    }
    load(smem.k[stage], p.k, j * KEYS, head, at(smem.full_k[stage]), Mutant == MISALIGNED_TILE ? 512 : 0);
    prim::mbarrier_wait(at(smem.empty_v[stage]), before);
    prim::mbarrier_arrive_expect_tx(at(smem.full_v[stage]), BYTES);
    load(smem.v[stage], p.v, j * KEYS + (Mutant == WRONG_COORDINATE ? 1 : 0), head, at(smem.full_v[stage]));
  }
}

/* The warpgroup's 64 rows of Q, zeros past the last. Threads write what wgmma reads: each fences what it wrote. */
template <int Mutant>
SPINDLE__DEVICE void copy_queries(const Smem &smem, const Params &p, int first_row, int head, int group) {
  for (int i = prim::thread_index() % 128; i < 64 * D / 8; i += 128) {
    const int row = i / (D / 8), chunk = i % (D / 8), from = first_row + row < p.n ? first_row + row : 0;
    const uint32_t offset = prim::swizzled((uint32_t)(row * 128 + chunk % 8 * 16), prim::SWIZZLE_128B);
    prim::cp_async<16>(at(smem.q.panel[chunk / 8][64 * group]) + offset, p.q + ((int64_t)head * p.n + from) * D + 8 * chunk,
                       first_row + row < p.n ? 16 : 0);
  }
  prim::cp_async_wait_all();
  if (Mutant != NO_PROXY_FENCE) prim::fence_proxy_async();
  if (Mutant != NO_QUERY_BARRIER) prim::bar_sync(1 + group, 128);
}

/* S = Q K^T for the warpgroup's 64 rows: 8 k-steps of 16 channels, 4 a panel. A group of its own. */
template <int Mutant>
SPINDLE__DEVICE void scores(float (&s)[KEYS / 8][4], const Smem &smem, int group, int stage) {
  constexpr uint32_t STRIDE = Mutant == WRONG_STRIDE ? 512 : 1024;
  constexpr prim::Swizzle MODE = Mutant == WRONG_SWIZZLE ? prim::SWIZZLE_64B : prim::SWIZZLE_128B;
  prim::wgmma_fence(s);
  SPINDLE__UNROLL
  for (int step = 0; step < D / 16; ++step) {
    const uint32_t along = Mutant == NO_ADVANCE ? 0 : (uint32_t)step % 4 * 32;
    const uint64_t q = prim::matrix_descriptor<prim::SWIZZLE_128B, 16, 1024>(at(smem.q.panel[step / 4][64 * group]));
    const uint64_t k = prim::matrix_descriptor<MODE, 16, STRIDE>(at(smem.k[stage].panel[step / 4]));
    prim::wgmma<bf16>(s, prim::advance_descriptor(q, along), prim::advance_descriptor(k, along), step != 0);
  }
  prim::wgmma_commit();
}

/* O += P V, 16 keys a step. V's rows are keys: MN-major, panels of 64 channels. */
template <int Mutant>
SPINDLE__DEVICE void accumulate(float (&o)[D / 8][4], uint32_t (&p)[KEYS / 16][4], const Smem &smem, int stage) {
  constexpr prim::Major ORDER = Mutant == NOT_TRANSPOSED ? prim::K_MAJOR : prim::MN_MAJOR;
  constexpr uint32_t PANEL = Mutant == WRONG_LEADING ? 1024 : KEYS * WIDTH * 2;
  if (Mutant != NO_WGMMA_FENCE) prim::wgmma_fence(o, p);
  SPINDLE__UNROLL
  for (int step = 0; step < KEYS / 16; ++step) {
    const uint64_t v = prim::matrix_descriptor<prim::SWIZZLE_128B, PANEL, 1024>(at(smem.v[stage].panel[0][16 * step]));
    prim::wgmma<bf16, ORDER>(o, p[step], v, true);
  }
}

/* Keys a row must not see get -inf. */
template <int Mutant>
SPINDLE__DEVICE void mask(float (&s)[KEYS / 8][4], int first_row, int first_key, int n) {
  const int g = prim::lane() / 4, t = prim::lane() % 4;
  SPINDLE__UNROLL
  for (int j = 0; j < KEYS / 8; ++j) {
    SPINDLE__UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + g + i / 2 * 8, key = first_key + 8 * j + 2 * t + i % 2;
      if (key >= n || key > row + (Mutant == MASK_OFF_BY_ONE ? 1 : 0)) s[j][i] = -INFINITY;
    }
  }
}

/* The online softmax of both row halves: s becomes the weights; `rescale` is what O so far has to be multiplied with. */
SPINDLE__DEVICE void softmax(float (&s)[KEYS / 8][4], float (&maximum)[2], float (&sum)[2], float (&rescale)[2],
                             float scale_log2) {
  SPINDLE__UNROLL
  for (int h = 0; h < 2; ++h) {
    float m = maximum[h];
    SPINDLE__UNROLL
    for (int j = 0; j < KEYS / 8; ++j) m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
    m = fmaxf(m, prim::shfl_xor(m, 1));
    m = fmaxf(m, prim::shfl_xor(m, 2));
    const float shift = m == -INFINITY ? 0.0f : m * scale_log2;
    rescale[h] = prim::ex2_approx(maximum[h] * scale_log2 - shift);
    maximum[h] = m;
    sum[h] *= rescale[h];
    SPINDLE__UNROLL
    for (int j = 0; j < KEYS / 8; ++j) {
      SPINDLE__UNROLL
      for (int i = 2 * h; i < 2 * h + 2; ++i) sum[h] += s[j][i] = prim::ex2_approx(s[j][i] * scale_log2 - shift);
    }
  }
}

SPINDLE__DEVICE void pack(uint32_t (&p)[KEYS / 16][4], const float (&s)[KEYS / 8][4]) {
  SPINDLE__UNROLL
  for (int i = 0; i < KEYS / 4; ++i) p[i / 4][i % 4] = prim::pack<bf16>(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
}

SPINDLE__DEVICE void scale(float (&o)[D / 8][4], const float (&by)[2]) {
  SPINDLE__UNROLL
  for (int i = 0; i < D / 2; ++i) o[i / 4][i % 4] *= by[i % 4 / 2];
}

SPINDLE__DEVICE void store(const Params &p, float (&o)[D / 8][4], const float (&maximum)[2], float (&sum)[2], int head,
                           int first_row) {
  const int lane = prim::lane(), g = lane / 4, t = lane % 4, warp_row = prim::warp() % 4 * 16;
  float inverse[2];
  SPINDLE__UNROLL
  for (int h = 0; h < 2; ++h) {
    sum[h] += prim::shfl_xor(sum[h], 1);
    sum[h] += prim::shfl_xor(sum[h], 2);
    inverse[h] = 1.0f / sum[h];
    const int row = first_row + warp_row + g + 8 * h;
    if (t == 0 && row < p.n)
      prim::st_global(p.lse + (int64_t)head * p.n + row, maximum[h] * p.scale_log2 * 0.69314718f + logf(sum[h]));
  }
  scale(o, inverse);
  SPINDLE__UNROLL
  for (int i = 0; i < D / 4; ++i) {
    const int j = i / 2, row = first_row + warp_row + g + i % 2 * 8;
    bf16 *const to = p.o + ((int64_t)head * p.n + row) * D + 8 * j + 2 * t;
    if (row < p.n) prim::st_global((uint32_t *)to, prim::pack<bf16>(o[j][i % 2 * 2], o[j][i % 2 * 2 + 1]));
  }
}

template <int Mutant>
SPINDLE__DEVICE void consume(Smem &smem, const Params &p, int first_row, int head, int tiles, int group) {
  const int warp_row = first_row + prim::warp() % 4 * 16;
  const auto release = [&](uint64_t &empty) {
    if (prim::lane() == 0) prim::mbarrier_arrive(at(empty));
  };
  const auto turn = [&](int j) { return (uint32_t)(j / STAGES & 1); };
  const auto wait_v = [&](int j) {
    if (Mutant == ONE_WARP_WAITS && prim::warp() % 4) return;
    prim::mbarrier_wait(at(smem.full_v[j % STAGES]), turn(j) ^ (Mutant == WRONG_PARITY ? 1 : 0));
  };
  float s[KEYS / 8][4], o[D / 8][4], maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f}, rescale[2];
  uint32_t weights[KEYS / 16][4];
  SPINDLE__UNROLL
  for (int i = 0; i < D / 2; ++i) o[i / 4][i % 4] = 0.0f;

  copy_queries<Mutant>(smem, p, first_row, head, group);
  prim::mbarrier_wait(at(smem.full_k[0]), 0);
  scores<Mutant>(s, smem, group, 0);
  prim::wgmma_wait<0>(s);
  release(smem.empty_k[0]);
  mask<Mutant>(s, warp_row, 0, p.n);
  softmax(s, maximum, sum, rescale, p.scale_log2);
  pack(weights, s);

  for (int j = 0; j + 1 < tiles; ++j) {
    const int stage = j % STAGES, next = (j + 1) % STAGES;
    if (Mutant != NO_FULL_WAIT) prim::mbarrier_wait(at(smem.full_k[next]), turn(j + 1));
    scores<Mutant>(s, smem, group, next);
    wait_v(j);
    if (Mutant != MISSING_WARP || prim::warp() != 5) accumulate<Mutant>(o, weights, smem, stage);
    prim::wgmma_commit();
    if (Mutant == EARLY_RELEASE) release(smem.empty_v[stage]);
    prim::wgmma_wait<Mutant == WAIT_TOO_FEW ? 2 : 1>(s);
    release(smem.empty_k[next]);
    mask<Mutant>(s, warp_row, (j + 1) * KEYS, p.n);
    softmax(s, maximum, sum, rescale, p.scale_log2);
    if (Mutant == EARLY_PACK) pack(weights, s);
    if (Mutant == EARLY_RESCALE) scale(o, rescale);
    prim::wgmma_wait<0>(o);
    if (Mutant != EARLY_RELEASE) release(smem.empty_v[stage]);
    if (Mutant != EARLY_RESCALE) scale(o, rescale);
    if (Mutant != EARLY_PACK) pack(weights, s);
  }
  wait_v(tiles - 1);
  accumulate<Mutant>(o, weights, smem, (tiles - 1) % STAGES);
  if (Mutant != NO_WGMMA_COMMIT) prim::wgmma_commit();
  if (Mutant != NO_WGMMA_WAIT) prim::wgmma_wait<0>(o);
  store(p, o, maximum, sum, head, first_row);
}

template <int Mutant>
__global__ void __launch_bounds__(THREADS, 1) kernel(const __grid_constant__ Params p) {
  Smem &smem = prim::shared<Smem>();
  const int blocks = (p.n + ROWS - 1) / ROWS, head = prim::block_x() / blocks, role = prim::warp() / 4;
  const int first_row = prim::block_x() % blocks * ROWS;
  const int keys = min(first_row + ROWS, p.n), tiles = (keys + KEYS - 1) / KEYS;
  if (prim::thread_index() == 0) {
    for (int i = 0; i < STAGES; ++i) {
      prim::mbarrier_init(at(smem.full_k[i]), 1);
      prim::mbarrier_init(at(smem.full_v[i]), 1);
      prim::mbarrier_init(at(smem.empty_k[i]), Mutant == TOO_MANY_ARRIVALS ? 9 : 8);
      prim::mbarrier_init(at(smem.empty_v[i]), 8);
    }
    if (Mutant != NO_INIT_FENCE) prim::fence_mbarrier_init();
  }
  if (Mutant != NO_INIT_SYNC) prim::sync_block();
  if (role == 0) {
    prim::setmaxnreg_dec<40>();
    if (prim::thread_index() == 0) produce<Mutant>(smem, p, head, tiles);
  } else {
    prim::setmaxnreg_inc<Mutant == TOO_MANY_REGISTERS ? 240 : 232>();
    consume<Mutant>(smem, p, first_row + 64 * (role - 1), head, tiles, role - 1);
  }
}

}  // namespace attention_sm90

#endif
