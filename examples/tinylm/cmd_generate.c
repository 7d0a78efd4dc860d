/* Text of the model's own, a byte at a time. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tinylm.h"

enum { VOCAB = 256 };

/* xorshift64*: [0, 1). */
static double random_unit(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (double)(*state * 0x2545f4914f6cdd1dull >> 11) * 0x1p-53;
}

static uint8_t sample(const float *logits, double temperature, uint64_t *state) {
  double weight[VOCAB], sum = 0;
  int best = 0;
  for (int c = 1; c < VOCAB; c++) best = logits[c] > logits[best] ? c : best;
  if (temperature == 0) return (uint8_t)best;
  for (int c = 0; c < VOCAB; c++) sum += weight[c] = exp((double)(logits[c] - logits[best]) / temperature);
  double left = random_unit(state) * sum;
  for (int c = 0; c < VOCAB; c++)
    if ((left -= weight[c]) < 0) return (uint8_t)c;
  return (uint8_t)best;
}

bool tinylm_command_generate(const tinylm_models *models, const tinylm_options *o) {
  int prompt_bytes = (int)strlen(o->prompt), at = 0;
  uint64_t state = (uint64_t)o->seed * 0x9e3779b97f4a7c15ull;
  float logits[VOCAB];
  tinylm_engine *e = tinylm_start(models, tinylm_method_find(o->method), o, prompt_bytes + o->bytes, SPINDLE_KEYS_RAW);
  bool ok = e != NULL;
  if (ok && !prompt_bytes) ok = tinylm_complain("--prompt is empty");
  for (int count; ok && at < prompt_bytes; at += count) {
    count = prompt_bytes - at < TINYLM_CHUNK ? prompt_bytes - at : TINYLM_CHUNK;
    ok = tinylm_read(e, (const uint8_t *)o->prompt + at, count, 0, 1, logits) || tinylm_failed();
  }
  if (ok) fputs(o->prompt, stdout);
  double start = tinylm_seconds();
  for (int b = 0; ok && b < o->bytes; b++) {
    uint8_t next = sample(logits, o->temperature, &state);
    putchar(next);
    ok = tinylm_read(e, &next, 1, 0, 1, logits) || tinylm_failed();
  }
  if (ok) printf("\n\n%d bytes, %.1f ms each\n", o->bytes, (tinylm_seconds() - start) / o->bytes * 1e3);
  tinylm_engine_destroy(e);
  return ok;
}
