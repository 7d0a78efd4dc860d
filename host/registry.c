/* The registry: methods by name, and parameters by name. */
#include "registry.h"

#include <string.h>

static const spindle_method methods[] = {
#define METHOD(family, kind, flags, name, required, optional, source) {family, kind, flags, name, required, optional, source},
#include "methods.def"
#undef METHOD
};
#define NUM_METHODS ((int32_t)(sizeof methods / sizeof *methods))

/* PARAMETER(family, type, field, name, low, high, open_low): 0 means "not given", so a range need not hold it. */
#define INDEX 1099511627776.0 /* 2^40 */
#define PARAMETERS(PARAMETER)                                                                                   \
  PARAMETER(ROPE, NUMBER, rope_theta, "rope_theta", 1, 1e300, true)                                             \
  PARAMETER(ROPE, NUMBER, factor, "factor", 1, 1e9, false)                                                      \
  PARAMETER(ROPE, NUMBER, original_max_position_embeddings, "original_max_position_embeddings", 1, INDEX, true) \
  PARAMETER(ROPE, NUMBER, max_position_embeddings, "max_position_embeddings", 1, INDEX, false)                  \
  PARAMETER(ROPE, NUMBER, attention_factor, "attention_factor", 0, 1e6, true)                                   \
  PARAMETER(ROPE, NUMBER, beta_fast, "beta_fast", 0, 1e9, true)                                                 \
  PARAMETER(ROPE, NUMBER, beta_slow, "beta_slow", 0, 1e9, true)                                                 \
  PARAMETER(ROPE, FLAG_NOT, no_truncate, "truncate", 0, 1, false)                                               \
  PARAMETER(ROPE, NUMBER, mscale, "mscale", 0, 1e6, true)                                                       \
  PARAMETER(ROPE, NUMBER, mscale_all_dim, "mscale_all_dim", 0, 1e6, true)                                       \
  PARAMETER(ROPE, NUMBER, low_freq_factor, "low_freq_factor", 0, 1e9, true)                                     \
  PARAMETER(ROPE, NUMBER, high_freq_factor, "high_freq_factor", 0, 1e9, true)                                   \
  PARAMETER(ROPE, NUMBER, partial_rotary_factor, "partial_rotary_factor", 0, 1, true)                           \
  PARAMETER(ROPE, NUMBER, alpha, "alpha", 1, 1e9, false)                                                        \
  PARAMETER(ROPE, NUMBER, ntk_b, "b", 0, 1, true)                                                               \
  PARAMETER(ROPE, NUMBER, scale_base, "scale_base", 0, INDEX, true)                                             \
  PARAMETER(ROPE, FLAG, finetuned, "finetuned", 0, 1, false)                                                    \
  PARAMETER(ROPE, LIST, inv_freq, "inv_freq", -1e6, 1e6, false)                                                 \
  PARAMETER(ROPE, LIST, short_factor, "short_factor", 0, 1e9, true)                                             \
  PARAMETER(ROPE, LIST, long_factor, "long_factor", 0, 1e9, true)                                               \
  PARAMETER(REMAP, INTEGER, remap_window, "window", 1, INDEX, false)                                            \
  PARAMETER(REMAP, INTEGER, remap_group, "group", 1, INDEX, false)                                              \
  PARAMETER(REMAP, INTEGER, remap_chunk, "chunk", 1, INDEX, false)                                              \
  PARAMETER(REMAP, INTEGER, remap_local, "local", 1, INDEX, false)                                              \
  PARAMETER(REMAP, INTEGER, remap_pretrain, "pretrain", 1, INDEX, false)                                        \
  PARAMETER(REMAP, INTEGER, remap_sink_tokens, "sinks", 1, INDEX, false)                                        \
  PARAMETER(REMAP, NUMBER, remap_k, "k", 1e-6, 1e6, false)                                                      \
  PARAMETER(LOGITS, NUMBER, row_scale_length, "logn", 1, INDEX, true)                                           \
  PARAMETER(LOGITS, NUMBER, row_scale_beta, "llama4_scale", -1e6, 1e6, false)                                   \
  PARAMETER(LOGITS, NUMBER, row_scale_length, "llama4_floor", 1, INDEX, false)                                  \
  PARAMETER(LOGITS, NUMBER, row_scale_beta, "llama_4_scaling_beta", -1e6, 1e6, false)                           \
  PARAMETER(LOGITS, NUMBER, row_scale_length, "original_max_position_embeddings", 1, INDEX, false)              \
  PARAMETER(MASK, FLAG_NOT, not_causal, "causal", 0, 1, false)                                                  \
  PARAMETER(MASK, INTEGER, window_left, "window", 1, INDEX, false)                                              \
  PARAMETER(MASK, INTEGER, window_right, "window_right", 1, INDEX, false)                                       \
  PARAMETER(MASK, INTEGER, sink_tokens, "sinks", 1, INDEX, false)                                               \
  PARAMETER(MASK, INTEGER, chunk, "chunk", 1, INDEX, false)                                                     \
  PARAMETER(MASK, INTEGER, s2_group, "s2", 2, INDEX, false)                                                     \
  PARAMETER(MASK, FLAG, s2_wrap, "s2_wrap", 0, 1, false)

static const spindle_parameter parameters[] = {
#define PARAMETER(family, type, field, name, low, high, open_low) \
  {SPINDLE_FAMILY_##family, SPINDLE_PARAMETER_##type, offsetof(spindle_position, field), name, #field},
    PARAMETERS(PARAMETER)
#undef PARAMETER
};
#define NUM_PARAMETERS ((int32_t)(sizeof parameters / sizeof *parameters))

static const spindle__range ranges[] = {
#define PARAMETER(family, type, field, name, low, high, open_low) {low, high, open_low},
    PARAMETERS(PARAMETER)
#undef PARAMETER
};

const spindle_method *spindle_methods(int32_t *count) {
  if (count) *count = NUM_METHODS;
  return methods;
}

const spindle_method *spindle_method_find(int32_t family, const char *name) {
  for (int32_t m = 0; name && m < NUM_METHODS; m++)
    if (methods[m].family == family && !strcmp(methods[m].name, name)) return &methods[m];
  return NULL;
}

const spindle_method *spindle__method_of_kind(int32_t family, int32_t kind) {
  for (int32_t m = 0; m < NUM_METHODS; m++)
    if (methods[m].family == family && methods[m].kind == kind) return &methods[m];
  return NULL;
}

const spindle_parameter *spindle_parameters(int32_t *count) {
  if (count) *count = NUM_PARAMETERS;
  return parameters;
}

const spindle__range *spindle__parameter_range(const spindle_parameter *parameter) { return &ranges[parameter - parameters]; }

double spindle__parameter_value(const spindle_parameter *parameter, const spindle_position *position) {
  const char *field = (const char *)position + parameter->offset;
  switch (parameter->type) {
    case SPINDLE_PARAMETER_INTEGER: return (double)*(const int64_t *)field;
    case SPINDLE_PARAMETER_NUMBER: return *(const double *)field;
    case SPINDLE_PARAMETER_LIST: return *(const double *const *)field != NULL;
    default: return *(const int32_t *)field;
  }
}

bool spindle__names_contain(const char *names, const char *name) {
  size_t length = strlen(name);
  for (const char *at = names; *at; at += strcspn(at, " |"), at += strspn(at, " |"))
    if (strcspn(at, " |") == length && !strncmp(at, name, length)) return true;
  return false;
}
