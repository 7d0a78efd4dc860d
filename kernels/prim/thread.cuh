/* Who am I, and where is shared memory. Grids and blocks are one-dimensional. PTX ISA: Special Registers. */
#ifndef SPINDLE_KERNELS_PRIM_THREAD_CUH
#define SPINDLE_KERNELS_PRIM_THREAD_CUH

namespace spindle::prim {

/* The compiler does not see that it is the same every time: so what is computed from it is computed where it is used. It would
 * else be kept in registers from the kernel's start on, dozens of them, and the accumulators would be spilled. */
SPINDLE__DEVICE int thread_index() {
  int x = (int)threadIdx.x;
  asm volatile("" : "+r"(x));
  return x;
}
SPINDLE__DEVICE int block_threads() { return (int)blockDim.x; }
SPINDLE__DEVICE int lane() { return thread_index() & 31; }
SPINDLE__DEVICE int warp() { return thread_index() >> 5; }
SPINDLE__DEVICE int block_x() { return (int)blockIdx.x; }
SPINDLE__DEVICE int grid_x() { return (int)gridDim.x; }

/* The block's dynamic shared memory, as the struct that maps it. 1024-byte aligned (what swizzled TMA tiles need). Not
 * initialised. There is no other shared memory: __shared__ variables are not used. */
template <class Map>
SPINDLE__DEVICE Map &shared() {
  extern __shared__ __align__(1024) unsigned char spindle__dynamic_shared[];
  return *reinterpret_cast<Map *>(spindle__dynamic_shared);
}

/* Address of an object of shared memory inside the shared window, as the instructions below take it. cvta.to.shared
 * (PTX ISA: Data Movement and Conversion). */
SPINDLE__DEVICE uint32_t shared_address(const void *object) { return (uint32_t)__cvta_generic_to_shared(object); }

}  // namespace spindle::prim

#endif
