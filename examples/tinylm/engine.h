/* One text being read by one model. Every score of every layer is computed by spindle_attention, from keys that are cached as
 * the projection made them: which positions they are seen at is said anew with each call, and may change at any byte. */
#ifndef TINYLM_ENGINE_H
#define TINYLM_ENGINE_H

#include <stdint.h>

#include <spindle/spindle.h>

#include "weights.h"

typedef struct tinylm_engine tinylm_engine;

/* max_bytes: the longest text. max_chunk: the most bytes of one tinylm_read. backend: SPINDLE_BACKEND_CPU or _REFERENCE.
 * key_state: SPINDLE_KEYS_RAW; _ROTATED caches as other engines do, to show what is lost. The other descriptions mean raw keys.
 * Calls that fail return NULL or false; tinylm_engine_error() says why. The weights must outlive the engine. */
tinylm_engine *tinylm_engine_create(const tinylm_weights *w, int max_bytes, int max_chunk, int backend, int key_state);
void tinylm_engine_destroy(tinylm_engine *e);
const char *tinylm_engine_error(void);

/* How the bytes read from here on see the cache, those already in it included. Nothing in the cache changes. */
bool tinylm_engine_set_position(tinylm_engine *e, const spindle_position *position);

/* Appends `count` bytes to the text. n: the length that length-dependent rules see; 0: that of the text so far.
 * logits [num_logits][vocab] of the last num_logits of these bytes, each a prediction of the byte after. */
bool tinylm_read(tinylm_engine *e, const uint8_t *bytes, int count, int64_t n, int num_logits, float *logits);

int tinylm_engine_length(const tinylm_engine *e);
/* Forgets all but the first `length` bytes. */
void tinylm_engine_rewind(tinylm_engine *e, int length);

#endif
