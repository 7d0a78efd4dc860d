/* libFuzzer target for the config reader: whatever it accepts must be consistent and resolvable or refused, without a leak or a
 * crash. bench/models is a seed corpus. */
#include <spindle/config.h>
#include <stdlib.h>

#define MAX_PAIRS 256

static void check(int holds) {
  if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  spindle_config *config = NULL;
  spindle_status status = spindle_config_parse(&config, (const char *)data, size);
  int32_t first;
  check((status == SPINDLE_OK) == (config != NULL));
  if (status) {
    check(spindle_config_last_error()[0] != 0);
    return 0;
  }
  for (int32_t i = 0; i < spindle_config_num_layers(config); i++) {
    spindle_config_layer layer = {.struct_size = sizeof layer};
    double inv_freq[MAX_PAIRS], factor, scale;
    check(spindle_config_get_layer(config, i, &layer) == SPINDLE_OK && layer.layer_type);
    if (!layer.has_attention) continue;
    check(layer.shape.head_dim_qk > 0 && layer.shape.num_q_heads % layer.shape.num_kv_heads == 0 && layer.scale != 0);
    check(layer.shape.rotary_offset + layer.shape.rotary_dim <= layer.shape.head_dim_qk);
    spindle_position_resolve(&layer.position, &layer.shape, 1 + 40000 * (int64_t)i, inv_freq, &factor, &scale);
  }
  for (int32_t k = 0; spindle_config_layer_type(config, k, &first); k++) check(first >= 0);
  spindle_config_destroy(config);
  return 0;
}
