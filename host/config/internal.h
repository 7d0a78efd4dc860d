/* Reading a config: text part -> family -> layer types -> one layer after the other (shape, mask, scale, rule). */
#ifndef SPINDLE_CONFIG_INTERNAL_H
#define SPINDLE_CONFIG_INTERNAL_H

#include <spindle/config.h>

#include "families.h"
#include "keys.h"

#define SPINDLE__CONFIG_MAX_BYTES   ((size_t)1 << 20) /* real files have up to 100 kB */
#define SPINDLE__CONFIG_MAX_LAYERS  4096
#define SPINDLE__CONFIG_MAX_MEMBERS 64 /* of one set of rope parameters */
#define SPINDLE__CONFIG_MAX_LENGTH  1e12
#define SPINDLE__CONFIG_ERROR_BYTES 512

/* Lists of numbers that layers share. */
typedef struct spindle__list {
  struct spindle__list *next;
  const void *source; /* what it was read from */
  int32_t count;
  double values[];
} spindle__list;

struct spindle_config {
  cJSON *json;
  char model_type[64];
  int64_t max_position_embeddings;
  int32_t num_layers;
  spindle_config_layer *layers;
  spindle__list *lists;
  const spindle__family *family;
};

/* error.c */
void spindle__config_set_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* text.c: JSON as Python writes it (NaN, Infinity) to JSON, in place; and where the text decoder is described. */
void spindle__json_strict(char *json);
const cJSON *spindle__text_part(const cJSON *root, const char **model_type);

/* types.c: number of layers and the type of each. */
int32_t spindle__number_of_layers(spindle__reader *r, const spindle__family *family);
int spindle__is_full(const spindle_config_layer *layer);
int spindle__is_sliding(const spindle_config_layer *layer);
int spindle__rotates_by_list(spindle__reader *r, int32_t layer); /* no_rope_layers, no_rope_layer_interval */
void spindle__read_layer_types(spindle__reader *r, spindle_config *config);

/* layer.c, rope.c, rules.c: everything of layer r->layer, whose type is known. */
void spindle__read_layer(spindle__reader *r, spindle_config *config, spindle_config_layer *layer);
void spindle__read_rope(spindle__reader *r, spindle_config *config, spindle_config_layer *layer);
/* rope_parameters.c: which set of rope parameters a layer has. */
typedef struct spindle__rope_source {
  const cJSON *parameters; /* NULL: none are given, the family's defaults hold */
  const cJSON *below;      /* looked at where parameters do not say */
  int nested;              /* by layer type */
  int none;                /* the file says: no rotation here */
} spindle__rope_source;
spindle__rope_source spindle__find_rope_parameters(spindle__reader *r, const spindle__family *family, const char *layer_type);
const cJSON *spindle__rope_field(const spindle__rope_source *source, const char *name); /* NULL: absent or null */

void spindle__read_rule(spindle__reader *r, spindle_config *config, spindle_config_layer *layer, const char *type,
                        const spindle__rope_source *source);

/* lists.c. NULL (and a failure) unless item is an array of exactly `count` positive numbers. */
const double *spindle__config_list(spindle__reader *r, spindle_config *config, const cJSON *item, const char *name,
                                   int32_t count);
double *spindle__config_new_list(spindle__reader *r, spindle_config *config, const void *source, int32_t count);

#endif
