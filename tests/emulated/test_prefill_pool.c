/* Masks and remaps of tiny chunks cut a text into tiles of a row or two, with more segments than the plan's pool has room for:
 * then the run makes them itself. */
#include <criterion/criterion.h>

#include "support/halves.h"
#include "support/methods.h"
#include "support/prepared.h"

static const spindle_shape shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64};

static int32_t made_by_prepare, made_by_the_run;
static void count_tiles(const spindle_plan *plan) {
  spindle__state state = test_prepared(plan);
  const spindle__work *work = &state.requests[0].work;
  made_by_prepare = made_by_the_run = 0;
  for (int32_t tile = 0; tile < work->num_tiles; tile++)
    *(state.tile_segments[work->first_tile + tile].count[0] < 0 ? &made_by_the_run : &made_by_prepare) += 1;
}

/* A pool has 4 segments a full tile, and 48. Three rows of S2 x chunks x DCA may need all of that. */
Test(prefill_pool, has_no_room) {
  test_random r = test_random_start();
  for (int32_t k = 0; k < 3; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .inspect = count_tiles, .random = &r};
    spindle_position p = {.rope = SPINDLE_ROPE_DEFAULT,
                          .remap = SPINDLE_REMAP_DCA,
                          .remap_chunk = 7 + k,
                          .remap_local = 2,
                          .chunk = 50 + k,
                          .s2_group = 20};
    test_request q = test_request_make(&r, &shape, p, 120, 130, 1);
    if (k == 2) setup.split_keys = 40;
    test_halves(test_method_name(&p), &setup, &q, 1);
    cr_assert(made_by_prepare > 0 && made_by_the_run > 0, "%d tiles have segments, %d have none", made_by_prepare,
              made_by_the_run);
    test_request_free(&q);
  }
}
