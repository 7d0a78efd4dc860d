/* What the commands of tinylm share. */
#ifndef TINYLM_TINYLM_H
#define TINYLM_TINYLM_H

#include "engine.h"
#include "methods.h"
#include "perplexity.h"

enum { TINYLM_MAX_BOOKS = 16 };

typedef struct tinylm_options {
  const char *weights;            /* folder of rope.bin and alibi.bin */
  const char *method, *from, *to; /* names of methods */
  const char *prompt, *out;
  int longest, windows;
  int from_longest; /* what a sized method before the switch is sized for */
  int length, bytes, seed, backend;
  double temperature;
  tinylm_book books[TINYLM_MAX_BOOKS];
  int num_books;
} tinylm_options;

typedef struct tinylm_models {
  tinylm_weights rope, alibi;
} tinylm_models;

static inline const tinylm_weights *tinylm_model_of(const tinylm_models *m, const tinylm_method *method) {
  return method->flags & TINYLM_MODEL_ALIBI ? &m->alibi : &m->rope;
}

/* Each prints its result, or one line on stderr that says what failed. */
bool tinylm_command_table(const tinylm_models *models, const tinylm_options *o);
bool tinylm_command_position(const tinylm_models *models, const tinylm_options *o);
bool tinylm_command_switch(const tinylm_models *models, const tinylm_options *o);
bool tinylm_command_generate(const tinylm_models *models, const tinylm_options *o);

/* An engine that sees the cache by `method`. NULL: told on stderr. */
tinylm_engine *tinylm_start(const tinylm_models *models, const tinylm_method *method, const tinylm_options *o, int max_bytes,
                            int key_state);
/* One line on stderr; tinylm_failed: the engine's last error. Always false. */
__attribute__((format(printf, 1, 2))) bool tinylm_complain(const char *format, ...);
bool tinylm_failed(void);
double tinylm_seconds(void);

#endif
