/* Where a config keeps its rope parameters: rope_scaling (older) or rope_parameters (newer), flat or nested by layer type. */
#include <string.h>

#include "internal.h"

static int is_layer_type(const char *name) {
  static const char *const types[] = {"full_attention", "sliding_attention", "chunked_attention", "linear_attention",
                                      "hybrid",         "hybrid_sliding"};
  for (size_t k = 0; k < sizeof types / sizeof *types; k++)
    if (strcmp(types[k], name) == 0) return 1;
  return 0;
}

/* NULL unless it is an object with members. */
static const cJSON *parameters_of(spindle__reader *r, spindle__key key) {
  const cJSON *item = r->values.of[key];
  if (!item) return NULL;
  if (!cJSON_IsObject(item))
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s: expected an object", spindle__key_name(key));
  else if (cJSON_GetArraySize(item) > SPINDLE__CONFIG_MAX_MEMBERS)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s has more than %d members", spindle__key_name(key),
                         SPINDLE__CONFIG_MAX_MEMBERS);
  return r->status ? NULL : item->child ? item : NULL;
}

/* Steps into the layer type's own set, if there are sets by layer type. */
static spindle__rope_source for_layer_type(spindle__reader *r, const cJSON *parameters, const char *layer_type) {
  spindle__rope_source source = {.parameters = parameters};
  const cJSON *own = NULL;
  for (const cJSON *item = parameters ? parameters->child : NULL; item; item = item->next) {
    if (is_layer_type(item->string) && (cJSON_IsObject(item) || cJSON_IsNull(item))) source.nested = 1;
    if (strcmp(item->string, layer_type) == 0) own = item;
  }
  if (!source.nested) return source;
  if (!own)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "no rope parameters for layer type \"%s\"", layer_type);
  else if (cJSON_GetArraySize(own) > SPINDLE__CONFIG_MAX_MEMBERS)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "rope parameters have more than %d members", SPINDLE__CONFIG_MAX_MEMBERS);
  source.none = own && cJSON_IsNull(own);
  source.parameters = cJSON_IsObject(own) ? own : NULL;
  return source;
}

/* rope_scaling, where it says anything, wins over rope_parameters. */
spindle__rope_source spindle__find_rope_parameters(spindle__reader *r, const spindle__family *family, const char *layer_type) {
  const cJSON *legacy = family->flags & FAMILY_NO_LEGACY ? NULL : parameters_of(r, KEY_ROPE_SCALING);
  const cJSON *parameters = parameters_of(r, KEY_ROPE_PARAMETERS);
  spindle__rope_source source;
  if (!(family->flags & (FAMILY_SCALED_FULL | FAMILY_SCALED_BOTH)))
    return for_layer_type(r, legacy ? legacy : parameters, layer_type);
  source = for_layer_type(r, parameters, layer_type);
  if (legacy && (family->flags & FAMILY_SCALED_BOTH || strcmp(layer_type, "full_attention") == 0)) {
    source.below = source.parameters;
    source.parameters = legacy;
  }
  source.nested = 1; /* such families keep a set per layer type in any case */
  return source;
}

const cJSON *spindle__rope_field(const spindle__rope_source *source, const char *name) {
  const cJSON *item = spindle__member(source->parameters, name);
  return item ? item : spindle__member(source->below, name);
}
