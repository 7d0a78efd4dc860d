#include "source.h"

#include <stdio.h>
#include <string.h>

#include "output.h"

bool tool_config_open(spindle_config **config, const char *path) {
  if (spindle_config_open(config, path) == SPINDLE_OK) return true;
  tool_fail("--config: %s", spindle_config_last_error()); /* it names the file */
  return false;
}

bool tool_config_layer(const spindle_config *config, int32_t layer, spindle_config_layer *out) {
  *out = (spindle_config_layer){.struct_size = sizeof *out};
  if (spindle_config_get_layer(config, layer, out) == SPINDLE_OK) return true;
  tool_fail("--config: layer %d: %s", layer, spindle_config_last_error());
  return false;
}

/* ---- Equality ---- */

static bool lists_equal(const double *x, const double *y, int32_t count) {
  if (!x || !y) return x == y;
  return !memcmp(x, y, (size_t)count * sizeof *x);
}

static bool positions_equal(const spindle_position *x, const spindle_position *y) {
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  if (x->rope != y->rope || x->remap != y->remap || x->row_scale != y->row_scale || x->num_pairs != y->num_pairs) return false;
  for (int32_t k = 0; k < count; k++) {
    const char *a = (const char *)x + all[k].offset, *b = (const char *)y + all[k].offset;
    bool flag = all[k].type == SPINDLE_PARAMETER_FLAG || all[k].type == SPINDLE_PARAMETER_FLAG_NOT;
    bool equal = all[k].type == SPINDLE_PARAMETER_LIST
                     ? lists_equal(*(const double *const *)(const void *)a, *(const double *const *)(const void *)b, x->num_pairs)
                     : !memcmp(a, b, flag ? sizeof(int32_t) : 8);
    if (!equal) return false;
  }
  return true;
}

bool tool_layers_equal(const spindle_config_layer *x, const spindle_config_layer *y) {
  return x->has_attention == y->has_attention && x->learned_sinks == y->learned_sinks &&
         !memcmp(&x->shape, &y->shape, sizeof x->shape) && positions_equal(&x->position, &y->position) && x->scale == y->scale &&
         x->softcap == y->softcap && x->alibi_bias_max == y->alibi_bias_max && x->alibi_slope_scale == y->alibi_slope_scale;
}

/* ---- Choosing a layer ---- */

static bool fail_layer_type(const spindle_config *config, const char *given) {
  char names[512] = "";
  const char *name;
  for (int32_t k = 0; (name = spindle_config_layer_type(config, k, NULL)); k++) {
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
  }
  tool_fail("--layer-type: got %s, expected one of the config's types of layers: %s", given ? given : "none", names);
  return false;
}

static bool choose_layer(const spindle_config *config, const char *layer_type, spindle_config_layer *layer) {
  int32_t first;
  const char *name;
  bool found = false;
  for (int32_t k = 0; (name = spindle_config_layer_type(config, k, &first)); k++) {
    spindle_config_layer other;
    if (layer_type && strcmp(name, layer_type) != 0) continue;
    if (!tool_config_layer(config, first, found ? &other : layer)) return false;
    if (found && !tool_layers_equal(layer, &other)) return fail_layer_type(config, NULL);
    found = true;
  }
  if (!found && layer_type) return fail_layer_type(config, layer_type);
  return found || (tool_fail("--config: got a model without attention layers, expected at least one"), false);
}

bool tool_method_load(tool_method *m, spindle_config **config, const tool_position_flags *flags) {
  spindle_config_layer layer;
  memset(m, 0, sizeof *m);
  *config = NULL;
  if (!flags->config && flags->layer_type)
    return tool_fail("--layer-type: got '%s', expected --config too", flags->layer_type), false;
  if (flags->config) {
    if (!tool_config_open(config, flags->config) || !choose_layer(*config, flags->layer_type, &layer)) return false;
    tool_method_from_layer(m, &layer);
  }
  return tool_method_parse(m, flags);
}
