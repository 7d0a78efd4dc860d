/* Launches of the rotation kernel. */
#include "rotate_keys.cuh"

namespace spindle {
namespace {

/* Blocks of the pre-rotation for each block of the attention that follows: of those two fill an SM, of these four. */
constexpr int BLOCKS_EACH = 2;

/* Items beyond so many blocks are taken in turn. */
constexpr int64_t MOST_BLOCKS = 65536;

template <class E, class T>
cudaError_t prerotate(const spindle__attention_params &p, spindle_stream stream) {
  using Source = PrerotatedKeys<E, T>;
  return SPINDLE__LAUNCH(rotate_rows<Source>, dim3((unsigned)(p.blocks * BLOCKS_EACH)), ROTATE_THREADS,
                         sizeof(RotateSmem<Source>), stream, p);
}

template <class T>
cudaError_t prerotate_as(const spindle__attention_params &p, spindle_stream stream) {
  return p.shape.kv_dtype == SPINDLE_F8E4M3 ? prerotate<e4m3, T>(p, stream) : prerotate<T, T>(p, stream);
}

template <class T>
cudaError_t rotate(const spindle__rotate_params &p, spindle_stream stream) {
  const int64_t items = spindle__rotate_items(&p);
  return SPINDLE__LAUNCH(rotate_rows<RotatedRows<T>>, dim3((unsigned)spindle__min(items, MOST_BLOCKS)), ROTATE_THREADS,
                         sizeof(RotateSmem<RotatedRows<T>>), stream, p);
}

template <class Source>
cudaError_t load() {
  return prim::allow_shared(rotate_rows<Source>, sizeof(RotateSmem<Source>));
}

}  // namespace
}  // namespace spindle

extern "C" int spindle__launch_rotate_keys(const spindle__attention_params *params, spindle_stream stream) {
  switch (params->shape.q_dtype) {
    case SPINDLE_BF16: return spindle::prerotate_as<spindle::bf16>(*params, stream);
    case SPINDLE_F16: return spindle::prerotate_as<spindle::f16>(*params, stream);
    default: return cudaErrorInvalidValue;
  }
}

extern "C" int spindle__launch_rotate(const spindle__rotate_params *params, spindle_stream stream) {
  switch (params->args.dtype) {
    case SPINDLE_BF16: return spindle::rotate<spindle::bf16>(*params, stream);
    case SPINDLE_F16: return spindle::rotate<spindle::f16>(*params, stream);
    case SPINDLE_F32: return spindle::rotate<float>(*params, stream);
    default: return cudaErrorInvalidValue;
  }
}

extern "C" int spindle__load_rotate(void) {
  using namespace spindle;
  cudaError_t error = load<PrerotatedKeys<bf16, bf16>>();
  if (!error) error = load<PrerotatedKeys<f16, f16>>();
  if (!error) error = load<PrerotatedKeys<e4m3, bf16>>();
  if (!error) error = load<PrerotatedKeys<e4m3, f16>>();
  if (!error) error = load<RotatedRows<bf16>>();
  if (!error) error = load<RotatedRows<f16>>();
  if (!error) error = load<RotatedRows<float>>();
  return error;
}
