/* What spindle bench says: a table, and JSON lines. */
#include <math.h>

#include "benchmark.h"
#include "call.h"

const char *const tool_schedule_names[] = {"auto", "in-loop", "pre-rotate", NULL};

static const char *const absences[] = {"unsupported", "skipped", "skipped"};

static const char *family_of(const tool_case *c) {
  return c->num_terms == 1 ? tool_family_flag(c->terms[0].method->family) + 2 : "mix";
}

static double tokens(const tool_setting *s) { return (double)s->batch * s->q_len; }

/* A quarter of the text, so that every method is beyond its trained length. */
int32_t tool_benchmark_trained(const tool_benchmark *b, const tool_setting *s) {
  int32_t quarter = s->seq_len / 4 / TOOL_TRAINED_STEP * TOOL_TRAINED_STEP;
  return b->trained ? b->trained : quarter > TOOL_TRAINED_STEP ? quarter : TOOL_TRAINED_STEP;
}

bool tool_benchmark_times_rotated(const tool_setting *s) { return s->decode || s->q_len < s->seq_len; }

/* ---- Text ---- */

void tool_benchmark_print_intro(const tool_benchmark *b) {
  if (!b->text) return;
  printf(
      "Time of one attention call, rotation included, on %s, %d threads, causal, schedule %s. Each method is timed in turn with\n"
      "plain RoPE: /plain is the median ratio of the two; /rotated is the ratio to plain RoPE on keys that the cache holds "
      "rotated.\n"
      "pairs: visible (row, key) pairs against plain RoPE's. FLOP = 2 x (K's + V's head dim) x pairs x heads. Bytes: Q, K, V, O "
      "and LSE,\n"
      "each once; /copy is GB/s against a copy's, reads and writes.\n",
      b->info.name, b->info.num_threads, tool_schedule_names[b->schedule]);
}

static void print_setting(const tool_benchmark *b, const tool_setting *s) {
  printf("\n%s: %d query %s over %d keys", s->decode ? "decode" : "prefill", s->q_len, s->q_len > 1 ? "rows" : "row", s->seq_len);
  if (s->rest_len) printf(" beside %d requests over %d", s->batch - 1, s->rest_len);
  printf(", batch %d, %d heads over %d, head dim %d, %s, %s keys", s->batch, s->heads, s->kv_heads, s->head_dim,
         tool_grid_dtype_names[s->dtype - SPINDLE_F32], tool_key_names[s->keys]);
  if (s->head_dim_v != s->head_dim) printf(", V's %d", s->head_dim_v);
  if (b->trained) printf(", trained on %d", b->trained);
  if (s->page_size) printf(", pages of %d", s->page_size);
}

void tool_benchmark_print_head(const tool_benchmark *b, const tool_setting *s, double copy_per_s) {
  if (!b->text) return;
  print_setting(b, s);
  if (s->decode) printf("; a copy: %.1f GB/s", copy_per_s * 1e-9);
  printf("\n%-38s %10s  %-21s %10s", "method", "median ms", "min .. max ms", "tokens/s");
  if (s->decode)
    printf(" %7s %7s", "GB/s", "/copy");
  else
    printf(" %9s %7s", "GFLOP/s", "GB/s");
  printf(" %7s", "/plain");
  if (tool_benchmark_times_rotated(s)) printf(" %8s", "/rotated");
  printf(" %7s\n", "pairs");
}

static void print_row(const tool_setting *s, const tool_case *c, const tool_timing *t, double copy_per_s, double plain_pairs) {
  char spread[32];
  double rate = t->bytes / t->median_s;
  snprintf(spread, sizeof spread, "%.3f .. %.3f", t->min_s * 1e3, t->max_s * 1e3);
  printf("%-6s %-31s %10.3f  %-21s %10.0f", family_of(c), c->name, t->median_s * 1e3, spread, tokens(s) / t->median_s);
  if (s->decode)
    printf(" %7.1f %7.3f", rate * 1e-9, rate / copy_per_s);
  else
    printf(" %9.1f %7.1f", t->flops / t->median_s * 1e-9, rate * 1e-9);
  printf(" %7.3f", t->ratio);
  if (tool_benchmark_times_rotated(s)) printf(" %8.3f", t->ratio_to_rotated);
  printf(" %7.2f\n", t->visible_pairs / plain_pairs);
  fflush(stdout);
}

/* ---- JSON ---- */

static void write_setting(tool_benchmark *b, const tool_setting *s) {
  tool_json *json = &b->json;
  tool_json_string(json, "phase", s->decode ? "decode" : "prefill");
  tool_json_integer(json, "seq_len", s->seq_len);
  tool_json_integer(json, "q_len", s->q_len);
  tool_json_integer(json, "rest_len", s->rest_len);
  tool_json_integer(json, "page_size", s->page_size);
  tool_json_string(json, "dtype", tool_grid_dtype_names[s->dtype - SPINDLE_F32]);
  tool_json_integer(json, "heads", s->heads);
  tool_json_integer(json, "kv_heads", s->kv_heads);
  tool_json_integer(json, "head_dim", s->head_dim);
  tool_json_integer(json, "head_dim_v", s->head_dim_v);
  tool_json_integer(json, "batch", s->batch);
  tool_json_string(json, "keys", tool_key_names[s->keys]);
  tool_json_integer(json, "trained_len", tool_benchmark_trained(b, s));
}

static void write_timing(tool_json *json, const tool_setting *s, const tool_timing *t, double copy_per_s) {
  double rate = t->bytes / t->median_s;
  tool_json_number(json, "median_s", t->median_s);
  tool_json_number(json, "min_s", t->min_s);
  tool_json_number(json, "max_s", t->max_s);
  tool_json_integer(json, "rounds", t->rounds);
  tool_json_number(json, "tokens_per_s", tokens(s) / t->median_s);
  tool_json_number(json, "flops_per_s", t->flops / t->median_s);
  tool_json_number(json, "bytes_per_s", rate);
  tool_json_number(json, "ratio_to_plain", t->ratio);
  tool_json_number(json, "visible_pairs", t->visible_pairs);
  if (tool_benchmark_times_rotated(s)) tool_json_number(json, "ratio_to_rotated", t->ratio_to_rotated);
  if (!s->decode) return;
  tool_json_number(json, "copy_bytes_per_s", copy_per_s);
  tool_json_number(json, "share_of_copy", rate / copy_per_s);
}

static void write_run(tool_benchmark *b) {
  char version[32];
  int32_t v = spindle_version();
  tool_json *json = &b->json;
  snprintf(version, sizeof version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
  tool_json_string(json, "backend", tool_backend_names[b->info.backend]);
  tool_json_string(json, "device", b->info.name);
  tool_json_integer(json, "threads", b->info.num_threads);
  tool_json_string(json, "schedule", tool_schedule_names[b->schedule]);
  tool_json_integer(json, "flush_mib", b->flush_mib);
  tool_json_string(json, "version", version);
  tool_json_string(json, "date", b->date);
  tool_json_close(json, '}');
  tool_json_end(json);
  fflush(json->file);
}

/* ---- Rows ---- */

void tool_benchmark_row(tool_benchmark *b, const tool_setting *s, const tool_case *c, const tool_timing *t, double copy_per_s,
                        double plain_pairs) {
  if (b->text) print_row(s, c, t, copy_per_s, plain_pairs);
  if (!b->json.file) return;
  tool_json_open(&b->json, NULL, '{');
  tool_json_string(&b->json, "family", family_of(c));
  tool_json_string(&b->json, "method", c->name);
  tool_json_string(&b->json, "status", "ok");
  write_setting(b, s);
  write_timing(&b->json, s, t, copy_per_s);
  write_run(b);
}

void tool_benchmark_missing(tool_benchmark *b, const tool_setting *s, const char *name, const char *asked, tool_absence absence,
                            const char *reason) {
  b->missing++;
  bool shown = b->text && absence != TOOL_LATE;
  if (shown && name) printf("%-38s %s: %s\n", name, absences[absence], reason);
  if (shown && !name) {
    print_setting(b, s);
    printf(": %s: %s\n", absences[absence], reason);
  }
  if (!b->json.file) return;
  tool_json_open(&b->json, NULL, '{');
  tool_json_string(&b->json, "method", name ? name : asked);
  tool_json_string(&b->json, "status", absences[absence]);
  tool_json_string(&b->json, "reason", reason);
  write_setting(b, s);
  write_run(b);
}
