/* The cpu backend against the float64 oracle: methods, storage, dtypes and shapes at random. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/methods.h"

/* A rotation is good to 1e-6, so a score q k s is to 1e-6 |q| |k| s, where |q| |k| is about D; O moves by twice that and |v|. A
 * narrow O rounds once more, and the two may fall to different sides. */
static double tolerance_of(const test_setup *setup, const test_request *request) {
  spindle_shape s = test_shape(setup->shape);
  double scale = setup->args.scale ? fabs((double)setup->args.scale) : 1 / sqrt(s.head_dim_qk);
  double row_scale = request->position.row_scale ? 5 : 1; /* at most, as drawn below */
  double farthest = (double)(request->q_index + request->q_len - request->kv_index);
  double bias = !s.bias ? 0 : s.bias == SPINDLE_BIAS_KERPLE_POWER ? 0.5 * pow(farthest, 1.5) : 0.5 * farthest;
  return 1e-5 + 2e-6 * s.head_dim_qk * scale * row_scale + 0x1p-23 * bias +
         (s.o_dtype == SPINDLE_F32 ? 0 : 16 * test_unit_roundoff(s.o_dtype));
}

static void run_both(test_setup setup, test_request *requests, int32_t count, const char *what) {
  test_request *oracle = malloc((size_t)count * sizeof *oracle);
  for (int32_t r = 0; r < count; r++) oracle[r] = test_request_copy(&requests[r], &setup.shape);
  setup.backend = SPINDLE_BACKEND_REFERENCE;
  test_attend(&setup, oracle, count);
  setup.backend = SPINDLE_BACKEND_CPU;
  test_attend(&setup, requests, count);
  spindle_shape s = test_shape(setup.shape);
  for (int32_t r = 0; r < count; r++) {
    char text[600];
    const test_request *q = &requests[r];
    snprintf(text, sizeof text,
             "%s: request %d of %d, %d rows of index %lld over %d keys from %lld, heads %d:%d, dims %d %d, rotary %d+%d, %s",
             what, r, count, q->q_len, (long long)q->q_index, q->kv_len, (long long)q->kv_index, s.num_q_heads, s.num_kv_heads,
             s.head_dim_qk, s.head_dim_v, s.rotary_offset, s.rotary_dim, test_method_name(&q->position));
    test_requests_close(text, &s, &requests[r], &oracle[r], tolerance_of(&setup, q));
    test_request_free(&oracle[r]);
  }
  free(oracle);
}

/* ---- Everything at random ---- */

static spindle_shape draw_shape(test_random *r) {
  static const int32_t ratios[] = {1, 1, 2, 3, 7};
  spindle_shape s = {.q_dtype = (int32_t)test_random_int(r, SPINDLE_F32, SPINDLE_BF16), .o_dtype = SPINDLE_F32};
  s.kv_dtype = test_random_once_in(r, 3) ? SPINDLE_F8E4M3 : s.q_dtype;
  if (test_random_once_in(r, 4)) s.o_dtype = s.q_dtype;
  s.num_kv_heads = 2 * (int32_t)test_random_int(r, 1, 2);
  s.num_q_heads = s.num_kv_heads * ratios[test_random_int(r, 0, 4)];
  s.head_dim_qk = (int32_t)test_random_int(r, 1, 10) * 8 + (test_random_once_in(r, 3) ? 1 : 0);
  s.head_dim_v = test_random_once_in(r, 2) ? (int32_t)test_random_int(r, 1, 90) : s.head_dim_qk;
  s.rotary_dim =
      test_random_once_in(r, 2) ? 4 + 2 * (int32_t)test_random_int(r, 0, (s.head_dim_qk - 4) / 2) : s.head_dim_qk / 2 * 2;
  s.rotary_offset = (int32_t)test_random_int(r, 0, s.head_dim_qk - s.rotary_dim);
  s.pair_layout = (int32_t)test_random_int(r, 0, 1);
  s.bias =
      test_random_once_in(r, 2) ? SPINDLE_BIAS_NONE : (int32_t)test_random_int(r, SPINDLE_BIAS_ALIBI, SPINDLE_BIAS_KERPLE_POWER);
  return s;
}

typedef struct weights {
  float bias_a[64], bias_p[64], sinks[64], ssmax[64], ssmax_b[64], k_scale[64], v_scale[64];
} weights;

static void draw_weights(test_random *r, const spindle_shape *s, weights *w, spindle_attention_args *a) {
  for (int h = 0; h < 64; h++) {
    w->bias_a[h] = (float)test_random_real(r, 0.01, 0.5);
    w->bias_p[h] = (float)test_random_real(r, 0.05, 1.5);
    w->sinks[h] = (float)test_random_normal(r);
    w->ssmax[h] = (float)test_random_real(r, -0.2, 0.6);
    w->ssmax_b[h] = (float)test_random_real(r, -0.2, 0.2);
    w->k_scale[h] = (float)test_random_real(r, 0.02, 0.1);
    w->v_scale[h] = (float)test_random_real(r, 0.02, 0.1);
  }
  if (s->bias) a->bias_a = w->bias_a;
  if (s->bias >= SPINDLE_BIAS_KERPLE_LOG) a->bias_p = w->bias_p;
  if (test_random_once_in(r, 3)) a->sink_logits = w->sinks;
  a->row_scale_s = w->ssmax;
  if (test_random_once_in(r, 2)) a->row_scale_b = w->ssmax_b;
  if (test_random_once_in(r, 4)) a->softcap = (float)test_random_real(r, 1, 30);
  if (test_random_once_in(r, 4)) a->scale = (float)test_random_real(r, -0.2, 0.4);
  if (s->kv_dtype == SPINDLE_F8E4M3 && !test_random_once_in(r, 4)) {
    a->k.scale = w->k_scale;
    a->v.scale = w->v_scale;
    a->k.scale_head = test_random_int(r, 0, 1);
    a->v.scale_head = test_random_int(r, 0, 1);
  }
}

static void draw_row_scale(test_random *r, spindle_position *p) {
  p->row_scale = test_random_once_in(r, 2) ? SPINDLE_ROWSCALE_NONE : (int32_t)test_random_int(r, 1, SPINDLE_ROWSCALE_SSMAX);
  if (p->row_scale && p->row_scale != SPINDLE_ROWSCALE_SSMAX) p->row_scale_length = 70;
  if (p->row_scale == SPINDLE_ROWSCALE_LLAMA4 || p->row_scale == SPINDLE_ROWSCALE_MINISTRAL) p->row_scale_beta = 0.2;
}

/* Prefill, chunked prefill, decode, a few rows; now and then no keys at all, or rows that lie before or beyond them. */
static test_request draw_request(test_random *r, const spindle_shape *s) {
  spindle_position p = test_any_method(r, s->rotary_dim);
  int32_t kv_len = test_random_once_in(r, 12) ? 0 : (int32_t)test_random_log(r, 1, 300), q_len = kv_len ? kv_len : 3;
  if (!test_random_once_in(r, 3)) q_len = test_random_once_in(r, 2) ? 1 : (int32_t)test_random_int(r, 1, q_len);
  draw_row_scale(r, &p);
  test_request q = test_request_make(r, s, p, q_len, kv_len, 1);
  if (test_random_once_in(r, 3)) q.kv_index = test_random_log(r, 1, 3000);
  test_request_at_end(&q);
  if (test_random_once_in(r, 4)) q.q_index += test_random_int(r, 0, 200);
  if (q.q_index < 0) q.q_index = 0;
  if (test_random_once_in(r, 4)) q.n = test_random_log(r, 1, 5000);
  if (p.s2_wrap) q.n = (q.q_index + q.q_len + q.kv_index + q.kv_len) / p.s2_group * p.s2_group + p.s2_group; /* whole groups */
  return q;
}

static void check_random(test_random *r) {
  weights w;
  test_request requests[6];
  int32_t count = (int32_t)test_random_int(r, 1, 6), sizes[] = {0, 1, 16, 64, 7};
  test_setup setup = {.shape = draw_shape(r), .page_size = sizes[test_random_int(r, 0, 4)], .random = r};
  setup.num_threads = (int32_t)test_random_int(r, 1, 3);
  setup.csr = test_random_once_in(r, 2);
  setup.batched = test_random_once_in(r, 4);
  setup.spans = setup.page_size && test_random_once_in(r, 3);
  setup.generous = test_random_once_in(r, 2);
  if (test_random_once_in(r, 3)) setup.split_keys = (int32_t)test_random_log(r, 16, 200);
  draw_weights(r, &setup.shape, &w, &setup.args);
  for (int32_t q = 0; q < count; q++) requests[q] = draw_request(r, &setup.shape);
  run_both(setup, requests, count, "random");
  for (int32_t q = 0; q < count; q++) test_request_free(&requests[q]);
}

Test(properties_reference, cpu_equals_the_oracle_at_random) {
  test_random r = test_random_start();
  for (int round = 0; round < 150; round++) check_random(&r);
}

/* ---- Every method by name ---- */

Test(properties_reference, every_rule_remap_and_mask) {
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 32};
  for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++)
    for (int32_t remap = 0; remap < TEST_NUM_REMAPS; remap++)
      for (int32_t mask = 0; mask < TEST_NUM_MASKS; mask++) {
        if (rope > 1 && (remap + mask) % 4 != rope % 4) continue;
        test_setup setup = {.shape = shape, .num_threads = 1, .random = &r};
        test_request request = test_request_make(&r, &shape, test_mask(test_remap(test_rule(rope, 32), remap), mask), 120, 120,
                                                 1); /* whole S2 groups */
        run_both(setup, &request, 1, "by name");
        test_request_free(&request);
      }
}

/* ---- Shapes that have broken attention kernels before ---- */

static void check_shape(test_random *r, spindle_shape shape, int32_t q_len, int32_t kv_len) {
  spindle_position p = test_rule(SPINDLE_ROPE_YARN, shape.rotary_dim ? shape.rotary_dim : shape.head_dim_qk / 2 * 2);
  p.not_causal = q_len > kv_len; /* else the first rows see nothing, which is another test */
  test_setup setup = {.shape = shape, .num_threads = 1, .random = r};
  test_request request = test_request_make(r, &shape, p, q_len, kv_len, 1);
  if (request.q_index < 0) request.q_index = 0;
  run_both(setup, &request, 1, "shape");
  test_request_free(&request);
}

Test(properties_reference, lengths_off_every_tile) {
  static const int32_t lengths[][2] = {{1, 1},     {64, 128},  {128, 192}, {239, 1},   {799, 3},   {113, 203},
                                       {128, 217}, {113, 211}, {108, 256}, {256, 512}, {384, 256}, {640, 128},
                                       {1, 128},   {1, 339},   {3, 1024},  {64, 800},  {3, 799},   {16, 2000}};
  test_random r = test_random_start();
  for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
    check_shape(&r, (spindle_shape){.num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 64}, lengths[l][0], lengths[l][1]);
}

Test(properties_reference, head_counts_and_dims_of_real_models) {
  static const spindle_shape shapes[] = {
      {.num_q_heads = 6, .num_kv_heads = 6, .head_dim_qk = 64},
      {.num_q_heads = 6, .num_kv_heads = 3, .head_dim_qk = 80},
      {.num_q_heads = 7, .num_kv_heads = 1, .head_dim_qk = 128},
      {.num_q_heads = 71, .num_kv_heads = 1, .head_dim_qk = 64},                   /* Falcon-7B */
      {.num_q_heads = 10, .num_kv_heads = 2, .head_dim_qk = 96, .rotary_dim = 24}, /* GPT-NeoX-20B */
      {.num_q_heads = 2,
       .head_dim_qk = 192,
       .head_dim_v = 128,
       .rotary_dim = 64,
       .rotary_offset = 128,
       .pair_layout = 1}, /* DeepSeek-V3
                           */
      {.num_q_heads = 2, .head_dim_qk = 256},
      {.num_q_heads = 2, .head_dim_qk = 512, .head_dim_v = 512},
      {.num_q_heads = 2, .head_dim_qk = 64, .head_dim_v = 1},
      {.num_q_heads = 2, .head_dim_qk = 33, .head_dim_v = 77},
      {.num_q_heads = 1, .head_dim_qk = 4, .head_dim_v = 511},
  };
  test_random r = test_random_start();
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int32_t dtype = SPINDLE_F32; dtype <= SPINDLE_BF16; dtype++) {
      spindle_shape shape = shapes[s];
      shape.q_dtype = dtype;
      check_shape(&r, shape, 1, 150);
      check_shape(&r, shape, 70, 150);
    }
}
