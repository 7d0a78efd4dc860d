/* spindle rope: worked numbers, and the shape of its JSON. */
#include <criterion/criterion.h>
#include <string.h>

#include "support/cli.h"

static double number(const cJSON *json, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
  cr_assert(cJSON_IsNumber(item), "%s is no number", key);
  return item->valuedouble;
}

Test(cli_rope, yarn_as_worked_out_by_hand) {
  const double inv_freq[] = {1, 0.316228, 0.1, 0.0256935, 0.00625, 0.0013835, 0.00025, 7.90569e-05};
  cJSON *json = test_cli_json("rope --rope yarn:factor=4,original_max_position_embeddings=2048 --head-dim 16 --json");
  test_cli_numbers(json, "inv_freq", inv_freq, 8, 6);
  cr_expect_float_eq(number(json, "attention_factor"), 1.138629436, 5e-10);
  cr_expect_eq(number(json, "softmax_scale_factor"), 1);
  cr_expect_eq(cJSON_GetArraySize(json), 3, "there are other keys");
  cJSON_Delete(json);
}

Test(cli_rope, numbers_have_17_digits) {
  const test_cli *r = test_cli_run("rope --rope default --head-dim 16 --json");
  cr_expect(strstr(r->out, "0.31622776601683794") && strstr(r->out, "0.10000000000000001"), "%s", r->out);
}

Test(cli_rope, keys_that_are_switches) {
  const double inv_freq[] = {1, 0.316228, 0.1, 0.0238702, 0.00505697, 0.00081129, 0.00025, 7.90569e-05};
  cJSON *json =
      test_cli_json("rope --rope yarn:factor=4,original_max_position_embeddings=2048,truncate=false --head-dim 16 --json");
  test_cli_numbers(json, "inv_freq", inv_freq, 8, 6);
  cJSON_Delete(json);
}

Test(cli_rope, the_score_factor_of_deepseek) {
  cJSON *json = test_cli_json(
      "rope --rope deepseek-yarn:factor=40,original_max_position_embeddings=4096,mscale=0.707 --head-dim 64 --json");
  cr_expect_eq(number(json, "attention_factor"), 1);
  cr_expect_float_eq(number(json, "softmax_scale_factor"), 1.589626165, 5e-10);
  cJSON_Delete(json);
}

Test(cli_rope, lists) {
  const double inv_freq[] = {1, 0.05, 0.0025, 0.000125};
  cJSON *json = test_cli_json(
      "rope --rope 'longrope:short_factor=1;1;1;1,long_factor=1;2;4;8,original_max_position_embeddings=4096,factor=32' "
      "--head-dim 8 --seq-len 8k --json");
  test_cli_numbers(json, "inv_freq", inv_freq, 4, 6);
  cr_expect_float_eq(number(json, "attention_factor"), 1.190238071, 5e-10);
  cJSON_Delete(json);
}

Test(cli_rope, a_rule_that_depends_on_the_length) {
  const double at_4096[] = {1, 0.270296, 0.07306, 0.0197478, 0.00533776, 0.00144278, 0.000389977, 0.000105409};
  cJSON *json = test_cli_json("rope --rope dynamic-ntk:factor=2,max_position_embeddings=2048 --head-dim 16 --seq-len 4k --json");
  test_cli_numbers(json, "inv_freq", at_4096, 8, 6);
  cJSON_Delete(json);
  json = test_cli_json("rope --rope dynamic-ntk:factor=2,max_position_embeddings=2048 --head-dim 16 --json");
  cr_expect_float_eq(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "inv_freq"), 1)->valuedouble, 0.316227766, 1e-9);
  cJSON_Delete(json);
}

/* Ordinary rules rotate int(p D) channels; `proportional` keeps D in the exponent and zeroes the rest. */
Test(cli_rope, partial_rotary_factor) {
  const double partial[] = {1, 0.001}, proportional[] = {1, 0.177828, 0, 0, 0, 0, 0, 0};
  cJSON *json = test_cli_json("rope --rope default:rope_theta=1e6,partial_rotary_factor=0.25 --head-dim 16 --json");
  test_cli_numbers(json, "inv_freq", partial, 2, 6);
  cJSON_Delete(json);
  json = test_cli_json("rope --rope proportional:rope_theta=1e6,partial_rotary_factor=0.25 --head-dim 16 --json");
  test_cli_numbers(json, "inv_freq", proportional, 8, 6);
  cJSON_Delete(json);
}

/* ---- Configs ---- */

static const char plain[] =
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"hidden_size\": 64, \"num_attention_heads\": 4, "
    "\"max_position_embeddings\": 8192, \"rope_theta\": 10000.0, "
    "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}}";

static const char nested[] =
    "{\"model_type\": \"gemma3_text\", \"num_hidden_layers\": 4, \"hidden_size\": 64, \"num_attention_heads\": 4, \"head_dim\": "
    "16,"
    "\"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"full_attention\"], "
    "\"sliding_window\": 4, \"max_position_embeddings\": 4096, \"rope_parameters\": {"
    "\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 4.0, \"rope_theta\": 10000.0}, "
    "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}}}";

static const double divided_by_4[] = {0.25, 0.0790569, 0.025, 0.00790569, 0.0025, 0.000790569, 0.00025, 7.90569e-05};

Test(cli_rope, a_config_says_rule_and_head_dim) {
  test_cli_write("config.json", plain, strlen(plain));
  cJSON *json = test_cli_json("rope --config config.json --json");
  test_cli_numbers(json, "inv_freq", divided_by_4, 8, 6);
  cr_expect_eq(cJSON_GetArraySize(json), 3);
  cJSON_Delete(json);
  test_cli_refuses("rope --config config.json --head-dim 64", "--head-dim", "64", "16");
}

Test(cli_rope, a_config_nested_by_layer_type) {
  test_cli_write("config.json", nested, strlen(nested));
  cJSON *json = test_cli_json("rope --config config.json --json"), *types = cJSON_GetObjectItem(json, "layer_types");
  cr_assert_eq(cJSON_GetArraySize(json), 1);
  cr_expect_eq(cJSON_GetArraySize(types), 2);
  test_cli_numbers(cJSON_GetObjectItem(types, "full_attention"), "inv_freq", divided_by_4, 8, 6);
  cr_expect_float_eq(number(cJSON_GetObjectItem(types, "sliding_attention"), "attention_factor"), 1, 0);
  cJSON_Delete(json);
  json = test_cli_json("rope --config config.json --layer-type full_attention --json");
  test_cli_numbers(json, "inv_freq", divided_by_4, 8, 6);
  cJSON_Delete(json);
  test_cli_refuses("map --config config.json --row 1 --kv-len 2", "--layer-type", "sliding_attention", "full_attention");
  test_cli_refuses("rope --config config.json --layer-type chunked", "--layer-type", "chunked", "full_attention");
}

Test(cli_rope, a_flag_replaces_what_the_config_says_of_its_family) {
  test_cli_write("config.json", plain, strlen(plain));
  cJSON *json = test_cli_json("rope --config config.json --rope default --json");
  cr_expect_float_eq(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "inv_freq"), 1)->valuedouble, 0.316227766, 1e-9);
  cJSON_Delete(json);
}
