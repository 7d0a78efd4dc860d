/* Lists of numbers: read once, shared by the layers, owned by the config. */
#include <stdlib.h>

#include "internal.h"

double *spindle__config_new_list(spindle__reader *r, spindle_config *config, const void *source, int32_t count) {
  spindle__list *list;
  for (list = config->lists; list; list = list->next)
    if (list->source == source && list->count == count) return list->values;
  list = malloc(sizeof *list + (size_t)count * sizeof *list->values);
  if (!list) {
    spindle__config_fail(r, SPINDLE_OUT_OF_MEMORY, "out of memory");
    return NULL;
  }
  *list = (spindle__list){config->lists, source, count};
  config->lists = list;
  return list->values;
}

const double *spindle__config_list(spindle__reader *r, spindle_config *config, const cJSON *item, const char *name,
                                   int32_t count) {
  double *values;
  int32_t k = 0;
  if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != count) {
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s: expected a list of %d numbers", name, (int)count);
    return NULL;
  }
  values = spindle__config_new_list(r, config, item, count);
  for (const cJSON *entry = item->child; entry && values; entry = entry->next)
    values[k++] = spindle__number(r, cJSON_IsNull(entry) ? item : entry, name, 1e-6, 1e12, 1);
  return values;
}
