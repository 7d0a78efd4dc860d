/* The POSITION flags: KIND:key=value,... Names, keys and the fields that they set come from the library's registry. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "method.h"
#include "output.h"

enum { MAX_PAIRS = 32, MAX_ENTRIES = 8, TEXT_BYTES = 64 };

static const char *const family_flags[] = {"--rope", "--remap", "--bias", "--logits", "--mask"};

const char *tool_family_flag(int32_t family) { return family_flags[family]; }

bool tool_names_contain(const char *names, const char *name) {
  size_t length = strlen(name);
  for (const char *at = names; *at; at += strcspn(at, " |"), at += strspn(at, " |"))
    if (strcspn(at, " |") == length && !strncmp(at, name, length)) return true;
  return false;
}

/* ---- Keys that are no fields of spindle_position ---- */

typedef struct special {
  int32_t family;
  const char *name;
  size_t offset; /* in tool_method: of a double or of a tool_list */
  bool list;
  double low, high;
} special;

#define NUMBER(field, low, high) offsetof(tool_method, field), false, low, high
#define LIST(field, low, high)   offsetof(tool_method, field), true, low, high

static const special specials[] = {
    {SPINDLE_FAMILY_ROPE, "partial_rotary_factor", NUMBER(partial_rotary_factor, 0, 1)},
    {SPINDLE_FAMILY_BIAS, "max", NUMBER(alibi_max, 0, 1e6)},
    {SPINDLE_FAMILY_BIAS, "factor", NUMBER(alibi_factor, 0, 1e9)},
    {SPINDLE_FAMILY_BIAS, "alpha", NUMBER(alibi_alpha, 0, 1e9)},
    {SPINDLE_FAMILY_BIAS, "slopes", LIST(slopes, -1e6, 1e6)},
    {SPINDLE_FAMILY_BIAS, "p", LIST(p, 0, 1e6)},
    {SPINDLE_FAMILY_BIAS, "a", LIST(a, 0, 1e6)},
    {SPINDLE_FAMILY_LOGITS, "scale", NUMBER(scale, -1e6, 1e6)},
    {SPINDLE_FAMILY_LOGITS, "softcap", NUMBER(softcap, 0, 1e6)},
    {SPINDLE_FAMILY_LOGITS, "ssmax", LIST(ssmax, -1e6, 1e6)},
    {SPINDLE_FAMILY_LOGITS, "sinks", LIST(sinks, -1e6, 1e6)},
};

static const special *find_special(const spindle_method *entry, const char *name) {
  /* `proportional` has the key as a number of its rule; elsewhere it says how many channels rotate. */
  if (entry->family == SPINDLE_FAMILY_ROPE && entry->kind == SPINDLE_ROPE_PROPORTIONAL) return NULL;
  for (size_t s = 0; s < sizeof specials / sizeof *specials; s++)
    if (specials[s].family == entry->family && !strcmp(specials[s].name, name)) return &specials[s];
  return NULL;
}

/* ---- One flag, taken apart ---- */

typedef struct pair {
  const char *key, *value;
} pair;

typedef struct argument {
  int32_t family;
  const char *flag;
  const char *text;
  char *copy;       /* of the text, cut at its separators */
  const char *kind; /* NULL where the family has none */
  pair pairs[MAX_PAIRS];
  int32_t num_pairs;
  const spindle_method *entries[MAX_ENTRIES]; /* the methods that it asks for */
  int32_t num_entries;
} argument;

static bool split_pairs(argument *a, char *text) {
  while (text && *text) {
    char *next = text + strcspn(text, ",");
    bool more = *next == ',';
    *next = 0;
    char *value = text + strcspn(text, "=");
    if (!*value || value == text || !value[1] || (more && !next[1]))
      return tool_fail("%s: got '%s', expected key=value,...", a->flag, *text ? text : next + 1), false;
    *value = 0;
    for (int32_t p = 0; p < a->num_pairs; p++)
      if (!strcmp(a->pairs[p].key, text))
        return tool_fail("%s: %s=%s is the second one, expected one", a->flag, text, value + 1), false;
    if (a->num_pairs == MAX_PAIRS) return tool_fail("%s: got more than %d keys", a->flag, MAX_PAIRS), false;
    a->pairs[a->num_pairs++] = (pair){text, value + 1};
    text = more ? next + 1 : NULL;
  }
  return true;
}

static bool fail_kind(const argument *a) {
  char names[512] = "";
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  for (int32_t m = 0; m < count; m++) {
    size_t used = strlen(names);
    if (all[m].family == a->family) snprintf(names + used, sizeof names - used, "%s%s", used ? " " : "", all[m].name);
  }
  tool_fail("%s: got '%s', expected one of: %s", a->flag, a->kind, names);
  return false;
}

static bool entry_names(const spindle_method *entry, const char *key) {
  return tool_names_contain(entry->required, key) || tool_names_contain(entry->optional, key);
}

/* Families without kinds (logits, masks): every method that one of the keys belongs to. */
static bool find_entries_by_key(argument *a) {
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  for (int32_t m = 0; m < count; m++) {
    bool named = false;
    for (int32_t p = 0; p < a->num_pairs; p++) named |= all[m].family == a->family && entry_names(&all[m], a->pairs[p].key);
    if (named && a->num_entries < MAX_ENTRIES) a->entries[a->num_entries++] = &all[m];
  }
  return true;
}

static bool split(argument *a) {
  bool has_kind = a->family <= SPINDLE_FAMILY_BIAS;
  a->copy = strdup(a->text);
  if (!a->copy) return tool_fail("%s: no memory", a->flag), false;
  if (!has_kind) return split_pairs(a, a->copy) && find_entries_by_key(a);
  char *colon = a->copy + strcspn(a->copy, ":");
  bool keys = *colon;
  *colon = 0;
  a->kind = a->copy;
  a->entries[0] = spindle_method_find(a->family, a->kind);
  a->num_entries = 1;
  if (!a->entries[0]) return fail_kind(a);
  if (keys && !colon[1]) return tool_fail("%s: got '%s', expected key=value,... after the colon", a->flag, a->text), false;
  return !keys || split_pairs(a, colon + 1);
}

/* ---- Checks against the registry ---- */

static bool given(const argument *a, const char *name, size_t length) {
  for (int32_t p = 0; p < a->num_pairs; p++)
    if (strlen(a->pairs[p].key) == length && !strncmp(a->pairs[p].key, name, length)) return true;
  return false;
}

static bool check_required(const argument *a, const spindle_method *entry) {
  for (const char *word = entry->required; *word; word += strspn(word, " ")) {
    const char *end = word + strcspn(word, " ");
    bool found = false;
    for (const char *name = word; name < end; name += strcspn(name, " |") + 1) found |= given(a, name, strcspn(name, " |"));
    if (!found)
      return tool_fail("%s: got '%s' without %.*s, expected: %s", a->flag, a->text, (int)(end - word), word, entry->required),
             false;
    word = end;
  }
  return true;
}

static bool fail_key(const argument *a, const pair *p) {
  char names[512] = "";
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  for (int32_t m = 0; m < count; m++) {
    size_t used = strlen(names);
    if (a->kind ? &all[m] != a->entries[0] : all[m].family != a->family) continue;
    snprintf(names + used, sizeof names - used, " %s%s%s", all[m].required, *all[m].required && *all[m].optional ? " " : "",
             all[m].optional);
  }
  tool_fail("%s: got key '%s' (%s=%s), expected one of:%s", a->flag, p->key, p->key, p->value,
            *names && names[1] ? names : " none");
  return false;
}

static bool check(const argument *a) {
  for (int32_t p = 0; p < a->num_pairs; p++) {
    bool named = false;
    for (int32_t e = 0; e < a->num_entries; e++) named |= entry_names(a->entries[e], a->pairs[p].key);
    if (!named) return fail_key(a, &a->pairs[p]);
  }
  for (int32_t e = 0; e < a->num_entries; e++)
    if (!check_required(a, a->entries[e])) return false;
  const spindle_method *scale = NULL;
  for (int32_t e = 0; a->family == SPINDLE_FAMILY_LOGITS && e < a->num_entries; e++) {
    if (a->entries[e]->kind < 0) continue;
    if (scale)
      return tool_fail("%s: got '%s' and '%s', expected one factor on rows", a->flag, scale->name, a->entries[e]->name), false;
    scale = a->entries[e];
  }
  return true;
}

/* ---- Setting fields ---- */

static bool set_list(tool_method *m, const char *where, const char *text, const double **field) {
  tool_list list = {0};
  int32_t slot = 0;
  while (slot < TOOL_MAX_OWNED && m->owned[slot]) slot++;
  if (slot == TOOL_MAX_OWNED) return tool_fail("%s: got too many lists", where), false;
  if (!tool_read_list(where, text, -HUGE_VAL, HUGE_VAL, &list)) return false;
  m->owned[slot] = list.values;
  if (m->position.num_pairs && m->position.num_pairs != list.count)
    return tool_fail("%s: got %d values, expected %d as in the other list", where, list.count, m->position.num_pairs), false;
  m->position.num_pairs = list.count;
  *field = list.values;
  return true;
}

/* 0 in the library's descriptor means "not given", so a 0 that somebody gave must not get there. */
static bool fail_zero(const char *where, const char *text) {
  tool_fail("%s: got '%s', expected a number other than 0", where, text);
  return false;
}

static bool set_parameter(tool_method *m, const spindle_parameter *parameter, const char *where, const char *text) {
  char *field = (char *)&m->position + parameter->offset;
  bool on;
  switch (parameter->type) {
    case SPINDLE_PARAMETER_FLAG:
    case SPINDLE_PARAMETER_FLAG_NOT:
      if (!tool_read_bool(where, text, &on)) return false;
      *(int32_t *)(void *)field = on == (parameter->type == SPINDLE_PARAMETER_FLAG);
      return true;
    case SPINDLE_PARAMETER_INTEGER:
      if (!tool_read_integer(where, text, -TOOL_MAX_INDEX, TOOL_MAX_INDEX, (int64_t *)(void *)field)) return false;
      return *(int64_t *)(void *)field != 0 || fail_zero(where, text);
    case SPINDLE_PARAMETER_NUMBER:
      if (!tool_read_number(where, text, -HUGE_VAL, HUGE_VAL, (double *)(void *)field)) return false;
      return *(double *)(void *)field != 0 || fail_zero(where, text);
    default: return set_list(m, where, text, (const double **)(void *)field);
  }
}

static bool set_special(tool_method *m, const special *s, const char *where, const char *text) {
  void *field = (char *)m + s->offset;
  if (s->list) {
    tool_list *list = field;
    free(list->values);
    *list = (tool_list){0};
    return tool_read_list(where, text, s->low, s->high, list);
  }
  if (!tool_read_number(where, text, s->low, s->high, field)) return false;
  return *(double *)field != 0 || fail_zero(where, text);
}

static bool set_key(tool_method *m, const spindle_method *entry, const argument *a, const pair *p) {
  char where[TEXT_BYTES + 64];
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  const special *s = find_special(entry, p->key);
  snprintf(where, sizeof where, "%s%s%s: %s", a->flag, a->kind ? " " : "", a->kind ? a->kind : "", p->key);
  if (s) return set_special(m, s, where, p->value);
  for (int32_t k = 0; k < count; k++)
    if (all[k].family == entry->family && !strcmp(all[k].name, p->key)) return set_parameter(m, &all[k], where, p->value);
  return tool_fail("%s: got '%s', which this build of the library does not know", where, p->value), false;
}

static void clear_family(tool_method *m, int32_t family) {
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  for (int32_t k = 0; k < count; k++) {
    if (all[k].family != family) continue;
    size_t bytes = all[k].type == SPINDLE_PARAMETER_FLAG || all[k].type == SPINDLE_PARAMETER_FLAG_NOT ? sizeof(int32_t) : 8;
    memset((char *)&m->position + all[k].offset, 0, bytes);
  }
}

/* The family starts anew: what a config said of it is gone. Terms of the logits are replaced one by one. */
static void choose(tool_method *m, const argument *a) {
  int32_t kind = a->num_entries ? a->entries[0]->kind : -1;
  switch (a->family) {
    case SPINDLE_FAMILY_ROPE:
      clear_family(m, a->family);
      m->position.num_pairs = 0;
      m->position.rope = kind;
      return;
    case SPINDLE_FAMILY_REMAP:
      clear_family(m, a->family);
      m->position.remap = kind;
      return;
    case SPINDLE_FAMILY_BIAS:
      m->shape.bias = kind;
      m->alibi_max = m->alibi_slope_scale = 0;
      return;
    case SPINDLE_FAMILY_MASK: clear_family(m, a->family); return;
    default: break;
  }
  for (int32_t e = 0; e < a->num_entries; e++) {
    if (a->entries[e]->kind < 0) continue;
    clear_family(m, a->family);
    m->position.row_scale = a->entries[e]->kind;
  }
}

static bool parse_family(tool_method *m, int32_t family, const char *text) {
  argument a = {.family = family, .flag = family_flags[family], .text = text};
  bool good = split(&a) && check(&a);
  if (good) choose(m, &a);
  for (int32_t p = 0; good && p < a.num_pairs; p++) {
    int32_t e = 0;
    while (!entry_names(a.entries[e], a.pairs[p].key)) e++;
    good = set_key(m, a.entries[e], &a, &a.pairs[p]);
  }
  free(a.copy);
  return good;
}

bool tool_method_parse(tool_method *m, const tool_position_flags *flags) {
  static const char *const layouts[] = {"half", "interleaved", NULL};
  const char *const texts[] = {flags->rope, flags->remap, flags->bias, flags->logits, flags->mask};
  int layout;
  m->position.struct_size = sizeof m->position;
  m->shape.struct_size = sizeof m->shape;
  for (int32_t family = SPINDLE_FAMILY_ROPE; family <= SPINDLE_FAMILY_MASK; family++)
    if (texts[family] && !parse_family(m, family, texts[family])) return false;
  if (m->slopes.count && m->alibi_max)
    return tool_fail("--bias alibi: got max=%g and slopes, expected one of them", m->alibi_max), false;
  if (flags->layout) {
    if (!tool_read_choice("--layout", flags->layout, layouts, &layout)) return false;
    m->shape.pair_layout = layout ? SPINDLE_PAIRS_INTERLEAVED : SPINDLE_PAIRS_HALF;
  }
  return true;
}
