/* The public calls, and what they own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- Reading ---- */

static void read_layers(spindle__reader *r, spindle_config *config) {
  const spindle__values base = r->values;
  const cJSON *per_layer = base.of[KEY_PER_LAYER];
  if (per_layer && cJSON_GetArraySize(per_layer) > config->num_layers)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "per_layer_config has more entries than there are layers");
  for (int32_t i = 0; i < config->num_layers && !r->status; i++) {
    char name[16], padded[16];
    const cJSON *own;
    snprintf(name, sizeof name, "%d", (int)i);
    snprintf(padded, sizeof padded, "%02d", (int)i);
    own = spindle__member(per_layer, padded);
    if (!own) own = spindle__member(per_layer, name);
    r->values = base;
    r->layer = i;
    if (cJSON_IsObject(own)) spindle__values_collect(&r->values, own);
    spindle__read_layer(r, config, &config->layers[i]);
  }
}

static void read_max_positions(spindle__reader *r, spindle_config *config) {
  static const spindle__key keys[] = {KEY_MAX_POSITIONS,    KEY_N_POSITIONS, KEY_MAX_SEQ_LEN, KEY_MAX_TARGET_POSITIONS,
                                      KEY_MODEL_MAX_LENGTH, KEY_SEQ_LENGTH,  KEY_COUNT};
  config->max_position_embeddings =
      spindle__first_integer(r, keys, 0, (int64_t)SPINDLE__CONFIG_MAX_LENGTH, config->family->max_positions);
}

static void read_config(spindle__reader *r, spindle_config *config) {
  const char *type;
  const cJSON *text = spindle__text_part(config->json, &type);
  const spindle__family *family = spindle__family_find(type);
  if (!family || family->refused) {
    spindle__config_fail(r, SPINDLE_UNSUPPORTED, "model type \"%.60s\": %s", type, family ? family->refused : "not known");
    return;
  }
  snprintf(config->model_type, sizeof config->model_type, "%s", type);
  config->family = family;
  spindle__values_collect(&r->values, text);
  read_max_positions(r, config);
  config->num_layers = spindle__number_of_layers(r, family);
  if (r->status) return;
  config->layers = calloc((size_t)config->num_layers, sizeof *config->layers);
  if (!config->layers) {
    spindle__config_fail(r, SPINDLE_OUT_OF_MEMORY, "out of memory");
    return;
  }
  spindle__read_layer_types(r, config);
  read_layers(r, config);
}

/* Takes over text, which is 0-terminated. */
static spindle_status parse(spindle_config **out, char *text) {
  spindle__reader r = {.layer = -1};
  spindle_config *config = calloc(1, sizeof *config);
  const char *end = NULL;
  if (!config) {
    spindle__config_fail(&r, SPINDLE_OUT_OF_MEMORY, "out of memory");
  } else {
    spindle__json_strict(text);
    config->json = cJSON_ParseWithOpts(text, &end, 1);
    if (!config->json)
      spindle__config_fail(&r, SPINDLE_INVALID_ARGUMENT, "not JSON at byte %d", end ? (int)(end - text) : 0);
    else if (!cJSON_IsObject(config->json))
      spindle__config_fail(&r, SPINDLE_INVALID_ARGUMENT, "expected a JSON object");
    else
      read_config(&r, config);
  }
  free(text);
  if (r.status) {
    spindle_config_destroy(config);
    return r.status;
  }
  *out = config;
  return SPINDLE_OK;
}

spindle_status spindle_config_parse(spindle_config **config, const char *json, size_t bytes) {
  char *text;
  if (!config || (!json && bytes)) {
    spindle__config_set_error("%s is NULL", config ? "json" : "config");
    return SPINDLE_INVALID_ARGUMENT;
  }
  if (bytes > SPINDLE__CONFIG_MAX_BYTES || (bytes && memchr(json, 0, bytes))) {
    spindle__config_set_error("more than %d bytes, or a zero byte", (int)SPINDLE__CONFIG_MAX_BYTES);
    return SPINDLE_INVALID_ARGUMENT;
  }
  text = malloc(bytes + 1);
  if (!text) {
    spindle__config_set_error("out of memory");
    return SPINDLE_OUT_OF_MEMORY;
  }
  if (bytes) memcpy(text, json, bytes);
  text[bytes] = 0;
  return parse(config, text);
}

spindle_status spindle_config_open(spindle_config **config, const char *path) {
  char *text, reason[SPINDLE__CONFIG_ERROR_BYTES];
  size_t bytes;
  FILE *file;
  spindle_status status;
  if (!config || !path) {
    spindle__config_set_error("%s is NULL", config ? "path" : "config");
    return SPINDLE_INVALID_ARGUMENT;
  }
  file = fopen(path, "rb");
  text = file ? malloc(SPINDLE__CONFIG_MAX_BYTES + 1) : NULL;
  if (!text) {
    spindle__config_set_error("%s: %s", path, strerror(file ? ENOMEM : errno));
    if (file) fclose(file);
    return file ? SPINDLE_OUT_OF_MEMORY : SPINDLE_INVALID_ARGUMENT;
  }
  bytes = fread(text, 1, SPINDLE__CONFIG_MAX_BYTES + 1, file);
  status = ferror(file) ? SPINDLE_INVALID_ARGUMENT : SPINDLE_OK;
  fclose(file);
  if (status)
    spindle__config_set_error("cannot be read");
  else
    status = spindle_config_parse(config, text, bytes);
  free(text);
  if (status) {
    snprintf(reason, sizeof reason, "%s", spindle_config_last_error());
    spindle__config_set_error("%.200s: %.300s", path, reason);
  }
  return status;
}

void spindle_config_destroy(spindle_config *config) {
  if (!config) return;
  while (config->lists) {
    spindle__list *next = config->lists->next;
    free(config->lists);
    config->lists = next;
  }
  cJSON_Delete(config->json);
  free(config->layers);
  free(config);
}

/* ---- Answers ---- */

const char *spindle_config_model_type(const spindle_config *config) { return config->model_type; }
int32_t spindle_config_num_layers(const spindle_config *config) { return config->num_layers; }
int64_t spindle_config_max_position_embeddings(const spindle_config *config) { return config->max_position_embeddings; }

spindle_status spindle_config_get_layer(const spindle_config *config, int32_t layer, spindle_config_layer *out) {
  size_t size = out ? out->struct_size : 0;
  if (!config || size < sizeof size || layer < 0 || layer >= config->num_layers) {
    spindle__config_set_error("layer %d of %d, struct_size %d", (int)layer, config ? (int)config->num_layers : 0, (int)size);
    return SPINDLE_INVALID_ARGUMENT;
  }
  memset(out, 0, size);
  memcpy(out, &config->layers[layer], size < sizeof *out ? size : sizeof *out);
  out->struct_size = size;
  return SPINDLE_OK;
}

const char *spindle_config_layer_type(const spindle_config *config, int32_t k, int32_t *first_layer) {
  int32_t found = 0;
  for (int32_t i = 0; i < config->num_layers && k >= 0; i++) {
    int32_t before = 0;
    if (!config->layers[i].has_attention) continue;
    while (config->layers[before].layer_type != config->layers[i].layer_type || !config->layers[before].has_attention) before++;
    if (before < i || found++ < k) continue;
    if (first_layer) *first_layer = i;
    return config->layers[i].layer_type;
  }
  if (first_layer) *first_layer = -1;
  return NULL;
}
