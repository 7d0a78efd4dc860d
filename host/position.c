/* Validation of spindle_position. What a field may hold and which method reads it stands in the registry; here are only the
 * conditions between fields. */
#include <string.h>

#include "../kernels/rope/phase.h"
#include "registry.h"

static spindle_status invalid_pair(const char *field, double value, const char *than, double limit) {
  return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.%s is %.15g, must be %s %.15g", field, value, than, limit);
}

static spindle_status check_value(const spindle_parameter *parameter, double value) {
  const spindle__range *range = spindle__parameter_range(parameter);
  bool inside = value <= range->high && (range->open_low ? value > range->low : value >= range->low);
  if (inside || parameter->type == SPINDLE_PARAMETER_LIST) return SPINDLE_OK;
  return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.%s is %.15g, must be in %c%.15g, %.15g]", parameter->field, value,
                       range->open_low ? '(' : '[', range->low, range->high);
}

/* One field may have a name of its own in every method that reads it (row_scale_length). NULL: the method does not read the
 * field. */
static const spindle_parameter *as_method_names_it(const spindle_method *method, const spindle_parameter *parameter) {
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  for (int32_t i = 0; i < count; i++)
    if (all[i].family == parameter->family && all[i].offset == parameter->offset &&
        (spindle__names_contain(method->required, all[i].name) || spindle__names_contain(method->optional, all[i].name)))
      return &all[i];
  return NULL;
}

static const spindle_parameter *find_parameter(int32_t family, const char *name, size_t length) {
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  for (int32_t i = 0; i < count; i++)
    if (all[i].family == family && strlen(all[i].name) == length && !strncmp(all[i].name, name, length)) return &all[i];
  return NULL;
}

/* Every required word must be given; of alternatives, "a|b", one. */
static spindle_status check_required(const spindle_method *method, const spindle_position *p) {
  for (const char *word = method->required; *word;) {
    size_t length = strcspn(word, " ");
    bool given = false, known = false;
    for (const char *name = word; name < word + length; name += strcspn(name, " |") + 1) {
      const spindle_parameter *parameter = find_parameter(method->family, name, strcspn(name, " |"));
      known |= parameter != NULL;
      given |= parameter && spindle__parameter_value(parameter, p) != 0;
    }
    if (known && !given)
      return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position: '%s' needs %.*s, which is 0", method->name, (int)length, word);
    word += length;
    word += strspn(word, " ");
  }
  return SPINDLE_OK;
}

/* All parameters of the family: in range if the method reads them, else not given. method NULL: masks, which are all read. */
static spindle_status check_family(int32_t family, const spindle_method *method, const spindle_position *p) {
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  for (int32_t i = 0; i < count; i++) {
    if (all[i].family != family) continue;
    double value = spindle__parameter_value(&all[i], p);
    const spindle_parameter *named = method ? as_method_names_it(method, &all[i]) : &all[i];
    if (value == 0) continue;
    if (!named)
      return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.%s is %.15g, but '%s' does not read it", all[i].field, value,
                           method->name);
    SPINDLE__TRY(check_value(named, value));
  }
  return method ? check_required(method, p) : SPINDLE_OK;
}

static spindle_status check_kind(const char *field, int32_t family, int32_t kind, const spindle_method **method) {
  *method = kind < 0 ? NULL : spindle__method_of_kind(family, kind);
  if (!*method) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.%s is %d, which is no known kind", field, kind);
  return SPINDLE_OK;
}

static spindle_status check_list(const char *field, const double *list, const spindle_position *p, const spindle_shape *shape) {
  const spindle__range *range = spindle__parameter_range(find_parameter(SPINDLE_FAMILY_ROPE, field, strlen(field)));
  if (!list) return SPINDLE_OK;
  if (p->num_pairs != shape->rotary_dim / 2)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.num_pairs is %d, must be rotary_dim / 2 (%d) for %s", p->num_pairs,
                         shape->rotary_dim / 2, field);
  for (int32_t t = 0; t < p->num_pairs; t++)
    if (!(list[t] <= range->high && (range->open_low ? list[t] > range->low : list[t] >= range->low)))
      return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.%s[%d] is %.15g, must be in %c%.15g, %.15g]", field, t, list[t],
                           range->open_low ? '(' : '[', range->low, range->high);
  return SPINDLE_OK;
}

static void fill_defaults(spindle_position *p) {
  double length = p->original_max_position_embeddings;
  if (!p->rope_theta) p->rope_theta = 10000.0;
  if (!p->beta_fast) p->beta_fast = 32.0;
  if (!p->beta_slow) p->beta_slow = 1.0;
  if (!p->low_freq_factor) p->low_freq_factor = 1.0;
  if (!p->high_freq_factor) p->high_freq_factor = 4.0;
  if (!p->partial_rotary_factor) p->partial_rotary_factor = 1.0;
  if (!p->ntk_b) p->ntk_b = 0.625;
  if (!p->scale_base) p->scale_base = 512.0;
  if (!p->mscale && p->rope == SPINDLE_ROPE_DEEPSEEK_YARN) p->mscale = 1.0;
  if (!p->factor && p->rope == SPINDLE_ROPE_PROPORTIONAL) p->factor = 1.0;
  if (!p->factor &&
      (p->rope == SPINDLE_ROPE_YARN || p->rope == SPINDLE_ROPE_LONGROPE || p->rope == SPINDLE_ROPE_LONGROPE_DYNAMIC))
    p->factor = p->max_position_embeddings / length;
  if (!p->remap_local && p->remap == SPINDLE_REMAP_DCA_PAPER) p->remap_local = p->remap_pretrain - p->remap_chunk;
}

static spindle_status check_ramp(const spindle_position *p) {
  double least = SPINDLE__TWO_PI * p->beta_slow;
  if (p->beta_fast <= p->beta_slow) return invalid_pair("beta_fast", p->beta_fast, "greater than beta_slow,", p->beta_slow);
  if (p->rope != SPINDLE_ROPE_NTK_BY_PARTS && p->original_max_position_embeddings < least)
    return invalid_pair("original_max_position_embeddings", p->original_max_position_embeddings, "at least 2 pi beta_slow,",
                        least);
  return SPINDLE_OK;
}

static spindle_status check_rule(const spindle_position *p, const spindle_shape *shape) {
  int32_t d = shape->rotary_dim;
  if (p->rope != SPINDLE_ROPE_NONE && d == 0)
    return spindle__fail(SPINDLE_UNSUPPORTED, "position.rope is %d, but shape.rotary_dim is 0", p->rope);
  switch (p->rope) {
    case SPINDLE_ROPE_NTK:
    case SPINDLE_ROPE_NTK_BY_PARTS_LEGACY:
    case SPINDLE_ROPE_DYNAMIC_NTK:
    case SPINDLE_ROPE_QWEN_DYNAMIC_NTK:
      if (d <= 2)
        return spindle__fail(SPINDLE_UNSUPPORTED, "shape.rotary_dim is %d, NTK's exponent d / (d - 2) needs more than 2", d);
      return SPINDLE_OK;
    case SPINDLE_ROPE_DYNAMIC_YARN:
      if (p->finetuned && p->max_position_embeddings < p->original_max_position_embeddings)
        return invalid_pair("max_position_embeddings", p->max_position_embeddings, "at least original_max_position_embeddings,",
                            p->original_max_position_embeddings);
      return check_ramp(p);
    case SPINDLE_ROPE_YARN:
      if (p->factor < 1)
        return invalid_pair("max_position_embeddings", p->max_position_embeddings, "at least",
                            p->original_max_position_embeddings);
      return check_ramp(p);
    case SPINDLE_ROPE_NTK_BY_PARTS:
    case SPINDLE_ROPE_DEEPSEEK_YARN: return check_ramp(p);
    case SPINDLE_ROPE_LLAMA3:
      if (p->high_freq_factor <= p->low_freq_factor)
        return invalid_pair("high_freq_factor", p->high_freq_factor, "greater than low_freq_factor,", p->low_freq_factor);
      return SPINDLE_OK;
    default: return SPINDLE_OK;
  }
}

static spindle_status check_remap(const spindle_position *p) {
  switch (p->remap) {
    case SPINDLE_REMAP_SELF_EXTEND:
      if (p->remap_window % p->remap_group)
        return invalid_pair("remap_window", (double)p->remap_window, "a multiple of remap_group,", (double)p->remap_group);
      return SPINDLE_OK;
    case SPINDLE_REMAP_DCA:
      if (p->remap_local >= p->remap_chunk)
        return invalid_pair("remap_local", (double)p->remap_local, "less than remap_chunk,", (double)p->remap_chunk);
      return SPINDLE_OK;
    case SPINDLE_REMAP_DCA_PAPER:
      if (p->remap_chunk >= p->remap_pretrain)
        return invalid_pair("remap_chunk", (double)p->remap_chunk, "less than remap_pretrain,", (double)p->remap_pretrain);
      if (p->remap_local != p->remap_pretrain - p->remap_chunk)
        return invalid_pair("remap_local", (double)p->remap_local, "remap_pretrain - remap_chunk,",
                            (double)(p->remap_pretrain - p->remap_chunk));
      return SPINDLE_OK;
    default: return SPINDLE_OK;
  }
}

static spindle_status check_mask(const spindle_position *p, const spindle_shape *shape) {
  if (p->window_right && !p->not_causal)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.window_right is %lld, which needs not_causal",
                         (long long)p->window_right);
  if (p->sink_tokens && !p->window_left)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.sink_tokens is %lld, which needs window_left",
                         (long long)p->sink_tokens);
  if (p->s2_group % 2)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.s2_group is %lld, must be even", (long long)p->s2_group);
  if (p->s2_wrap && (!p->s2_group || p->not_causal || p->remap || p->window_left || p->chunk))
    return spindle__fail(SPINDLE_INVALID_ARGUMENT,
                         "position.s2_wrap is 1, which needs s2_group and no not_causal, remap, window_left or chunk");
  if (p->s2_group && shape->num_q_heads % 2)
    return spindle__fail(SPINDLE_UNSUPPORTED, "position.s2_group shifts half of the heads, but shape.num_q_heads is %d",
                         shape->num_q_heads);
  return SPINDLE_OK;
}

/* What a method's flags forbid. */
static spindle_status check_flags(const spindle_method *method, const spindle_position *p, const spindle_shape *shape) {
  if ((method->flags & SPINDLE_METHOD_CAUSAL_ONLY) && p->not_causal)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.not_causal is 1, but '%s' is causal only", method->name);
  if ((method->flags & SPINDLE_METHOD_RAW_KEYS_ONLY) && shape->key_state == SPINDLE_KEYS_ROTATED)
    return spindle__fail(SPINDLE_UNSUPPORTED, "'%s' needs raw keys, but shape.key_state is SPINDLE_KEYS_ROTATED", method->name);
  return SPINDLE_OK;
}

spindle_status spindle__check_position(const spindle_position *in, const spindle_shape *shape, spindle_position *out) {
  spindle_position p;
  const spindle_method *rule, *remap, *row_scale = NULL;
  SPINDLE__TRY(spindle__read_descriptor(&p, sizeof p, in, "position"));
  SPINDLE__TRY(check_kind("rope", SPINDLE_FAMILY_ROPE, p.rope, &rule));
  SPINDLE__TRY(check_kind("remap", SPINDLE_FAMILY_REMAP, p.remap, &remap));
  if (p.row_scale != SPINDLE_ROWSCALE_NONE) SPINDLE__TRY(check_kind("row_scale", SPINDLE_FAMILY_LOGITS, p.row_scale, &row_scale));
  SPINDLE__TRY(check_family(SPINDLE_FAMILY_ROPE, rule, &p));
  SPINDLE__TRY(check_family(SPINDLE_FAMILY_REMAP, remap, &p));
  if (row_scale) SPINDLE__TRY(check_family(SPINDLE_FAMILY_LOGITS, row_scale, &p));
  if (!row_scale && (p.row_scale_length || p.row_scale_beta))
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.row_scale_%s is set, but row_scale is SPINDLE_ROWSCALE_NONE",
                         p.row_scale_length ? "length" : "beta");
  SPINDLE__TRY(check_family(SPINDLE_FAMILY_MASK, NULL, &p));
  if (p.partial_rotary_factor && p.rope != SPINDLE_ROPE_PROPORTIONAL)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT,
                         "position.partial_rotary_factor is %.15g, but '%s' leaves that to shape.rotary_dim",
                         p.partial_rotary_factor, rule->name);
  if (p.num_pairs != 0 && p.num_pairs != shape->rotary_dim / 2)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "position.num_pairs is %d, must be 0 or rotary_dim / 2 (%d)", p.num_pairs,
                         shape->rotary_dim / 2);
  SPINDLE__TRY(check_list("inv_freq", p.inv_freq, &p, shape));
  SPINDLE__TRY(check_list("short_factor", p.short_factor, &p, shape));
  SPINDLE__TRY(check_list("long_factor", p.long_factor, &p, shape));
  fill_defaults(&p);
  SPINDLE__TRY(check_rule(&p, shape));
  SPINDLE__TRY(check_remap(&p));
  SPINDLE__TRY(check_mask(&p, shape));
  SPINDLE__TRY(check_flags(rule, &p, shape));
  SPINDLE__TRY(check_flags(remap, &p, shape));
  *out = p;
  return SPINDLE_OK;
}
