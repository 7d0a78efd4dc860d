/* The config reader: where things stand in a file, what is refused and how, and that bad input does no harm. */
#include <criterion/criterion.h>
#include <spindle/config.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE  "\"num_hidden_layers\": 4, \"hidden_size\": 512, \"num_attention_heads\": 8"
#define LLAMA "{\"model_type\": \"llama\", " BASE

static spindle_status parse(const char *json, spindle_config **config) {
  *config = NULL;
  return spindle_config_parse(config, json, strlen(json));
}

static spindle_config *parsed(const char *json) {
  spindle_config *config;
  cr_assert_eq(parse(json, &config), SPINDLE_OK, "%s", spindle_config_last_error());
  return config;
}

static spindle_config_layer layer_of(const spindle_config *config, int32_t i) {
  spindle_config_layer layer = {.struct_size = sizeof layer};
  cr_assert_eq(spindle_config_get_layer(config, i, &layer), SPINDLE_OK);
  return layer;
}

static spindle_config_layer layer_in(const char *json, int32_t i) {
  spindle_config *config = parsed(json);
  spindle_config_layer layer = layer_of(config, i);
  spindle_config_destroy(config); /* the layer's lists and names are gone now: only its numbers are looked at */
  return layer;
}

/* Fails with the status, saying each of the words. */
static void refuses(const char *json, spindle_status status, const char *word, const char *other) {
  spindle_config *config;
  cr_expect_eq(parse(json, &config), status, "%.200s", json);
  cr_expect_null(config);
  cr_expect(strstr(spindle_config_last_error(), word), "\"%s\" lacks \"%s\"", spindle_config_last_error(), word);
  cr_expect(strstr(spindle_config_last_error(), other), "\"%s\" lacks \"%s\"", spindle_config_last_error(), other);
}

Test(config, finds_the_text_part) {
  spindle_config *config = parsed("{\"model_type\": \"llava\", \"num_attention_heads\": 3, \"text_config\": " LLAMA "}}");
  cr_expect_str_eq(spindle_config_model_type(config), "llama");
  cr_expect_eq(layer_of(config, 0).shape.num_q_heads, 8);
  spindle_config_destroy(config);
}

Test(config, without_a_name_reads_as_llama_without_defaults) {
  cr_expect_eq(layer_in("{" BASE "}", 0).shape.head_dim_qk, 64);
  refuses("{\"num_hidden_layers\": 4}", SPINDLE_INVALID_ARGUMENT, "num_attention_heads", "missing");
  refuses("{}", SPINDLE_INVALID_ARGUMENT, "num_hidden_layers", "1..4096");
}

Test(config, family_defaults_hold_for_absent_keys_but_not_for_null) {
  cr_expect_eq(layer_in("{\"model_type\": \"mistral\"}", 0).position.window_left, 4096);
  cr_expect_eq(layer_in("{\"model_type\": \"mistral\", \"sliding_window\": null}", 0).position.window_left, 0);
  cr_expect_eq(layer_in("{\"model_type\": \"mistral\"}", 0).shape.num_kv_heads, 8);
  cr_expect_eq(layer_in("{\"model_type\": \"mistral\", \"num_key_value_heads\": null}", 0).shape.num_kv_heads, 32);
}

Test(config, legacy_scaling_wins_over_parameters) {
  spindle_config_layer layer = layer_in(LLAMA
                                        ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_theta\": 7,"
                                        "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 9}}",
                                        0);
  cr_expect_eq(layer.position.rope, SPINDLE_ROPE_LINEAR);
  cr_expect_eq(layer.position.rope_theta, 7);
}

Test(config, empty_scaling_says_nothing) {
  cr_expect_eq(layer_in(LLAMA ", \"rope_scaling\": {}, \"rope_parameters\": {\"rope_theta\": 9}}", 0).position.rope_theta, 9);
}

Test(config, alpha_makes_dynamic_a_fixed_ntk) {
  spindle_config_layer layer = layer_in("{\"model_type\": \"hunyuan_v1_dense\", " BASE
                                        ", \"rope_scaling\": {\"type\": \"dynamic\", "
                                        "\"alpha\": 1000.0, \"factor\": 1.0}}",
                                        0);
  cr_expect_eq(layer.position.rope, SPINDLE_ROPE_NTK);
  cr_expect_eq(layer.position.alpha, 1000);
}

Test(config, parameters_by_layer_type) {
  spindle_config *config =
      parsed("{\"model_type\": \"gemma3_text\", " BASE
             ", \"head_dim\": 64, \"sliding_window\": 16, \"layer_types\": "
             "[\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"full_attention\"],"
             "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8, \"rope_theta\": 5},"
             "\"sliding_attention\": null}}");
  int32_t first;
  cr_expect_eq(layer_of(config, 0).position.rope, SPINDLE_ROPE_NONE);
  cr_expect_eq(layer_of(config, 1).position.rope, SPINDLE_ROPE_LINEAR);
  cr_expect_eq(layer_of(config, 3).position.rope_theta, 5);
  cr_expect_str_eq(spindle_config_layer_type(config, 0, &first), "sliding_attention");
  cr_expect_str_eq(spindle_config_layer_type(config, 1, &first), "full_attention");
  cr_expect_eq(first, 1);
  cr_expect_null(spindle_config_layer_type(config, 2, &first));
  cr_expect_eq(first, -1);
  cr_expect_null(spindle_config_layer_type(config, -1, NULL));
  spindle_config_destroy(config);
}

Test(config, one_layer_overrides_what_all_share) {
  spindle_config *config = parsed(LLAMA ", \"per_layer_config\": {\"02\": {\"head_dim\": 32, \"num_key_value_heads\": 2}}}");
  cr_expect_eq(layer_of(config, 1).shape.head_dim_qk, 64);
  cr_expect_eq(layer_of(config, 2).shape.head_dim_qk, 32);
  cr_expect_eq(layer_of(config, 2).shape.num_kv_heads, 2);
  cr_expect_eq(layer_of(config, 3).shape.num_kv_heads, 8);
  spindle_config_destroy(config);
}

Test(config, llama4_layers_rotate_within_chunks_or_are_tempered) {
  spindle_config *config = parsed("{\"model_type\": \"llama4_text\"}");
  spindle_position chunked = layer_of(config, 0).position, whole = layer_of(config, 3).position;
  cr_expect_eq(chunked.chunk, 8192);
  cr_expect_eq(chunked.row_scale, SPINDLE_ROWSCALE_NONE);
  cr_expect_eq(whole.rope, SPINDLE_ROPE_NONE);
  cr_expect_eq(whole.row_scale, SPINDLE_ROWSCALE_LLAMA4);
  cr_expect_eq(whole.row_scale_length, 8192);
  cr_expect_eq(whole.row_scale_beta, 0.1);
  spindle_config_destroy(config);
}

Test(config, ministral_keeps_its_row_scale_among_the_rope_parameters) {
  spindle_position position =
      layer_in(
          "{\"model_type\": \"ministral3\", \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 16, \"rope_theta\": 1e6,"
          "\"original_max_position_embeddings\": 16384, \"llama_4_scaling_beta\": 0.1}}",
          0)
          .position;
  cr_expect_eq(position.row_scale, SPINDLE_ROWSCALE_MINISTRAL);
  cr_expect_eq(position.row_scale_beta, 0.1);
  cr_expect_eq(position.row_scale_length, 16384);
}

Test(config, falcon_adds_alibi_before_it_scales) {
  spindle_config_layer layer =
      layer_in("{\"model_type\": \"falcon\", \"hidden_size\": 512, \"num_attention_heads\": 8, \"alibi\": true}", 0);
  cr_expect_eq(layer.shape.bias, SPINDLE_BIAS_ALIBI);
  cr_expect_eq(layer.alibi_slope_scale, layer.scale);
  cr_expect_eq(layer.position.rope, SPINDLE_ROPE_NONE);
}

Test(config, thetas_of_older_files) {
  cr_expect_eq(
      layer_in("{\"model_type\": \"dbrx\", \"attn_config\": {\"kv_n_heads\": 8, \"rope_theta\": 5e5}}", 0).position.rope_theta,
      5e5);
  cr_expect_eq(
      layer_in("{\"model_type\": \"gemma3_text\", \"rope_local_base_freq\": 3, \"rope_theta\": 7}", 0).position.rope_theta, 3);
  cr_expect_eq(
      layer_in("{\"model_type\": \"gemma3_text\", \"rope_local_base_freq\": 3, \"rope_theta\": 7}", 5).position.rope_theta, 7);
  cr_expect_eq(layer_in("{\"model_type\": \"modernbert-decoder\", \"global_rope_theta\": 3}", 0).position.rope_theta, 3);
  cr_expect_eq(layer_in("{\"model_type\": \"modernbert-decoder\", \"local_rope_theta\": 4}", 1).position.rope_theta, 4);
  cr_expect_eq(layer_in(LLAMA ", \"rope_theta\": [1, 2, 3, 4]}", 2).position.rope_theta, 3);
  cr_expect_eq(layer_in("{\"model_type\": \"gptj\", \"rope_theta\": 7}", 0).position.rope_theta, 10000);
}

Test(config, layer_thetas_of_zero_do_not_rotate) {
  cr_expect_eq(
      layer_in("{\"model_type\": \"granite_swa\", " BASE ", \"num_key_value_heads\": 8, \"layer_rope_theta\": [5, 0, 6, 0]}", 1)
          .position.rope,
      SPINDLE_ROPE_NONE);
  cr_expect_eq(
      layer_in("{\"model_type\": \"granite_swa\", " BASE ", \"num_key_value_heads\": 8, \"layer_rope_theta\": [5, 0, 6, 0]}", 2)
          .position.rope_theta,
      6);
}

Test(config, a_model_may_write_rope_dim_and_mscale) {
  spindle_config_layer layer = layer_in("{\"model_type\": \"minimax_m2\", \"rotary_dim\": 64}", 0);
  cr_expect_eq(layer.shape.rotary_dim, 64);
  layer = layer_in(
      "{\"model_type\": \"phimoe\", \"rope_scaling\": {\"type\": \"longrope\", \"short_mscale\": 1.5, \"long_mscale\": 1.5,"
      "\"original_max_position_embeddings\": 4096, \"short_factor\": [1, 1], \"long_factor\": [2, 2]}, \"head_dim\": 4,"
      "\"max_position_embeddings\": 131072}",
      0);
  cr_expect_eq(layer.position.attention_factor, 1.5);
}

Test(config, exaone_rotates_everywhere_without_a_window) {
  const char *without =
      "{\"model_type\": \"exaone4\", \"sliding_window\": null, \"num_hidden_layers\": 2,"
      "\"layer_types\": [\"full_attention\", \"full_attention\"]}";
  cr_expect_eq(layer_in(without, 1).position.rope, SPINDLE_ROPE_DEFAULT);
  cr_expect_eq(layer_in("{\"model_type\": \"exaone4\"}", 3).position.rope, SPINDLE_ROPE_NONE);
}

Test(config, llama4_lists_no_layers_where_it_means_its_default) {
  cr_expect_eq(layer_in("{\"model_type\": \"llama4_text\", \"no_rope_layers\": []}", 3).position.rope, SPINDLE_ROPE_NONE);
  cr_expect_eq(layer_in("{\"model_type\": \"llama4_text\", \"no_rope_layers\": []}", 4).position.chunk, 8192);
}

Test(config, layers_without_attention) {
  spindle_config *config =
      parsed("{\"model_type\": \"jamba\", \"num_hidden_layers\": 8, \"attn_layer_period\": 4, \"attn_layer_offset\": 1}");
  int32_t first;
  for (int32_t i = 0; i < 8; i++) cr_expect_eq(layer_of(config, i).has_attention, i % 4 == 1);
  cr_expect_str_eq(spindle_config_layer_type(config, 0, &first), "full_attention");
  cr_expect_eq(first, 1);
  spindle_config_destroy(config);
}

Test(config, letters_name_layers) {
  spindle_config *config = parsed("{\"model_type\": \"nemotron_h\", \"hybrid_override_pattern\": \"M-*E\"}");
  cr_expect_eq(spindle_config_num_layers(config), 4);
  cr_expect_eq(layer_of(config, 2).has_attention, 1);
  spindle_config_destroy(config);
  config = parsed("{\"model_type\": \"exaone4\", " BASE
                  ", \"num_key_value_heads\": 8, \"sliding_window\": 8, \"sliding_window_pattern\": \"LG\"}");
  cr_expect_eq(layer_of(config, 0).position.window_left, 8);
  cr_expect_eq(layer_of(config, 1).position.window_left, 0);
  cr_expect_eq(layer_of(config, 1).position.rope, SPINDLE_ROPE_NONE);
  spindle_config_destroy(config);
}

Test(config, nonfinite_numbers_of_other_keys_are_harmless) {
  cr_expect_eq(layer_in(LLAMA ", \"time_step_limit\": [0.0, Infinity, -Infinity, NaN], \"x\": \"NaN \\\" Infinity\"}", 0)
                   .shape.num_q_heads,
               8);
  refuses(LLAMA ", \"rope_theta\": NaN}", SPINDLE_INVALID_ARGUMENT, "rope_theta", "entries");
  refuses(LLAMA ", \"rope_theta\": 1e999}", SPINDLE_INVALID_ARGUMENT, "rope_theta", "inf");
}

Test(config, refuses_what_it_does_not_know) {
  refuses("{\"model_type\": \"frobnicator\"}", SPINDLE_UNSUPPORTED, "frobnicator", "not known");
  refuses("{\"model_type\": \"t5\"}", SPINDLE_UNSUPPORTED, "t5", "relative-bias");
  refuses("{\"model_type\": \"deepseek_v32\"}", SPINDLE_UNSUPPORTED, "deepseek_v32", "selected");
  refuses(LLAMA ", \"rope_scaling\": {\"type\": \"cubic\"}}", SPINDLE_INVALID_ARGUMENT, "unknown rope type", "cubic");
  refuses(LLAMA ", \"layer_types\": [\"full_attention\", \"odd\", \"odd\", \"odd\"]}", SPINDLE_INVALID_ARGUMENT, "layer_types",
          "odd");
  refuses(LLAMA ", \"layer_types\": [\"indexed_attention\", \"odd\", \"odd\", \"odd\"]}", SPINDLE_UNSUPPORTED, "indexed",
          "selected");
  refuses(LLAMA ", \"rope_scaling\": {\"type\": \"linear\"}}", SPINDLE_INVALID_ARGUMENT, "factor", "required");
  refuses(LLAMA ", \"partial_rotary_factor\": 0.27, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
          SPINDLE_UNSUPPORTED, "layer 0", "odd");
  refuses("{\"model_type\": \"gemma3_text\", \"use_bidirectional_attention\": true}", SPINDLE_UNSUPPORTED, "bidirectional",
          "causal");
}

Test(config, refuses_bad_values) {
  static const char *const bad[] = {
      "\"num_hidden_layers\": 4097",
      "\"num_hidden_layers\": 0",
      "\"num_hidden_layers\": 2.5",
      "\"num_hidden_layers\": \"4\"",
      "\"num_attention_heads\": -1",
      "\"num_attention_heads\": 1e30",
      "\"num_key_value_heads\": 3",
      "\"head_dim\": 513",
      "\"head_dim\": []",
      "\"rope_theta\": 0",
      "\"rope_theta\": {}",
      "\"rope_scaling\": 3",
      "\"rope_scaling\": {\"rope_type\": 3}",
      "\"layer_types\": [1, 2, 3, 4]",
      "\"layer_types\": [\"full_attention\"]",
      "\"per_layer_config\": {\"0\":0,\"1\":0,\"2\":0,\"3\":0,\"4\":0}",
      "\"sliding_window\": 1e300",
      "\"max_position_embeddings\": -5",
      "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 0.5}",
      "\"rope_scaling\": {\"type\": \"longrope\", \"factor\": 2}",
      "\"rope_scaling\": {\"type\": \"longrope\", \"factor\": 2, \"short_factor\": [1], \"long_factor\": [1]}",
  };
  for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
    char json[512];
    spindle_config *config;
    snprintf(json, sizeof json, "%s, %s}", LLAMA, bad[k]);
    cr_expect_eq(parse(json, &config), SPINDLE_INVALID_ARGUMENT, "%s", bad[k]);
    cr_expect_null(config);
  }
}

Test(config, refuses_what_is_no_config) {
  static const char *const bad[] = {"", " ", "[]", "3", "null", "{", "{\"a\": }", LLAMA "} x", LLAMA "} {}", "\xff\xfe"};
  spindle_config *config = NULL;
  char *deep = malloc(200001);
  for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
    cr_expect_eq(parse(bad[k], &config), SPINDLE_INVALID_ARGUMENT, "%s", bad[k]);
  memset(deep, '[', 200000);
  deep[200000] = 0;
  cr_expect_eq(parse(deep, &config), SPINDLE_INVALID_ARGUMENT);
  free(deep);
  cr_expect_eq(spindle_config_parse(&config, "{}\0{}", 5), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_parse(NULL, "{}", 2), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_parse(&config, NULL, 2), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_parse(&config, NULL, 0), SPINDLE_INVALID_ARGUMENT);
}

Test(config, refuses_more_than_a_mebibyte) {
  size_t bytes = ((size_t)1 << 20) + 1;
  char *json = malloc(bytes);
  spindle_config *config = NULL;
  memset(json, ' ', bytes);
  memcpy(json, LLAMA "}", strlen(LLAMA "}"));
  cr_expect_eq(spindle_config_parse(&config, json, bytes - 1), SPINDLE_OK);
  spindle_config_destroy(config);
  cr_expect_eq(spindle_config_parse(&config, json, bytes), SPINDLE_INVALID_ARGUMENT);
  free(json);
}

Test(config, names_the_file) {
  spindle_config *config = NULL;
  cr_expect_eq(spindle_config_open(&config, "/nowhere/config.json"), SPINDLE_INVALID_ARGUMENT);
  cr_expect(strstr(spindle_config_last_error(), "/nowhere/config.json"));
  cr_expect_eq(spindle_config_open(&config, "/"), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_open(NULL, "x"), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_open(&config, NULL), SPINDLE_INVALID_ARGUMENT);
}

Test(config, hands_out_layers_by_value_to_old_and_new_callers) {
  spindle_config *config = parsed(LLAMA "}");
  struct {
    spindle_config_layer layer;
    char later[16];
  } longer = {.layer = {.struct_size = sizeof longer}, .later = "remains of old"};
  spindle_config_layer layer = {.struct_size = offsetof(spindle_config_layer, shape), .scale = -3};
  cr_expect_eq(spindle_config_get_layer(config, 0, &layer), SPINDLE_OK);
  cr_expect_eq(layer.has_attention, 1);
  cr_expect_eq(layer.scale, -3, "written past the caller's struct");
  cr_expect_eq(spindle_config_get_layer(config, 0, &longer.layer), SPINDLE_OK);
  cr_expect_eq(longer.later[0], 0);
  layer.struct_size = 0;
  cr_expect_eq(spindle_config_get_layer(config, 0, &layer), SPINDLE_INVALID_ARGUMENT);
  layer.struct_size = sizeof layer;
  cr_expect_eq(spindle_config_get_layer(config, 4, &layer), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_get_layer(config, -1, &layer), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_get_layer(config, 0, NULL), SPINDLE_INVALID_ARGUMENT);
  cr_expect_eq(spindle_config_get_layer(NULL, 0, &layer), SPINDLE_INVALID_ARGUMENT);
  spindle_config_destroy(config);
  spindle_config_destroy(NULL);
}
