/* The keys of a config that the reader looks at, gathered once, and checked access to their values. */
#ifndef SPINDLE_CONFIG_KEYS_H
#define SPINDLE_CONFIG_KEYS_H

#include <cjson/cJSON.h>
#include <spindle/spindle.h>

#define SPINDLE__KEYS(X)                                                                                                         \
  X(HEADS, "num_attention_heads")                                                                                                \
  X(N_HEAD, "n_head") X(N_HEADS, "n_heads") X(NUM_HEADS, "num_heads") X(ATTENTION_HEADS, "attention_heads")                      \
      X(DECODER_HEADS, "decoder_attention_heads") X(KV_HEADS, "num_key_value_heads") X(NUM_KV_HEADS, "num_kv_heads") X(          \
          KV_N_HEADS, "kv_n_heads") X(MULTI_QUERY, "multi_query") X(NEW_DECODER, "new_decoder_architecture")                     \
          X(HEADS_PER_LAYER, "num_attention_heads_per_layer") X(HEAD_DIM, "head_dim") X(KV_CHANNELS, "kv_channels") X(           \
              HIDDEN, "hidden_size") X(N_EMBED, "n_embed") X(N_EMBD, "n_embd") X(D_MODEL, "d_model")                             \
              X(NOPE_DIM, "qk_nope_head_dim") X(ROPE_DIM, "qk_rope_head_dim") X(V_DIM, "v_head_dim") X(                          \
                  GLOBAL_HEAD_DIM, "global_head_dim") X(GLOBAL_KV_HEADS, "num_global_key_value_heads")                           \
                  X(K_EQ_V, "attention_k_eq_v") X(LAYERS, "num_hidden_layers") X(N_LAYER, "n_layer") X(N_LAYERS, "n_layers") X(  \
                      NUM_LAYERS, "num_layers") X(DECODER_LAYERS, "decoder_layers") X(MAX_POSITIONS, "max_position_embeddings")  \
                      X(N_POSITIONS, "n_positions") X(MAX_SEQ_LEN, "max_seq_len") X(SEQ_LENGTH, "seq_length") X(                 \
                          MODEL_MAX_LENGTH,                                                                                      \
                          "model_max_length") X(MAX_TARGET_POSITIONS, "max_target_positions")                                    \
                          X(ORIGINAL_MAX, "original_max_position_embeddings") X(ROPE_SCALING, "rope_scaling") X(                 \
                              ROPE_PARAMETERS, "rope_parameters") X(ROPE_THETA, "rope_theta")                                    \
                              X(ROTARY_EMB_BASE, "rotary_emb_base") X(ROTARY_PCT, "rotary_pct") X(ROTARY_DIM, "rotary_dim") X(   \
                                  CONDENSE,                                                                                      \
                                  "rope_condense_ratio") X(PARTIAL, "partial_rotary_factor")                                     \
                                  X(PARTIALS, "partial_rotary_factors") X(ROPE_LOCAL_BASE, "rope_local_base_freq") X(            \
                                      GLOBAL_ROPE_THETA,                                                                         \
                                      "global_rope_theta") X(LOCAL_ROPE_THETA,                                                   \
                                                             "local_rope_theta") X(LAYER_ROPE_THETA, "layer_rope_theta")         \
                                      X(ROPE_INTERLEAVE, "rope_interleave") X(POSITION_EMBEDDING, "position_embedding_type") X(  \
                                          NO_ROPE_LAYERS,                                                                        \
                                          "no_rope_layers") X(NO_ROPE_INTERVAL, "no_rope_layer_interval")                        \
                                          X(USE_DYNAMIC_NTK, "use_dynamic_ntk") X(USE_LOGN, "use_logn_attn")                     \
                                              X(LAYER_TYPES, "layer_types") X(LAYERS_BLOCK_TYPE, "layers_block_type") X(         \
                                                  BLOCK_TYPES, "block_types") X(ATTENTION_LAYERS, "attention_layers")            \
                                                  X(ATTENTION_TYPES, "attention_types") X(FULL_ATTN_IDXS, "full_attn_idxs") X(   \
                                                      ATTN_LAYER_INDICES,                                                        \
                                                      "attn_layer_indices") X(ATTN_PERIOD, "attn_layer_period")                  \
                                                      X(ATTN_OFFSET,                                                             \
                                                        "attn_layer_offset") X(FULL_INTERVAL, "full_attention_interval")         \
                                                          X(GLOBAL_EVERY, "global_attn_every_n_layers") X(                       \
                                                              GROUP_SIZE,                                                        \
                                                              "layer_group_size") X(WINDOW_PATTERN, "sliding_window_pattern")    \
                                                              X(SAVED_PATTERN, "_sliding_window_pattern") X(                     \
                                                                  HYBRID_PATTERN,                                                \
                                                                  "hybrid_override_pattern") X(WINDOW, "sliding_window")         \
                                                                  X(WINDOW_SIZE,                                                 \
                                                                    "window_size") X(ATTENTION_WINDOW, "attention_window_size")  \
                                                                      X(SLIDING_WINDOW_SIZE, "sliding_window_size") X(           \
                                                                          LOCAL_ATTENTION,                                       \
                                                                          "local_attention") X(USE_WINDOW, "use_sliding_window") \
                                                                          X(MAX_WINDOW_LAYERS, "max_window_layers") X(           \
                                                                              CHUNK, "attention_chunk_size")                     \
                                                                              X(BIDIRECTIONAL, "use_bidirectional_attention") X( \
                                                                                  MULTIPLIER, "attention_multiplier")            \
                                                                                  X(QUERY_SCALAR, "query_pre_attn_scalar") X(    \
                                                                                      SOFTCAP, "attn_logit_softcapping")         \
                                                                                      X(SCALE_WEIGHTS, "scale_attn_weights") X(  \
                                                                                          SCALE_BY_LAYER,                        \
                                                                                          "scale_attn_by_inverse_layer_idx")     \
                                                                                          X(TEMPERATURE_TUNING,                  \
                                                                                            "attn_temperature_tuning")           \
                                                                                              X(FLOOR_SCALE, "floor_scale")      \
                                                                                                  X(ATTN_SCALE, "attn_scale") X( \
                                                                                                      CROSS_LAYERS,              \
                                                                                                      "cross_attention_layers")  \
                                                                                                      X(ALIBI, "alibi") X(       \
                                                                                                          ATTN_CONFIG,           \
                                                                                                          "attn_config")         \
                                                                                                          X(PER_LAYER,           \
                                                                                                            "per_layer_config")

typedef enum spindle__key {
#define X(id, name) KEY_##id,
  SPINDLE__KEYS(X)
#undef X
      KEY_COUNT
} spindle__key;

/* A config's values by key: NULL where absent or null. The last of equal keys counts, as in Python. */
typedef struct spindle__values {
  const cJSON *of[KEY_COUNT];
  unsigned char null[KEY_COUNT]; /* 1: given as null, which is "none", not "the default" */
} spindle__values;

/* What reading has come to: the first failure sticks, and everything after it is void. */
typedef struct spindle__reader {
  spindle_status status;
  int32_t layer; /* the one being read, -1 before the first */
  spindle__values values;
} spindle__reader;

const char *spindle__key_name(spindle__key key);
/* Puts the members of object on top of values. */
void spindle__values_collect(spindle__values *values, const cJSON *object);

/* Records a failure; returns r->status. */
spindle_status spindle__config_fail(spindle__reader *r, spindle_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Each returns `fallback` where item is NULL, and fails where it has another type or lies outside [lo, hi]. */
double spindle__number(spindle__reader *r, const cJSON *item, const char *name, double lo, double hi, double fallback);
int64_t spindle__integer(spindle__reader *r, const cJSON *item, const char *name, int64_t lo, int64_t hi, int64_t fallback);
int spindle__boolean(spindle__reader *r, const cJSON *item, const char *name, int fallback);
const char *spindle__string(spindle__reader *r, const cJSON *item, const char *name, const char *fallback);
/* NULL where item is not an array; fails if it is an array that has no entry for the layer. */
const cJSON *spindle__of_layer(spindle__reader *r, const cJSON *item, const char *name);
/* Member of an object, NULL if absent or null. */
const cJSON *spindle__member(const cJSON *object, const char *name);

double spindle__key_number(spindle__reader *r, spindle__key key, double lo, double hi, double fallback);
int64_t spindle__key_integer(spindle__reader *r, spindle__key key, int64_t lo, int64_t hi, int64_t fallback);
int spindle__key_boolean(spindle__reader *r, spindle__key key, int fallback);
/* What an absent key means: the family's default; 0 for one that is null. */
int64_t spindle__default(const spindle__reader *r, spindle__key key, int64_t family_default);
/* The first key present of a list that ends with KEY_COUNT, else the fallback. */
int64_t spindle__first_integer(spindle__reader *r, const spindle__key *keys, int64_t lo, int64_t hi, int64_t fallback);

#endif
