/* Inside host/: the registry with what validation needs beyond the public view. */
#ifndef SPINDLE_HOST_REGISTRY_H
#define SPINDLE_HOST_REGISTRY_H

#include "internal.h"

/* The range of a parameter that is given (not 0); for flags 0..1. */
typedef struct spindle__range {
  double low, high;
  bool open_low; /* low itself is outside */
} spindle__range;

const spindle__range *spindle__parameter_range(const spindle_parameter *parameter);

/* The method of this family and kind; for BIAS the plain one. NULL: no such kind. */
const spindle_method *spindle__method_of_kind(int32_t family, int32_t kind);

/* What `position` says of a parameter: 0 where it is not given. A list gives 1 if its pointer is set. */
double spindle__parameter_value(const spindle_parameter *parameter, const spindle_position *position);

/* Whether `names` (separated by spaces or '|') holds `name`. */
bool spindle__names_contain(const char *names, const char *name);

#endif
