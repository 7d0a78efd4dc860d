// A stack to run on, and the switch between two of them: 7 ns in assembly on x86-64, ucontext elsewhere.
#ifndef EMULATOR_CONTEXT_H
#define EMULATOR_CONTEXT_H

#include <cstddef>

namespace emulator {

struct Context {
  void *sp = nullptr;  // where it stopped
  char *stack = nullptr;
  size_t size = 0;
  void *fake_stack = nullptr;  // AddressSanitizer's
};

constexpr size_t STACK_BYTES = 72 * 1024;

// Maps a stack with a guard page below it. Contexts keep their stacks from block to block.
void context_map(Context *context);
void context_unmap(Context *context);
// The next switch to context enters `entry`, which never returns. The stack is filled with 0xff (NaN) as far as kernels reach, so
// that a register array that is read before it is written shows in the result.
void context_start(Context *context, void (*entry)());
// The calling OS thread's own stack becomes a context to come back to.
void context_adopt(Context *context);
// Stops `from` and continues `to`. ends: nobody comes back to `from`.
void context_switch(Context *from, Context *to, bool ends);
// First thing in an entry.
void context_entered();

}  // namespace emulator

#endif
