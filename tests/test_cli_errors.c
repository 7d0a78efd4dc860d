/* Bad input: exit status 2 and one line that names the flag, the value and what was expected. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support/cli.h"

typedef struct refusal {
  const char *arguments, *flag, *value, *expected;
} refusal;

static void expect_refusals(const refusal *all, size_t count) {
  for (size_t k = 0; k < count; k++) test_cli_refuses(all[k].arguments, all[k].flag, all[k].value, all[k].expected);
}
#define EXPECT_REFUSALS(...)                        \
  do {                                              \
    const refusal all[] = {__VA_ARGS__};            \
    expect_refusals(all, sizeof all / sizeof *all); \
  } while (0)

Test(cli_errors, commands_and_flags) {
  EXPECT_REFUSALS(
      {"", "command", "none", "attend"}, {"frobnicate", "command", "frobnicate", "validate"},
      {"info --colour", "--colour", NULL, "--json"}, {"info extra", "extra", NULL, "--json"},
      {"info --json --json", "--json", "twice", "once"}, {"info --json=1", "--json", "1", "no value"},
      {"map --row 1 --row 2 --kv-len 4", "--row", "twice", "once"}, {"map --row --kv-len 4", "--row", "nothing", "a value"},
      {"map --kv-len 4", "--row", "not given", "query row"}, {"map --row 1", "--kv-len", "not given", "number of keys"},
      {"rope --head-dim 8", "--rope", "not given", "--config"}, {"rope --rope default", "--head-dim", "not given", "head dim"});
}

Test(cli_errors, numbers) {
  EXPECT_REFUSALS({"map --row 4 --kv-len 4", "--row", "4", "[0, 3]"}, {"map --row 1x --kv-len 4", "--row", "1x", "integer"},
                  {"map --row 1 --kv-len 0", "--kv-len", "0", "[1, "}, {"map --row 1 --kv-len 4k", "--kv-len", "4k", "integer"},
                  {"map --row 1 --kv-len 99999999999999999999", "--kv-len", "99999999999999999999", "integer"},
                  {"rope --rope default --head-dim -8", "--head-dim", "-8", "[1, 512]"},
                  {"rope --rope default --head-dim 8 --seq-len 4q", "--seq-len", "4q", "4k"},
                  {"rope --rope default --head-dim 8 --seq-len 9999999999M", "--seq-len", "9999999999M", "integer"},
                  {"rope --rope linear:factor=2x --head-dim 8", "--rope linear: factor", "2x", "finite number"},
                  {"rope --rope linear:factor=nan --head-dim 8", "--rope linear: factor", "nan", "finite number"},
                  {"rope --rope linear:factor=inf --head-dim 8", "--rope linear: factor", "inf", "finite number"},
                  {"rope --rope linear:factor=1e999 --head-dim 8", "--rope linear: factor", "1e999", "finite number"},
                  {"rope --rope linear:factor=0x10 --head-dim 8", "--rope linear: factor", "0x10", "finite number"},
                  {"rope --rope 'linear:factor= 2' --head-dim 8", "--rope linear: factor", " 2", "finite number"},
                  {"rope --rope linear:factor=0 --head-dim 8", "--rope linear: factor", "0", "other than 0"},
                  {"rope --rope linear:factor=0.5 --head-dim 8", "--rope", "factor is 0.5", "[1, "},
                  {"map --mask window=2.5 --row 1 --kv-len 4", "--mask: window", "2.5", "integer"},
                  {"map --mask causal=2 --row 1 --kv-len 4", "--mask: causal", "2", "true or false"});
}

Test(cli_errors, kinds_and_keys) {
  EXPECT_REFUSALS({"rope --rope yarm --head-dim 8", "--rope", "yarm", "yarn"},
                  {"map --remap rerope2:window=2 --row 1 --kv-len 4", "--remap", "rerope2", "leaky-rerope"},
                  {"map --bias alibi2 --row 1 --kv-len 4", "--bias", "alibi2", "kerple-log"},
                  {"map --layout rows --row 1 --kv-len 4", "--layout", "rows", "interleaved"},
                  {"rope --rope linear --head-dim 8", "--rope", "linear", "factor"},
                  {"rope --rope yarn:factor=4 --head-dim 8", "--rope", "yarn:factor=4", "original_max_position_embeddings"},
                  {"rope --rope linear:factor=4,beta_fast=3 --head-dim 8", "--rope", "beta_fast=3", "factor"},
                  {"rope --rope linear:factor=4,factor=4 --head-dim 8", "--rope", "factor=4", "one"},
                  {"rope --rope linear: --head-dim 8", "--rope", "linear:", "key=value"},
                  {"rope --rope linear:factor --head-dim 8", "--rope", "factor", "key=value"},
                  {"rope --rope linear:factor= --head-dim 8", "--rope", "factor=", "key=value"},
                  {"rope --rope linear:=4 --head-dim 8", "--rope", "=4", "key=value"},
                  {"rope --rope linear:factor=4, --head-dim 8", "--rope", "factor=4", "key=value"},
                  {"rope --rope linear:,factor=4 --head-dim 8", "--rope", "factor=4", "key=value"},
                  {"map --mask sinks=4 --row 1 --kv-len 4", "--mask", "sinks=4", "window"},
                  {"map --mask s2_wrap=1 --row 1 --kv-len 4", "--mask", "s2_wrap=1", "s2"},
                  {"map --mask width=4 --row 1 --kv-len 4", "--mask", "width=4", "window"},
                  {"map --logits temperature=4 --row 1 --kv-len 4", "--logits", "temperature=4", "softcap"},
                  {"map --logits llama4_scale=0.1 --row 1 --kv-len 4", "--logits", "llama4_scale=0.1", "llama4_floor"},
                  {"map --logits logn=4,ssmax=1 --row 1 --kv-len 4", "--logits", "logn", "ssmax"},
                  {"map --bias 'alibi:max=8,slopes=1' --row 1 --kv-len 4", "--bias", "max=8", "one of them"});
}

Test(cli_errors, lists) {
  EXPECT_REFUSALS(
      {"rope --rope 'table:inv_freq=1;2' --head-dim 8", "--rope", "2 values", "4"},
      {"rope --rope 'table:inv_freq=1;2;3;4;5' --head-dim 8", "--rope", "5 values", "4"},
      {"rope --rope 'table:inv_freq=1;;3;4' --head-dim 8", "--rope table: inv_freq", "''", "finite number"},
      {"rope --rope 'table:inv_freq=1;2;3;x' --head-dim 8", "--rope table: inv_freq", "'x'", "finite number"},
      {"rope --rope 'longrope:short_factor=1;1,long_factor=1;1;1;1,factor=2,original_max_position_embeddings=64' --head-dim 8",
       "--rope longrope: long_factor", "4 values", "2"});
}

Test(cli_errors, values_that_do_not_go_together) {
  EXPECT_REFUSALS(
      {"map --mask causal=0 --remap rerope:window=2 --row 1 --kv-len 4", "--mask", "not_causal is 1", "causal only"},
      {"map --remap dca:chunk=4,local=4 --row 1 --kv-len 4", "--remap", "local is 4", "less than"},
      {"map --remap self-extend:group=3,window=4 --row 1 --kv-len 4", "--remap", "window is 4", "multiple"},
      {"map --mask s2=3 --row 1 --kv-len 4", "--mask", "s2 is 3", "even"},
      {"rope --rope default:partial_rotary_factor=0.2 --head-dim 16", "--rope", "partial_rotary_factor=0.2", "even"},
      {"rope --rope default:partial_rotary_factor=1.5 --head-dim 16", "--rope default: partial_rotary_factor", "1.5", "[0, 1]"},
      {"map --layer-type full --row 1 --kv-len 4", "--layer-type", "full", "--config"});
}

Test(cli_errors, configs) {
  test_cli_write("broken.json", "{", 1);
  test_cli_write("unknown.json", "[1, 2]", 6);
  EXPECT_REFUSALS({"rope --config absent.json", "--config", "absent.json", NULL},
                  {"rope --config broken.json", "--config", "broken.json", NULL},
                  {"rope --config unknown.json", "--config", "unknown.json", NULL},
                  {"validate --config broken.json", "--config", "broken.json", NULL},
                  {"validate --config", "--config", "nothing", "config.json"},
                  {"validate --config a.json --method yarn", "--method", "yarn", "one of them"});
}

/* A value with line breaks and control characters must not make a second line, nor a long one an endless one. */
Test(cli_errors, one_line_whatever_the_value) {
  char arguments[5000] = "rope --head-dim 8 --rope ";
  test_cli_refuses("rope --head-dim 8 --rope \"$(printf 'a\\nb\\033c')\"", "--rope", "a b c", "yarn");
  memset(arguments + strlen(arguments), 'a', 4000);
  test_cli_refuses(arguments, "--rope", "aaa", "...");
}

/* Every key that the registry says is needed is missed. */
Test(cli_errors, every_required_key_of_the_registry) {
  cJSON *info = test_cli_json("info --json"), *method;
  int refused = 0;
  cJSON_ArrayForEach(method, cJSON_GetObjectItem(info, "methods")) {
    const char *family = cJSON_GetObjectItem(method, "family")->valuestring,
               *name = cJSON_GetObjectItem(method, "name")->valuestring;
    char arguments[256], flag[16];
    bool has_kind = strcmp(family, "logits") != 0 && strcmp(family, "mask") != 0;
    if (!has_kind || !cJSON_GetArraySize(cJSON_GetObjectItem(method, "required"))) continue;
    snprintf(flag, sizeof flag, "--%s", family);
    snprintf(arguments, sizeof arguments, "map %s %s --row 1 --kv-len 4", flag, name);
    test_cli_refuses(arguments, flag, name, cJSON_GetArrayItem(cJSON_GetObjectItem(method, "required"), 0)->valuestring);
    refused++;
  }
  cr_expect_gt(refused, 20);
  cJSON_Delete(info);
}
