/* Which shapes are served, and the sizes of both workspaces, from the shape and the bounds. */
#include "cuda.h"

#define ALIGNMENT 256
#define MIB       ((int64_t)1 << 20)

/* Segments kept for a tile, on average. Tiles beyond the pool have theirs made by every item that walks them. */
#define SEGMENTS_PER_TILE 4

/* Partial results of fixed splits: so many rows (of O), else a request's splits are walked by one block in turn, with the same
 * bits. */
#define FIXED_SPLIT_ROWS 65536

/* Pre-rotated keys lie in scratch for as many KV heads at a time as fit PASS_BYTES, but one at least. What a single head may take
 * is bounded too: requests that find no room have their keys rotated by the tiles that read them, to the same bits. */
#define PASS_BYTES (256 * MIB)
#define HEAD_BYTES (2048 * MIB)

/* ---- Shapes ---- */

static spindle_status check_dtypes(const spindle_shape *s) {
  bool served =
      (s->q_dtype == SPINDLE_F16 || s->q_dtype == SPINDLE_BF16) && (s->kv_dtype == s->q_dtype || s->kv_dtype == SPINDLE_F8E4M3);
  return served
             ? SPINDLE_OK
             : spindle__fail(SPINDLE_UNSUPPORTED,
                             "the cuda backend serves shape.q_dtype f16 or bf16 with the same kv_dtype or f8e4m3, not %s with %s",
                             spindle__dtype_name(s->q_dtype), spindle__dtype_name(s->kv_dtype));
}

static spindle_status find_kernel(const spindle_plan *plan, spindle__kernel *kernel) {
  int before;
  const spindle_shape *s = &plan->shape;
  spindle__kernel_info info, decode;
  SPINDLE__TRY(spindle__cuda_enter(plan->context, &before));
  SPINDLE__TRY(spindle__cuda_leave(before, (cudaError_t)spindle__prefill_find(s, &info), "loading the attention kernel"));
  if (!info.item_rows)
    return spindle__fail(SPINDLE_UNSUPPORTED,
                         "the cuda backend has no %s kernel for shape.head_dim_qk %d and head_dim_v %d on sm_%d",
                         spindle__dtype_name(s->q_dtype), s->head_dim_qk, s->head_dim_v, plan->context->arch);
  *kernel = (spindle__kernel){info.item_rows, info.tile_keys, info.head_dim, info.blocks, 0};
  if (s->num_q_heads / s->num_kv_heads > SPINDLE__DECODE_ROWS) return SPINDLE_OK; /* one row is too many for decode */
  SPINDLE__TRY(spindle__cuda_enter(plan->context, &before));
  SPINDLE__TRY(spindle__cuda_leave(before, (cudaError_t)spindle__decode_find(s, &decode), "loading the decode kernel"));
  kernel->decode_blocks = decode.blocks;
  if (decode.head_dim > kernel->head_dim) kernel->head_dim = decode.head_dim; /* 192/128 is padded otherwise there */
  return SPINDLE_OK;
}

/* The kernel counts items in 32 bits. A tile has one row at least: masks of tiny chunks cut so. */
static spindle_status check_items(const spindle_plan *plan, const spindle__cuda_layout *y) {
  int64_t a_group = spindle__ceil_div(y->schedule.group, y->schedule.item_rows);
  int64_t ranges = plan->shape.num_kv_heads * a_group + 1; /* S2 cuts one in two */
  int64_t items =
      plan->options.max_q_rows * ranges + y->max_partials + spindle__max(plan->kernel.blocks, plan->kernel.decode_blocks);
  if (items <= INT32_MAX) return SPINDLE_OK;
  return spindle__fail(SPINDLE_LIMIT_EXCEEDED, "options.max_q_rows is %d: with %d heads it may come to %lld work items, limit %d",
                       plan->options.max_q_rows, plan->shape.num_q_heads, (long long)items, INT32_MAX);
}

/* ---- Layout ---- */

/* Returns the place of `count` things and moves the end past them. */
static size_t place(size_t *end, int64_t count, size_t size) {
  size_t at = *end;
  *end += ((size_t)count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return at;
}

static void lay_out_state(const spindle_plan *plan, spindle__cuda_layout *y) {
  const spindle_plan_options *o = &plan->options;
  int64_t requests = o->max_requests, used = spindle__min(o->max_requests, o->max_q_rows), pairs = plan->shape.rotary_dim / 2;
  int64_t full_tiles = spindle__ceil_div(o->max_q_rows, spindle__tile_rows(&y->schedule)) + used;
  y->max_tiles = o->max_q_rows + o->max_requests; /* one row each, and each request's end */
  y->max_segments = (int32_t)spindle__min(full_tiles * SEGMENTS_PER_TILE + SPINDLE__MAX_SEGMENTS, INT32_MAX);
  size_t end = 0;
  y->totals = place(&end, 1, sizeof(spindle__totals));
  y->requests = place(&end, requests, sizeof(spindle__prepared));
  y->tiles = place(&end, y->max_tiles, sizeof(int32_t));
  y->tile_segments = place(&end, y->max_tiles, sizeof(spindle__tile));
  y->segments = place(&end, y->max_segments, sizeof(spindle__segment));
  int64_t blocks = spindle__max(plan->kernel.blocks, plan->kernel.decode_blocks);
  y->rooms = place(&end, spindle__max(blocks, SPINDLE__PREPARE_THREADS), sizeof(spindle__segment_room));
  y->spilled = place(&end, blocks * SPINDLE__MAX_SEGMENTS, sizeof(spindle__segment));
  y->phases = place(&end, requests * 2 * pairs, sizeof(spindle__phase));
  y->offsets = place(&end, requests * pairs, sizeof(uint64_t));
  y->state_bytes = end;
}

static int64_t most_partials(const spindle_plan *plan) {
  const spindle_plan_options *o = &plan->options;
  const spindle__kernel *k = &plan->kernel;
  int64_t rows = (int64_t)o->max_q_rows * plan->shape.num_q_heads;
  if (o->split_keys) return spindle__min(rows * (spindle__ceil_div(o->max_kv_len, o->split_keys) + 1), FIXED_SPLIT_ROWS);
  int64_t items = (int64_t)spindle__items_per_block(SPINDLE__LIST_PREFILL) * k->blocks;
  int64_t few = (int64_t)spindle__items_per_block(SPINDLE__LIST_DECODE) * k->decode_blocks;
  int64_t splits = spindle__min(spindle__ceil_div(o->max_kv_len, k->tile_keys), spindle__max(items, few));
  return splits < 2 ? 0 : spindle__min(rows * splits, items * k->item_rows + few * SPINDLE__DECODE_ROWS);
}

/* Copies of a request's keys, one for each map that moves them (spindle__key_maps). */
static int32_t most_copies(uint32_t remap_set) {
  uint32_t two = 1u << SPINDLE_REMAP_LEAKY_REROPE | 1u << SPINDLE_REMAP_SELF_EXTEND;
  return !remap_set || remap_set & two ? 2 : 1;
}

/* A request's slots are its keys, in whole pages. More of them, as page_span allows, may find no room. */
static int64_t most_rotated_rows(const spindle_plan *plan, const spindle__cuda_layout *y) {
  const spindle_plan_options *o = &plan->options;
  const spindle_shape *s = &plan->shape;
  if (o->schedule == SPINDLE_SCHEDULE_IN_LOOP || s->key_state != SPINDLE_KEYS_RAW || !s->rotary_dim) return 0;
  int64_t least = 1, page = o->page_size ? o->page_size : 1;
  if (o->schedule == SPINDLE_SCHEDULE_AUTO) least = spindle__ceil_div(SPINDLE__PREROTATE_ROWS, y->schedule.group);
  if (least > o->max_q_len) return 0;
  int64_t requests = spindle__min(o->max_requests, o->max_q_rows / least);
  int64_t rows = requests * spindle__ceil_div(o->max_kv_len, page) * page * most_copies(o->remap_set);
  return spindle__min(rows, HEAD_BYTES / (y->rotated_stride * (int64_t)spindle__dtype_bytes(s->q_dtype)));
}

static void lay_out_scratch(const spindle_plan *plan, spindle__cuda_layout *y) {
  const spindle_shape *s = &plan->shape;
  size_t element = spindle__dtype_bytes(s->q_dtype); /* of a rotated key */
  y->o_stride = plan->kernel.head_dim;
  y->rotated_stride = (int32_t)spindle__ceil_div(s->head_dim_qk, 8) * 8;
  y->max_partials = most_partials(plan);
  y->max_rotated_rows = most_rotated_rows(plan, y);
  y->pass_heads = s->num_kv_heads;
  int64_t head_bytes = y->max_rotated_rows * y->rotated_stride * (int64_t)element;
  if (head_bytes) y->pass_heads = (int32_t)spindle__max(1, spindle__min(PASS_BYTES / head_bytes, s->num_kv_heads));
  int64_t whole_rows = plan->options.split_keys ? (int64_t)plan->kernel.blocks * plan->kernel.item_rows : 0;
  size_t end = 0;
  y->rotated = place(&end, y->pass_heads * y->max_rotated_rows * y->rotated_stride, element);
  y->partial_o = place(&end, y->max_partials * y->o_stride, sizeof(float));
  y->partial_ml = place(&end, y->max_partials * 2, sizeof(float));
  y->whole = place(&end, whole_rows * (y->o_stride + 8), sizeof(float));
  y->scratch_bytes = end;
}

void spindle__cuda_layout_of(const spindle_plan *plan, spindle__cuda_layout *y) {
  y->schedule.num_q_heads = plan->shape.num_q_heads;
  y->schedule.group = plan->shape.num_q_heads / plan->shape.num_kv_heads;
  y->schedule.item_rows = plan->kernel.item_rows;
  y->schedule.few_rows = 0; /* an item is one KV head: its rows share the key tile */
  lay_out_state(plan, y);
  lay_out_scratch(plan, y);
}

spindle__state spindle__cuda_state_of(const spindle__cuda_layout *y, void *state) {
  char *base = state;
  return (spindle__state){.totals = (void *)(base + y->totals),
                          .requests = (void *)(base + y->requests),
                          .tiles = (void *)(base + y->tiles),
                          .tile_segments = (void *)(base + y->tile_segments),
                          .segments = (void *)(base + y->segments),
                          .rooms = (void *)(base + y->rooms),
                          .spilled = (void *)(base + y->spilled),
                          .phases = (void *)(base + y->phases),
                          .offsets = (void *)(base + y->offsets)};
}

spindle_status spindle__cuda_plan(spindle_plan *plan) {
  spindle__cuda_layout layout;
  SPINDLE__TRY(check_dtypes(&plan->shape));
  SPINDLE__TRY(find_kernel(plan, &plan->kernel));
  spindle__cuda_layout_of(plan, &layout);
  SPINDLE__TRY(check_items(plan, &layout));
  plan->state_bytes = layout.state_bytes;
  plan->scratch_bytes = layout.scratch_bytes;
  return SPINDLE_OK;
}
