// Findings, counters and options: everything that tests ask for.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>

#include "core.h"

namespace emulator {

emulator_options options;
bool plain_accesses_seen;

constexpr size_t MAX_FINDINGS = 64;

static std::mutex lock;
static std::vector<emulator_finding> findings;
static std::map<std::pair<int, SiteKey>, size_t> finding_at;
static Counters counters;
static emulator_work work;
static std::vector<const void *> kernels;

const char *base_name(const char *path) {
  const char *slash = path ? strrchr(path, '/') : nullptr;
  return slash ? slash + 1 : path ? path : "?";
}

// Source line of a program counter, by addr2line where there is one; else its offset in the file.
static std::string source_line(const void *pc) {
  Dl_info info;
  if (!dladdr(pc, &info)) return "?";
  const size_t address = (size_t)pc - 1;
  char text[600];
  for (const size_t base : {(size_t)info.dli_fbase, (size_t)0}) {  // position-independent or not
    snprintf(text, sizeof text, "addr2line -s -e '%s' 0x%zx 2>/dev/null", info.dli_fname, address - base);
    FILE *pipe = popen(text, "r");
    if (!pipe) break;
    const bool found = fgets(text, sizeof text, pipe) && text[0] != '?';
    pclose(pipe);
    if (found) return std::string(text, strcspn(text, " \n"));
  }
  snprintf(text, sizeof text, "%s+0x%zx", base_name(info.dli_fname), address - (size_t)info.dli_fbase);
  return text;
}

static std::string place(Site site) {
  if (site.pc) return source_line(site.pc);
  return site.file ? std::string(base_name(site.file)) + ":" + std::to_string(site.line) : "launch";
}

void report(int kind, Site site, const char *format, ...) {
  std::lock_guard<std::mutex> guard(lock);
  const SiteKey key = site.pc ? SiteKey((const char *)site.pc, -1) : SiteKey(site.file, site.line);
  const auto known = finding_at.find({kind, key});
  if (known != finding_at.end()) {
    ++findings[known->second].times;
    return;
  }
  if (findings.size() == MAX_FINDINGS) return;
  finding_at[{kind, key}] = findings.size();
  emulator_finding f = {kind, 1, {}, {}};
  snprintf(f.where, sizeof f.where, "%s", place(site).c_str());
  va_list arguments;
  va_start(arguments, format);
  int length = 0;
  if (current) length = snprintf(f.message, sizeof f.message, "block %u: ", current->block->number);
  vsnprintf(f.message + length, sizeof f.message - (size_t)length, format, arguments);
  va_end(arguments);
  findings.push_back(f);
  if (!options.quiet) fprintf(stderr, "emulator: %s: %s: %s\n", f.where, emulator_kind_name(kind), f.message);
}

bool any_findings() {
  std::lock_guard<std::mutex> guard(lock);
  return !findings.empty();
}

void need_arch(int first, int last, Site site, const char *what) {
  const int arch = current->block->launch->arch;
  if (arch >= first && arch <= last) return;
  report(EMULATOR_BAD_LAUNCH, site, "%s on a device of compute capability %d.%d (SPINDLE_EMULATED_ARCH)", what, arch / 10,
         arch % 10);
  stop_block(current);
}

static void add(emulator_counters &to, const emulator_counters &from) {
  to.instructions += from.instructions;
  to.bytes += from.bytes;
  to.wavefronts += from.wavefronts;
  to.ideal += from.ideal;
}

void add_kernel(const void *kernel) {
  std::lock_guard<std::mutex> guard(lock);
  if (std::find(kernels.begin(), kernels.end(), kernel) == kernels.end()) kernels.push_back(kernel);
}

void add_results(const Block &block, double seconds) {
  std::lock_guard<std::mutex> guard(lock);
  for (const auto &c : block.counters) add(counters[c.first], c.second);
  work.blocks += block.work.blocks;
  work.switches += block.work.switches;
  work.collectives += block.work.collectives;
  work.mma += block.work.mma;
  work.wgmma += block.work.wgmma;
  work.bulk_bytes += block.work.bulk_bytes;
  work.plain_accesses += block.work.plain_accesses;
  work.seconds += seconds;
  work.launches += seconds > 0;
}

static int word(const char *value, const char *const *words) {
  for (int i = 0; words[i]; ++i) {
    if (!strncmp(value, words[i], strlen(words[i]))) return i;
  }
  fprintf(stderr, "emulator: SPINDLE_EMULATOR: '%s' is none of its values\n", value);
  exit(2);
}

static emulator_options from_environment() {
  static const char *const when[] = {"late", "eager", "random", nullptr};
  static const char *const order[] = {"ascending", "descending", "shuffled", nullptr};
  emulator_options o = {};
  const char *text = getenv("SPINDLE_EMULATOR");
  for (const char *p = text ? text : ""; *p; p += strcspn(p, ","), p += *p == ',') {
    const char *value = strchr(p, '=');
    const std::string key(p, value ? (size_t)(value - p) : strcspn(p, ","));
    value = value ? value + 1 : "";
    if (key == "copies")
      o.copies = word(value, when);
    else if (key == "streams")
      o.streams = word(value, when);
    else if (key == "order")
      o.order = word(value, order);
    else if (key == "seed")
      o.seed = strtoull(value, nullptr, 10);
    else if (key == "os_threads")
      o.os_threads = atoi(value);
    else if (key == "no_shadow")
      o.no_shadow = atoi(value);
    else if (key == "count_accesses")
      o.count_accesses = atoi(value);
    else if (key == "quiet")
      o.quiet = atoi(value);
    else
      word(key.c_str(), order + 3);
  }
  return o;
}

static const bool configured = (emulator_configure(nullptr), true);

}  // namespace emulator

using namespace emulator;

void emulator_configure(const emulator_options *o) {
  (void)configured;
  options = o ? *o : from_environment();
}

const char *emulator_kind_name(int kind) {
  static const char *const names[] = {"deadlock",
                                      "divergence",
                                      "bad barrier",
                                      "out of shared memory",
                                      "out of global memory",
                                      "misaligned address",
                                      "fault",
                                      "pending copy",
                                      "uninitialised memory",
                                      "read after write race",
                                      "write after read race",
                                      "write after write race",
                                      "global memory race",
                                      "unfinished copy",
                                      "bad launch",
                                      "bad mbarrier",
                                      "missing proxy fence",
                                      "overwritten in flight",
                                      "bad bulk copy",
                                      "bad wgmma",
                                      "bad setmaxnreg"};
  static_assert(sizeof names / sizeof *names == EMULATOR_KINDS, "a name a kind");
  return kind >= 0 && kind < EMULATOR_KINDS ? names[kind] : "?";
}

size_t emulator_findings(const emulator_finding **list) {
  if (list) *list = findings.data();
  return findings.size();
}

int emulator_found(int kind) {
  for (const emulator_finding &f : findings) {
    if (f.kind == kind) return 1;
  }
  return 0;
}

void emulator_forget(void) {
  findings.clear();
  finding_at.clear();
  counters.clear();
  kernels.clear();
  work = {};
}

emulator_counters emulator_counters_of(const char *file, int line) {
  emulator_counters sum = {};
  for (const auto &c : counters) {
    const char *name = c.first.second < 0 ? nullptr : base_name(c.first.first);
    if (!file || (name && c.first.second == line && !strcmp(name, base_name(file)))) add(sum, c.second);
  }
  return sum;
}

emulator_work emulator_work_done(void) { return work; }
size_t emulator_kernels(const void *const **list) {
  *list = kernels.data();
  return kernels.size();
}
int emulator_sees_plain_accesses(void) { return plain_accesses_seen; }
