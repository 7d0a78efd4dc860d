/* The reader of configs in builds without cJSON (SPINDLE_BUILD_CONFIG off): it opens nothing, so the rest is never reached. */
#include <spindle/config.h>

spindle_status spindle_config_open(spindle_config **config, const char *path) {
  return (void)config, (void)path, SPINDLE_UNSUPPORTED;
}

const char *spindle_config_last_error(void) {
  return "this build reads no configs (SPINDLE_BUILD_CONFIG was off, for want of cJSON)";
}

void spindle_config_destroy(spindle_config *config) { (void)config; }

int32_t spindle_config_num_layers(const spindle_config *config) { return (void)config, 0; }

int64_t spindle_config_max_position_embeddings(const spindle_config *config) { return (void)config, 0; }

spindle_status spindle_config_get_layer(const spindle_config *config, int32_t layer, spindle_config_layer *out) {
  return (void)config, (void)layer, (void)out, SPINDLE_UNSUPPORTED;
}

const char *spindle_config_layer_type(const spindle_config *config, int32_t k, int32_t *first_layer) {
  return (void)config, (void)k, (void)first_layer, NULL;
}
