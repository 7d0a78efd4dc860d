/* The type of every layer: from the file's list, from older ways to say it, or by the family's rule. */
#include <string.h>

#include "internal.h"

static const char full[] = "full_attention", sliding[] = "sliding_attention", chunked[] = "chunked_attention",
                  linear[] = "linear_attention", selected[] = "its keys are selected by a learned index";

typedef struct type_name {
  const char *name, *type; /* type: what we call it, or why it cannot be served */
  int attends;             /* -1: in a way that Spindle cannot */
} type_name;

static const type_name type_names[] = {
    {full, full, 1},
    {sliding, sliding, 1},
    {chunked, chunked, 1},
    {"attention", full, 1},
    {"global", full, 1},
    {"local", sliding, 1},
    {"hybrid", "hybrid", 1},
    {"hybrid_sliding", "hybrid_sliding", 1},
    {linear, linear, 0},
    {"mamba", linear, 0},
    {"mamba2", linear, 0},
    {"recurrent", linear, 0},
    {"conv", "conv", 0},
    {"moe", "moe", 0},
    {"mlp", "mlp", 0},
    {"cross_attention", "cross_attention", 0},
    {"M", linear, 0},
    {"*", full, 1},
    {"-", "mlp", 0},
    {"E", "moe", 0},
    {"indexed_attention", selected, -1},
    {"compressed_sparse_attention", selected, -1},
    {"heavily_compressed_attention", selected, -1},
    {"minimax_m3_sparse", selected, -1},
    {"deepseek_sparse_attention", selected, -1},
    {"qwen_sparse_attention", selected, -1},
    {"reference_sliding_attention", "its window opens behind a prefix that differs per request", -1},
    {"window_attention", "not a causal layer", -1},
};

static void set_type(spindle__reader *r, spindle_config_layer *layer, const char *name, const char *key) {
  for (size_t k = 0; k < sizeof type_names / sizeof *type_names; k++)
    if (strcmp(type_names[k].name, name) == 0) {
      if (type_names[k].attends < 0)
        spindle__config_fail(r, SPINDLE_UNSUPPORTED, "layer type \"%.60s\": %s", name, type_names[k].type);
      layer->layer_type = type_names[k].type;
      layer->has_attention = type_names[k].attends > 0;
      return;
    }
  spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s: unknown layer type \"%.60s\"", key, name);
}

int32_t spindle__number_of_layers(spindle__reader *r, const spindle__family *family) {
  static const spindle__key counts[] = {KEY_DECODER_LAYERS, KEY_LAYERS, KEY_N_LAYER, KEY_N_LAYERS, KEY_NUM_LAYERS, KEY_COUNT};
  static const spindle__key lists[] = {KEY_LAYER_TYPES, KEY_LAYERS_BLOCK_TYPE, KEY_COUNT};
  const cJSON *pattern = r->values.of[KEY_HYBRID_PATTERN];
  int64_t count = spindle__first_integer(r, counts, 1, SPINDLE__CONFIG_MAX_LAYERS, 0);
  for (const spindle__key *k = lists; *k != KEY_COUNT && !count; k++)
    count = cJSON_IsArray(r->values.of[*k]) ? cJSON_GetArraySize(r->values.of[*k]) : 0;
  if (!count && cJSON_IsString(pattern)) count = (int64_t)strlen(pattern->valuestring);
  if (!count) count = family->layers;
  if (family->attentions) count *= family->attentions;
  if (!count || count > SPINDLE__CONFIG_MAX_LAYERS)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "num_hidden_layers: expected 1..%d layers", SPINDLE__CONFIG_MAX_LAYERS);
  return r->status ? 0 : (int32_t)count;
}

/* An array with one name a layer, or (cyclic) one that repeats. */
static void types_from_list(spindle__reader *r, spindle_config *config, spindle__key key, int cyclic) {
  const cJSON *list = r->values.of[key], *item = list->child;
  int32_t count = cJSON_GetArraySize(list);
  if (!cyclic && count < config->num_layers) {
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s has %d entries, expected %d", spindle__key_name(key), (int)count,
                         (int)config->num_layers);
    return;
  }
  for (int32_t i = 0; i < config->num_layers && !r->status; i++, item = item->next ? item->next : list->child)
    set_type(r, &config->layers[i], spindle__string(r, item, spindle__key_name(key), ""), spindle__key_name(key));
}

/* GPT-Neo: [[["global", "local"], 12]]: each list of names so many times. */
static void types_from_groups(spindle__reader *r, spindle_config *config, const cJSON *groups) {
  int32_t i = 0;
  for (const cJSON *group = groups->child; group && !r->status; group = group->next) {
    const cJSON *names = cJSON_GetArrayItem(group, 0);
    int64_t times = spindle__integer(r, cJSON_GetArrayItem(group, 1), "attention_types", 0, SPINDLE__CONFIG_MAX_LAYERS, 1);
    for (int64_t t = 0; t < times && i < config->num_layers; t++)
      for (const cJSON *name = names ? names->child : NULL; name && i < config->num_layers && !r->status; name = name->next)
        set_type(r, &config->layers[i++], spindle__string(r, name, "attention_types", ""), "attention_types");
  }
  if (i < config->num_layers)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "attention_types names %d layers, expected %d", (int)i,
                         (int)config->num_layers);
}

/* The layers whose indices the key lists are of the type. */
static void set_types_of(spindle__reader *r, spindle_config *config, spindle__key key, const char *type) {
  for (const cJSON *item = r->values.of[key]->child; item && !r->status; item = item->next) {
    int64_t i = spindle__integer(r, item, spindle__key_name(key), 0, config->num_layers - 1, 0);
    set_type(r, &config->layers[i], type, spindle__key_name(key));
  }
}

/* Indices of the layers that attend; the others are `other`. */
static void types_from_indices(spindle__reader *r, spindle_config *config, spindle__key key, const char *other) {
  for (int32_t i = 0; i < config->num_layers; i++) set_type(r, &config->layers[i], other, spindle__key_name(key));
  set_types_of(r, config, key, full);
}

/* Nemotron-H's "M-M*": one letter a layer. */
static void types_from_pattern(spindle__reader *r, spindle_config *config, const char *pattern) {
  if (strlen(pattern) < (size_t)config->num_layers)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "hybrid_override_pattern has fewer than %d letters",
                         (int)config->num_layers);
  for (int32_t i = 0; i < config->num_layers && !r->status; i++) {
    const char letter[2] = {pattern[i], 0};
    set_type(r, &config->layers[i], letter, "hybrid_override_pattern");
  }
}

/* "LLLG": one letter a layer, repeated; the last layer is always full. */
static void types_from_letters(spindle__reader *r, spindle_config *config, const char *letters) {
  size_t length = strlen(letters);
  for (int32_t i = 0; i < config->num_layers && !r->status; i++) {
    int local = length && letters[(size_t)i % length] == 'L' && i < config->num_layers - 1;
    set_type(r, &config->layers[i], local ? sliding : full, "sliding_window_pattern");
  }
}

int spindle__rotates_by_list(spindle__reader *r, int32_t layer) {
  const cJSON *list = r->values.of[KEY_NO_ROPE_LAYERS];
  const cJSON *entry = cJSON_IsArray(list) ? cJSON_GetArrayItem(list, layer) : NULL;
  int64_t interval = spindle__key_integer(r, KEY_NO_ROPE_INTERVAL, 1, SPINDLE__CONFIG_MAX_LAYERS, 4);
  return entry ? spindle__integer(r, entry, "no_rope_layers", 0, 1, 1) != 0 : (layer + 1) % interval != 0;
}

static const char *type_by_rule(spindle__reader *r, const spindle__family *f, int32_t i, int32_t layers) {
  static const spindle__key periods[] = {KEY_WINDOW_PATTERN, KEY_SAVED_PATTERN, KEY_FULL_INTERVAL, KEY_GLOBAL_EVERY,
                                         KEY_GROUP_SIZE,     KEY_ATTN_PERIOD,   KEY_COUNT};
  int has_window = r->values.of[KEY_WINDOW] || spindle__default(r, KEY_WINDOW, f->window) > 0;
  int switched_on = !(f->flags & FAMILY_WINDOW_SWITCH) || spindle__key_boolean(r, KEY_USE_WINDOW, 0);
  int64_t period, phase, first_window = spindle__key_integer(r, KEY_MAX_WINDOW_LAYERS, 0, INT32_MAX, f->period);
  switch (f->types) {
    case TYPES_EVERY:
    case TYPES_FROM_END:
      period = spindle__first_integer(r, periods, 1, SPINDLE__CONFIG_MAX_LAYERS, f->period);
      phase = spindle__key_integer(r, KEY_ATTN_OFFSET, 0, SPINDLE__CONFIG_MAX_LAYERS, f->phase < 0 ? period - 1 : f->phase);
      if (i < f->first || i >= layers - f->last) return full;
      if (i < -f->first) return f->other;
      if (f->types == TYPES_FROM_END) i = layers - 1 - i;
      return i % period == phase ? full : f->other ? f->other : sliding;
    case TYPES_MAX_WINDOW: return switched_on && has_window && i >= first_window ? sliding : full;
    case TYPES_ALTERNATE: return switched_on && i % 2 == 0 && i < first_window ? sliding : full;
    case TYPES_NOPE: return spindle__rotates_by_list(r, i) ? chunked : full;
    case TYPES_NOPE_SLIDING: return switched_on && has_window && !spindle__rotates_by_list(r, i) ? sliding : full;
    case TYPES_CROSS:
      if (!r->values.of[KEY_CROSS_LAYERS]) spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "cross_attention_layers is missing");
      return full;
    case TYPES_LISTED: spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "layer_types is missing"); return full;
    default: return has_window && switched_on && !(f->flags & FAMILY_WINDOW_ON_FULL) ? sliding : full;
  }
}

void spindle__read_layer_types(spindle__reader *r, spindle_config *config) {
  const spindle__family *family = config->family;
  const cJSON *pattern = r->values.of[KEY_WINDOW_PATTERN];
  if (cJSON_IsArray(r->values.of[KEY_LAYER_TYPES]))
    types_from_list(r, config, KEY_LAYER_TYPES, 0);
  else if (cJSON_IsArray(r->values.of[KEY_LAYERS_BLOCK_TYPE]))
    types_from_list(r, config, KEY_LAYERS_BLOCK_TYPE, 0);
  else if (cJSON_IsArray(r->values.of[KEY_BLOCK_TYPES]) && r->values.of[KEY_BLOCK_TYPES]->child)
    types_from_list(r, config, KEY_BLOCK_TYPES, 1);
  else if (cJSON_IsArray(r->values.of[KEY_ATTENTION_LAYERS]))
    types_from_list(r, config, KEY_ATTENTION_LAYERS, 0);
  else if (cJSON_IsArray(r->values.of[KEY_ATTENTION_TYPES]))
    types_from_groups(r, config, r->values.of[KEY_ATTENTION_TYPES]);
  else if (cJSON_IsArray(r->values.of[KEY_FULL_ATTN_IDXS]))
    types_from_indices(r, config, KEY_FULL_ATTN_IDXS, "conv");
  else if (cJSON_IsArray(r->values.of[KEY_ATTN_LAYER_INDICES]))
    types_from_indices(r, config, KEY_ATTN_LAYER_INDICES, linear);
  else if (cJSON_IsString(r->values.of[KEY_HYBRID_PATTERN]))
    types_from_pattern(r, config, r->values.of[KEY_HYBRID_PATTERN]->valuestring);
  else if (cJSON_IsString(pattern))
    types_from_letters(r, config, pattern->valuestring);
  else
    for (int32_t i = 0; i < config->num_layers && !r->status; i++)
      set_type(r, &config->layers[i], type_by_rule(r, family, i, config->num_layers), "layer_types");
  if (cJSON_IsArray(r->values.of[KEY_CROSS_LAYERS])) set_types_of(r, config, KEY_CROSS_LAYERS, "cross_attention");
}

int spindle__is_full(const spindle_config_layer *layer) {
  return strcmp(layer->layer_type, full) == 0 || strcmp(layer->layer_type, "hybrid") == 0;
}

int spindle__is_sliding(const spindle_config_layer *layer) {
  return strcmp(layer->layer_type, sliding) == 0 || strcmp(layer->layer_type, "hybrid_sliding") == 0;
}
