/* spindle_combine and spindle_combine_scale: validation, then the backend. */
#include "internal.h"

/* The extent of `parts` tensors that lie `stride` elements apart. */
static spindle__extent widen(spindle__extent one, int32_t parts, int64_t stride, size_t element) {
  one.end += (size_t)(parts - 1) * (size_t)stride * element;
  return one;
}

static bool same_rows(const spindle_rows *a, const spindle_rows *b) {
  return a->data == b->data && a->row == b->row && a->head == b->head;
}
static bool same_lse(const spindle_lse *a, const spindle_lse *b) {
  return a->data == b->data && a->row == b->row && a->head == b->head;
}

/* A row's parts are read before its result is written: a result of part 0's type and strides may take its place. */
static spindle_status check_overlaps(const spindle_combine_args *a, const spindle__extent *in, const spindle__extent *out,
                                     int32_t o_parts) {
  bool o_in_place = same_rows(&a->o, &a->part_o) && a->o_dtype == a->part_dtype;
  bool lse_in_place = same_lse(&a->lse, &a->part_lse);
  if (!o_in_place) SPINDLE__TRY(spindle__check_no_overlap(&out[0], &in[0], 1));
  if (!lse_in_place) SPINDLE__TRY(spindle__check_no_overlap(&out[1], &in[1], 1));
  /* In place, part 0 must end where the next part begins. */
  if (o_in_place && o_parts > 1 && out[0].end - out[0].begin > (size_t)a->part_o_stride * spindle__dtype_bytes(a->part_dtype))
    return spindle__fail(SPINDLE_OVERLAP, "args.o in place of part 0 reaches into part 1 (part_o_stride %lld elements)",
                         (long long)a->part_o_stride);
  SPINDLE__TRY(spindle__check_no_overlap(&out[0], &in[1], 1));
  SPINDLE__TRY(spindle__check_no_overlap(&out[1], &in[0], 1));
  return spindle__check_no_overlap(&out[0], &out[1], 1);
}

static spindle_status check_tensors(spindle_combine_args *a, bool scale_only) {
  int32_t o_parts = scale_only ? 1 : a->parts;
  size_t element = spindle__dtype_bytes(a->part_dtype);
  spindle__extent in[2], out[2];
  SPINDLE__TRY(spindle__check_rows("args.part_o", &a->part_o, a->part_dtype, 1, a->rows, a->num_q_heads, a->head_dim_v, &in[0]));
  SPINDLE__TRY(spindle__check_rows("args.o", &a->o, a->o_dtype, 1, a->rows, a->num_q_heads, a->head_dim_v, &out[0]));
  if (!a->part_lse.data) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "args.part_lse.data is NULL");
  SPINDLE__TRY(spindle__check_lse("args.part_lse", &a->part_lse, 1, a->rows, a->num_q_heads, &in[1]));
  SPINDLE__TRY(spindle__check_lse("args.lse", &a->lse, 1, a->rows, a->num_q_heads, &out[1]));
  SPINDLE__TRY(spindle__check_integer("args.part_o_stride", a->part_o_stride, o_parts > 1 ? 1 : 0, (int64_t)1 << 44));
  SPINDLE__TRY(spindle__check_integer("args.part_lse_stride", a->part_lse_stride, a->parts > 1 ? 1 : 0, (int64_t)1 << 44));
  if (o_parts > 1 && (size_t)a->part_o_stride * element % 16)
    return spindle__fail(SPINDLE_MISALIGNED, "args.part_o_stride is %lld elements, must be a multiple of 16 bytes",
                         (long long)a->part_o_stride);
  if (a->part_o.batch || a->o.batch || a->part_lse.batch || a->lse.batch)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "a batch stride is given, but rows are packed");
  SPINDLE__TRY(spindle__check_array("args.sink_logits", a->sink_logits, sizeof *a->sink_logits, false));
  in[0] = widen(in[0], o_parts, a->part_o_stride, element);
  in[1] = widen(in[1], a->parts, a->part_lse_stride, sizeof(float));
  return check_overlaps(a, in, out, o_parts);
}

static spindle_status combine(spindle_context *context, const spindle_combine_args *args, bool scale_only,
                              spindle_stream stream) {
  spindle_combine_args a;
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  SPINDLE__TRY(spindle__check_stream(context, stream));
  SPINDLE__TRY(spindle__read_descriptor(&a, sizeof a, args, "args"));
  if (!a.part_dtype) a.part_dtype = SPINDLE_F32;
  if (!a.o_dtype) a.o_dtype = a.part_dtype;
  SPINDLE__TRY(spindle__check_integer("args.parts", a.parts, 1, 65536));
  SPINDLE__TRY(spindle__check_integer("args.rows", a.rows, 0, 1 << 30));
  SPINDLE__TRY(spindle__check_integer("args.num_q_heads", a.num_q_heads, 1, 4096));
  SPINDLE__TRY(spindle__check_integer("args.head_dim_v", a.head_dim_v, 1, SPINDLE__MAX_HEAD_DIM));
  SPINDLE__TRY(spindle__check_integer("args.part_dtype", a.part_dtype, SPINDLE_F32, SPINDLE_BF16));
  SPINDLE__TRY(spindle__check_integer("args.o_dtype", a.o_dtype, SPINDLE_F32, SPINDLE_BF16));
  SPINDLE__TRY(spindle__check_integer("args.own_part", a.own_part, 0, scale_only ? a.parts - 1 : 0));
  SPINDLE__TRY(spindle__check_integer("args.reserved", a.reserved, 0, 0));
  if (a.rows == 0) return SPINDLE_OK;
  SPINDLE__TRY(check_tensors(&a, scale_only));
  return context->backend->combine(context, &a, scale_only, stream);
}

spindle_status spindle_combine(spindle_context *context, const spindle_combine_args *args, spindle_stream stream) {
  return combine(context, args, false, stream);
}

spindle_status spindle_combine_scale(spindle_context *context, const spindle_combine_args *args, spindle_stream stream) {
  return combine(context, args, true, stream);
}
