/* spindle bench: time per method, length and shape, and its ratio to plain RoPE. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmark.h"
#include "tool.h"

const char tool_bench_help[] =
    "spindle bench [--method NAME|all] [--backend auto|cpu|cuda|reference] [--seq-len 1k,4k,...] [--json FILE]\n"
    "              [--phase prefill|decode|both] [--dtype f32|f16|bf16|fp8,...] [--heads 8|32/8,...] [--kv-heads 8]\n"
    "              [--head-dim 128,...] [--batch 1,...] [--keys raw,rotated] [--page-size 0] [--rest-len KEYS]\n"
    "              [--schedule auto|in-loop|pre-rotate] [--flush MIB] [--memory MIB] [--seconds N] [--threads N]\n"
    "spindle bench --preset decode|mixed|prefill [any of these flags]\n"
    "\n"
    "Times one attention call, rotation included, of every method (or those called NAME) at every length: prefill\n"
    "(as many query rows as keys) and decode (one row a request; beside it a copy, for the share of its bandwidth).\n"
    "Each is measured in turn with plain RoPE on the same tensors. Lists: every combination of their entries.\n"
    "Without --seq-len: prefill at 1k and 2k, decode at 16k. --json writes one JSON object a row to FILE (- for\n"
    "standard output); bench/plot/plot.sh draws it.\n"
    "--heads 32/8: 32 query heads over 8 of K and V. --dtype fp8: e4m3 keys and values, bf16 queries; the default is\n"
    "bf16 on cuda, else f32. --keys rotated: keys that the cache holds rotated; all then leaves out the methods that\n"
    "need raw ones. --schedule: where cuda rotates raw keys. --page-size: keys a page, 0 for no pages. --rest-len:\n"
    "keys of every request but the first (decode, with pages). --flush: MiB copied before each timed call, to empty the\n"
    "L2 cache (cuda: 256, else 0).\n"
    "--memory: what the tensors of a case may take (cuda: what the device has, else half of the machine's). --seconds:\n"
    "after these no case begins. What is skipped so, or not served by the backend, is said.\n"
    "Presets: plain RoPE within 300 seconds, heads 32/8, bf16, keys rotated and raw. decode: also heads 32/32 and 64/8,\n"
    "fp8, head dims 128, 64, 256, batches 1 to 128, 1k to 1M keys. mixed: one request of 1M keys beside 100 of 4k, fp8\n"
    "too. prefill: head dims 128, 64, 256, 16k to 128k keys.\n"
    "Example: spindle bench --method yarn --seq-len 1k,4k --json yarn.jsonl\n";

enum { GPU_FLUSH_MIB = 256, MAX_FLUSH_MIB = 4096, MAX_MEMORY_MIB = 1 << 24, MAX_SECONDS = 1000000, NUM_FLAGS = 19 };

typedef struct bench_flags {
  tool_grid_flags grid;
  const char *backend, *json, *schedule, *flush, *memory, *threads;
} bench_flags;

static bool read_count(const char *flag, const char *text, int64_t least, int64_t most, int32_t *count) {
  int64_t value;
  if (!text) return true;
  if (!tool_read_integer(flag, text, least, most, &value)) return false;
  *count = (int32_t)value;
  return true;
}

static bool open_outputs(tool_benchmark *b, const char *path) {
  time_t now = time(NULL);
  strftime(b->date, sizeof b->date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
  b->text = !path || strcmp(path, "-") != 0;
  if (!path) return true;
  b->json.file = b->text ? fopen(path, "w") : stdout;
  return b->json.file || (tool_fail("--json: got '%s', expected a file to write", path), false);
}

static int64_t machine_bytes(void) { return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE); }

/* What depends on the backend: the defaults of dtype, flush and memory. */
static bool open_device(tool_benchmark *b, const bench_flags *f, int32_t threads) {
  int32_t memory_mib = 0;
  if (!tool_context_open(&b->context, f->backend, threads)) return false;
  spindle_context_get_info(b->context, &b->info);
  bool gpu = b->info.backend == SPINDLE_BACKEND_CUDA;
  if (!b->grid.dtypes.count) b->grid.dtypes = (tool_entries){1, {gpu ? SPINDLE_BF16 : SPINDLE_F32}};
  b->flush_mib = gpu ? GPU_FLUSH_MIB : 0;
  if (!read_count("--flush", f->flush, 0, MAX_FLUSH_MIB, &b->flush_mib) ||
      !read_count("--memory", f->memory, 1, MAX_MEMORY_MIB, &memory_mib))
    return false;
  b->memory_bytes = memory_mib ? (int64_t)memory_mib << 20 : gpu ? 0 : machine_bytes() / 2;
  return tool_flush_open(&b->flush, b->context, (size_t)b->flush_mib << 20);
}

/* Those of that name. 0: there is none, or none that the keys allow. */
static int32_t choose_cases(const tool_benchmark *b, const char *name, tool_case *cases) {
  int32_t count = tool_cases(name, cases);
  bool any = !count;
  for (int32_t k = 0; k < b->grid.keys.count; k++) any = any || b->grid.keys.values[k] == SPINDLE_KEYS_RAW;
  for (int32_t k = 0; k < count; k++) any = any || tool_case_reads_rotated(&cases[k]);
  if (!any) tool_fail("--keys: got rotated, expected raw for %s", name);
  return any ? count : 0;
}

static bool read_flags(int argc, char **argv, bench_flags *f) {
  tool_grid_flags *g = &f->grid;
  const tool_flag flags[NUM_FLAGS] = {
      {"--method", &g->method, NULL},       {"--backend", &f->backend, NULL},   {"--preset", &g->preset, NULL},
      {"--seq-len", &g->seq_len, NULL},     {"--json", &f->json, NULL},         {"--phase", &g->phase, NULL},
      {"--dtype", &g->dtype, NULL},         {"--heads", &g->heads, NULL},       {"--kv-heads", &g->kv_heads, NULL},
      {"--head-dim", &g->head_dim, NULL},   {"--batch", &g->batch, NULL},       {"--keys", &g->keys, NULL},
      {"--page-size", &g->page_size, NULL}, {"--rest-len", &g->rest_len, NULL}, {"--schedule", &f->schedule, NULL},
      {"--flush", &f->flush, NULL},         {"--memory", &f->memory, NULL},     {"--seconds", &g->seconds, NULL},
      {"--threads", &f->threads, NULL}};
  return tool_read_flags(argc, argv, flags, NUM_FLAGS) && tool_grid_apply_preset(g);
}

int tool_bench(int argc, char **argv) {
  static tool_case cases[TOOL_MAX_CASES];
  bench_flags f = {0};
  tool_benchmark b = {.info = {.struct_size = sizeof b.info}, .begin = tool_seconds()};
  int32_t threads = 0, seconds = 0, count;
  int status = TOOL_BAD_INPUT;
  if (!read_flags(argc, argv, &f) || !tool_grid_read(&b.grid, &f.grid) ||
      (f.schedule && !tool_read_choice("--schedule", f.schedule, tool_schedule_names, &b.schedule)) ||
      !read_count("--seconds", f.grid.seconds, 1, MAX_SECONDS, &seconds) ||
      !read_count("--threads", f.threads, 1, 1024, &threads))
    return TOOL_BAD_INPUT;
  const char *asked = f.grid.method ? f.grid.method : "all";
  if (!(count = choose_cases(&b, asked, cases))) return TOOL_BAD_INPUT;
  b.seconds = seconds;
  if (open_device(&b, &f, threads) && open_outputs(&b, f.json) && tool_benchmark_run(&b, asked, cases, count)) status = TOOL_OK;
  if (b.json.file && b.json.file != stdout) {
    fclose(b.json.file);
    if (status != TOOL_OK) remove(f.json);
  }
  tool_flush_close(&b.flush);
  spindle_context_destroy(b.context);
  return status;
}
