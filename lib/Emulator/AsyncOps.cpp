//===- AsyncOps.cpp - Asynchronous copies and mbarriers -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Asynchronous work is done as late as its waits allow: too weak a wait then
// gives wrong numbers and reports every time, not sometimes.

#include "Lanes.h"
#include "MemoryOps.h"
#include <algorithm>

using namespace moe;
using namespace moe::emulator;

namespace {

//===----------------------------------------------------------------------===//
// cp.async
//===----------------------------------------------------------------------===//

/// Shared address in a, imm and flag; global one in b, target and flag2; e
/// holds the bytes to read, or c a predicate to read none.
void runCopy(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t to[kLanes], from[kLanes];
  computeAddresses(warp, inst, mask, to);
  const uint64_t *base = warp.slots<uint64_t>(inst.b);
  SharedMemory &shared = warp.block->shared;
  Launch &launch = *warp.block->launch;
  uint32_t reading = 0;
  forLanes(mask, [&](unsigned lane) {
    from[lane] = base[lane] + uint64_t(int64_t(int32_t(inst.target)));
    uint32_t size = inst.bytes;
    if (inst.e != kNone)
      size = warp.slots<uint32_t>(inst.e)[lane];
    if (inst.c != kNone && warp.pred(inst.c) >> lane & 1)
      size = 0;
    if (size > inst.bytes) {
      addReport(warp, inst, ReportKind::InvalidOperand, lane,
                "reads " + std::to_string(size) + " bytes of " +
                    std::to_string(inst.bytes));
      size = inst.bytes;
    }
    if (from[lane] % inst.bytes && size)
      addReport(warp, inst, ReportKind::Misaligned, lane,
                "the source of " + std::to_string(inst.bytes) +
                    " bytes is misaligned");
    uint64_t address = to[lane];
    Space space = inst.space;
    if (address >> kWindowShift == kSharedWindow >> kWindowShift) {
      address -= kSharedWindow;
      space = Space::Shared;
    }
    // From here on the bytes belong to the copy.
    if (!accessMemory(warp, inst, lane, space, address, inst.bytes,
                      AccessKind::Write))
      return;
    shared.setFlag(uint32_t(address), inst.bytes, SharedMemory::InFlight);
    AsyncCopy copy;
    copy.lane = lane;
    copy.group = warp.asyncGroup[lane];
    copy.shared = uint32_t(address);
    copy.global = from[lane];
    copy.bytes = inst.bytes;
    copy.sourceBytes = uint8_t(size);
    copy.inst = &inst;
    warp.copies.push_back(copy);
    launch.stats.asyncCopyBytes += size;
    reading |= uint32_t(size != 0) << lane;
  });
  if (reading)
    countGlobalAccess(launch, from, reading, inst.bytes, false);
  countSharedAccess(launch, to, mask, inst.bytes);
}

void runCommit(Warp &warp, const Inst &, uint32_t mask) {
  forLanes(mask, [&](unsigned lane) { ++warp.asyncGroup[lane]; });
}

void runWaitGroup(Warp &warp, const Inst &inst, uint32_t mask) {
  forLanes(mask, [&](unsigned lane) {
    // Groups 0 to asyncGroup - 1 are committed.
    uint32_t committed = warp.asyncGroup[lane], left = uint32_t(inst.imm);
    if (committed > left)
      finishAsyncCopies(warp, lane, committed - left - 1);
  });
}

void runWaitAll(Warp &warp, const Inst &, uint32_t mask) {
  forLanes(mask, [&](unsigned lane) {
    finishAsyncCopies(warp, lane, warp.asyncGroup[lane]);
  });
}

void decodeCopy(Decode &d) {
  int cache = d.takeOneOf({"ca", "cg"});
  if (cache < 0)
    return d.fail("needs .ca or .cg");
  if (!d.take("shared") && !d.take("shared::cta"))
    return d.fail("copies to .shared only");
  if (!d.take("global"))
    return d.fail("copies from .global only");
  bool policy = takeCacheHints(d);
  if (!d.expectOperands(3u + policy, 4u + policy))
    return;
  uint64_t bytes = d.integer(2);
  if (bytes != 16 && (cache == 1 || (bytes != 4 && bytes != 8)))
    return d.fail("copies " + std::to_string(bytes) + " bytes");
  d.inst.kind = InstClass::AsyncCopy;
  d.inst.run = runCopy;
  d.inst.bytes = uint8_t(bytes);
  if (d.numOperands() == 4u + policy) {
    if (d.isPredicate(d.operand(3)))
      d.inst.c = d.predicateSource(d.operand(3), nullptr);
    else
      d.inst.e = d.source(3, Type::B32);
  }
  Space space = Space::Global;
  bool wide = true;
  int64_t offset = 0;
  d.inst.b = d.addressBase(d.operand(1), space, wide, offset);
  if (!wide || offset != int32_t(offset))
    return d.fail("has a source that is not supported");
  d.inst.target = uint32_t(offset);
  d.address(size_t(0), Space::Shared);
}

//===----------------------------------------------------------------------===//
// mbarrier
//===----------------------------------------------------------------------===//

/// The 64 bits of an mbarrier.
struct Phase {
  uint32_t pending = 0; ///< Arrivals that are missing.
  uint32_t expected = 0;
  bool odd = false;
  int32_t bytes = 0; ///< Transactions that are missing.

  static Phase decode(uint64_t bits) {
    Phase phase;
    phase.pending = bits & 0xfffff;
    phase.expected = bits >> 20 & 0xfffff;
    phase.odd = bits >> 40 & 1;
    phase.bytes = int32_t(int64_t(bits) >> 41);
    return phase;
  }
  uint64_t encode() const {
    return pending | uint64_t(expected) << 20 | uint64_t(odd) << 40 |
           uint64_t(int64_t(bytes)) << 41;
  }
};

class BarrierAccess {
public:
  BarrierAccess(Warp &warp, const Inst &inst, unsigned lane, uint64_t address,
                AccessKind kind = AccessKind::Atomic)
      : warp(warp), address(uint32_t(address)) {
    data = accessMemory(warp, inst, lane, inst.space, address, 8, kind);
    if (data) {
      uint64_t bits = 0;
      std::memcpy(&bits, data, sizeof bits);
      phase = Phase::decode(bits);
    }
  }
  explicit operator bool() const { return data; }

  /// Whoever waits for this phase will know what the warp has done so far.
  void release() {
    VectorClock clock = warp.clock;
    clock.seen[warp.index] = warp.time;
    warp.block->mbarriers[address].arriving.join(clock);
    warp.tick();
  }
  void acquire() {
    warp.clock.join(warp.block->mbarriers[address].completed);
    warp.tick();
  }
  void store() {
    if (phase.pending == 0 && phase.bytes == 0) {
      phase.pending = phase.expected;
      phase.odd = !phase.odd;
      PhaseClocks &clocks = warp.block->mbarriers[address];
      clocks.completed.join(clocks.arriving);
    }
    uint64_t bits = phase.encode();
    std::memcpy(data, &bits, sizeof bits);
  }

  Phase phase;

private:
  Warp &warp;
  uint32_t address;
  uint8_t *data;
};

enum BarrierOp : uint8_t {
  Init,
  Inval,
  Arrive,
  ArriveDrop,
  ExpectTx,
  CompleteTx,
  ArriveExpectTx,
};

void arrive(BarrierAccess &barrier, Warp &warp, const Inst &inst, unsigned lane,
            uint32_t count) {
  if (count > barrier.phase.pending) {
    addReport(warp, inst, ReportKind::InvalidOperand, lane,
              std::to_string(count) + " arrivals where " +
                  std::to_string(barrier.phase.pending) + " are missing");
    count = barrier.phase.pending;
  }
  barrier.phase.pending -= count;
}

/// b is a count, d the state to return.
void runBarrier(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t addresses[kLanes];
  computeAddresses(warp, inst, mask, addresses);
  forLanes(mask, [&](unsigned lane) {
    uint32_t count = inst.b == kNone ? 1 : warp.slots<uint32_t>(inst.b)[lane];
    BarrierAccess barrier(warp, inst, lane, addresses[lane],
                          inst.option == Init ? AccessKind::Write
                                              : AccessKind::Atomic);
    if (!barrier)
      return;
    // The token of a phase is its parity, where try_wait looks for it.
    uint64_t state = uint64_t(barrier.phase.odd) << 40;
    switch (inst.option) {
    case Init:
      if (count == 0 || count > 0xfffff)
        addReport(warp, inst, ReportKind::InvalidOperand, lane,
                  "a count of " + std::to_string(count));
      barrier.phase = Phase();
      barrier.phase.pending = barrier.phase.expected =
          count ? count & 0xfffff : 1;
      warp.block->mbarriers[uint32_t(addresses[lane])] = PhaseClocks();
      break;
    case Inval:
      barrier.phase = Phase();
      barrier.phase.pending = 1;
      break;
    case Arrive:
      barrier.release();
      arrive(barrier, warp, inst, lane, count);
      break;
    case ArriveDrop:
      barrier.release();
      barrier.phase.expected -= std::min(count, barrier.phase.expected);
      arrive(barrier, warp, inst, lane, count);
      break;
    case ExpectTx:
      barrier.phase.bytes += int32_t(count);
      break;
    case CompleteTx:
      barrier.phase.bytes -= int32_t(count);
      break;
    case ArriveExpectTx:
      barrier.release();
      barrier.phase.bytes += int32_t(count);
      arrive(barrier, warp, inst, lane, 1);
      break;
    }
    barrier.store();
    if (inst.d != kNone)
      warp.slots<uint64_t>(inst.d)[lane] = state;
  });
}

/// Arrivals that follow copies happen now that somebody looks.
void finishArrivals(Block &block, uint32_t address) {
  for (auto &owner : block.warps) {
    Warp &warp = *owner;
    for (size_t i = 0; i < warp.arrivals.size();) {
      AsyncArrival arrival = warp.arrivals[i];
      if (arrival.barrier != address) {
        ++i;
        continue;
      }
      warp.arrivals.erase(warp.arrivals.begin() + std::ptrdiff_t(i));
      finishAsyncCopies(warp, arrival.lane, arrival.group);
      BarrierAccess barrier(warp, *arrival.inst, arrival.lane, address);
      if (!barrier)
        continue;
      barrier.release();
      arrive(barrier, warp, *arrival.inst, arrival.lane, 1);
      barrier.store();
    }
  }
}

/// d = the phase of parity or state b is over. flag2 for a state.
void runWait(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t addresses[kLanes];
  computeAddresses(warp, inst, mask, addresses);
  uint32_t done = 0;
  forLanes(mask, [&](unsigned lane) {
    finishArrivals(*warp.block, uint32_t(addresses[lane]));
    BarrierAccess barrier(warp, inst, lane, addresses[lane]);
    if (!barrier)
      return;
    bool odd = inst.flag2 ? warp.slots<uint64_t>(inst.b)[lane] >> 40 & 1
                          : warp.slots<uint32_t>(inst.b)[lane] & 1;
    if (barrier.phase.odd == odd)
      return;
    barrier.acquire();
    done |= 1u << lane;
  });
  writePred(warp, inst.d, mask, done);
  // Others should get on in the meantime.
  if (done != mask)
    warp.yield = true;
}

/// cp.async.mbarrier.arrive: without .noinc the arrival is not one of those
/// that the barrier was made for.
void runCopyArrive(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t addresses[kLanes];
  computeAddresses(warp, inst, mask, addresses);
  forLanes(mask, [&](unsigned lane) {
    if (!inst.flag2) {
      BarrierAccess barrier(warp, inst, lane, addresses[lane]);
      if (!barrier)
        return;
      ++barrier.phase.pending;
      barrier.store();
    }
    warp.arrivals.push_back(
        {lane, warp.asyncGroup[lane], uint32_t(addresses[lane]), &inst});
  });
}

void decodeWait(Decode &d) {
  bool parity = d.take("parity");
  takeSemantics(d);
  Space space = takeMemorySpace(d);
  Type type = d.needType();
  if (type != Type::B64)
    return d.failType(type);
  if (!d.expectOperands(3, 4))
    return;
  d.inst.kind = InstClass::Barrier;
  d.inst.run = runWait;
  d.inst.d = d.predicateDestination(d.operand(0));
  d.address(1, space == Space::Generic ? Space::Shared : space);
  d.inst.flag2 = !parity;
  d.inst.b = d.source(2, parity ? Type::B32 : Type::B64);
}

void decodeBarrier(Decode &d) {
  int op = d.takeOneOf({"init", "inval", "arrive", "arrive_drop", "expect_tx",
                        "complete_tx", "test_wait", "try_wait"});
  if (op < 0)
    return d.fail("is not supported");
  if (op > CompleteTx)
    return decodeWait(d);
  if (op == Arrive && d.take("expect_tx"))
    op = ArriveExpectTx;
  takeSemantics(d);
  d.take("noComplete");
  Space space = takeMemorySpace(d);
  Type type = d.needType();
  if (type != Type::B64)
    return d.failType(type);
  bool returns = op == Arrive || op == ArriveDrop || op == ArriveExpectTx;
  bool counts =
      op == Init || op == ExpectTx || op == CompleteTx || op == ArriveExpectTx;
  // `_` for the state may be left out only with a barrier of another block.
  size_t least = 1u + returns + counts;
  size_t most = least + (op == Arrive || op == ArriveDrop);
  if (!d.expectOperands(least, most))
    return;
  d.inst.kind = InstClass::Barrier;
  d.inst.run = runBarrier;
  d.inst.option = uint8_t(op);
  d.address(size_t(returns), space == Space::Generic ? Space::Shared : space);
  if (returns && d.operand(0).text != "_")
    d.inst.d = d.destination(size_t(0), 64);
  if (d.numOperands() > size_t(1u + returns))
    d.inst.b = d.source(1u + returns, Type::B32);
}

void decodeCopyArrive(Decode &d) {
  bool noIncrement = d.take("noinc");
  if (!d.take("arrive"))
    return d.fail("is not supported");
  Space space = takeMemorySpace(d);
  Type type = d.needType();
  if (type != Type::B64)
    return d.failType(type);
  if (!d.expectOperands(1))
    return;
  d.inst.kind = InstClass::AsyncCopy;
  d.inst.run = runCopyArrive;
  d.address(size_t(0), space == Space::Generic ? Space::Shared : space);
  d.inst.flag2 = noIncrement;
}

void decodeCp(Decode &d) {
  if (!d.take("async"))
    return d.fail("is not supported");
  d.inst.kind = InstClass::AsyncCopy;
  if (d.take("commit_group")) {
    d.expectOperands(0);
    d.inst.run = runCommit;
  } else if (d.take("wait_all")) {
    d.expectOperands(0);
    d.inst.run = runWaitAll;
  } else if (d.take("wait_group")) {
    if (d.expectOperands(1))
      d.inst.imm = int64_t(d.integer(0));
    d.inst.run = runWaitGroup;
  } else if (d.take("mbarrier")) {
    decodeCopyArrive(d);
  } else {
    decodeCopy(d);
  }
}

} // namespace

void emulator::addAsyncOps(DecodeTable &table) {
  table["cp"] = decodeCp;
  table["mbarrier"] = decodeBarrier;
}
