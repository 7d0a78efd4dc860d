/* Where keys lie: pages of any size, shuffled in a pool, tables of any kind, spans with holes, gaps in the text, one page at two
 * positions, shards. Every slot that holds no key holds NaN. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/halves.h"
#include "support/layer.h"
#include "support/methods.h"

/* Keys as they come, or with gaps between them, for which there is no dense form. */
static void check_pages(test_random *r, int32_t page_size, bool gaps) {
  test_layer l;
  test_layer_draw(r, &l);
  l.setup.page_size = page_size;
  l.setup.spans = gaps;
  spindle_position p = test_any_method(r, l.setup.shape.rotary_dim);
  p.s2_wrap = 0;
  test_request q = test_layer_request(r, &l, p);
  int64_t *index = malloc((size_t)q.kv_len * sizeof *index), next = q.kv_index;
  for (int32_t s = 0; s < q.kv_len; s++) {
    next += test_random_once_in(r, 20) ? test_random_log(r, 1, 1000) : 0;
    index[s] = next++;
  }
  if (gaps) {
    q.key_index = index;
    q.q_index = test_random_int(r, next - q.kv_len / 2, next);
    q.n = 0;
  }
  test_halves(test_layer_describe(&l, &q), &l.setup, &q, 1);
  test_request_free(&q);
  free(index);
}

Test(prefill_pages, of_any_size) {
  test_random r = test_random_start();
  static const int32_t sizes[] = {1, 3, 16, 64, 128, 500};
  for (int32_t k = 0; k < 24; k++) check_pages(&r, sizes[k % 6], k / 6 % 2);
}

/* The keys at indices of shard `rank` of `count`: each rank knows the true indices, and their parts make up the whole. */
Test(prefill_pages, shards) {
  test_random r = test_random_start();
  enum { RANKS = 3, KEYS = 200, SIZE = 16 };
  for (int32_t rank = 0; rank < RANKS; rank++) {
    test_layer l;
    test_layer_draw(&r, &l);
    l.setup.spans = false;
    l.setup.partial = true;
    l.setup.shard_size = SIZE;
    l.setup.shard_count = RANKS;
    l.setup.shard_rank = rank;
    spindle_position p = test_any_method(&r, l.setup.shape.rotary_dim);
    p.s2_wrap = 0;
    test_request q = test_layer_request(&r, &l, p);
    q.q_index = q.kv_index + test_random_int(&r, 0, (int64_t)q.kv_len * RANKS);
    test_halves(test_layer_describe(&l, &q), &l.setup, &q, 1);
    test_request_free(&q);
  }
}
