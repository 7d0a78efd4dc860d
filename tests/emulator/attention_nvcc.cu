/* The small attentions' healthy kernels for GPUs: a ctest has nvcc compile this, and looks for spills and serialised wgmma. */
#ifdef ATTENTION_SM90
#include "attention_sm90.cuh"
template __global__ void attention_sm90::kernel<attention_sm90::HEALTHY>(const __grid_constant__ attention_sm90::Params);
#else
#include "attention.cuh"
template __global__ void attention::kernel<attention::HEALTHY>(attention::Params);
#endif
