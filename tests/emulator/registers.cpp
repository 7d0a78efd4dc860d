// setmaxnreg: a warp gives up registers to the block's pool, or waits until it holds enough.
#include "core.h"
#include "prim_runtime.h"

namespace emulator {

constexpr int REGISTERS = 65536, MAX_REGISTERS = 256, WARPS_A_GROUP = WARPGROUP / WARP;

void reset_registers(Block &block) {
  const int each = REGISTERS / block.threads / 8 * 8;  // what a kernel with __launch_bounds__(threads, 1) is given
  for (int w = 0; w < block.warps; ++w)
    block.warp[w].registers = block.warp[w].wanted = each < MAX_REGISTERS ? each : MAX_REGISTERS;
  block.free_registers = 0;
}

// Gives those who wait what they want, in the order of warps.
static void hand_out(Block &block) {
  for (int w = 0; w < block.warps; ++w) {
    Warp &warp = block.warp[w];
    if (warp.wanted - warp.registers > block.free_registers) continue;
    block.free_registers -= warp.wanted - warp.registers;
    warp.registers = warp.wanted;
    wake(block, w, warp.waiting);
    warp.waiting = 0;
  }
}

struct Request {
  int registers;
  bool up;
};

static void execute_set(Block &block, int w, Rendezvous &at) {
  const Request &request = *(Request *)at.argument[0];
  Warp &warp = block.warp[w];
  if (request.up ? request.registers < warp.registers : request.registers > warp.registers) {
    report(EMULATOR_BAD_REGISTERS, at.site, "setmaxnreg_%s to %d registers by warp %d, which has %d", request.up ? "inc" : "dec",
           request.registers, w, warp.registers);
  }
  warp.registers_site = at.site;
  warp.wanted = request.registers;
  if (warp.wanted < warp.registers) {
    block.free_registers += warp.registers - warp.wanted;
    warp.registers = warp.wanted;
  }
  hand_out(block);
}

void set_registers(int registers, bool up, const char *file, int line) {
  Fiber *fiber = current;
  Warp &warp = fiber->block->warp[fiber->warp];
  Request request = {registers, up};
  rendezvous(execute_set, ALL, &request, {file, line, nullptr});
  if (warp.registers == warp.wanted) return;
  warp.waiting |= 1u << fiber->lane;
  suspend(fiber, "setmaxnreg_inc", {file, line, nullptr});
}

void finish_registers(Block &block) {
  for (int w = 0; w < block.warps; ++w) {
    const Warp &warp = block.warp[w], &first = block.warp[w / WARPS_A_GROUP * WARPS_A_GROUP];
    if (warp.registers == first.registers) continue;
    report(EMULATOR_BAD_REGISTERS, warp.registers_site.file ? warp.registers_site : first.registers_site,
           "warps %d and %d of a warpgroup end with %d and %d registers: all four call setmaxnreg",
           w / WARPS_A_GROUP * WARPS_A_GROUP, w, first.registers, warp.registers);
    return;
  }
}

}  // namespace emulator
