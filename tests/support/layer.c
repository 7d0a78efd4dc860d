#include "layer.h"

#include <stdio.h>

#include "methods.h"

#define COUNT(list) ((int)(sizeof list / sizeof *list))

enum { S2_GROUP = 40 /* of test_mask */ };

static void draw_shape(test_random *r, spindle_shape *s) {
  static const int32_t heads[][2] = {{4, 4}, {4, 2}, {6, 2}, {6, 3}, {8, 1}, {10, 2}},
                       dims[][2] = {{64, 64}, {64, 64}, {32, 80},   {128, 128}, {80, 48},
                                    {96, 96}, {40, 40}, {192, 128}, {256, 64}};
  const int32_t *h = heads[test_random_int(r, 0, COUNT(heads) - 1)], *d = dims[test_random_int(r, 0, COUNT(dims) - 1)];
  *s = (spindle_shape){.q_dtype = test_random_once_in(r, 2) ? SPINDLE_F16 : SPINDLE_BF16,
                       .o_dtype = test_random_once_in(r, 4) ? SPINDLE_F32 : 0,
                       .num_q_heads = h[0],
                       .num_kv_heads = h[1],
                       .head_dim_qk = d[0],
                       .head_dim_v = d[1],
                       .rotary_dim = d[0],
                       .pair_layout = (int32_t)test_random_int(r, 0, 1),
                       .bias = test_random_once_in(r, 2) ? (int32_t)test_random_int(r, 0, SPINDLE_BIAS_KERPLE_POWER) : 0};
  if (test_random_once_in(r, 3)) s->rotary_dim = 2 * (int32_t)test_random_int(r, 2, d[0] / 2);
  s->rotary_offset = (int32_t)test_random_int(r, 0, d[0] - s->rotary_dim);
}

void test_layer_draw(test_random *r, test_layer *l) {
  *l = (test_layer){.setup = {.backend = SPINDLE_BACKEND_CUDA,
                              .schedule = (int32_t)test_random_int(r, 0, SPINDLE_SCHEDULE_PREROTATE),
                              .split_keys = test_random_once_in(r, 3) ? (int32_t)test_random_log(r, 16, 500) : 0,
                              .generous = test_random_once_in(r, 3),
                              .batched = test_random_once_in(r, 4),
                              .random = r}};
  test_setup *setup = &l->setup;
  draw_shape(r, &setup->shape);
  static const int32_t pages[] = {0, 0, 16, 64, 13};
  setup->page_size = pages[test_random_int(r, 0, COUNT(pages) - 1)];
  setup->spans = setup->page_size && test_random_once_in(r, 2);
  setup->csr = setup->page_size && test_random_once_in(r, 2);
  for (int h = 0; h < TEST_LAYER_HEADS; h++) {
    l->a[h] = (float)test_random_real(r, 0.01, 0.5);
    l->p[h] = (float)test_random_real(r, 0.1, 2);
    l->sinks[h] = (float)test_random_real(r, -2, 4);
    l->s[h] = h % 4 ? (float)test_random_real(r, -0.5, 0.5) : 0.0f;
    l->b[h] = h % 8 ? (float)test_random_real(r, -0.5, 0.5) : 0.0f; /* a head with scale 0, many below */
  }
  setup->args.bias_a = l->a;
  setup->args.bias_p = l->p;
  setup->args.row_scale_s = l->s;
  setup->args.row_scale_b = l->b;
  setup->args.softcap = test_random_once_in(r, 4) ? 3.0f : 0.0f;
  setup->args.sink_logits = test_random_once_in(r, 3) ? l->sinks : NULL;
  if (setup->shape.bias == SPINDLE_BIAS_NONE) setup->args.bias_a = NULL;
  if (setup->shape.bias <= SPINDLE_BIAS_ALIBI) setup->args.bias_p = NULL;
}

static void draw_row_scale(test_random *r, spindle_position *p) {
  p->row_scale = test_random_once_in(r, 2) ? 0 : (int32_t)test_random_int(r, 1, SPINDLE_ROWSCALE_SSMAX);
  if (p->row_scale && p->row_scale != SPINDLE_ROWSCALE_SSMAX) p->row_scale_length = 30;
  if (p->row_scale == SPINDLE_ROWSCALE_LLAMA4 || p->row_scale == SPINDLE_ROWSCALE_MINISTRAL) p->row_scale_beta = 0.1;
}

/* Rows at the end of their keys, or some way behind. */
test_request test_layer_request(test_random *r, const test_layer *l, spindle_position p) {
  int32_t keys = (int32_t)(test_random_once_in(r, 3) ? test_random_log(r, 1, 320) : test_random_int(r, 100, 320));
  int32_t rows = (int32_t)test_random_log(r, 1, keys < 140 ? keys : 140);
  if (p.s2_wrap) keys = S2_GROUP * (int32_t)test_random_int(r, 4, 7);
  draw_row_scale(r, &p);
  test_request q = test_request_make(r, &l->setup.shape, p, rows, keys, 1);
  if (!p.s2_wrap && test_random_once_in(r, 3)) q.kv_index = test_random_int(r, 0, 1000000007);
  test_request_at_end(&q);
  if (!p.s2_wrap && test_random_once_in(r, 4)) q.q_index += test_random_int(r, 0, 50);
  if (!p.s2_wrap && test_random_once_in(r, 2)) q.n = q.q_index + q.q_len + test_random_log(r, 1, 1000);
  return q;
}

const char *test_layer_describe(test_layer *l, const test_request *q) {
  const test_setup *t = &l->setup;
  const spindle_shape s = t->shape;
  snprintf(
      l->text, sizeof l->text,
      "heads %d/%d dims %d/%d rotary %d+%d layout %d keys %d bias %d dtype %d page %d spans %d csr %d batched %d schedule %d "
      "split %d softcap %g sinks %d | rows %d keys %d q_index %lld kv_index %lld n %lld | %s",
      s.num_q_heads, s.num_kv_heads, s.head_dim_qk, s.head_dim_v, s.rotary_offset, s.rotary_dim, s.pair_layout, s.key_state,
      s.bias, s.q_dtype, t->page_size, t->spans, t->csr, t->batched, t->schedule, t->split_keys, (double)t->args.softcap,
      t->args.sink_logits != NULL, q->q_len, q->kv_len, (long long)q->q_index, (long long)q->kv_index, (long long)q->n,
      test_method_name(&q->position));
  return l->text;
}
