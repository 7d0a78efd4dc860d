/* spindle validate: a backend against the float64 reference. */
#include <string.h>

#include "random.h"
#include "source.h"
#include "tool.h"
#include "validate.h"

const char tool_validate_help[] =
    "spindle validate [--method NAME|all] [--quick|--long] [--backend auto|cpu|cuda|reference] [--seed N] [--json]\n"
    "spindle validate --config FILE [--config FILE...] [--quick] [--backend ...] [--seed N] [--json]\n"
    "\n"
    "Compares a backend with the float64 reference on random inputs: every method (or those called NAME), or every\n"
    "kind of layer of real models. Bounds are derived from dtype, shape and data (see bench/compare.c); exit status 1\n"
    "where an error is larger. --quick tries fewer combinations, --long texts of up to 9001 keys; --seed repeats a run.\n"
    "On cuda: f16 and bf16; methods on raw keys rotated in the loop, on raw keys rotated before it, and on rotated keys.\n"
    "Example: spindle validate --method rerope\n";

enum { MAX_CONFIGS = 256 };

/* Takes every `--config FILE` out of the arguments, for it may be given many times. */
static bool take_configs(int *argc, char **argv, const char **configs, int32_t *count) {
  int kept = 0;
  for (int a = 0; a < *argc; a++) {
    bool joined = !strncmp(argv[a], "--config=", 9);
    if (!joined && strcmp(argv[a], "--config") != 0) {
      argv[kept++] = argv[a];
      continue;
    }
    const char *value = joined ? argv[a] + 9 : a + 1 < *argc ? argv[++a] : "";
    if (!*value || !strncmp(value, "--", 2)) return tool_fail("--config: got nothing, expected a config.json"), false;
    if (*count == MAX_CONFIGS) return tool_fail("--config: got more than %d, expected fewer", MAX_CONFIGS), false;
    configs[(*count)++] = value;
  }
  *argc = kept;
  return true;
}

/* A file that cannot be read is bad input, not a miss. */
static bool check_configs(const char *const *configs, int32_t count) {
  for (int32_t k = 0; k < count; k++) {
    spindle_config *config;
    if (!tool_config_open(&config, configs[k])) return false;
    spindle_config_destroy(config);
  }
  return true;
}

static void open_json(tool_json *json, const tool_validation *v, const char *rows) {
  tool_json_open(json, NULL, '{');
  tool_json_string(json, "backend", v->backend);
  tool_json_integer(json, "seed", (int64_t)v->seed);
  tool_json_open(json, rows, '[');
}

static int validate(tool_validation *v, const char *method, const char *const *configs, int32_t num_configs) {
  static tool_case cases[TOOL_MAX_CASES];
  int32_t num_cases = num_configs ? 0 : tool_cases(method ? method : "all", cases);
  if (!num_configs && !num_cases) return TOOL_BAD_INPUT;
  if (!check_configs(configs, num_configs)) return TOOL_BAD_INPUT;
  if (v->json)
    open_json(v->json, v, num_configs ? "layers" : "methods");
  else
    printf("Backend %s, seed %llu\n", v->backend, (unsigned long long)v->seed);
  bool good = num_configs ? tool_validate_models(v, configs, num_configs) : tool_validate_methods(v, cases, num_cases);
  if (v->json) {
    tool_json_close(v->json, ']');
    tool_json_bool(v->json, "ok", good);
    tool_json_close(v->json, '}');
    tool_json_end(v->json);
  }
  return good ? TOOL_OK : TOOL_MISS;
}

int tool_validate(int argc, char **argv) {
  const char *configs[MAX_CONFIGS], *method = NULL, *backend = NULL, *seed_text = NULL;
  int32_t num_configs = 0;
  int64_t seed = 0;
  bool json = false, quick = false, longer = false;
  const tool_flag flags[] = {{"--method", &method, NULL}, {"--backend", &backend, NULL}, {"--seed", &seed_text, NULL},
                             {"--quick", NULL, &quick},   {"--long", NULL, &longer},     {"--json", NULL, &json}};
  if (!take_configs(&argc, argv, configs, &num_configs) || !tool_read_flags(argc, argv, flags, 6)) return TOOL_BAD_INPUT;
  if (method && num_configs) return tool_fail("--method: got '%s' and --config, expected one of them", method);
  if (longer && (quick || num_configs))
    return tool_fail("--long: got %s too, expected one of them", quick ? "--quick" : "--config");
  if (seed_text && !tool_read_integer("--seed", seed_text, 0, INT64_MAX, &seed)) return TOOL_BAD_INPUT;

  tool_json document = {.file = stdout};
  tool_validation v = {
      .seed = seed_text ? (uint64_t)seed : tool_random_seed(), .quick = quick, .longer = longer, .json = json ? &document : NULL};
  spindle_context_info info = {.struct_size = sizeof info};
  int status = TOOL_BAD_INPUT;
  if (tool_context_open(&v.tested, backend, 0) && tool_context_open(&v.reference, "reference", 0)) {
    spindle_context_get_info(v.tested, &info);
    v.backend = info.name;
    v.gpu = info.backend == SPINDLE_BACKEND_CUDA;
    status = validate(&v, method, configs, num_configs);
  }
  spindle_context_destroy(v.tested);
  spindle_context_destroy(v.reference);
  return status;
}
