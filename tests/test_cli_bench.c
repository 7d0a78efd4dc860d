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

Test(cli_bench, one_line_a_row, .timeout = 60) {
  const test_cli *r = test_cli_run("bench --method window --seq-len 128,1k --json - " SMALL);
  int lines = 0;
  cr_assert_eq(r->status, 0, "%s", r->err);
  for (const char *c = r->out; *c; c++) lines += *c == '\n';
  cr_assert_eq(lines, 2 * 2 * 2); /* plain and window, prefill and decode, two lengths */
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

Test(cli_bench, refusals) {
  test_cli_refuses("bench --seq-len 1k,x --json rows.jsonl", "--seq-len", "'x'", "4k");
  test_cli_refuses("bench --seq-len 1k, --json rows.jsonl", "--seq-len", "''", "4k");
  test_cli_refuses("bench --method yarm --json rows.jsonl", "--method", "yarm", "all");
  test_cli_refuses("bench --heads 4 --kv-heads 3 --json rows.jsonl", "--kv-heads", "3", "divisor");
  test_cli_refuses("bench --schedule loop --json rows.jsonl", "--schedule", "loop", "in-loop");
  test_cli_refuses("bench --batch 0 --json rows.jsonl", "--batch", "0", "integer");
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
