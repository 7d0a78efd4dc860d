/* One way to see positions, as POSITION flags or a config say it: the library's descriptor, plus what the library takes elsewhere
 * (bias class, layout, rotary part, scale, per-head weights). */
#ifndef SPINDLE_BENCH_METHOD_H
#define SPINDLE_BENCH_METHOD_H

#include <spindle/config.h>

#include "flags.h"

/* The POSITION flags as given; NULL: not given. */
typedef struct tool_position_flags {
  const char *config, *layer_type;
  const char *rope, *layout, *remap, *bias, *logits, *mask;
} tool_position_flags;

#define TOOL_POSITION_FLAGS(p)                                                                           \
  {"--config", &(p).config, NULL}, {"--layer-type", &(p).layer_type, NULL}, {"--rope", &(p).rope, NULL}, \
      {"--layout", &(p).layout, NULL}, {"--remap", &(p).remap, NULL}, {"--bias", &(p).bias, NULL},       \
      {"--logits", &(p).logits, NULL}, {                                                                 \
    "--mask", &(p).mask, NULL                                                                            \
  }
enum { TOOL_NUM_POSITION_FLAGS = 8 };

/* What --help says about them. */
extern const char tool_position_help[];

enum { TOOL_MAX_OWNED = 4 };

typedef struct tool_method {
  spindle_position position; /* its lists are `owned` here or belong to the config */
  spindle_shape shape;       /* what a config says; only bias, layout and the rotary part otherwise */
  double *owned[TOOL_MAX_OWNED];
  double partial_rotary_factor; /* share of the head dim that rotates; 0: not given */
  double scale, softcap;        /* 0: the default, none */
  bool needs_sinks;             /* the config's model has learned sinks, which only its checkpoint knows */
  tool_list slopes, p, a;       /* of the bias */
  double alibi_max, alibi_factor, alibi_alpha, alibi_slope_scale; /* 0: the default, not applied */
  tool_list sinks, ssmax;
} tool_method;

/* Applies the flags given, except config and layer_type, on top of what *method holds (zeroed or from a config). */
bool tool_method_parse(tool_method *method, const tool_position_flags *flags);
/* What `layer` needs. Its lists stay the config's. */
void tool_method_from_layer(tool_method *method, const spindle_config_layer *layer);
void tool_method_free(tool_method *method);

/* The shape for these heads and dims. Dims must be a config's own, heads need not: the positions do not depend on them. */
bool tool_method_shape(const tool_method *method, int32_t num_q_heads, int32_t num_kv_heads, int32_t head_dim_qk,
                       int32_t head_dim_v, int32_t dtype, spindle_shape *shape);

/* Per-head weights of a run, [num_q_heads] each; NULL where the method has none. From malloc. */
typedef struct tool_weights {
  float *bias_a, *bias_p, *sinks, *ssmax;
} tool_weights;
bool tool_method_weights(const tool_method *method, int32_t num_q_heads, tool_weights *weights);
void tool_weights_free(tool_weights *weights);

/* Reports the library's last error; where it is about a field of the position, with the flag that sets the field. */
int tool_fail_library(const char *what);

/* "--rope" of SPINDLE_FAMILY_ROPE, ... */
const char *tool_family_flag(int32_t family);
/* Is `name` a word of `names`, words separated by ' ' or '|'? */
bool tool_names_contain(const char *names, const char *name);

#endif
