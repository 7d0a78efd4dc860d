/* Rules that depend on n, over one cache of raw keys: decode of a token is the last row of one prefill call over the same K, V
 * and n, and both are what the reference says, however n has grown and shrunk before. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>
#include <string.h>

#include "support/methods.h"
#include "support/paged.h"

enum { HEADS = 4, DIM = 64, LONGEST = 230 };

static const spindle_shape shape = {
    .q_dtype = SPINDLE_BF16, .o_dtype = SPINDLE_F32, .num_q_heads = HEADS, .num_kv_heads = 2, .head_dim_qk = DIM};

/* Request 0: all rows of so many keys. Request 1: the last one again. Both under slot 0. */
static void set_length(test_paged *p, int32_t keys, int64_t n) {
  test_paged_batch *b = p->batch;
  const size_t row = HEADS * DIM * sizeof(uint16_t);
  for (int32_t x = 0; x < 2; x++) {
    b->q_begin[x] = x ? LONGEST : 0;
    b->q_len[x] = x ? 1 : keys;
    b->q_index[x] = x ? keys - 1 : 0;
    b->kv_len[x] = keys;
    b->n[x] = n;
    b->position[x] = 0;
  }
  memcpy((char *)p->args.q.data + LONGEST * row, (char *)p->args.q.data + (size_t)(keys - 1) * row, row);
}

static void check_last_row(const char *what, const test_paged *p, int32_t keys) {
  for (int32_t h = 0; h < HEADS; h++) {
    float last[DIM], decode[DIM], last_lse, decode_lse;
    test_paged_row(p, (int64_t)(keys - 1) * HEADS + h, last, &last_lse);
    test_paged_row(p, (int64_t)LONGEST * HEADS + h, decode, &decode_lse);
    /* The same rotated operands: but weights are rounded to bf16 under other maxima. */
    test_close(what, decode, last, 1, 1, DIM, 4e-3);
    test_close(what, &decode_lse, &last_lse, 1, 1, 1, 1e-5);
  }
}

/* Past the trained length (96), where LongRoPE switches, the extended one (192), and back; or told another n, as chunks of a
 * prefill are. */
Test(dynamic_rules, growing_and_shrinking) {
  static const int32_t lengths[] = {1, 95, 128, 96, 97, 50, 192, 193, LONGEST, 150, 97, 40, 96, 3};
  test_random r = test_random_start();
  const bool is_slow = emulator_sees_plain_accesses() || !emulator_catches_faults();
  const test_setup setup = {.shape = shape};
  test_paged p = test_paged_open(&r, &setup);
  int64_t slot[LONGEST];
  for (int32_t s = 0; s < LONGEST; s++) slot[s] = s;
  test_paged_append(&p, &r, slot, LONGEST);
  for (int32_t x = 0; x < 2; x++)
    for (int32_t e = 0; e * TEST_PAGED_PAGE < LONGEST; e++)
      test_paged_entry(&p, x, e, e, 0, TEST_PAGED_PAGE, e * TEST_PAGED_PAGE);
  for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++) {
    if (!test_rule_has_n(rope)) continue;
    test_paged_set(&p, 0, test_rule(rope, DIM));
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
      const int64_t n = l % 3 == 2 ? test_random_log(&r, 1, 2000) : lengths[l];
      char what[60];
      if (is_slow && lengths[l] > 97) continue;
      snprintf(what, sizeof what, "rope %d, %d keys, n %lld", rope, lengths[l], (long long)n);
      set_length(&p, lengths[l], n);
      test_paged_check(what, &p);
      check_last_row(what, &p, lengths[l]);
    }
  }
  test_paged_close(&p);
}
