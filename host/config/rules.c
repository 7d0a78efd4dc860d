/* A set of rope parameters as a scaling rule. Types are those of transformers' modeling_rope_utils and their older names. */
#include <math.h>
#include <string.h>

#include "internal.h"

typedef struct rule_reader {
  spindle__reader *r;
  spindle_config *config;
  spindle_config_layer *layer;
  const spindle__rope_source *source;
} rule_reader;

static double field(const rule_reader *x, const char *name, double lo, double hi, double fallback) {
  return spindle__number(x->r, spindle__rope_field(x->source, name), name, lo, hi, fallback);
}

static double required(const rule_reader *x, const char *name, double lo, double hi) {
  if (!spindle__rope_field(x->source, name))
    spindle__config_fail(x->r, SPINDLE_INVALID_ARGUMENT, "rope parameter %s: required by its rope type", name);
  return field(x, name, lo, hi, lo);
}

static double longest(const rule_reader *x) {
  if (x->config->max_position_embeddings == 0)
    spindle__config_fail(x->r, SPINDLE_INVALID_ARGUMENT, "max_position_embeddings: required by the rope type");
  return (double)x->config->max_position_embeddings;
}

/* Beside the rope parameters it wins over the one among them, except where they are nested by layer type. */
static double original(const rule_reader *x) {
  spindle__reader *r = x->r;
  int32_t family_default = x->config->family->original;
  if (!x->source->nested && (r->values.of[KEY_ORIGINAL_MAX] || family_default))
    return spindle__key_number(r, KEY_ORIGINAL_MAX, 1, SPINDLE__CONFIG_MAX_LENGTH, family_default);
  if (spindle__rope_field(x->source, "original_max_position_embeddings"))
    return field(x, "original_max_position_embeddings", 1, SPINDLE__CONFIG_MAX_LENGTH, 0);
  return longest(x);
}

static double factor_or_ratio(const rule_reader *x, double original_length) {
  if (spindle__rope_field(x->source, "factor")) return required(x, "factor", 1, 1e9);
  return fmax(longest(x) / original_length, 1);
}

static void read_default(const rule_reader *x) {
  spindle_position *p = &x->layer->position;
  int32_t d = x->layer->shape.rotary_dim;
  double *table;
  p->rope = SPINDLE_ROPE_DEFAULT;
  if (x->r->values.of[KEY_CONDENSE]) { /* LongChat's way to say linear */
    p->factor = spindle__key_number(x->r, KEY_CONDENSE, 1, 1e9, 1);
    p->rope = SPINDLE_ROPE_LINEAR;
  }
  if (!(x->config->family->flags & FAMILY_NEGATIVE)) return;
  table = spindle__config_new_list(x->r, x->config, x->layer, d / 2);
  for (int32_t t = 0; table && t < d / 2; t++) table[t] = -pow(p->rope_theta, -2.0 * t / d);
  p->rope = SPINDLE_ROPE_TABLE;
  p->inv_freq = table;
  p->num_pairs = d / 2;
}

static void read_linear(const rule_reader *x) {
  x->layer->position.rope = SPINDLE_ROPE_LINEAR;
  x->layer->position.factor = required(x, "factor", 1, 1e9);
}

/* HunYuan: with alpha it is the fixed NTK rule. */
static void read_dynamic(const rule_reader *x) {
  spindle_position *p = &x->layer->position;
  p->alpha = field(x, "alpha", 0, 1e9, 0);
  p->rope = p->alpha != 0 ? SPINDLE_ROPE_NTK : SPINDLE_ROPE_DYNAMIC_NTK;
  if (p->alpha != 0) return;
  p->factor = required(x, "factor", 1, 1e9);
  p->max_position_embeddings = longest(x);
}

static void read_yarn(const rule_reader *x) {
  spindle_position *p = &x->layer->position;
  p->rope = SPINDLE_ROPE_YARN;
  p->original_max_position_embeddings = original(x);
  p->factor = factor_or_ratio(x, p->original_max_position_embeddings);
  p->attention_factor = field(x, "attention_factor", 0, 1e3, 0);
  p->beta_fast = field(x, "beta_fast", 0, 1e9, 0);
  p->beta_slow = field(x, "beta_slow", 0, 1e9, 0);
  p->mscale = field(x, "mscale", 0, 1e3, 0);
  p->mscale_all_dim = field(x, "mscale_all_dim", 0, 1e3, 0);
  if (p->mscale == 0 || p->mscale_all_dim == 0) p->mscale = p->mscale_all_dim = 0; /* they count together only */
  /* transformers looks for truncate beside the sets, not in them, where they are nested: it then never finds it. */
  p->no_truncate = !x->source->nested && !spindle__boolean(x->r, spindle__rope_field(x->source, "truncate"), "truncate", 1);
}

static void read_llama3(const rule_reader *x) {
  spindle_position *p = &x->layer->position;
  p->rope = SPINDLE_ROPE_LLAMA3;
  p->factor = required(x, "factor", 1, 1e9);
  p->low_freq_factor = required(x, "low_freq_factor", 1e-6, 1e9);
  p->high_freq_factor = required(x, "high_freq_factor", 1e-6, 1e9);
  p->original_max_position_embeddings = original(x);
}

static void read_longrope(const rule_reader *x) {
  spindle_position *p = &x->layer->position;
  int32_t pairs = x->layer->shape.rotary_dim / 2;
  p->rope = SPINDLE_ROPE_LONGROPE;
  p->short_factor = spindle__config_list(x->r, x->config, spindle__rope_field(x->source, "short_factor"), "short_factor", pairs);
  p->long_factor = spindle__config_list(x->r, x->config, spindle__rope_field(x->source, "long_factor"), "long_factor", pairs);
  p->num_pairs = pairs;
  p->original_max_position_embeddings = original(x);
  p->factor = factor_or_ratio(x, p->original_max_position_embeddings);
  p->attention_factor = field(x, "attention_factor", 0, 1e3, 0);
  if (x->config->family->flags & FAMILY_MSCALE_LISTS) {
    p->attention_factor = required(x, "short_mscale", 1e-3, 1e3);
    if (required(x, "long_mscale", 1e-3, 1e3) != p->attention_factor)
      spindle__config_fail(x->r, SPINDLE_UNSUPPORTED,
                           "short_mscale and long_mscale differ: the attention factor depends on the length");
  }
}

static void read_proportional(const rule_reader *x) {
  x->layer->position.rope = SPINDLE_ROPE_PROPORTIONAL;
  x->layer->position.factor = field(x, "factor", 1, 1e9, 0);
}

static const struct {
  const char *name;
  uint32_t flag; /* the family's, without which the name means something else or nothing */
  void (*read)(const rule_reader *x);
} rules[] = {
    {"yarn", FAMILY_LONGROPE_ALIASES, read_longrope},
    {"su", FAMILY_LONGROPE_ALIASES, read_longrope},
    {"default", 0, read_default},
    {"mrope", 0, read_default},
    {"linear", 0, read_linear},
    {"dynamic", 0, read_dynamic},
    {"xdrope", 0, read_dynamic},
    {"yarn", 0, read_yarn},
    {"llama3", 0, read_llama3},
    {"longrope", 0, read_longrope},
    {"su", 0, read_longrope},
    {"proportional", 0, read_proportional},
};

/* DeepSeek's temperature on the whole score; and Ministral's row scale, kept among the rope parameters. */
static void read_score_terms(const rule_reader *x, const char *type) {
  uint32_t flags = x->config->family->flags;
  double all_dim = field(x, "mscale_all_dim", 0, 1e3, 0), factor = field(x, "factor", 0, 1e9, 1);
  double beta = field(x, "llama_4_scaling_beta", 0, 1e3, 0);
  if (flags & FAMILY_MSCALE && strcmp(type, "default") != 0 && factor > 1)
    x->layer->scale *= pow(0.1 * all_dim * log(factor) + 1, 2);
  if (flags & FAMILY_BETA && beta != 0) {
    x->layer->position.row_scale = SPINDLE_ROWSCALE_MINISTRAL;
    x->layer->position.row_scale_beta = beta;
    x->layer->position.row_scale_length = original(x);
  }
}

void spindle__read_rule(spindle__reader *r, spindle_config *config, spindle_config_layer *layer, const char *type,
                        const spindle__rope_source *source) {
  const rule_reader x = {r, config, layer, source};
  for (size_t k = 0; k < sizeof rules / sizeof *rules; k++)
    if (strcmp(rules[k].name, type) == 0 && (config->family->flags & rules[k].flag) == rules[k].flag) {
      rules[k].read(&x);
      if (config->family->flags & FAMILY_NEGATIVE && layer->position.rope != SPINDLE_ROPE_TABLE)
        spindle__config_fail(r, SPINDLE_UNSUPPORTED, "rope type \"%.60s\" with rotation by negative angles", type);
      read_score_terms(&x, type);
      return;
    }
  spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "unknown rope type \"%.60s\"", type);
}
