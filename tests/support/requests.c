#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attend.h"

void test_ok(spindle_status status) {
  cr_assert_eq(status, SPINDLE_OK, "%s: %s", spindle_status_name(status), spindle_last_error());
}

void *test_memory(size_t bytes) {
  void *memory = NULL;
  cr_assert_eq(posix_memalign(&memory, 256, bytes ? bytes : 1), 0);
  memset(memory, 0xff, bytes);
  return memory;
}

spindle_shape test_shape(spindle_shape s) {
  s.struct_size = sizeof s;
  if (!s.q_dtype) s.q_dtype = SPINDLE_F32;
  if (!s.kv_dtype) s.kv_dtype = s.q_dtype;
  if (!s.o_dtype) s.o_dtype = s.q_dtype;
  if (!s.num_kv_heads) s.num_kv_heads = s.num_q_heads;
  if (!s.head_dim_v) s.head_dim_v = s.head_dim_qk;
  return s;
}

static float *normals(test_random *r, int64_t count, float spread) {
  float *x = malloc((size_t)(count ? count : 1) * sizeof *x);
  for (int64_t i = 0; i < count; i++) x[i] = spread * (float)test_random_normal(r);
  return x;
}

static void make_results(test_request *q, const spindle_shape *s) {
  size_t rows = (size_t)q->q_len * (size_t)s->num_q_heads;
  q->o = malloc((rows * (size_t)s->head_dim_v + 1) * sizeof *q->o);
  q->lse = malloc((rows + 1) * sizeof *q->lse);
}

test_request test_request_make(test_random *r, const spindle_shape *shape, spindle_position position, int32_t q_len,
                               int32_t kv_len, float spread) {
  spindle_shape s = test_shape(*shape);
  test_request q = {.position = position, .q_len = q_len, .kv_len = kv_len};
  q.q = normals(r, (int64_t)q_len * s.num_q_heads * s.head_dim_qk, spread);
  q.k = normals(r, (int64_t)kv_len * s.num_kv_heads * s.head_dim_qk, 1);
  q.v = normals(r, (int64_t)kv_len * s.num_kv_heads * s.head_dim_v, 1);
  make_results(&q, &s);
  test_request_at_end(&q);
  return q;
}

void test_request_at_end(test_request *q) { q->q_index = q->kv_index + q->kv_len - q->q_len; }

void test_request_free(test_request *q) {
  float *all[] = {q->q, q->k, q->v, q->o, q->lse};
  for (size_t a = 0; a < sizeof all / sizeof *all; a++) free(all[a]);
}

static float *duplicate(const float *from, int64_t count) {
  float *x = malloc((size_t)(count ? count : 1) * sizeof *x);
  memcpy(x, from, (size_t)count * sizeof *x);
  return x;
}

test_request test_request_copy(const test_request *from, const spindle_shape *shape) {
  spindle_shape s = test_shape(*shape);
  test_request q = *from;
  q.q = duplicate(from->q, (int64_t)q.q_len * s.num_q_heads * s.head_dim_qk);
  q.k = duplicate(from->k, (int64_t)q.kv_len * s.num_kv_heads * s.head_dim_qk);
  q.v = duplicate(from->v, (int64_t)q.kv_len * s.num_kv_heads * s.head_dim_v);
  make_results(&q, &s);
  return q;
}

/* Four roundings of a float: an LSE of -300 is not good to 3e-5. */
#define FLOAT_SLACK 0x1p-22

static double difference(float got, float want) {
  if (got == want) return 0; /* infinities too */
  return isfinite(got) && isfinite(want) ? fabs((double)got - (double)want) : INFINITY;
}

void test_close(const char *what, const float *got, const float *want, int64_t rows, int64_t heads, int64_t dim,
                double tolerance) {
  int64_t worst = -1;
  double most = 0;
  for (int64_t x = 0; x < rows * heads * dim; x++) {
    double over = difference(got[x], want[x]) - tolerance - FLOAT_SLACK * fabs((double)want[x]);
    if (over > most) {
      most = over;
      worst = x;
    }
  }
  cr_assert(worst < 0, "%s: row %lld, head %lld, channel %lld is %.9g, not %.9g: off by %.3g more than %.3g", what,
            (long long)(worst / dim / heads), (long long)(worst / dim % heads), (long long)(worst % dim),
            (double)got[worst < 0 ? 0 : worst], (double)want[worst < 0 ? 0 : worst], most, tolerance);
}

void test_same_bits(const char *what, const float *got, const float *want, int64_t count) {
  for (int64_t x = 0; x < count; x++)
    cr_assert(!memcmp(&got[x], &want[x], sizeof *got), "%s: element %lld is %.9g, not the same bits as %.9g", what, (long long)x,
              (double)got[x], (double)want[x]);
}

void test_requests_close(const char *what, const spindle_shape *shape, const test_request *got, const test_request *want,
                         double tolerance) {
  spindle_shape s = test_shape(*shape);
  char text[300];
  snprintf(text, sizeof text, "%s: LSE", what);
  test_close(text, got->lse, want->lse, got->q_len, s.num_q_heads, 1, tolerance);
  snprintf(text, sizeof text, "%s: O", what);
  test_close(text, got->o, want->o, got->q_len, s.num_q_heads, s.head_dim_v, tolerance);
}

void test_requests_same(const char *what, const spindle_shape *shape, const test_request *got, const test_request *want) {
  spindle_shape s = test_shape(*shape);
  char text[300];
  snprintf(text, sizeof text, "%s: LSE", what);
  test_same_bits(text, got->lse, want->lse, (int64_t)got->q_len * s.num_q_heads);
  snprintf(text, sizeof text, "%s: O", what);
  test_same_bits(text, got->o, want->o, (int64_t)got->q_len * s.num_q_heads * s.head_dim_v);
}
