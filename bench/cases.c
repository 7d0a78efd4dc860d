#include "cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "output.h"

enum { TEXT_BYTES = 16384 };

/* ---- A value for every key ---- */

typedef struct sample {
  int32_t family;
  const char *key;
  double value, share;                       /* value, or a share of the trained length */
  double (*entry)(int32_t k, int32_t count); /* of a list: one per pair or per query head */
} sample;

static double short_factor(int32_t t, int32_t count) { return 1 + 0.2 * t / count; }
static double long_factor(int32_t t, int32_t count) { return 1 + 7.0 * t / count; }
/* Some zero, some negative: both are legal. */
static double inv_freq(int32_t t, int32_t count) {
  return t % 7 == 3 ? 0 : (t % 5 == 2 ? -1 : 1) * pow(5000, -(double)t / count);
}
static double kerple_p(int32_t h, int32_t count) { return 0.5 + (double)h / count; }
static double kerple_a(int32_t h, int32_t count) { return 0.05 + 0.1 * h / count; }
static double sink(int32_t h, int32_t count) { return 2 - 4.0 * h / count; }
static double ssmax(int32_t h, int32_t count) { return 0.3 + 0.3 * h / count; }

static const sample samples[] = {
    {SPINDLE_FAMILY_ROPE, "factor", 4, 0, NULL},
    {SPINDLE_FAMILY_ROPE, "alpha", 4, 0, NULL},
    {SPINDLE_FAMILY_ROPE, "original_max_position_embeddings", 0, 1, NULL},
    {SPINDLE_FAMILY_ROPE, "max_position_embeddings", 0, 1, NULL},
    {SPINDLE_FAMILY_ROPE, "partial_rotary_factor", 0.25, 0, NULL},
    {SPINDLE_FAMILY_ROPE, "mscale", 0.707, 0, NULL},
    {SPINDLE_FAMILY_ROPE, "truncate", 0, 0, NULL},
    {SPINDLE_FAMILY_ROPE, "finetuned", 1, 0, NULL},
    {SPINDLE_FAMILY_ROPE, "short_factor", 0, 0, short_factor},
    {SPINDLE_FAMILY_ROPE, "long_factor", 0, 0, long_factor},
    {SPINDLE_FAMILY_ROPE, "inv_freq", 0, 0, inv_freq},
    {SPINDLE_FAMILY_REMAP, "window", 0, 0.5, NULL},
    {SPINDLE_FAMILY_REMAP, "k", 3, 0, NULL},
    {SPINDLE_FAMILY_REMAP, "group", 4, 0, NULL},
    {SPINDLE_FAMILY_REMAP, "chunk", 0, 0.75, NULL},
    {SPINDLE_FAMILY_REMAP, "local", 0, 0.125, NULL},
    {SPINDLE_FAMILY_REMAP, "pretrain", 0, 1, NULL},
    {SPINDLE_FAMILY_REMAP, "sinks", 4, 0, NULL},
    {SPINDLE_FAMILY_BIAS, "factor", 2, 0, NULL},
    {SPINDLE_FAMILY_BIAS, "alpha", 2, 0, NULL},
    {SPINDLE_FAMILY_BIAS, "p", 0, 0, kerple_p},
    {SPINDLE_FAMILY_BIAS, "a", 0, 0, kerple_a},
    {SPINDLE_FAMILY_LOGITS, "scale", 0.09, 0, NULL},
    {SPINDLE_FAMILY_LOGITS, "softcap", 3, 0, NULL},
    {SPINDLE_FAMILY_LOGITS, "logn", 0, 0.5, NULL},
    {SPINDLE_FAMILY_LOGITS, "llama4_scale", 0.1, 0, NULL},
    {SPINDLE_FAMILY_LOGITS, "llama4_floor", 0, 0.25, NULL},
    {SPINDLE_FAMILY_LOGITS, "llama_4_scaling_beta", 0.1, 0, NULL},
    {SPINDLE_FAMILY_LOGITS, "original_max_position_embeddings", 0, 0.25, NULL},
    {SPINDLE_FAMILY_LOGITS, "ssmax", 0, 0, ssmax},
    {SPINDLE_FAMILY_LOGITS, "sinks", 0, 0, sink},
    {SPINDLE_FAMILY_MASK, "causal", 0, 0, NULL},
    {SPINDLE_FAMILY_MASK, "window", 0, 0.375, NULL},
    {SPINDLE_FAMILY_MASK, "sinks", 4, 0, NULL},
    {SPINDLE_FAMILY_MASK, "chunk", 0, 0.625, NULL},
    {SPINDLE_FAMILY_MASK, "s2", 0, 0.5, NULL},
};

/* ---- Compositions: what real models and papers put together ---- */

typedef struct part {
  int32_t family;
  const char *name, *extra;
} part;

#define ROPE   SPINDLE_FAMILY_ROPE
#define REMAP  SPINDLE_FAMILY_REMAP
#define BIAS   SPINDLE_FAMILY_BIAS
#define LOGITS SPINDLE_FAMILY_LOGITS
#define MASK   SPINDLE_FAMILY_MASK

static const part compositions[][TOOL_MAX_TERMS] = {
    {{ROPE, "yarn", ""}, {REMAP, "rerope", ""}, {LOGITS, "logn", ""}, {LOGITS, "sinks", ""}},
    {{ROPE, "yarn", "truncate"}, {LOGITS, "sinks", ""}, {MASK, "window", ""}},
    {{ROPE, "dynamic-ntk", ""}, {REMAP, "leaky-rerope", ""}, {LOGITS, "logn", ""}},
    {{ROPE, "default", "partial_rotary_factor"}, {REMAP, "self-extend", ""}},
    {{ROPE, "proportional", "partial_rotary_factor"}, {LOGITS, "softcap", ""}, {MASK, "window", "sinks"}},
    {{ROPE, "longrope", ""}, {REMAP, "dca", ""}, {BIAS, "alibi", ""}, {LOGITS, "ssmax", ""}},
    {{ROPE, "llama3", ""}, {LOGITS, "llama4", ""}, {MASK, "chunk", ""}},
    {{ROPE, "deepseek-yarn", "mscale"}, {MASK, "s2", ""}},
    {{ROPE, "dynamic-yarn", "finetuned max_position_embeddings"}, {REMAP, "dca-paper", ""}, {LOGITS, "softcap", ""}},
    {{ROPE, "xpos", ""}, {MASK, "window", "sinks"}},
    {{ROPE, "default", ""}, {REMAP, "streaming", ""}, {LOGITS, "sinks", ""}},
    {{ROPE, "none", ""}, {REMAP, "lm-infinite", ""}, {BIAS, "kerple-log", ""}},
};

/* ---- The list ---- */

static void add_term(tool_case *c, const spindle_method *method, const char *extra) {
  size_t used = strlen(c->name);
  snprintf(c->name + used, sizeof c->name - used, "%s%s", used ? "+" : "", method->name);
  c->terms[c->num_terms++] = (tool_term){method, extra};
}

static bool wanted(const char *name, const char *asked) { return !strcmp(asked, "all") || !strcmp(asked, name); }

int32_t tool_cases(const char *name, tool_case cases[TOOL_MAX_CASES]) {
  int32_t methods, count = 0;
  const spindle_method *all = spindle_methods(&methods);
  for (int32_t m = 0; m < methods && count < TOOL_MAX_CASES; m++) {
    if (!wanted(all[m].name, name)) continue;
    cases[count] = (tool_case){.num_terms = 0};
    bool proportional = all[m].family == ROPE && all[m].kind == SPINDLE_ROPE_PROPORTIONAL;
    add_term(&cases[count++], &all[m], proportional ? "partial_rotary_factor" : "");
  }
  for (size_t k = 0; k < sizeof compositions / sizeof *compositions && count < TOOL_MAX_CASES; k++) {
    tool_case *c = &cases[count];
    *c = (tool_case){.num_terms = 0};
    for (const part *p = compositions[k]; p < compositions[k] + TOOL_MAX_TERMS && p->name; p++) {
      const spindle_method *method = spindle_method_find(p->family, p->name);
      if (method) add_term(c, method, p->extra);
    }
    count += wanted(c->name, name);
  }
  if (!count) tool_fail("--method: got '%s', expected all or a name that `spindle info` lists", name);
  return count;
}

bool tool_case_reads_rotated(const tool_case *c) {
  for (int32_t t = 0; t < c->num_terms; t++)
    if (c->terms[t].method->flags & SPINDLE_METHOD_RAW_KEYS_ONLY) return false;
  return true;
}

/* ---- One case as POSITION flags ---- */

static void append(char *text, const char *more) {
  size_t used = strlen(text);
  snprintf(text + used, TEXT_BYTES - used, "%s", more);
}

static bool append_key(char *text, int32_t family, const char *key, size_t length, int64_t trained, int32_t entries) {
  char number[64], last = *text ? text[strlen(text) - 1] : ':';
  if (last != ':') append(text, ",");
  for (size_t s = 0; s < sizeof samples / sizeof *samples; s++) {
    if (samples[s].family != family || strlen(samples[s].key) != length || strncmp(samples[s].key, key, length) != 0) continue;
    append(text, samples[s].key);
    for (int32_t k = 0; k < (samples[s].entry ? entries : 1); k++) {
      double value = samples[s].entry ? samples[s].entry(k, entries) : samples[s].value + samples[s].share * (double)trained;
      snprintf(number, sizeof number, "%c%.9g", k ? ';' : '=', value);
      append(text, number);
    }
    return true;
  }
  return tool_fail("no sample value for the key %.*s", (int)length, key), false;
}

/* Keys separated by spaces; of alternatives, "a|b", the first. */
static bool append_keys(char *text, int32_t family, const char *keys, int64_t trained, int32_t entries) {
  for (const char *word = keys + strspn(keys, " "); *word; word += strspn(word, " ")) {
    if (!append_key(text, family, word, strcspn(word, " |"), trained, entries)) return false;
    word += strcspn(word, " ");
  }
  return true;
}

static bool append_term(char *text, const tool_term *term, int64_t trained, int32_t entries) {
  const spindle_method *m = term->method;
  bool has_kind = m->family <= BIAS;
  if (has_kind) append(text, m->name);
  if (has_kind && (*m->required || *term->extra)) append(text, ":");
  return append_keys(text, m->family, m->required, trained, entries) &&
         append_keys(text, m->family, term->extra, trained, entries);
}

bool tool_case_method(const tool_case *c, int64_t trained, int32_t num_q_heads, int32_t head_dim, int32_t layout,
                      tool_method *method) {
  static char texts[MASK + 1][TEXT_BYTES]; /* the tool has one thread */
  const char *given[MASK + 1] = {NULL};
  memset(method, 0, sizeof *method);
  for (int32_t family = 0; family <= MASK; family++) texts[family][0] = 0;
  for (int32_t t = 0; t < c->num_terms; t++) {
    int32_t family = c->terms[t].method->family;
    if (!append_term(texts[family], &c->terms[t], trained, family == ROPE ? head_dim / 2 : num_q_heads)) return false;
    given[family] = texts[family];
  }
  tool_position_flags flags = {.rope = given[ROPE],
                               .remap = given[REMAP],
                               .bias = given[BIAS],
                               .logits = given[LOGITS],
                               .mask = given[MASK],
                               .layout = layout == SPINDLE_PAIRS_HALF ? "half" : "interleaved"};
  /* Models with a bias of distances have no rotation; the rest is tried on plain RoPE. */
  if (!flags.rope && !flags.bias) flags.rope = "default";
  return tool_method_parse(method, &flags);
}
