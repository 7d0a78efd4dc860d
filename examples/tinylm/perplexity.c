#include "perplexity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "layers.h"

enum { VOCAB = 256 };

bool tinylm_book_open(tinylm_book *b, const char *path) {
  enum { MOST = 1 << 26 };
  FILE *file = fopen(path, "rb");
  *b = (tinylm_book){.text = malloc(MOST)};
  if (file && b->text) b->bytes = (int)fread(b->text, 1, MOST, file);
  if (file) fclose(file);
  if (!b->bytes) tinylm_book_close(b);
  return b->bytes > 0;
}

void tinylm_book_close(tinylm_book *b) {
  free(b->text);
  *b = (tinylm_book){0};
}

bool tinylm_surprises(tinylm_engine *e, const uint8_t *text, int length, int chunk, int64_t n, int from, float *nats) {
  float *logits = malloc((size_t)chunk * VOCAB * sizeof *logits);
  bool ok = logits != NULL;
  tinylm_engine_rewind(e, 0);
  for (int at = 0; ok && at < length - 1; at += chunk) {
    int count = length - 1 - at < chunk ? length - 1 - at : chunk;
    int first = from - 1 > at ? from - 1 : at, wanted = at + count > first ? at + count - first : 0;
    ok = tinylm_read(e, text + at, count, n, wanted, logits);
    for (int i = 0; ok && i < wanted; i++) /* logits after byte first + i predict the byte after it */
      nats[first + i + 1 - from] = (float)tinylm_surprise(logits + (size_t)i * VOCAB, VOCAB, text[first + i + 1]);
  }
  free(logits);
  return ok;
}

bool tinylm_perplexity_at(tinylm_engine *e, const tinylm_book *books, int num_books, int length, int longest, int windows,
                          tinylm_perplexity *out) {
  double sum = 0, squares = 0;
  int count = 0;
  for (int b = 0; b < num_books; b++) {
    int room = books[b].bytes - longest, fit = room / TINYLM_SCORED + 1, here = fit < windows ? fit : windows;
    for (int w = 0; room >= 0 && w < here; w++, count++) {
      int end = longest + (here > 1 ? (int)((int64_t)room * w / (here - 1)) : 0);
      float nats[TINYLM_SCORED];
      double mean = 0;
      if (!tinylm_surprises(e, books[b].text + end - length, length, TINYLM_CHUNK, length, length - TINYLM_SCORED, nats))
        return false;
      for (int i = 0; i < TINYLM_SCORED; i++) mean += nats[i] / TINYLM_SCORED;
      sum += mean;
      squares += mean * mean;
    }
  }
  *out = (tinylm_perplexity){.mean = sum / count, .windows = count};
  if (count > 1) out->spread = sqrt(fmax(squares / count - out->mean * out->mean, 0) / (count - 1));
  return count > 0;
}
