// What the emulator's files share: the state of a running block, and the few services under every primitive.
//
//   context     stacks and switches                    report    findings, source lines
//   schedule    picks threads, runs blocks and grids   shadow    who wrote and read shared memory, vector clocks
//   collective  rendezvous of a warp, votes, shuffles  global    device memory: bounds, races between blocks
//   matrix      ldmatrix, mma                          counters  bank conflicts
//   barrier     sync_block, bar_sync, bar_arrive       runtime, stream, driver   CUDA's calls
//   copy        cp.async                               hooks     plain loads and stores of the check build
//   mbarrier    mbarriers and their waiters            bulk      TMA: bulk copies
//   wgmma       products of a warpgroup                multiply  the sums of mma and wgmma
//   registers   setmaxnreg                             shared    where a thread is, and its accesses to shared memory
//
// One OS thread runs one block at a time; the threads of a block are contexts that switch only inside primitives. So nothing here
// is shared between OS threads but what says so.
#ifndef EMULATOR_CORE_H
#define EMULATOR_CORE_H

#include <csetjmp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "context.h"
#include "emulator.h"
#include "tensor_map.h"
#include "vector_types.h"

namespace emulator {

struct Block;

// A place in a kernel: file and line of a primitive, or the program counter of a plain access.
struct Site {
  const char *file;
  int line;
  const void *pc;
};

constexpr int WARP = 32, MAX_WARPS = 32, MAX_BARRIERS = 16;
constexpr int WARPGROUP = 128, MAX_ACTORS = 32;
constexpr uint32_t ALL = 0xffffffffu;

// An asynchronous copy on its way.
struct Copy {
  uint32_t to;
  const char *from;
  int bytes, from_bytes;
  bool landed;
  Site site;
};

// A bulk copy, of a box of a tensor.
constexpr int BOX_RANK = 4;
struct BulkCopy {
  uint32_t shared, bytes;
  int at[BOX_RANK];
  TensorMap map;
  uint32_t barrier;
  Site site;
};

// What a thread knows of the others: see shadow.h. Each has Block::clock_width entries.
struct Moment {
  std::vector<uint32_t> clock, fenced, proxied;
};

struct Fiber {
  Context context;
  Block *block = nullptr;
  int thread = 0, lane = 0, warp = 0;
  bool done = false;
  const char *waits_for = nullptr;  // for the deadlock report, with waits_at
  Site waits_at{};
  uint32_t *clock = nullptr;    // [Block::clock_width]: see shadow.h
  uint32_t *fenced = nullptr;   // the part of clock that fence_device has made visible to other blocks
  uint32_t *proxied = nullptr;  // the part that fence_proxy_async has made visible to the async proxy
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // ends of committed groups in copies
  size_t next_copy = 0, next_group = 0;
  uint32_t waits_barrier = 0, waits_parity = 0;  // the mbarrier that it waits for, for the deadlock report
};

// Lanes that have arrived at a collective.
struct Rendezvous {
  uint32_t mask, arrived;  // arrived = 0: free
  void (*execute)(Block &block, int warp, Rendezvous &at);
  Site site;
  void *argument[WARP];
};

struct Warp {
  Rendezvous at[4];           // concurrent ones have disjoint masks
  uint32_t collective_clock;  // counts reads of the warp as one
  int registers, wanted;      // a thread; wanted: by a setmaxnreg_inc that waits
  uint32_t waiting;           // lanes, in it
  Site registers_site;        // of the last setmaxnreg
};

struct Barrier {
  int threads, arrived;
  uint32_t waiting[MAX_WARPS];
  Site site[MAX_WARPS];
  Moment moment;  // joined from those who arrived
};

struct Mbarrier {
  uint32_t arrivals, pending, phase;
  int32_t bytes;                // announced and not landed
  bool fenced;                  // bulk copies see its mbarrier_init
  int actor;                    // stands for the copies that land here, in clocks; -1: none yet
  uint32_t waiting[MAX_WARPS];  // for the current phase to end
  Moment arrived, ended;        // of all arrivals so far, and of those up to the last phase that ended
};

// Shared memory has two bytes a cell.
struct Cell {
  uint32_t clock;   // of the writer when it wrote
  uint16_t writer;  // a thread, or what stands for bulk copies
  uint16_t flags;
};
enum CellFlag : uint16_t {
  CELL_WRITTEN = 1,
  CELL_GENERIC = 2,   // through the generic proxy
  CELL_COPYING = 4,   // by a cp_async that nobody has waited for
  CELL_BULK = 8,      // by a bulk copy that has not landed
  CELL_MBARRIER = 16  // holds one
};
constexpr uint32_t CELL = 2, CHUNK = 16, LINE = 128;
constexpr uint32_t ARENA_BYTES = 256 * 1024;

struct Launch {
  uint32_t grid;
  int threads;
  size_t shared_bytes;
  int device, arch;
  uint32_t id;  // 12 bits, not 0
  const std::function<void()> *body;
  emulator_options options;
};

using SiteKey = std::pair<const char *, int>;
struct SiteHash {
  size_t operator()(const SiteKey &k) const { return (size_t)k.first * 31 + (size_t)k.second; }
};
using Counters = std::unordered_map<SiteKey, emulator_counters, SiteHash>;

// The lanes of one execution of a load or store, gathered as each lane comes by.
struct Access {
  uint32_t lanes = 0;
  uint32_t address[WARP];
  int bytes = 0;
};
struct Accesses {
  uint64_t count[WARP] = {};  // executions a lane
  uint64_t first = 0;         // execution of open[0]
  std::vector<Access> open;
};

// Visible history of other blocks: per block the clock it has released. See global.cpp.
using History = std::map<uint32_t, std::vector<uint32_t>>;

struct Warpgroup;  // wgmma.cpp

struct Block {
  const Launch *launch = nullptr;
  int threads = 0, warps = 0, live = 0;
  uint32_t number = 0;  // index in the grid
  Context home;         // where the block was started from
  std::vector<Fiber> fibers;
  uint32_t ready[MAX_WARPS] = {}, ready_warps = 0;
  Warp warp[MAX_WARPS] = {};
  Barrier barriers[MAX_BARRIERS];
  uint64_t random = 1;
  bool stopped = false;
  sigjmp_buf after_fault;

  char *arena = nullptr;  // shared addresses are offsets in it
  uint32_t shared_begin = 0, shared_end = 0;
  Cell *cells = nullptr;      // [ARENA_BYTES / CELL]
  uint32_t *reads = nullptr;  // [ARENA_BYTES / CELL][marked_warps]: the last read of each warp
  int marked_warps = 0;
  std::vector<uint8_t> marked = std::vector<uint8_t>(ARENA_BYTES / LINE);  // lines whose cells or reads may not be 0
  // Background reads of a chunk under way, and the swizzle's span that a tensor copy has filled a line with; 0: none.
  std::vector<uint8_t> in_flight = std::vector<uint8_t>(ARENA_BYTES / CHUNK);
  std::vector<uint8_t> span = std::vector<uint8_t>(ARENA_BYTES / LINE);
  int clock_width = 0;                        // threads, warps, actors
  std::vector<uint32_t> clocks;               // of all fibers
  bool fences = false, proxy_fences = false;  // somebody has called fence_device, fence_proxy_async: begin_fences
  Moment scratch;
  History history;

  std::map<uint32_t, Mbarrier> mbarriers;  // by address
  std::vector<uint32_t> actor_clock;       // [MAX_ACTORS]
  int actors = 0;
  std::vector<BulkCopy> loads;                           // under way
  std::shared_ptr<Warpgroup> warpgroups[MAX_WARPS / 4];  // of those that have used wgmma
  int free_registers = 0;                                // given up and not taken, a thread of a warp

  Counters counters;
  std::map<std::tuple<const void *, int, int>, Accesses> accesses;  // by place and warp
  emulator_work work{};

  uint32_t draw() {  // xorshift64
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return (uint32_t)(random >> 20);
  }
  bool shadow() const { return !launch->options.no_shadow; }
};

// The CUDA thread that runs on this OS thread; null in host code.
extern __thread Fiber *current __attribute__((tls_model("initial-exec")));

// report.cpp. Safe from any OS thread. At most a few dozen distinct findings are kept.
void report(int kind, Site site, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool any_findings();
// For an instruction that not every device has: stops the block if the emulated one has it not.
void need_arch(int first, int last, Site site, const char *what);
const char *base_name(const char *path);
void add_results(const Block &block, double seconds);
void add_kernel(const void *kernel);

// schedule.cpp
void run_grid(const Launch &launch);
void suspend(Fiber *fiber, const char *what, Site site);  // until woken
void wake(Block &block, int warp, uint32_t lanes);
[[noreturn]] void stop_block(Fiber *fiber);  // when there is no sensible way on

// collective.cpp. Runs execute once all lanes of mask are there, on the OS thread of the block.
void rendezvous(void (*execute)(Block &, int, Rendezvous &), uint32_t mask, void *argument, Site site);

// copy.cpp
bool eager(Block &block);          // does this asynchronous work land at once?
void finish_copies(Fiber *fiber);  // at a thread's end

// mbarrier.cpp
void complete_load(Block &block, const BulkCopy &copy);  // the bytes are there
void check_bulk_barrier(Fiber *fiber, uint32_t address, Site site);
std::string describe_mbarrier(const Block &block, uint32_t address);

// bulk.cpp
bool land_load(Block &block);     // one of those under way; false: none
void finish_loads(Block &block);  // at a block's end

// wgmma.cpp
void finish_wgmma(Fiber *fiber);  // at a thread's end

// registers.cpp
void reset_registers(Block &block);
void finish_registers(Block &block);

// counters.cpp
void count_matrix_rows(Block &block, const uint32_t *rows, Site site);  // 8 rows of 16 bytes
void count_instruction(Block &block, Site site, uint32_t contiguous_bytes = 0);
void count_access(Fiber *fiber, uint32_t address, int bytes, Site site);
void count_rest(Block &block);

extern emulator_options options;  // of the next launch
extern bool plain_accesses_seen;

}  // namespace emulator

#endif
