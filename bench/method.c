#include "method.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

const char tool_position_help[] =
    "POSITION is any of\n"
    "  --config FILE              a model's Hugging Face config.json; the flags below replace what it says of their family\n"
    "                             (--logits: of each term named)\n"
    "  --layer-type NAME          which layers of a config whose layers differ\n"
    "  --rope RULE[:k=v,...]      yarn:factor=4,original_max_position_embeddings=4096    default: none\n"
    "  --layout half|interleaved  how channels pair up: (t, t + d/2) or (2t, 2t + 1)       default: half\n"
    "  --remap KIND[:k=v,...]     rerope:window=512\n"
    "  --bias KIND[:k=v,...]      alibi:max=8\n"
    "  --logits k=v,...           scale=0.1,softcap=50,logn=4096,sinks=a;b;c\n"
    "  --mask k=v,...             causal=0  window=4096,sinks=4  chunk=8192  s2=2048\n"
    "`spindle info` lists every rule, kind and key. Lists are a;b;c; per head: one value, or one per query head.\n";

void tool_method_from_layer(tool_method *m, const spindle_config_layer *layer) {
  memset(m, 0, sizeof *m);
  m->position = layer->position;
  m->shape = layer->shape;
  m->scale = layer->scale;
  m->softcap = layer->softcap;
  m->needs_sinks = layer->learned_sinks;
  m->alibi_max = layer->alibi_bias_max;
  m->alibi_slope_scale = layer->alibi_slope_scale;
}

void tool_method_free(tool_method *m) {
  for (int32_t k = 0; k < TOOL_MAX_OWNED; k++) free(m->owned[k]);
  free(m->slopes.values);
  free(m->p.values);
  free(m->a.values);
  free(m->sinks.values);
  free(m->ssmax.values);
  memset(m, 0, sizeof *m);
}

/* ---- Shape ---- */

static bool check_lists(const tool_method *m, int32_t rotary_dim) {
  if (m->position.num_pairs == 0 || m->position.num_pairs == rotary_dim / 2) return true;
  tool_fail("--rope: got lists of %d values, expected %d (half of the %d channels that rotate)", m->position.num_pairs,
            rotary_dim / 2, rotary_dim);
  return false;
}

bool tool_method_shape(const tool_method *m, int32_t num_q_heads, int32_t num_kv_heads, int32_t head_dim_qk, int32_t head_dim_v,
                       int32_t dtype, spindle_shape *shape) {
  spindle_shape s = m->shape;
  if (s.head_dim_qk && s.head_dim_qk != head_dim_qk)
    return tool_fail("--config: got tensors of head dim %d, expected %d", head_dim_qk, s.head_dim_qk), false;
  s.q_dtype = s.kv_dtype = s.o_dtype = dtype;
  s.num_q_heads = num_q_heads;
  s.num_kv_heads = num_kv_heads;
  s.head_dim_qk = head_dim_qk;
  s.head_dim_v = head_dim_v;
  if (m->partial_rotary_factor) {
    s.rotary_dim = (int32_t)(head_dim_qk * m->partial_rotary_factor);
    s.rotary_offset = 0;
    if (s.rotary_dim == 0 || s.rotary_dim % 2)
      return tool_fail("--rope: partial_rotary_factor=%g of head dim %d makes %d channels, expected an even number",
                       m->partial_rotary_factor, head_dim_qk, s.rotary_dim),
             false;
  } else if (s.rotary_dim == 0 && m->position.rope != SPINDLE_ROPE_NONE && head_dim_qk % 2) {
    return tool_fail("--rope: got head dim %d, expected an even one, or partial_rotary_factor", head_dim_qk), false;
  }
  if (!check_lists(m, s.rotary_dim ? s.rotary_dim : head_dim_qk & ~1)) return false;
  *shape = s;
  return true;
}

/* ---- Weights ---- */

static bool spread(const char *where, const tool_list *list, int32_t heads, float **weights) {
  if (list->count != 1 && list->count != heads)
    return tool_fail("%s: got %d values, expected 1 or %d (query heads)", where, list->count, heads), false;
  *weights = malloc((size_t)heads * sizeof **weights);
  if (!*weights) return tool_fail("%s: no memory for %d heads", where, heads), false;
  for (int32_t h = 0; h < heads; h++) (*weights)[h] = (float)list->values[list->count == 1 ? 0 : h];
  return true;
}

static bool make_slopes(const tool_method *m, int32_t heads, float **slopes) {
  if (m->slopes.count) return spread("--bias alibi: slopes", &m->slopes, heads, slopes);
  *slopes = malloc((size_t)heads * sizeof **slopes);
  if (!*slopes) return tool_fail("--bias: no memory for %d heads", heads), false;
  if (spindle_alibi_slopes(heads, m->alibi_max, m->alibi_factor, m->alibi_alpha, *slopes) != SPINDLE_OK)
    return tool_fail_library("--bias"), false;
  for (int32_t h = 0; m->alibi_slope_scale && h < heads; h++) (*slopes)[h] *= (float)m->alibi_slope_scale;
  return true;
}

bool tool_method_weights(const tool_method *m, int32_t heads, tool_weights *w) {
  bool kerple = m->shape.bias == SPINDLE_BIAS_KERPLE_LOG || m->shape.bias == SPINDLE_BIAS_KERPLE_POWER;
  bool good = true;
  memset(w, 0, sizeof *w);
  if (m->needs_sinks && !m->sinks.count)
    return tool_fail("--logits: sinks are not given, but this model has learned ones; expected sinks=a;b;c from its checkpoint"),
           false;
  if (m->shape.bias == SPINDLE_BIAS_ALIBI) good = make_slopes(m, heads, &w->bias_a);
  if (kerple) good = spread("--bias: a", &m->a, heads, &w->bias_a) && spread("--bias: p", &m->p, heads, &w->bias_p);
  if (good && m->sinks.count) good = spread("--logits: sinks", &m->sinks, heads, &w->sinks);
  if (good && m->position.row_scale == SPINDLE_ROWSCALE_SSMAX) good = spread("--logits: ssmax", &m->ssmax, heads, &w->ssmax);
  if (!good) tool_weights_free(w);
  return good;
}

void tool_weights_free(tool_weights *w) {
  free(w->bias_a);
  free(w->bias_p);
  free(w->sinks);
  free(w->ssmax);
  memset(w, 0, sizeof *w);
}

/* ---- Errors ---- */

int tool_fail_library(const char *what) {
  const char *message = spindle_last_error(), *prefix = "position.";
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  if (!strncmp(message, prefix, strlen(prefix))) {
    const char *field = message + strlen(prefix);
    for (int32_t k = 0; k < count; k++) {
      size_t length = strlen(all[k].field);
      if (strncmp(field, all[k].field, length) != 0 || (field[length] != ' ' && field[length] != '[')) continue;
      /* "not_causal is 1" is what the message says: under the name "causal" it would say the opposite. */
      if (all[k].type == SPINDLE_PARAMETER_FLAG_NOT) return tool_fail("%s: %s", tool_family_flag(all[k].family), field);
      return tool_fail("%s: %s%s", tool_family_flag(all[k].family), all[k].name, field + length);
    }
  }
  return tool_fail("%s: %s", what, message);
}
