/* Perplexity against length: what each method makes of contexts that the model was never trained on. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tinylm.h"

enum { SHORTEST = 256, MAX_LENGTHS = 16 };

typedef struct row {
  double perplexity[MAX_LENGTHS], spread[MAX_LENGTHS];
} row;

static int count_lengths(const tinylm_options *o) {
  int count = 0;
  for (int length = SHORTEST; length <= o->longest && count < MAX_LENGTHS; length *= 2) count++;
  return count;
}

/* What the numbers of a row say, against plain RoPE at the shortest length. */
static const char *verdict(const row *r, double plain, int lengths) {
  if (r->perplexity[lengths - 1] > 5 * plain) return r->perplexity[0] > 5 * plain ? "broken at every length" : "breaks";
  if (r->perplexity[0] > 1.2 * plain) return "worse on short text";
  return r->perplexity[lengths - 1] > 1.2 * plain ? "fades" : "holds";
}

/* A sized method is sized for the longest length, at all of them; with to_length for each length itself, which leaves the longest
 * as it is. */
static bool measure(const tinylm_models *models, const tinylm_options *o, const tinylm_method *method, bool to_length, row *r) {
  const tinylm_weights *w = tinylm_model_of(models, method);
  tinylm_engine *e = tinylm_start(models, method, o, o->longest, SPINDLE_KEYS_RAW);
  bool ok = e != NULL;
  for (int l = 0; ok && l < count_lengths(o) - to_length; l++) {
    int length = SHORTEST << l;
    spindle_position position = tinylm_method_position(method, w, to_length ? length : o->longest);
    tinylm_perplexity p;
    ok = (tinylm_engine_set_position(e, &position) &&
          tinylm_perplexity_at(e, o->books, o->num_books, length, o->longest, o->windows, &p)) ||
         tinylm_failed();
    r->perplexity[l] = exp(p.mean);
    r->spread[l] = p.spread;
  }
  tinylm_engine_destroy(e);
  return ok;
}

static void print_row(const tinylm_options *o, const tinylm_method *method, const char *sizing, const row *r, double plain,
                      FILE *out) {
  int lengths = count_lengths(o);
  printf("%-22s", method->label);
  for (int l = 0; l < lengths; l++) printf(" %8.3f", r->perplexity[l]);
  printf("  %s\n", verdict(r, plain, lengths));
  fflush(stdout);
  for (int l = 0; out && l < lengths; l++)
    fprintf(out, "%s\t%s\t%s\t%d\t%.4f\t%.4f\n", sizing, method->name, method->label, SHORTEST << l, r->perplexity[l],
            r->spread[l]);
}

static void print_heading(const tinylm_options *o, const char *what) {
  printf("\n%-22s", what);
  for (int l = 0; l < count_lengths(o); l++) printf(" %8d", SHORTEST << l);
  putchar('\n');
}

bool tinylm_command_table(const tinylm_models *models, const tinylm_options *o) {
  for (int b = 0; b < o->num_books; b++)
    if (o->books[b].bytes < o->longest)
      return tinylm_complain("text %d has %d bytes; --longest is %d", b + 1, o->books[b].bytes, o->longest);
  FILE *out = o->out ? fopen(o->out, "w") : NULL;
  if (o->out && !out) return tinylm_complain("%s cannot be written", o->out);
  row *rows = calloc((size_t)tinylm_num_methods, sizeof *rows);
  bool ok = rows != NULL;
  double start = tinylm_seconds();
  if (out) fputs("sizing\tmethod\tlabel\tlength\tperplexity\tstderr_nats\n", out);
  for (int pass = 0; pass < 2 && ok; pass++) {
    char heading[64];
    snprintf(heading, sizeof heading, pass ? "sized for each length" : "sized for %d", o->longest);
    print_heading(o, heading);
    for (int m = 0; m < tinylm_num_methods && ok; m++) {
      const tinylm_method *method = tinylm_methods + m;
      if (pass && !(method->flags & TINYLM_SIZED)) continue;
      ok = measure(models, o, method, pass != 0, rows + m);
      if (ok) print_row(o, method, pass ? "each" : "longest", rows + m, rows[0].perplexity[0], out);
    }
  }
  free(rows);
  if (out && fclose(out)) ok = tinylm_complain("%s cannot be written", o->out);
  if (ok) printf("\n%.0f seconds\n", tinylm_seconds() - start);
  return ok;
}

/* One window per end; the mean of each run of 256 positions. */
bool tinylm_command_position(const tinylm_models *models, const tinylm_options *o) {
  enum { BUCKET = 256 };
  const tinylm_method *method = tinylm_method_find(o->method);
  tinylm_engine *e = tinylm_start(models, method, o, o->longest, SPINDLE_KEYS_RAW);
  float *nats = malloc((size_t)o->longest * sizeof *nats);
  double *sum = calloc((size_t)o->longest / BUCKET + 1, sizeof *sum);
  bool ok = e && nats && sum;
  int count = 0;
  for (int b = 0; ok && b < o->num_books; b++)
    for (int at = 0; ok && at + o->longest <= o->books[b].bytes && at / o->longest < o->windows; at += o->longest, count++) {
      ok = tinylm_surprises(e, o->books[b].text + at, o->longest, TINYLM_CHUNK, o->longest, 1, nats + 1) || tinylm_failed();
      for (int i = 1; ok && i < o->longest; i++) sum[i / BUCKET] += nats[i];
    }
  if (ok && !count) ok = tinylm_complain("no text has %d bytes", o->longest);
  if (ok) printf("%s, %d windows of %d bytes\nposition  perplexity\n", method->label, count, o->longest);
  for (int i = 0; ok && i < o->longest; i += BUCKET) {
    int end = i + BUCKET < o->longest ? i + BUCKET : o->longest, first = i ? i : 1; /* nothing predicts byte 0 */
    printf("%8d  %10.3f\n", i, exp(sum[i / BUCKET] / count / (end - first)));
  }
  free(nats);
  free(sum);
  tinylm_engine_destroy(e);
  return ok;
}
