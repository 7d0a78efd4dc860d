/* The decode kernels of instances.def whose K and V are e4m3. */
#include "decode_instance.cuh"

namespace spindle {
namespace {

const DecodeInstance instances[] = {
#define SPINDLE__DECODE_E4M3(kernel, T, D) SPINDLE__DECODE_INSTANCE(kernel, T, e4m3, D)
#include "instances.def"
};

}  // namespace

const DecodeInstance *find_decode_e4m3(const spindle_shape &shape) { return find_instance(instances, shape, Scores::GENERAL); }

}  // namespace spindle
