//===- Schedule.cpp - Turns of blocks and warps, and their barriers -------===//
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

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

void emulator::addReport(Warp &warp, const Inst &inst, ReportKind kind,
                         unsigned lane, const std::string &message) {
  Launch &launch = *warp.block->launch;
  auto [at, isNew] = launch.reportIndex.try_emplace({uint8_t(kind), inst.line},
                                                    launch.reports.size());
  if (!isNew) {
    ++launch.reports[at->second].count;
    return;
  }
  const Program &program = *launch.program;
  Report report;
  report.kind = kind;
  report.kernel = launch.kernel->name;
  report.message = program.names[inst.name] + ": " + message;
  report.where.block = warp.block->id;
  unsigned thread = warp.index * kLanes + std::min(lane, kLanes - 1);
  const Dim3 &size = launch.options.block;
  report.where.thread = {thread % size.x, thread / size.x % size.y,
                         thread / size.x / size.y};
  report.line = inst.line;
  if (inst.location >= 0)
    report.source = program.sources[size_t(inst.location)];
  launch.reports.push_back(std::move(report));
  launch.stop |= launch.options.stopAtReport;
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

namespace {

enum BarrierKind : uint8_t { Sync, Arrive, RedAnd, RedOr, RedPopc };

/// Releases a barrier that nobody is missing from.
void tryRelease(Block &block, BlockBarrier &barrier) {
  uint32_t expected = barrier.expected ? barrier.expected : block.livingThreads;
  if (barrier.arrived == 0 || barrier.arrived < expected)
    return;
  for (const BarrierWaiter &waiter : barrier.waiting) {
    Warp &warp = *block.warps[waiter.warp];
    const Inst &inst = *waiter.inst;
    if (inst.option == RedPopc) {
      uint32_t *d = warp.slots<uint32_t>(inst.d);
      forLanes(waiter.lanes, [&](unsigned lane) { d[lane] = barrier.count; });
    } else if (inst.option == RedAnd || inst.option == RedOr) {
      bool value = inst.option == RedOr ? barrier.count > 0
                                        : barrier.count == barrier.arrived;
      uint32_t &d = warp.pred(inst.d);
      d = value ? d | waiter.lanes : d & ~waiter.lanes;
    }
    forLanes(waiter.lanes, [&](unsigned lane) { ++warp.pc[lane]; });
    warp.atBarrier &= ~waiter.lanes;
    warp.clock.join(barrier.clock);
    warp.tick();
  }
  ++block.launch->stats.barriers;
  barrier = BlockBarrier();
}

} // namespace

void emulator::arriveAtBarrier(Warp &warp, const Inst &inst, uint32_t lanes) {
  Block &block = *warp.block;
  unsigned first = unsigned(__builtin_ctz(lanes));
  uint32_t id = warp.slots<uint32_t>(inst.a)[first];
  if (id >= 16) {
    addReport(warp, inst, ReportKind::InvalidOperand, first,
              "there is no barrier " + std::to_string(id));
    id = 0;
  }
  BlockBarrier &barrier = block.barriers[id];
  uint32_t expected = 0;
  if (inst.b != kNone) {
    expected = warp.slots<uint32_t>(inst.b)[first];
    if (expected == 0 || expected % kLanes) {
      addReport(warp, inst, ReportKind::InvalidOperand, first,
                "a barrier of " + std::to_string(expected) +
                    " threads, which is no multiple of 32");
      expected = 0;
    }
  }
  if (barrier.arrived && barrier.expected != expected)
    addReport(warp, inst, ReportKind::InvalidOperand, first,
              "barrier " + std::to_string(id) + " is for " +
                  std::to_string(expected) + " threads here and for " +
                  std::to_string(barrier.expected) + " elsewhere");
  barrier.expected = expected;
  // Of an aligned one with a count, each warp stands for all its threads.
  unsigned threads =
      expected && inst.flag ? kLanes : unsigned(__builtin_popcount(lanes));
  barrier.arrived += threads;
  if (inst.c != kNone) {
    uint32_t value = warp.pred(inst.c);
    barrier.count +=
        unsigned(__builtin_popcount(lanes & (inst.flag2 ? ~value : value)));
  }
  VectorClock clock = warp.clock;
  clock.seen[warp.index] = warp.time;
  barrier.clock.join(clock);
  if (inst.option == Arrive) {
    warp.tick();
    forLanes(lanes, [&](unsigned lane) { ++warp.pc[lane]; });
  } else {
    warp.atBarrier |= lanes;
    barrier.waiting.push_back({warp.index, lanes, &inst});
  }
  tryRelease(block, barrier);
}

void emulator::releaseBarriers(Block &block) {
  for (BlockBarrier &barrier : block.barriers)
    if (barrier.arrived && !barrier.expected && block.livingThreads)
      tryRelease(block, barrier);
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

namespace {

void fillRegister(Warp &warp, uint32_t offset, uint32_t value) {
  std::fill_n(warp.slots<uint32_t>(offset), kLanes, value);
}

void startWarp(Warp &warp, Block &block, unsigned index) {
  Launch &launch = *block.launch;
  const Program &program = *launch.program;
  const Dim3 &size = launch.options.block, &grid = launch.options.grid;
  warp.block = &block;
  warp.index = index;
  warp.program = &program;
  warp.registers.assign(launch.kernel->registerBytes, 0);
  warp.bases[0] = warp.registers.data();
  warp.bases[1] =
      reinterpret_cast<char *>(const_cast<uint8_t *>(program.constants.data()));
  warp.frames.resize(size_t(kLanes) * program.maxCallDepth);
  warp.clock.seen[index] = 0;
  warp.time = 1;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    unsigned thread = index * kLanes + lane;
    if (thread >= block.numThreads)
      warp.exited |= 1u << lane;
    warp.pc[lane] = launch.kernel->begin;
    warp.slots<uint32_t>(special::TidX)[lane] = thread % size.x;
    warp.slots<uint32_t>(special::TidY)[lane] = thread / size.x % size.y;
    warp.slots<uint32_t>(special::TidZ)[lane] = thread / size.x / size.y;
    warp.slots<uint32_t>(special::LaneId)[lane] = lane;
    warp.slots<uint32_t>(special::LaneMaskEq)[lane] = 1u << lane;
    warp.slots<uint32_t>(special::LaneMaskLt)[lane] = (1u << lane) - 1;
    warp.slots<uint32_t>(special::LaneMaskLe)[lane] =
        (1u << lane) | ((1u << lane) - 1);
    warp.slots<uint32_t>(special::LaneMaskGe)[lane] = ~((1u << lane) - 1);
    warp.slots<uint32_t>(special::LaneMaskGt)[lane] =
        ~((1u << lane) | ((1u << lane) - 1));
  }
  fillRegister(warp, special::NtidX, size.x);
  fillRegister(warp, special::NtidY, size.y);
  fillRegister(warp, special::NtidZ, size.z);
  fillRegister(warp, special::CtaidX, block.id.x);
  fillRegister(warp, special::CtaidY, block.id.y);
  fillRegister(warp, special::CtaidZ, block.id.z);
  fillRegister(warp, special::NctaidX, grid.x);
  fillRegister(warp, special::NctaidY, grid.y);
  fillRegister(warp, special::NctaidZ, grid.z);
  fillRegister(warp, special::WarpId, index);
  fillRegister(warp, special::NwarpId, unsigned(block.warps.size()));
  fillRegister(warp, special::DynamicShared,
               uint32_t(launch.options.dynamicShared));
  fillRegister(warp, special::TotalShared,
               uint32_t(block.shared.size() - kSharedBase));
  std::fill_n(warp.slots<uint64_t>(special::GridId), kLanes, launch.firstBlock);
}

std::unique_ptr<Block> startBlock(Launch &launch, uint64_t id) {
  auto block = std::make_unique<Block>();
  const Dim3 &grid = launch.options.grid;
  block->launch = &launch;
  block->number = launch.firstBlock + uint32_t(id);
  block->id = {uint32_t(id % grid.x), uint32_t(id / grid.x % grid.y),
               uint32_t(id / grid.x / grid.y)};
  block->numThreads = unsigned(launch.options.block.count());
  block->livingThreads = block->numThreads;
  block->shared.reset(*launch.program, launch.options.dynamicShared,
                      launch.options.checkRaces);
  unsigned count = (block->numThreads + kLanes - 1) / kLanes;
  size_t local = size_t(count) * kLanes * launch.program->localBytes;
  block->local.assign(local, 0xff);
  block->localWritten.assign(local, 0);
  for (unsigned i = 0; i < count; ++i)
    block->warps.push_back(std::make_unique<Warp>());
  for (unsigned i = 0; i < count; ++i)
    startWarp(*block->warps[i], *block, i);
  ++launch.stats.blocks;
  launch.stats.warps += count;
  return block;
}

void reportDeadlock(Block &block) {
  const Program &program = *block.launch->program;
  for (auto &owner : block.warps) {
    Warp &warp = *owner;
    for (uint32_t rest = warp.atCollective | warp.atBarrier; rest;) {
      unsigned first = unsigned(__builtin_ctz(rest));
      uint32_t pc = warp.pc[first], here = 0;
      forLanes(rest, [&](unsigned lane) {
        here |= uint32_t(warp.pc[lane] == pc) << lane;
      });
      rest &= ~here;
      const Inst &inst = program.code[pc];
      std::string text = std::to_string(__builtin_popcount(here)) +
                         " lanes of warp " + std::to_string(warp.index) +
                         " wait for ever: ";
      if (warp.atBarrier >> first & 1) {
        uint32_t id = warp.slots<uint32_t>(inst.a)[first] % 16;
        const BlockBarrier &barrier = block.barriers[id];
        text += "barrier " + std::to_string(id) + " has " +
                std::to_string(barrier.arrived) + " of " +
                std::to_string(barrier.expected ? barrier.expected
                                                : block.livingThreads) +
                " threads";
      } else {
        text += "the other lanes of the warp do not come here";
      }
      addReport(warp, inst, ReportKind::Deadlock, first, text);
    }
  }
}

/// Returns true when all its threads have ended.
bool runBlock(Block &block, uint64_t slice) {
  Launch &launch = *block.launch;
  bool random = launch.options.seed != 0;
  uint64_t end = launch.stats.warpInstructions + slice;
  size_t count = block.warps.size();
  std::vector<bool> waiting(count, false);
  while (launch.stats.warpInstructions < end && !launch.stop) {
    if (block.livingThreads == 0)
      return true;
    size_t turn = block.nextWarp++ % count;
    if (random)
      turn = launch.nextRandom() % count;
    Warp &warp = *block.warps[turn];
    launch.last = &warp;
    uint64_t before = launch.stats.warpInstructions;
    runWarp(warp, random ? 1 + launch.nextRandom() % 64 : 512);
    if (launch.stats.warpInstructions != before ||
        (warp.living() & ~warp.atCollective & ~warp.atBarrier)) {
      waiting.assign(count, false);
      continue;
    }
    waiting[turn] = true;
    if (std::find(waiting.begin(), waiting.end(), false) != waiting.end())
      continue;
    if (block.livingThreads == 0)
      return true;
    reportDeadlock(block);
    launch.stop = true;
  }
  return block.livingThreads == 0;
}

/// Names the warp that ran last, where it still lives: that of a hang.
void reportLimit(Launch &launch, Block &block) {
  Warp *warp = launch.last;
  for (auto &owner : block.warps)
    if (!warp && owner->living())
      warp = owner.get();
  if (!warp)
    return;
  unsigned lane = warp->living() ? unsigned(__builtin_ctz(warp->living())) : 0;
  addReport(*warp, launch.program->code[warp->pc[lane]],
            ReportKind::InstructionLimit, lane,
            "still running after " +
                std::to_string(launch.stats.warpInstructions) +
                " instructions of warps");
}

} // namespace

void emulator::runLaunch(Launch &launch) {
  uint64_t total = launch.options.grid.count(), next = 0;
  std::vector<std::unique_ptr<Block>> live;
  launch.random = launch.options.seed;
  launch.released.assign(total, 0);
  launch.acquired.assign(total, 0);
  bool random = launch.options.seed != 0;
  size_t turn = 0;
  while (!launch.stop) {
    while (next < total &&
           live.size() < std::max(1u, launch.options.residentBlocks))
      live.push_back(startBlock(launch, next++));
    if (live.empty())
      return;
    turn = random ? launch.nextRandom() % live.size() : turn % live.size();
    uint64_t left = launch.options.maxWarpInstructions -
                    std::min(launch.options.maxWarpInstructions,
                             launch.stats.warpInstructions);
    uint64_t slice = random ? 1 + launch.nextRandom() % 4096 : 65536;
    if (left == 0) {
      reportLimit(launch, *live[turn]);
      launch.stop = true;
      return;
    }
    if (runBlock(*live[turn], std::min(slice, left))) {
      launch.last = nullptr;
      live.erase(live.begin() + std::ptrdiff_t(turn));
    } else
      ++turn;
  }
}
