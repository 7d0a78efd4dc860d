/* Real models at their own head counts and dims, at positions short and far beyond the trained length. The reference is slow, so
 * far positions are probed by a few query rows over a few hundred keys, near them and far behind. */
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "random.h"
#include "source.h"
#include "validate.h"

enum { ROWS = 4, KEYS = 256, DEFAULT_TRAINED = 4096, MAX_PROBLEMS = 8 };
#define FAR ((int64_t)1 << 20)

/* The last `rows` of `keys` keys that begin at `first`. */
static tool_problem tail(int64_t first, int32_t rows, int32_t keys) {
  int64_t end = first + keys;
  return (tool_problem){1, rows, keys, end - rows, first, end, 0, 0};
}

/* Rows at `row` over keys that lie far behind. */
static tool_problem behind(int64_t row, int64_t first) { return (tool_problem){1, ROWS, KEYS, row, first, row + ROWS, 0, 0}; }

static int32_t make_problems(int64_t trained, bool biased, bool quick, tool_problem problems[MAX_PROBLEMS]) {
  int64_t far = trained * 8 > FAR ? trained * 8 : FAR, border = trained > KEYS ? trained - KEYS + 2 : 0;
  int32_t count = 0;
  problems[count++] = tail(0, 16, 64);          /* a short prompt */
  problems[count++] = tail(border, ROWS, KEYS); /* across the trained length */
  problems[count++] = tail(far - 7, ROWS, KEYS);
  /* Under a bias of distances keys a million tokens back weigh exp(-4000): nothing that f32 could get right or wrong. */
  if (!biased) problems[count++] = behind(far, 0);
  if (quick) return count;
  problems[count++] = tail(4 * trained, 1, KEYS); /* decode beyond the trained length */
  if (!biased) problems[count++] = behind(far, trained);
  return count;
}

/* What the rule was trained on, before it was stretched; max_position_embeddings may be the length after. */
static int64_t trained_length(const spindle_config *config, const spindle_config_layer *layer) {
  int64_t longest = spindle_config_max_position_embeddings(config);
  int64_t original = (int64_t)layer->position.original_max_position_embeddings;
  if (original > 0) return original;
  return longest > 0 ? longest : DEFAULT_TRAINED;
}

/* ---- Layers ---- */

/* Learned sinks are in the checkpoint; any will do here. */
static bool draw_sinks(tool_method *m, int32_t heads) {
  tool_random r = {7};
  m->sinks.values = malloc((size_t)heads * sizeof *m->sinks.values);
  if (!m->sinks.values) return tool_fail("no memory for %d heads", heads), false;
  m->sinks.count = heads;
  for (int32_t h = 0; h < heads; h++) m->sinks.values[h] = (double)(tool_random_u64(&r) % 1000) / 250 - 2;
  return true;
}

static tool_row validate_layer(tool_validation *v, const spindle_config_layer *layer, int64_t trained) {
  tool_problem problems[MAX_PROBLEMS];
  tool_row row = {0};
  tool_method method;
  spindle_shape shape;
  const spindle_shape *s = &layer->shape;
  int32_t count = make_problems(trained, s->bias != SPINDLE_BIAS_NONE, v->quick, problems);
  tool_method_from_layer(&method, layer);
  bool good = !layer->learned_sinks || draw_sinks(&method, s->num_q_heads);
  for (int32_t dtype = tool_first_dtype(v); good && dtype <= SPINDLE_BF16; dtype += SPINDLE_BF16 - tool_first_dtype(v)) {
    int32_t kv_heads = s->num_kv_heads ? s->num_kv_heads : s->num_q_heads, v_dim = s->head_dim_v ? s->head_dim_v : s->head_dim_qk;
    good = tool_method_shape(&method, s->num_q_heads, kv_heads, s->head_dim_qk, v_dim, dtype, &shape);
    for (int32_t p = 0; good && p < count; p++) tool_row_add(&row, v, &method, &shape, &problems[p], SPINDLE_SCHEDULE_AUTO);
  }
  row.failed |= !good;
  tool_method_free(&method);
  return row;
}

/* The first layers of each kind. */
static int32_t distinct_layers(const spindle_config *config, int32_t *first, spindle_config_layer *layers, int32_t most) {
  int32_t count = 0;
  for (int32_t l = 0; l < spindle_config_num_layers(config) && count < most; l++) {
    int32_t k = 0;
    if (!tool_config_layer(config, l, &layers[count])) return -1;
    if (!layers[count].has_attention) continue;
    while (k < count && !tool_layers_equal(&layers[k], &layers[count])) k++;
    if (k == count) first[count++] = l;
  }
  return count;
}

/* ---- Report ---- */

static const char *rule_name(int32_t rope) {
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  for (int32_t m = 0; m < count; m++)
    if (all[m].family == SPINDLE_FAMILY_ROPE && all[m].kind == rope) return all[m].name;
  return "?";
}

static void report(tool_validation *v, const char *model, int32_t number, const spindle_config_layer *layer, int64_t trained,
                   const tool_row *row) {
  const char *rule = layer->shape.bias == SPINDLE_BIAS_ALIBI ? "alibi" : rule_name(layer->position.rope);
  int32_t heads = layer->shape.num_q_heads, kv_heads = layer->shape.num_kv_heads ? layer->shape.num_kv_heads : heads;
  if (!v->json) {
    printf("%-26.26s %5d  %-16s %4d/%-3d %4d  %8lld", model, number, rule, heads, kv_heads, layer->shape.head_dim_qk,
           (long long)trained);
    tool_row_print(row);
    return;
  }
  tool_json_open(v->json, NULL, '{');
  tool_json_string(v->json, "model", model);
  tool_json_integer(v->json, "layer", number);
  tool_json_string(v->json, "layer_type", layer->layer_type ? layer->layer_type : "");
  tool_json_string(v->json, "rule", rule);
  tool_json_integer(v->json, "heads", heads);
  tool_json_integer(v->json, "kv_heads", kv_heads);
  tool_json_integer(v->json, "head_dim", layer->shape.head_dim_qk);
  tool_json_integer(v->json, "trained_length", trained);
  tool_row_write(v->json, row);
  tool_json_close(v->json, '}');
}

static void model_name(const char *path, char *name, size_t size) {
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  size_t length = strlen(base), suffix = strlen(".json");
  if (length > suffix && !strcmp(base + length - suffix, ".json")) length -= suffix;
  snprintf(name, size, "%.*s", (int)length, base);
}

/* Returns the number of rows that missed, -1 where the config could not be read. */
static int32_t validate_model(tool_validation *v, const char *path) {
  enum { MOST = 16 };
  spindle_config *config;
  spindle_config_layer layers[MOST + 1];
  int32_t first[MOST + 1], misses = 0;
  char model[64];
  model_name(path, model, sizeof model);
  if (!tool_config_open(&config, path)) return -1;
  int32_t count = distinct_layers(config, first, layers, MOST);
  if (count == 0) tool_fail("--config: got '%s', expected a model with attention layers", path);
  for (int32_t k = 0; k < count; k++) {
    int64_t trained = trained_length(config, &layers[k]);
    tool_row row = validate_layer(v, &layers[k], trained);
    tool_progress_end();
    misses += !tool_row_good(&row);
    report(v, model, first[k], &layers[k], trained, &row);
  }
  spindle_config_destroy(config);
  return count > 0 ? misses : -1;
}

bool tool_validate_models(tool_validation *v, const char *const *configs, int32_t count) {
  int32_t misses = 0;
  if (!v->json) {
    printf(
        "Every kind of layer of %d models against the float64 reference, %s and bf16, at the model's own heads and dims: short\n"
        "prompts, across the trained length, beyond it, and queries a million tokens on (near keys and the text's first ones).\n"
        "Columns: the comparison that came closest to its bound. O is the output, LSE the log of the softmax's sum.\n\n"
        "%-26s %5s  %-16s %8s %4s  %8s",
        count, tool_dtype_name(tool_first_dtype(v)), "model", "layer", "rule", "heads", "dim", "trained");
    tool_row_print_head();
  }
  for (int32_t k = 0; k < count; k++) {
    tool_progress(configs[k], k, count);
    int32_t missed = validate_model(v, configs[k]);
    tool_progress_end();
    misses += missed < 0 ? 1 : missed;
  }
  if (!v->json) printf("\n%d models, %d misses\n", count, misses);
  return misses == 0;
}
