/* How surprised a model is by a text. */
#ifndef TINYLM_PERPLEXITY_H
#define TINYLM_PERPLEXITY_H

#include "engine.h"
#include "methods.h"

typedef struct tinylm_book {
  uint8_t *text;
  int bytes;
} tinylm_book;

bool tinylm_book_open(tinylm_book *b, const char *path);
void tinylm_book_close(tinylm_book *b);

/* Reads text[0 .. length - 1) from an empty cache in chunks of at most `chunk`, and gives nats[i] = -ln p(text[from + i]) for the
 * bytes from `from` >= 1 to the last. n: what length-dependent rules see in every chunk, 0: the text so far. */
bool tinylm_surprises(tinylm_engine *e, const uint8_t *text, int length, int chunk, int64_t n, int from, float *nats);

/* Perplexity at a length: of the last TINYLM_SCORED bytes of windows of `length` bytes of a book, each from an empty cache.
 * Windows of different lengths end at the same bytes, so they predict the same bytes and only the context differs: the ends of
 * `windows` windows of `longest` bytes, spread evenly over each book. */
enum { TINYLM_SCORED = 128, TINYLM_CHUNK = 512 };

typedef struct tinylm_perplexity {
  double mean;   /* nats per byte; perplexity = exp(mean) */
  double spread; /* standard error of the mean, from the windows' means */
  int windows;
} tinylm_perplexity;

bool tinylm_perplexity_at(tinylm_engine *e, const tinylm_book *books, int num_books, int length, int longest, int windows,
                          tinylm_perplexity *out);

#endif
