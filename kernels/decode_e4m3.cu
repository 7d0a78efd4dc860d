/* The decode kernels whose K and V are e4m3: one for each that prefill has. */
#include "decode_instance.cuh"

namespace spindle {
namespace {

const DecodeInstance instances[] = {
#define SPINDLE__PREFILL_E4M3(kernel, T, ...) SPINDLE__DECODE_INSTANCE(decode_e4m3, T, e4m3, __VA_ARGS__)
#include "instances.def"
};

}  // namespace

const DecodeInstance *find_decode_e4m3(const spindle_shape &shape, Scores scores) {
  return find_instance(instances, shape, scores);
}

}  // namespace spindle
