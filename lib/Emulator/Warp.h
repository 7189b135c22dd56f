//===- Warp.h - State of a launch, its blocks and their warps ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_WARP_H
#define MOE_LIB_EMULATOR_WARP_H

#include "Memory.h"
#include "Program.h"
#include <cstring>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

namespace moe::emulator {

struct Block;
struct Warp;

/// A `cp.async` that has not been waited for.
struct AsyncCopy {
  unsigned lane = 0;
  uint32_t group = 0; ///< Of the lane; the group under way is not committed.
  uint32_t shared = 0;
  uint64_t global = 0;
  uint8_t bytes = 0, sourceBytes = 0;
  const Inst *inst = nullptr;
};

/// A launch in progress.
struct Launch {
  const Program *program = nullptr;
  const FunctionCode *kernel = nullptr;
  LaunchOptions options;
  GlobalMemory *memory = nullptr;
  const std::vector<uint8_t> *params = nullptr;
  std::vector<Report> reports;
  std::map<std::pair<uint8_t, int>, size_t> reportIndex;
  Statistics stats;
  std::vector<uint64_t> matrixCounts; ///< By Inst::name.
  std::vector<LineCount> counts; ///< By instruction, where they are wanted.
  uint64_t random = 0;
  uint32_t firstBlock = 1; ///< Number of block 0, across launches.
  bool stop = false;
  Warp *last = nullptr; ///< That ran last.
  /// When a block last made its writes known, and last looked at those of
  /// others, in warp instructions: what fences and atomics order.
  std::vector<uint64_t> released, acquired;

  uint64_t nextRandom() {
    uint64_t z = random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
};

/// Lanes of a warp at a barrier of the block.
struct BarrierWaiter {
  unsigned warp;
  uint32_t lanes;
  const Inst *inst;
};

struct BlockBarrier {
  uint32_t arrived = 0;
  uint32_t expected = 0; ///< 0: all living threads.
  uint32_t count = 0;    ///< Of true predicates, for bar.red.
  VectorClock clock;
  std::vector<BarrierWaiter> waiting;
};

/// What an mbarrier in shared memory orders; its counts are in its bytes.
struct PhaseClocks {
  VectorClock arriving, completed;
};

/// An arrival at an mbarrier that follows the copies of a lane.
struct AsyncArrival {
  unsigned lane = 0;
  uint32_t group = 0;
  uint32_t barrier = 0;
  const Inst *inst = nullptr;
};

struct Frame {
  uint32_t returnTo;
  uint32_t call;
};

/// Why lanes of a warp do not run.
struct Warp {
  Block *block = nullptr;
  unsigned index = 0;
  const Program *program = nullptr;
  char *bases[2] = {}; ///< Registers, constants.

  uint32_t exited = 0;       ///< Or never there.
  uint32_t atCollective = 0; ///< Waiting for lanes of this warp.
  uint32_t atBarrier = 0;    ///< Waiting for other warps.
  uint32_t pc[kLanes] = {};
  uint32_t depth[kLanes] = {};
  std::vector<Frame> frames; ///< [lane][Program::maxCallDepth]
  uint32_t carry = 0;        ///< Of lanes, left by add.cc and its like.
  /// Lanes that run the current instruction, for activemask.
  uint32_t active = 0;
  bool yield = false; ///< Set by an instruction that waits for others.
  /// Set when a report ends the launch.
  uint64_t starvation = 0;

  VectorClock clock;
  uint32_t time = 1; ///< Own clock; clock.seen[index] is time - 1.

  uint32_t asyncGroup[kLanes] = {};
  std::vector<AsyncCopy> copies;
  std::vector<AsyncArrival> arrivals;

  std::vector<char> registers;

  char *at(uint32_t offset) const {
    return bases[offset >> 31] + (offset & ~kConstant);
  }
  template <typename T> T *slots(uint32_t offset) const {
    return reinterpret_cast<T *>(at(offset));
  }
  uint32_t &pred(uint32_t offset) const { return *slots<uint32_t>(offset); }

  uint32_t living() const { return ~exited; }
  void tick() {
    if (time < Stamp::kMaxClock)
      ++time;
    clock.seen[index] = time - 1;
  }
  bool knows(Stamp stamp) const {
    return stamp.clock() <= clock.seen[stamp.warp()];
  }
};

struct Block {
  Launch *launch = nullptr;
  uint32_t number = 0; ///< Across launches.
  Dim3 id{0, 0, 0};
  unsigned numThreads = 0;
  unsigned livingThreads = 0;
  std::vector<std::unique_ptr<Warp>> warps;
  SharedMemory shared;
  std::vector<uint8_t> local, localWritten; ///< [thread][localBytes]
  BlockBarrier barriers[16];
  std::unordered_map<uint32_t, PhaseClocks> mbarriers; ///< By address.
  bool fenced = false; ///< Some thread has passed a fence of the device.
  unsigned nextWarp = 0;

  uint64_t sinceStart = 0;
};

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

/// Adds a finding of `lane`, or of the whole warp where it is kLanes.
void addReport(Warp &warp, const Inst &inst, ReportKind kind, unsigned lane,
               const std::string &message);

//===----------------------------------------------------------------------===//
// Running (Engine.cpp, Schedule.cpp)
//===----------------------------------------------------------------------===//

enum class WarpState { Ready, Waiting, Done };

/// Runs at most `budget` instructions.
WarpState runWarp(Warp &warp, uint64_t budget);

/// Lanes arrive at a barrier of their block: they wait, or all are released.
void arriveAtBarrier(Warp &warp, const Inst &inst, uint32_t lanes);
/// Releases the barriers that wait for nobody else now that threads are gone.
void releaseBarriers(Block &block);

/// Runs all blocks.
void runLaunch(Launch &launch);

//===----------------------------------------------------------------------===//
// Memory (Access.cpp)
//===----------------------------------------------------------------------===//

enum class AccessKind : uint8_t {
  Read,
  Write,
  StrongRead,  ///< Volatile, relaxed or stronger.
  StrongWrite, ///< The same.
  Atomic
};
inline bool isWrite(AccessKind kind) {
  return kind == AccessKind::Write || kind == AccessKind::StrongWrite ||
         kind == AccessKind::Atomic;
}

/// The host's address of memory that a lane accesses, after all checks, or null
/// after a report. `data` is what a write will store: the same value stored
/// again is not a race.
uint8_t *accessMemory(Warp &warp, const Inst &inst, unsigned lane, Space space,
                      uint64_t address, unsigned bytes, AccessKind kind,
                      const void *data = nullptr);

/// Counts the sectors or bank passes of one warp instruction.
void countGlobalAccess(Launch &launch, const uint64_t *addresses,
                       uint32_t lanes, unsigned bytes, bool store);
void countSharedAccess(Launch &launch, const uint64_t *addresses,
                       uint32_t lanes, unsigned bytes);

/// The copies of a lane up to and including `group` arrive.
void finishAsyncCopies(Warp &warp, unsigned lane, uint32_t group);

/// Calls `f(lane)` for each set bit.
template <typename F> inline void forLanes(uint32_t mask, F f) {
  for (; mask; mask &= mask - 1)
    f(unsigned(__builtin_ctz(mask)));
}

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_WARP_H
