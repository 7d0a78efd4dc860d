/* Spindle's reader of Hugging Face config.json files: what each layer of a model needs from the attention call.
 * A library of its own (libspindle_config, on cJSON), so that the core depends on nothing.
 *
 * Layers are asked for by index, because NoPE layers, sliding layers and list-valued thetas have no names. The text part of a
 * multimodal config is found by itself (decoder, generator, text_config). What the reader does not know is an error that names
 * it, never a guess. Thread-safe: a config is immutable once made.
 */
#ifndef SPINDLE_CONFIG_H
#define SPINDLE_CONFIG_H

#include <spindle/spindle.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spindle_config spindle_config;

/* SPINDLE_INVALID_ARGUMENT: not readable, not JSON, a key missing or out of range, an unknown rope type. SPINDLE_UNSUPPORTED: a
 * model type that the reader does not know, or whose scores Spindle cannot express (relative bias tables, ...).
 * spindle_config_last_error() names file, key, value and what was expected. A failed call leaves *config as it was. */
SPINDLE_API spindle_status spindle_config_open(spindle_config **config, const char *path);
SPINDLE_API spindle_status spindle_config_parse(spindle_config **config, const char *json, size_t bytes);
SPINDLE_API void spindle_config_destroy(spindle_config *config);
SPINDLE_API const char *spindle_config_last_error(void); /* of this thread; "" before the first failure */

SPINDLE_API const char *spindle_config_model_type(const spindle_config *config); /* "llama", ...; "" if the file does not say */
SPINDLE_API int32_t spindle_config_num_layers(const spindle_config *config);
/* max_position_embeddings, or the family's name for it; 0 if the file does not say. */
SPINDLE_API int64_t spindle_config_max_position_embeddings(const spindle_config *config);

/* One decoder layer. */
typedef struct spindle_config_layer {
  size_t struct_size;        /* [in] */
  const char *layer_type;    /* "full_attention", "sliding_attention", ...; owned by the config */
  int32_t has_attention;     /* 0: a layer without softmax attention (state space, convolution); nothing below is set */
  int32_t learned_sinks;     /* 1: the checkpoint has one sink logit per query head */
  spindle_shape shape;       /* head counts and dims, rotary part, layout, bias class; dtypes are the caller's (F32 here) */
  spindle_position position; /* rule, mask, row scale; its lists are owned by the config. Causal */
  double scale;              /* on q.k, for spindle_attention_args; never 0 */
  double softcap;            /* 0: none */
  double alibi_bias_max; /* bias ALIBI: slopes = alibi_slope_scale * spindle_alibi_slopes(num_q_heads, alibi_bias_max, 0, 0) */
  double alibi_slope_scale;
} spindle_config_layer;
SPINDLE_API spindle_status spindle_config_get_layer(const spindle_config *config, int32_t layer, spindle_config_layer *out);

/* The distinct layer types with attention, in order of first appearance: name k and the first layer that has it (NULL, -1 past
 * the end). */
SPINDLE_API const char *spindle_config_layer_type(const spindle_config *config, int32_t k, int32_t *first_layer);

#ifdef __cplusplus
}
#endif
#endif
