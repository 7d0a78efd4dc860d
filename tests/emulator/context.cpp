#include "context.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define EMULATOR_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__) || defined(EMULATOR_UCONTEXT)
#define EMULATOR_USES_UCONTEXT 1
#include <ucontext.h>
#endif

namespace emulator {

constexpr size_t POISONED_BYTES = 16 * 1024;

#ifndef EMULATOR_USES_UCONTEXT
extern "C" void emulator_switch_stacks(void **save, void *load);
asm(R"(
.text
.globl emulator_switch_stacks
.type emulator_switch_stacks, @function
emulator_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch_stacks, .-emulator_switch_stacks
)");
#endif

void context_map(Context *context) {
  const size_t guard = (size_t)sysconf(_SC_PAGESIZE);
  char *base =
      (char *)mmap(nullptr, guard + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  mprotect(base, guard, PROT_NONE);
  context->stack = base + guard;
  context->size = STACK_BYTES;
#ifdef EMULATOR_USES_UCONTEXT
  context->sp = new ucontext_t;
#endif
}

void context_unmap(Context *context) {
  const size_t guard = (size_t)sysconf(_SC_PAGESIZE);
#ifdef EMULATOR_USES_UCONTEXT
  delete (ucontext_t *)context->sp;
#endif
  munmap(context->stack - guard, guard + context->size);
}

void context_start(Context *context, void (*entry)()) {
#ifdef EMULATOR_ASAN
  ASAN_UNPOISON_MEMORY_REGION(context->stack, context->size);
#endif
  memset(context->stack + context->size - POISONED_BYTES, 0xff, POISONED_BYTES);
#ifdef EMULATOR_USES_UCONTEXT
  ucontext_t *u = (ucontext_t *)context->sp;
  getcontext(u);
  u->uc_stack.ss_sp = context->stack;
  u->uc_stack.ss_size = context->size;
  u->uc_link = nullptr;
  makecontext(u, entry, 0);
#else
  void **top = (void **)((uintptr_t)(context->stack + context->size) & ~(uintptr_t)63);
  *--top = nullptr;  // where a return address would be: the stack is aligned as after a call
  *--top = (void *)entry;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context->sp = top;
#endif
}

void context_adopt(Context *context) {
#ifdef EMULATOR_USES_UCONTEXT
  static thread_local ucontext_t own;
  context->sp = &own;
#endif
#ifdef EMULATOR_ASAN
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void *stack = nullptr;
  pthread_attr_getstack(&attributes, &stack, &context->size);
  context->stack = (char *)stack;
  pthread_attr_destroy(&attributes);
#endif
  (void)context;
}

void context_switch(Context *from, Context *to, bool ends) {
#ifdef EMULATOR_ASAN
  __sanitizer_start_switch_fiber(ends ? nullptr : &from->fake_stack, to->stack, to->size);
#endif
  (void)ends;
#ifdef EMULATOR_USES_UCONTEXT
  swapcontext((ucontext_t *)from->sp, (ucontext_t *)to->sp);
#else
  emulator_switch_stacks(&from->sp, to->sp);
#endif
#ifdef EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void context_entered() {
#ifdef EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace emulator
