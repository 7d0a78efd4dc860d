/* The methods that are compared, with the numbers that their authors' advice gives for a model of a certain context. */
#ifndef TINYLM_METHODS_H
#define TINYLM_METHODS_H

#include <spindle/spindle.h>

#include "weights.h"

enum {
  TINYLM_SIZED = 1,      /* its numbers depend on the longest text that it is to serve */
  TINYLM_MODEL_ALIBI = 2 /* runs on the model that was trained with ALiBi */
};

typedef struct tinylm_method {
  const char *name, *label;
  int flags;
} tinylm_method;

extern const tinylm_method tinylm_methods[];
extern const int tinylm_num_methods;

/* NULL if there is none of that name. */
const tinylm_method *tinylm_method_find(const char *name);

/* longest: the text length that sized methods are to reach; others ignore it. */
spindle_position tinylm_method_position(const tinylm_method *method, const tinylm_weights *w, int longest);

#endif
