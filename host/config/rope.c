/* The rotary part of a layer: whether it rotates, which channels, by which theta. */
#include <string.h>

#include "internal.h"

static int rotates(spindle__reader *r, const spindle__family *f, const spindle_config_layer *layer) {
  const cJSON *theta = spindle__of_layer(r, r->values.of[KEY_LAYER_ROPE_THETA], "layer_rope_theta");
  const cJSON *kind = r->values.of[KEY_POSITION_EMBEDDING];
  if (f->flags & FAMILY_NO_ROPE || layer->shape.bias) return 0;
  if (f->flags & FAMILY_ROPE_KEY) return cJSON_IsString(kind) && strcmp(kind->valuestring, "rope") == 0;
  if (theta) return spindle__number(r, theta, "layer_rope_theta", 0, SPINDLE__CONFIG_MAX_LENGTH, 0) != 0;
  if (f->flags & FAMILY_NOPE_LIST) return spindle__rotates_by_list(r, r->layer);
  if (!(f->flags & FAMILY_NOPE_FULL) || !spindle__is_full(layer)) return 1;
  return f->rope_without_window && !r->values.of[KEY_WINDOW] && !spindle__default(r, KEY_WINDOW, f->window);
}

/* The older key that a file may use for this kind of layer; NULL: absent. */
static const cJSON *older_theta(const spindle__reader *r, const spindle__family *f, int full) {
  const cJSON *const *of = r->values.of;
  const cJSON *dbrx = spindle__member(of[KEY_ATTN_CONFIG], "rope_theta");
  if (f->local_theta != 0 && !full) return of[KEY_ROPE_LOCAL_BASE] ? of[KEY_ROPE_LOCAL_BASE] : of[KEY_LOCAL_ROPE_THETA];
  if (f->flags & FAMILY_SCALED_FULL && !full) return NULL;
  if (of[KEY_GLOBAL_ROPE_THETA]) return of[KEY_GLOBAL_ROPE_THETA];
  if (of[KEY_ROTARY_EMB_BASE]) return of[KEY_ROTARY_EMB_BASE];
  if (f->flags & (FAMILY_NO_LEGACY | FAMILY_SCALED_BOTH)) return NULL;
  return dbrx ? dbrx : of[KEY_ROPE_THETA];
}

/* Whoever says it first: a list with one entry a layer, the set of parameters, an older key, the family. */
static double theta_of(spindle__reader *r, const spindle__family *f, const spindle_config_layer *layer,
                       const spindle__rope_source *source) {
  const cJSON *item = NULL;
  int full = spindle__is_full(layer);
  double theta = full || f->local_theta == 0 ? f->theta : f->local_theta;
  if (theta == 0) theta = 10000;
  if (f->flags & FAMILY_FIXED_THETA) return theta;
  if (!(f->flags & FAMILY_THETA_FLAG)) item = spindle__of_layer(r, r->values.of[KEY_LAYER_ROPE_THETA], "layer_rope_theta");
  if (!item && !(f->flags & FAMILY_NO_LEGACY)) item = spindle__of_layer(r, r->values.of[KEY_ROPE_THETA], "rope_theta");
  if (!item) item = spindle__rope_field(source, "rope_theta");
  if (!item) item = older_theta(r, f, full);
  return spindle__number(r, item, "rope_theta", 1e-3, SPINDLE__CONFIG_MAX_LENGTH, theta);
}

static double partial_of(spindle__reader *r, const spindle__family *f, const spindle_config_layer *layer,
                         const spindle__rope_source *source) {
  double partial = f->partial != 0 ? f->partial : 1;
  const cJSON *own = spindle__rope_field(source, "partial_rotary_factor");
  const cJSON *list = spindle__of_layer(r, r->values.of[KEY_PARTIALS], "partial_rotary_factors");
  if (!source->parameters && f->full_partial != 0 && spindle__is_full(layer)) partial = f->full_partial;
  if (own || list) return spindle__number(r, own ? own : list, "partial_rotary_factor", 0, 1, partial);
  if (f->flags & FAMILY_NO_LEGACY) return source->parameters ? 1 : partial;
  return spindle__key_number(r, r->values.of[KEY_ROTARY_PCT] ? KEY_ROTARY_PCT : KEY_PARTIAL, 0, 1, partial);
}

static const char *type_of(spindle__reader *r, const spindle__family *f, const spindle_config_layer *layer,
                           const spindle__rope_source *source) {
  const char *fallback = !source->parameters && f->full_type && spindle__is_full(layer) ? f->full_type : "default";
  const cJSON *item = spindle__rope_field(source, "rope_type");
  return spindle__string(r, item ? item : spindle__rope_field(source, "type"), "rope_type", fallback);
}

/* Rotary channels of the layer. Only MLA rotates trailing ones, and all of those. */
static int64_t rotary_dim(spindle__reader *r, const spindle__family *f, spindle_config_layer *layer,
                          const spindle__rope_source *source, const char *type) {
  int32_t head_dim = layer->shape.head_dim_qk;
  int by_type = strcmp(type, "default") != 0 && strcmp(type, "mrope") != 0;
  if (strcmp(type, "proportional") == 0) layer->position.partial_rotary_factor = partial_of(r, f, layer, source);
  if (layer->shape.rotary_offset) return head_dim - layer->shape.rotary_offset;
  if (r->values.of[KEY_ROTARY_DIM] || f->rope_dim) return spindle__key_integer(r, KEY_ROTARY_DIM, 0, head_dim, f->rope_dim);
  if (layer->position.partial_rotary_factor != 0) return head_dim;
  return by_type || f->flags & FAMILY_PARTIAL ? (int64_t)(head_dim * partial_of(r, f, layer, source)) : head_dim;
}

void spindle__read_rope(spindle__reader *r, spindle_config *config, spindle_config_layer *layer) {
  const spindle__family *f = config->family;
  spindle_position *p = &layer->position;
  spindle__rope_source source;
  const char *type;
  int interleaved = (f->flags & FAMILY_INTERLEAVED) != 0;
  if (f->flags & FAMILY_INTERLEAVE_KEY) interleaved = spindle__key_boolean(r, KEY_ROPE_INTERLEAVE, 1);
  layer->shape.pair_layout = interleaved ? SPINDLE_PAIRS_INTERLEAVED : SPINDLE_PAIRS_HALF;
  p->rope = SPINDLE_ROPE_NONE;
  if (!rotates(r, f, layer) || r->status) return;
  source = spindle__find_rope_parameters(r, f, layer->layer_type);
  if (source.none || r->status) return;
  if (f->needs_rope && !source.parameters) {
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "rope_parameters: required for model type \"%s\"", config->model_type);
    return;
  }
  type = type_of(r, f, layer, &source);
  layer->shape.rotary_dim = (int32_t)rotary_dim(r, f, layer, &source, type);
  if (layer->shape.rotary_dim == 0 || r->status) return;
  if (layer->shape.rotary_dim % 2)
    spindle__config_fail(r, SPINDLE_UNSUPPORTED, "%d channels rotate, an odd number", (int)layer->shape.rotary_dim);
  if (layer->shape.rotary_dim > layer->shape.head_dim_qk)
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "rotary_dim is %d of %d channels", (int)layer->shape.rotary_dim,
                         (int)layer->shape.head_dim_qk);
  if (r->status) return;
  p->rope_theta = theta_of(r, f, layer, &source);
  spindle__read_rule(r, config, layer, type, &source);
}
