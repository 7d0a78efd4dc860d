/* spindle rope: what a rule comes to. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "source.h"
#include "tool.h"

const char tool_rope_help[] =
    "spindle rope --rope RULE[:key=value,...] --head-dim D [--seq-len N] [--json]\n"
    "spindle rope --config config.json [--layer-type NAME] [--seq-len N] [--json]\n"
    "\n"
    "Prints the frequency of every pair of channels (radians per token), the factor on the rotated channels of queries\n"
    "and keys, and the factor on the whole score. Rules that depend on the length are resolved at N (4096, 4k, 1M;\n"
    "default 1). A config whose types of layers differ in this prints all of them, or NAME alone.\n"
    "Example: spindle rope --rope yarn:factor=4,original_max_position_embeddings=2048 --head-dim 16\n";

typedef struct resolved {
  const char *layer_type;
  int32_t pairs;
  double inv_freq[256], attention_factor, softmax_scale_factor;
} resolved;

static bool resolve(const tool_method *m, int32_t head_dim, int64_t n, resolved *r) {
  spindle_shape shape;
  int32_t dim = m->shape.head_dim_qk ? m->shape.head_dim_qk : head_dim;
  if (head_dim && dim != head_dim) return tool_fail("--head-dim: got %d, expected %d as in the config", head_dim, dim), false;
  if (!dim) return tool_fail("--head-dim: not given, expected the head dim, or --config"), false;
  if (!tool_method_shape(m, 2, 2, dim, dim, SPINDLE_F32, &shape)) return false;
  r->pairs = (shape.rotary_dim ? shape.rotary_dim : dim - shape.rotary_offset) / 2;
  if (spindle_position_resolve(&m->position, &shape, n, r->inv_freq, &r->attention_factor, &r->softmax_scale_factor) ==
      SPINDLE_OK)
    return true;
  tool_fail_library("--rope");
  return false;
}

static bool same(const resolved *a, const resolved *b) {
  return a->pairs == b->pairs && !memcmp(a->inv_freq, b->inv_freq, (size_t)a->pairs * sizeof *a->inv_freq) &&
         a->attention_factor == b->attention_factor && a->softmax_scale_factor == b->softmax_scale_factor;
}

/* ---- Printing ---- */

static void write_members(tool_json *json, const resolved *r) {
  tool_json_numbers(json, "inv_freq", r->inv_freq, r->pairs);
  tool_json_number(json, "attention_factor", r->attention_factor);
  tool_json_number(json, "softmax_scale_factor", r->softmax_scale_factor);
}

static void print_json(const resolved *all, int32_t count) {
  tool_json json = {.file = stdout};
  tool_json_open(&json, NULL, '{');
  if (count == 1) {
    write_members(&json, all);
  } else {
    tool_json_open(&json, "layer_types", '{');
    for (int32_t k = 0; k < count; k++) {
      tool_json_open(&json, all[k].layer_type, '{');
      write_members(&json, &all[k]);
      tool_json_close(&json, '}');
    }
    tool_json_close(&json, '}');
  }
  tool_json_close(&json, '}');
  tool_json_end(&json);
}

static void print_text(const resolved *r, int64_t n) {
  if (r->layer_type) printf("Layers of type %s\n", r->layer_type);
  printf("At length %lld: attention factor %.17g (on the rotated channels of q and of k), score factor %.17g\n", (long long)n,
         r->attention_factor, r->softmax_scale_factor);
  printf("%5s  %-24s  %s\n", "pair", "frequency [rad/token]", "wavelength [tokens]");
  for (int32_t t = 0; t < r->pairs; t++)
    printf("%5d  %-24.17g  %.6g\n", t, r->inv_freq[t], 6.283185307179586 / fabs(r->inv_freq[t]));
}

/* ---- The command ---- */

/* Every type of layer of the config; one alone where they agree. */
static bool resolve_layer_types(const tool_position_flags *flags, int32_t head_dim, int64_t n, resolved **all, int32_t *count) {
  spindle_config *config;
  const char *name;
  int32_t first, types = 0;
  bool good = tool_config_open(&config, flags->config), differ = false;
  if (!good) return false;
  while (spindle_config_layer_type(config, types, NULL)) types++;
  *all = calloc((size_t)types + 1, sizeof **all);
  for (int32_t k = 0; good && *all && (name = spindle_config_layer_type(config, k, &first)); k++) {
    spindle_config_layer layer;
    tool_method m;
    char *copy = strdup(name);
    (*all)[k].layer_type = copy;
    good = copy && tool_config_layer(config, first, &layer);
    if (!good) break;
    tool_method_from_layer(&m, &layer);
    good = tool_method_parse(&m, flags) && resolve(&m, head_dim, n, &(*all)[k]);
    differ |= !same(&(*all)[0], &(*all)[k]);
    tool_method_free(&m);
  }
  spindle_config_destroy(config);
  *count = differ ? types : 1;
  if (good && *all && types) return true;
  if (good) tool_fail("--config: got a model without attention layers, expected at least one");
  return false;
}

static bool resolve_one(const tool_position_flags *flags, int32_t head_dim, int64_t n, resolved **all, int32_t *count) {
  spindle_config *config;
  tool_method m;
  *count = 1;
  *all = calloc(2, sizeof **all);
  bool good = tool_method_load(&m, &config, flags) && *all && resolve(&m, head_dim, n, *all);
  tool_method_free(&m);
  spindle_config_destroy(config);
  return good;
}

int tool_rope(int argc, char **argv) {
  tool_position_flags position = {0};
  const char *head_dim_text = NULL, *seq_len_text = NULL;
  bool json = false;
  const tool_flag flags[] = {TOOL_POSITION_FLAGS(position),
                             {"--head-dim", &head_dim_text, NULL},
                             {"--seq-len", &seq_len_text, NULL},
                             {"--json", NULL, &json}};
  int64_t head_dim = 0, n = 1;
  resolved *all = NULL;
  int32_t count = 0;
  if (!tool_read_flags(argc, argv, flags, TOOL_NUM_POSITION_FLAGS + 3)) return TOOL_BAD_INPUT;
  if (head_dim_text && !tool_read_integer("--head-dim", head_dim_text, 1, 512, &head_dim)) return TOOL_BAD_INPUT;
  if (seq_len_text && !tool_read_length("--seq-len", seq_len_text, 1, TOOL_MAX_INDEX, &n)) return TOOL_BAD_INPUT;
  if (!position.rope && !position.config) return tool_fail("--rope: not given, expected RULE[:key=value,...], or --config FILE");
  bool types = position.config && !position.layer_type;
  bool good = (types ? resolve_layer_types : resolve_one)(&position, (int32_t)head_dim, n, &all, &count);
  if (good && json) print_json(all, count);
  for (int32_t k = 0; good && !json && k < count; k++) {
    if (count == 1) all[k].layer_type = types ? all[k].layer_type : NULL;
    print_text(&all[k], n);
  }
  for (int32_t k = 0; types && all && all[k].layer_type; k++) free((char *)all[k].layer_type);
  free(all);
  return good ? TOOL_OK : TOOL_BAD_INPUT;
}
