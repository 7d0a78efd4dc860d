/* Launches that merge partial results. */
#include "combine.cuh"

namespace spindle {
namespace {

/* Rows beyond so many blocks are taken in turn. */
constexpr int64_t MOST_BLOCKS = 65536;

/* Blocks for each block of the attention that came before: of those two fill an SM, of these six. */
constexpr int BLOCKS_EACH = 3;

template <class T>
cudaError_t launch(const spindle_combine_args &a, bool scale_only, spindle_stream stream) {
  const int64_t blocks = spindle__ceil_div((int64_t)a.rows * a.num_q_heads, COMBINE_WARPS);
  const dim3 grid((unsigned)spindle__min(blocks, MOST_BLOCKS));
  return SPINDLE__LAUNCH(scale_only ? combine_scale<T> : combine<T>, grid, COMBINE_THREADS, 0, stream, a);
}

}  // namespace
}  // namespace spindle

extern "C" int spindle__launch_combine(const spindle_combine_args *args, int32_t scale_only, spindle_stream stream) {
  switch (args->part_dtype) {
    case SPINDLE_BF16: return spindle::launch<spindle::bf16>(*args, scale_only != 0, stream);
    case SPINDLE_F16: return spindle::launch<spindle::f16>(*args, scale_only != 0, stream);
    case SPINDLE_F32: return spindle::launch<float>(*args, scale_only != 0, stream);
    default: return cudaErrorInvalidValue;
  }
}

extern "C" int spindle__launch_merge_splits(const spindle__attention_params *params, spindle_stream stream) {
  using namespace spindle;
  return SPINDLE__LAUNCH(merge_splits, dim3((unsigned)(params->blocks * BLOCKS_EACH)), COMBINE_THREADS, 0, stream, *params);
}

extern "C" int spindle__load_combine(void) {
  using namespace spindle;
  cudaError_t error = prim::allow_shared(merge_splits, 0);
  for (auto kernel : {combine<bf16>, combine<f16>, combine<float>, combine_scale<bf16>, combine_scale<f16>, combine_scale<float>})
    if (!error) error = prim::allow_shared(kernel, 0);
  return error;
}
