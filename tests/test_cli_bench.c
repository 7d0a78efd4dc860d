/* spindle bench: its table and its JSON lines. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/cli.h"

#define SMALL "--heads 4 --kv-heads 2 --head-dim 32 --threads 1 "

static double number(const cJSON *json, const char *key) {
  const cJSON *item = cJSON_GetObjectItem(json, key);
  cr_assert(cJSON_IsNumber(item), "%s", key);
  return item->valuedouble;
}

static const char *text(const cJSON *json, const char *key) { return cJSON_GetStringValue(cJSON_GetObjectItem(json, key)); }

/* Line k of the JSON lines in the text. */
static cJSON *line(const char *lines, int k) {
  while (k-- > 0) lines = strchr(lines, '\n') + 1;
  cJSON *json = cJSON_Parse(lines);
  cr_assert(json, "%s", lines);
  return json;
}

static int count_lines(const char *text) {
  int lines = 0;
  for (; *text; text++) lines += *text == '\n';
  return lines;
}

Test(cli_bench, one_line_a_row, .timeout = 60) {
  const test_cli *r = test_cli_run("bench --method window --seq-len 128,1k --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 2 * 2 * 2); /* plain and window, prefill and decode, two lengths */
  cJSON *plain = line(r->out, 0), *window = line(r->out, 1), *decode = line(r->out, 6);
  cr_expect_str_eq(text(plain, "method"), "default");
  cr_expect_str_eq(text(window, "method"), "window");
  cr_expect_str_eq(text(window, "phase"), "prefill");
  cr_expect_str_eq(text(decode, "phase"), "decode");
  cr_expect_eq(number(decode, "seq_len"), 1024);
  cr_expect_eq(number(decode, "q_len"), 1);
  cr_expect_eq(number(plain, "visible_pairs"), 128 * 129 / 2);
  cr_expect_eq(number(window, "visible_pairs"), 24 * 25 / 2 + 104 * 24); /* 3/8 of a trained length of 64 */
  double seconds = number(plain, "median_s");
  cr_expect(number(plain, "min_s") > 0 && number(plain, "min_s") <= seconds && seconds <= number(plain, "max_s"));
  cr_expect_float_eq(number(plain, "tokens_per_s") * seconds, 128, 1e-6);
  cr_expect_float_eq(number(plain, "flops_per_s") * seconds, 4.0 * 32 * 4 * number(plain, "visible_pairs"), 1e-3);
  cr_expect(number(plain, "ratio_to_plain") > 0 && number(plain, "rounds") >= 5 && number(plain, "threads") == 1);
  cr_expect(text(plain, "backend") && text(plain, "device") && text(plain, "dtype") && text(plain, "version") &&
            text(plain, "date"));
  cJSON_Delete(plain);
  cJSON_Delete(window);
  cJSON_Delete(decode);
}

Test(cli_bench, a_table_and_a_file, .timeout = 60) {
  const test_cli *r = test_cli_run("bench --method rerope --seq-len 128 --json rows.jsonl " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_expect(strstr(r->out, "median ms") && strstr(r->out, "prefill: 128 query rows over 128 keys") && strstr(r->out, "rerope"));
  cr_expect(test_cli_exists("rows.jsonl"));
}

/* What a GPU tells apart is accepted, and recorded, everywhere. */
Test(cli_bench, batch_keys_schedule_and_flush, .timeout = 60) {
  const test_cli *r = test_cli_run(
      "bench --method linear --seq-len 128 --phase decode --batch 3 --keys rotated --schedule in-loop --flush 1 --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cJSON *plain = line(r->out, 0), *linear = line(r->out, 1);
  cr_expect_eq(strlen(strchr(strchr(r->out, '\n') + 1, '\n')), 1, "two lines: decode alone");
  cr_expect_str_eq(text(linear, "method"), "linear");
  cr_expect_str_eq(text(linear, "phase"), "decode");
  cr_expect_str_eq(text(linear, "keys"), "rotated");
  cr_expect_str_eq(text(linear, "schedule"), "in-loop");
  cr_expect(number(linear, "batch") == 3 && number(linear, "flush_mib") == 1);
  double seconds = number(plain, "median_s"), row = 4 * (2 * 32 * 4 + 4), key = 2 * (2 * 32 * 4);
  cr_expect_float_eq(number(plain, "tokens_per_s") * seconds, 3, 1e-6);
  cr_expect_float_eq(number(plain, "flops_per_s") * seconds, 3 * 4.0 * 32 * 4 * 128, 1e-3);
  cr_expect_float_eq(number(plain, "bytes_per_s") * seconds, 3 * (row + 128 * key), 1e-3);
  cJSON_Delete(plain);
  cJSON_Delete(linear);
}

Test(cli_bench, rotated_keys_leave_out_what_needs_raw_ones, .timeout = 60) {
  const test_cli *r = test_cli_run("bench --seq-len 64 --phase decode --keys rotated --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_expect(strstr(r->out, "\"yarn\"") && strstr(r->out, "\"streaming\"") && !strstr(r->out, "rerope") &&
            !strstr(r->out, "xpos"));
  test_cli_refuses("bench --method rerope --keys rotated", "--keys", "rotated", "rerope");
}

/* Decode says what the memory gives, and what rotated keys take. */
Test(cli_bench, decode_beside_a_copy, .timeout = 60) {
  const test_cli *r =
      test_cli_run("bench --method yarn --seq-len 256 --phase decode --keys rotated,raw --dtype bf16 --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 2 * 2);
  cJSON *rotated = line(r->out, 1), *raw = line(r->out, 3);
  cr_expect_str_eq(text(rotated, "keys"), "rotated");
  cr_expect_str_eq(text(raw, "keys"), "raw");
  cr_expect_eq(number(rotated, "ratio_to_rotated"), number(rotated, "ratio_to_plain"));
  cr_expect(number(raw, "ratio_to_rotated") > 0 && number(raw, "copy_bytes_per_s") > 0);
  cr_expect_float_eq(number(raw, "share_of_copy") * number(raw, "copy_bytes_per_s") / number(raw, "bytes_per_s"), 1, 1e-9);
  cr_expect_str_eq(text(raw, "status"), "ok");
  cJSON_Delete(rotated);
  cJSON_Delete(raw);
  cr_expect(strstr(test_cli_run("bench --method yarn --seq-len 64 --phase decode " SMALL)->out, "a copy: "));
}

/* The last rows of a text: pairs and bytes are those of the keys that they see, and rotation is compared with rotated keys. */
Test(cli_bench, chunks_of_a_text, .timeout = 60) {
  const test_cli *r = test_cli_run(
      "bench --method window --phase prefill --seq-len 256 --q-len 32,256 --keys rotated,raw --schedule in-loop --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 2 * 2 * 2); /* rows, keys, plain and window */
  cJSON *rotated = line(r->out, 0), *plain = line(r->out, 2), *window = line(r->out, 3), *whole = line(r->out, 6);
  double row = 4 * (2 * 32 * 4 + 4), key = 2 * (2 * 32 * 4), seen = 24; /* 3/8 of a trained length of 64 */
  cr_expect_eq(number(rotated, "ratio_to_rotated"), number(rotated, "ratio_to_plain"));
  cr_expect_str_eq(text(plain, "phase"), "prefill");
  cr_expect_str_eq(text(plain, "schedule"), "in-loop");
  cr_expect(number(plain, "q_len") == 32 && number(plain, "seq_len") == 256 && number(plain, "ratio_to_rotated") > 0);
  cr_expect_eq(number(plain, "visible_pairs"), 32 * (224 + 33 / 2.0));
  cr_expect_eq(number(window, "visible_pairs"), 32 * seen);
  cr_expect_float_eq(number(plain, "bytes_per_s") * number(plain, "median_s"), 32 * row + 256 * key, 1e-3);
  cr_expect_float_eq(number(window, "bytes_per_s") * number(window, "median_s"), 32 * row + (seen + 31) * key, 1e-3);
  cr_expect_float_eq(number(plain, "tokens_per_s") * number(plain, "median_s"), 32, 1e-6);
  cr_expect_eq(number(whole, "q_len"), 256);
  cr_expect_null(cJSON_GetObjectItem(whole, "ratio_to_rotated"));
  cJSON_Delete(rotated);
  cJSON_Delete(plain);
  cJSON_Delete(window);
  cJSON_Delete(whole);
  r = test_cli_run("bench --preset chunk --seq-len 128 --q-len 64 --keys raw --dtype f32 " SMALL);
  cr_expect(strstr(r->out, "prefill: 64 query rows over 128 keys") && strstr(r->out, "/rotated"));
}

/* e4m3 keys and values under bf16 queries: half the bytes of K and V. */
Test(cli_bench, bytes_of_fp8, .timeout = 60) {
  const test_cli *r =
      test_cli_run("bench --method default --seq-len 128 --phase decode --batch 2 --dtype bf16,fp8 --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 2);
  for (int k = 0; k < 2; k++) {
    cJSON *json = line(r->out, k);
    double row = 4 * (2 * 32 * 2 + 4), key = 2 * (2 * 32 * (k ? 1 : 2));
    cr_expect_str_eq(text(json, "dtype"), k ? "fp8" : "bf16");
    cr_expect_float_eq(number(json, "bytes_per_s") * number(json, "median_s"), 2 * (row + 128 * key), 1e-3);
    cJSON_Delete(json);
  }
}

/* Keys change fastest, then lengths, batches, dtypes, head dims and heads. */
Test(cli_bench, every_combination_of_lists, .timeout = 60) {
  const test_cli *r = test_cli_run(
      "bench --method default --phase decode --heads 4/2,3 --head-dim 16,32 --dtype f32,fp8 --batch 1,2 --seq-len 32,64 "
      "--keys raw,rotated --threads 1 --json -");
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 64);
  for (int k = 0; k < 64; k++) {
    cJSON *json = line(r->out, k);
    cr_expect_str_eq(text(json, "keys"), k & 1 ? "rotated" : "raw");
    cr_expect_eq(number(json, "seq_len"), k & 2 ? 64 : 32);
    cr_expect_eq(number(json, "batch"), k & 4 ? 2 : 1);
    cr_expect_str_eq(text(json, "dtype"), k & 8 ? "fp8" : "f32");
    cr_expect_eq(number(json, "head_dim"), k & 16 ? 32 : 16);
    cr_expect_eq(number(json, "heads"), k & 32 ? 3 : 4);
    cr_expect_eq(number(json, "kv_heads"), k & 32 ? 3 : 2);
    cJSON_Delete(json);
  }
}

/* V's head dim of its own: as the flag says, and so many products. */
Test(cli_bench, head_dims_of_two_kinds, .timeout = 60) {
  const test_cli *r =
      test_cli_run("bench --method default --phase prefill --heads 2 --head-dim 32,48/32 --seq-len 64 --threads 1 --json -");
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 2);
  for (int k = 0; k < 2; k++) {
    cJSON *json = line(r->out, k);
    cr_expect_eq(number(json, "head_dim"), k ? 48 : 32);
    cr_expect_eq(number(json, "head_dim_v"), 32);
    cr_expect_float_eq(number(json, "flops_per_s") * number(json, "median_s"), (k ? 2 * 80 : 2 * 64) * 2.0 * 64 * 65 / 2, 1);
    cJSON_Delete(json);
  }
  r = test_cli_run("bench --head-dim 64/x");
  cr_assert_neq(r->status, 0);
  cr_assert(strstr(r->err, "--head-dim: got 'x'"), "%s", r->err);
}

/* One long request beside short ones: pairs and bytes are those of the keys that are there. */
Test(cli_bench, mixed_lengths, .timeout = 60) {
  const test_cli *r = test_cli_run(
      "bench --preset mixed --method window --seq-len 512 --rest-len 20 --batch 5 --page-size 16 --dtype f32 --keys raw "
      "--heads 4/2 --head-dim 32 --threads 1 --json -");
  cr_assert_eq(r->status, 0, "%s", r->err);
  cJSON *plain = line(r->out, 0), *window = line(r->out, 1);
  double row = 4 * (2 * 32 * 4 + 4), key = 2 * (2 * 32 * 4), seen = 48; /* 3/8 of a trained length of 128 */
  cr_expect(number(plain, "rest_len") == 20 && number(plain, "page_size") == 16 && number(plain, "seq_len") == 512);
  cr_expect_float_eq(number(plain, "visible_pairs"), (512 + 4 * 20) / 5.0, 1e-9);
  cr_expect_float_eq(number(window, "visible_pairs"), (seen + 4 * 20) / 5.0, 1e-9);
  cr_expect_float_eq(number(plain, "bytes_per_s") * number(plain, "median_s"), 5 * row + (512 + 4 * 20) * key, 1e-3);
  cr_expect_float_eq(number(window, "bytes_per_s") * number(window, "median_s"), 5 * row + (seen + 4 * 20) * key, 1e-3);
  cJSON_Delete(plain);
  cJSON_Delete(window);
}

Test(cli_bench, shares_of_a_trained_length, .timeout = 60) {
  const test_cli *r = test_cli_run("bench --method window --seq-len 512 --phase decode --trained 64 --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cJSON *window = line(r->out, 1);
  cr_expect_eq(number(window, "trained_len"), 64);
  cr_expect_eq(number(window, "visible_pairs"), 24); /* 3/8 of it */
  cJSON_Delete(window);
}

/* What is not measured has rows that say why, and is no error. */
Test(cli_bench, what_is_too_large_is_skipped, .timeout = 60) {
  const test_cli *r = test_cli_run("bench --method yarn --phase decode --seq-len 64,1M --memory 4 --json - " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 2 + 1);
  cJSON *large = line(r->out, 2);
  cr_expect_str_eq(text(large, "method"), "yarn");
  cr_expect_str_eq(text(large, "status"), "skipped");
  cr_expect(strstr(text(large, "reason"), "--memory"));
  cr_expect_eq(number(large, "seq_len"), 1 << 20);
  cr_expect_null(cJSON_GetObjectItem(large, "median_s"));
  cJSON_Delete(large);
  cr_expect(strstr(test_cli_run("bench --method yarn --phase decode --seq-len 1M --memory 4 " SMALL)->out, "skipped: "));
}

Test(cli_bench, a_preset_within_its_time, .timeout = 60) {
  const test_cli *r = test_cli_run(
      "bench --preset decode --seconds 1 --memory 64 --heads 4/2 --head-dim 32,64 --batch 1,128 --seq-len 1k,1M --threads 1 "
      "--json -");
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(count_lines(r->out), 2 * 2 * 2 * 2 * 2); /* dims, dtypes, batches, lengths, keys */
  cJSON *first = line(r->out, 0), *last = line(r->out, count_lines(r->out) - 1);
  cr_expect_str_eq(text(first, "status"), "ok");
  cr_expect(number(first, "seq_len") == 1024 && number(first, "batch") == 1 && number(first, "head_dim") == 32);
  cr_expect_str_eq(text(last, "status"), "skipped");
  cr_expect(strstr(text(last, "reason"), "1 seconds have passed"));
  cr_expect(number(last, "seq_len") == 1 << 20 && number(last, "batch") == 128 && number(last, "head_dim") == 64);
  cJSON_Delete(first);
  cJSON_Delete(last);
}

Test(cli_bench, refusals) {
  test_cli_refuses("bench --seq-len 1k,x --json rows.jsonl", "--seq-len", "'x'", "4k");
  test_cli_refuses("bench --seq-len 1k, --json rows.jsonl", "--seq-len", "''", "4k");
  test_cli_refuses("bench --method yarm --json rows.jsonl", "--method", "yarm", "all");
  test_cli_refuses("bench --heads 4 --kv-heads 3 --json rows.jsonl", "--kv-heads", "3", "divisor of --heads (4)");
  test_cli_refuses("bench --schedule loop --json rows.jsonl", "--schedule", "loop", "in-loop");
  test_cli_refuses("bench --batch 0 --json rows.jsonl", "--batch", "0", "integer");
  test_cli_refuses("bench --batch 1,,2 --json rows.jsonl", "--batch", "''", "integer");
  test_cli_refuses("bench --heads 4,7/2 --json rows.jsonl", "--heads", "7/2", "KV heads that divide the query heads");
  test_cli_refuses("bench --heads 4/x --json rows.jsonl", "--heads", "'x'", "integer");
  test_cli_refuses("bench --heads 4/2 --kv-heads 2 --json rows.jsonl", "--kv-heads", "4/2", "none");
  test_cli_refuses("bench --head-dim 64,20 --json rows.jsonl", "--head-dim", "20", "multiple of 8");
  test_cli_refuses("bench --dtype bf16,fp4 --json rows.jsonl", "--dtype", "fp4", "fp8");
  test_cli_refuses("bench --keys raw,cooked --json rows.jsonl", "--keys", "cooked", "rotated");
  test_cli_refuses("bench --preset decoding --json rows.jsonl", "--preset", "decoding", "mixed");
  test_cli_refuses("bench --memory 0 --json rows.jsonl", "--memory", "0", "integer");
  test_cli_refuses("bench --seconds soon --json rows.jsonl", "--seconds", "soon", "integer");
  test_cli_refuses("bench --trained 100 --json rows.jsonl", "--trained", "100", "multiple of 64");
  test_cli_refuses("bench --page-size 65536 --json rows.jsonl", "--page-size", "65536", "integer");
  test_cli_refuses("bench --rest-len 8 --page-size 16 --json rows.jsonl", "--rest-len", "8", "--phase decode");
  test_cli_refuses("bench --rest-len 8 --phase decode --json rows.jsonl", "--rest-len", "8", "--page-size");
  test_cli_refuses("bench --rest-len 8k --page-size 16 --phase decode --seq-len 16k,4k", "--rest-len", "8192", "4096");
  test_cli_refuses("bench --q-len 8 --json rows.jsonl", "--q-len", "'8'", "--phase prefill");
  test_cli_refuses("bench --q-len 8 --phase decode --json rows.jsonl", "--q-len", "'8'", "--phase prefill");
  test_cli_refuses("bench --q-len 8,0 --phase prefill --json rows.jsonl", "--q-len", "0", "integer");
  test_cli_refuses("bench --q-len 64,8k --phase prefill --seq-len 16k,4k", "--q-len", "8192", "4096");
  test_cli_refuses("bench --method yarn --json absent/rows.jsonl", "--json", "absent/rows.jsonl", "file to write");
  cr_expect(!test_cli_exists("rows.jsonl"));
}

Test(cli_bench, the_plots, .timeout = 60) {
  if (system("command -v gnuplot >/dev/null 2>&1") != 0) cr_skip_test("no gnuplot");
  const test_cli *r = test_cli_run("bench --method rerope --seq-len 128 --json rows.jsonl " SMALL);
  cr_assert_eq(r->status, 0, "%s", r->err);
  cr_assert_eq(system(SPINDLE_SOURCE_DIR "/bench/plot/plot.sh rows.jsonl plots"), 0);
  cr_expect(test_cli_exists("plots/time-prefill-128.svg") && test_cli_exists("plots/ratio-decode-128.svg"));
}
