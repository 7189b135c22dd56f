//===- IntegerOps.cpp - Integer arithmetic --------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ArithmeticOps.h"
#include "Decoder.h"
#include "Lanes.h"

#include <limits>

using namespace moe;
using namespace moe::emulator;

namespace {

template <typename T> using Unsigned = std::make_unsigned_t<T>;

/// Products of 16-bit values must not become signed int.
template <typename T>
using Wrap = std::conditional_t<sizeof(T) <= 4, uint32_t, uint64_t>;

template <typename T> struct Add {
  static T run(T a, T b) { return T(Wrap<T>(a) + Wrap<T>(b)); }
};
template <typename T> struct Sub {
  static T run(T a, T b) { return T(Wrap<T>(a) - Wrap<T>(b)); }
};
template <typename T> struct Mul {
  static T run(T a, T b) { return T(Wrap<T>(a) * Wrap<T>(b)); }
};
template <typename T> struct Mad {
  static T run(T a, T b, T c) {
    return T(Wrap<T>(a) * Wrap<T>(b) + Wrap<T>(c));
  }
};

template <typename T> T mulHigh(T a, T b) {
  using Wide = std::conditional_t<
      sizeof(T) == 8,
      std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>,
      std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;
  return T(Wide(a) * Wide(b) >> (8 * sizeof(T)));
}
template <typename T> struct MulHi {
  static T run(T a, T b) { return mulHigh(a, b); }
};
template <typename T> struct MadHi {
  static T run(T a, T b, T c) { return T(Wrap<T>(mulHigh(a, b)) + Wrap<T>(c)); }
};

/// Only of 16 and 32 bits.
template <typename T> struct WideOf {
  using type = std::conditional_t<
      sizeof(T) == 2,
      std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
      std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;
};
template <typename T> struct MulWide {
  using W = typename WideOf<T>::type;
  static W run(T a, T b) { return W(Unsigned<W>(W(a)) * Unsigned<W>(W(b))); }
};
template <typename T> struct MadWide {
  using W = typename WideOf<T>::type;
  static W run(T a, T b, W c) {
    return W(Unsigned<W>(W(a)) * Unsigned<W>(W(b)) + Unsigned<W>(c));
  }
};

/// 24 bits of each, sign-extended or not.
template <typename T> int64_t low24(T a) {
  return std::is_signed_v<T> ? int64_t(int32_t(uint32_t(a) << 8) >> 8)
                             : int64_t(uint32_t(a) & 0xffffff);
}
template <typename T> struct Mul24 {
  static T run(T a, T b) { return T(low24(a) * low24(b)); }
};
template <typename T> struct Mad24 {
  static T run(T a, T b, T c) {
    return T(uint32_t(low24(a) * low24(b)) + uint32_t(c));
  }
};

// What the device gives where C++ has no answer.
template <typename T> struct Div {
  static T run(T a, T b) {
    if (b == 0)
      return T(~Unsigned<T>(0));
    if (std::is_signed_v<T> && b == T(-1))
      return T(Unsigned<T>(0) - Unsigned<T>(a));
    return T(a / b);
  }
};
template <typename T> struct Rem {
  static T run(T a, T b) {
    if (b == 0)
      return a;
    if (std::is_signed_v<T> && b == T(-1))
      return 0;
    return T(a % b);
  }
};
template <typename T> struct Min {
  static T run(T a, T b) { return a < b ? a : b; }
};
template <typename T> struct Max {
  static T run(T a, T b) { return a > b ? a : b; }
};
template <typename T> struct MinRelu {
  static T run(T a, T b) { return Max<T>::run(Min<T>::run(a, b), 0); }
};
template <typename T> struct MaxRelu {
  static T run(T a, T b) { return Max<T>::run(Max<T>::run(a, b), 0); }
};
template <typename T> struct Sad {
  static T run(T a, T b, T c) {
    Wrap<T> difference =
        a < b ? Wrap<T>(b) - Wrap<T>(a) : Wrap<T>(a) - Wrap<T>(b);
    return T(Wrap<T>(c) + difference);
  }
};
template <typename T> struct Abs {
  static T run(T a) { return a < 0 ? T(Wrap<T>(0) - Wrap<T>(a)) : a; }
};
template <typename T> struct Neg {
  static T run(T a) { return T(Wrap<T>(0) - Wrap<T>(a)); }
};

template <bool Subtract> int32_t saturated(int32_t a, int32_t b) {
  int64_t wide = Subtract ? int64_t(a) - b : int64_t(a) + b;
  if (wide > std::numeric_limits<int32_t>::max())
    return std::numeric_limits<int32_t>::max();
  if (wide < std::numeric_limits<int32_t>::min())
    return std::numeric_limits<int32_t>::min();
  return int32_t(wide);
}

// Four products of bytes, or two of a half with a byte.
template <typename A, typename B>
int32_t dot4(uint32_t a, uint32_t b, int32_t c) {
  uint32_t sum = uint32_t(c);
  for (unsigned i = 0; i < 32; i += 8)
    sum += uint32_t(int32_t(A(a >> i)) * int32_t(B(b >> i)));
  return int32_t(sum);
}
template <typename A, typename B, unsigned High>
int32_t dot2(uint32_t a, uint32_t b, int32_t c) {
  b >>= 16 * High;
  uint32_t sum = uint32_t(c);
  for (unsigned i = 0; i < 2; ++i)
    sum += uint32_t(int32_t(A(a >> 16 * i)) * int32_t(B(b >> 8 * i)));
  return int32_t(sum);
}

/// What is added, or subtracted from, in an instruction with a carry.
enum class Augend { Operand, LowProduct, HighProduct };

/// d = x + y + carry, or x - y - borrow; Inst::flag takes the carry of the
/// instruction before, Inst::flag2 leaves one for the next.
template <typename T, Augend Kind, bool Subtract>
void runCarry(Warp &warp, const Inst &inst, uint32_t mask) {
  using U = Unsigned<T>;
  const U *a = warp.slots<U>(inst.a), *b = warp.slots<U>(inst.b);
  uint32_t before = inst.flag ? warp.carry : 0, after = 0;
  U *to = warp.slots<U>(inst.d);
  forLanes(mask, [&](unsigned lane) {
    U x = a[lane], y = b[lane], in = U(before >> lane & 1);
    if constexpr (Kind != Augend::Operand) {
      x = Kind == Augend::LowProduct ? U(x * y) : U(mulHigh(T(x), T(y)));
      y = warp.slots<U>(inst.c)[lane];
    }
    U partial = Subtract ? U(x - y) : U(x + y);
    U result = Subtract ? U(partial - in) : U(partial + in);
    bool out = Subtract ? x < y || partial < in : partial < x || result < in;
    after |= uint32_t(out) << lane;
    to[lane] = result;
  });
  if (inst.flag2)
    warp.carry = (warp.carry & ~mask) | after;
}

template <Augend Kind, bool Subtract> ExecFn pickCarry(Type type) {
  switch (type) {
  case Type::U32:
    return runCarry<uint32_t, Kind, Subtract>;
  case Type::S32:
    return runCarry<int32_t, Kind, Subtract>;
  case Type::U64:
    return runCarry<uint64_t, Kind, Subtract>;
  case Type::S64:
    return runCarry<int64_t, Kind, Subtract>;
  default:
    return nullptr;
  }
}

template <template <typename> class Op> ExecFn pick(Type type) {
  switch (type) {
  case Type::B16:
  case Type::U16:
    return LaneOp<&Op<uint16_t>::run>::run;
  case Type::S16:
    return LaneOp<&Op<int16_t>::run>::run;
  case Type::B32:
  case Type::U32:
    return LaneOp<&Op<uint32_t>::run>::run;
  case Type::S32:
    return LaneOp<&Op<int32_t>::run>::run;
  case Type::B64:
  case Type::U64:
    return LaneOp<&Op<uint64_t>::run>::run;
  case Type::S64:
    return LaneOp<&Op<int64_t>::run>::run;
  default:
    return nullptr;
  }
}
template <template <typename> class Op> ExecFn pickSigned(Type type) {
  switch (type) {
  case Type::S16:
    return LaneOp<&Op<int16_t>::run>::run;
  case Type::S32:
    return LaneOp<&Op<int32_t>::run>::run;
  case Type::S64:
    return LaneOp<&Op<int64_t>::run>::run;
  default:
    return nullptr;
  }
}
template <template <typename> class Op> ExecFn pickWide(Type type) {
  switch (type) {
  case Type::U16:
    return LaneOp<&Op<uint16_t>::run>::run;
  case Type::S16:
    return LaneOp<&Op<int16_t>::run>::run;
  case Type::U32:
    return LaneOp<&Op<uint32_t>::run>::run;
  case Type::S32:
    return LaneOp<&Op<int32_t>::run>::run;
  default:
    return nullptr;
  }
}

template <template <typename> class Op> ExecFn pick32(Type type) {
  return type == Type::U32   ? LaneOp<&Op<uint32_t>::run>::run
         : type == Type::S32 ? LaneOp<&Op<int32_t>::run>::run
                             : nullptr;
}

void finish(Decode &d, Type type, ExecFn run, unsigned sources,
            unsigned destinationBits = 0, Type third = Type::None) {
  if (!run)
    return d.failType(type);
  if (!d.expectOperands(sources + 1))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run = run;
  d.inst.d = d.destination(size_t(0),
                           destinationBits ? destinationBits : typeBits(type));
  d.inst.a = d.source(1, type);
  if (sources > 1)
    d.inst.b = d.source(2, type);
  if (sources > 2)
    d.inst.c = d.source(3, third == Type::None ? type : third);
}

/// Adds the f16x2-like pairs of 16-bit integers to those that pick knows.
template <template <typename> class Op> void decodeBinary(Decode &d) {
  Type type = d.needType();
  finish(d, type, pick<Op>(type), 2);
}

/// add.cc and sub.cc where `taken`, else addc and subc.
void decodeCarry(Decode &d, bool subtract, bool taken) {
  Type type = d.needType();
  d.inst.flag = !taken;
  d.inst.flag2 = taken || d.take("cc");
  finish(d, type,
         subtract ? pickCarry<Augend::Operand, true>(type)
                  : pickCarry<Augend::Operand, false>(type),
         2);
}

/// mad.cc where `taken`, else madc.
void decodeCarryMad(Decode &d, bool taken) {
  Type type = d.needType();
  d.inst.flag = !taken;
  d.inst.flag2 = taken || d.take("cc");
  int half = d.takeOneOf({"lo", "hi"});
  if (half < 0)
    return d.fail("needs .lo or .hi");
  finish(d, type,
         half ? pickCarry<Augend::HighProduct, false>(type)
              : pickCarry<Augend::LowProduct, false>(type),
         3);
}

void decodeAddOrSub(Decode &d, bool subtract) {
  if (d.take("cc"))
    return decodeCarry(d, subtract, /*taken=*/true);
  Type type = d.needType();
  if (decodeFloat(d, type, subtract ? FloatOp::Sub : FloatOp::Add))
    return;
  if (d.take("sat")) {
    ExecFn run = subtract ? LaneOp<&saturated<true>>::run
                          : LaneOp<&saturated<false>>::run;
    return finish(d, type, type == Type::S32 ? run : nullptr, 2);
  }
  finish(d, type, subtract ? pick<Sub>(type) : pick<Add>(type), 2);
}

void decodeMul(Decode &d) {
  Type type = d.needType();
  if (decodeFloat(d, type, FloatOp::Mul))
    return;
  switch (d.takeOneOf({"lo", "hi", "wide"})) {
  case 0:
    return finish(d, type, pick<Mul>(type), 2);
  case 1:
    return finish(d, type, pick<MulHi>(type), 2);
  case 2:
    return finish(d, type, pickWide<MulWide>(type), 2, 2 * typeBits(type));
  default:
    d.fail("needs .lo, .hi or .wide");
  }
}

void decodeMad(Decode &d) {
  if (d.take("cc"))
    return decodeCarryMad(d, /*taken=*/true);
  Type type = d.needType();
  if (decodeFloat(d, type, FloatOp::Fma))
    return;
  switch (d.takeOneOf({"lo", "hi", "wide"})) {
  case 0:
    return finish(d, type, pick<Mad>(type), 3);
  case 1:
    return finish(d, type, pick<MadHi>(type), 3);
  case 2: {
    Type wide = type == Type::U16 || type == Type::S16 ? Type::B32 : Type::B64;
    return finish(d, type, pickWide<MadWide>(type), 3, typeBits(wide), wide);
  }
  default:
    d.fail("needs .lo, .hi or .wide");
  }
}

void decode24(Decode &d) {
  Type type = d.needType();
  if (!d.take("lo"))
    return d.fail("is supported with .lo only");
  if (d.word() == "mul24")
    finish(d, type, pick32<Mul24>(type), 2);
  else
    finish(d, type, pick32<Mad24>(type), 3);
}

void decodeMinMax(Decode &d) {
  bool max = d.word() == "max";
  Type type = d.needType();
  if (decodeFloat(d, type, max ? FloatOp::Max : FloatOp::Min))
    return;
  if (d.take("relu"))
    return finish(d, type,
                  max ? pickSigned<MaxRelu>(type) : pickSigned<MinRelu>(type),
                  2);
  finish(d, type, max ? pick<Max>(type) : pick<Min>(type), 2);
}

void decodeAbsNeg(Decode &d) {
  bool negate = d.word() == "neg";
  Type type = d.needType();
  if (decodeFloat(d, type, negate ? FloatOp::Neg : FloatOp::Abs))
    return;
  finish(d, type, negate ? pickSigned<Neg>(type) : pickSigned<Abs>(type), 1);
}

void decodeDiv(Decode &d) {
  Type type = d.needType();
  if (decodeFloat(d, type, FloatOp::Div))
    return;
  finish(d, type, pick<Div>(type), 2);
}

void decodeDot(Decode &d) {
  bool four = d.word() == "dp4a";
  int half = four ? 0 : d.takeOneOf({"lo", "hi"});
  Type first = d.needType(), second = d.needType();
  if (half < 0)
    return d.fail("needs .lo or .hi");
  auto is32 = [](Type type) { return type == Type::U32 || type == Type::S32; };
  if (!is32(first) || !is32(second))
    return d.failType(is32(first) ? second : first);
  bool a = first == Type::S32, b = second == Type::S32;
  ExecFn run = nullptr;
  if (four)
    run = a ? (b ? LaneOp<&dot4<int8_t, int8_t>>::run
                 : LaneOp<&dot4<int8_t, uint8_t>>::run)
            : (b ? LaneOp<&dot4<uint8_t, int8_t>>::run
                 : LaneOp<&dot4<uint8_t, uint8_t>>::run);
  else if (half)
    run = a ? (b ? LaneOp<&dot2<int16_t, int8_t, 1>>::run
                 : LaneOp<&dot2<int16_t, uint8_t, 1>>::run)
            : (b ? LaneOp<&dot2<uint16_t, int8_t, 1>>::run
                 : LaneOp<&dot2<uint16_t, uint8_t, 1>>::run);
  else
    run = a ? (b ? LaneOp<&dot2<int16_t, int8_t, 0>>::run
                 : LaneOp<&dot2<int16_t, uint8_t, 0>>::run)
            : (b ? LaneOp<&dot2<uint16_t, int8_t, 0>>::run
                 : LaneOp<&dot2<uint16_t, uint8_t, 0>>::run);
  finish(d, Type::B32, run, 3);
}

void decodeSad(Decode &d) {
  Type type = d.needType();
  finish(d, type, pick<Sad>(type), 3);
}

} // namespace

void emulator::addIntegerOps(DecodeTable &table) {
  table["add"] = [](Decode &d) { decodeAddOrSub(d, false); };
  table["sub"] = [](Decode &d) { decodeAddOrSub(d, true); };
  table["mul"] = decodeMul;
  table["mad"] = decodeMad;
  table["addc"] = [](Decode &d) { decodeCarry(d, false, false); };
  table["subc"] = [](Decode &d) { decodeCarry(d, true, false); };
  table["madc"] = [](Decode &d) { decodeCarryMad(d, false); };
  table["mul24"] = table["mad24"] = decode24;
  table["div"] = decodeDiv;
  table["rem"] = decodeBinary<Rem>;
  table["min"] = table["max"] = decodeMinMax;
  table["abs"] = table["neg"] = decodeAbsNeg;
  table["sad"] = decodeSad;
  table["dp4a"] = table["dp2a"] = decodeDot;
}
