//===- HalfOps.cpp - f16 and bf16 arithmetic ------------------------------===//
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

enum HalfOption : uint8_t {
  Ftz = 1,
  Sat = 2,
  Relu = 4,
  PropagateNaN = 8,
  XorSign = 16
};

// Products of these formats are exact in double, and sums differ from a double
// sum by less than matters to a rounding to 11 bits; fmaToOdd does the rest.
double widen(Half h) { return double(fromHalf(h.bits)); }
double widen(BFloat b) { return double(fromBFloat(b.bits)); }
Half narrow(double value, Half) { return {toHalf(value)}; }
BFloat narrow(double value, BFloat) { return {toBFloat(value)}; }

Half flushHalf(Half h) {
  return {uint16_t(h.bits & 0x7c00 ? h.bits : h.bits & 0x8000)};
}
BFloat flushHalf(BFloat b) { return b; }

template <typename H>
H pickMinMax(H a, H b, double x, double y, uint8_t options, bool max) {
  bool negative = (a.bits ^ b.bits) & 0x8000;
  if (options & XorSign) {
    a.bits &= 0x7fff;
    b.bits &= 0x7fff;
    x = std::fabs(x);
    y = std::fabs(y);
  }
  if (x != x || y != y) {
    if ((options & PropagateNaN) || (x != x && y != y))
      return {0x7fff};
    return x != x ? b : a;
  }
  bool first = x == y ? std::signbit(x) != max : (x < y) != max;
  H value = first ? a : b;
  if ((options & XorSign) && negative)
    value.bits |= 0x8000;
  return value;
}

template <FloatOp Op, typename H> H compute(H a, H b, H c, uint8_t options) {
  if (options & Ftz) {
    a = flushHalf(a);
    b = flushHalf(b);
    c = flushHalf(c);
  }
  double x = widen(a), y = widen(b), z = widen(c), value = 0;
  switch (Op) {
  case FloatOp::Abs:
    return {uint16_t(a.bits & 0x7fff)};
  case FloatOp::Neg:
    return {uint16_t(a.bits ^ 0x8000)};
  case FloatOp::Min:
    return pickMinMax(a, b, x, y, options, false);
  case FloatOp::Max:
    return pickMinMax(a, b, x, y, options, true);
  case FloatOp::Add:
    value = x + y;
    break;
  case FloatOp::Sub:
    value = x - y;
    break;
  case FloatOp::Mul:
    value = x * y;
    break;
  case FloatOp::Fma:
    value = fmaToOdd(x, y, z);
    break;
  case FloatOp::Ex2:
    value = std::exp2(x);
    break;
  case FloatOp::Tanh:
    value = std::tanh(x);
    break;
  default:
    break;
  }
  if (options & Sat)
    value = value > 0 ? (value < 1 ? value : 1) : 0;
  if ((options & Relu) && value <= 0)
    value = 0;
  H result = narrow(value, a);
  return options & Ftz ? flushHalf(result) : result;
}

template <FloatOp Op, typename H>
void runHalf(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  const uint32_t *b = warp.slots<uint32_t>(inst.b);
  const uint32_t *c = warp.slots<uint32_t>(inst.c);
  uint32_t *d = warp.slots<uint32_t>(inst.d);
  forLanes(mask, [&](unsigned lane) {
    d[lane] =
        toSlot<H>(compute<Op, H>(fromSlot<H>(a[lane]), fromSlot<H>(b[lane]),
                                 fromSlot<H>(c[lane]), inst.option));
  });
}

template <FloatOp Op, typename H>
void runPair(Warp &warp, const Inst &inst, uint32_t mask) {
  using P = Pair<H>;
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  const uint32_t *b = warp.slots<uint32_t>(inst.b);
  const uint32_t *c = warp.slots<uint32_t>(inst.c);
  uint32_t *d = warp.slots<uint32_t>(inst.d);
  forLanes(mask, [&](unsigned lane) {
    P x = fromSlot<P>(a[lane]), y = fromSlot<P>(b[lane]),
      z = fromSlot<P>(c[lane]);
    d[lane] = toSlot<P>({compute<Op, H>(x.lo, y.lo, z.lo, inst.option),
                         compute<Op, H>(x.hi, y.hi, z.hi, inst.option)});
  });
}

template <FloatOp Op> ExecFn pick(Type type) {
  switch (type) {
  case Type::F16:
    return runHalf<Op, Half>;
  case Type::BF16:
    return runHalf<Op, BFloat>;
  case Type::F16x2:
    return runPair<Op, Half>;
  case Type::BF16x2:
    return runPair<Op, BFloat>;
  default:
    return nullptr;
  }
}

ExecFn pickOp(FloatOp op, Type type) {
  switch (op) {
  case FloatOp::Add:
    return pick<FloatOp::Add>(type);
  case FloatOp::Sub:
    return pick<FloatOp::Sub>(type);
  case FloatOp::Mul:
    return pick<FloatOp::Mul>(type);
  case FloatOp::Fma:
    return pick<FloatOp::Fma>(type);
  case FloatOp::Min:
    return pick<FloatOp::Min>(type);
  case FloatOp::Max:
    return pick<FloatOp::Max>(type);
  case FloatOp::Abs:
    return pick<FloatOp::Abs>(type);
  case FloatOp::Neg:
    return pick<FloatOp::Neg>(type);
  case FloatOp::Ex2:
    return pick<FloatOp::Ex2>(type);
  case FloatOp::Tanh:
    return pick<FloatOp::Tanh>(type);
  default:
    return nullptr;
  }
}

} // namespace

bool emulator::decodeHalf(Decode &d, Type type, FloatOp op) {
  if (type != Type::F16 && type != Type::BF16 && type != Type::F16x2 &&
      type != Type::BF16x2)
    return false;
  d.inst.kind = InstClass::Float;
  d.inst.run = pickOp(op, type);
  if (!d.inst.run) {
    d.failType(type);
    return true;
  }
  if (op == FloatOp::Ex2 || op == FloatOp::Tanh)
    d.take("approx");
  else
    d.take("rn");
  uint8_t &option = d.inst.option;
  option |= d.take("ftz") ? Ftz : 0;
  bool minMax = op == FloatOp::Min || op == FloatOp::Max;
  if (minMax) {
    option |= d.take("NaN") ? PropagateNaN : 0;
    if (d.take("xorsign")) {
      option |= XorSign;
      if (!d.take("abs"))
        d.fail("needs .abs after .xorsign");
    }
  } else {
    option |= d.take("sat") ? Sat : 0;
    option |= d.take("relu") ? Relu : 0;
  }
  unsigned sources = op == FloatOp::Fma             ? 3
                     : minMax || op <= FloatOp::Mul ? 2
                                                    : 1;
  if (!d.expectOperands(sources + 1))
    return true;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  d.inst.b = sources > 1 ? d.source(2, type) : d.inst.a;
  d.inst.c = sources > 2 ? d.source(3, type) : d.inst.a;
  return true;
}
