/* spindle validate: which cases it runs, and what it says. The comparisons themselves are the point of the command. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support/cli.h"

static bool is_true(const cJSON *json, const char *key) { return cJSON_IsTrue(cJSON_GetObjectItem(json, key)); }
static double number(const cJSON *json, const char *key) { return cJSON_GetObjectItem(json, key)->valuedouble; }

Test(cli_validate, one_method) {
  cJSON *json = test_cli_json("validate --method leaky-rerope --quick --json"), *methods = cJSON_GetObjectItem(json, "methods");
  cr_assert_eq(cJSON_GetArraySize(methods), 1);
  const cJSON *row = cJSON_GetArrayItem(methods, 0);
  cr_expect_str_eq(cJSON_GetObjectItem(row, "method")->valuestring, "leaky-rerope");
  cr_expect_str_eq(cJSON_GetObjectItem(row, "family")->valuestring, "remap");
  cr_expect(is_true(row, "ok") && is_true(json, "ok"));
  cr_expect(number(row, "cases") >= 9 && number(row, "o_error") <= number(row, "o_tolerance"));
  cr_expect(number(row, "o_tolerance") < 1e-3, "a bound that large shows nothing");
  cJSON_Delete(json);
}

Test(cli_validate, a_seed_repeats_a_run) {
  char first[TEST_CLI_BYTES];
  strcpy(first, test_cli_run("validate --method yarn --quick --seed 7 --json")->out);
  cr_expect_str_eq(test_cli_run("validate --method yarn --quick --seed 7 --json")->out, first);
  cr_expect_str_neq(test_cli_run("validate --method yarn --quick --seed 8 --json")->out, first);
}

/* Every method of the registry has a row: nothing is left out because somebody forgot to list it. */
Test(cli_validate, every_method_of_the_registry, .timeout = 600) {
  cJSON *info = test_cli_json("info --json"), *all = test_cli_json("validate --quick --json"), *method, *row;
  cr_expect(is_true(all, "ok"));
  cJSON_ArrayForEach(method, cJSON_GetObjectItem(info, "methods")) {
    int rows = 0;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(all, "methods")) rows +=
        cJSON_Compare(cJSON_GetObjectItem(row, "method"), cJSON_GetObjectItem(method, "name"), true) &&
        cJSON_Compare(cJSON_GetObjectItem(row, "family"), cJSON_GetObjectItem(method, "family"), true);
    cr_expect_eq(rows, 1, "%s", cJSON_GetObjectItem(method, "name")->valuestring);
  }
  cJSON_Delete(info);
  cJSON_Delete(all);
}

Test(cli_validate, every_kind_of_layer_of_a_model) {
  const char config[] =
      "{\"model_type\": \"gpt_oss\", \"num_hidden_layers\": 4, \"hidden_size\": 24, \"num_attention_heads\": 4, "
      "\"num_key_value_heads\": 2, \"head_dim\": 8, \"sliding_window\": 16, \"max_position_embeddings\": 512, "
      "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 150000.0}, "
      "\"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"full_attention\"]}";
  test_cli_write("tiny.v1.json", config, strlen(config));
  cJSON *json = test_cli_json("validate --config tiny.v1.json --config tiny.v1.json --quick --json");
  const cJSON *layers = cJSON_GetObjectItem(json, "layers");
  cr_assert_eq(cJSON_GetArraySize(layers), 4);
  cr_expect_str_eq(cJSON_GetObjectItem(cJSON_GetArrayItem(layers, 1), "layer_type")->valuestring, "full_attention");
  cr_expect_str_eq(cJSON_GetObjectItem(cJSON_GetArrayItem(layers, 3), "model")->valuestring, "tiny.v1");
  cr_expect(is_true(json, "ok"));
  cJSON_Delete(json);
}

Test(cli_validate, text_ends_with_the_count) {
  const test_cli *r = test_cli_run("validate --method softcap --quick");
  cr_expect_eq(r->status, 0);
  cr_expect(strstr(r->out, "verdict") && strstr(r->out, "ok\n") && strstr(r->out, "1 methods, 0 missed"), "%s", r->out);
  cr_expect_str_empty(r->err, "progress where there is no terminal");
}

Test(cli_validate, refusals) {
  test_cli_refuses("validate --method yarm", "--method", "yarm", "all");
  test_cli_refuses("validate --seed x", "--seed", "x", "integer");
  test_cli_refuses("validate --backend cuda2", "--backend", "cuda2", "reference");
}
