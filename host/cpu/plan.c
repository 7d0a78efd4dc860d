/* Sizes of both workspaces, from the shape and the bounds. */
#include "cpu.h"

/* Rows of Q and of O of one item, in float, fill at most this: with S and a key tile they fit a 1 MB L2. */
#define ITEM_FLOATS 49152
#define FEW_ROWS    32
#define ALIGNMENT   256

/* Split results that auto mode may leave: enough for 8 items a thread. Fixed splits: so many rows (of O), else a request is
 * walked by one thread, with the same bits. */
#define SPLIT_ITEMS_PER_THREAD 8
#define FIXED_SPLIT_ROWS       65536

static int32_t round_up(int32_t x, int32_t to) { return (x + to - 1) / to * to; }

spindle__cpu_channels spindle__cpu_channels_of(const spindle_shape *shape) {
  spindle__cpu_channels ch;
  ch.depth = shape->head_dim_qk;
  ch.offset = shape->rotary_offset;
  ch.pairs = shape->rotary_dim / 2;
  ch.pairs_padded = round_up(ch.pairs, SPINDLE__CPU_PAD);
  ch.interleaved = shape->pair_layout == SPINDLE_PAIRS_INTERLEAVED;
  int32_t rest = ch.depth - 2 * ch.pairs; /* in two runs, each written in whole vectors: the second may reach a vector further */
  ch.staged = 2 * ch.pairs_padded + (rest ? round_up(rest, SPINDLE__CPU_PAD) + SPINDLE__CPU_PAD : 0);
  return ch;
}

/* Returns the place of `count` things and moves the end past them. */
static size_t place(size_t *end, size_t count, size_t size) {
  size_t at = *end;
  *end += (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return at;
}

static void lay_out_thread(const spindle_plan *plan, spindle__cpu_layout *y) {
  size_t rows = (size_t)y->schedule.item_rows, tile_rows = (size_t)spindle__tile_rows(&y->schedule),
         keys = SPINDLE__CPU_TILE_KEYS;
  size_t depth = (size_t)y->channels.depth, stride = (size_t)y->o_stride, pairs = (size_t)y->channels.pairs_padded;
  size_t heads = (size_t)spindle__min(y->schedule.group, y->schedule.item_rows), end = 0;
  size_t whole = plan->options.split_keys ? rows : 0, bias = plan->shape.bias ? heads : 0;
  y->q = place(&end, rows * (size_t)spindle__max((int64_t)depth, y->channels.staged), sizeof(float));
  y->k = place(&end, keys * depth, sizeof(float));
  y->v = place(&end, keys * (size_t)round_up(plan->shape.head_dim_v, SPINDLE__CPU_BLOCK), sizeof(float));
  y->s = place(&end, rows * keys, sizeof(float));
  y->o = place(&end, rows * stride, sizeof(float));
  y->m = place(&end, rows, sizeof(float));
  y->l = place(&end, rows, sizeof(float));
  y->whole_o = place(&end, whole * stride, sizeof(float));
  y->whole_m = place(&end, whole, sizeof(float));
  y->whole_l = place(&end, whole, sizeof(float));
  y->c = place(&end, keys * pairs, sizeof(float));
  y->sn = place(&end, keys * pairs, sizeof(float));
  y->lo = place(&end, tile_rows, sizeof(int32_t));
  y->hi = place(&end, tile_rows, sizeof(int32_t));
  y->bias_stride = round_up((int32_t)tile_rows + SPINDLE__CPU_BIAS_SPAN + SPINDLE__CPU_TILE_KEYS, SPINDLE__CPU_PAD);
  y->bias = place(&end, bias * (size_t)y->bias_stride, sizeof(float));
  y->thread_bytes = end;
}

static int64_t most_partials(const spindle_plan *plan, const spindle__cpu_layout *y) {
  int64_t rows = (int64_t)plan->options.max_q_rows * plan->shape.num_q_heads, threads = plan->context->num_threads;
  if (threads == 1) return 0; /* one thread gains nothing by splitting */
  if (plan->options.split_keys) {
    int64_t splits = spindle__ceil_div(plan->options.max_kv_len, plan->options.split_keys) + 1;
    return spindle__min(rows * splits, FIXED_SPLIT_ROWS);
  }
  return spindle__min(rows, y->schedule.item_rows) * SPLIT_ITEMS_PER_THREAD * threads;
}

void spindle__cpu_layout_of(const spindle_plan *plan, spindle__cpu_layout *y) {
  const spindle_shape *shape = &plan->shape;
  const spindle_plan_options *o = &plan->options;
  int32_t widest = (int32_t)spindle__max(shape->head_dim_qk, shape->head_dim_v);
  size_t end = 0;
  y->schedule.num_q_heads = shape->num_q_heads;
  y->schedule.group = shape->num_q_heads / shape->num_kv_heads;
  y->schedule.item_rows = (int32_t)spindle__min(ITEM_FLOATS / widest / 6 * 6, SPINDLE__CPU_MAX_ROWS);
  y->schedule.few_rows = FEW_ROWS;
  y->channels = spindle__cpu_channels_of(shape);
  y->o_stride = round_up(shape->head_dim_v, SPINDLE__CPU_PAD);

  place(&end, 1, sizeof(spindle__cpu_state));
  y->requests = place(&end, (size_t)o->max_requests, sizeof(spindle__cpu_request));
  y->tiles = place(&end, (size_t)o->max_q_rows + (size_t)o->max_requests, sizeof(int32_t));
  y->state_bytes = end;

  lay_out_thread(plan, y);
  end = y->thread_bytes * (size_t)plan->context->num_threads;
  y->max_partials = most_partials(plan, y);
  y->partial_o = place(&end, (size_t)y->max_partials * (size_t)y->o_stride, sizeof(float));
  y->partial_m = place(&end, (size_t)y->max_partials, sizeof(float));
  y->partial_l = place(&end, (size_t)y->max_partials, sizeof(float));
  y->scratch_bytes = end;
}

spindle_status spindle__cpu_plan(spindle_plan *plan) {
  spindle__cpu_layout layout;
  spindle__cpu_layout_of(plan, &layout);
  plan->state_bytes = layout.state_bytes;
  plan->scratch_bytes = layout.scratch_bytes;
  return SPINDLE_OK;
}
