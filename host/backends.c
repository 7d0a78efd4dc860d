/* The backends of this build, and which of them a context gets. The one file that is compiled once a library: with
 * SPINDLE__HAS_CUDA where the cuda backend is linked too. */
#include "internal.h"

#ifdef SPINDLE__HAS_CUDA
static const spindle__backend *const cuda = &spindle__cuda_backend;
#else
static const spindle__backend *const cuda = NULL;
#endif

static spindle_status choose(spindle_context *context, const spindle__backend *backend, int32_t kind) {
  context->backend = backend;
  context->backend_kind = kind;
  return SPINDLE_OK;
}

spindle_status spindle__choose_backend(int32_t asked, spindle_context *context) {
  switch (asked) {
    case SPINDLE_BACKEND_AUTO:
      if (cuda && cuda->present(context->device)) return choose(context, cuda, SPINDLE_BACKEND_CUDA);
      return choose(context, &spindle__cpu_backend, SPINDLE_BACKEND_CPU);
    case SPINDLE_BACKEND_CPU: return choose(context, &spindle__cpu_backend, SPINDLE_BACKEND_CPU);
    case SPINDLE_BACKEND_REFERENCE: return choose(context, &spindle__reference_backend, SPINDLE_BACKEND_REFERENCE);
    case SPINDLE_BACKEND_CUDA:
      if (cuda) return choose(context, cuda, SPINDLE_BACKEND_CUDA);
      return spindle__fail(SPINDLE_NO_DEVICE, "options.backend is SPINDLE_BACKEND_CUDA, which this build does not have");
    default: return spindle__fail(SPINDLE_INVALID_ARGUMENT, "options.backend is %d, must be a SPINDLE_BACKEND_* (0..3)", asked);
  }
}
