#include "grid.h"

#include <spindle/spindle.h>
#include <stdio.h>
#include <string.h>

#include "flags.h"
#include "output.h"

enum { MAX_HEADS = 4096, MAX_HEAD_DIM = 512, MAX_LENGTH = 1 << 24, MAX_BATCH = 4096, MAX_PAGE = 65535 };
enum { AS_MANY_AS_KEYS = 0 };

const char *const tool_grid_dtype_names[] = {"f32", "f16", "bf16", "fp8", NULL};
const char *const tool_key_names[] = {"raw", "rotated", NULL};

static const char *const phase_names[] = {"both", "prefill", "decode", NULL};
enum { PHASE_BOTH, PHASE_PREFILL, PHASE_DECODE };

/* ---- Presets ---- */

/* What comes first in a list is measured first, and so is measured where the time does not reach for all. */
static const tool_grid_flags presets[] = {
    {.preset = "decode",
     .phase = "decode",
     .heads = "32/8,32/32,64/8",
     .head_dim = "128,64,256",
     .dtype = "bf16,fp8",
     .batch = "1,8,32,128",
     .seq_len = "1k,4k,16k,64k,256k,1M",
     .keys = "rotated,raw",
     .method = "default",
     .seconds = "300"},
    {.preset = "mixed", /* one long request beside many short ones */
     .phase = "decode",
     .heads = "32/8",
     .head_dim = "128",
     .dtype = "bf16,fp8",
     .batch = "101",
     .seq_len = "1M",
     .rest_len = "4k",
     .page_size = "64",
     .keys = "rotated,raw",
     .method = "default",
     .seconds = "300"},
    {.preset = "prefill",
     .phase = "prefill",
     .heads = "32/8",
     .head_dim = "128,64,256",
     .dtype = "bf16",
     .batch = "1",
     .seq_len = "16k,32k,64k,128k",
     .keys = "rotated,raw",
     .method = "default",
     .seconds = "300"},
    {.preset = "chunk", /* of a long prompt, as servers split it: from 128 rows that share a KV head to 16k */
     .phase = "prefill",
     .heads = "32/8",
     .head_dim = "128",
     .dtype = "bf16",
     .batch = "1",
     .seq_len = "16k",
     .q_len = "32,64,128,256,512,1k,2k,4k",
     .keys = "rotated,raw",
     .method = "default",
     .seconds = "300"},
};
enum { NUM_PRESETS = sizeof presets / sizeof *presets };

bool tool_grid_apply_preset(tool_grid_flags *f) {
  const char *names[NUM_PRESETS + 1] = {NULL};
  int number;
  if (!f->preset) return true;
  for (int k = 0; k < NUM_PRESETS; k++) names[k] = presets[k].preset;
  if (!tool_read_choice("--preset", f->preset, names, &number)) return false;
  const tool_grid_flags *p = &presets[number];
  const char **const given[] = {&f->phase, &f->heads,    &f->head_dim,  &f->dtype, &f->batch,  &f->seq_len,
                                &f->q_len, &f->rest_len, &f->page_size, &f->keys,  &f->method, &f->seconds};
  const char *const usual[] = {p->phase, p->heads,    p->head_dim,  p->dtype, p->batch,  p->seq_len,
                               p->q_len, p->rest_len, p->page_size, p->keys,  p->method, p->seconds};
  for (size_t k = 0; k < sizeof usual / sizeof *usual; k++)
    if (!*given[k]) *given[k] = usual[k];
  return true;
}

/* ---- Lists ---- */

/* The entries are numbers in [least, most], or one of the choices. */
typedef struct list_kind {
  const char *const *choices; /* NULL: numbers */
  int32_t least, most, base;  /* base: the value of the first choice */
} list_kind;

static bool read_entry(const char *flag, const char *text, const list_kind *kind, int32_t *value) {
  int64_t number;
  int choice;
  if (kind->choices) {
    if (!tool_read_choice(flag, text, kind->choices, &choice)) return false;
    *value = kind->base + choice;
    return true;
  }
  if (!tool_read_length(flag, text, kind->least, kind->most, &number)) return false;
  *value = (int32_t)number;
  return true;
}

/* Copies the entry that *at begins with, and goes past it; *at is NULL after the last. */
static void next_entry(const char **at, char entry[32]) {
  size_t length = strcspn(*at, ",");
  snprintf(entry, 32, "%.*s", (int)length, *at);
  *at = (*at)[length] ? *at + length + 1 : NULL;
}

static bool has_room(const char *flag, const tool_entries *list) {
  return list->count < TOOL_MAX_ENTRIES ||
         (tool_fail("%s: got more than %d entries, expected fewer", flag, TOOL_MAX_ENTRIES), false);
}

static bool read_list(const char *flag, const char *text, const list_kind *kind, tool_entries *list) {
  char entry[32];
  if (!text) return true;
  list->count = 0;
  for (const char *at = text; at;) {
    next_entry(&at, entry);
    if (!has_room(flag, list) || !read_entry(flag, entry, kind, &list->values[list->count])) return false;
    list->count++;
  }
  return true;
}

/* "32/8,64": KV heads after the slash, or as the flag says, or as many. */
static bool read_heads(const tool_grid_flags *f, tool_grid *g) {
  const list_kind any = {.least = 1, .most = MAX_HEADS};
  char entry[32];
  int32_t shared = 0;
  if (f->kv_heads && !read_entry("--kv-heads", f->kv_heads, &any, &shared)) return false;
  for (const char *at = f->heads ? f->heads : "8"; at;) {
    next_entry(&at, entry);
    char *slash = strchr(entry, '/');
    if (slash) *slash++ = 0;
    if (slash && shared) return tool_fail("--kv-heads: got %d, expected none beside --heads %s/%s", shared, entry, slash), false;
    int32_t k = g->heads.count, *heads = &g->heads.values[k], *kv_heads = &g->kv_heads.values[k];
    if (!has_room("--heads", &g->heads) || !read_entry("--heads", entry, &any, heads)) return false;
    *kv_heads = shared ? shared : *heads;
    if (slash && !read_entry("--heads", slash, &any, kv_heads)) return false;
    if (slash && *heads % *kv_heads)
      return tool_fail("--heads: got %s/%s, expected KV heads that divide the query heads", entry, slash), false;
    if (*heads % *kv_heads) return tool_fail("--kv-heads: got %d, expected a divisor of --heads (%d)", *kv_heads, *heads), false;
    g->kv_heads.count = ++g->heads.count;
  }
  return true;
}

/* "128,192/128": V's after the slash, or the same. */
static bool read_head_dims(const tool_grid_flags *f, tool_grid *g) {
  static const list_kind any = {.least = 1, .most = MAX_HEAD_DIM};
  char entry[32];
  for (const char *at = f->head_dim ? f->head_dim : "128"; at;) {
    next_entry(&at, entry);
    char *slash = strchr(entry, '/');
    if (slash) *slash++ = 0;
    int32_t k = g->head_dims.count, *dim = &g->head_dims.values[k], *dim_v = &g->head_dims_v.values[k];
    if (!has_room("--head-dim", &g->head_dims) || !read_entry("--head-dim", entry, &any, dim)) return false;
    *dim_v = *dim;
    if (slash && !read_entry("--head-dim", slash, &any, dim_v)) return false;
    if (*dim % 8)
      return tool_fail("--head-dim: got %d, expected a multiple of 8, for rules that rotate a quarter of it", *dim), false;
    g->head_dims_v.count = ++g->head_dims.count;
  }
  return true;
}

/* The phases share the lengths given; else each has its own. */
static bool read_lengths(const tool_grid_flags *f, tool_grid *g) {
  static const list_kind any = {.least = 1, .most = MAX_LENGTH};
  int phase = PHASE_BOTH;
  if (f->phase && !tool_read_choice("--phase", f->phase, phase_names, &phase)) return false;
  for (int32_t decode = 0; decode < 2; decode++) {
    tool_entries some = {0};
    if (phase == (decode ? PHASE_PREFILL : PHASE_DECODE)) continue;
    if (!read_list("--seq-len", f->seq_len ? f->seq_len : decode ? "16k" : "1k,2k", &any, &some)) return false;
    for (int32_t k = 0; k < some.count; k++) {
      if (!has_room("--seq-len", &g->lengths)) return false;
      g->decode[g->lengths.count] = decode;
      g->lengths.values[g->lengths.count++] = some.values[k];
    }
  }
  if (f->rest_len && phase != PHASE_DECODE)
    return tool_fail("--rest-len: got '%s', expected --phase decode too", f->rest_len), false;
  return true;
}

static bool read_rows(const tool_grid_flags *f, tool_grid *g) {
  static const list_kind any = {.least = 1, .most = MAX_LENGTH};
  if (!f->q_len) return true;
  if (!f->phase || strcmp(f->phase, "prefill") != 0)
    return tool_fail("--q-len: got '%s', expected --phase prefill too", f->q_len), false;
  if (!read_list("--q-len", f->q_len, &any, &g->rows)) return false;
  for (int32_t r = 0; r < g->rows.count; r++)
    for (int32_t k = 0; k < g->lengths.count; k++)
      if (g->rows.values[r] > g->lengths.values[k])
        return tool_fail("--q-len: got %d, expected at most --seq-len (%d)", g->rows.values[r], g->lengths.values[k]), false;
  return true;
}

static bool read_storage(const tool_grid_flags *f, tool_grid *g) {
  static const list_kind page = {.least = 0, .most = MAX_PAGE}, length = {.least = 1, .most = MAX_LENGTH};
  if (f->page_size && !read_entry("--page-size", f->page_size, &page, &g->page_size)) return false;
  if (!f->rest_len) return true;
  if (!read_entry("--rest-len", f->rest_len, &length, &g->rest_len)) return false;
  for (int32_t k = 0; k < g->lengths.count; k++)
    if (g->rest_len > g->lengths.values[k])
      return tool_fail("--rest-len: got %d, expected at most --seq-len (%d)", g->rest_len, g->lengths.values[k]), false;
  return g->page_size ||
         (tool_fail("--rest-len: got %d, expected --page-size too: unequal lengths lie in pages", g->rest_len), false);
}

bool tool_grid_read(tool_grid *g, const tool_grid_flags *f) {
  static const list_kind batches = {.least = 1, .most = MAX_BATCH};
  static const list_kind dtypes = {.choices = tool_grid_dtype_names, .base = SPINDLE_F32}, keys = {.choices = tool_key_names};
  *g = (tool_grid){.batches = {1, {1}}, .rows = {1, {AS_MANY_AS_KEYS}}, .keys = {1, {SPINDLE_KEYS_RAW}}};
  return read_heads(f, g) && read_head_dims(f, g) && read_list("--dtype", f->dtype, &dtypes, &g->dtypes) &&
         read_list("--batch", f->batch, &batches, &g->batches) && read_lengths(f, g) && read_rows(f, g) && read_storage(f, g) &&
         read_list("--keys", f->keys, &keys, &g->keys);
}

/* ---- Settings ---- */

int32_t tool_grid_count(const tool_grid *g) {
  return g->heads.count * g->head_dims.count * g->dtypes.count * g->batches.count * g->lengths.count * g->rows.count *
         g->keys.count;
}

/* The digit of the number that counts the list's entries; the rest of the number stays. */
static int32_t digit(int32_t *number, const tool_entries *list) {
  int32_t k = *number % list->count;
  *number /= list->count;
  return k;
}

tool_setting tool_grid_at(const tool_grid *g, int32_t number) {
  tool_setting s = {.rest_len = g->rest_len, .page_size = g->page_size};
  s.keys = g->keys.values[digit(&number, &g->keys)];
  int32_t rows = g->rows.values[digit(&number, &g->rows)];
  int32_t length = digit(&number, &g->lengths);
  s.seq_len = g->lengths.values[length];
  s.decode = g->decode[length];
  s.q_len = s.decode ? 1 : rows == AS_MANY_AS_KEYS ? s.seq_len : rows;
  s.batch = g->batches.values[digit(&number, &g->batches)];
  s.dtype = g->dtypes.values[digit(&number, &g->dtypes)];
  int32_t dims = digit(&number, &g->head_dims);
  s.head_dim = g->head_dims.values[dims];
  s.head_dim_v = g->head_dims_v.values[dims];
  int32_t heads = digit(&number, &g->heads);
  s.heads = g->heads.values[heads];
  s.kv_heads = g->kv_heads.values[heads];
  return s;
}
