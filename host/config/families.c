#include "families.h"

#include <string.h>

static const spindle__family unnamed = {.names = ""};

static const spindle__family families[] = {
#include "families.def"
};

/* Is `name` one of the words of `names`? */
static int has_word(const char *names, const char *name) {
  size_t length = strlen(name);
  for (const char *word = names; *word; word += word[0] == ' ') {
    size_t word_length = strcspn(word, " ");
    if (word_length == length && memcmp(word, name, length) == 0) return 1;
    word += word_length;
  }
  return 0;
}

const spindle__family *spindle__family_find(const char *model_type) {
  if (!*model_type) return &unnamed;
  for (size_t k = 0; k < sizeof families / sizeof *families; k++)
    if (has_word(families[k].names, model_type)) return &families[k];
  return NULL;
}
