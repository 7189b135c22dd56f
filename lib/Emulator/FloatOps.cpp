//===- FloatOps.cpp - f32 and f64 arithmetic ------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ArithmeticOps.h"
#include "Decoder.h"
#include "Lanes.h"

using namespace moe;
using namespace moe::emulator;

namespace {

template <typename T> T flush(T value, bool ftz) {
  if constexpr (sizeof(T) == 4)
    return ftz ? flushed(value) : value;
  else
    return value;
}

/// .sat: into [0, 1], NaN to 0.
template <typename T> T saturate(T value) {
  return value > T(0) ? (value < T(1) ? value : T(1)) : T(0);
}

/// Rounded to nearest. The approximate functions are those of the host: they
/// lie within the device's documented error, but are not its bits.
template <FloatOp Op, typename T> T compute(T a, T b, T c) {
  switch (Op) {
  case FloatOp::Add:
    return a + b;
  case FloatOp::Sub:
    return a - b;
  case FloatOp::Mul:
    return a * b;
  case FloatOp::Fma:
    return std::fma(a, b, c);
  case FloatOp::Div:
    return a / b;
  case FloatOp::Abs:
    return std::fabs(a);
  case FloatOp::Neg:
    return -a;
  case FloatOp::Rcp:
    return T(1) / a;
  case FloatOp::Sqrt:
    return std::sqrt(a);
  case FloatOp::Rsqrt:
    return T(1.0 / std::sqrt(double(a)));
  case FloatOp::Sin:
    return std::sin(a);
  case FloatOp::Cos:
    return std::cos(a);
  case FloatOp::Ex2:
    return std::exp2(a);
  case FloatOp::Lg2:
    return std::log2(a);
  case FloatOp::Tanh:
    return std::tanh(a);
  case FloatOp::Min:
  case FloatOp::Max:
    break;
  }
  return a;
}

template <FloatOp Op, typename T, bool Ftz, bool Sat> struct Nearest {
  static T finish(T value) {
    value = flush(value, Ftz);
    return Sat ? saturate(value) : canonical(value);
  }
  static T run1(T a) {
    return finish(compute<Op, T>(flush(a, Ftz), T(0), T(0)));
  }
  static T run2(T a, T b) {
    return finish(compute<Op, T>(flush(a, Ftz), flush(b, Ftz), T(0)));
  }
  static T run3(T a, T b, T c) {
    return finish(compute<Op, T>(flush(a, Ftz), flush(b, Ftz), flush(c, Ftz)));
  }
};

template <FloatOp Op> constexpr unsigned arity() {
  switch (Op) {
  case FloatOp::Add:
  case FloatOp::Sub:
  case FloatOp::Mul:
  case FloatOp::Div:
  case FloatOp::Min:
  case FloatOp::Max:
    return 2;
  case FloatOp::Fma:
    return 3;
  default:
    return 1;
  }
}

template <FloatOp Op, typename T, bool Ftz, bool Sat> ExecFn nearestRun() {
  using N = Nearest<Op, T, Ftz, Sat>;
  if constexpr (arity<Op>() == 1)
    return LaneOp<&N::run1>::run;
  else if constexpr (arity<Op>() == 2)
    return LaneOp<&N::run2>::run;
  else
    return LaneOp<&N::run3>::run;
}

/// In one of the directed modes: inst.option, flag for .ftz, flag2 for .sat.
template <FloatOp Op, typename T>
void runDirected(Warp &warp, const Inst &inst, uint32_t mask) {
  const Slot<T> *a = warp.slots<Slot<T>>(inst.a);
  const Slot<T> *b = arity<Op>() > 1 ? warp.slots<Slot<T>>(inst.b) : a;
  const Slot<T> *c = arity<Op>() > 2 ? warp.slots<Slot<T>>(inst.c) : a;
  Slot<T> *d = warp.slots<Slot<T>>(inst.d);
  RoundingScope scope(Round(inst.option));
  forLanes(mask, [&](unsigned lane) {
    T x = flush(fromSlot<T>(a[lane]), inst.flag);
    T y = flush(fromSlot<T>(b[lane]), inst.flag);
    T z = flush(fromSlot<T>(c[lane]), inst.flag);
    T value = 0;
    switch (Op) {
    case FloatOp::Add:
      value = plainAdd(x, y);
      break;
    case FloatOp::Sub:
      value = plainAdd(x, -y);
      break;
    case FloatOp::Mul:
      value = plainMul(x, y);
      break;
    case FloatOp::Fma:
      value = plainFma(x, y, z);
      break;
    case FloatOp::Div:
      value = plainDiv(x, y);
      break;
    case FloatOp::Rcp:
      value = plainDiv(T(1), x);
      break;
    case FloatOp::Sqrt:
      value = plainSqrt(x);
      break;
    default:
      break;
    }
    value = flush(value, inst.flag);
    value = inst.flag2 ? saturate(value) : canonical(value);
    d[lane] = toSlot<T>(value);
  });
}

template <FloatOp Op, typename T> ExecFn pick(Round round, bool ftz, bool sat) {
  if (round != Round::Nearest)
    return runDirected<Op, T>;
  if (sizeof(T) == 8)
    return sat ? nullptr : nearestRun<Op, T, false, false>();
  if (ftz)
    return sat ? nearestRun<Op, T, true, true>()
               : nearestRun<Op, T, true, false>();
  return sat ? nearestRun<Op, T, false, true>()
             : nearestRun<Op, T, false, false>();
}

//===----------------------------------------------------------------------===//
// Minimum and maximum
//===----------------------------------------------------------------------===//

enum MinMax : uint8_t { PropagateNaN = 1, XorSign = 2 };

template <typename T, bool Max>
void runMinMax(Warp &warp, const Inst &inst, uint32_t mask) {
  const Slot<T> *a = warp.slots<Slot<T>>(inst.a);
  const Slot<T> *b = warp.slots<Slot<T>>(inst.b);
  const bool propagate = inst.option & PropagateNaN;
  const bool xorSign = inst.option & XorSign;
  const T nan = canonical(T(NAN));
  writeLanes<T>(warp, inst.d, mask, [&](unsigned lane) {
    T x = flush(fromSlot<T>(a[lane]), inst.flag);
    T y = flush(fromSlot<T>(b[lane]), inst.flag);
    bool negative = std::signbit(x) != std::signbit(y);
    if (xorSign) {
      x = std::fabs(x);
      y = std::fabs(y);
    }
    if (x != x || y != y)
      return propagate || (x != x && y != y) ? nan : x != x ? y : x;
    // Of two zeros the negative one is the smaller.
    bool first = x == y ? std::signbit(x) != Max : (x < y) != Max;
    T value = first ? x : y;
    return xorSign && negative ? -value : value;
  });
}

bool decodeMinMax(Decode &d, Type type, bool max) {
  d.inst.flag = d.take("ftz");
  if (d.take("NaN"))
    d.inst.option |= PropagateNaN;
  if (d.take("xorsign")) {
    d.inst.option |= XorSign;
    if (!d.take("abs"))
      d.fail("needs .abs after .xorsign");
  }
  if (type == Type::F32)
    d.inst.run = max ? runMinMax<float, true> : runMinMax<float, false>;
  else
    d.inst.run = max ? runMinMax<double, true> : runMinMax<double, false>;
  if (d.expectOperands(3)) {
    d.inst.d = d.destination(size_t(0), typeBits(type));
    d.inst.a = d.source(1, type);
    d.inst.b = d.source(2, type);
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Decoding
//===----------------------------------------------------------------------===//

template <FloatOp Op>
ExecFn pickType(Type type, Round round, bool ftz, bool sat) {
  return type == Type::F32 ? pick<Op, float>(round, ftz, sat)
                           : pick<Op, double>(round, ftz, sat);
}

ExecFn pickOp(FloatOp op, Type type, Round round, bool ftz, bool sat) {
  switch (op) {
  case FloatOp::Add:
    return pickType<FloatOp::Add>(type, round, ftz, sat);
  case FloatOp::Sub:
    return pickType<FloatOp::Sub>(type, round, ftz, sat);
  case FloatOp::Mul:
    return pickType<FloatOp::Mul>(type, round, ftz, sat);
  case FloatOp::Fma:
    return pickType<FloatOp::Fma>(type, round, ftz, sat);
  case FloatOp::Div:
    return pickType<FloatOp::Div>(type, round, ftz, sat);
  case FloatOp::Abs:
    return pickType<FloatOp::Abs>(type, round, ftz, sat);
  case FloatOp::Neg:
    return pickType<FloatOp::Neg>(type, round, ftz, sat);
  case FloatOp::Rcp:
    return pickType<FloatOp::Rcp>(type, round, ftz, sat);
  case FloatOp::Sqrt:
    return pickType<FloatOp::Sqrt>(type, round, ftz, sat);
  case FloatOp::Rsqrt:
    return pickType<FloatOp::Rsqrt>(type, round, ftz, sat);
  case FloatOp::Sin:
    return pickType<FloatOp::Sin>(type, round, ftz, sat);
  case FloatOp::Cos:
    return pickType<FloatOp::Cos>(type, round, ftz, sat);
  case FloatOp::Ex2:
    return pickType<FloatOp::Ex2>(type, round, ftz, sat);
  case FloatOp::Lg2:
    return pickType<FloatOp::Lg2>(type, round, ftz, sat);
  case FloatOp::Tanh:
    return pickType<FloatOp::Tanh>(type, round, ftz, sat);
  case FloatOp::Min:
  case FloatOp::Max:
    break;
  }
  return nullptr;
}

unsigned arityOf(FloatOp op) {
  return op == FloatOp::Fma ? 3 : op <= FloatOp::Max ? 2 : 1;
}

template <FloatOp Op> void decodeUnary(Decode &d) {
  Type type = d.needType();
  if (!decodeFloat(d, type, Op))
    d.failType(type);
}

void decodeFma(Decode &d) {
  Type type = d.needType();
  if (!decodeFloat(d, type, FloatOp::Fma))
    d.failType(type);
}

template <typename T> T copySign(T sign, T value) {
  return std::copysign(value, sign);
}

void decodeCopySign(Decode &d) {
  Type type = d.needType();
  if (type != Type::F32 && type != Type::F64)
    return d.failType(type);
  if (!d.expectOperands(3))
    return;
  d.inst.kind = InstClass::Float;
  d.inst.run = type == Type::F32 ? LaneOp<&copySign<float>>::run
                                 : LaneOp<&copySign<double>>::run;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
}

template <typename T>
void runTest(Warp &warp, const Inst &inst, uint32_t mask) {
  const Slot<T> *a = warp.slots<Slot<T>>(inst.a);
  uint32_t bits = 0;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    T x = fromSlot<T>(a[lane]);
    int kind = std::fpclassify(x);
    bool value = false;
    switch (inst.option) {
    case 0:
      value = std::isfinite(x);
      break;
    case 1:
      value = kind == FP_INFINITE;
      break;
    case 2:
      value = kind != FP_NAN;
      break;
    case 3:
      value = kind == FP_NAN;
      break;
    case 4:
      value = kind == FP_NORMAL;
      break;
    case 5:
      value = kind == FP_SUBNORMAL || kind == FP_ZERO;
      break;
    }
    bits |= uint32_t(value) << lane;
  }
  writePred(warp, inst.d, mask, bits);
}

void decodeTest(Decode &d) {
  int which = d.takeOneOf(
      {"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  Type type = d.needType();
  if (type != Type::F32 && type != Type::F64)
    return d.failType(type);
  if (which < 0)
    return d.fail("names no property");
  if (!d.expectOperands(2))
    return;
  d.inst.kind = InstClass::Predicate;
  d.inst.option = uint8_t(which);
  d.inst.run = type == Type::F32 ? runTest<float> : runTest<double>;
  d.inst.d = d.predicateDestination(d.operand(0));
  d.inst.a = d.source(1, type);
}

} // namespace

std::optional<Round> emulator::takeRound(Decode &d) {
  switch (d.takeOneOf({"rn", "rz", "rm", "rp"})) {
  case 0:
    return Round::Nearest;
  case 1:
    return Round::Zero;
  case 2:
    return Round::Down;
  case 3:
    return Round::Up;
  default:
    return std::nullopt;
  }
}

bool emulator::decodeFloat(Decode &d, Type type, FloatOp op) {
  if (decodeHalf(d, type, op))
    return true;
  if (type != Type::F32 && type != Type::F64)
    return false;
  d.inst.kind = InstClass::Float;
  if (op == FloatOp::Min || op == FloatOp::Max)
    return decodeMinMax(d, type, op == FloatOp::Max);
  std::optional<Round> round = takeRound(d);
  bool approximate = d.take("approx") || d.take("full");
  bool ftz = d.take("ftz"), sat = d.take("sat");
  bool mayApproximate = op >= FloatOp::Rcp || op == FloatOp::Div;
  bool mayRound =
      op <= FloatOp::Div || op == FloatOp::Rcp || op == FloatOp::Sqrt;
  if ((approximate && !mayApproximate) || (round && !mayRound))
    d.fail("has a modifier of rounding that it does not take");
  if (mayApproximate && mayRound && !approximate && !round)
    d.fail("needs a modifier of rounding");
  d.inst.option = uint8_t(round.value_or(Round::Nearest));
  d.inst.flag = ftz;
  d.inst.flag2 = sat;
  d.inst.run = pickOp(op, type, round.value_or(Round::Nearest), ftz, sat);
  if (!d.inst.run) {
    d.fail("has a modifier that does not go with its type");
    return true;
  }
  unsigned sources = arityOf(op);
  if (!d.expectOperands(sources + 1))
    return true;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  if (sources > 1)
    d.inst.b = d.source(2, type);
  if (sources > 2)
    d.inst.c = d.source(3, type);
  return true;
}

void emulator::addFloatOps(DecodeTable &table) {
  table["fma"] = decodeFma;
  table["rcp"] = decodeUnary<FloatOp::Rcp>;
  table["sqrt"] = decodeUnary<FloatOp::Sqrt>;
  table["rsqrt"] = decodeUnary<FloatOp::Rsqrt>;
  table["sin"] = decodeUnary<FloatOp::Sin>;
  table["cos"] = decodeUnary<FloatOp::Cos>;
  table["ex2"] = decodeUnary<FloatOp::Ex2>;
  table["lg2"] = decodeUnary<FloatOp::Lg2>;
  table["tanh"] = decodeUnary<FloatOp::Tanh>;
  table["copysign"] = decodeCopySign;
  table["testp"] = decodeTest;
}
