/* spindle attend: attention over .npy tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "convert.h"
#include "npy.h"
#include "output.h"
#include "source.h"
#include "tool.h"

const char tool_attend_help[] =
    "spindle attend POSITION --q q.npy --k k.npy --v v.npy --out o.npy [--lse l.npy] [--dtype f32|f16|bf16]\n"
    "               [--q-offset P] [--backend auto|cpu|cuda|reference] [--json]\n"
    "\n"
    "Tensors are float32 in C order: q [B, Nq, Hq, D], k and v [B, Nk, Hkv, D]; out is like q, lse [B, Hq, Nq]\n"
    "(natural log). Key row r has index r, query row r has index P + r (default: the last query row is at the last\n"
    "key). Rules that depend on the length see Nk. --dtype rounds the inputs and runs in that type; cuda serves f16\n"
    "and bf16, auto takes the CPU for what the GPU does not serve.\n"
    "Example: spindle attend --rope default --remap rerope:window=512 --q q.npy --k k.npy --v v.npy --out o.npy\n";

typedef struct attend_flags {
  tool_position_flags position;
  const char *q, *k, *v, *out, *lse, *dtype, *q_offset, *backend;
  bool json;
} attend_flags;

typedef struct tensors {
  npy_array q, k, v, o, lse;
} tensors;

/* ---- Inputs: shapes first, then one tensor at a time, so that no two copies of all of them are held ---- */

static bool fail_tensor(const char *flag, const char *path, const npy_error *error) {
  tool_fail("%s: got '%s', expected a .npy file of float32: %s", flag, path, error->text);
  return false;
}

static bool read_shape(const char *flag, const char *path, npy_array *array) {
  npy_error error;
  if (!npy_read_shape(path, array, &error)) return fail_tensor(flag, path, &error);
  if (array->rank != 4) return tool_fail("%s: got '%s' of %d dimensions, expected 4", flag, path, array->rank), false;
  for (int d = 0; d < 4; d++) {
    int64_t size = array->shape[d], most = d < 2 ? 1 << 30 : 4096;
    if (size < 1 || size > most)
      return tool_fail("%s: got '%s' with dimension %d of %lld, expected one in [1, %lld]", flag, path, d, (long long)size,
                       (long long)most),
             false;
  }
  return true;
}

static bool load_tensor(tool_call *call, int32_t tensor, const char *flag, const char *path, const npy_array *expected) {
  npy_array array;
  npy_error error;
  if (!npy_read(path, &array, &error)) return fail_tensor(flag, path, &error);
  bool good = array.rank == expected->rank && !memcmp(array.shape, expected->shape, sizeof array.shape);
  if (!good) tool_fail("%s: got '%s', which changed while it was read, expected it not to", flag, path);
  good = good && tool_call_load(call, tensor, array.data);
  free(array.data);
  return good;
}

static bool check_dimension(const char *flag, const char *what, int64_t got, int64_t expected) {
  if (got == expected) return true;
  tool_fail("%s: got %lld %s, expected %lld", flag, (long long)got, what, (long long)expected);
  return false;
}

static bool check_shapes(const tensors *t) {
  const int64_t *q = t->q.shape, *k = t->k.shape, *v = t->v.shape;
  if (!check_dimension("--k", "requests", k[0], q[0]) || !check_dimension("--v", "requests", v[0], q[0])) return false;
  if (!check_dimension("--v", "keys", v[1], k[1]) || !check_dimension("--v", "heads", v[2], k[2])) return false;
  if (!check_dimension("--k", "channels", k[3], q[3])) return false;
  if (q[0] > 65536) return tool_fail("--q: got %lld requests, expected at most 65536", (long long)q[0]), false;
  if (q[0] * q[1] > 1 << 30) return tool_fail("--q: got %lld rows, expected at most 2^30", (long long)(q[0] * q[1])), false;
  if (q[3] > 512 || v[3] > 512)
    return tool_fail("--q: got %lld channels, expected at most 512", (long long)(q[3] > 512 ? q[3] : v[3])), false;
  if (q[2] % k[2])
    return tool_fail("--q: got %lld heads, expected a multiple of the %lld of --k", (long long)q[2], (long long)k[2]), false;
  return true;
}

/* ---- Run ---- */

static bool take_output(npy_array *array, int32_t rank, int64_t a, int64_t b, int64_t c, int64_t d) {
  *array = (npy_array){.rank = rank, .shape = {a, b, c, d}, .count = a * b * c * d};
  array->data = malloc((size_t)array->count * sizeof *array->data);
  return array->data || (tool_fail("--out: no memory for %lld elements", (long long)array->count), false);
}

/* [B][Nq][Hq] to [B][Hq][Nq]. */
static void transpose(float *out, const float *in, const int64_t *q_shape) {
  int64_t rows = q_shape[1], heads = q_shape[2];
  for (int64_t b = 0; b < q_shape[0]; b++)
    for (int64_t r = 0; r < rows; r++)
      for (int64_t h = 0; h < heads; h++) out[(b * heads + h) * rows + r] = in[(b * rows + r) * heads + h];
}

static bool fetch(tool_call *call, tensors *t) {
  const int64_t *q = t->q.shape;
  tool_call_drop_inputs(call);
  if (!take_output(&t->o, 4, q[0], q[1], q[2], t->v.shape[3]) || !take_output(&t->lse, 3, q[0], q[2], q[1], 1)) return false;
  float *lse = malloc((size_t)t->lse.count * sizeof *lse);
  if (!lse) return tool_fail("--lse: no memory for %lld elements", (long long)t->lse.count), false;
  bool good = tool_call_fetch(call, t->o.data, lse);
  if (good) transpose(t->lse.data, lse, q);
  free(lse);
  return good;
}

/* Auto is the GPU where there is one and it serves the tensors, else the CPU. */
static bool open_context(const attend_flags *f, const spindle_shape *shape, spindle_context **context) {
  bool automatic = !f->backend || !strcmp(f->backend, "auto");
  if (!tool_context_open(context, f->backend, 0)) return false;
  if (!automatic || tool_context_serves(*context, shape) == SPINDLE_OK) return true;
  spindle_context_destroy(*context);
  *context = NULL;
  return tool_context_open(context, "cpu", 0);
}

static bool run(spindle_context *context, const attend_flags *f, const tool_method *method, const spindle_shape *shape,
                int64_t q_index, tensors *t) {
  const int64_t *q = t->q.shape, *v = t->v.shape;
  tool_call call = {0};
  tool_problem problem = {
      .requests = (int32_t)q[0], .q_len = (int32_t)q[1], .kv_len = (int32_t)v[1], .q_index = q_index, .n = v[1]};
  bool good = tool_call_open(&call, context, method, shape, &problem, SPINDLE_SCHEDULE_AUTO) &&
              load_tensor(&call, TOOL_Q, "--q", f->q, &t->q) && load_tensor(&call, TOOL_K, "--k", f->k, &t->k) &&
              load_tensor(&call, TOOL_V, "--v", f->v, &t->v) && tool_call_run(&call) && fetch(&call, t);
  tool_call_close(&call);
  return good;
}

/* ---- Outputs: both or none ---- */

static bool write_outputs(const attend_flags *f, const tensors *t) {
  npy_error error;
  if (!npy_write(f->out, &t->o, &error))
    return tool_fail("--out: got '%s', expected a file to write: %s", f->out, error.text), false;
  if (f->lse && !npy_write(f->lse, &t->lse, &error)) {
    npy_discard(f->out);
    return tool_fail("--lse: got '%s', expected a file to write: %s", f->lse, error.text), false;
  }
  if (!npy_publish(f->out, &error)) {
    npy_discard(f->out);
    if (f->lse) npy_discard(f->lse);
    return tool_fail("--out: got '%s', expected a file to write: %s", f->out, error.text), false;
  }
  if (f->lse && !npy_publish(f->lse, &error)) {
    npy_discard(f->lse);
    remove(f->out);
    return tool_fail("--lse: got '%s', expected a file to write: %s", f->lse, error.text), false;
  }
  return true;
}

static void print_summary(const attend_flags *f, spindle_context *context, const tensors *t) {
  spindle_context_info info = {.struct_size = sizeof info};
  const int64_t *q = t->q.shape, *k = t->k.shape;
  spindle_context_get_info(context, &info);
  if (f->json) {
    tool_json json = {.file = stdout};
    tool_json_open(&json, NULL, '{');
    tool_json_string(&json, "backend", tool_backend_names[info.backend]);
    tool_json_string(&json, "out", f->out);
    if (f->lse) tool_json_string(&json, "lse", f->lse);
    tool_json_close(&json, '}');
    tool_json_end(&json);
    return;
  }
  printf("%lld requests, %lld query rows, %lld keys, %lld heads over %lld, head dim %lld, on %s: wrote %s%s%s\n", (long long)q[0],
         (long long)q[1], (long long)k[1], (long long)q[2], (long long)k[2], (long long)q[3], info.name, f->out,
         f->lse ? " and " : "", f->lse ? f->lse : "");
}

/* ---- The command ---- */

static bool read_attend_flags(int argc, char **argv, attend_flags *f) {
  const tool_flag flags[] = {TOOL_POSITION_FLAGS(f->position),
                             {"--q", &f->q, NULL},
                             {"--k", &f->k, NULL},
                             {"--v", &f->v, NULL},
                             {"--out", &f->out, NULL},
                             {"--lse", &f->lse, NULL},
                             {"--dtype", &f->dtype, NULL},
                             {"--q-offset", &f->q_offset, NULL},
                             {"--backend", &f->backend, NULL},
                             {"--json", NULL, &f->json}};
  if (!tool_read_flags(argc, argv, flags, TOOL_NUM_POSITION_FLAGS + 9)) return false;
  const char *const required[] = {f->q, f->k, f->v, f->out}, *const names[] = {"--q", "--k", "--v", "--out"};
  for (int k = 0; k < 4; k++)
    if (!required[k]) return tool_fail("%s: not given, expected a .npy file", names[k]), false;
  if (f->lse && !strcmp(f->lse, f->out)) return tool_fail("--lse: got '%s', expected another file than --out", f->lse), false;
  return true;
}

static bool attend(const attend_flags *f, const tool_method *method, tensors *t) {
  int dtype = 0;
  int64_t q_index;
  spindle_shape shape;
  spindle_context *context = NULL;
  if (f->dtype && !tool_read_choice("--dtype", f->dtype, tool_dtype_names, &dtype)) return false;
  if (f->q_offset && !tool_read_integer("--q-offset", f->q_offset, -TOOL_MAX_INDEX, TOOL_MAX_INDEX - (1 << 30), &q_index))
    return false;
  if (!read_shape("--q", f->q, &t->q) || !read_shape("--k", f->k, &t->k) || !read_shape("--v", f->v, &t->v) || !check_shapes(t))
    return false;
  const int64_t *q = t->q.shape, *v = t->v.shape;
  if (!f->q_offset) q_index = t->k.shape[1] - q[1];
  bool good =
      tool_method_shape(method, (int32_t)q[2], (int32_t)v[2], (int32_t)q[3], (int32_t)v[3], SPINDLE_F32 + dtype, &shape) &&
      open_context(f, &shape, &context) && run(context, f, method, &shape, q_index, t) && write_outputs(f, t);
  if (good) print_summary(f, context, t);
  spindle_context_destroy(context);
  return good;
}

int tool_attend(int argc, char **argv) {
  attend_flags f = {0};
  tensors t;
  tool_method method;
  spindle_config *config = NULL;
  memset(&t, 0, sizeof t);
  if (!read_attend_flags(argc, argv, &f)) return TOOL_BAD_INPUT;
  bool good = tool_method_load(&method, &config, &f.position) && attend(&f, &method, &t);
  tool_method_free(&method);
  spindle_config_destroy(config);
  free(t.o.data);
  free(t.lse.data);
  return good ? TOOL_OK : TOOL_BAD_INPUT;
}
