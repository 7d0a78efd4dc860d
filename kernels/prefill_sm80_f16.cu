/* The sm_80 prefill kernels of instances.def whose Q, K and V are f16. */
#include "prefill_sm80.cuh"
#include "sm80.cuh"

namespace spindle {
namespace {

const Sm80Instance instances[] = {
#define SPINDLE__PREFILL_f16(kernel, ...) SPINDLE__SM80_INSTANCE(kernel, f16, f16, __VA_ARGS__)
#define SPINDLE__PREFILL_bf16(...)
#define SPINDLE__PREFILL(kernel, T, ...) SPINDLE__PREFILL_##T(kernel, __VA_ARGS__)
#include "instances.def"
};

}  // namespace

const Sm80Instance *find_sm80_f16(const spindle_shape &shape, Scores scores) { return find_instance(instances, shape, scores); }

}  // namespace spindle
