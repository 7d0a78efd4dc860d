/* The Hopper kernels of instances.def whose Q is bf16, K and V e4m3. */
#define SPINDLE__NO_CALLS
#include "prefill_sm90.cuh"

namespace spindle {
namespace {

const Sm90Instance instances[] = {
#define SPINDLE__SM90_bf16(kernel, ...) SPINDLE__SM90_INSTANCE(kernel, bf16, e4m3, __VA_ARGS__)
#define SPINDLE__SM90_f16(...)
#define SPINDLE__PREFILL_SM90_E4M3(kernel, T, ...) SPINDLE__SM90_##T(kernel, __VA_ARGS__)
#include "instances.def"
};

}  // namespace

const Sm90Instance *find_sm90_bf16_e4m3(const spindle_shape &shape, Scores scores) {
  return find_instance(instances, shape, scores);
}

}  // namespace spindle
