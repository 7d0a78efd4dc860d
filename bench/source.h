/* Where a method comes from: POSITION flags, alone or on top of a layer of a config. */
#ifndef SPINDLE_BENCH_SOURCE_H
#define SPINDLE_BENCH_SOURCE_H

#include "method.h"

/* *config is NULL without --config; the caller destroys it after the method. Layers that differ need --layer-type. */
bool tool_method_load(tool_method *method, spindle_config **config, const tool_position_flags *flags);

bool tool_config_open(spindle_config **config, const char *path);
bool tool_config_layer(const spindle_config *config, int32_t layer, spindle_config_layer *out);
/* Do two layers ask the same of an attention call? */
bool tool_layers_equal(const spindle_config_layer *x, const spindle_config_layer *y);

#endif
