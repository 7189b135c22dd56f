//===- ConvertOps.cpp - Conversions between types -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"
#include "Lanes.h"
#include "Numbers.h"

#include <limits>

using namespace moe;
using namespace moe::emulator;

namespace {

/// Of an Inst: how a conversion rounds and what it does at the ends.
struct Rules {
  Round round;
  bool integral; ///< .rni and so on between floats.
  bool ftz, sat, relu, finite;
};

enum RuleBits : uint8_t {
  Integral = 1,
  Ftz = 2,
  Sat = 4,
  Relu = 8,
  Finite = 16
};

Rules rulesOf(const Inst &inst) {
  return {Round(inst.option),        bool(inst.option2 & Integral),
          bool(inst.option2 & Ftz),  bool(inst.option2 & Sat),
          bool(inst.option2 & Relu), bool(inst.option2 & Finite)};
}

template <typename T> constexpr bool isFloatType = !std::is_integral_v<T>;

double widen(Half value) { return double(fromHalf(value.bits)); }
double widen(BFloat value) { return double(fromBFloat(value.bits)); }
double widen(float value) { return double(value); }
double widen(double value) { return value; }

template <typename T> constexpr const FloatFormat &formatOf() {
  if constexpr (std::is_same_v<T, Half>)
    return kHalf;
  else if constexpr (std::is_same_v<T, BFloat>)
    return kBFloat;
  else if constexpr (std::is_same_v<T, float>)
    return kSingle;
  else
    return kDouble;
}

template <typename T> T fromEncoded(uint64_t bits) {
  if constexpr (std::is_same_v<T, double>)
    return bitCast<double>(bits);
  else if constexpr (std::is_same_v<T, float>)
    return bitCast<float>(uint32_t(bits));
  else
    return T{uint16_t(bits)};
}

template <typename D> D toInteger(double value, const Rules &rules) {
  if (value != value)
    return 0;
  value = roundIntegral(value, rules.round);
  // 2^63 and 2^64 are doubles, the limits themselves are not.
  double end = std::ldexp(1.0, int(8 * sizeof(D)) - std::is_signed_v<D>);
  double begin = std::is_signed_v<D> ? -end : 0;
  if (value >= end)
    return std::numeric_limits<D>::max();
  if (value < begin)
    return std::numeric_limits<D>::min();
  return D(value);
}

template <typename D> D toFloat(double value, const Rules &rules) {
  if (rules.integral)
    value = roundIntegral(value, rules.round);
  if (rules.sat)
    value = value > 0 ? (value < 1 ? value : 1) : 0;
  if (rules.relu && value <= 0)
    value = 0;
  const FloatFormat &format = formatOf<D>();
  uint64_t bits =
      encodeFloat(format, value, rules.integral ? Round::Nearest : rules.round);
  if (rules.finite && value == value) {
    uint64_t sign = uint64_t(1) << (format.bits - 1);
    if ((bits & ~sign) >= format.infinity())
      bits = (bits & sign) | (format.infinity() - 1);
  }
  return fromEncoded<D>(bits);
}

template <typename D, typename S> D convert(S value, const Rules &rules) {
  if constexpr (isFloatType<S> && isFloatType<D>) {
    double wide = widen(value);
    if constexpr (std::is_same_v<S, float>)
      wide = rules.ftz ? double(flushed(value)) : wide;
    D result = toFloat<D>(wide, rules);
    if constexpr (std::is_same_v<D, float>)
      return rules.ftz ? flushed(result) : result;
    else
      return result;
  } else if constexpr (isFloatType<S>) {
    if constexpr (std::is_same_v<S, float>)
      value = rules.ftz ? flushed(value) : value;
    return toInteger<D>(widen(value), rules);
  } else if constexpr (isFloatType<D>) {
    bool negative = value < 0;
    uint64_t magnitude =
        negative ? uint64_t(0) - uint64_t(int64_t(value)) : uint64_t(value);
    uint64_t bits =
        encodeFloat(formatOf<D>(), negative, magnitude, 0, rules.round);
    D result = fromEncoded<D>(bits);
    return rules.sat ? toFloat<D>(widen(result), rules) : result;
  } else if (rules.sat) {
    __int128 wide = value;
    __int128 low = std::numeric_limits<D>::min();
    __int128 high = std::numeric_limits<D>::max();
    return D(wide < low ? low : wide > high ? high : wide);
  } else {
    return D(value);
  }
}

/// Registers may be wider than the types: `bytes` is the source's slot and
/// `count` the destination's, into which the result is extended.
template <typename D, typename S>
void runConvert(Warp &warp, const Inst &inst, uint32_t mask) {
  const Rules rules = rulesOf(inst);
  const char *from = warp.at(inst.a);
  char *to = warp.at(inst.d);
  forLanes(mask, [&](unsigned lane) {
    S value;
    std::memcpy(&value, from + lane * inst.bytes, sizeof value);
    D result = convert<D, S>(value, rules);
    if constexpr (std::is_integral_v<D>) {
      uint64_t wide = uint64_t(int64_t(result));
      if constexpr (!std::is_signed_v<D>)
        wide = result;
      // A register of 16 bits keeps zeros above them.
      if (inst.flag)
        wide &= 0xffff;
      std::memcpy(to + lane * inst.count, &wide, inst.count);
    } else {
      Slot<D> slot = toSlot<D>(result);
      std::memcpy(to + lane * inst.count, &slot, sizeof slot);
    }
  });
}

template <typename D> ExecFn pickSource(Type type) {
  switch (type) {
  case Type::U8:
    return runConvert<D, uint8_t>;
  case Type::S8:
    return runConvert<D, int8_t>;
  case Type::U16:
    return runConvert<D, uint16_t>;
  case Type::S16:
    return runConvert<D, int16_t>;
  case Type::U32:
    return runConvert<D, uint32_t>;
  case Type::S32:
    return runConvert<D, int32_t>;
  case Type::U64:
    return runConvert<D, uint64_t>;
  case Type::S64:
    return runConvert<D, int64_t>;
  case Type::F16:
    return runConvert<D, Half>;
  case Type::BF16:
    return runConvert<D, BFloat>;
  case Type::F32:
    return runConvert<D, float>;
  case Type::F64:
    return runConvert<D, double>;
  default:
    return nullptr;
  }
}

ExecFn pickConversion(Type to, Type from) {
  switch (to) {
  case Type::U8:
    return pickSource<uint8_t>(from);
  case Type::S8:
    return pickSource<int8_t>(from);
  case Type::U16:
    return pickSource<uint16_t>(from);
  case Type::S16:
    return pickSource<int16_t>(from);
  case Type::U32:
    return pickSource<uint32_t>(from);
  case Type::S32:
    return pickSource<int32_t>(from);
  case Type::U64:
    return pickSource<uint64_t>(from);
  case Type::S64:
    return pickSource<int64_t>(from);
  case Type::F16:
    return pickSource<Half>(from);
  case Type::BF16:
    return pickSource<BFloat>(from);
  case Type::F32:
    return pickSource<float>(from);
  case Type::F64:
    return pickSource<double>(from);
  default:
    return nullptr;
  }
}

/// cvt.rn.f16x2.f32 d, a, b: a goes to the high half.
template <typename H>
void runPair(Warp &warp, const Inst &inst, uint32_t mask) {
  const Rules rules = rulesOf(inst);
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  const uint32_t *b = warp.slots<uint32_t>(inst.b);
  uint32_t *d = warp.slots<uint32_t>(inst.d);
  forLanes(mask, [&](unsigned lane) {
    Pair<H> pair = {convert<H, float>(fromSlot<float>(b[lane]), rules),
                    convert<H, float>(fromSlot<float>(a[lane]), rules)};
    d[lane] = toSlot<Pair<H>>(pair);
  });
}

void runToTF32(Warp &warp, const Inst &inst, uint32_t mask) {
  const Rules rules = rulesOf(inst);
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  uint32_t *d = warp.slots<uint32_t>(inst.d);
  forLanes(mask, [&](unsigned lane) {
    float value = fromSlot<float>(a[lane]);
    if (rules.relu && value <= 0)
      value = 0;
    uint32_t bits = toTF32(value, rules.round);
    if (rules.finite && (bits & 0x7fffffff) == 0x7f800000)
      bits = (bits & 0x80000000) | 0x7f7fe000;
    d[lane] = bits;
  });
}

/// The commonest ones without a detour.
float halfToFloat(Half value) { return fromHalf(value.bits); }
float bfloatToFloat(BFloat value) { return fromBFloat(value.bits); }
float signedToFloat(int32_t value) { return float(value); }
float unsignedToFloat(uint32_t value) { return float(value); }
uint64_t zeroExtend(uint32_t value) { return value; }
int64_t signExtend(int32_t value) { return value; }
uint32_t truncate(uint64_t value) { return uint32_t(value); }

ExecFn pickFast(Type to, Type from) {
  if (to == Type::F32 && from == Type::F16)
    return LaneOp<&halfToFloat>::run;
  if (to == Type::F32 && from == Type::BF16)
    return LaneOp<&bfloatToFloat>::run;
  if (to == Type::F32 && from == Type::S32)
    return LaneOp<&signedToFloat>::run;
  if (to == Type::F32 && from == Type::U32)
    return LaneOp<&unsignedToFloat>::run;
  if (typeBits(to) == 64 && !isFloat(to) && from == Type::U32)
    return LaneOp<&zeroExtend>::run;
  if (typeBits(to) == 64 && !isFloat(to) && from == Type::S32)
    return LaneOp<&signExtend>::run;
  if (typeBits(to) == 32 && !isFloat(to) &&
      (from == Type::U64 || from == Type::S64))
    return LaneOp<&truncate>::run;
  return nullptr;
}

bool takeRules(Decode &d) {
  int round = d.takeOneOf({"rn", "rz", "rm", "rp", "rna"});
  int integral = d.takeOneOf({"rni", "rzi", "rmi", "rpi"});
  if (integral >= 0) {
    d.inst.option2 |= Integral;
    round = integral;
  }
  if (round >= 0)
    d.inst.option = uint8_t(round);
  d.inst.option2 |= d.take("ftz") ? Ftz : 0;
  d.inst.option2 |= d.take("satfinite") ? Finite : 0;
  d.inst.option2 |= d.take("sat") ? Sat : 0;
  d.inst.option2 |= d.take("relu") ? Relu : 0;
  return round >= 0;
}

Type asUnsigned(Type type) {
  switch (type) {
  case Type::B8:
    return Type::U8;
  case Type::B16:
    return Type::U16;
  case Type::B32:
    return Type::U32;
  case Type::B64:
    return Type::U64;
  default:
    return type;
  }
}

void decodeCvt(Decode &d) {
  bool rounds = takeRules(d);
  Type to = d.needType(), from = d.needType();
  d.inst.kind = InstClass::Convert;
  if (to == Type::F16x2 || to == Type::BF16x2) {
    if (from != Type::F32)
      return d.failType(from);
    if (!d.expectOperands(3))
      return;
    d.inst.run = to == Type::F16x2 ? runPair<Half> : runPair<BFloat>;
    d.inst.d = d.destination(size_t(0), 32);
    d.inst.a = d.source(1, from);
    d.inst.b = d.source(2, from);
    return;
  }
  if (!d.expectOperands(2))
    return;
  if (to == Type::TF32) {
    if (from != Type::F32)
      return d.failType(from);
    d.inst.run = runToTF32;
    d.inst.d = d.destination(size_t(0), 32);
    d.inst.a = d.source(1, from);
    return;
  }
  to = asUnsigned(to);
  from = asUnsigned(from);
  bool needsRounding =
      (isFloat(to) != isFloat(from)) ||
      (isFloat(to) && typeBits(to) < typeBits(from)) ||
      (isFloat(to) && typeBits(to) == typeBits(from) && to != from);
  if (needsRounding && !rounds)
    return d.fail("needs a modifier of rounding");
  if (isFloat(from) && !isFloat(to) && !(d.inst.option2 & Integral))
    return d.fail("rounds to an integer by .rni, .rzi, .rmi or .rpi");
  d.inst.run = pickConversion(to, from);
  if (!d.inst.run)
    return d.failType(typeBits(to) > 64 ? to : from);
  unsigned fromBytes = 0, toBytes = 0;
  d.inst.d = d.wideDestination(d.operand(0), typeBits(to), toBytes);
  d.inst.a = d.wideSource(d.operand(1), from, fromBytes);
  d.inst.bytes = uint8_t(fromBytes);
  d.inst.count = uint8_t(toBytes);
  if (isFloat(to) && toBytes != (typeBits(to) > 32 ? 8u : 4u))
    return d.fail("writes a float to a wider register");
  // Narrow signed values in a 32-bit slot: is the register one of 16 bits?
  d.inst.flag = toBytes == 4 && d.narrowRegister(d.operand(0));
  bool plain = d.inst.option == uint8_t(Round::Nearest) && !d.inst.option2;
  if (plain && toBytes == (typeBits(to) > 32 ? 8u : 4u) &&
      fromBytes == (typeBits(from) > 32 ? 8u : 4u))
    if (ExecFn fast = pickFast(to, from))
      d.inst.run = fast;
}

} // namespace

void emulator::addConvertOps(DecodeTable &table) { table["cvt"] = decodeCvt; }
