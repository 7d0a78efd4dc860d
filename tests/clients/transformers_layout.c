/* The structs of spindle.h have the layout that transformers_client.py gives them by hand. Appending a field means adding it
 * there. */
#include <spindle/spindle.h>

#define SIZE(type, bytes)          _Static_assert(sizeof(type) == (bytes), #type)
#define OFFSET(type, field, bytes) _Static_assert(offsetof(type, field) == (bytes), #type "." #field)

SIZE(spindle_context_options, 24);
OFFSET(spindle_context_options, num_threads, 16);
SIZE(spindle_shape, 56);
OFFSET(spindle_shape, head_dim_v, 32);
OFFSET(spindle_shape, bias, 52);
SIZE(spindle_position, 296);
OFFSET(spindle_position, s2_wrap, 36);
OFFSET(spindle_position, attention_factor, 72);
OFFSET(spindle_position, row_scale_beta, 176);
OFFSET(spindle_position, inv_freq, 184);
OFFSET(spindle_position, window_left, 256);
OFFSET(spindle_position, s2_group, 288);
SIZE(spindle_plan_options, 56);
OFFSET(spindle_plan_options, max_kv_len, 24);
OFFSET(spindle_plan_options, row_scale_set, 48);
SIZE(spindle_batch, 152);
OFFSET(spindle_batch, reserved, 36);
OFFSET(spindle_batch, kv_begin, 96);
OFFSET(spindle_batch, page_span, 144);
SIZE(spindle_rows, 32);
SIZE(spindle_cache, 48);
OFFSET(spindle_cache, scale_head, 40);
SIZE(spindle_lse, 32);
SIZE(spindle_attention_args, 272);
OFFSET(spindle_attention_args, k, 80);
OFFSET(spindle_attention_args, lse, 176);
OFFSET(spindle_attention_args, softcap, 212);
OFFSET(spindle_attention_args, scratch_bytes, 264);

_Static_assert(SPINDLE_F32 == 1 && SPINDLE_BACKEND_CPU == 2 && SPINDLE_ROPE_TABLE == 20, "enumerators");
