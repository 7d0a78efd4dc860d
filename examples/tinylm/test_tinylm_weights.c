/* A weight file is refused, with a message that names what is wrong, unless all of it makes sense. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights.h"

static unsigned char *data;
static size_t bytes;
static char path[] = "/tmp/tinylm-weights-XXXXXX";

static void setup(void) {
  FILE *file = fopen(TINYLM_DIR "/rope.bin", "rb");
  data = malloc(1 << 23);
  cr_assert(file && data);
  bytes = fread(data, 1, 1 << 23, file);
  fclose(file);
  int descriptor = mkstemp(path);
  cr_assert(descriptor >= 0);
  close(descriptor);
}

static void teardown(void) {
  unlink(path);
  free(data);
}

static void put_u32(size_t at, unsigned value) {
  for (int b = 0; b < 4; b++) data[at + (size_t)b] = (unsigned char)(value >> 8 * b);
}

static bool open_first(size_t count, char message[256]) {
  tinylm_weights w;
  FILE *file = fopen(path, "wb");
  cr_assert(file && fwrite(data, 1, count, file) == count && !fclose(file));
  message[0] = '\0';
  bool ok = tinylm_weights_open(&w, path, message);
  cr_assert_eq(ok, message[0] == '\0');
  if (ok) tinylm_weights_close(&w);
  return ok;
}

static void expect_refusal(size_t count, const char *says) {
  char message[256];
  cr_assert(!open_first(count, message), "accepted; expected '%s'", says);
  cr_assert(strstr(message, says), "'%s' does not say '%s'", message, says);
}

Test(tinylm_weights, whole_file_is_read, .init = setup, .fini = teardown) {
  tinylm_weights w;
  char message[256];
  cr_assert(tinylm_weights_open(&w, TINYLM_DIR "/rope.bin", message), "%s", message);
  cr_expect(w.position == TINYLM_ROPE && w.context == 256 && w.width == 256 && w.rope_theta == 10000);
  tinylm_weights_close(&w);
  cr_assert(tinylm_weights_open(&w, TINYLM_DIR "/alibi.bin", message), "%s", message);
  cr_expect(w.position == TINYLM_ALIBI);
  tinylm_weights_close(&w);
}

Test(tinylm_weights, wrong_lengths_are_refused, .init = setup, .fini = teardown) {
  expect_refusal(0, "shorter than a header");
  expect_refusal(63, "shorter than a header");
  expect_refusal(64, "need");
  expect_refusal(bytes / 2, "need");
  expect_refusal(bytes - 1, "need");
  expect_refusal(bytes + 1, "need");
}

Test(tinylm_weights, no_file_is_refused) {
  tinylm_weights w;
  char message[256] = "";
  cr_assert(!tinylm_weights_open(&w, "/nonexistent/rope.bin", message) && message[0]);
  message[0] = '\0';
  cr_assert(!tinylm_weights_open(&w, "/tmp", message) && message[0]);
}

Test(tinylm_weights, hostile_headers_are_refused, .init = setup, .fini = teardown) {
  static const char *const names[] = {"version", "position", "vocab",    "layers", "width",
                                      "heads",   "kv_heads", "head_dim", "hidden", "context"};
  static const unsigned values[] = {0xffffffffu, 0x7fffffffu, 0x80000000u};
  unsigned char header[64];
  memcpy(header, data, sizeof header);
  for (size_t f = 0; f < sizeof names / sizeof *names; f++)
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
      put_u32(8 + 4 * f, values[v]);
      expect_refusal(bytes, names[f]);
      memcpy(data, header, sizeof header);
    }
  put_u32(28, 3); /* heads, of 2 kv_heads */
  expect_refusal(bytes, "cannot share");
  memcpy(data, header, sizeof header);
  put_u32(36, 66);
  expect_refusal(bytes, "multiple of 4");
  memcpy(data, header, sizeof header);
  put_u32(40, 367); /* hidden */
  expect_refusal(bytes, "parameters");
  memcpy(data, header, sizeof header);
  put_u32(56, 0x7fc00000u); /* NaN */
  expect_refusal(bytes, "rope_theta");
  memcpy(data, header, sizeof header);
  put_u32(60, 0xbf800000u); /* -1 */
  expect_refusal(bytes, "norm_eps");
  memcpy(data, header, sizeof header);
  data[0] = 't';
  expect_refusal(bytes, "TINYLM");
}

Test(tinylm_weights, any_flipped_header_byte_is_survived, .init = setup, .fini = teardown) {
  char message[256];
  for (size_t b = 0; b < 64; b++) {
    data[b] ^= 0xff;
    open_first(bytes, message);
    data[b] ^= 0xff;
  }
}

Test(tinylm_weights, weights_that_are_not_finite_are_refused, .init = setup, .fini = teardown) {
  static const size_t at[] = {64, 1000000};
  for (size_t a = 0; a < 2; a++) {
    unsigned char was[2] = {data[at[a]], data[at[a] + 1]};
    data[at[a]] = 0x80; /* infinity in bf16 */
    data[at[a] + 1] = 0x7f;
    expect_refusal(bytes, "not finite");
    memcpy(data + at[a], was, sizeof was);
  }
}
