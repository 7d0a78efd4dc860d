/* Launch of append. */
#include "append.cuh"

namespace spindle {
namespace {

/* Rows beyond so many blocks are taken in turn. */
constexpr int32_t MOST_BLOCKS = 65536;

template <class T>
cudaError_t launch(const spindle__append_params &p, spindle_stream stream) {
  return SPINDLE__LAUNCH(append<T>, dim3((unsigned)spindle__min(p.args.rows, MOST_BLOCKS)), APPEND_THREADS, sizeof(AppendSmem),
                         stream, p);
}

}  // namespace
}  // namespace spindle

extern "C" int spindle__launch_append(const spindle__append_params *params, spindle_stream stream) {
  switch (params->args.src_dtype) {
    case SPINDLE_BF16: return spindle::launch<spindle::bf16>(*params, stream);
    case SPINDLE_F16: return spindle::launch<spindle::f16>(*params, stream);
    case SPINDLE_F32: return spindle::launch<float>(*params, stream);
    default: return cudaErrorInvalidValue;
  }
}

extern "C" int spindle__load_append(void) {
  using namespace spindle;
  cudaError_t error = prim::allow_shared(append<bf16>, sizeof(AppendSmem));
  if (!error) error = prim::allow_shared(append<f16>, sizeof(AppendSmem));
  if (!error) error = prim::allow_shared(append<float>, sizeof(AppendSmem));
  return error;
}
