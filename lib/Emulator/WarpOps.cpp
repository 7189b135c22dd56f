//===- WarpOps.cpp - Shuffles, votes and other collectives ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"
#include "Lanes.h"

using namespace moe;
using namespace moe::emulator;

namespace {

enum ShuffleMode : uint8_t { Up, Down, Butterfly, Index };

/// a is the value, b the distance, c bounds and segments; d2 tells whether the
/// source was within the bounds.
void runShuffle(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t values[kLanes];
  std::memcpy(values, warp.at(inst.a), sizeof values);
  const uint32_t *b = warp.slots<uint32_t>(inst.b);
  const uint32_t *c = warp.slots<uint32_t>(inst.c);
  uint32_t *d = warp.slots<uint32_t>(inst.d);
  uint32_t results[kLanes];
  uint32_t inside = 0;
  forLanes(mask, [&](unsigned lane) {
    int self = int(lane), distance = int(b[lane] & 31);
    int clamp = int(c[lane] & 31), segment = int(c[lane] >> 8 & 31);
    int low = self & segment;
    int high = low | (clamp & ~segment);
    int from = 0;
    bool valid = false;
    switch (inst.option) {
    case Up:
      from = self - distance;
      valid = from >= high;
      break;
    case Down:
      from = self + distance;
      valid = from <= high;
      break;
    case Butterfly:
      from = self ^ distance;
      valid = from <= high;
      break;
    default:
      from = low | (distance & ~segment);
      valid = from <= high;
    }
    if (!valid)
      from = self;
    inside |= uint32_t(valid) << lane;
    if (!(mask >> from & 1))
      addReport(warp, inst, ReportKind::Collective, lane,
                "reads lane " + std::to_string(from) +
                    ", which does not take part");
    results[lane] = values[from];
  });
  forLanes(mask, [&](unsigned lane) { d[lane] = results[lane]; });
  writePred(warp, inst.d2, mask, inside);
}

void setPair(Decode &d, unsigned bits) {
  const Operand &to = d.operand(0);
  if (to.kind == Operand::Pair) {
    d.inst.d = d.destination(to.elements[0], bits);
    d.inst.d2 = d.predicateDestination(to.elements[1]);
  } else {
    d.inst.d = d.destination(to, bits);
  }
}

/// All of them wait for the lanes that their last operand names.
bool setCollective(Decode &d, size_t operands) {
  if (!d.take("sync")) {
    d.fail("is supported with .sync only");
    return false;
  }
  if (!d.expectOperands(operands))
    return false;
  d.inst.kind = InstClass::Shuffle;
  d.inst.flow = Flow::Collective;
  d.inst.members = d.source(operands - 1, Type::B32);
  return true;
}

void decodeShuffle(Decode &d) {
  if (!setCollective(d, 5))
    return;
  int mode = d.takeOneOf({"up", "down", "bfly", "idx"});
  Type type = d.needType();
  if (mode < 0)
    return d.fail("names no mode");
  if (type != Type::B32)
    return d.failType(type);
  d.inst.run = runShuffle;
  d.inst.option = uint8_t(mode);
  setPair(d, 32);
  d.inst.a = d.source(1, Type::B32);
  d.inst.b = d.source(2, Type::B32);
  d.inst.c = d.source(3, Type::B32);
}

enum VoteMode : uint8_t { All, Any, Uniform, Ballot };

void runVote(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t bits = warp.pred(inst.a);
  if (inst.flag)
    bits = ~bits;
  bits &= mask;
  if (inst.option == Ballot) {
    writeLanes<uint32_t>(warp, inst.d, mask, [&](unsigned) { return bits; });
    return;
  }
  bool value = inst.option == All   ? bits == mask
               : inst.option == Any ? bits != 0
                                    : bits == mask || bits == 0;
  writePred(warp, inst.d, mask, value ? mask : 0);
}

void decodeVote(Decode &d) {
  if (!setCollective(d, 3))
    return;
  int mode = d.takeOneOf({"all", "any", "uni", "ballot"});
  Type type = d.needType();
  if (mode < 0)
    return d.fail("names no mode");
  if (type != (mode == Ballot ? Type::B32 : Type::Pred))
    return d.failType(type);
  d.inst.run = runVote;
  d.inst.option = uint8_t(mode);
  d.inst.d = mode == Ballot ? d.destination(size_t(0), 32)
                            : d.predicateDestination(d.operand(0));
  bool negated = false;
  d.inst.a = d.predicateSource(d.operand(1), &negated);
  d.inst.flag = negated;
}

template <typename T>
void runMatch(Warp &warp, const Inst &inst, uint32_t mask) {
  const T *a = warp.slots<T>(inst.a);
  uint32_t results[kLanes];
  bool all = true;
  forLanes(mask, [&](unsigned lane) {
    results[lane] = 0;
    forLanes(mask, [&](unsigned other) {
      results[lane] |= uint32_t(a[lane] == a[other]) << other;
    });
    all &= results[lane] == mask;
  });
  uint32_t *d = warp.slots<uint32_t>(inst.d);
  forLanes(mask, [&](unsigned lane) {
    d[lane] = inst.option ? (all ? mask : 0) : results[lane];
  });
  writePred(warp, inst.d2, mask, all ? mask : 0);
}

void decodeMatch(Decode &d) {
  if (!setCollective(d, 3))
    return;
  int mode = d.takeOneOf({"any", "all"});
  Type type = d.needType();
  if (mode < 0)
    return d.fail("names no mode");
  if (type != Type::B32 && type != Type::B64)
    return d.failType(type);
  d.inst.run = type == Type::B64 ? runMatch<uint64_t> : runMatch<uint32_t>;
  d.inst.option = uint8_t(mode);
  setPair(d, 32);
  d.inst.a = d.source(1, type);
}

enum ReduceMode : uint8_t { Add, Min, Max, And, Or, Xor };

template <typename T>
void runReduce(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  bool first = true;
  T result = 0;
  forLanes(mask, [&](unsigned lane) {
    T value = T(a[lane]);
    if (first)
      result = value;
    else
      switch (inst.option) {
      case Add:
        result = T(uint32_t(result) + uint32_t(value));
        break;
      case Min:
        result = value < result ? value : result;
        break;
      case Max:
        result = value > result ? value : result;
        break;
      case And:
        result &= value;
        break;
      case Or:
        result |= value;
        break;
      default:
        result ^= value;
      }
    first = false;
  });
  writeLanes<T>(warp, inst.d, mask, [&](unsigned) { return result; });
}

void decodeReduce(Decode &d) {
  if (!setCollective(d, 3))
    return;
  int mode = d.takeOneOf({"add", "min", "max", "and", "or", "xor"});
  Type type = d.needType();
  if (mode < 0)
    return d.fail("names no operation");
  if (type != Type::B32 && type != Type::U32 && type != Type::S32)
    return d.failType(type);
  d.inst.run = type == Type::S32 ? runReduce<int32_t> : runReduce<uint32_t>;
  d.inst.option = uint8_t(mode);
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.source(1, Type::B32);
}

void runElect(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t leader = uint32_t(__builtin_ctz(mask));
  writeLanes<uint32_t>(warp, inst.d, mask, [&](unsigned) { return leader; });
  writePred(warp, inst.d2, mask, 1u << leader);
}

void decodeElect(Decode &d) {
  if (!setCollective(d, 2))
    return;
  d.inst.run = runElect;
  setPair(d, 32);
}

void runActiveMask(Warp &warp, const Inst &inst, uint32_t mask) {
  writeLanes<uint32_t>(warp, inst.d, mask, [&](unsigned) { return mask; });
}

void decodeActiveMask(Decode &d) {
  Type type = d.needType();
  if (type != Type::B32)
    return d.failType(type);
  if (!d.expectOperands(1))
    return;
  d.inst.kind = InstClass::Shuffle;
  d.inst.run = runActiveMask;
  d.inst.d = d.destination(size_t(0), 32);
}

} // namespace

void emulator::addWarpOps(DecodeTable &table) {
  table["shfl"] = decodeShuffle;
  table["vote"] = decodeVote;
  table["match"] = decodeMatch;
  table["redux"] = decodeReduce;
  table["elect"] = decodeElect;
  table["activemask"] = decodeActiveMask;
}
