/* What the methods promise comes out on the held-out text: at four times the trained length, with margins. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "perplexity.h"

enum { TRAINED = 256, LONG = 1024, BOOKS = 4, BOOK_BYTES = 8192 /* of each book in test.txt */ };

static tinylm_weights rope, alibi;
static tinylm_book text, books[BOOKS];

static void setup(void) {
  char message[256];
  cr_assert(tinylm_weights_open(&rope, TINYLM_DIR "/rope.bin", message), "%s", message);
  cr_assert(tinylm_weights_open(&alibi, TINYLM_DIR "/alibi.bin", message), "%s", message);
  cr_assert(tinylm_book_open(&text, TINYLM_DIR "/test.txt"));
  cr_assert_eq(text.bytes, BOOKS * BOOK_BYTES);
  for (int b = 0; b < BOOKS; b++) books[b] = (tinylm_book){text.text + b * BOOK_BYTES, BOOK_BYTES};
}

static void teardown(void) {
  tinylm_weights_close(&rope);
  tinylm_weights_close(&alibi);
  tinylm_book_close(&text);
}

static double perplexity(const char *name, int length) {
  const tinylm_method *method = tinylm_method_find(name);
  cr_assert(method, "%s", name);
  const tinylm_weights *w = method->flags & TINYLM_MODEL_ALIBI ? &alibi : &rope;
  spindle_position position = tinylm_method_position(method, w, LONG);
  tinylm_engine *e = tinylm_engine_create(w, LONG, TINYLM_CHUNK, SPINDLE_BACKEND_CPU, SPINDLE_KEYS_RAW);
  tinylm_perplexity p;
  cr_assert(e && tinylm_engine_set_position(e, &position) && tinylm_perplexity_at(e, books, BOOKS, length, LONG, 2, &p), "%s",
            tinylm_engine_error());
  tinylm_engine_destroy(e);
  return exp(p.mean);
}

static void expect_between(const char *name, int length, double least, double most) {
  double got = perplexity(name, length);
  cr_expect(got > least && got < most, "%s at %d: perplexity %g; expected %g to %g", name, length, got, least, most);
}

Test(tinylm_perplexity, methods_keep_their_promises, .init = setup, .fini = teardown) {
  static const char *const hold[] = {"rerope", "leaky-rerope", "self-extend", "dca", "streaming"};
  double plain = perplexity("rope", TRAINED);
  cr_assert(plain > 2 && plain < 3, "plain RoPE within its context: %g", plain);
  expect_between("rope", LONG, 10 * plain, INFINITY);
  expect_between("linear", TRAINED, 10 * plain, INFINITY); /* without fine-tuning */
  for (size_t h = 0; h < sizeof hold / sizeof *hold; h++) expect_between(hold[h], LONG, 0.9 * plain, 1.1 * plain);
  expect_between("dynamic-yarn", LONG, 1.05 * plain, 1.4 * plain);
  expect_between("dynamic-ntk", 2 * TRAINED, 1.05 * plain, 1.6 * plain);
  double bias = perplexity("alibi", TRAINED);
  expect_between("alibi", LONG, 0.9 * bias, 1.1 * bias);
}

Test(tinylm_perplexity, dynamic_rules_are_plain_rope_inside_the_context, .init = setup, .fini = teardown) {
  double plain = perplexity("rope", TRAINED);
  cr_expect_eq(perplexity("dynamic-ntk", TRAINED), plain);
  cr_expect_eq(perplexity("dynamic-yarn", TRAINED), plain);
  cr_expect(perplexity("dynamic-yarn", 2 * TRAINED) != perplexity("rope", 2 * TRAINED));
}
