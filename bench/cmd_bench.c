/* spindle bench: time per method, length and shape, and its ratio to plain RoPE. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmark.h"
#include "tool.h"

const char tool_bench_help[] =
    "spindle bench [--method NAME|all] [--backend auto|cpu|cuda|reference] [--preset NAME] [--json FILE]\n"
    "              [--phase prefill|decode|both] and the flags below\n"
    "\n"
    "Times one attention call, rotation included, of every method (or those called NAME): prefill (as many query rows as\n"
    "keys, or a chunk of them) and decode (one row a request; and a copy, for the share of its bandwidth). Each is timed in\n"
    "turn with plain RoPE on the same tensors. --json writes one JSON object a row to FILE (- for standard output);\n"
    "bench/plot/plot.sh draws it.\n"
    "\n"
    "Lists, of which every combination is timed:\n"
    "  --seq-len 1k,4k     keys; without it prefill at 1k and 2k, decode at 16k\n"
    "  --q-len 128,512     query rows, the last of the keys (prefill); default as many as keys\n"
    "  --batch 1,32        requests; default 1\n"
    "  --heads 32/8,64     query heads, over those of K and V (--kv-heads 8 says it for all); default 8\n"
    "  --head-dim 64,128   default 128; 192/128: V's after the slash\n"
    "  --dtype bf16,fp8    f32, f16, bf16, or fp8: e4m3 keys and values, bf16 queries; default bf16 on cuda, else f32\n"
    "  --keys rotated,raw  as the cache holds them; rotated ones leave out the methods that need raw ones; default raw\n"
    "For all of them:\n"
    "  --schedule S        auto, in-loop or pre-rotate: where cuda rotates raw keys\n"
    "  --page-size 64      keys a page; 0, the default: no pages\n"
    "  --rest-len 4k       keys of every request but the first (decode, in pages)\n"
    "  --trained 1k        what windows, chunks and trained lengths are shares of; default a quarter of the text\n"
    "  --flush MIB         copied before each call, to empty the L2 cache; default 256 on cuda, else 0\n"
    "  --threads N         of the cpu backend\n"
    "  --memory MIB        what the tensors of a case may take; default what the device has, else half of the machine's\n"
    "  --seconds N         after these no case begins\n"
    "What is beyond a limit, or not served by the backend, is left out and said.\n"
    "\n"
    "Presets, which the flags change: plain RoPE in bf16, 32 heads over 8, rotated and raw keys, within 300 seconds.\n"
    "  decode   also heads 32/32 and 64/8 and fp8; head dims 128, 64 and 256; batches of 1 to 128; 1k to 1M keys\n"
    "  mixed    one request of 1M keys beside 100 of 4k, in pages; also fp8\n"
    "  prefill  head dims 128, 64 and 256; 16k to 128k keys\n"
    "  chunk    the last 32 to 4k rows of 16k, where --schedule counts\n"
    "Example: spindle bench --method yarn --seq-len 1k,4k --json yarn.jsonl\n";

enum {
  GPU_FLUSH_MIB = 256,
  MAX_FLUSH_MIB = 4096,
  MAX_MEMORY_MIB = 1 << 24,
  MAX_SECONDS = 1000000,
  MAX_TRAINED = 1 << 24,
  NUM_FLAGS = 21
};

typedef struct bench_flags {
  tool_grid_flags grid;
  const char *backend, *json, *schedule, *trained, *flush, *memory, *threads;
} bench_flags;

static bool read_count(const char *flag, const char *text, int64_t least, int64_t most, int32_t *count) {
  int64_t value;
  if (!text) return true;
  if (!tool_read_integer(flag, text, least, most, &value)) return false;
  *count = (int32_t)value;
  return true;
}

static bool read_trained(const char *text, int32_t *tokens) {
  int64_t value;
  if (!text) return true;
  if (!tool_read_length("--trained", text, TOOL_TRAINED_STEP, MAX_TRAINED, &value)) return false;
  *tokens = (int32_t)value;
  return value % TOOL_TRAINED_STEP == 0 ||
         (tool_fail("--trained: got %d, expected a multiple of %d", *tokens, TOOL_TRAINED_STEP), false);
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
  /* The emulator's GPU has the machine's memory, and gives more than there is. */
  bool own_memory = gpu && strncmp(b->info.name, "emulated", 8) != 0;
  b->memory_bytes = memory_mib ? (int64_t)memory_mib << 20 : own_memory ? 0 : machine_bytes() / 2;
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
      {"--threads", &f->threads, NULL},     {"--trained", &f->trained, NULL},   {"--q-len", &g->q_len, NULL}};
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
      !read_count("--seconds", f.grid.seconds, 1, MAX_SECONDS, &seconds) || !read_trained(f.trained, &b.trained) ||
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
