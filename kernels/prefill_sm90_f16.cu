/* The Hopper kernels of instances.def whose Q, K and V are f16. */
#define SPINDLE__NO_CALLS
#include "prefill_sm90.cuh"

namespace spindle {
namespace {

const Sm90Instance instances[] = {
#define SPINDLE__SM90_bf16(...)
#define SPINDLE__SM90_f16(kernel, ...)        SPINDLE__SM90_INSTANCE(kernel, f16, f16, __VA_ARGS__)
#define SPINDLE__PREFILL_SM90(kernel, T, ...) SPINDLE__SM90_##T(kernel, __VA_ARGS__)
#include "instances.def"
};

}  // namespace

const Sm90Instance *find_sm90_f16(const spindle_shape &shape, Scores scores) { return find_instance(instances, shape, scores); }

}  // namespace spindle
