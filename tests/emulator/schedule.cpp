// Picks which CUDA thread runs next, and runs blocks and grids.
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "core.h"
#include "global.h"
#include "shadow.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define EMULATOR_ASAN 1
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {

__thread Fiber *current __attribute__((tls_model("initial-exec"))) = nullptr;

// The set bit of `set` that comes after `last` in the launch's order.
static int choose(Block &block, uint32_t set, int last) {
  switch (block.launch->options.order) {
    case EMULATOR_DESCENDING: return 31 - __builtin_clz(set);
    case EMULATOR_SHUFFLED: {
      for (uint32_t skip = block.draw() % (uint32_t)__builtin_popcount(set); skip; --skip) set &= set - 1;
      return __builtin_ctz(set);
    }
    default: {
      const uint32_t after = last >= 31 ? 0 : set & ~((2u << last) - 1);
      return __builtin_ctz(after ? after : set);
    }
  }
}

// A warp runs on as long as one of its lanes can.
static Fiber *next_fiber(Block &block, int warp, int lane) {
  if (!block.ready[warp]) {
    if (!block.ready_warps) return nullptr;
    warp = choose(block, block.ready_warps, warp);
    lane = 31;
  }
  lane = choose(block, block.ready[warp], lane);
  block.ready[warp] &= ~(1u << lane);
  if (!block.ready[warp]) block.ready_warps &= ~(1u << warp);
  return &block.fibers[(size_t)warp * WARP + (size_t)lane];
}

void wake(Block &block, int warp, uint32_t lanes) {
  if (!lanes) return;
  block.ready[warp] |= lanes;
  block.ready_warps |= 1u << warp;
}

void stop_block(Fiber *fiber) {
  fiber->block->stopped = true;
  current = nullptr;
  context_switch(&fiber->context, &fiber->block->home, true);
  __builtin_unreachable();
}

static void report_deadlock(const Block &block) {
  std::map<std::string, int> sites;
  Site first{};
  for (const Fiber &f : block.fibers) {
    if (f.done || f.thread >= block.threads) continue;
    if (!first.file) first = f.waits_at;
    const std::string where = f.waits_at.file ? base_name(f.waits_at.file) : "?";
    std::string site = std::string(f.waits_for ? f.waits_for : "?") + " at " + where + ":" + std::to_string(f.waits_at.line);
    if (f.waits_barrier) {
      site += " for parity " + std::to_string(f.waits_parity) + " (" + describe_mbarrier(block, f.waits_barrier) + ")";
    }
    ++sites[site];
  }
  std::string list;
  for (const auto &s : sites) list += "; " + std::to_string(s.second) + " in " + s.first;
  report(EMULATOR_DEADLOCK, first, "%d of %d threads have ended, the others wait%s", block.threads - block.live, block.threads,
         list.c_str());
}

[[noreturn]] static void deadlock(Fiber *fiber) {
  report_deadlock(*fiber->block);
  stop_block(fiber);  // nothing that owns memory may be on the stack here
}

// Who runs when `fiber` does not: if nobody can, bulk loads land until somebody can.
static Fiber *next_or_land(Fiber *fiber) {
  Block &block = *fiber->block;
  Fiber *next = next_fiber(block, fiber->warp, fiber->lane);
  while (!next && land_load(block)) next = next_fiber(block, fiber->warp, fiber->lane);
  return next;
}

void suspend(Fiber *fiber, const char *what, Site site) {
  fiber->waits_for = what;
  fiber->waits_at = site;
  Block &block = *fiber->block;
  if (block.launch->options.copies == EMULATOR_RANDOM && !block.loads.empty() && !(block.draw() & 3)) land_load(block);
  Fiber *next = next_or_land(fiber);
  if (!next) deadlock(fiber);
  if (next == fiber) return;
  ++block.work.switches;
  current = next;
  context_switch(&fiber->context, &next->context, false);
}

static void fiber_main() {
  context_entered();
  Fiber *fiber = current;
  Block &block = *fiber->block;
  (*block.launch->body)();
  finish_copies(fiber);
  finish_wgmma(fiber);
  fiber->done = true;
  Fiber *next = --block.live ? next_or_land(fiber) : nullptr;
  if (block.live && !next) deadlock(fiber);
  current = next;
  context_switch(&fiber->context, next ? &next->context : &block.home, true);
  __builtin_unreachable();
}

// ---- Faults -----------------------------------------------------------------------------------------------------------

static void describe_fault(char *to, size_t size, const Fiber *fiber, const char *address) {
  const Block &block = *fiber->block;
  const long offset = address - (block.arena + block.shared_begin);
  if (address >= block.arena - ARENA_BYTES && address < block.arena + 2 * (size_t)ARENA_BYTES) {
    snprintf(to, size, "offset %ld of %u bytes of shared memory", offset, block.shared_end - block.shared_begin);
  } else if (address < fiber->context.stack && address >= fiber->context.stack - 65536) {
    snprintf(to, size, "a thread's stack is full");
  } else if (!describe_global(to, size, address)) {
    snprintf(to, size, "%p is no memory", (const void *)address);
  }
}

static void on_fault(int signal, siginfo_t *info, void *machine) {
  Fiber *fiber = current;
  if (!fiber) {
    ::signal(signal, SIG_DFL);
    raise(signal);
    return;
  }
  const void *pc = nullptr;
#ifdef __x86_64__
  pc = (const char *)((ucontext_t *)machine)->uc_mcontext.gregs[REG_RIP] + 1;
#endif
  (void)machine;
  char what[200];
  describe_fault(what, sizeof what, fiber, (const char *)info->si_addr);
  report(EMULATOR_FAULT, Site{nullptr, 0, pc}, "thread %d faults: %s", fiber->thread, what);
  fiber->block->stopped = true;
  current = nullptr;
  siglongjmp(fiber->block->after_fault, 1);
}

// A fault may be a full stack, so its handler runs on one of its own. AddressSanitizer has its own handler.
static void catch_faults(char *stack, size_t size) {
#ifndef EMULATOR_ASAN
  stack_t alternative = {};
  alternative.ss_sp = stack;
  alternative.ss_size = size;
  sigaltstack(&alternative, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
#else
  (void)stack, (void)size, (void)on_fault;
#endif
}

// ---- Blocks -----------------------------------------------------------------------------------------------------------

// The memory that a block runs in, kept for the next one.
struct Worker {
  Block block;
  std::unique_ptr<char[]> signal_stack{new char[65536]};

  Worker() {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const size_t cells = ARENA_BYTES / CELL;
    char *map = (char *)mmap(nullptr, 3 * (size_t)ARENA_BYTES, PROT_NONE, flags, -1, 0);  // guards on both sides
    block.arena = map + ARENA_BYTES;
    mprotect(block.arena, ARENA_BYTES, PROT_READ | PROT_WRITE);
    block.cells = (Cell *)mmap(nullptr, cells * sizeof(Cell), PROT_READ | PROT_WRITE, flags, -1, 0);
    block.reads = (uint32_t *)mmap(nullptr, cells * MAX_WARPS * sizeof(uint32_t), PROT_READ | PROT_WRITE, flags, -1, 0);
  }
  Worker(const Worker &) = delete;
  ~Worker() {
    for (Fiber &f : block.fibers) context_unmap(&f.context);
    munmap(block.arena - ARENA_BYTES, 3 * (size_t)ARENA_BYTES);
    munmap(block.cells, ARENA_BYTES / CELL * sizeof(Cell));
    munmap(block.reads, ARENA_BYTES / CELL * MAX_WARPS * sizeof(uint32_t));
  }

  void prepare(const Launch &launch, uint32_t number);
  void run();
};

void Worker::prepare(const Launch &launch, uint32_t number) {
  block.launch = &launch;
  block.threads = block.live = launch.threads;
  block.warps = launch.threads / WARP;
  block.number = number;
  block.random = (launch.options.seed * 1000003 + number) * 0x9E3779B97F4A7C15u | 1;
  block.stopped = block.fences = block.proxy_fences = false;
  block.history.clear();
  block.accesses.clear();
  block.mbarriers.clear();
  block.loads.clear();
  for (std::shared_ptr<Warpgroup> &group : block.warpgroups) group.reset();
  std::fill(std::begin(block.warp), std::end(block.warp), Warp{});
  reset_registers(block);

  // At the end of the arena, so that what runs over meets the guard.
  block.shared_begin = ARENA_BYTES - (uint32_t)((launch.shared_bytes + 1023) / 1024 * 1024);
  block.shared_end = block.shared_begin + (uint32_t)launch.shared_bytes;
#ifdef EMULATOR_ASAN
  ASAN_UNPOISON_MEMORY_REGION(block.arena, ARENA_BYTES);
#endif
  memset(block.arena + block.shared_begin, 0xff, ARENA_BYTES - block.shared_begin);
#ifdef EMULATOR_ASAN
  ASAN_POISON_MEMORY_REGION(block.arena, block.shared_begin);
  ASAN_POISON_MEMORY_REGION(block.arena + block.shared_end, ARENA_BYTES - block.shared_end);
#endif

  while (block.fibers.size() < (size_t)launch.threads) {
    block.fibers.emplace_back();
    context_map(&block.fibers.back().context);
  }
  for (int t = 0; t < launch.threads; ++t) {
    Fiber &f = block.fibers[(size_t)t];
    f.block = &block;
    f.thread = t;
    f.lane = t % WARP;
    f.warp = t / WARP;
    f.done = false;
    f.waits_for = nullptr;
    f.waits_barrier = 0;
    f.copies.clear();
    f.groups.clear();
    f.next_copy = f.next_group = 0;
    context_start(&f.context, fiber_main);
  }
  block.ready_warps = 0;
  for (int w = 0; w < block.warps; ++w) {
    block.ready[w] = 0;
    wake(block, w, ALL);
  }
  shadow_reset(block);
}

void Worker::run() {
  context_adopt(&block.home);
  if (sigsetjmp(block.after_fault, 0) == 0) {
    current = next_fiber(block, 31, 31);
    context_switch(&block.home, &current->context, false);
  }
  current = nullptr;
  if (!block.stopped) {
    finish_loads(block);
    finish_registers(block);
    count_rest(block);
  }
  ++block.work.blocks;
}

static uint32_t block_number(const Launch &launch, uint32_t turn, uint32_t blocks) {
  switch (launch.options.order) {
    case EMULATOR_DESCENDING: return blocks - 1 - turn;
    case EMULATOR_SHUFFLED: {  // an affine permutation: blocks needs no table
      uint64_t step = launch.options.seed * 2654435761u % blocks | 1;
      while (std::__gcd<uint64_t>(step, blocks) != 1) step += 2;
      return (uint32_t)((turn * step + launch.options.seed) % blocks);
    }
    default: return turn;
  }
}

void run_grid(const Launch &launch) {
  static std::vector<std::unique_ptr<Worker>> workers;  // launches do not overlap: see runtime.cpp
  const uint32_t blocks = launch.grid;
  const int wanted = launch.options.os_threads ? launch.options.os_threads : (int)std::thread::hardware_concurrency();
  const size_t count = std::max<size_t>(1, std::min<size_t>((size_t)wanted, blocks));
  while (workers.size() < count) workers.emplace_back(new Worker);
  std::atomic<uint32_t> turn{0};
  std::atomic<bool> stop{false};
  const auto start = std::chrono::steady_clock::now();
  auto work = [&](Worker &worker) {
    catch_faults(worker.signal_stack.get(), 65536);
    for (uint32_t t; !stop && (t = turn++) < blocks;) {
      worker.prepare(launch, block_number(launch, t, blocks));
      worker.run();
      if (worker.block.stopped) stop = true;
    }
  };
  std::vector<std::thread> others;
  for (size_t i = 1; i < count; ++i) others.emplace_back(work, std::ref(*workers[i]));
  work(*workers[0]);
  for (std::thread &t : others) t.join();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (size_t i = 0; i < count; ++i) {
    add_results(workers[i]->block, i ? 0 : seconds);
    workers[i]->block.counters.clear();
    workers[i]->block.work = {};
  }
}

}  // namespace emulator

int emulator_catches_faults(void) {
#ifdef EMULATOR_ASAN
  return 0;
#else
  return 1;
#endif
}
