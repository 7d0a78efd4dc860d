/* bench/models: the configs of released models load and say what is known about these models. */
#include <criterion/criterion.h>
#include <math.h>
#include <spindle/config.h>
#include <stdio.h>

typedef struct expectation {
  const char *file;
  int32_t layers;
  int64_t max_positions;
  int32_t q_heads, kv_heads, head_dim, head_dim_v, rotary_dim, rotary_offset, layout;
  int32_t rope, row_scale, bias, sinks; /* of layer 0 */
  double theta;
  int64_t window[2]; /* of layers 0 and 1 */
  double scale, softcap;
} expectation;

#define HALF        SPINDLE_PAIRS_HALF
#define INTERLEAVED SPINDLE_PAIRS_INTERLEAVED
#define D128        0.08838834764831845
static const expectation models[] = {
    {"llama-3.1-8b", 32, 131072, 32, 8, 128, 128, 128, 0, HALF, SPINDLE_ROPE_LLAMA3, 0, 0, 0, 5e5, {0, 0}, D128, 0},
    {"llama-2-7b", 32, 4096, 32, 32, 128, 128, 128, 0, HALF, SPINDLE_ROPE_DEFAULT, 0, 0, 0, 1e4, {0, 0}, D128, 0},
    {"longchat-7b-16k", 32, 16384, 32, 32, 128, 128, 128, 0, HALF, SPINDLE_ROPE_LINEAR, 0, 0, 0, 1e4, {0, 0}, D128, 0},
    {"yarn-llama-2-7b-128k", 32, 131072, 32, 32, 128, 128, 128, 0, HALF, SPINDLE_ROPE_YARN, 0, 0, 0, 1e4, {0, 0}, D128, 0},
    {"codellama-7b", 32, 16384, 32, 32, 128, 128, 128, 0, HALF, SPINDLE_ROPE_DEFAULT, 0, 0, 0, 1e6, {0, 0}, D128, 0},
    {"qwen-7b-chat",
     32,
     32768,
     32,
     32,
     128,
     128,
     128,
     0,
     HALF,
     SPINDLE_ROPE_QWEN_DYNAMIC_NTK,
     SPINDLE_ROWSCALE_LOGN,
     0,
     0,
     1e4,
     {0, 0},
     D128,
     0},
    {"qwen2.5-7b-instruct-yarn", 28, 32768, 28, 4, 128, 128, 128, 0, HALF, SPINDLE_ROPE_YARN, 0, 0, 0, 1e6, {0, 0}, D128, 0},
    {"qwen3-8b-yarn", 36, 40960, 32, 8, 128, 128, 128, 0, HALF, SPINDLE_ROPE_YARN, 0, 0, 0, 1e6, {0, 0}, D128, 0},
    /* 192^-1/2 (0.1 ln 40 + 1)^2 */
    {"deepseek-v3", 61, 163840, 128, 128, 192, 128, 64, 128, INTERLEAVED, SPINDLE_ROPE_YARN, 0, 0, 0, 1e4, {0, 0}, 0.13523377, 0},
    {"gpt-oss-20b", 24, 131072, 64, 8, 64, 64, 64, 0, HALF, SPINDLE_ROPE_YARN, 0, 0, 1, 1.5e5, {128, 0}, 0.125, 0},
    {"phi-3-mini-128k-instruct",
     32,
     131072,
     32,
     32,
     96,
     96,
     96,
     0,
     HALF,
     SPINDLE_ROPE_LONGROPE,
     0,
     0,
     0,
     1e4,
     {262144, 262144},
     0.10206207,
     0},
    {"mistral-7b-v0.1", 32, 32768, 32, 8, 128, 128, 128, 0, HALF, SPINDLE_ROPE_DEFAULT, 0, 0, 0, 1e4, {4096, 4096}, D128, 0},
    {"gemma-2-9b", 42, 8192, 16, 8, 256, 256, 256, 0, HALF, SPINDLE_ROPE_DEFAULT, 0, 0, 0, 1e4, {4096, 0}, 0.0625, 50},
    {"internlm2-7b", 32, 32768, 32, 8, 128, 128, 128, 0, HALF, SPINDLE_ROPE_DYNAMIC_NTK, 0, 0, 0, 1e6, {0, 0}, D128, 0},
    {"gpt-j-6b", 28, 2048, 16, 16, 256, 256, 64, 0, INTERLEAVED, SPINDLE_ROPE_DEFAULT, 0, 0, 0, 1e4, {0, 0}, 0.0625, 0},
    {"gpt-neox-20b", 44, 2048, 64, 64, 96, 96, 24, 0, HALF, SPINDLE_ROPE_DEFAULT, 0, 0, 0, 1e4, {0, 0}, 0.10206207, 0},
    {"mpt-7b", 32, 2048, 32, 32, 128, 128, 0, 0, HALF, SPINDLE_ROPE_NONE, 0, SPINDLE_BIAS_ALIBI, 0, 0, {0, 0}, D128, 0},
    {"bloom-7b1", 30, 2048, 32, 32, 128, 128, 0, 0, HALF, SPINDLE_ROPE_NONE, 0, SPINDLE_BIAS_ALIBI, 0, 0, {0, 0}, D128, 0},
    {"baichuan2-13b", 40, 4096, 40, 40, 128, 128, 0, 0, HALF, SPINDLE_ROPE_NONE, 0, SPINDLE_BIAS_ALIBI, 0, 0, {0, 0}, D128, 0},
};

static spindle_config *open_model(const char *name) {
  spindle_config *config = NULL;
  char path[512];
  snprintf(path, sizeof path, SPINDLE_SOURCE_DIR "/bench/models/%s.json", name);
  cr_assert_eq(spindle_config_open(&config, path), SPINDLE_OK, "%s", spindle_config_last_error());
  return config;
}

static spindle_config_layer layer_of(const spindle_config *config, int32_t i) {
  spindle_config_layer layer = {.struct_size = sizeof layer};
  cr_assert_eq(spindle_config_get_layer(config, i, &layer), SPINDLE_OK);
  return layer;
}

Test(config_models, say_what_is_known) {
  for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
    const expectation *m = &models[k];
    spindle_config *config = open_model(m->file);
    spindle_config_layer layer = layer_of(config, 0), next = layer_of(config, 1);
    cr_expect_eq(spindle_config_num_layers(config), m->layers, "%s", m->file);
    cr_expect_eq(spindle_config_max_position_embeddings(config), m->max_positions, "%s", m->file);
    cr_expect_eq(layer.shape.num_q_heads, m->q_heads, "%s", m->file);
    cr_expect_eq(layer.shape.num_kv_heads, m->kv_heads, "%s", m->file);
    cr_expect_eq(layer.shape.head_dim_qk, m->head_dim, "%s", m->file);
    cr_expect_eq(layer.shape.head_dim_v, m->head_dim_v, "%s", m->file);
    cr_expect_eq(layer.shape.rotary_dim, m->rotary_dim, "%s", m->file);
    cr_expect_eq(layer.shape.rotary_offset, m->rotary_offset, "%s", m->file);
    cr_expect_eq(layer.shape.pair_layout, m->layout, "%s", m->file);
    cr_expect_eq(layer.position.rope, m->rope, "%s", m->file);
    cr_expect_eq(layer.position.row_scale, m->row_scale, "%s", m->file);
    cr_expect_eq(layer.shape.bias, m->bias, "%s", m->file);
    cr_expect_eq(layer.learned_sinks, m->sinks, "%s", m->file);
    cr_expect_eq(layer.position.rope_theta, m->theta, "%s", m->file);
    cr_expect_eq(layer.position.window_left, m->window[0], "%s", m->file);
    cr_expect_eq(next.position.window_left, m->window[1], "%s", m->file);
    cr_expect_float_eq(layer.scale, m->scale, 1e-8, "%s", m->file);
    cr_expect_eq(layer.softcap, m->softcap, "%s", m->file);
    cr_expect_eq(spindle_position_resolve(&layer.position, &layer.shape, 100000, NULL, NULL, NULL), SPINDLE_OK, "%s: %s", m->file,
                 spindle_last_error());
    spindle_config_destroy(config);
  }
}

Test(config_models, attention_factors) {
  const struct {
    const char *file;
    double factor;
  } known[] = {{"yarn-llama-2-7b-128k", 0.1 * log(32) + 1},
               {"qwen3-8b-yarn", 0.1 * log(4) + 1},
               {"gpt-oss-20b", 1.3465735902799727},
               {"deepseek-v3", 1},
               {"phi-3-mini-128k-instruct", 1.190238071}};
  for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
    spindle_config *config = open_model(known[k].file);
    spindle_config_layer layer = layer_of(config, 0);
    double factor = 0;
    cr_assert_eq(spindle_position_resolve(&layer.position, &layer.shape, 5000, NULL, &factor, NULL), SPINDLE_OK);
    cr_expect_float_eq(factor, known[k].factor, 1e-9, "%s: %.12g", known[k].file, factor);
    spindle_config_destroy(config);
  }
}

Test(config_models, gpt_oss_keeps_the_ramp_fractional) {
  spindle_config *config = open_model("gpt-oss-20b");
  cr_expect(layer_of(config, 0).position.no_truncate);
  spindle_config_destroy(config);
}

Test(config_models, phi3_changes_lists_at_the_original_length) {
  spindle_config *config = open_model("phi-3-mini-128k-instruct");
  spindle_config_layer layer = layer_of(config, 31);
  double below[48], above[48];
  cr_assert_eq(layer.position.num_pairs, 48);
  cr_assert_eq(spindle_position_resolve(&layer.position, &layer.shape, 4096, below, NULL, NULL), SPINDLE_OK);
  cr_assert_eq(spindle_position_resolve(&layer.position, &layer.shape, 4097, above, NULL, NULL), SPINDLE_OK);
  cr_expect_float_eq(below[0], 1 / 1.05, 1e-15);
  cr_expect_float_eq(above[0], 1 / 1.0299999713897705, 1e-15);
  cr_expect_float_eq(below[47] / above[47], 64.81001281738281 / 2.9499999999999975, 1e-12);
  spindle_config_destroy(config);
}

Test(config_models, qwen_counts_from_its_trained_length) {
  spindle_config *config = open_model("qwen-7b-chat");
  spindle_position position = layer_of(config, 0).position;
  cr_expect_eq(position.original_max_position_embeddings, 8192);
  cr_expect_eq(position.row_scale_length, 8192);
  spindle_config_destroy(config);
}
