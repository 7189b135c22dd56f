//===- Engine.cpp - Running the instructions of a warp --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Warp.h"

#include <algorithm>

using namespace moe;
using namespace moe::emulator;

namespace {

/// Instructions that one group of lanes may run while others of its warp are
/// ready: a lane that spins must not keep the lane it waits for from running.
constexpr uint64_t kStarvation = 20000;

/// Lanes at one instruction, and where the next ones wait to be joined.
struct Group {
  uint32_t lanes = 0;
  uint32_t pc = 0;
  uint32_t limit = ~0u;
};

void setPc(Warp &warp, uint32_t lanes, uint32_t pc) {
  forLanes(lanes, [&](unsigned lane) { warp.pc[lane] = pc; });
}

/// The ready lanes deepest in calls and, of those, at the lowest address: this
/// brings branches and loops together again without knowing their shape.
bool selectGroup(Warp &warp, uint32_t ready, Group &group) {
  if (!ready)
    return false;
  uint32_t deepest = 0, lowest = ~0u;
  forLanes(ready, [&](unsigned lane) {
    if (warp.depth[lane] > deepest) {
      deepest = warp.depth[lane];
      lowest = ~0u;
    }
    if (warp.depth[lane] == deepest)
      lowest = std::min(lowest, warp.pc[lane]);
  });
  group = Group();
  group.pc = lowest;
  forLanes(ready, [&](unsigned lane) {
    if (warp.depth[lane] != deepest)
      return;
    if (warp.pc[lane] == lowest)
      group.lanes |= 1u << lane;
    else
      group.limit = std::min(group.limit, warp.pc[lane]);
  });
  return true;
}

/// The lanes that wait at the instruction of a group.
uint32_t waitingAt(const Warp &warp, uint32_t pc) {
  uint32_t lanes = 0;
  forLanes(warp.atCollective, [&](unsigned lane) {
    if (warp.pc[lane] == pc)
      lanes |= 1u << lane;
  });
  return lanes;
}

/// The lanes of `lanes` that name the same members as the first of them.
uint32_t membersOf(const Warp &warp, const Inst &inst, uint32_t lanes,
                   uint32_t &members) {
  if (inst.members == kNone) {
    members = kAllLanes;
    return lanes;
  }
  const uint32_t *masks = warp.slots<uint32_t>(inst.members);
  members = masks[__builtin_ctz(lanes)];
  uint32_t same = 0;
  forLanes(lanes, [&](unsigned lane) {
    if (masks[lane] == members)
      same |= 1u << lane;
  });
  return same;
}

/// Lanes have come to a collective: those whose partners are all here run it
/// and go on, the others wait.
void arriveAtCollective(Warp &warp, const Inst &inst, uint32_t pc,
                        uint32_t lanes) {
  uint32_t here = lanes | waitingAt(warp, pc);
  warp.atCollective &= ~here;
  while (here) {
    uint32_t members = 0;
    uint32_t same = membersOf(warp, inst, here, members);
    here &= ~same;
    if (uint32_t outside = same & ~members)
      addReport(warp, inst, ReportKind::Collective,
                unsigned(__builtin_ctz(outside)),
                "the lane is not in the mask that it names");
    if (members & warp.living() & ~same) {
      setPc(warp, same, pc);
      warp.atCollective |= same;
      continue;
    }
    inst.run(warp, inst, same);
    setPc(warp, same, pc + 1);
  }
}

/// The same for a barrier of the block that whole warps come to.
void arriveAligned(Warp &warp, const Inst &inst, uint32_t pc, uint32_t lanes) {
  uint32_t here = lanes | waitingAt(warp, pc);
  setPc(warp, here, pc);
  if (inst.flag && (warp.living() & ~here)) {
    warp.atCollective |= here;
    return;
  }
  warp.atCollective &= ~here;
  arriveAtBarrier(warp, inst, here);
}

void exitLanes(Warp &warp, uint32_t lanes) {
  warp.exited |= lanes;
  Block &block = *warp.block;
  block.livingThreads -= unsigned(__builtin_popcount(lanes));
  releaseBarriers(block);
}

void callLanes(Warp &warp, const Inst &inst, uint32_t pc, uint32_t lanes) {
  const Program &program = *warp.program;
  const CallInfo &call = program.calls[inst.target];
  Block &block = *warp.block;
  forLanes(lanes, [&](unsigned lane) {
    size_t base = size_t(warp.index * kLanes + lane) * program.localBytes;
    for (const ParamCopy &copy : call.arguments) {
      std::memcpy(&block.local[base + copy.to], &block.local[base + copy.from],
                  copy.bytes);
      std::memcpy(&block.localWritten[base + copy.to],
                  &block.localWritten[base + copy.from], copy.bytes);
    }
    warp.frames[lane * program.maxCallDepth + warp.depth[lane]++] = {
        pc + 1, inst.target};
    warp.pc[lane] = call.entry;
  });
}

void returnLanes(Warp &warp, uint32_t lanes) {
  const Program &program = *warp.program;
  Block &block = *warp.block;
  uint32_t ended = 0;
  forLanes(lanes, [&](unsigned lane) {
    if (warp.depth[lane] == 0) {
      ended |= 1u << lane;
      return;
    }
    Frame frame = warp.frames[lane * program.maxCallDepth + --warp.depth[lane]];
    size_t base = size_t(warp.index * kLanes + lane) * program.localBytes;
    for (const ParamCopy &copy : program.calls[frame.call].results) {
      std::memcpy(&block.local[base + copy.to], &block.local[base + copy.from],
                  copy.bytes);
      std::memcpy(&block.localWritten[base + copy.to],
                  &block.localWritten[base + copy.from], copy.bytes);
    }
    warp.pc[lane] = frame.returnTo;
  });
  if (ended)
    exitLanes(warp, ended);
}

/// Lanes of `active` that do not execute go to the next instruction.
void runControl(Warp &warp, const Inst &inst, uint32_t pc, uint32_t active,
                uint32_t lanes) {
  setPc(warp, active & ~lanes, pc + 1);
  if (!lanes)
    return;
  switch (inst.flow) {
  case Flow::Plain:
  case Flow::Branch:
    setPc(warp, lanes, inst.target);
    return;
  case Flow::BranchTable: {
    const auto &table = warp.program->branchTables[inst.target];
    const uint32_t *index = warp.slots<uint32_t>(inst.a);
    forLanes(lanes, [&](unsigned lane) {
      if (index[lane] < table.size()) {
        warp.pc[lane] = table[index[lane]];
        return;
      }
      addReport(warp, inst, ReportKind::InvalidOperand, lane,
                "index " + std::to_string(index[lane]) + " into " +
                    std::to_string(table.size()) + " branch targets");
      warp.pc[lane] = pc + 1;
    });
    return;
  }
  case Flow::Call:
    return callLanes(warp, inst, pc, lanes);
  case Flow::Return:
    return returnLanes(warp, lanes);
  case Flow::Exit:
    return exitLanes(warp, lanes);
  case Flow::Collective:
    return arriveAtCollective(warp, inst, pc, lanes);
  case Flow::Barrier:
    return arriveAligned(warp, inst, pc, lanes);
  }
}

/// True where all of a collective can run at once, as nearly always.
bool isComplete(const Warp &warp, const Inst &inst, uint32_t lanes) {
  if (!lanes)
    return true;
  if (warp.living() != lanes)
    return false;
  if (inst.members == kNone)
    return true;
  const uint32_t *masks = warp.slots<uint32_t>(inst.members);
  uint32_t all = kAllLanes;
  forLanes(lanes, [&](unsigned lane) { all &= masks[lane]; });
  return all == kAllLanes;
}

uint64_t runGroup(Warp &warp, Group group, uint64_t budget) {
  const Inst *code = warp.program->code.data();
  Launch &launch = *warp.block->launch;
  Statistics &stats = launch.stats;
  uint32_t pc = group.pc;
  const uint32_t active = group.lanes;
  const bool divergent = active != warp.living();
  warp.active = active;
  uint64_t count = 0, threads = 0;
  bool inPlace = true; ///< False once the lanes have their own pc.
  while (count < budget) {
    const Inst &inst = code[pc];
    uint32_t lanes = active;
    if (inst.guard != kNone) {
      uint32_t guard = warp.pred(inst.guard);
      lanes &= inst.guardNegated ? ~guard : guard;
    }
    ++count;
    // Reports and clocks of blocks read this one in between.
    ++stats.warpInstructions;
    threads += unsigned(__builtin_popcount(lanes));
    ++stats.byClass[unsigned(inst.kind)];
    if (!launch.counts.empty()) {
      launch.counts[pc].reached += unsigned(__builtin_popcount(active));
      launch.counts[pc].executed += unsigned(__builtin_popcount(lanes));
    }
    if (inst.flow == Flow::Plain) {
      if (lanes)
        inst.run(warp, inst, lanes);
      ++pc;
    } else if (inst.flow == Flow::Branch && (lanes == active || !lanes)) {
      ++stats.branches;
      pc = lanes ? inst.target : pc + 1;
    } else if (inst.flow == Flow::Collective && isComplete(warp, inst, lanes)) {
      if (lanes)
        inst.run(warp, inst, lanes);
      ++pc;
    } else {
      if (inst.flow == Flow::Branch) {
        ++stats.branches;
        ++stats.divergentBranches;
      }
      runControl(warp, inst, pc, active, lanes);
      inPlace = false;
      break;
    }
    if (pc >= group.limit || warp.yield || launch.stop)
      break;
  }
  if (inPlace)
    setPc(warp, active, pc);
  stats.threadInstructions += threads;
  if (divergent)
    stats.divergentInstructions += count;
  return count;
}

/// Nobody of the warp is ready: collectives whose other lanes have ended since
/// can go on, and so can `bar.warp.sync` at several places. False: stuck.
bool retryCollectives(Warp &warp) {
  const Inst *code = warp.program->code.data();
  uint32_t before = warp.atCollective;
  for (uint32_t rest = before; rest;) {
    uint32_t pc = warp.pc[__builtin_ctz(rest)];
    uint32_t here = waitingAt(warp, pc);
    rest &= ~here;
    if (code[pc].flow == Flow::Barrier)
      arriveAligned(warp, code[pc], pc, here);
    else
      arriveAtCollective(warp, code[pc], pc, here);
    rest &= warp.atCollective;
  }
  if (warp.atCollective != before)
    return true;
  // From here on: lanes at different places.
  const Inst &first = code[warp.pc[__builtin_ctz(before)]];
  uint32_t same = 0;
  forLanes(before, [&](unsigned lane) {
    const Inst &inst = code[warp.pc[lane]];
    if (inst.flow == first.flow && inst.run == first.run)
      same |= 1u << lane;
  });
  if (first.flow == Flow::Collective) {
    if (!first.flag2)
      return false;
    uint32_t members = 0, agreeing = 0;
    membersOf(warp, first, 1u << __builtin_ctz(before), members);
    forLanes(same, [&](unsigned lane) {
      uint32_t its = 0;
      membersOf(warp, code[warp.pc[lane]], 1u << lane, its);
      agreeing |= uint32_t(its == members) << lane;
    });
    if (members & warp.living() & ~agreeing)
      return false;
    first.run(warp, first, agreeing);
    warp.atCollective &= ~agreeing;
    forLanes(agreeing, [&](unsigned lane) { ++warp.pc[lane]; });
    return true;
  }
  if (same != warp.living())
    return false;
  addReport(warp, first, ReportKind::DivergentBarrier,
            unsigned(__builtin_ctz(before)),
            "lanes of one warp wait at barriers in different places");
  warp.atCollective = 0;
  while (same) {
    uint32_t pc = warp.pc[__builtin_ctz(same)];
    uint32_t here = 0;
    forLanes(same, [&](unsigned lane) {
      here |= uint32_t(warp.pc[lane] == pc) << lane;
    });
    same &= ~here;
    arriveAtBarrier(warp, code[pc], here);
  }
  return true;
}

} // namespace

WarpState emulator::runWarp(Warp &warp, uint64_t budget) {
  Launch &launch = *warp.block->launch;
  uint64_t used = 0;
  while (used < budget && !launch.stop) {
    uint32_t ready = warp.living() & ~warp.atCollective & ~warp.atBarrier;
    Group group;
    if (!selectGroup(warp, ready, group)) {
      if (warp.exited == kAllLanes)
        return WarpState::Done;
      if (warp.atCollective && retryCollectives(warp))
        continue;
      return WarpState::Waiting;
    }
    uint32_t others = ready & ~group.lanes;
    if (!others)
      warp.starvation = 0;
    else if (warp.starvation > kStarvation) {
      warp.starvation = 0;
      selectGroup(warp, others, group);
      group.limit = ~0u;
    }
    uint64_t quantum = std::min(budget - used, kStarvation);
    uint64_t count = runGroup(warp, group, quantum);
    used += count;
    warp.starvation += count;
    if (warp.yield) {
      warp.yield = false;
      return WarpState::Ready;
    }
  }
  return WarpState::Ready;
}
