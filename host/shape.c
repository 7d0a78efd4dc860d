/* Validation of spindle_shape. */
#include "internal.h"

#define MAX_HEADS 4096

size_t spindle__dtype_bytes(int32_t dtype) {
  switch (dtype) {
    case SPINDLE_F32: return 4;
    case SPINDLE_F16:
    case SPINDLE_BF16: return 2;
    case SPINDLE_F8E4M3: return 1;
    default: return 0;
  }
}

const char *spindle__dtype_name(int32_t dtype) {
  static const char *const names[] = {"none", "f32", "f16", "bf16", "f8e4m3"};
  return dtype >= 0 && dtype <= SPINDLE_F8E4M3 ? names[dtype] : "unknown";
}

static void fill_defaults(spindle_shape *s) {
  if (!s->kv_dtype) s->kv_dtype = s->q_dtype;
  if (!s->o_dtype) s->o_dtype = s->q_dtype;
  if (!s->num_kv_heads) s->num_kv_heads = s->num_q_heads;
  if (!s->head_dim_v) s->head_dim_v = s->head_dim_qk;
  if (!s->rotary_dim && s->rotary_offset >= 0 && s->rotary_offset <= s->head_dim_qk)
    s->rotary_dim = (s->head_dim_qk - s->rotary_offset) & ~1;
}

spindle_status spindle__check_shape(const spindle_shape *in, spindle_shape *out) {
  spindle_shape s;
  SPINDLE__TRY(spindle__read_descriptor(&s, sizeof s, in, "shape"));
  fill_defaults(&s);
  SPINDLE__TRY(spindle__check_integer("shape.q_dtype", s.q_dtype, SPINDLE_F32, SPINDLE_BF16));
  SPINDLE__TRY(spindle__check_integer("shape.kv_dtype", s.kv_dtype, SPINDLE_F32, SPINDLE_F8E4M3));
  SPINDLE__TRY(spindle__check_integer("shape.o_dtype", s.o_dtype, SPINDLE_F32, SPINDLE_BF16));
  SPINDLE__TRY(spindle__check_integer("shape.num_q_heads", s.num_q_heads, 1, MAX_HEADS));
  SPINDLE__TRY(spindle__check_integer("shape.num_kv_heads", s.num_kv_heads, 1, s.num_q_heads));
  SPINDLE__TRY(spindle__check_integer("shape.head_dim_qk", s.head_dim_qk, 1, SPINDLE__MAX_HEAD_DIM));
  SPINDLE__TRY(spindle__check_integer("shape.head_dim_v", s.head_dim_v, 1, SPINDLE__MAX_HEAD_DIM));
  SPINDLE__TRY(spindle__check_integer("shape.rotary_offset", s.rotary_offset, 0, s.head_dim_qk));
  SPINDLE__TRY(spindle__check_integer("shape.rotary_dim", s.rotary_dim, 0, s.head_dim_qk - s.rotary_offset));
  SPINDLE__TRY(spindle__check_integer("shape.pair_layout", s.pair_layout, SPINDLE_PAIRS_HALF, SPINDLE_PAIRS_INTERLEAVED));
  SPINDLE__TRY(spindle__check_integer("shape.key_state", s.key_state, SPINDLE_KEYS_RAW, SPINDLE_KEYS_ROTATED));
  SPINDLE__TRY(spindle__check_integer("shape.bias", s.bias, SPINDLE_BIAS_NONE, SPINDLE_BIAS_KERPLE_POWER));
  if (s.num_q_heads % s.num_kv_heads)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "shape.num_kv_heads is %d, must divide num_q_heads (%d)", s.num_kv_heads,
                         s.num_q_heads);
  if (s.rotary_dim % 2) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "shape.rotary_dim is %d, must be even", s.rotary_dim);
  *out = s;
  return SPINDLE_OK;
}
