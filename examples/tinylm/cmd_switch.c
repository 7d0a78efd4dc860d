/* The rule changes in mid-text. A prefix is read under one method and cached; what follows is read byte by byte under another:
 *   stay       no change
 *   switch     the cache is read under the new method from the next byte on; nothing is computed again
 *   recompute  the prefix is read again under the new method: what a switch would have to equal
 *   rotated    as switch, but the cache holds rotated keys, so the prefix keeps the positions of the old method
 * Values and the keys of deeper layers depend on what the layers below saw: no cache undoes that, and switch need not equal
 * recompute. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "layers.h"
#include "tinylm.h"

enum { VOCAB = 256 };

typedef struct passage {
  const uint8_t *text;
  int prefix, tail; /* bytes */
} passage;

/* The prefix but its last byte under `from`, then on under `to`: nats of the tail's bytes, summed. seconds: of the prefix. */
static bool read_passage(tinylm_engine *e, const passage *p, const spindle_position *from, const spindle_position *to,
                         double *nats, double *seconds) {
  float logits[VOCAB];
  double start = tinylm_seconds();
  tinylm_engine_rewind(e, 0);
  if (!tinylm_engine_set_position(e, from)) return false;
  for (int at = 0, count; at < p->prefix - 1; at += count) {
    count = p->prefix - 1 - at < TINYLM_CHUNK ? p->prefix - 1 - at : TINYLM_CHUNK;
    if (!tinylm_read(e, p->text + at, count, p->prefix, 0, logits)) return false;
  }
  *seconds += tinylm_seconds() - start;
  if (!tinylm_engine_set_position(e, to)) return false;
  for (int at = p->prefix - 1; at < p->prefix + p->tail - 1; at++) {
    if (!tinylm_read(e, p->text + at, 1, p->prefix + p->tail, 1, logits)) return false;
    *nats += tinylm_surprise(logits, VOCAB, p->text[at + 1]);
  }
  return true;
}

/* Rotated keys serve no remap that moves keys, and bake no length in. */
static bool can_rotate(const spindle_position *p) {
  return p->remap == SPINDLE_REMAP_NONE && p->rope != SPINDLE_ROPE_DYNAMIC_NTK && p->rope != SPINDLE_ROPE_DYNAMIC_YARN;
}

static bool measure(const tinylm_options *o, const tinylm_weights *w, int key_state, const spindle_position *from,
                    const spindle_position *to, double *perplexity, double *seconds) {
  tinylm_engine *e = tinylm_engine_create(w, o->length + o->bytes, TINYLM_CHUNK, o->backend, key_state);
  bool ok = e != NULL;
  double nats = 0;
  int count = 0;
  *seconds = 0;
  for (int b = 0; ok && b < o->num_books; b++)
    for (int k = 0; ok && k < o->windows && (k + 1) * (o->length + o->bytes) <= o->books[b].bytes; k++, count++) {
      passage p = {o->books[b].text + k * (o->length + o->bytes), o->length, o->bytes};
      ok = read_passage(e, &p, from, to, &nats, seconds);
    }
  if (!ok) tinylm_failed();
  if (ok && !count) ok = tinylm_complain("no text has %d bytes", o->length + o->bytes);
  *perplexity = exp(nats / count / o->bytes);
  *seconds /= count;
  tinylm_engine_destroy(e);
  return ok;
}

bool tinylm_command_switch(const tinylm_models *models, const tinylm_options *o) {
  const tinylm_method *old_method = tinylm_method_find(o->from), *new_method = tinylm_method_find(o->to);
  const tinylm_weights *w = &models->rope;
  double stay, switched, recomputed, rotated, seconds, unused;
  if ((old_method->flags | new_method->flags) & TINYLM_MODEL_ALIBI)
    return tinylm_complain("%s and %s are of different models", o->from, o->to);
  spindle_position from = tinylm_method_position(old_method, w, o->from_longest),
                   to = tinylm_method_position(new_method, w, o->longest);
  if (!measure(o, w, SPINDLE_KEYS_RAW, &from, &from, &stay, &unused) ||
      !measure(o, w, SPINDLE_KEYS_RAW, &from, &to, &switched, &unused) ||
      !measure(o, w, SPINDLE_KEYS_RAW, &to, &to, &recomputed, &seconds))
    return false;
  printf("%s -> %s after %d bytes; perplexity of the next %d\n", old_method->label, new_method->label, o->length, o->bytes);
  printf("  stay       %9.3f\n  switch     %9.3f   nothing computed again\n  recompute  %9.3f   %.0f ms for the prefix\n", stay,
         switched, recomputed, seconds * 1e3);
  if (can_rotate(&from) && can_rotate(&to)) {
    if (!measure(o, w, SPINDLE_KEYS_ROTATED, &from, &to, &rotated, &unused)) return false;
    printf("  rotated    %9.3f   as switch, from a cache of rotated keys\n", rotated);
  }
  return true;
}
