//===- AtomicOps.cpp - Atomic operations and fences -----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lanes.h"
#include "MemoryOps.h"
#include "Numbers.h"

using namespace moe;
using namespace moe::emulator;

namespace {

enum class AtomicOp : uint8_t {
  Add,
  Min,
  Max,
  And,
  Or,
  Xor,
  Exch,
  Cas,
  Inc,
  Dec
};

Half add(Half a, Half b) {
  return {toHalf(double(fromHalf(a.bits)) + double(fromHalf(b.bits)))};
}
BFloat add(BFloat a, BFloat b) {
  return {toBFloat(double(fromBFloat(a.bits)) + double(fromBFloat(b.bits)))};
}
template <typename H> Pair<H> add(Pair<H> a, Pair<H> b) {
  return {add(a.lo, b.lo), add(a.hi, b.hi)};
}
template <typename T> T add(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return T(std::make_unsigned_t<T>(a) + std::make_unsigned_t<T>(b));
  else
    return canonical(T(a + b));
}

/// `second` is the new value of a cas.
template <typename T> T compute(AtomicOp op, T old, T value, T second) {
  if (op == AtomicOp::Add)
    return add(old, value);
  if constexpr (std::is_integral_v<T>) {
    switch (op) {
    case AtomicOp::Min:
      return old < value ? old : value;
    case AtomicOp::Max:
      return old > value ? old : value;
    case AtomicOp::And:
      return old & value;
    case AtomicOp::Or:
      return old | value;
    case AtomicOp::Xor:
      return old ^ value;
    case AtomicOp::Exch:
      return value;
    case AtomicOp::Cas:
      return old == value ? second : old;
    case AtomicOp::Inc:
      return old >= value ? 0 : old + 1;
    case AtomicOp::Dec:
      return old == 0 || old > value ? value : old - 1;
    default:
      break;
    }
  }
  return value;
}

template <typename T>
void runAtomic(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t addresses[kLanes];
  computeAddresses(warp, inst, mask, addresses);
  countAccess(warp, inst.space, addresses, mask, sizeof(T), true);
  Launch &launch = *warp.block->launch;
  launch.stats.atomics += unsigned(__builtin_popcount(mask));
  if (inst.flag2)
    warp.block->fenced = true;
  const Slot<T> *b = warp.slots<Slot<T>>(inst.b);
  const Slot<T> *c = warp.slots<Slot<T>>(inst.c == kNone ? inst.b : inst.c);
  Slot<T> *d = inst.d == kNone ? nullptr : warp.slots<Slot<T>>(inst.d);
  // Lanes go in no order that a kernel could rely on.
  unsigned first =
      launch.options.seed ? unsigned(launch.nextRandom() % kLanes) : 0;
  for (unsigned i = 0; i < kLanes; ++i) {
    unsigned lane = (first + i) % kLanes;
    if (!(mask >> lane & 1))
      continue;
    uint8_t *at = accessMemory(warp, inst, lane, inst.space, addresses[lane],
                               sizeof(T), AccessKind::Atomic);
    T old{};
    if (at) {
      std::memcpy(&old, at, sizeof old);
      T value = compute<T>(AtomicOp(inst.option), old, fromSlot<T>(b[lane]),
                           fromSlot<T>(c[lane]));
      std::memcpy(at, &value, sizeof value);
    }
    if (d)
      d[lane] = toSlot<T>(old);
  }
}

ExecFn pick(Type type, AtomicOp op) {
  bool isAdd = op == AtomicOp::Add;
  switch (type) {
  case Type::B16:
    return op == AtomicOp::Cas || op == AtomicOp::Exch ? runAtomic<uint16_t>
                                                       : nullptr;
  case Type::B32:
  case Type::U32:
    return runAtomic<uint32_t>;
  case Type::S32:
    return runAtomic<int32_t>;
  case Type::B64:
  case Type::U64:
    return runAtomic<uint64_t>;
  case Type::S64:
    return runAtomic<int64_t>;
  case Type::F32:
    return isAdd ? runAtomic<float> : nullptr;
  case Type::F64:
    return isAdd ? runAtomic<double> : nullptr;
  case Type::F16:
    return isAdd ? runAtomic<Half> : nullptr;
  case Type::BF16:
    return isAdd ? runAtomic<BFloat> : nullptr;
  case Type::F16x2:
    return isAdd ? runAtomic<Half2> : nullptr;
  case Type::BF16x2:
    return isAdd ? runAtomic<BFloat2> : nullptr;
  default:
    return nullptr;
  }
}

void decodeAtomic(Decode &d) {
  bool returns = d.word() == "atom";
  d.inst.flag2 = takeSemantics(d).fence;
  Space space = takeMemorySpace(d);
  bool policy = takeCacheHints(d);
  int op = d.takeOneOf(
      {"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"});
  d.take("noftz");
  Type type = d.needType();
  if (op < 0)
    return d.fail("names no operation");
  size_t count = 2u + returns + (AtomicOp(op) == AtomicOp::Cas) + policy;
  if (!d.expectOperands(count))
    return;
  size_t at = returns ? 1 : 0;
  d.inst.kind = InstClass::Atomic;
  d.inst.option = uint8_t(op);
  d.inst.run = pick(type, AtomicOp(op));
  if (!d.inst.run)
    return d.failType(type);
  bool fence = d.inst.flag2;
  d.address(at, space);
  d.inst.flag2 = fence;
  if (returns)
    d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.b = d.source(at + 1, type);
  if (AtomicOp(op) == AtomicOp::Cas)
    d.inst.c = d.source(at + 2, type);
}

void runFence(Warp &warp, const Inst &, uint32_t) { warp.block->fenced = true; }
void runNothing(Warp &, const Inst &, uint32_t) {}

void decodeFence(Decode &d) {
  d.expectOperands(0);
  d.inst.kind = InstClass::Barrier;
  d.inst.run = runNothing;
  if (d.word() == "membar") {
    int level = d.takeOneOf({"cta", "gl", "sys"});
    if (level < 0)
      return d.fail("names no level");
    if (level > 0)
      d.inst.run = runFence;
    return;
  }
  if (d.take("proxy")) {
    // Proxies are not told apart.
    if (d.takeOneOf({"alias", "async", "async::generic", "async.global",
                     "tensormap::generic"}) < 0)
      return d.fail("names no proxy");
    d.takeOneOf({"global", "shared::cta", "shared::cluster"});
    return;
  }
  d.take("mbarrier_init");
  if (d.takeOneOf({"sc", "acq_rel", "acquire", "release"}) < 0)
    return d.fail("names no order");
  d.takeOneOf({"sync_restrict::shared::cta", "sync_restrict::shared::cluster"});
  int scope = d.takeOneOf({"cta", "cluster", "gpu", "sys"});
  if (scope < 0)
    return d.fail("names no scope");
  if (scope > 1)
    d.inst.run = runFence;
}

} // namespace

void emulator::addAtomicOps(DecodeTable &table) {
  table["atom"] = table["red"] = decodeAtomic;
  table["membar"] = table["fence"] = decodeFence;
}
