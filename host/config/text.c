#include <string.h>

#include "internal.h"

/* Python's json writes NaN, Infinity and -Infinity, which are no JSON. They become empty arrays: harmless under keys that nobody
 * looks at (time_step_limit of state-space models), refused as "expected a number" elsewhere. */
void spindle__json_strict(char *json) {
  static const char *const words[] = {"-Infinity", "Infinity", "NaN"};
  int in_string = 0;
  for (char *c = json; *c; c++) {
    if (*c == '"') in_string = !in_string;
    if (in_string && *c == '\\' && c[1]) c++;
    if (in_string) continue;
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
      size_t length = strlen(words[w]);
      if (strncmp(c, words[w], length) != 0) continue;
      memset(c, ' ', length);
      c[0] = '[';
      c[1] = ']';
      c += length - 1;
      break;
    }
  }
}

/* Composite configs hold that of their text decoder under one of these names, sometimes two deep. */
const cJSON *spindle__text_part(const cJSON *root, const char **model_type) {
  static const char *const names[] = {"thinker_config", "decoder", "generator", "text_config", "llm_config", "language_config"};
  const cJSON *part = root;
  *model_type = "";
  for (int depth = 0; depth < 4; depth++) {
    const cJSON *type = spindle__member(part, "model_type"), *inner = NULL;
    if (cJSON_IsString(type)) *model_type = type->valuestring;
    for (size_t k = 0; k < sizeof names / sizeof *names && !inner; k++) {
      inner = spindle__member(part, names[k]);
      if (!cJSON_IsObject(inner)) inner = NULL;
    }
    if (!inner) return part;
    part = inner;
  }
  return part;
}
