// wgmma. Threads deposit their part of a product and go on; it is carried out when all 128 have (eager) or when one waits for it
// (late). Until a thread has waited its accumulators hold a pattern, nobody may write the operands in shared memory, and its
// fragments of A must stay as they are.
#include <cstring>
#include <deque>

#include "core.h"
#include "formats.h"
#include "prim_runtime.h"
#include "shadow.h"
#include "vectors.h"
#include "wgmma_operand.h"

namespace emulator {

constexpr int ROWS = 64, MAX_DEPTH = 32, MAX_COLUMNS = 256, WARPS = WARPGROUP / WARP;

// What accumulators in flight show: NaN, which spoils every result, next to a number, which no arithmetic leaves as it is.
static float in_flight(int i) { return bits_float(i & 1 ? 0x7e5a5a5a : 0x7fc5c5c5); }

// ---- Products ---------------------------------------------------------------------------------------------------------

// Accumulators of a warpgroup that are in flight.
struct Tile {
  int columns;
  uint64_t first;        // product
  std::vector<float> d;  // [64][columns]
};

struct Product {
  WgmmaCall call;
  Operand a, b;
  int depth;
  Site site;
  std::shared_ptr<Tile> tile;
  uint32_t a_fragments[WARPGROUP][4];
  int arrived, retired;  // threads
  bool done;
  uint32_t checked, read[WARPS];  // warps that have checked their operands; their reads, once waited for
  int held;                       // warps that have not waited
};

struct InFlight {
  float *d;
  uint64_t last;  // product
  std::shared_ptr<Tile> tile;
};

struct Member {
  uint64_t issued = 0, retired = 0;
  bool fenced = false;
  std::vector<uint64_t> groups;  // ends of committed ones not waited for, in products
  std::vector<InFlight> accumulators;
  std::vector<const uint32_t *> fragments;  // of products [retired, issued)
};

struct Warpgroup {
  std::deque<std::unique_ptr<Product>> products;
  uint64_t base = 0;  // number of products[0]
  Member member[WARPGROUP];
  uint32_t waiting[WARPS] = {};
};

static Warpgroup &group_of(Fiber *fiber) {
  std::shared_ptr<Warpgroup> &group = fiber->block->warpgroups[fiber->thread / WARPGROUP];
  if (!group) group = std::make_shared<Warpgroup>();
  return *group;
}
static Member &member_of(Fiber *fiber) { return group_of(fiber).member[fiber->thread % WARPGROUP]; }

static int row_of(int t, int i) { return t / WARP * 16 + t % WARP / 4 + (i >> 1 & 1) * 8; }
static int column_of(int t, int i) { return i / 4 * 8 + t % 4 * 2 + (i & 1); }

// The elements of some bytes as floats; returns how many.
static int widen(const void *bytes, int count, Element element, float *to) {
  if (element == Element::E4M3) {
    for (int i = 0; i < count; ++i) to[i] = e4m3_to_float(((const uint8_t *)bytes)[i]);
    return count;
  }
  for (int i = 0; i < count / 2; ++i) {
    uint16_t bits;
    memcpy(&bits, (const char *)bytes + 2 * i, 2);
    to[i] = element == Element::BF16 ? bf16_to_float(bits) : f16_to_float(bits);
  }
  return count / 2;
}

// A fragment's register i is 4 bytes of a row: the first or second 16 of it, 4 t on.
static void load_fragments(const Product &p, float *a) {
  const int depth = p.depth, half = depth / 2;
  for (int t = 0; t < WARPGROUP; ++t) {
    for (int i = 0; i < 4; ++i) {
      float *row = a + (t / WARP * 16 + t % WARP / 4 + (i & 1) * 8) * depth;
      widen(&p.a_fragments[t][i], 4, p.call.element, row + (i >> 1) * half + t % 4 * half / 4);
    }
  }
}

static void load_operands(const Block &block, const Product &p, float *a, float *b) {
  const int n = p.call.columns, depth = p.depth;
  if (p.call.a) {
    load_fragments(p, a);
  } else {
    for_chunks(p.a, 0, ROWS, [&](uint32_t address, int line, int half) {
      widen(block.arena + address, CHUNK, p.call.element, a + line * depth + half * depth / 2);
    });
  }
  for_chunks(p.b, 0, n, [&](uint32_t address, int line, int j) {
    float chunk[CHUNK];
    const int elements = widen(block.arena + address, CHUNK, p.call.element, chunk);
    for (int e = 0; e < elements; ++e) b[p.b.mn_major ? line * n + 8 * j + e : (elements * j + e) * n + line] = chunk[e];
  });
}

static void execute(Block &block, Product &p) {
  if (p.done) return;
  p.done = true;
  static thread_local float a[ROWS * MAX_DEPTH], b[MAX_DEPTH * MAX_COLUMNS];  // much for a fiber's stack
  load_operands(block, p, a, b);
  float *d = p.tile->d.data();
  if (!p.call.accumulate) std::fill(p.tile->d.begin(), p.tile->d.end(), 0.0f);
  multiply(d, a, b, ROWS, p.call.columns, p.depth);
  ++block.work.wgmma;
}

// ---- Issue ------------------------------------------------------------------------------------------------------------

static void hold(Block &block, const Product &p, int change) {
  const auto one = [&](uint32_t address, int, int) { shared_hold(block, address, CHUNK, change); };
  if (!p.call.a) for_chunks(p.a, 0, ROWS, one);
  for_chunks(p.b, 0, p.call.columns, one);
}

// Every chunk of B and the rows of A that this warp needs, whether it can be read now.
static void check_operands(Fiber *fiber, Product &p) {
  const int w = fiber->thread % WARPGROUP / WARP;
  if (p.checked >> w & 1) return;
  p.checked |= 1u << w;
  const auto check = [&](const Operand &o, const char *what) {
    return [=, &p](uint32_t address, int, int) {
      if (!shared_valid(fiber, address, CHUNK, CHUNK, p.site, what)) stop_block(fiber);
      shared_check_async(fiber, address, CHUNK, p.site, what);
      const uint32_t span = fiber->block->span[address / LINE];
      if (!span || span == o.span) return;
      report(EMULATOR_BAD_WGMMA, p.site, "%s has a swizzle of %u bytes in its descriptor, and was loaded with %u (16: none)",
             what, o.span, span);
    };
  };
  if (!p.call.a) for_chunks(p.a, 16 * w, 16 * w + 16, check(p.a, "A of wgmma"));
  for_chunks(p.b, 0, p.call.columns, check(p.b, "B of wgmma"));
}

static Product &new_product(Block &block, Warpgroup &group, const WgmmaCall &call, Site site) {
  need_arch(90, 90, site, "wgmma");
  group.products.emplace_back(new Product{});
  Product &p = *group.products.back();
  p.call = call;
  p.a = decode(call.a_descriptor, false);
  p.b = decode(call.b_descriptor, call.b_mn_major);
  p.depth = call.element == Element::E4M3 ? 32 : 16;
  p.site = site;
  p.held = WARPS;
  if (!call.a) check_descriptor(p.a, "A", site);
  check_descriptor(p.b, "B", site);
  count_instruction(block, site);
  if (!call.a) count_operand(block, p.a, ROWS, site);
  count_operand(block, p.b, call.columns, site);
  return p;
}

static bool same_call(const WgmmaCall &x, const WgmmaCall &y) {
  return x.columns == y.columns && !x.a == !y.a && (x.a || x.a_descriptor == y.a_descriptor) &&
         x.b_descriptor == y.b_descriptor && x.accumulate == y.accumulate && x.b_mn_major == y.b_mn_major &&
         x.element == y.element;
}

// Takes the thread's accumulators away, unless an earlier product still has them.
static void take_accumulators(Fiber *fiber, Member &member, Product &p, uint64_t number, const WgmmaCall &call) {
  const int t = fiber->thread % WARPGROUP, values = call.columns / 2;
  for (InFlight &f : member.accumulators) {
    const bool chained = f.d == call.d && f.tile->columns == call.columns;
    if (!chained && (f.d + f.tile->columns / 2 <= call.d || call.d + values <= f.d)) continue;
    if (!p.tile) p.tile = f.tile;
    if (!chained || p.tile != f.tile) {
      report(EMULATOR_BAD_WGMMA, p.site, "thread %d gives wgmma accumulators that another one still has", fiber->thread);
      stop_block(fiber);
    }
    f.last = number;
    return;
  }
  if (!p.tile) p.tile.reset(new Tile{call.columns, number, std::vector<float>((size_t)(ROWS * call.columns))});
  if (p.tile->first != number) {
    report(EMULATOR_BAD_WGMMA, p.site, "thread %d gives wgmma other accumulators than those before it", fiber->thread);
    stop_block(fiber);
  }
  for (int i = 0; i < values; ++i) {
    p.tile->d[(size_t)(row_of(t, i) * call.columns + column_of(t, i))] = call.d[i];
    call.d[i] = in_flight(i);
  }
  member.accumulators.push_back({call.d, number, p.tile});
}

void wgmma_fence() { member_of(current).fenced = true; }

void wgmma(const WgmmaCall &call, const char *file, int line) {
  Fiber *fiber = current;
  Block &block = *fiber->block;
  Warpgroup &group = group_of(fiber);
  Member &member = member_of(fiber);
  const Site site = {file, line, nullptr};
  if (!member.fenced) report(EMULATOR_BAD_WGMMA, site, "wgmma by thread %d in a group without wgmma_fence", fiber->thread);
  const uint64_t number = member.issued++;
  const bool first = number == group.base + group.products.size();
  Product &p = first ? new_product(block, group, call, site) : *group.products[number - group.base];
  if (!same_call(p.call, call) || p.site.line != line) {
    report(EMULATOR_BAD_WGMMA, site, "thread %d: operands or place differ from those of other threads of the warpgroup (line %d)",
           fiber->thread, p.site.line);
    stop_block(fiber);
  }
  take_accumulators(fiber, member, p, number, call);
  member.fragments.push_back(call.a);
  if (call.a) memcpy(p.a_fragments[fiber->thread % WARPGROUP], call.a, sizeof p.a_fragments[0]);
  check_operands(fiber, p);
  if (first) hold(block, p, 1);
  if (++p.arrived < WARPGROUP) return;
  const bool next = number == group.base || group.products[number - group.base - 1]->done;
  if (next && eager(block)) execute(block, p);
  for (int w = 0; w < WARPS; ++w) {
    wake(block, fiber->thread / WARPGROUP * WARPS + w, group.waiting[w]);
    group.waiting[w] = 0;
  }
}

void wgmma_commit() {
  Member &member = member_of(current);
  member.groups.push_back(member.issued);
  member.fenced = false;
}

// ---- Waiting ----------------------------------------------------------------------------------------------------------

// The first thread of a warp to have waited ends the reads of the warp, the last warp the hold on the operands.
static void end_reads(Fiber *fiber, Product &p) {
  Block &block = *fiber->block;
  const int w = fiber->thread % WARPGROUP / WARP;
  if (p.read[w]) return;
  p.read[w] = begin_warp_read(block, fiber->warp);
  const auto mark = [&](uint32_t address, int, int) { shared_mark_read(fiber, address, CHUNK, p.read[w]); };
  if (!p.call.a) for_chunks(p.a, 16 * w, 16 * w + 16, mark);
  for_chunks(p.b, 0, p.call.columns, mark);
  if (!--p.held) hold(block, p, -1);
}

static void retire(Fiber *fiber, Warpgroup &group, Member &member, Site site) {
  while (group.products[member.retired - group.base]->arrived < WARPGROUP) {
    group.waiting[fiber->thread % WARPGROUP / WARP] |= 1u << fiber->lane;
    suspend(fiber, "wgmma_wait (for other warps of the warpgroup to issue)", site);
  }
  Product &p = *group.products[member.retired - group.base];
  execute(*fiber->block, p);
  end_reads(fiber, p);
  const uint32_t *fragments = member.fragments[0];
  if (fragments && memcmp(fragments, p.a_fragments[fiber->thread % WARPGROUP], sizeof p.a_fragments[0])) {
    report(EMULATOR_IN_FLIGHT, p.site, "thread %d has changed its fragments of A before wgmma_wait", fiber->thread);
  }
  member.fragments.erase(member.fragments.begin());
  ++member.retired;
  ++p.retired;
  while (!group.products.empty() && group.products.front()->retired == WARPGROUP) {
    group.products.pop_front();
    ++group.base;
  }
}

static void give_back(Fiber *fiber, const InFlight &f, Site site) {
  const int t = fiber->thread % WARPGROUP, columns = f.tile->columns;
  bool changed = false;
  for (int i = 0; i < columns / 2; ++i) {
    changed |= float_bits(f.d[i]) != float_bits(in_flight(i));
    f.d[i] = f.tile->d[(size_t)(row_of(t, i) * columns + column_of(t, i))];
  }
  if (changed) report(EMULATOR_IN_FLIGHT, site, "thread %d has written accumulators of a wgmma before this wait", fiber->thread);
}

void wgmma_wait(int pending, const char *file, int line) {
  Fiber *fiber = current;
  Warpgroup &group = group_of(fiber);
  Member &member = member_of(fiber);
  const Site site = {file, line, nullptr};
  uint64_t target = member.retired;
  for (; member.groups.size() > (size_t)pending; member.groups.erase(member.groups.begin())) target = member.groups[0];
  while (member.retired < target) retire(fiber, group, member, site);
  for (size_t i = 0; i < member.accumulators.size();) {
    if (member.accumulators[i].last < target) {
      give_back(fiber, member.accumulators[i], site);
      member.accumulators.erase(member.accumulators.begin() + (long)i);
    } else {
      ++i;
    }
  }
}

void finish_wgmma(Fiber *fiber) {
  if (!fiber->block->warpgroups[fiber->thread / WARPGROUP]) return;
  const Member &member = member_of(fiber);
  if (member.retired == member.issued) return;
  const Warpgroup &group = group_of(fiber);
  report(EMULATOR_UNFINISHED, group.products[member.retired - group.base]->site,
         "thread %d ends with wgmmas it has not waited for", fiber->thread);
}

}  // namespace emulator
