#include "keys.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

static const char *const key_names[KEY_COUNT] = {
#define X(id, name) name,
    SPINDLE__KEYS(X)
#undef X
};

const char *spindle__key_name(spindle__key key) { return key_names[key]; }

void spindle__values_collect(spindle__values *values, const cJSON *object) {
  for (const cJSON *item = object ? object->child : NULL; item; item = item->next)
    for (int k = 0; k < KEY_COUNT; k++)
      if (strcmp(item->string, key_names[k]) == 0) {
        values->null[k] = cJSON_IsNull(item) ? 1 : 0;
        values->of[k] = values->null[k] ? NULL : item;
        break;
      }
}

spindle_status spindle__config_fail(spindle__reader *r, spindle_status status, const char *format, ...) {
  char text[400];
  va_list args;
  if (r->status) return r->status;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (r->layer < 0)
    spindle__config_set_error("%s", text);
  else
    spindle__config_set_error("layer %d: %s", (int)r->layer, text);
  return r->status = status;
}

double spindle__number(spindle__reader *r, const cJSON *item, const char *name, double lo, double hi, double fallback) {
  if (!item) return fallback;
  if (!cJSON_IsNumber(item))
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s: expected a number", name);
  else if (!(item->valuedouble >= lo && item->valuedouble <= hi)) /* NaN fails too */
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s is %g, expected %g..%g", name, item->valuedouble, lo, hi);
  else
    return item->valuedouble;
  return fallback;
}

int64_t spindle__integer(spindle__reader *r, const cJSON *item, const char *name, int64_t lo, int64_t hi, int64_t fallback) {
  double value = spindle__number(r, item, name, (double)lo, (double)hi, (double)fallback);
  if (item && !r->status && value != floor(value))
    spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s is %g, expected a whole number", name, value);
  return r->status ? fallback : (int64_t)value;
}

int spindle__boolean(spindle__reader *r, const cJSON *item, const char *name, int fallback) {
  if (!item) return fallback;
  if (cJSON_IsBool(item)) return cJSON_IsTrue(item);
  if (cJSON_IsNumber(item)) return item->valuedouble != 0;
  spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s: expected true or false", name);
  return fallback;
}

const char *spindle__string(spindle__reader *r, const cJSON *item, const char *name, const char *fallback) {
  if (!item) return fallback;
  if (cJSON_IsString(item)) return item->valuestring;
  spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s: expected a string", name);
  return fallback;
}

const cJSON *spindle__of_layer(spindle__reader *r, const cJSON *item, const char *name) {
  const cJSON *entry;
  if (!cJSON_IsArray(item)) return NULL;
  entry = cJSON_GetArrayItem(item, r->layer); /* may be null: absent */
  if (!entry) spindle__config_fail(r, SPINDLE_INVALID_ARGUMENT, "%s has %d entries", name, cJSON_GetArraySize(item));
  return entry && !cJSON_IsNull(entry) ? entry : NULL;
}

const cJSON *spindle__member(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
  return item && !cJSON_IsNull(item) ? item : NULL;
}

double spindle__key_number(spindle__reader *r, spindle__key key, double lo, double hi, double fallback) {
  return spindle__number(r, r->values.of[key], key_names[key], lo, hi, fallback);
}

int64_t spindle__key_integer(spindle__reader *r, spindle__key key, int64_t lo, int64_t hi, int64_t fallback) {
  return spindle__integer(r, r->values.of[key], key_names[key], lo, hi, fallback);
}

int spindle__key_boolean(spindle__reader *r, spindle__key key, int fallback) {
  return spindle__boolean(r, r->values.of[key], key_names[key], fallback);
}

int64_t spindle__first_integer(spindle__reader *r, const spindle__key *keys, int64_t lo, int64_t hi, int64_t fallback) {
  for (; *keys != KEY_COUNT; keys++)
    if (r->values.of[*keys]) return spindle__key_integer(r, *keys, lo, hi, fallback);
  return fallback;
}

int64_t spindle__default(const spindle__reader *r, spindle__key key, int64_t family_default) {
  return r->values.null[key] ? 0 : family_default;
}
