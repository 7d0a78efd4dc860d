/* Spindle: fused attention for long contexts, on keys that are cached without positions.
 *
 *     score(i, j, h) = softcap( rowscale_h(i) * scale * <A R(Pq(i)) q_i , A R(Pk(j)) k_j> ) + bias_h(i - j)
 *
 * summed by an online softmax over the keys j that row i may see. R rotates pairs of channels (RoPE), P maps an index to a
 * position, A is the rule's attention factor on the rotated channels. Which rule, map, mask and row scale apply is data, and
 * may differ from request to request; none of it touches the cache.
 *
 * How a program uses it
 *     once         spindle_context_create, spindle_positions_create + spindle_positions_set, spindle_plan_create
 *     every step   spindle_plan_prepare            reads the lengths, on the device; schedules; resolves length rules
 *     every layer  spindle_append, spindle_attention
 *
 * Words
 *     slot         where a key lies: a page and an offset in it, or a row of a dense tensor
 *     index        a token's place in its text, 0-based, 0 <= index < 2^40. Masks, windows, chunks, remaps, bias and row scale
 *                  are functions of the index
 *     position     what is rotated: the remap's image of the index
 *     n            the length that length-dependent rules see: one number per request and call
 *     dist         i - j, index of the query minus index of the key
 *     B Hq Hkv     requests, query heads, key/value heads (Hq is a multiple of Hkv; query head h reads h / (Hq / Hkv))
 *     Nq Nk D Dv   query rows, keys, head dim of Q and K, head dim of V and O
 *
 * Descriptors
 *     Every descriptor starts with struct_size = sizeof of the struct as the caller compiled it. A zeroed descriptor with its
 *     size set is valid wherever nothing is marked "required": 0 or NULL means the default or "none". Fields are only ever
 *     appended; a shorter struct is filled up with 0, a longer one is accepted if the bytes unknown to the library are 0.
 *     Enumerators are int32_t with pinned values.
 *
 * Memory
 *     [host]  read during the call and copied.
 *     [dev]   memory of the context's device (ordinary memory on the cpu and reference backends), read when the stream gets
 *             there and never by the host: values are clamped to the plan's bounds, never trusted. Must stay valid until
 *             the stream has passed the last call that uses it. spindle_batch_check reports what clamping would hide.
 *     Bases and strides of tensors are multiples of 16 bytes and their last dimension is contiguous; workspaces are
 *     256-byte aligned. Inputs and outputs must not overlap, except where a call says that it works in place.
 *
 * Threads and streams
 *     Contexts and position tables may be used by any number of threads; a plan by one thread at a time. All work is
 *     ordered on the stream given. The cpu and reference backends take stream NULL and return when the work is done.
 *     No call prints, exits or aborts. spindle_plan_prepare, spindle_attention, spindle_append, spindle_rotate and
 *     spindle_combine neither allocate device memory nor synchronise, and can be captured in a CUDA graph; replays follow what
 *     device memory holds by then. A prepare and the runs that follow it are on one stream: they share counters in the state.
 *
 * CUDA
 *     A context is one device, any of compute capability 8.0 or more. Calls leave the thread's current device as it was. What a
 *     launched kernel does wrong is reported by a later call, as SPINDLE_CUDA_ERROR.
 */
#ifndef SPINDLE_SPINDLE_H
#define SPINDLE_SPINDLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SPINDLE_API __attribute__((visibility("default")))
#else
#define SPINDLE_API
#endif

#define SPINDLE_VERSION_MAJOR 0
#define SPINDLE_VERSION_MINOR 1
#define SPINDLE_VERSION_PATCH 0
#define SPINDLE_VERSION       (SPINDLE_VERSION_MAJOR * 10000 + SPINDLE_VERSION_MINOR * 100 + SPINDLE_VERSION_PATCH)

/* SPINDLE_VERSION of the library that is linked. */
SPINDLE_API int32_t spindle_version(void);

/* ---- Status --------------------------------------------------------------------------------------------------------- */

typedef int32_t spindle_status;
enum {
  SPINDLE_OK = 0,
  /* 1..99: the caller's argument. Nothing was launched or written. */
  SPINDLE_INVALID_ARGUMENT = 1,
  SPINDLE_MISALIGNED = 2,
  SPINDLE_OVERLAP = 3,
  SPINDLE_WORKSPACE_TOO_SMALL = 4,
  SPINDLE_LIMIT_EXCEEDED = 5,
  /* 100..199: valid, but not served by this backend or by this combination. */
  SPINDLE_UNSUPPORTED = 100,
  /* 200..299: the machine. A CUDA error may stem from earlier asynchronous work. */
  SPINDLE_CUDA_ERROR = 200,
  SPINDLE_NO_DEVICE = 201,
  SPINDLE_OUT_OF_MEMORY = 202,
  /* 300..: a bug in Spindle. */
  SPINDLE_INTERNAL = 300
};

/* "SPINDLE_OK", ...; "unknown status" for other values. Never NULL. */
SPINDLE_API const char *spindle_status_name(spindle_status status);

/* What the calling thread's last failed call had to say: argument, value and limit. "" before the first failure.
 * Valid until the thread's next failing call. */
SPINDLE_API const char *spindle_last_error(void);

/* ---- Context -------------------------------------------------------------------------------------------------------- */

typedef struct CUstream_st *spindle_stream; /* a cudaStream_t; NULL on the cpu and reference backends */
typedef struct spindle_context spindle_context;
typedef struct spindle_positions spindle_positions;
typedef struct spindle_plan spindle_plan;
typedef struct spindle_event spindle_event;

enum {
  SPINDLE_BACKEND_AUTO = 0, /* cuda where there is a device, else cpu */
  SPINDLE_BACKEND_CUDA = 1,
  SPINDLE_BACKEND_CPU = 2,
  SPINDLE_BACKEND_REFERENCE = 3 /* float64, O(Nq Nk), one (i, j) pair at a time: the oracle, not for production */
};

typedef struct spindle_context_options {
  size_t struct_size;
  int32_t backend;     /* SPINDLE_BACKEND_* */
  int32_t device;      /* CUDA ordinal */
  int32_t num_threads; /* cpu: 0 = OpenMP's default */
} spindle_context_options;

/* options NULL: all defaults. SPINDLE_NO_DEVICE if the backend asked for is not in this build or has no device. */
SPINDLE_API spindle_status spindle_context_create(spindle_context **context, const spindle_context_options *options);
/* Destroy calls accept NULL. Objects made from a context are destroyed before it. */
SPINDLE_API void spindle_context_destroy(spindle_context *context);

typedef struct spindle_context_info {
  size_t struct_size; /* [in] */
  int32_t backend;    /* the one in use, never AUTO */
  int32_t device;
  int32_t num_threads;
  int32_t arch;   /* cuda: 80, 90, ...; else 0 */
  char name[128]; /* "cpu (avx512)", the device's name, "reference (float64)" */
} spindle_context_info;
SPINDLE_API spindle_status spindle_context_get_info(const spindle_context *context, spindle_context_info *info);

/* ---- Position methods ----------------------------------------------------------------------------------------------- */

/* Rules: the frequency w_t of pair t and the attention factor A. d is the rotary dim, L original_max_position_embeddings,
 * s factor. In brackets the fields a rule needs beyond rope_theta; "n" marks the length-dependent ones. Sources are in the
 * registry below. */
enum {
  SPINDLE_ROPE_NONE = 0,                /* no rotation (NoPE) */
  SPINDLE_ROPE_DEFAULT = 1,             /* w_t = theta^(-2t/d) */
  SPINDLE_ROPE_LINEAR = 2,              /* position interpolation: w_t / s [factor] */
  SPINDLE_ROPE_NTK = 3,                 /* theta' = theta alpha^(d/(d-2)) [alpha] */
  SPINDLE_ROPE_NTK_OLD = 4,             /* theta' = theta s [factor] */
  SPINDLE_ROPE_NTK_FIXED = 5,           /* NTK_OLD with a further s^(-2/d) on every pair [factor] */
  SPINDLE_ROPE_NTK_MIXED = 6,           /* w_t / exp(a (t+1)^b), a (d/2)^b = ln s, b = ntk_b [factor] */
  SPINDLE_ROPE_NTK_BY_PARTS = 7,        /* YaRN paper Def. 2: ramp in rotations, no temperature [factor, L] */
  SPINDLE_ROPE_NTK_BY_PARTS_LEGACY = 8, /* the form before YaRN [factor, L] */
  SPINDLE_ROPE_DYNAMIC_LINEAR = 9,      /* n: interpolate by n / max beyond max [max_position_embeddings] */
  SPINDLE_ROPE_DYNAMIC_NTK = 10,        /* n: alpha = s n / max - (s - 1) beyond max [factor, max_position_embeddings] */
  SPINDLE_ROPE_QWEN_DYNAMIC_NTK = 11,   /* n: alpha = 2^ceil(log2(n / L) + 1) - 1 [L] */
  SPINDLE_ROPE_YARN = 12,               /* ramp in the pair index, A = 0.1 ln s + 1 [factor or max_position_embeddings, L] */
  SPINDLE_ROPE_DYNAMIC_YARN = 13,       /* n: YaRN with s = n / L beyond the trained length [L] */
  SPINDLE_ROPE_DEEPSEEK_YARN = 14,      /* YaRN with A = 1 and the temperature on the whole score [factor, L] */
  SPINDLE_ROPE_LLAMA3 = 15,             /* ramp in wavelengths [factor, L] */
  SPINDLE_ROPE_LONGROPE = 16,           /* n: w_t / short_factor_t up to L, / long_factor_t beyond [both lists, L] */
  SPINDLE_ROPE_LONGROPE_DYNAMIC = 17,   /* n: the long list fades in between L and s L [long_factor, L] */
  SPINDLE_ROPE_PROPORTIONAL = 18,       /* the first partial_rotary_factor of the pairs rotate, d in the exponent */
  SPINDLE_ROPE_XPOS = 19,               /* default, and pair t of the product times zeta_t^((i-j)/scale_base) */
  SPINDLE_ROPE_TABLE = 20               /* w_t = inv_freq[t] [inv_freq]; negative and zero frequencies are fine */
};

/* Remaps: the position difference that a distance becomes. Causal only. w, G, s, ... are the remap_* fields. */
enum {
  SPINDLE_REMAP_NONE = 0,
  SPINDLE_REMAP_REROPE = 1,       /* min(dist, w) [window] */
  SPINDLE_REMAP_LEAKY_REROPE = 2, /* dist < w: dist, else w + (dist - w) / k [window, k > 1]; 0 < k < 1 is "inverse leaky" */
  SPINDLE_REMAP_SELF_EXTEND = 3,  /* dist < w: dist, else i div G - j div G + w - w / G [group | window] */
  SPINDLE_REMAP_DCA = 4,          /* dual chunk attention as released: chunks of s = chunk - local keys [chunk, local] */
  SPINDLE_REMAP_DCA_PAPER = 5,    /* as printed: chunk keys a chunk, positions up to pretrain - 1 [pretrain, chunk] */
  SPINDLE_REMAP_STREAMING = 6,  /* StreamingLLM: sees j < S or dist <= R; sinks at min(i, S + R) - j [sink_tokens S, window R] */
  SPINDLE_REMAP_LM_INFINITE = 7 /* sees dist < w, or j < S at distance w [sink_tokens S, window w] */
};

/* Row scales: a factor on all scores of query row i, before softcap and bias. */
enum {
  SPINDLE_ROWSCALE_NONE = 0,
  SPINDLE_ROWSCALE_LOGN = 1,      /* max(1, ln(i + 1) / ln length) [length > 1] */
  SPINDLE_ROWSCALE_LLAMA4 = 2,    /* 1 + beta ln(1 + floor((i + 1) / length)) [beta, length] */
  SPINDLE_ROWSCALE_MINISTRAL = 3, /* 1 + beta ln(1 + floor(i / length)) [beta, length] */
  SPINDLE_ROWSCALE_SSMAX = 4      /* s_h ln m + b_h, m = i + 1 (n if not causal); s and b are run arguments */
};

/* How one request sees positions. Copied by spindle_positions_set, which fills in the defaults. */
typedef struct spindle_position {
  size_t struct_size;

  int32_t rope;        /* SPINDLE_ROPE_* */
  int32_t remap;       /* SPINDLE_REMAP_* */
  int32_t row_scale;   /* SPINDLE_ROWSCALE_* */
  int32_t num_pairs;   /* entries of the lists below; must be rotary_dim / 2 where a list is given */
  int32_t not_causal;  /* 0: keys with dist >= 0 only */
  int32_t no_truncate; /* YaRN: keep the ramp's borders fractional */
  int32_t finetuned;   /* dynamic YaRN: s starts at max_position_embeddings / L */
  int32_t s2_wrap;     /* S2: shifted heads roll around the end, as in the paper (leaks the future into row < group / 2). For n a
                          multiple of s2_group, and all n keys present */

  /* Rule. Names are those of Hugging Face configs where they exist. */
  double rope_theta;                       /* > 1; default 10000 */
  double factor;                           /* s >= 1 */
  double original_max_position_embeddings; /* L */
  double max_position_embeddings;
  double attention_factor; /* A; default: what the rule says */
  double beta_fast;        /* default 32 */
  double beta_slow;        /* default 1 */
  double mscale;           /* YaRN: with mscale_all_dim A = m(mscale) / m(mscale_all_dim). DeepSeek: default 1 */
  double mscale_all_dim;
  double low_freq_factor;       /* Llama 3: default 1 */
  double high_freq_factor;      /* Llama 3: default 4 */
  double partial_rotary_factor; /* proportional: 0 < p <= 1, default 1. Else the shape's rotary_dim says it */
  double alpha;                 /* >= 1 */
  double ntk_b;                 /* NTK-mixed: 0 < b <= 1, default 0.625 */
  double scale_base;            /* xPos: default 512 */
  double remap_k;
  double row_scale_length;
  double row_scale_beta;

  const double *inv_freq;     /* [host][num_pairs] radians per token */
  const double *short_factor; /* [host][num_pairs] > 0 */
  const double *long_factor;  /* [host][num_pairs] > 0 */

  int64_t remap_window;
  int64_t remap_group;
  int64_t remap_chunk;
  int64_t remap_local;
  int64_t remap_pretrain;
  int64_t remap_sink_tokens;

  /* Mask: a key is seen if it passes every line that is set. */
  int64_t window_left;  /* dist < window_left, or j < sink_tokens */
  int64_t window_right; /* -dist < window_right; only with not_causal */
  int64_t sink_tokens;  /* keys 0..sink_tokens-1 stay visible outside window_left */
  int64_t chunk;        /* i div chunk == j div chunk */
  int64_t s2_group;     /* LongLoRA S2: groups of this even size, shifted by half a group for heads >= Hq / 2 */
} spindle_position;

/* ---- Shape ---------------------------------------------------------------------------------------------------------- */

enum { SPINDLE_F32 = 1, SPINDLE_F16 = 2, SPINDLE_BF16 = 3, SPINDLE_F8E4M3 = 4 };
enum { SPINDLE_PAIRS_HALF = 0 /* (t, t + d/2) */, SPINDLE_PAIRS_INTERLEAVED = 1 /* (2t, 2t + 1) */ };
enum { SPINDLE_KEYS_RAW = 0, SPINDLE_KEYS_ROTATED = 1 /* at their index, with A on them, as HF caches */ };
enum {
  SPINDLE_BIAS_NONE = 0,
  SPINDLE_BIAS_ALIBI = 1,       /* -a_h |dist| */
  SPINDLE_BIAS_KERPLE_LOG = 2,  /* -p_h ln(1 + a_h |dist|) */
  SPINDLE_BIAS_KERPLE_POWER = 3 /* -a_h |dist|^p_h */
};

/* One kind of layer: what is the same for all requests of a call. Per-head numbers are local heads under tensor parallelism. */
typedef struct spindle_shape {
  size_t struct_size;
  int32_t q_dtype;       /* required; F32, F16, BF16 */
  int32_t kv_dtype;      /* default q_dtype; F8E4M3 too */
  int32_t o_dtype;       /* default q_dtype; F32 for partial results */
  int32_t num_q_heads;   /* required, 1..4096 */
  int32_t num_kv_heads;  /* default num_q_heads; divides it */
  int32_t head_dim_qk;   /* required, 1..512 */
  int32_t head_dim_v;    /* default head_dim_qk; 1..512 */
  int32_t rotary_dim;    /* even, default head_dim_qk - rotary_offset (less one if odd) */
  int32_t rotary_offset; /* channels [offset, offset + rotary_dim) rotate, the others pass: 0, or nope dims of MLA */
  int32_t pair_layout;   /* SPINDLE_PAIRS_* */
  int32_t key_state;     /* SPINDLE_KEYS_*. Rotated keys serve every rule but xPos and only remaps that leave keys alone */
  int32_t bias;          /* SPINDLE_BIAS_* */
} spindle_shape;

/* ---- Position table: resolved descriptors in slots at fixed device addresses ----------------------------------------- */

/* capacity: slots, 1..1048576. Slots start as the zeroed descriptor (causal, no rotation). */
SPINDLE_API spindle_status spindle_positions_create(spindle_positions **positions, spindle_context *context,
                                                    const spindle_shape *shape, int32_t capacity);
/* Validates, resolves and writes one slot, in stream order: between two replays of a graph that reads the table, so not while the
 * stream is captured. Refuses what the shape cannot serve. A failed call leaves the slot as it was. */
SPINDLE_API spindle_status spindle_positions_set(spindle_positions *positions, int32_t slot, const spindle_position *position,
                                                 spindle_stream stream);
SPINDLE_API void spindle_positions_destroy(spindle_positions *positions);

/* What a rule comes to at length n (>= 1; ignored by static rules): inv_freq[rotary_dim / 2] in radians per token, the factor A
 * on the rotated channels of Q and of K, and the factor on the whole score (DeepSeek). Any output may be NULL. Host only. */
SPINDLE_API spindle_status spindle_position_resolve(const spindle_position *position, const spindle_shape *shape, int64_t n,
                                                    double *inv_freq, double *attention_factor, double *softmax_scale_factor);
/* relative[j], j in [0, n): the position difference at which row `row` (0 <= row < n) scores key j, NaN where it does not see it.
 * shifted_heads: 1 for heads >= Hq / 2 (differs under S2 only). Host only. */
SPINDLE_API spindle_status spindle_position_relative(const spindle_position *position, int32_t shifted_heads, int64_t row,
                                                     int64_t n, double *relative);

/* ---- Plan: from bounds alone ----------------------------------------------------------------------------------------- */

enum {
  SPINDLE_SCHEDULE_AUTO = 0,
  SPINDLE_SCHEDULE_IN_LOOP = 1,  /* cuda: rotate raw keys while reading them */
  SPINDLE_SCHEDULE_PREROTATE = 2 /* cuda: rotate them once into scratch. The bits are the same; cpu accepts and ignores both */
};

typedef struct spindle_plan_options {
  size_t struct_size;
  int32_t max_requests;   /* required, 1..65536 */
  int32_t max_q_rows;     /* required: rows of Q over all requests, 1..2^30 */
  int32_t max_q_len;      /* rows of one request; default max_q_rows */
  int32_t page_size;      /* 0 = dense; else keys a page, 1..65535 */
  int64_t max_kv_len;     /* required: keys of one request, 1..2^31-1 */
  int32_t split_keys;     /* 0: as fits the machine. Else the keys of a request are split at the multiples of this index, and its
                             output bits depend on nothing but the request (on cuda: and on which keys lie in which entry, with
                             page_index or page_span) */
  int32_t schedule;       /* SPINDLE_SCHEDULE_* */
  int32_t partial;        /* O and LSE leave sink_logits out: for shards that spindle_combine merges, which adds them once */
  uint32_t remap_set;     /* bit k: SPINDLE_REMAP k may occur in a prepare; 0 = any. A leaner schedule where it says less */
  uint32_t row_scale_set; /* likewise for SPINDLE_ROWSCALE */
} spindle_plan_options;

/* cuda: Q in F16 or BF16, K and V in the same or in F8E4M3, head dims up to 256; else SPINDLE_UNSUPPORTED. Loads the kernels. */
SPINDLE_API spindle_status spindle_plan_create(spindle_plan **plan, spindle_context *context, const spindle_shape *shape,
                                               const spindle_plan_options *options);
SPINDLE_API void spindle_plan_destroy(spindle_plan *plan);

/* Bytes of [dev] workspace, fixed for the plan's life. state: from prepare to the last run that follows it, one per plan in
 * flight. scratch: during a run; plans that run on one stream may share the largest. */
SPINDLE_API spindle_status spindle_plan_workspace(const spindle_plan *plan, size_t *state_bytes, size_t *scratch_bytes);

/* The requests of one step. Arrays are [dev][max_requests], except where said. Lengths, indices and position slots are read by
 * prepare; the page tables (pages, page_index, page_span, table_begin) by every run too. */
typedef struct spindle_batch {
  size_t struct_size;
  int32_t max_requests; /* entries of the arrays, at most the plan's; required */
  int32_t page_size;    /* the plan's */
  int32_t num_pages;    /* paged: pages of the pool, required. dense: batch rows of K and V, default max_requests */
  int32_t dense_rows;   /* dense: key rows of one batch row, default the plan's max_kv_len */

  /* Context parallelism: this rank's key number s is key (s / size * count + rank) * size + s % size of the text (+ kv_index).
   * Defaults: count 1, size 1, rank 0. Dense or paged without page_index. */
  int32_t shard_size, shard_count, shard_rank;
  int32_t reserved; /* 0 */

  const int32_t *q_begin;  /* required: first row of the request in Q, O, LSE (within its batch row where Q has a batch stride) */
  const int32_t *q_len;    /* required; 0 = unused entry */
  const int32_t *kv_len;   /* required: keys present here */
  const int64_t *q_index;  /* index of the first query row; NULL: the rows end with the keys, kv_index + kv_len - q_len (which may
                              be  negative: such rows see nothing under a causal mask). Required with shards and page_index */
  const int64_t *n;        /* NULL: q_index + q_len */
  const int32_t *position; /* slot in the position table; NULL: slot 0 */
  const int64_t *kv_index; /* index of the first key, where page_index is NULL; NULL: 0. An evicted window, a slice of a text */

  const int32_t *kv_begin; /* dense: first key row in its batch row (left padding); NULL: 0 */
  const int32_t *kv_batch; /* dense: batch row of K and V; NULL: the request's number */

  const int32_t *pages; /* paged, required: page of entry e of request r at pages[table_begin[r] + e] (CSR), or, with table_begin
                           NULL, pages[r * table_stride + e] (block table) */
  const int32_t *table_begin; /* [dev][max_requests + 1] */
  int64_t table_stride;
  /* Per table entry, like pages. page_index: index of its slot 0 (may be negative where slot 0 is not valid); the indices of
   * valid slots ascend over a request's entries. NULL: entry e starts at e * page_size + kv_index. page_span: first | end << 16
   * of its valid slots; NULL: all, up to kv_len keys in total. */
  const int64_t *page_index;
  const uint32_t *page_span;
} spindle_batch;

/* Once a step: one small launch. Reads lengths and position slots, evaluates length-dependent rules and schedules the work.
 * spindle_positions_set after it does not reach the runs that follow it. */
SPINDLE_API spindle_status spindle_plan_prepare(spindle_plan *plan, const spindle_positions *positions,
                                                const spindle_batch *batch, void *state, size_t state_bytes,
                                                spindle_stream stream);

/* Debugging: synchronises, reads the arrays back and reports the first value out of range (SPINDLE_LIMIT_EXCEEDED, naming array,
 * entry, value and limit) that a prepare or run would clamp. */
SPINDLE_API spindle_status spindle_batch_check(const spindle_plan *plan, const spindle_positions *positions,
                                               const spindle_batch *batch, spindle_stream stream);

/* ---- Attention -------------------------------------------------------------------------------------------------------- */

/* A tensor of rows [rows][heads][dim]; strides in elements. 0: contiguous (head = dim, row = heads * dim).
 * batch: offset between requests; 0: rows are packed over all requests. */
typedef struct spindle_rows {
  void *data;
  int64_t batch, row, head;
} spindle_rows;

/* Keys or values: paged [num_pages][page_size][Hkv][dim], or dense [num_pages][dense_rows][Hkv][dim]; any strides, 0: contiguous.
 */
typedef struct spindle_cache {
  void *data;
  int64_t page; /* between pages, or between batch rows */
  int64_t row, head;
  const float *scale; /* [dev] F8E4M3: value = scale[head * scale_head] * stored; NULL: 1 */
  int64_t scale_head; /* 0: one scale for the tensor; 1: one per KV head */
} spindle_cache;

typedef struct spindle_lse {
  float *data;              /* [dev] natural log of the sum of exp(score), the sink included; NULL: not wanted */
  int64_t batch, row, head; /* strides; 0: [rows][Hq] */
} spindle_lse;

/* One layer: everything that is a weight or a buffer. */
typedef struct spindle_attention_args {
  size_t struct_size;
  int64_t q_rows; /* required: extent of the rows of q, o and lse (of one batch row where they have a batch stride) */
  spindle_rows q, o;
  spindle_cache k, v;
  spindle_lse lse;
  float scale;                            /* default head_dim_qk^-1/2 */
  float softcap;                          /* c > 0: c tanh(score / c), after scale and before bias; 0: none */
  const float *bias_a, *bias_p;           /* [dev][Hq] ALiBi slopes, or KERPLE's a and p, as the shape's bias needs them */
  const float *sink_logits;               /* [dev][Hq] a learned score that joins the softmax and carries no value; NULL: none */
  const float *row_scale_s, *row_scale_b; /* [dev][Hq] SSMax; s required where a slot uses it, b NULL: 0 */
  void *scratch;
  size_t scratch_bytes;
} spindle_attention_args;

/* O = softmax(score) V for every request prepared, and LSE. A row that sees no key: O = 0 and LSE = -inf (LSE = sink with sinks).
 * Rows of no request stay as they were. */
SPINDLE_API spindle_status spindle_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream);

/* ---- Cache and partial results ---------------------------------------------------------------------------------------- */

typedef struct spindle_append_args {
  size_t struct_size;
  int32_t rows;              /* required, 0 does nothing */
  int32_t src_dtype;         /* default the shape's q_dtype */
  int32_t page_size;         /* required: keys a page, or dense_rows */
  int32_t num_pages;         /* required */
  spindle_rows k_new, v_new; /* [rows][Hkv][dim] */
  spindle_cache k, v;        /* of the shape's kv_dtype; F8E4M3 stores value / scale, saturated at +-448 */
  const int64_t *slot;       /* [dev][rows] required: page * page_size + offset; -1 (or out of range): the row is skipped */
  const int64_t *index;      /* [dev][rows] when rotating */
  const int32_t *position;   /* [dev][rows] slot in positions, when rotating; NULL: slot 0 */
} spindle_append_args;

/* Writes rows of K and V into the cache. Raw keys take no position. With a shape of rotated keys and positions != NULL the keys
 * are rotated at their index on the way; a table that holds a length-dependent rule is then SPINDLE_UNSUPPORTED (it would bake n
 * in). */
SPINDLE_API spindle_status spindle_append(spindle_context *context, const spindle_shape *shape,
                                          const spindle_positions *positions, const spindle_append_args *args,
                                          spindle_stream stream);

typedef struct spindle_rotate_args {
  size_t struct_size;
  int32_t rows;            /* required, 0 does nothing */
  int32_t heads;           /* required */
  int32_t dtype;           /* default the shape's q_dtype */
  int32_t inverse;         /* 1: undo */
  spindle_rows x, out;     /* [rows][heads][head_dim_qk]; in place allowed (same data and strides) */
  const int64_t *index;    /* [dev][rows] required: the position of the row */
  const int32_t *position; /* [dev][rows] slot in positions; NULL: slot 0 */
  const int64_t *n;        /* [dev][rows] required where the table holds a length-dependent rule */
} spindle_rotate_args;

/* out = A R(index) x on the rotary channels, the others copied; inverse: R(-index) x / A. Rules only, no remap; xPos is
 * UNSUPPORTED. */
SPINDLE_API spindle_status spindle_rotate(spindle_context *context, const spindle_shape *shape,
                                          const spindle_positions *positions, const spindle_rotate_args *args,
                                          spindle_stream stream);

typedef struct spindle_combine_args {
  size_t struct_size;
  int32_t parts;       /* required, 1..65536 */
  int32_t rows;        /* required, 0 does nothing */
  int32_t num_q_heads; /* required */
  int32_t head_dim_v;  /* required */
  int32_t part_dtype;  /* default F32 */
  int32_t o_dtype;     /* default part_dtype */
  int32_t own_part;    /* combine_scale: which part of part_lse is mine */
  int32_t reserved;    /* 0 */
  spindle_rows part_o; /* part p at data + p * part_o_stride; combine_scale: my part's O alone */
  int64_t part_o_stride;
  spindle_lse part_lse; /* part p at data + p * part_lse_stride; required */
  int64_t part_lse_stride;
  spindle_rows o;           /* may be part 0 of part_o (combine), or part_o (combine_scale) */
  spindle_lse lse;          /* of the whole; optional; may be part 0 of part_lse */
  const float *sink_logits; /* [dev][num_q_heads] counted once */
} spindle_combine_args;

/* Merges partial results of the same rows over disjoint keys: LSE = log sum_p exp(LSE_p), O = sum_p exp(LSE_p - LSE) O_p.
 * Parts with LSE = -inf count for nothing, whatever their O holds. */
SPINDLE_API spindle_status spindle_combine(spindle_context *context, const spindle_combine_args *args, spindle_stream stream);
/* o = exp(LSE_own - LSE_all) part_o: what this rank adds to a summing reduce-scatter. */
SPINDLE_API spindle_status spindle_combine_scale(spindle_context *context, const spindle_combine_args *args,
                                                 spindle_stream stream);

/* ---- Registry of methods ----------------------------------------------------------------------------------------------- */

enum {
  SPINDLE_FAMILY_ROPE = 0,
  SPINDLE_FAMILY_REMAP = 1,
  SPINDLE_FAMILY_BIAS = 2,
  SPINDLE_FAMILY_LOGITS = 3,
  SPINDLE_FAMILY_MASK = 4
};
enum {
  SPINDLE_METHOD_LENGTH_DEPENDENT = 1, /* a function of n */
  SPINDLE_METHOD_CAUSAL_ONLY = 2,
  SPINDLE_METHOD_RAW_KEYS_ONLY = 4
};

typedef struct spindle_method {
  int32_t family;       /* SPINDLE_FAMILY_* */
  int32_t kind;         /* SPINDLE_ROPE_*, _REMAP_*, _BIAS_* or _ROWSCALE_*; -1 for what is not a kind (softcap, sinks, masks) */
  int32_t flags;        /* SPINDLE_METHOD_* */
  const char *name;     /* "yarn", as the spindle tool spells it */
  const char *required; /* parameters it must be given, separated by spaces; "a|b": one of them */
  const char *optional; /* parameters it reads beyond those */
  const char *source;   /* paper or code */
} spindle_method;

/* All methods, in the order of the families. The array is static. */
SPINDLE_API const spindle_method *spindle_methods(int32_t *count);
/* NULL if there is none of that name. */
SPINDLE_API const spindle_method *spindle_method_find(int32_t family, const char *name);

enum {
  SPINDLE_PARAMETER_FLAG = 0,    /* int32_t, 0 or 1 */
  SPINDLE_PARAMETER_INTEGER = 1, /* int64_t */
  SPINDLE_PARAMETER_NUMBER = 2,  /* double */
  SPINDLE_PARAMETER_LIST = 3,    /* const double *, [num_pairs] */
  SPINDLE_PARAMETER_FLAG_NOT = 4 /* int32_t that holds the opposite of the name: "causal" is 1 where not_causal is 0 */
};

/* How a parameter's name maps to a field of spindle_position: for tools and readers that take names. Names of methods that are
 * not here (slopes, sinks of the logits, ...) are run arguments. */
typedef struct spindle_parameter {
  int32_t family;
  int32_t type;      /* SPINDLE_PARAMETER_* */
  size_t offset;     /* in spindle_position */
  const char *name;  /* as configs and the tool spell it: "rope_theta", "window", ... */
  const char *field; /* as the struct spells it */
} spindle_parameter;
SPINDLE_API const spindle_parameter *spindle_parameters(int32_t *count);

/* ---- Helpers (host only) ------------------------------------------------------------------------------------------------ */

/* ALiBi slopes for any head count (Press et al. 2022): 2^(-bias_max h / H), and for H not a power of two every other slope of the
 * next one, appended. bias_max 0: 8. factor > 0 divides all (position interpolation, arXiv:2310.13017); alpha > 0 is NTK-ALiBi:
 * slope_h *= alpha^(-h / (H - 1)), h from 0. 0 = not applied. */
SPINDLE_API spindle_status spindle_alibi_slopes(int32_t num_heads, double bias_max, double factor, double alpha, float *slopes);

enum {
  SPINDLE_SINUSOIDAL_PAPER = 0 /* sin, cos interleaved; theta^(-2t/d) */,
  SPINDLE_SINUSOIDAL_FAIRSEQ = 1 /* sines then cosines; theta^(-t/(d/2-1)) */
};
/* Absolute position embeddings of positions [begin, begin + count): out[count][dim]. theta 10000. (Vaswani et al. 2017) */
SPINDLE_API spindle_status spindle_sinusoidal(int32_t layout, int32_t dim, int64_t begin, int64_t count, float *out);
/* Su's hierarchical decomposition of a learned table[length][dim] to positions [0, count), count <= length^2: out[count][dim].
 * 0 < alpha < 1, alpha != 0.5; 0: 0.4. (kexue.fm/7947) */
SPINDLE_API spindle_status spindle_hierarchical(const float *table, int32_t length, int32_t dim, double alpha, int64_t count,
                                                float *out);

/* Scaling laws of RoPE extrapolation (Liu et al. 2023, arXiv:2310.05209), for continued training with another base.
 * train_length, tune_length > 2 pi; theta is the base of pre-training. */
typedef struct spindle_rope_extension {
  size_t struct_size;         /* [in] */
  int32_t critical_dimension; /* dims whose period fits the training length: 2 ceil(d/2 log_theta(T_train / 2 pi)), at most d */
  double critical_base;       /* theta^(log_{T_train/2pi}(T_tune/2pi)) */
  double max_length;          /* 2 pi tune_theta^(critical_dimension / d) above the critical base, else tune_length */
} spindle_rope_extension;
SPINDLE_API spindle_status spindle_rope_max_extension(int32_t rotary_dim, double theta, double train_length, double tune_theta,
                                                      double tune_length, spindle_rope_extension *extension);

/* ---- Memory, streams and events, so that a pure C program needs no CUDA header ----------------------------------------- */

/* 256-byte aligned. bytes 0 gives NULL. */
SPINDLE_API spindle_status spindle_malloc(spindle_context *context, void **memory, size_t bytes);
SPINDLE_API void spindle_free(spindle_context *context, void *memory);
/* Between any two of host and device, in stream order. Pageable host memory has been read, or written, when the call returns;
 * memory that cudaMallocHost has given is read or written when the stream gets there. */
SPINDLE_API spindle_status spindle_copy(spindle_context *context, void *dst, const void *src, size_t bytes,
                                        spindle_stream stream);
/* On cpu and reference the stream made is NULL. On cuda work on it and on stream NULL waits for each other. */
SPINDLE_API spindle_status spindle_stream_create(spindle_context *context, spindle_stream *stream);
SPINDLE_API spindle_status spindle_stream_sync(spindle_context *context, spindle_stream stream);
SPINDLE_API void spindle_stream_destroy(spindle_context *context, spindle_stream stream);
SPINDLE_API spindle_status spindle_event_create(spindle_context *context, spindle_event **event);
SPINDLE_API spindle_status spindle_event_record(spindle_context *context, spindle_event *event, spindle_stream stream);
/* Waits for both; milliseconds from begin to end. */
SPINDLE_API spindle_status spindle_event_elapsed(spindle_context *context, spindle_event *begin, spindle_event *end,
                                                 double *milliseconds);
SPINDLE_API void spindle_event_destroy(spindle_context *context, spindle_event *event);

#ifdef __cplusplus
}
#endif
#endif
