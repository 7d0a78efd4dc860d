/* Query heads on KV heads in any ratio, whole and cut in two halves by S2: the heads that a block works on are one KV head's. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "support/halves.h"
#include "support/methods.h"

#define COUNT(list) ((int)(sizeof list / sizeof *list))

/* Among them groups that the halves of S2 cut in the middle (an odd number of KV heads), and some larger than a tile of rows. */
Test(head_groups, of_any_ratio) {
  test_random r = test_random_start();
  static const int32_t heads[][2] = {{8, 8}, {8, 4}, {12, 4}, {6, 3}, {20, 5}, {12, 1}, {14, 7}, {150, 1}, {274, 2}, {258, 3}};
  for (int32_t k = 0; k < COUNT(heads); k++)
    for (int32_t x = 0; x < 4; x++) {
      const int32_t rows = x / 2 ? 1 : 20, mask = x % 2 ? 4 : 0; /* 4: S2 */
      test_setup setup = {
          .backend = SPINDLE_BACKEND_CUDA,
          .shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = heads[k][0], .num_kv_heads = heads[k][1], .head_dim_qk = 64}};
      test_request q = test_request_make(&r, &setup.shape, test_mask(test_rule(SPINDLE_ROPE_DEFAULT, 64), mask), rows, 100, 1);
      char text[60];
      snprintf(text, sizeof text, "heads %d/%d, %d rows, %s", heads[k][0], heads[k][1], rows, mask ? "S2" : "causal");
      test_halves(text, &setup, &q, 1);
      test_request_free(&q);
    }
}
