/* What attention costs without fusion: GEMM, softmax, GEMM, on cuBLAS. The rotation is left out, so Q and K count as rotated
 * already.
 *
 *   nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a bench/baselines/cublas.cu -lcublas -o cublas
 *   cublas [--seq-len 1k,4k] [--heads 32] [--kv-heads 8] [--head-dim 128] [--dtype bf16|f16] [--batch 1] [--flush 256]
 *
 * One JSON line a length and way of batching, with the keys of `spindle bench`. First a small problem is compared with float64.
 *
 * Q and O [B][N][Hq][D], K and V [B][N][Hkv][D], causal. Query rows go in chunks, which bounds the score matrix and skips most of
 * what causality hides: rows [r0, r1) meet keys [0, r1). Scores are stored in the tensors' dtype, log2 domain, and become weights
 * in place. */
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "exact.h"

namespace {

using namespace baseline;

constexpr int THREADS = 256;
constexpr int VECTOR = 8; /* elements in 16 bytes */
constexpr size_t SCORE_BYTES = (size_t)2 << 30;
constexpr int MAX_WARMING = 200, MIN_ROUNDS = 5, MAX_ROUNDS = 41;
constexpr double WARM_SECONDS = 0.05, ROUNDS_SECONDS = 0.4;

[[noreturn]] void die(const char *what, const char *why) {
  fprintf(stderr, "cublas: %s: %s\n", what, why);
  exit(1);
}
void check(cudaError_t error, const char *what) {
  if (error != cudaSuccess) die(what, cudaGetErrorString(error));
}
void check(cublasStatus_t status, const char *what) {
  if (status != CUBLAS_STATUS_SUCCESS) die(what, cublasGetStatusString(status));
}

/* ---- Softmax: one block a row, in place ---- */

struct Sum {
  float max, sum; /* of exp2(score - max) */
};

__device__ Sum merge(Sum a, Sum b) {
  const float max = fmaxf(a.max, b.max);
  if (max == -INFINITY) return {max, 0};
  return {max, a.sum * exp2f(a.max - max) + b.sum * exp2f(b.max - max)};
}

__device__ Sum merge_block(Sum mine) {
  __shared__ Sum warps[THREADS / 32];
  for (int other = 16; other; other /= 2)
    mine = merge(mine, {__shfl_xor_sync(~0u, mine.max, other), __shfl_xor_sync(~0u, mine.sum, other)});
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  Sum all = warps[0];
  for (int w = 1; w < THREADS / 32; ++w) all = merge(all, warps[w]);
  return all;
}

template <class T>
union Pack {
  uint4 bits;
  T at[VECTOR];
};

/* Grid (rows, heads). Row r of the chunk sees the first `visible` + r keys; the other weights of its `stride` become 0. */
template <class T>
__global__ void __launch_bounds__(THREADS) softmax(T *scores, int stride, int visible) {
  uint4 *row = reinterpret_cast<uint4 *>(scores + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * stride);
  const int keys = visible + (int)blockIdx.x, vectors = stride / VECTOR;
  Sum mine = {-INFINITY, 0};
  for (int v = threadIdx.x; v * VECTOR < keys; v += THREADS) {
    Pack<T> x;
    x.bits = row[v];
    const int seen = min(VECTOR, keys - v * VECTOR);
    float max = mine.max;
    for (int e = 0; e < VECTOR; ++e) max = e < seen ? fmaxf(max, (float)x.at[e]) : max;
    mine.sum *= exp2f(mine.max - max);
    for (int e = 0; e < VECTOR; ++e) mine.sum += e < seen ? exp2f((float)x.at[e] - max) : 0;
    mine.max = max;
  }
  const Sum all = merge_block(mine);
  const float scale = 1 / all.sum;
  for (int v = threadIdx.x; v < vectors; v += THREADS) {
    Pack<T> x;
    if (v * VECTOR < keys) x.bits = row[v];
    for (int e = 0; e < VECTOR; ++e) x.at[e] = v * VECTOR + e < keys ? (T)(exp2f((float)x.at[e] - all.max) * scale) : (T)0.0f;
    row[v] = x.bits;
  }
}

/* ---- One attention call ---- */

/* Both ways to batch GEMMs over heads: arrays of pointers in one call, or strides in a call for each KV head. */
enum Batching { POINTERS, STRIDED };
const char *const batching_names[] = {"cublas-unfused-pointers", "cublas-unfused-strided"};

template <class T>
constexpr cudaDataType data_type() {
  return std::is_same_v<T, __nv_bfloat16> ? CUDA_R_16BF : CUDA_R_16F;
}

template <class T>
class Attention {
 public:
  Attention(cublasHandle_t handle, cudaStream_t stream, const Shape &shape, int chunk_rows)
      : handle_(handle), stream_(stream), s_(shape), chunk_(std::min(chunk_rows, shape.tokens)) {
    allocate(&q, s_.q_count()), allocate(&o, s_.q_count()), allocate(&k, s_.k_count()), allocate(&v, s_.k_count());
    allocate(&scores_, (int64_t)s_.batch * s_.heads * chunk_ * padded(s_.tokens));
    make_pointers();
  }
  Attention(const Attention &) = delete;
  ~Attention() {
    for (void *memory : owned_) cudaFree(memory);
  }

  T *q, *k, *v, *o;

  void run(Batching batching) {
    for (int r0 = 0, chunk = 0; r0 < s_.tokens; r0 += chunk_, ++chunk) {
      const int rows = std::min(chunk_, s_.tokens - r0), keys = r0 + rows, stride = padded(keys);
      const void *const *p = pointers_ + (size_t)chunk * ARRAYS * heads();
      for (const bool second : {false, true}) {
        if (second) {
          softmax<T><<<dim3((unsigned)rows, (unsigned)heads()), THREADS, 0, stream_>>>(scores_, stride, r0 + 1);
          check(cudaGetLastError(), "softmax");
        }
        if (batching == POINTERS)
          gemm_pointers(p, second, rows, keys, stride);
        else
          gemm_strided(r0, second, rows, keys, stride);
      }
    }
  }

 private:
  enum { Q, K, V, S, O, ARRAYS };

  cublasHandle_t handle_;
  cudaStream_t stream_;
  Shape s_;
  int chunk_;
  T *scores_;
  const void **pointers_; /* [chunks][ARRAYS][B Hq] */
  std::vector<void *> owned_;

  static int padded(int keys) { return (keys + VECTOR - 1) / VECTOR * VECTOR; }
  int heads() const { return s_.batch * s_.heads; }

  template <class P>
  void allocate(P **pointer, int64_t count) {
    check(cudaMalloc(pointer, (size_t)count * sizeof(P)), "cudaMalloc");
    owned_.push_back(*pointer);
  }

  /* Rows of a chunk's scores lie `rows * stride` elements a head, so S has other addresses in every chunk, as Q and O have. */
  void make_pointers() {
    std::vector<const void *> all;
    for (int r0 = 0; r0 < s_.tokens; r0 += chunk_) {
      const int rows = std::min(chunk_, s_.tokens - r0);
      const int64_t score_head = (int64_t)rows * padded(r0 + rows);
      for (int a = 0; a < ARRAYS; ++a)
        for (int b = 0; b < s_.batch; ++b)
          for (int h = 0; h < s_.heads; ++h) {
            const int64_t q_at = (((int64_t)b * s_.tokens + r0) * s_.heads + h) * s_.dim;
            const int64_t k_at = ((int64_t)b * s_.tokens * s_.kv_heads + h / (s_.heads / s_.kv_heads)) * s_.dim;
            const T *at[ARRAYS] = {q + q_at, k + k_at, v + k_at, scores_ + (b * s_.heads + h) * score_head, o + q_at};
            all.push_back(at[a]);
          }
    }
    allocate(&pointers_, (int64_t)all.size());
    check(cudaMemcpy(pointers_, all.data(), all.size() * sizeof all[0], cudaMemcpyHostToDevice), "cudaMemcpy");
  }

  /* cuBLAS counts columns first. S^T [keys x rows] = K^T' [keys x D] Q' [D x rows], then O' [D x rows] = V' [D x keys] S^T, where
   * X' is the row-major X read as its transpose. */
  struct Sizes {
    cublasOperation_t op_a;
    int m, n, k, lda, ldb, ldc;
    float alpha;
  };
  Sizes sizes(bool second, int rows, int keys, int stride) const {
    const int q_row = s_.heads * s_.dim, k_row = s_.kv_heads * s_.dim;
    if (second) return {CUBLAS_OP_N, s_.dim, rows, keys, k_row, stride, q_row, 1};
    return {CUBLAS_OP_T, keys, rows, s_.dim, k_row, q_row, stride, 1.44269504f / sqrtf((float)s_.dim)};
  }

  void gemm_pointers(const void *const *p, bool second, int rows, int keys, int stride) {
    const Sizes g = sizes(second, rows, keys, stride);
    const float zero = 0;
    const auto array = [&](int which) { return p + (size_t)which * heads(); };
    check(
        cublasGemmBatchedEx(handle_, g.op_a, CUBLAS_OP_N, g.m, g.n, g.k, &g.alpha, array(second ? V : K), data_type<T>(), g.lda,
                            array(second ? S : Q), data_type<T>(), g.ldb, &zero, const_cast<void *const *>(array(second ? O : S)),
                            data_type<T>(), g.ldc, heads(), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmBatchedEx");
  }

  void gemm_strided(int r0, bool second, int rows, int keys, int stride) {
    const Sizes g = sizes(second, rows, keys, stride);
    const float zero = 0;
    const int group = s_.heads / s_.kv_heads;
    const int64_t score_head = (int64_t)rows * stride;
    for (int b = 0; b < s_.batch; ++b)
      for (int h = 0; h < s_.kv_heads; ++h) {
        const int64_t q_at = (((int64_t)b * s_.tokens + r0) * s_.heads + h * group) * s_.dim;
        const int64_t k_at = ((int64_t)b * s_.tokens * s_.kv_heads + h) * s_.dim;
        T *s = scores_ + (int64_t)(b * s_.heads + h * group) * score_head;
        check(cublasGemmStridedBatchedEx(handle_, g.op_a, CUBLAS_OP_N, g.m, g.n, g.k, &g.alpha, (second ? v : k) + k_at,
                                         data_type<T>(), g.lda, 0, second ? s : q + q_at, data_type<T>(), g.ldb,
                                         second ? score_head : s_.dim, &zero, second ? o + q_at : s, data_type<T>(), g.ldc,
                                         second ? s_.dim : score_head, group, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              "cublasGemmStridedBatchedEx");
      }
  }
};

/* ---- The comparison with float64 ---- */

template <class T>
void upload(T *device, const std::vector<T> &host) {
  check(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
}

/* Ragged chunks, padded rows, grouped heads. Scores of up to 6 are rounded to the dtype: off by 6 roundoffs, and so are the
 * weights. */
template <class T>
void compare(cublasHandle_t handle, cudaStream_t stream, int dim) {
  const Shape s = {2, 4, 2, dim, 301};
  const double allowed = 16 * (std::is_same_v<T, __nv_bfloat16> ? 0x1p-8 : 0x1p-11);
  Attention<T> attention(handle, stream, s, 128);
  const auto q = random_values<T>(s.q_count(), 1), k = random_values<T>(s.k_count(), 2), v = random_values<T>(s.k_count(), 3);
  upload(attention.q, q), upload(attention.k, k), upload(attention.v, v);
  for (const Batching batching : {POINTERS, STRIDED}) {
    std::vector<T> o((size_t)s.q_count());
    check(cudaMemsetAsync(attention.o, 0xff, o.size() * sizeof(T), stream), "cudaMemset");
    attention.run(batching);
    check(cudaStreamSynchronize(stream), "attention");
    check(cudaMemcpy(o.data(), attention.o, o.size() * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    const double error = largest_error(s, q, k, v, o);
    fprintf(stderr, "%s: largest error %.2e, allowed %.2e\n", batching_names[batching], error, allowed);
    if (!(error <= allowed)) die(batching_names[batching], "wrong result");
  }
}

/* ---- Time ---- */

struct Options {
  std::vector<int> lengths = {1024, 4096, 16384};
  int batch = 1, heads = 32, kv_heads = 8, dim = 128, flush_mib = 256;
  std::string dtype = "bf16";
};

void report(const Options &f, const Shape &s, int chunk_rows, Batching batching, std::vector<double> &times) {
  int device, version;
  cudaDeviceProp properties;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  check(cudaRuntimeGetVersion(&version), "cudaRuntimeGetVersion");
  std::sort(times.begin(), times.end());
  const size_t n = times.size();
  const double median = n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2, pairs = 0.5 * s.tokens * (s.tokens + 1.0);
  printf(
      "{\"family\": \"baseline\", \"method\": \"%s\", \"phase\": \"prefill\", \"seq_len\": %d, \"q_len\": %d, \"median_s\": "
      "%.9g, "
      "\"min_s\": %.9g, \"max_s\": %.9g, \"rounds\": %zu, \"tokens_per_s\": %.9g, \"flops_per_s\": %.9g, \"visible_pairs\": "
      "%.17g, "
      "\"backend\": \"cublas\", \"device\": \"%s\", \"dtype\": \"%s\", \"heads\": %d, \"kv_heads\": %d, \"head_dim\": %d, "
      "\"batch\": %d, \"flush_mib\": %d, \"chunk_rows\": %d, \"version\": \"CUDA %d.%d\"}\n",
      batching_names[batching], s.tokens, s.tokens, median, times.front(), times.back(), n, s.batch * s.tokens / median,
      4.0 * s.dim * pairs * s.heads * s.batch / median, pairs, properties.name, f.dtype.c_str(), s.heads, s.kv_heads, s.dim,
      s.batch, f.flush_mib, chunk_rows, version / 1000, version % 1000 / 10);
  fflush(stdout);
}

template <class T>
void time_length(const Options &f, cublasHandle_t handle, cudaStream_t stream, int tokens, void *flush) {
  const Shape s = {f.batch, f.heads, f.kv_heads, f.dim, tokens};
  const size_t row_bytes = (size_t)s.batch * (size_t)s.heads * (size_t)tokens * sizeof(T);
  const int fitting = (int)std::min<size_t>(SCORE_BYTES / row_bytes, 1 << 20);
  const int chunk_rows = std::min(tokens, std::max(128, std::min(fitting, std::max(1024, tokens / 16))));
  Attention<T> attention(handle, stream, s, chunk_rows);
  upload(attention.q, random_values<T>(s.q_count(), 1));
  upload(attention.k, random_values<T>(s.k_count(), 2));
  upload(attention.v, random_values<T>(s.k_count(), 3));
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  const auto measure = [&](Batching batching) {
    float milliseconds;
    check(cudaMemsetAsync(flush, 0, (size_t)f.flush_mib << 20, stream), "cudaMemset");
    check(cudaEventRecord(begin, stream), "cudaEventRecord");
    attention.run(batching);
    check(cudaEventRecord(end, stream), "cudaEventRecord");
    check(cudaEventSynchronize(end), "attention");
    check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    return milliseconds * 1e-3;
  };
  for (const Batching batching : {POINTERS, STRIDED}) {
    std::vector<double> times;
    double spent = 0;
    for (int r = 0; r < MAX_WARMING && spent < WARM_SECONDS; ++r) spent += measure(batching);
    for (spent = 0; (int)times.size() < MAX_ROUNDS && ((int)times.size() < MIN_ROUNDS || spent < ROUNDS_SECONDS);) {
      times.push_back(measure(batching));
      spent += times.back();
    }
    report(f, s, chunk_rows, batching, times);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
}

template <class T>
void run(const Options &f) {
  cudaStream_t stream;
  cublasHandle_t handle;
  void *flush;
  check(cudaStreamCreate(&stream), "cudaStreamCreate");
  check(cublasCreate(&handle), "cublasCreate");
  check(cublasSetStream(handle, stream), "cublasSetStream");
  check(cudaMalloc(&flush, ((size_t)f.flush_mib << 20) + 1), "cudaMalloc");
  compare<T>(handle, stream, f.dim);
  for (const int tokens : f.lengths) time_length<T>(f, handle, stream, tokens, flush);
  cudaFree(flush);
  cublasDestroy(handle);
  cudaStreamDestroy(stream);
}

/* ---- Arguments ---- */

int read_number(const char *flag, const char *text, const char **end) {
  char *after;
  const long value = strtol(text, &after, 10);
  const long factor = *after == 'k' ? 1024 : 1;
  after += factor > 1;
  if (after == text || value < 0 || value > (1 << 20) || (*after && *after != ',')) die(flag, "expected a number");
  *end = after;
  return (int)(value * factor);
}

Options read_options(int argc, char **argv) {
  Options f;
  const struct {
    const char *name;
    int *value;
  } numbers[] = {{"--batch", &f.batch},
                 {"--heads", &f.heads},
                 {"--kv-heads", &f.kv_heads},
                 {"--head-dim", &f.dim},
                 {"--flush", &f.flush_mib}};
  for (int a = 1; a < argc; a += 2) {
    const char *flag = argv[a], *text = a + 1 < argc ? argv[a + 1] : "";
    bool known = false;
    if (!strcmp(flag, "--seq-len")) {
      f.lengths.clear();
      for (const char *at = text;; ++at) {
        f.lengths.push_back(read_number(flag, at, &at));
        if (!*at) break;
      }
      known = true;
    }
    if (!strcmp(flag, "--dtype")) f.dtype = text, known = f.dtype == "bf16" || f.dtype == "f16";
    for (const auto &number : numbers)
      if (!strcmp(flag, number.name)) *number.value = read_number(flag, text, &text), known = true;
    if (!known) die(flag, "not a flag of this program, or not its value");
  }
  if (f.batch < 1 || f.kv_heads < 1 || f.heads % f.kv_heads || f.dim % VECTOR || f.dim < VECTOR)
    die("arguments", "expected --heads a multiple of --kv-heads and --head-dim one of 8");
  return f;
}

}  // namespace

int main(int argc, char **argv) {
  const Options f = read_options(argc, argv);
  if (f.dtype == "bf16")
    run<__nv_bfloat16>(f);
  else
    run<__half>(f);
}
