/* Launches, on the host. */
#ifndef SPINDLE_KERNELS_PRIM_LAUNCH_CUH
#define SPINDLE_KERNELS_PRIM_LAUNCH_CUH

namespace spindle::prim {

/* More dynamic shared memory than 48 KiB has to be asked for once a kernel and device. */
template <class... Parameters>
cudaError_t allow_shared(void (*kernel)(Parameters...), size_t shared_bytes) {
  return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
}

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream,
                   Arguments... arguments) {
  kernel<<<grid, (unsigned)threads, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  return cudaGetLastError();
}

}  // namespace spindle::prim

/* kernel<<<grid, threads, shared_bytes, stream>>>(...): the one way to launch. A template with commas goes in parentheses.
 * threads is a multiple of 32. */
#define SPINDLE__LAUNCH(kernel, grid, threads, shared_bytes, stream, ...) \
  ::spindle::prim::launch((kernel), (grid), (threads), (shared_bytes), (stream), __VA_ARGS__)

#endif
