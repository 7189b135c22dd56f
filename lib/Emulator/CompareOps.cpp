//===- CompareOps.cpp - Comparison and selection --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"
#include "Lanes.h"
#include "Numbers.h"

using namespace moe;
using namespace moe::emulator;

namespace {

enum Comparison : uint8_t {
  Eq,
  Ne,
  Lt,
  Le,
  Gt,
  Ge,
  // Of floats: true where one is NaN.
  Equ,
  Neu,
  Ltu,
  Leu,
  Gtu,
  Geu,
  Num,
  Nan
};

template <typename T> float asFloat(T value) { return value; }
float asFloat(Half value) { return fromHalf(value.bits); }
float asFloat(BFloat value) { return fromBFloat(value.bits); }

template <typename T, Comparison C> bool compareValues(T a, T b) {
  switch (C) {
  case Eq:
    return a == b;
  case Ne:
    return a < b || a > b;
  case Lt:
    return a < b;
  case Le:
    return a <= b;
  case Gt:
    return a > b;
  case Ge:
    return a >= b;
  case Equ:
    return !(a < b || a > b);
  case Neu:
    return !(a == b);
  case Ltu:
    return !(a >= b);
  case Leu:
    return !(a > b);
  case Gtu:
    return !(a <= b);
  case Geu:
    return !(a < b);
  case Num:
    return a == a && b == b;
  case Nan:
    return !(a == a && b == b);
  }
  return false;
}

template <typename T, Comparison C, bool Ftz> bool compareLane(T a, T b) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat>)
    return compareValues<float, C>(asFloat(a), asFloat(b));
  else if constexpr (std::is_same_v<T, float> && Ftz)
    return compareValues<T, C>(flushed(a), flushed(b));
  else
    return compareValues<T, C>(a, b);
}

struct CompareFns {
  ExecFn setp, set;
};

template <typename T, Comparison C, bool Ftz> CompareFns fns() {
  using P = PredOp<&compareLane<T, C, Ftz>>;
  return {P::run, P::runSet};
}

template <typename T, bool Ftz = false>
CompareFns pickComparison(Comparison comparison) {
  switch (comparison) {
  case Eq:
    return fns<T, Eq, Ftz>();
  case Ne:
    return fns<T, Ne, Ftz>();
  case Lt:
    return fns<T, Lt, Ftz>();
  case Le:
    return fns<T, Le, Ftz>();
  case Gt:
    return fns<T, Gt, Ftz>();
  case Ge:
    return fns<T, Ge, Ftz>();
  default:
    break;
  }
  if constexpr (std::is_integral_v<T>)
    return {nullptr, nullptr};
  else
    switch (comparison) {
    case Equ:
      return fns<T, Equ, Ftz>();
    case Neu:
      return fns<T, Neu, Ftz>();
    case Ltu:
      return fns<T, Ltu, Ftz>();
    case Leu:
      return fns<T, Leu, Ftz>();
    case Gtu:
      return fns<T, Gtu, Ftz>();
    case Geu:
      return fns<T, Geu, Ftz>();
    case Num:
      return fns<T, Num, Ftz>();
    case Nan:
      return fns<T, Nan, Ftz>();
    default:
      return {nullptr, nullptr};
    }
}

CompareFns pickType(Type type, Comparison comparison, bool ftz) {
  switch (type) {
  case Type::B16:
  case Type::U16:
    return pickComparison<uint16_t>(comparison);
  case Type::S16:
    return pickComparison<int16_t>(comparison);
  case Type::B32:
  case Type::U32:
    return pickComparison<uint32_t>(comparison);
  case Type::S32:
    return pickComparison<int32_t>(comparison);
  case Type::B64:
  case Type::U64:
    return pickComparison<uint64_t>(comparison);
  case Type::S64:
    return pickComparison<int64_t>(comparison);
  case Type::F32:
    return ftz ? pickComparison<float, true>(comparison)
               : pickComparison<float>(comparison);
  case Type::F64:
    return pickComparison<double>(comparison);
  case Type::F16:
    return pickComparison<Half>(comparison);
  case Type::BF16:
    return pickComparison<BFloat>(comparison);
  default:
    return {nullptr, nullptr};
  }
}

int takeComparison(Decode &d) {
  int index = d.takeOneOf({"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu",
                           "ltu", "leu", "gtu", "geu", "num", "nan"});
  if (index >= 0)
    return index;
  // Unsigned names of the same.
  switch (d.takeOneOf({"lo", "ls", "hi", "hs"})) {
  case 0:
    return Lt;
  case 1:
    return Le;
  case 2:
    return Gt;
  case 3:
    return Ge;
  default:
    d.fail("names no comparison");
    return Eq;
  }
}

void takeCombine(Decode &d, size_t index) {
  int combine = d.takeOneOf({"and", "or", "xor"});
  d.inst.option = uint8_t(combine + 1);
  if (combine < 0 || !d.expectOperands(index + 1))
    return;
  bool negated = false;
  d.inst.c = d.predicateSource(d.operand(index), &negated);
  d.inst.flag2 = negated;
}

//===----------------------------------------------------------------------===//
// Pairs
//===----------------------------------------------------------------------===//

template <typename H> bool comparePair(H a, H b, unsigned comparison) {
  float x = asFloat(a), y = asFloat(b);
  bool nan = x != x || y != y;
  switch (comparison % 6) {
  case Eq:
    return comparison >= Num   ? !nan
           : comparison >= Equ ? nan || x == y
                               : x == y;
  case Ne:
    return comparison >= Num   ? nan
           : comparison >= Equ ? x != y
                               : !nan && x != y;
  case Lt:
    return comparison >= Equ ? nan || x < y : x < y;
  case Le:
    return comparison >= Equ ? nan || x <= y : x <= y;
  case Gt:
    return comparison >= Equ ? nan || x > y : x > y;
  default:
    return comparison >= Equ ? nan || x >= y : x >= y;
  }
}

/// setp of a pair writes the low half's answer to p and the high half's to q.
template <typename H>
void runSetpPair(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  const uint32_t *b = warp.slots<uint32_t>(inst.b);
  uint32_t lo = 0, hi = 0;
  forLanes(mask, [&](unsigned lane) {
    auto x = fromSlot<Pair<H>>(a[lane]), y = fromSlot<Pair<H>>(b[lane]);
    lo |= uint32_t(comparePair(x.lo, y.lo, unsigned(inst.imm))) << lane;
    hi |= uint32_t(comparePair(x.hi, y.hi, unsigned(inst.imm))) << lane;
  });
  lo = combine(warp, inst, lo);
  hi = combine(warp, inst, hi);
  writePred(warp, inst.d, mask, lo);
  writePred(warp, inst.d2, mask, hi);
}

/// set of a pair: inst.e is unused, `count` 1 for ones of bits, else 1.0.
template <typename H>
void runSetPair(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  const uint32_t *b = warp.slots<uint32_t>(inst.b);
  uint32_t one = inst.bytes == 2 ? 0x3c00 : inst.bytes == 1 ? 0x3f80 : 0xffff;
  writeLanes<uint32_t>(warp, inst.d, mask, [&](unsigned lane) {
    auto x = fromSlot<Pair<H>>(a[lane]), y = fromSlot<Pair<H>>(b[lane]);
    return (comparePair(x.lo, y.lo, unsigned(inst.imm)) ? one : 0) |
           (comparePair(x.hi, y.hi, unsigned(inst.imm)) ? one << 16 : 0);
  });
}

//===----------------------------------------------------------------------===//
// Decoding
//===----------------------------------------------------------------------===//

void setPredicates(Decode &d) {
  const Operand &to = d.operand(0);
  if (to.kind == Operand::Pair) {
    d.inst.d = d.predicateDestination(to.elements[0]);
    d.inst.d2 = d.predicateDestination(to.elements[1]);
  } else {
    d.inst.d = d.predicateDestination(to);
  }
}

void decodeSetp(Decode &d) {
  int comparison = takeComparison(d);
  if (!d.expectOperands(3, 4))
    return;
  takeCombine(d, 3);
  bool ftz = d.take("ftz");
  Type type = d.needType();
  d.inst.kind = InstClass::Predicate;
  if (type == Type::F16x2 || type == Type::BF16x2) {
    d.inst.run = type == Type::F16x2 ? runSetpPair<Half> : runSetpPair<BFloat>;
    d.inst.imm = comparison;
  } else {
    d.inst.run = pickType(type, Comparison(comparison), ftz).setp;
  }
  if (!d.inst.run)
    return d.failType(type);
  setPredicates(d);
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
}

void decodeSet(Decode &d) {
  int comparison = takeComparison(d);
  if (!d.expectOperands(3, 4))
    return;
  takeCombine(d, 3);
  bool ftz = d.take("ftz");
  Type to = d.needType(), type = d.needType();
  d.inst.kind = InstClass::Predicate;
  if (type == Type::F16x2 || type == Type::BF16x2) {
    d.inst.run = type == Type::F16x2 ? runSetPair<Half> : runSetPair<BFloat>;
    d.inst.imm = comparison;
    d.inst.bytes = to == Type::F16x2 ? 2 : to == Type::BF16x2 ? 1 : 0;
    if (d.inst.option != CombineNone || typeBits(to) != 32)
      d.fail("is not supported in this form");
  } else {
    d.inst.run = pickType(type, Comparison(comparison), ftz).set;
    switch (to) {
    case Type::U32:
    case Type::S32:
    case Type::B32:
      d.inst.imm = 0xffffffff;
      break;
    case Type::U16:
    case Type::S16:
    case Type::B16:
      d.inst.imm = 0xffff;
      break;
    case Type::F32:
      d.inst.imm = 0x3f800000;
      break;
    case Type::F16:
      d.inst.imm = 0x3c00;
      break;
    case Type::BF16:
      d.inst.imm = 0x3f80;
      break;
    default:
      return d.failType(to);
    }
  }
  if (!d.inst.run)
    return d.failType(type);
  d.inst.d = d.destination(size_t(0), typeBits(to));
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
}

template <typename T>
void runSelp(Warp &warp, const Inst &inst, uint32_t mask) {
  const T *a = warp.slots<T>(inst.a), *b = warp.slots<T>(inst.b);
  uint32_t bits = warp.pred(inst.c);
  if (inst.flag2)
    bits = ~bits;
  writeLanes<T>(warp, inst.d, mask, [&](unsigned lane) {
    return bits >> lane & 1 ? a[lane] : b[lane];
  });
}

void runSelpPred(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t bits = warp.pred(inst.c);
  if (inst.flag2)
    bits = ~bits;
  writePred(warp, inst.d, mask,
            (warp.pred(inst.a) & bits) | (warp.pred(inst.b) & ~bits));
}

void decodeSelp(Decode &d) {
  Type type = d.needType();
  if (!d.expectOperands(4))
    return;
  d.inst.kind = InstClass::Move;
  bool negated = false;
  d.inst.c = d.predicateSource(d.operand(3), &negated);
  d.inst.flag2 = negated;
  if (type == Type::Pred) {
    d.inst.run = runSelpPred;
    d.inst.d = d.predicateDestination(d.operand(0));
    d.inst.a = d.predicateSource(d.operand(1), nullptr);
    d.inst.b = d.predicateSource(d.operand(2), nullptr);
    return;
  }
  d.inst.run = typeBits(type) == 64 ? runSelp<uint64_t> : runSelp<uint32_t>;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
}

/// d = c >= 0 ? a : b
template <typename T, bool FromFloat>
void runSlct(Warp &warp, const Inst &inst, uint32_t mask) {
  const T *a = warp.slots<T>(inst.a), *b = warp.slots<T>(inst.b);
  const uint32_t *c = warp.slots<uint32_t>(inst.c);
  writeLanes<T>(warp, inst.d, mask, [&](unsigned lane) {
    bool first = false;
    if (FromFloat) {
      float value = fromSlot<float>(c[lane]);
      first = (inst.flag ? flushed(value) : value) >= 0;
    } else {
      first = int32_t(c[lane]) >= 0;
    }
    return first ? a[lane] : b[lane];
  });
}

void decodeSlct(Decode &d) {
  d.inst.flag = d.take("ftz");
  Type type = d.needType(), from = d.needType();
  if (from != Type::S32 && from != Type::F32)
    return d.failType(from);
  if (!d.expectOperands(4))
    return;
  bool wide = typeBits(type) == 64, isFloat = from == Type::F32;
  d.inst.kind = InstClass::Move;
  d.inst.run =
      wide ? (isFloat ? runSlct<uint64_t, true> : runSlct<uint64_t, false>)
           : (isFloat ? runSlct<uint32_t, true> : runSlct<uint32_t, false>);
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
  d.inst.c = d.source(3, from);
}

} // namespace

void emulator::addCompareOps(DecodeTable &table) {
  table["setp"] = decodeSetp;
  table["set"] = decodeSet;
  table["selp"] = decodeSelp;
  table["slct"] = decodeSlct;
}
