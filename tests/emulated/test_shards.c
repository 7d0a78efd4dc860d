/* Context parallelism: ranks hold parts of a request's keys, contiguous or dealt out token by token, and their partial results
 * are the whole's, merged by spindle_combine or scaled by spindle_combine_scale and summed. Learned sinks count once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/again.h"
#include "support/halves.h"
#include "support/methods.h"
#include "support/mirror.h"

enum { RANKS = 4, HEADS = 4, KV_HEADS = 2, DIM = 64, MOST_ROWS = 25, ROW = HEADS * DIM };

static const spindle_shape shape = {
    .q_dtype = SPINDLE_BF16, .o_dtype = SPINDLE_F32, .num_q_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim_qk = DIM};
static const float sinks[HEADS] = {1, -1, 6, 0};

/* What all ranks have, one after the other. */
typedef struct parts {
  float o[RANKS * MOST_ROWS * ROW], lse[RANKS * MOST_ROWS * HEADS];
} parts;

/* Keys of the rank, of size tokens at a time; size 0: one slice. */
static test_request shard_of(const test_request *whole, int32_t rank, int32_t size) {
  const size_t row = KV_HEADS * DIM;
  const int32_t slice = (whole->kv_len + RANKS - 1) / RANKS;
  test_request part = test_request_copy(whole, &shape);
  part.kv_len = 0;
  for (int32_t j = 0; j < whole->kv_len; j++) {
    if ((size ? j / size % RANKS : j / slice) != rank) continue;
    if (!size && !part.kv_len) part.kv_index += j;
    memcpy(part.k + (size_t)part.kv_len * row, whole->k + (size_t)j * row, row * sizeof *part.k);
    memcpy(part.v + (size_t)part.kv_len++ * row, whole->v + (size_t)j * row, row * sizeof *part.v);
  }
  return part;
}

static void run_ranks(test_setup setup, const test_request *whole, int32_t size, parts *p) {
  setup.partial = true;
  if (size) {
    setup.shard_count = RANKS;
    setup.shard_size = size;
  }
  for (int32_t rank = 0; rank < RANKS; rank++) {
    test_request part = shard_of(whole, rank, size);
    setup.shard_rank = size ? rank : 0;
    test_attend(&setup, &part, 1);
    memcpy(p->o + rank * whole->q_len * ROW, part.o, (size_t)(whole->q_len * ROW) * sizeof *part.o);
    memcpy(p->lse + rank * whole->q_len * HEADS, part.lse, (size_t)(whole->q_len * HEADS) * sizeof *part.lse);
    test_request_free(&part);
  }
}

/* The call on every rank's behalf, if scaled: each scales its own part, and the sum is the whole. */
static void merge(parts *p, int32_t rows, const float *sink_logits, bool scaled, test_request *out) {
  static float o[MOST_ROWS * ROW];
  const size_t o_bytes = (size_t)(rows * ROW) * sizeof *o, lse_bytes = (size_t)(rows * HEADS) * sizeof *o;
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  spindle_context *context;
  test_ok(spindle_context_create(&context, &options));
  memset(out->o, 0, o_bytes);
  for (int32_t own = 0; own < (scaled ? RANKS : 1); own++) {
    test_mirror m = test_mirror_open(context);
    spindle_combine_args a = {.struct_size = sizeof a,
                              .parts = RANKS,
                              .rows = rows,
                              .num_q_heads = HEADS,
                              .head_dim_v = DIM,
                              .own_part = own,
                              .part_o_stride = rows * ROW,
                              .part_lse_stride = rows * HEADS};
    a.part_o.data = test_mirror_in(&m, p->o + own * rows * ROW, scaled ? o_bytes : RANKS * o_bytes);
    a.part_lse.data = test_mirror_in(&m, p->lse, RANKS * lse_bytes);
    a.o.data = test_mirror_out(&m, o, o_bytes);
    a.lse.data = test_mirror_out(&m, out->lse, lse_bytes);
    a.sink_logits = test_mirror_in(&m, sink_logits, sizeof sinks);
    test_ok(scaled ? spindle_combine_scale(context, &a, NULL) : spindle_combine(context, &a, NULL));
    test_mirror_fetch(&m, NULL);
    test_mirror_close(&m);
    for (int32_t x = 0; x < rows * ROW; x++) out->o[x] += o[x];
  }
  spindle_context_destroy(context);
}

/* One token, a few speculated ones, a prefill. */
static void check(test_random *r, int32_t rows, int32_t size, const float *sink_logits) {
  static parts p;
  static const int32_t pages[] = {0, 16, 5}, splits[] = {0, 0, 70};
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                      .shape = shape,
                      .page_size = pages[test_random_int(r, 0, 2)],
                      .split_keys = splits[test_random_int(r, 0, 2)],
                      .random = r,
                      .args = {.sink_logits = sink_logits}};
  test_setup oracle = {.backend = SPINDLE_BACKEND_REFERENCE, .shape = shape, .args = setup.args};
  spindle_position position = test_any_method(r, DIM);
  position.s2_wrap = 0;
  test_request whole = test_request_make(r, &shape, position, rows, (int32_t)test_random_int(r, 200, 600), 1);
  if (test_random_once_in(r, 2)) whole.kv_index = test_random_int(r, 0, 1000000007);
  test_request_at_end(&whole);
  test_request got = test_request_copy(&whole, &shape);
  char text[300];
  test_attend(&oracle, &whole, 1);
  run_ranks(setup, &got, size, &p);
  for (int scaled = 0; scaled < 2; scaled++) {
    snprintf(text, sizeof text, "%d rows, shards of %d tokens, pages of %d, %s%s: %.150s", rows, size, setup.page_size,
             scaled ? "scaled" : "combined", sink_logits ? ", sinks" : "", test_method_name(&position));
    merge(&p, rows, sink_logits, scaled, &got);
    test_halves_close(text, &setup, &got, &whole);
  }
  test_request_free(&whole);
  test_request_free(&got);
}

Test(shards, are_the_whole) {
  test_random r = test_random_start();
  static const int32_t sizes[] = {0, 1, 16, 7}, rows[] = {1, 5, MOST_ROWS};
  for (int32_t round = 0; round < (test_again() ? 12 : 24); round++)
    check(&r, rows[round % 3], sizes[round / 3 % 4], round % 2 ? sinks : NULL);
}
