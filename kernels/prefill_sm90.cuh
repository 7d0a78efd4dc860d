/* Attention of many query rows on Hopper (TMA, wgmma, setmaxnreg): sm_90a.
 *
 * Work. As prefill_sm80.cuh: a block takes items (128 packed query rows, perhaps a part of the keys) until there are none, and
 * walks the segments of each in tiles of KEYS slots. One block an SM, three warpgroups. The first produces: it takes items, makes
 * each next step, and brings Q, K and V to shared memory; the others consume, 64 rows each, with O in registers until the item is
 * stored. FlashAttention-3 (Shah et al. 2024, arXiv:2407.08608) with positions applied on the way.
 *
 * Per tile of 128 keys at D = 128: both products 2048 clk of the tensor cores, K and V read from shared memory by both consumers
 * 1024 clk, exponentials and the rest of the softmax about 1050 issue slots a scheduler. So the tensor cores are the floor. A
 * consumer's softmax runs behind its own second product, and behind the other's both (ping-pong).
 *
 * Positions. Q is copied as it is for each segment; the consumers rotate their rows in shared memory and take them to registers
 * (D = 256, and softcap and bias, leave none: there wgmma reads Q from shared memory), after which the producer may bring the
 * next segment's. Keys of a raw cache are pre-rotated (read from scratch like rotated ones), or the producer rotates each tile in
 * place between its landing and its release to the consumers. Both have the bits of rotate.cuh.
 *
 * Copies. A tile in which every slot holds a key comes by TMA: one box a panel, or, from pages, boxes of up to 64 rows. Other
 * tiles (the last of a request, holes, pages that boxes do not fit) come by cp.async, in which rows without a key are zeros: 0 x
 * NaN would reach the output.
 *
 * The producer's own time. What one warp does between two tiles takes it several clk an instruction, so it must be little: 2048
 * clk at D = 128, and 1024 at D = 64, are what a tile has. Where boxes lie is found 32 at a time (boxes.cuh), and whole tiles
 * that stay as they come are brought by each warp at its own pace: one brings K, one V, one finds boxes, one says what all
 * consumers want to know of the tile's columns. Counted (tests/budgets/latency.py): 670 clk a tile for K or for V, 790 from pages
 * of 64, 550 for the columns. Tiles that are worked on are brought by the warps together.
 *
 * K and V of e4m3 (e4m3.cuh) land as they are, and the producer expands them before it releases them, K to T and then rotated if
 * need be, V to f16. At D = 128 that takes it 1170 (K) and 680 clk a tile, counted, and some 600 to begin the next: 2450.
 * Pre-rotated keys are T already. Rotation takes each of its warps 1090 instructions; but in the loop that is for few rows.
 *
 * Protocol. Every mbarrier's turn n ends phase n; consumers wait for full_* of turn n, the producer for empty_* of the turn
 * before.
 *   full_work, empty_work [2]   steps of items: arrivals of 4 producer warps / 8 consumer warps
 *   full_q, empty_q             4 / 8
 *   landed_k [K_STAGES]         1 and the bytes: raw keys that the producer rotates
 *   full_k, empty_k [K_STAGES]  4 and the bytes, if they come by TMA and stay as they are (one warp arrives for three) / 8
 *   landed_v [V_STAGES]         1 and the bytes: e4m3
 *   full_v, empty_v [V_STAGES]  4 and the bytes, unless it is e4m3 / 8
 * Columns of tile n lie in keys[n % (K_STAGES + 1)]: written when K of turn n - K_STAGES is free, and then the softmax of turn n
 * - K_STAGES - 1 is done. What threads write to shared memory and wgmma reads has their fence_proxy_async before they arrive.
 * Named barriers: 1 + w the threads of warpgroup w; 4 and 5 the consumers' turns at the tensor cores.
 *
 * Registers: Tile::PRODUCER and CONSUMER a thread (sm90_tile.cuh); D = 128: O 64, S 64, P 32, Q 32. No spills and no serialised
 * wgmma (tests/budgets): the second needs a loop over tiles that is followed by little control flow, so a consumer's steps are
 * not an else-if chain. Numerics: as prefill_sm80.cuh. */
#ifndef SPINDLE_KERNELS_PREFILL_SM90_CUH
#define SPINDLE_KERNELS_PREFILL_SM90_CUH

#include "sm90_consumer.cuh"
#include "sm90_producer.cuh"

namespace spindle {

template <class T, class E, int D, int DV, Scores S>
SPINDLE__DEVICE void run_prefill_sm90(const Sm90Params &params) {
  using Tile = Sm90Tile<D, DV, S>;
  Sm90Smem<D, DV, S> &smem = prim::shared<Sm90Smem<D, DV, S>>();
  if (prim::thread_index() == 0) {
    const auto init = [](uint64_t &barrier, uint32_t arrivals) { prim::mbarrier_init(address(barrier), arrivals); };
    for (int i = 0; i < 2; ++i) init(smem.full_work[i], 4), init(smem.empty_work[i], 8);
    for (int i = 0; i < Tile::K_STAGES; ++i) init(smem.landed_k[i], 1), init(smem.full_k[i], 4), init(smem.empty_k[i], 8);
    for (int i = 0; i < Tile::V_STAGES; ++i) init(smem.landed_v[i], 1), init(smem.full_v[i], 4), init(smem.empty_v[i], 8);
    init(smem.full_q, 4), init(smem.empty_q, 8);
    Sm90Work<Tile::ROWS> &before = smem.work[1]; /* the first step comes after what ends an item */
    before.step = Step::STORE;
    before.number = ~0u;
    before.turn = before.queries = 0;
    smem.k_map = &params.boxes.k;
    smem.v_map = &params.boxes.v;
    smem.rotated_map = &params.rotated;
    prim::fence_mbarrier_init();
    if (params.boxes.rows) prim::prefetch_tensor_map(params.boxes.k), prim::prefetch_tensor_map(params.boxes.v);
    if (params.attention.rotated) prim::prefetch_tensor_map(params.rotated);
  }
  prim::sync_block();
  if (Warpgroup::number() == 0) {
    prim::setmaxnreg_dec<Tile::PRODUCER>();
    const Sm90Producer<T, E, D, DV, S> producer(params);
    producer.run();
  } else {
    prim::setmaxnreg_inc<Tile::CONSUMER>();
    Sm90Consumer<T, E, D, DV, S> consumer(params);
    consumer.run();
  }
}

template <class T, int D, int DV, Scores S>
__global__ void __launch_bounds__(Sm90Tile<D, DV, S>::THREADS, 1) prefill_sm90(const __grid_constant__ Sm90Params params) {
  run_prefill_sm90<T, T, D, DV, S>(params);
}

/* K and V of e4m3. */
template <class T, int D, int DV, Scores S>
__global__ void __launch_bounds__(Sm90Tile<D, DV, S>::THREADS, 1) prefill_sm90_e4m3(const __grid_constant__ Sm90Params params) {
  run_prefill_sm90<T, e4m3, D, DV, S>(params);
}

}  // namespace spindle

#endif
