/* One layer: heads and dims, mask, scale, bias. */
#include <math.h>
#include <string.h>

#include "internal.h"

#define MAX_HEADS    4096
#define MAX_DIM      65536 /* of the hidden state */
#define MAX_HEAD_DIM 512
#define MAX_WINDOW   ((int64_t)1 << 40)

static int32_t query_heads(spindle__reader *r, const spindle__family *f) {
  static const spindle__key keys[] = {KEY_DECODER_HEADS, KEY_HEADS,           KEY_N_HEAD, KEY_N_HEADS,
                                      KEY_NUM_HEADS,     KEY_ATTENTION_HEADS, KEY_COUNT};
  const cJSON *own = spindle__of_layer(r, r->values.of[KEY_HEADS_PER_LAYER], "num_attention_heads_per_layer");
  int64_t heads = own ? spindle__integer(r, own, "num_attention_heads_per_layer", 1, MAX_HEADS, 0)
                      : spindle__first_integer(r, keys, 1, MAX_HEADS, f->heads);
  if (!heads) spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "num_attention_heads is missing");
  return (int32_t)heads;
}

static int32_t key_heads(spindle__reader *r, const spindle__family *f, int32_t heads) {
  static const spindle__key keys[] = {KEY_KV_HEADS, KEY_NUM_KV_HEADS, KEY_COUNT};
  const cJSON *in_attn_config = spindle__member(r->values.of[KEY_ATTN_CONFIG], "kv_n_heads");
  int64_t fallback = spindle__default(r, KEY_KV_HEADS, f->kv_heads);
  if (f->flags & FAMILY_KV_EXPANDED || f->one_kv_per_head) return heads;
  if (f->flags & FAMILY_FALCON && !spindle__key_boolean(r, KEY_NEW_DECODER, 0))
    return spindle__key_boolean(r, KEY_MULTI_QUERY, 1) ? 1 : heads;
  if (in_attn_config) return (int32_t)spindle__integer(r, in_attn_config, "attn_config.kv_n_heads", 1, MAX_HEADS, 0);
  if (r->values.of[KEY_MULTI_QUERY] && !(f->flags & FAMILY_FALCON)) fallback = spindle__key_boolean(r, KEY_MULTI_QUERY, 0);
  fallback = spindle__first_integer(r, keys, 1, MAX_HEADS, fallback);
  return fallback ? (int32_t)fallback : heads;
}

static int64_t head_dim(spindle__reader *r, const spindle__family *f, int32_t heads) {
  static const spindle__key hidden_keys[] = {KEY_N_EMBED, KEY_HIDDEN, KEY_N_EMBD, KEY_D_MODEL, KEY_COUNT};
  static const spindle__key keys[] = {KEY_HEAD_DIM, KEY_KV_CHANNELS, KEY_COUNT};
  int64_t dim = spindle__first_integer(r, keys, 1, MAX_HEAD_DIM, spindle__default(r, KEY_HEAD_DIM, f->head_dim));
  int64_t hidden = spindle__first_integer(r, hidden_keys, 1, MAX_DIM, f->hidden);
  if (dim || r->status) return dim;
  if (!hidden) spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "head_dim and hidden_size are missing");
  return hidden / heads;
}

static void read_shape(spindle__reader *r, const spindle__family *f, spindle_config_layer *layer) {
  spindle_shape *s = &layer->shape;
  int64_t nope = spindle__key_integer(r, KEY_NOPE_DIM, 0, MAX_HEAD_DIM, f->nope_dim), dim, value_dim;
  s->num_q_heads = query_heads(r, f);
  if (r->status) return;
  if (nope) { /* latent attention, expanded: keys and values of every head */
    dim = nope + spindle__key_integer(r, KEY_ROPE_DIM, 0, MAX_HEAD_DIM, f->rope_dim);
    s->num_kv_heads = s->num_q_heads;
    s->rotary_offset = (int32_t)nope;
  } else {
    dim = head_dim(r, f, s->num_q_heads);
    s->num_kv_heads = key_heads(r, f, s->num_q_heads);
  }
  if (f->global_head_dim && spindle__is_full(layer)) {
    dim = spindle__key_integer(r, KEY_GLOBAL_HEAD_DIM, 1, MAX_HEAD_DIM, f->global_head_dim);
    if (spindle__key_boolean(r, KEY_K_EQ_V, 0))
      s->num_kv_heads = (int32_t)spindle__key_integer(r, KEY_GLOBAL_KV_HEADS, 1, MAX_HEADS, s->num_kv_heads);
  }
  if (f->sliding_kv && spindle__is_sliding(layer)) s->num_kv_heads *= f->sliding_kv;
  value_dim = spindle__key_integer(r, KEY_V_DIM, 1, MAX_HEAD_DIM, f->v_dim ? f->v_dim : dim);
  if (!r->status && (dim < 1 || dim > MAX_HEAD_DIM))
    spindle__config_fail(r, SPINDLE_UNSUPPORTED, "head dim %d, expected 1..%d", (int)dim, MAX_HEAD_DIM);
  if (!r->status && s->num_q_heads % s->num_kv_heads)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%d query heads are no multiple of %d KV heads", (int)s->num_q_heads,
                         (int)s->num_kv_heads);
  s->head_dim_qk = (int32_t)dim;
  s->head_dim_v = (int32_t)value_dim;
}

/* The number of keys that a sliding layer sees, the query's own counted; 0: no window. */
static int64_t window_of(spindle__reader *r, const spindle__family *f) {
  static const spindle__key keys[] = {KEY_WINDOW, KEY_WINDOW_SIZE, KEY_ATTENTION_WINDOW, KEY_COUNT};
  if (f->flags & FAMILY_WINDOW_SWITCH && !spindle__key_boolean(r, KEY_USE_WINDOW, 0)) return 0;
  if (f->flags & FAMILY_WINDOW_BEHIND && r->values.of[KEY_SLIDING_WINDOW_SIZE])
    return 1 + spindle__key_integer(r, KEY_SLIDING_WINDOW_SIZE, 0, MAX_WINDOW, 0);
  if (r->values.of[KEY_LOCAL_ATTENTION]) return spindle__key_integer(r, KEY_LOCAL_ATTENTION, 2, MAX_WINDOW, 0) / 2;
  return spindle__first_integer(r, keys, 0, MAX_WINDOW, spindle__default(r, KEY_WINDOW, f->window));
}

static void read_mask(spindle__reader *r, const spindle__family *f, spindle_config_layer *layer) {
  spindle_position *p = &layer->position;
  const cJSON *both_ways = r->values.of[KEY_BIDIRECTIONAL];
  if (cJSON_IsTrue(both_ways) || (cJSON_IsString(both_ways) && strcmp(both_ways->valuestring, "all") == 0))
    spindle__config_fail(r, SPINDLE_UNSUPPORTED, "use_bidirectional_attention: not a causal model");
  if (spindle__is_sliding(layer) || f->flags & FAMILY_WINDOW_ON_FULL) {
    p->window_left = window_of(r, f);
    if (!p->window_left && !(f->flags & FAMILY_WINDOW_ON_FULL))
      spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "sliding_window is missing");
  }
  if (strcmp(layer->layer_type, "chunked_attention") == 0) {
    p->chunk = spindle__key_integer(r, KEY_CHUNK, 1, MAX_WINDOW, f->chunk);
    if (!p->chunk) spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "attention_chunk_size is missing");
  }
  layer->learned_sinks = f->flags & FAMILY_SINKS || (f->flags & FAMILY_SINKS_SLIDING && p->window_left);
}

static void read_scale(spindle__reader *r, const spindle__family *f, spindle_config_layer *layer) {
  const cJSON *in_attn_config = spindle__member(r->values.of[KEY_ATTN_CONFIG], "softmax_scale");
  double multiplier;
  layer->scale = pow(layer->shape.head_dim_qk, -0.5);
  if (f->flags & FAMILY_SCALE_ONE || !spindle__key_boolean(r, KEY_SCALE_WEIGHTS, 1)) layer->scale = 1;
  if (spindle__key_boolean(r, KEY_SCALE_BY_LAYER, 0)) layer->scale /= r->layer + 1;
  if (f->flags & (FAMILY_SCALE_MULTIPLIER | FAMILY_SCALE_QUERY)) {
    int query = (f->flags & FAMILY_SCALE_QUERY) != 0;
    spindle__key key = query ? KEY_QUERY_SCALAR : KEY_MULTIPLIER;
    multiplier = spindle__key_number(r, key, 1e-9, 1e9, r->values.null[key] ? 0 : f->multiplier);
    if (multiplier != 0) layer->scale = query ? pow(multiplier, -0.5) : multiplier;
  }
  layer->scale = spindle__number(r, in_attn_config, "attn_config.softmax_scale", 1e-9, 1e9, layer->scale);
  if (f->flags & FAMILY_SOFTCAP)
    layer->softcap = spindle__key_number(r, KEY_SOFTCAP, 0, 1e9, r->values.null[KEY_SOFTCAP] ? 0 : f->softcap);
}

static void read_alibi(spindle__reader *r, const spindle__family *f, spindle_config_layer *layer) {
  const cJSON *attn_config = r->values.of[KEY_ATTN_CONFIG];
  int alibi = (f->flags & FAMILY_ALIBI) != 0;
  if (f->flags & FAMILY_ALIBI_KEY && attn_config)
    alibi = spindle__boolean(r, spindle__member(attn_config, "alibi"), "attn_config.alibi", 1);
  else if (f->flags & FAMILY_ALIBI_KEY)
    alibi = spindle__key_boolean(r, KEY_ALIBI, !(f->flags & FAMILY_FALCON));
  if (f->flags & FAMILY_BAICHUAN) alibi = spindle__key_integer(r, KEY_HIDDEN, 1, MAX_DIM, 0) != 4096;
  if (!alibi) return;
  layer->shape.bias = SPINDLE_BIAS_ALIBI;
  layer->alibi_bias_max =
      spindle__number(r, spindle__member(attn_config, "alibi_bias_max"), "attn_config.alibi_bias_max", 1e-3, 1e3, 8);
  layer->alibi_slope_scale = f->flags & FAMILY_FALCON ? layer->scale : 1;
}

static void read_row_scale(spindle__reader *r, const spindle__family *f, spindle_config_layer *layer) {
  spindle_position *p = &layer->position;
  if (f->flags & FAMILY_TEMPERATURE && p->rope == SPINDLE_ROPE_NONE && spindle__key_boolean(r, KEY_TEMPERATURE_TUNING, 1)) {
    p->row_scale = SPINDLE_ROWSCALE_LLAMA4;
    p->row_scale_beta = spindle__key_number(r, KEY_ATTN_SCALE, 0, 1e3, 0.1);
    p->row_scale_length = spindle__key_number(r, KEY_FLOOR_SCALE, 1, SPINDLE__CONFIG_MAX_LENGTH, 8192);
  }
  if (spindle__key_boolean(r, KEY_USE_LOGN, 0)) { /* Qwen */
    p->row_scale = SPINDLE_ROWSCALE_LOGN;
    p->row_scale_length = spindle__key_number(r, KEY_SEQ_LENGTH, 2, SPINDLE__CONFIG_MAX_LENGTH, 2048);
  }
  if (p->rope == SPINDLE_ROPE_DEFAULT && spindle__key_boolean(r, KEY_USE_DYNAMIC_NTK, 0)) {
    p->rope = SPINDLE_ROPE_QWEN_DYNAMIC_NTK;
    p->original_max_position_embeddings = spindle__key_number(r, KEY_SEQ_LENGTH, 2, SPINDLE__CONFIG_MAX_LENGTH, 2048);
  }
}

void spindle__read_layer(spindle__reader *r, spindle_config *config, spindle_config_layer *layer) {
  const spindle__family *f = config->family;
  layer->struct_size = sizeof *layer;
  layer->shape.struct_size = sizeof layer->shape;
  layer->position.struct_size = sizeof layer->position;
  if (!layer->has_attention) return;
  layer->shape.q_dtype = layer->shape.kv_dtype = layer->shape.o_dtype = SPINDLE_F32;
  read_shape(r, f, layer);
  if (r->status) return;
  read_scale(r, f, layer);
  read_alibi(r, f, layer);
  read_mask(r, f, layer);
  spindle__read_rope(r, config, layer);
  read_row_scale(r, f, layer);
}
