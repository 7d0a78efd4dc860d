/* spindle bench: time per method and length, and its ratio to plain RoPE. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cases.h"
#include "convert.h"
#include "output.h"
#include "random.h"
#include "timing.h"
#include "tool.h"

const char tool_bench_help[] =
    "spindle bench [--method NAME|all] [--backend auto|cpu|cuda|reference] [--seq-len 1k,4k,...] [--json FILE]\n"
    "              [--phase prefill|decode|both] [--dtype f32|f16|bf16] [--heads 8] [--kv-heads 8] [--head-dim 128]\n"
    "              [--batch 1] [--keys raw|rotated] [--schedule auto|in-loop|pre-rotate] [--flush MIB] [--threads N]\n"
    "\n"
    "Times one attention call, rotation included, of every method (or those called NAME) at every length: prefill\n"
    "(as many query rows as keys) and decode (one row). Each is measured in turn with plain RoPE on the same tensors.\n"
    "Without --seq-len: prefill at 1k and 2k, decode at 16k. --json writes one JSON object a row to FILE (- for\n"
    "standard output); bench/plot/plot.sh draws it.\n"
    "--keys rotated: keys that the cache holds rotated; all then leaves out the methods that need raw ones. --schedule:\n"
    "where cuda rotates raw keys. --flush: MiB copied before each timed call, to empty the L2 cache (cuda: 256, else 0).\n"
    "The default dtype is bf16 on cuda, else f32.\n"
    "Example: spindle bench --method yarn --seq-len 1k,4k --json yarn.jsonl\n";

enum { MAX_LENGTHS = 16, MAX_LENGTH = 1 << 24, MAX_BATCH = 4096, GPU_FLUSH_MIB = 256 };

/* In the order of their enumerators. */
static const char *const phase_names[] = {"both", "prefill", "decode", NULL};
static const char *const key_names[] = {"raw", "rotated", NULL};
static const char *const schedule_names[] = {"auto", "in-loop", "pre-rotate", NULL};
enum { PHASE_BOTH, PHASE_PREFILL, PHASE_DECODE };

typedef struct bench_length {
  int32_t tokens;
  bool prefill, decode;
} bench_length;

typedef struct bench {
  spindle_context *context;
  spindle_context_info info;
  int32_t dtype, heads, kv_heads, head_dim, batch, flush_mib;
  int phase, keys, schedule;
  tool_flush flush;
  bench_length lengths[MAX_LENGTHS];
  int32_t num_lengths;
  tool_json json; /* file NULL: not wanted */
  bool text;      /* the table goes to standard output, which --json - takes for itself */
  char date[32];
} bench;

/* ---- Report ---- */

static void print_head(const bench *b, const char *phase, const tool_problem *p) {
  if (!b->text) return;
  printf("\n%s: %d query %s over %d keys\n", phase, p->q_len, p->q_len > 1 ? "rows" : "row", p->kv_len);
  printf("%-38s %10s  %-21s %10s %9s %7s %7s %7s\n", "method", "median ms", "min .. max ms", "tokens/s", "GFLOP/s", "GB/s",
         "/plain", "pairs");
}

static void print_row(const bench *b, const char *family, const char *name, const tool_problem *p, const tool_timing *t,
                      double plain_pairs) {
  char spread[32];
  if (!b->text) return;
  snprintf(spread, sizeof spread, "%.3f .. %.3f", t->min_s * 1e3, t->max_s * 1e3);
  printf("%-6s %-31s %10.3f  %-21s %10.0f %9.1f %7.1f %7.3f %7.2f\n", family, name, t->median_s * 1e3, spread,
         p->requests * p->q_len / t->median_s, t->flops / t->median_s * 1e-9, t->bytes / t->median_s * 1e-9, t->ratio,
         t->visible_pairs / plain_pairs);
  fflush(stdout);
}

static void write_row(bench *b, const char *family, const char *name, const char *phase, const tool_problem *p,
                      const tool_timing *t) {
  char version[32];
  int32_t v = spindle_version();
  if (!b->json.file) return;
  snprintf(version, sizeof version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
  tool_json_open(&b->json, NULL, '{');
  tool_json_string(&b->json, "family", family);
  tool_json_string(&b->json, "method", name);
  tool_json_string(&b->json, "phase", phase);
  tool_json_integer(&b->json, "seq_len", p->kv_len);
  tool_json_integer(&b->json, "q_len", p->q_len);
  tool_json_number(&b->json, "median_s", t->median_s);
  tool_json_number(&b->json, "min_s", t->min_s);
  tool_json_number(&b->json, "max_s", t->max_s);
  tool_json_integer(&b->json, "rounds", t->rounds);
  tool_json_number(&b->json, "tokens_per_s", p->requests * p->q_len / t->median_s);
  tool_json_number(&b->json, "flops_per_s", t->flops / t->median_s);
  tool_json_number(&b->json, "bytes_per_s", t->bytes / t->median_s);
  tool_json_number(&b->json, "ratio_to_plain", t->ratio);
  tool_json_number(&b->json, "visible_pairs", t->visible_pairs);
  tool_json_string(&b->json, "backend", tool_backend_names[b->info.backend]);
  tool_json_string(&b->json, "device", b->info.name);
  tool_json_integer(&b->json, "threads", b->info.num_threads);
  tool_json_string(&b->json, "dtype", tool_dtype_name(b->dtype));
  tool_json_integer(&b->json, "heads", b->heads);
  tool_json_integer(&b->json, "kv_heads", b->kv_heads);
  tool_json_integer(&b->json, "head_dim", b->head_dim);
  tool_json_integer(&b->json, "batch", b->batch);
  tool_json_string(&b->json, "keys", key_names[b->keys]);
  tool_json_string(&b->json, "schedule", schedule_names[b->schedule]);
  tool_json_integer(&b->json, "flush_mib", b->flush_mib);
  tool_json_string(&b->json, "version", version);
  tool_json_string(&b->json, "date", b->date);
  tool_json_close(&b->json, '}');
  tool_json_end(&b->json);
  fflush(b->json.file);
}

/* ---- Measurement ---- */

/* Windows and trained lengths of the samples: a quarter of the text, so that every method is beyond them. */
static int64_t trained_for(const tool_problem *p) { return p->kv_len / 4 / 64 * 64 > 64 ? p->kv_len / 4 / 64 * 64 : 64; }

static bool open_case(const bench *b, const tool_case *c, const tool_problem *p, tool_method *method, tool_call *call) {
  spindle_shape shape;
  if (!tool_case_method(c, trained_for(p), b->heads, b->head_dim, SPINDLE_PAIRS_HALF, method) ||
      !tool_method_shape(method, b->heads, b->kv_heads, b->head_dim, b->head_dim, b->dtype, &shape))
    return false;
  shape.key_state = b->keys;
  return tool_call_open(call, b->context, method, &shape, p, b->schedule);
}

static bool load_random(tool_call *call) {
  const spindle_shape *s = &call->shape;
  const tool_problem *p = &call->problem;
  int64_t q_count = (int64_t)p->requests * p->q_len * s->num_q_heads * s->head_dim_qk;
  int64_t k_count = (int64_t)p->requests * p->kv_len * s->num_kv_heads * s->head_dim_qk;
  float *q = malloc((size_t)(q_count + 2 * k_count) * sizeof *q);
  if (!q) return tool_fail("--seq-len: no memory for %d keys", p->kv_len), false;
  tool_random r = {1};
  tool_random_fill(&r, q, q_count + 2 * k_count, 1);
  bool good = tool_call_load(call, TOOL_Q, q) && tool_call_load(call, TOOL_K, q + q_count) &&
              tool_call_load(call, TOOL_V, q + q_count + k_count);
  free(q);
  return good;
}

static bool time_case(bench *b, const tool_case *c, tool_call *plain, const char *phase, double *plain_pairs) {
  const char *family = c->num_terms == 1 ? tool_family_flag(c->terms[0].method->family) + 2 : "mix";
  tool_method method;
  tool_call call = {0};
  tool_timing t;
  bool good = open_case(b, c, &plain->problem, &method, &call);
  if (good) tool_call_borrow(&call, plain);
  good = good && tool_time(plain, &call, &method, &b->flush, &t);
  tool_call_close(&call);
  tool_method_free(&method);
  if (!good) return false;
  if (*plain_pairs == 0) *plain_pairs = t.visible_pairs;
  tool_progress_end();
  print_row(b, family, c->name, &plain->problem, &t, *plain_pairs);
  write_row(b, family, c->name, phase, &plain->problem, &t);
  return true;
}

/* All cases at one length and phase; the first row is plain RoPE against itself, which shows the noise. */
static bool time_problem(bench *b, const tool_case *cases, int32_t count, const tool_problem *p, const char *phase) {
  static tool_case all[TOOL_MAX_CASES];
  tool_case *rope = &all[0];
  tool_method method;
  tool_call plain = {0};
  double plain_pairs = 0;
  tool_cases("default", all);
  bool good = open_case(b, rope, p, &method, &plain) && load_random(&plain);
  if (good) print_head(b, phase, p);
  good = good && time_case(b, rope, &plain, phase, &plain_pairs);
  for (int32_t k = 0; good && k < count; k++) {
    if (!strcmp(cases[k].name, rope->name)) continue;
    tool_progress(cases[k].name, k, count);
    good = time_case(b, &cases[k], &plain, phase, &plain_pairs);
  }
  tool_progress_end();
  tool_call_close(&plain);
  tool_method_free(&method);
  return good;
}

static bool time_all(bench *b, const tool_case *cases, int32_t count) {
  bool good = true;
  if (b->text)
    printf(
        "Time of one attention call, rotation included, on %s, %d threads: %d heads over %d, head dim %d, %s, causal,\n"
        "batch %d, %s keys, schedule %s. Each method is timed in turn with plain RoPE: /plain is the median ratio of the two.\n"
        "pairs: visible (row, key) pairs against plain RoPE's. FLOP = 4 x head dim x pairs x heads. Bytes: Q, K, V, O and LSE,\n"
        "each once. Methods are at 4 times their trained length.\n",
        b->info.name, b->info.num_threads, b->heads, b->kv_heads, b->head_dim, tool_dtype_name(b->dtype), b->batch,
        key_names[b->keys], schedule_names[b->schedule]);
  for (int32_t k = 0; good && k < b->num_lengths; k++) {
    int32_t n = b->lengths[k].tokens;
    tool_problem prefill = {b->batch, n, n, 0, 0, n}, decode = {b->batch, 1, n, n - 1, 0, n};
    bool prefills = b->lengths[k].prefill && b->phase != PHASE_DECODE,
         decodes = b->lengths[k].decode && b->phase != PHASE_PREFILL;
    if (prefills) good = time_problem(b, cases, count, &prefill, "prefill");
    if (good && decodes) good = time_problem(b, cases, count, &decode, "decode");
  }
  return good;
}

/* ---- The command ---- */

static bool read_lengths(bench *b, const char *text) {
  static const bench_length usual[] = {{1024, true, false}, {2048, true, false}, {16384, false, true}};
  if (!text) {
    memcpy(b->lengths, usual, sizeof usual);
    b->num_lengths = sizeof usual / sizeof *usual;
    return true;
  }
  for (const char *at = text;; at++) {
    char entry[32];
    int64_t tokens;
    size_t length = strcspn(at, ",");
    snprintf(entry, sizeof entry, "%.*s", (int)length, at);
    if (!tool_read_length("--seq-len", entry, 64, MAX_LENGTH, &tokens)) return false;
    if (b->num_lengths == MAX_LENGTHS)
      return tool_fail("--seq-len: got more than %d lengths, expected fewer", MAX_LENGTHS), false;
    b->lengths[b->num_lengths++] = (bench_length){(int32_t)tokens, true, true};
    at += length;
    if (!*at) return true;
  }
}

static bool read_count(const char *flag, const char *text, int64_t least, int64_t most, int32_t *count) {
  int64_t value;
  if (!text) return true;
  if (!tool_read_integer(flag, text, least, most, &value)) return false;
  *count = (int32_t)value;
  return true;
}

typedef struct bench_flags {
  const char *method, *backend, *seq_len, *json, *phase, *dtype, *heads, *kv_heads, *head_dim, *batch, *keys, *schedule, *flush,
      *threads;
} bench_flags;

static bool read_choice(const char *flag, const char *text, const char *const *choices, int *choice) {
  return !text || tool_read_choice(flag, text, choices, choice);
}

static bool read_shape(bench *b, const bench_flags *f) {
  if (!read_count("--heads", f->heads, 1, 4096, &b->heads) || !read_count("--head-dim", f->head_dim, 1, 512, &b->head_dim) ||
      !read_count("--batch", f->batch, 1, MAX_BATCH, &b->batch))
    return false;
  b->kv_heads = b->heads;
  if (!read_count("--kv-heads", f->kv_heads, 1, b->heads, &b->kv_heads)) return false;
  if (b->heads % b->kv_heads)
    return tool_fail("--kv-heads: got %d, expected a divisor of --heads (%d)", b->kv_heads, b->heads), false;
  if (b->head_dim % 8)
    return tool_fail("--head-dim: got %d, expected a multiple of 8, for rules that rotate a quarter of it", b->head_dim), false;
  return read_choice("--keys", f->keys, key_names, &b->keys) &&
         read_choice("--schedule", f->schedule, schedule_names, &b->schedule);
}

static bool open_outputs(bench *b, const char *path) {
  time_t now = time(NULL);
  strftime(b->date, sizeof b->date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
  b->text = !path || strcmp(path, "-") != 0;
  if (!path) return true;
  b->json.file = b->text ? fopen(path, "w") : stdout;
  return b->json.file || (tool_fail("--json: got '%s', expected a file to write", path), false);
}

/* What depends on the backend: the default dtype and the flush. */
static bool open_device(bench *b, const bench_flags *f, int32_t threads) {
  if (!tool_context_open(&b->context, f->backend, threads)) return false;
  spindle_context_get_info(b->context, &b->info);
  bool gpu = b->info.backend == SPINDLE_BACKEND_CUDA;
  int dtype = gpu ? SPINDLE_BF16 - SPINDLE_F32 : 0;
  b->flush_mib = gpu ? GPU_FLUSH_MIB : 0;
  if (!read_choice("--dtype", f->dtype, tool_dtype_names, &dtype) || !read_count("--flush", f->flush, 0, 4096, &b->flush_mib))
    return false;
  b->dtype = SPINDLE_F32 + dtype;
  return tool_flush_open(&b->flush, b->context, (size_t)b->flush_mib << 20);
}

/* Those of that name that the keys allow. 0: none. */
static int32_t choose_cases(const bench *b, const char *name, tool_case *cases) {
  int32_t count = tool_cases(name ? name : "all", cases), kept = 0;
  bool any = b->keys == SPINDLE_KEYS_RAW;
  for (int32_t k = 0; k < count; k++)
    if (any || tool_case_reads_rotated(&cases[k])) cases[kept++] = cases[k];
  if (count && !kept) tool_fail("--keys: got rotated, expected raw for %s", name);
  return kept;
}

int tool_bench(int argc, char **argv) {
  static tool_case cases[TOOL_MAX_CASES];
  bench_flags f = {0};
  const tool_flag flags[] = {{"--method", &f.method, NULL}, {"--backend", &f.backend, NULL},   {"--seq-len", &f.seq_len, NULL},
                             {"--json", &f.json, NULL},     {"--phase", &f.phase, NULL},       {"--dtype", &f.dtype, NULL},
                             {"--heads", &f.heads, NULL},   {"--kv-heads", &f.kv_heads, NULL}, {"--head-dim", &f.head_dim, NULL},
                             {"--batch", &f.batch, NULL},   {"--keys", &f.keys, NULL},         {"--schedule", &f.schedule, NULL},
                             {"--flush", &f.flush, NULL},   {"--threads", &f.threads, NULL}};
  bench b = {.heads = 8, .head_dim = 128, .batch = 1, .info = {.struct_size = sizeof b.info}};
  int32_t threads = 0, count;
  int status = TOOL_BAD_INPUT;
  if (!tool_read_flags(argc, argv, flags, 14) || !read_lengths(&b, f.seq_len) || !read_shape(&b, &f) ||
      !read_choice("--phase", f.phase, phase_names, &b.phase) || !read_count("--threads", f.threads, 1, 1024, &threads))
    return TOOL_BAD_INPUT;
  if (!(count = choose_cases(&b, f.method, cases))) return TOOL_BAD_INPUT;
  if (open_device(&b, &f, threads) && open_outputs(&b, f.json) && time_all(&b, cases, count)) status = TOOL_OK;
  if (b.json.file && b.json.file != stdout) {
    fclose(b.json.file);
    if (status != TOOL_OK) remove(f.json);
  }
  tool_flush_close(&b.flush);
  spindle_context_destroy(b.context);
  return status;
}
