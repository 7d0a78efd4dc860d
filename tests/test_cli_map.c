/* spindle map: worked rows of the remaps and masks. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "support/cli.h"

static void row(const char *position, int i, const double *relative, int count) {
  cJSON *json = test_cli_json("map %s --row %d --kv-len %d --json", position, i, count);
  const cJSON *printed = cJSON_GetObjectItem(json, "row");
  cr_expect(cJSON_IsNumber(printed) && printed->valuedouble == i, "%s", position);
  cr_expect_eq(cJSON_GetArraySize(json), 2, "%s: there are other keys", position);
  test_cli_numbers(json, "relative", relative, count, 6);
  cJSON_Delete(json);
}

#define ROW(position, i, ...)                                              \
  do {                                                                     \
    const double relative[] = {__VA_ARGS__};                               \
    row(position, i, relative, (int)(sizeof relative / sizeof *relative)); \
  } while (0)

Test(cli_map, remaps) {
  ROW("", 3, 3, 2, 1, 0, NAN);
  ROW("--remap none", 3, 3, 2, 1, 0);
  ROW("--remap rerope:window=3", 7, 3, 3, 3, 3, 3, 2, 1, 0);
  ROW("--remap leaky-rerope:window=3,k=2", 7, 5, 4.5, 4, 3.5, 3, 2, 1, 0);
  ROW("--remap leaky-rerope:window=3,k=0.25", 7, 19, 15, 11, 7, 3, 2, 1, 0);
  ROW("--remap self-extend:group=2,window=4", 11, 7, 7, 6, 6, 5, 5, 4, 4, 3, 2, 1, 0);
  ROW("--remap dca:chunk=8,local=2", 12, 8, 7, 6, 5, 4, 3, 6, 5, 4, 3, 2, 1, 0);
  ROW("--remap dca-paper:pretrain=10,chunk=6,local=4", 12, 9, 8, 7, 6, 5, 4, 6, 5, 4, 3, 2, 1, 0);
  ROW("--remap streaming:sinks=2,window=3", 9, 5, 4, NAN, NAN, NAN, NAN, 3, 2, 1, 0);
  ROW("--remap lm-infinite:sinks=2,window=3", 7, 3, 3, NAN, NAN, NAN, 2, 1, 0);
}

Test(cli_map, masks) {
  ROW("--mask causal=0", 1, 1, 0, -1, -2);
  ROW("--mask window=2", 4, NAN, NAN, NAN, 1, 0, NAN);
  ROW("--mask window=2,sinks=1", 4, 4, NAN, NAN, 1, 0);
  ROW("--mask chunk=3", 4, NAN, NAN, NAN, 1, 0);
  ROW("--mask s2=4", 5, NAN, NAN, NAN, NAN, 1, 0);
  ROW("--shifted --mask s2=4", 5, NAN, NAN, 3, 2, 1, 0);
}

Test(cli_map, a_config_says_the_mask_too) {
  const char config[] =
      "{\"model_type\": \"mistral\", \"num_hidden_layers\": 2, \"hidden_size\": 64, \"num_attention_heads\": 4, "
      "\"num_key_value_heads\": 2, "
      "\"max_position_embeddings\": 64, \"sliding_window\": 2}";
  test_cli_write("config.json", config, strlen(config));
  ROW("--config config.json", 3, NAN, NAN, 1, 0);
  ROW("--config config.json --mask causal=1", 3, 3, 2, 1, 0);
}

Test(cli_map, text_is_in_runs) {
  const test_cli *r = test_cli_run("map --remap rerope:window=4 --row 9 --kv-len 12");
  cr_expect_eq(r->status, 0);
  cr_expect(strstr(r->out, "           0             5  4\n"), "%s", r->out);
  cr_expect(strstr(r->out, "3 to 0") && strstr(r->out, "masked"), "%s", r->out);
}
