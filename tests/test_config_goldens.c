/* The config reader against transformers 5.23.0: tests/config/goldens.jsonl (written by make_goldens.py there) holds configs of
 * every family that it can load, and what it computes for each layer. transformers works in float32, hence the tolerance of 2e-6.
 */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <spindle/config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CASES       4096
#define MAX_PAIRS       256
#define TOLERANCE       2e-6
#define ALIBI_TOLERANCE 4e-3 /* transformers rounds Falcon's slopes to bfloat16 */

typedef struct table {
  int32_t pairs;
  float inv_freq[MAX_PAIRS];
} table;

static table *tables[MAX_CASES];
static cJSON *bases[MAX_CASES];
static int num_tables, num_cases, num_layers, failures, differs;

/* Nothing that transformers computes for these can be said in a descriptor; the reader says so (docs/config.md). */
static const char *const refused[] = {"glm4_moe/bare", "nanochat/linear-old", "nanochat/dynamic",  "nanochat/yarn-old",
                                      "nanochat/yarn", "nanochat/llama3",     "nanochat/longrope", "nanochat/proportional"};

static int is_refused(const char *name) {
  for (size_t k = 0; k < sizeof refused / sizeof *refused; k++)
    if (strcmp(refused[k], name) == 0) return 1;
  return 0;
}

static double number(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  cr_assert(cJSON_IsNumber(item), "%s", name);
  return item->valuedouble;
}

static void add_table(const char *hex) {
  table *t = calloc(1, sizeof *t);
  cr_assert(t && num_tables < MAX_CASES && strlen(hex) <= 8 * MAX_PAIRS);
  for (; hex[0]; hex += 8) {
    unsigned char bytes[4];
    uint32_t bits;
    for (int b = 0; b < 4; b++) {
      char digits[3] = {hex[2 * b], hex[2 * b + 1], 0};
      bytes[b] = (unsigned char)strtoul(digits, NULL, 16);
    }
    bits = (uint32_t)bytes[3] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[1] << 8 | bytes[0];
    memcpy(&t->inv_freq[t->pairs++], &bits, sizeof bits);
  }
  tables[num_tables++] = t;
}

/* Puts the change on top: null deletes, a text_config is merged member by member. */
static void merge(cJSON *config, const cJSON *change) {
  for (const cJSON *item = change->child; item; item = item->next) {
    cJSON *old = cJSON_GetObjectItemCaseSensitive(config, item->string);
    if (strcmp(item->string, "text_config") == 0 && old)
      merge(old, item);
    else {
      if (old) cJSON_DeleteItemFromObjectCaseSensitive(config, item->string);
      if (!cJSON_IsNull(item)) cJSON_AddItemToObject(config, item->string, cJSON_Duplicate(item, 1));
    }
  }
}

static void check(const char *name, int32_t layer, const char *what, double got, double want, double tolerance) {
  if (fabs(got - want) <= tolerance * fabs(want) || differs) return; /* one difference a case says enough */
  differs = 1;
  if (failures++ < 60) cr_log_error("%s layer %d: %s is %.9g, transformers has %.9g", name, (int)layer, what, got, want);
}

static void check_rope(const char *name, int32_t i, const spindle_config_layer *layer, const cJSON *facts) {
  const cJSON *rope = cJSON_GetObjectItemCaseSensitive(facts, "rope");
  double inv_freq[MAX_PAIRS], factor;
  if (!rope) {
    check(name, i, "rope rule", layer->position.rope, SPINDLE_ROPE_NONE, 0);
    return;
  }
  check(name, i, "pair layout", layer->shape.pair_layout, number(facts, "layout"), 0);
  for (const cJSON *entry = rope->child; entry; entry = entry->next) {
    const table *want = tables[cJSON_GetArrayItem(entry, 1)->valueint];
    int64_t n = (int64_t)cJSON_GetArrayItem(entry, 0)->valuedouble;
    check(name, i, "pairs", layer->shape.rotary_dim / 2, want->pairs, 0);
    if (layer->shape.rotary_dim / 2 != want->pairs) return;
    if (spindle_position_resolve(&layer->position, &layer->shape, n, inv_freq, &factor, NULL)) {
      check(name, i, spindle_last_error(), 0, 1, 0);
      return;
    }
    check(name, i, "attention factor", factor, cJSON_GetArrayItem(entry, 2)->valuedouble, TOLERANCE);
    for (int32_t t = 0; t < want->pairs; t++) {
      char what[64];
      snprintf(what, sizeof what, "inv_freq[%d] at n=%lld", (int)t, (long long)n);
      check(name, i, what, inv_freq[t], (double)want->inv_freq[t], TOLERANCE);
    }
  }
}

static void check_alibi(const char *name, int32_t i, const spindle_config_layer *layer, const cJSON *facts) {
  const cJSON *slopes = cJSON_GetObjectItemCaseSensitive(facts, "alibi");
  float ours[4096];
  int32_t h = 0;
  check(name, i, "bias", layer->shape.bias, slopes ? SPINDLE_BIAS_ALIBI : SPINDLE_BIAS_NONE, 0);
  if (!slopes || !layer->shape.bias) return;
  cr_assert_eq(spindle_alibi_slopes(layer->shape.num_q_heads, layer->alibi_bias_max, 0, 0, ours), SPINDLE_OK);
  for (const cJSON *slope = slopes->child; slope; slope = slope->next, h++)
    check(name, i, "slope", layer->alibi_slope_scale * (double)ours[h], slope->valuedouble, ALIBI_TOLERANCE);
}

static void check_layer(const char *name, const spindle_config *config, int32_t i, const cJSON *facts) {
  spindle_config_layer layer = {.struct_size = sizeof layer};
  cr_assert_eq(spindle_config_get_layer(config, i, &layer), SPINDLE_OK);
  check(name, i, "has_attention", layer.has_attention, facts != NULL, 0);
  if (!facts || !layer.has_attention) return;
  num_layers++;
  check(name, i, "query heads", layer.shape.num_q_heads, number(facts, "hq"), 0);
  check(name, i, "KV heads", layer.shape.num_kv_heads, number(facts, "hkv"), 0);
  check(name, i, "head dim", layer.shape.head_dim_qk, number(facts, "d"), 0);
  check(name, i, "value dim", layer.shape.head_dim_v, number(facts, "dv"), 0);
  check(name, i, "scale", layer.scale, number(facts, "scale"), 1e-9);
  check(name, i, "window", (double)layer.position.window_left, number(facts, "window"), 0);
  check(name, i, "chunk", (double)layer.position.chunk, number(facts, "chunk"), 0);
  check(name, i, "softcap", layer.softcap, number(facts, "softcap"), 0);
  check(name, i, "sinks", layer.learned_sinks, number(facts, "sinks"), 0);
  check_rope(name, i, &layer, facts);
  check_alibi(name, i, &layer, facts);
}

static void run_case(const cJSON *line) {
  const char *name = cJSON_GetObjectItemCaseSensitive(line, "name")->valuestring;
  const char *layers = cJSON_GetObjectItemCaseSensitive(line, "layers")->valuestring;
  const cJSON *kinds = cJSON_GetObjectItemCaseSensitive(line, "kinds");
  int base = (int)number(line, "base");
  cJSON *json = base < 0 ? cJSON_CreateObject() : cJSON_Duplicate(bases[base], 1);
  spindle_config *config = NULL;
  char *text;
  spindle_status status;
  merge(json, cJSON_GetObjectItemCaseSensitive(line, "config"));
  cr_assert_lt(num_cases, MAX_CASES);
  differs = 0;
  bases[num_cases++] = json;
  text = cJSON_PrintUnformatted(json);
  status = spindle_config_parse(&config, text, strlen(text));
  cJSON_free(text);
  if (is_refused(name)) {
    check(name, -1, "status", status, SPINDLE_UNSUPPORTED, 0);
    return;
  }
  if (status) {
    check(name, -1, spindle_config_last_error(), status, SPINDLE_OK, 0);
    return;
  }
  check(name, -1, "layers", spindle_config_num_layers(config), (double)strlen(layers), 0);
  for (int32_t i = 0; layers[i] && i < spindle_config_num_layers(config); i++) {
    char kind[2] = {layers[i], 0};
    check_layer(name, config, i, cJSON_GetObjectItemCaseSensitive(kinds, kind));
  }
  spindle_config_destroy(config);
}

Test(config_goldens, equal_transformers) {
  const char *path = getenv("SPINDLE_GOLDENS");
  FILE *file = fopen(path ? path : SPINDLE_SOURCE_DIR "/tests/config/goldens.jsonl", "r");
  char *text = NULL;
  size_t room = 0;
  cr_assert(file);
  while (getline(&text, &room, file) > 0) {
    cJSON *line = cJSON_Parse(text);
    const cJSON *hex = cJSON_GetObjectItemCaseSensitive(line, "table");
    cr_assert(line);
    if (hex)
      add_table(hex->valuestring);
    else
      run_case(line);
    cJSON_Delete(line);
  }
  free(text);
  fclose(file);
  cr_log_info("%d configs, %d attention layers, %d frequency tables", num_cases, num_layers, num_tables);
  cr_assert_gt(num_cases, 1000);
  cr_assert_eq(failures, 0, "%d differences", failures);
  while (num_cases) cJSON_Delete(bases[--num_cases]);
  while (num_tables) free(tables[--num_tables]);
}
