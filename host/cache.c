/* spindle_append and spindle_rotate: validation, then the backend. */
#include "../kernels/rope/rope.h"
#include "internal.h"

static bool any_length_dependent(const spindle_positions *positions) {
  for (int32_t rope = 0; rope < SPINDLE__MAX_KINDS; rope++)
    if (positions->rope_count[rope] && spindle__rope_is_length_dependent(rope)) return true;
  return false;
}

/* A table that rows of this shape can be rotated by. */
static spindle_status check_table(const spindle_context *context, const spindle_shape *shape,
                                  const spindle_positions *positions) {
  if (positions->context != context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions belongs to another context");
  if (positions->shape.rotary_dim != shape->rotary_dim)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions was made for rotary_dim %d, shape.rotary_dim is %d",
                         positions->shape.rotary_dim, shape->rotary_dim);
  if (positions->rope_count[SPINDLE_ROPE_XPOS])
    return spindle__fail(SPINDLE_UNSUPPORTED,
                         "positions holds xPos, whose keys grow with their distance from a centre: they stay raw");
  return SPINDLE_OK;
}

static spindle_status check_append_tensors(const spindle_shape *s, spindle_append_args *a) {
  spindle__extent in[2], k, v;
  SPINDLE__TRY(spindle__check_rows("args.k_new", &a->k_new, a->src_dtype, 1, a->rows, s->num_kv_heads, s->head_dim_qk, &in[0]));
  SPINDLE__TRY(spindle__check_rows("args.v_new", &a->v_new, a->src_dtype, 1, a->rows, s->num_kv_heads, s->head_dim_v, &in[1]));
  SPINDLE__TRY(
      spindle__check_cache("args.k", &a->k, s->kv_dtype, a->num_pages, a->page_size, s->num_kv_heads, s->head_dim_qk, &k));
  SPINDLE__TRY(
      spindle__check_cache("args.v", &a->v, s->kv_dtype, a->num_pages, a->page_size, s->num_kv_heads, s->head_dim_v, &v));
  if (a->k_new.batch || a->v_new.batch)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "args.%s.batch is not 0: rows are packed", a->k_new.batch ? "k_new" : "v_new");
  SPINDLE__TRY(spindle__check_no_overlap(&k, in, 2));
  SPINDLE__TRY(spindle__check_no_overlap(&v, in, 2));
  /* Pages of K and V may be interleaved in one pool, so only the same base is certainly wrong. */
  if (a->k.data == a->v.data) return spindle__fail(SPINDLE_OVERLAP, "args.k and args.v are both at %p", a->k.data);
  return SPINDLE_OK;
}

spindle_status spindle_append(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                              const spindle_append_args *args, spindle_stream stream) {
  spindle_shape s;
  spindle_append_args a;
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  SPINDLE__TRY(spindle__check_stream(context, stream));
  SPINDLE__TRY(spindle__check_shape(shape, &s));
  SPINDLE__TRY(spindle__read_descriptor(&a, sizeof a, args, "args"));
  bool rotating = positions && s.key_state == SPINDLE_KEYS_ROTATED;
  if (positions && !rotating)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions is given, but shape.key_state is SPINDLE_KEYS_RAW");
  if (!a.src_dtype) a.src_dtype = s.q_dtype;
  SPINDLE__TRY(spindle__check_integer("args.rows", a.rows, 0, 1 << 30));
  SPINDLE__TRY(spindle__check_integer("args.src_dtype", a.src_dtype, SPINDLE_F32, SPINDLE_BF16));
  SPINDLE__TRY(spindle__check_integer("args.page_size", a.page_size, 1, INT32_MAX));
  SPINDLE__TRY(spindle__check_integer("args.num_pages", a.num_pages, 1, INT32_MAX));
  if (a.rows == 0) return SPINDLE_OK;
  SPINDLE__TRY(spindle__check_array("args.slot", a.slot, 8, true));
  SPINDLE__TRY(spindle__check_array("args.index", a.index, 8, rotating));
  SPINDLE__TRY(spindle__check_array("args.position", a.position, 4, false));
  if (rotating) SPINDLE__TRY(check_table(context, &s, positions));
  if (rotating && any_length_dependent(positions))
    return spindle__fail(SPINDLE_UNSUPPORTED,
                         "positions holds a length-dependent rule, which rotated keys would freeze at today's n");
  SPINDLE__TRY(check_append_tensors(&s, &a));
  return context->backend->append(context, &s, rotating ? positions : NULL, &a, stream);
}

static spindle_status check_rotate_tensors(const spindle_shape *s, spindle_rotate_args *a) {
  spindle__extent in, out;
  SPINDLE__TRY(spindle__check_rows("args.x", &a->x, a->dtype, 1, a->rows, a->heads, s->head_dim_qk, &in));
  SPINDLE__TRY(spindle__check_rows("args.out", &a->out, a->dtype, 1, a->rows, a->heads, s->head_dim_qk, &out));
  if (a->x.batch || a->out.batch)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "args.%s.batch is not 0: rows are packed", a->x.batch ? "x" : "out");
  bool in_place = a->x.data == a->out.data && a->x.row == a->out.row && a->x.head == a->out.head;
  return in_place ? SPINDLE_OK : spindle__check_no_overlap(&out, &in, 1);
}

spindle_status spindle_rotate(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                              const spindle_rotate_args *args, spindle_stream stream) {
  spindle_shape s;
  spindle_rotate_args a;
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  if (!positions) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  SPINDLE__TRY(spindle__check_stream(context, stream));
  SPINDLE__TRY(spindle__check_shape(shape, &s));
  SPINDLE__TRY(spindle__read_descriptor(&a, sizeof a, args, "args"));
  if (!a.dtype) a.dtype = s.q_dtype;
  SPINDLE__TRY(spindle__check_integer("args.rows", a.rows, 0, 1 << 30));
  SPINDLE__TRY(spindle__check_integer("args.heads", a.heads, 1, 4096));
  SPINDLE__TRY(spindle__check_integer("args.dtype", a.dtype, SPINDLE_F32, SPINDLE_BF16));
  SPINDLE__TRY(spindle__check_integer("args.inverse", a.inverse, 0, 1));
  if (a.rows == 0) return SPINDLE_OK;
  SPINDLE__TRY(check_table(context, &s, positions));
  SPINDLE__TRY(spindle__check_array("args.index", a.index, 8, true));
  SPINDLE__TRY(spindle__check_array("args.position", a.position, 4, false));
  SPINDLE__TRY(spindle__check_array("args.n", a.n, 8, any_length_dependent(positions)));
  SPINDLE__TRY(check_rotate_tensors(&s, &a));
  return context->backend->rotate(context, &s, positions, &a, stream);
}
