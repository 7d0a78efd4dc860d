/* spindle attend: numbers known by hand, its flags, and that outputs appear whole or not at all. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "support/cli.h"

static const int64_t q_shape[] = {1, 3, 4, 6}, kv_shape[] = {1, 5, 2, 6}, lse_shape[] = {1, 4, 3};
enum { O_COUNT = 3 * 4 * 6, LSE_COUNT = 4 * 3 };
#define TENSORS "--q q.npy --k k.npy --v v.npy --out o.npy "

static float zero(int64_t k) { return 0 * (float)k; }
static float wave(int64_t k) { return sinf(1.7f * (float)k); }
static float key_row(int64_t k) { return (float)(k / 12); } /* values: the index of their key */

static void write_inputs(float (*q)(int64_t), float (*k)(int64_t), float (*v)(int64_t)) {
  test_cli_npy("q.npy", 4, q_shape, q);
  test_cli_npy("k.npy", 4, kv_shape, k);
  test_cli_npy("v.npy", 4, kv_shape, v);
}

static void attend(const char *flags, float *o, float *lse) {
  const test_cli *r = test_cli_run("attend " TENSORS "--lse l.npy %s", flags);
  cr_assert_eq(r->status, 0, "%s: %s", flags, r->err);
  test_cli_read_npy("o.npy", 4, q_shape, o);
  test_cli_read_npy("l.npy", 3, lse_shape, lse);
}

/* ---- Numbers: with q = 0 all keys that a row sees weigh the same ---- */

Test(cli_attend, rows_end_with_the_keys) {
  float o[O_COUNT], lse[LSE_COUNT];
  write_inputs(zero, wave, key_row);
  attend("", o, lse);
  for (int r = 0; r < 3; r++) {
    cr_expect_float_eq(o[r * 24], (r + 2) / 2.0, 1e-6); /* the mean of 0..r+2 */
    for (int h = 0; h < 4; h++) cr_expect_float_eq(lse[h * 3 + r], log(r + 3), 1e-6);
  }
}

Test(cli_attend, q_offset) {
  float o[O_COUNT], lse[LSE_COUNT];
  write_inputs(zero, wave, key_row);
  attend("--q-offset 1", o, lse);
  cr_expect_float_eq(o[0], 0.5, 1e-6);
  cr_expect_float_eq(lse[2], log(4), 1e-6);
  attend("--q-offset -1", o, lse);
  cr_expect_eq(o[0], 0);
  cr_expect_eq(lse[0], -INFINITY);
  cr_expect_float_eq(lse[1], 0, 1e-6);
}

Test(cli_attend, masks_bias_and_sinks) {
  float o[O_COUNT], lse[LSE_COUNT];
  write_inputs(zero, wave, key_row);
  attend("--mask window=2", o, lse);
  cr_expect_float_eq(o[0], 1.5, 1e-6);
  attend("--mask causal=0", o, lse);
  cr_expect_float_eq(o[0], 2, 1e-6);
  attend("--bias 'alibi:slopes=1;2;3;4'", o, lse);
  cr_expect_float_eq(lse[3], log(1 + exp(-2) + exp(-4)), 1e-6); /* head 1, row 0 */
  attend("--bias alibi", o, lse);
  cr_expect_float_eq(lse[0], log(1 + exp(-0.25) + exp(-0.5)), 1e-6); /* four heads: 2^-2, ... */
  attend("--bias kerple-log:p=2,a=0.5", o, lse);
  cr_expect_float_eq(lse[0], log(1 + pow(1.5, -2) + pow(2, -2)), 1e-6);
  attend("--logits 'sinks=0;1;2;3'", o, lse);
  cr_expect_float_eq(lse[9], log(3 + exp(3)), 1e-6); /* head 3, row 0 */
  cr_expect_float_eq(o[0], 0.75, 1e-6);
}

Test(cli_attend, backends_layouts_and_dtypes_agree) {
  static const char *const same[] = {"--backend reference", "--backend cpu", "--backend auto", "--dtype f32"};
  float o[O_COUNT], lse[LSE_COUNT], other[O_COUNT], other_lse[LSE_COUNT];
  write_inputs(wave, wave, wave);
  attend("--rope default --remap leaky-rerope:window=2,k=3", o, lse);
  for (int k = 0; k < 4; k++) {
    char flags[128] = "--rope default --remap leaky-rerope:window=2,k=3 ";
    attend(strcat(flags, same[k]), other, other_lse);
    for (int e = 0; e < O_COUNT; e++) cr_expect_float_eq(o[e], other[e], 2e-6, "%s", same[k]);
    for (int e = 0; e < LSE_COUNT; e++) cr_expect_float_eq(lse[e], other_lse[e], 2e-6, "%s", same[k]);
  }
  for (int dtype = 0; dtype < 2; dtype++) {
    bool differs = false;
    attend(dtype ? "--rope default --remap leaky-rerope:window=2,k=3 --dtype bf16"
                 : "--rope default --remap leaky-rerope:window=2,k=3 --dtype f16",
           other, other_lse);
    for (int e = 0; e < O_COUNT; e++) {
      cr_expect_float_eq(o[e], other[e], dtype ? 3e-2 : 4e-3);
      differs |= o[e] != other[e];
    }
    cr_expect(differs, "it did not round");
  }
  attend("--rope default --remap leaky-rerope:window=2,k=3 --layout interleaved", other, other_lse);
  cr_expect(fabsf(lse[0] - other_lse[0]) > 1e-4f, "the layout changes nothing");
}

/* With q.k = 0 but for one channel, scale, softcap and row scale show in the score of a single key. */
static float one(int64_t k) { return k % 6 == 0; }

Test(cli_attend, logits) {
  float o[O_COUNT], lse[LSE_COUNT];
  write_inputs(one, one, key_row);
  attend("--mask window=1", o, lse);
  cr_expect_float_eq(lse[0], 1 / sqrt(6), 1e-6);
  attend("--mask window=1 --logits scale=3", o, lse);
  cr_expect_float_eq(lse[0], 3, 1e-6);
  attend("--mask window=1 --logits scale=3,softcap=2", o, lse);
  cr_expect_float_eq(lse[0], 2 * tanh(1.5), 2e-6);
  attend("--mask window=1 --logits scale=3,logn=2", o, lse);
  cr_expect_float_eq(lse[2], 3 * log(5) / log(2), 1e-5); /* row index 4 */
  attend("--mask window=1 --logits 'scale=1,ssmax=1;2;3;4'", o, lse);
  cr_expect_float_eq(lse[11], 4 * log(5), 1e-5);
  attend("--mask window=1 --logits scale=1,llama4_scale=0.5,llama4_floor=2", o, lse);
  cr_expect_float_eq(lse[2], 1 + 0.5 * log(3), 1e-6);
  attend("--mask window=1 --logits scale=1,llama_4_scaling_beta=0.5,original_max_position_embeddings=2", o, lse);
  cr_expect_float_eq(lse[1], 1 + 0.5 * log(2), 1e-6);
}

/* ---- Configs ---- */

Test(cli_attend, a_config_says_scale_and_bias) {
  const char mpt[] =
      "{\"model_type\": \"mpt\", \"n_layers\": 1, \"d_model\": 24, \"n_heads\": 4, \"max_seq_len\": 64, "
      "\"attn_config\": {\"alibi\": true, \"alibi_bias_max\": 4}}";
  float o[O_COUNT], lse[LSE_COUNT];
  write_inputs(zero, wave, key_row);
  test_cli_write("config.json", mpt, strlen(mpt));
  attend("--config config.json", o, lse);
  cr_expect_float_eq(lse[0], log(1 + exp(-0.5) + exp(-1)), 1e-6);
  attend("--config config.json --bias none", o, lse);
  cr_expect_float_eq(lse[0], log(3), 1e-6);
}

Test(cli_attend, learned_sinks_are_the_checkpoints) {
  const char config[] =
      "{\"model_type\": \"gpt_oss\", \"num_hidden_layers\": 1, \"hidden_size\": 24, \"num_attention_heads\": 4, "
      "\"num_key_value_heads\": 2, \"head_dim\": 6, \"layer_types\": [\"full_attention\"], \"rope_parameters\": {\"rope_type\": "
      "\"default\", \"rope_theta\": 150000.0}}";
  float o[O_COUNT], lse[LSE_COUNT];
  write_inputs(zero, wave, key_row);
  test_cli_write("config.json", config, strlen(config));
  test_cli_refuses("attend --config config.json " TENSORS, "--logits", "sinks", "checkpoint");
  attend("--config config.json --logits sinks=1", o, lse);
  cr_expect_float_eq(lse[0], log(3 + exp(1)), 1e-6);
}

/* ---- Refusals leave nothing behind ---- */

static void refuses(const char *flags, const char *flag, const char *value, const char *expected) {
  char arguments[512] = "attend ";
  test_cli_refuses(strcat(arguments, flags), flag, value, expected);
  cr_expect(!test_cli_exists("o.npy") && !test_cli_exists("l.npy"), "%s left an output", flags);
  cr_expect(!test_cli_exists("o.npy.part") && !test_cli_exists("l.npy.part"), "%s left half an output", flags);
}

Test(cli_attend, refusals) {
  const int64_t other_dim[] = {1, 5, 2, 4}, other_keys[] = {1, 4, 2, 6}, other_batch[] = {2, 5, 2, 6},
                three_heads[] = {1, 5, 3, 6};
  write_inputs(wave, wave, wave);
  test_cli_npy("dim.npy", 4, other_dim, wave);
  test_cli_npy("keys.npy", 4, other_keys, wave);
  test_cli_npy("batch.npy", 4, other_batch, wave);
  test_cli_npy("heads.npy", 4, three_heads, wave);
  test_cli_npy("flat.npy", 3, kv_shape, wave);
  refuses("--q q.npy --k k.npy --v v.npy", "--out", "not given", "file");
  refuses("--q absent.npy --k k.npy --v v.npy --out o.npy", "--q", "absent.npy", "opened");
  refuses("--q q.npy --k dim.npy --v v.npy --out o.npy", "--k", "4 channels", "6");
  refuses("--q q.npy --k k.npy --v keys.npy --out o.npy", "--v", "4 keys", "5");
  refuses("--q q.npy --k batch.npy --v batch.npy --out o.npy", "--k", "2 requests", "1");
  refuses("--q q.npy --k heads.npy --v heads.npy --out o.npy", "--q", "4 heads", "3");
  refuses("--q q.npy --k flat.npy --v v.npy --out o.npy", "--k", "3 dimensions", "4");
  refuses(TENSORS "--dtype f64", "--dtype", "f64", "bf16");
  refuses(TENSORS "--backend gpu", "--backend", "gpu", "reference");
  refuses(TENSORS "--q-offset 1.5", "--q-offset", "1.5", "integer");
  refuses(TENSORS "--lse o.npy", "--lse", "o.npy", "another file");
  refuses(TENSORS "--lse absent/l.npy", "--lse", "absent/l.npy", "file to write");
  refuses(TENSORS "--bias 'alibi:slopes=1;2;3'", "--bias alibi: slopes", "3 values", "4");
  refuses(TENSORS "--logits 'sinks=1;2'", "--logits: sinks", "2 values", "4");
  refuses(TENSORS "--rope linear:factor=0.5", "--rope", "factor is 0.5", "[1, ");
  refuses(TENSORS "--rope 'table:inv_freq=1;2'", "--rope", "2 values", "3");
  refuses("--q q.npy --k k.npy --v v.npy --out absent/o.npy", "--out", "absent/o.npy", "file to write");
}
