//===- BitOps.cpp - Logic, shifts and bit fields --------------------------===//
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

template <typename T> struct And {
  static T run(T a, T b) { return a & b; }
};
template <typename T> struct Or {
  static T run(T a, T b) { return a | b; }
};
template <typename T> struct Xor {
  static T run(T a, T b) { return a ^ b; }
};
template <typename T> struct Not {
  static T run(T a) { return T(~a); }
};
template <typename T> struct CNot {
  static T run(T a) { return a == 0; }
};
// Counts beyond the width are clamped to it.
template <typename T> struct Shl {
  static T run(T a, uint32_t n) {
    return n < 8 * sizeof(T) ? T(uint64_t(a) << n) : T(0);
  }
};
template <typename T> struct Shr {
  static T run(T a, uint32_t n) {
    constexpr uint32_t bits = 8 * sizeof(T);
    if (n >= bits)
      return a < 0 ? T(-1) : T(0);
    return T(a >> n);
  }
};

template <typename T> uint32_t popCount(T a) {
  return uint32_t(__builtin_popcountll(a));
}
uint32_t clz32(uint32_t a) { return a ? uint32_t(__builtin_clz(a)) : 32; }
uint32_t clz64(uint64_t a) { return a ? uint32_t(__builtin_clzll(a)) : 64; }

template <typename T> T reverse(T a) {
  T result = 0;
  for (unsigned i = 0; i < 8 * sizeof(T); ++i)
    result |= T(a >> i & 1) << (8 * sizeof(T) - 1 - i);
  return result;
}

/// The highest bit that differs from the sign; all ones where there is none.
template <typename T, bool Shift> uint32_t bfind(T a) {
  using U = std::make_unsigned_t<T>;
  U bits = a < 0 ? U(~a) : U(a);
  if (bits == 0)
    return ~0u;
  uint32_t at = 63 - clz64(bits);
  return Shift ? uint32_t(8 * sizeof(T)) - 1 - at : at;
}

template <typename T> T bfe(T a, uint32_t position, uint32_t length) {
  constexpr uint32_t bits = 8 * sizeof(T);
  using U = std::make_unsigned_t<T>;
  position &= 0xff;
  length &= 0xff;
  if (length == 0)
    return 0;
  uint32_t last = position + length - 1;
  bool sign =
      std::is_signed_v<T> && (U(a) >> (last < bits ? last : bits - 1) & 1);
  U value = position < bits ? U(a) >> position : 0;
  uint32_t valid = position < bits ? bits - position : 0;
  if (length < valid)
    valid = length;
  U mask = valid >= bits ? U(~U(0)) : U((U(1) << valid) - 1);
  return T((value & mask) | (sign ? U(~mask) : U(0)));
}

template <typename T> void runBfi(Warp &warp, const Inst &inst, uint32_t mask) {
  const Slot<T> *a = warp.slots<Slot<T>>(inst.a);
  const Slot<T> *b = warp.slots<Slot<T>>(inst.b);
  const uint32_t *c = warp.slots<uint32_t>(inst.c);
  const uint32_t *e = warp.slots<uint32_t>(inst.e);
  writeLanes<T>(warp, inst.d, mask, [&](unsigned lane) {
    constexpr uint32_t bits = 8 * sizeof(T);
    uint32_t position = c[lane] & 0xff, length = e[lane] & 0xff;
    if (position >= bits || length == 0)
      return T(b[lane]);
    T field = length >= bits ? ~T(0) : (T(1) << length) - 1;
    field <<= position;
    return T((T(b[lane]) & ~field) | (T(a[lane]) << position & field));
  });
}

uint32_t shiftLeft(uint32_t lo, uint32_t hi, uint32_t n) {
  uint64_t both = uint64_t(hi) << 32 | lo;
  return uint32_t(both << n >> 32);
}
uint32_t shfLeftWrap(uint32_t a, uint32_t b, uint32_t n) {
  return shiftLeft(a, b, n & 31);
}
uint32_t shfLeftClamp(uint32_t a, uint32_t b, uint32_t n) {
  return n >= 32 ? a : shiftLeft(a, b, n);
}
uint32_t shfRightWrap(uint32_t a, uint32_t b, uint32_t n) {
  return uint32_t((uint64_t(b) << 32 | a) >> (n & 31));
}
uint32_t shfRightClamp(uint32_t a, uint32_t b, uint32_t n) {
  return uint32_t((uint64_t(b) << 32 | a) >> (n > 32 ? 32 : n));
}

void runLop3(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  const uint32_t *b = warp.slots<uint32_t>(inst.b);
  const uint32_t *c = warp.slots<uint32_t>(inst.c);
  // One term for each set bit of the table; all ones or zero.
  uint32_t term[8];
  for (unsigned i = 0; i < 8; ++i)
    term[i] = inst.imm >> i & 1 ? ~0u : 0;
  writeLanes<uint32_t>(warp, inst.d, mask, [&](unsigned lane) {
    uint32_t x = a[lane], y = b[lane], z = c[lane];
    return (term[0] & ~x & ~y & ~z) | (term[1] & ~x & ~y & z) |
           (term[2] & ~x & y & ~z) | (term[3] & ~x & y & z) |
           (term[4] & x & ~y & ~z) | (term[5] & x & ~y & z) |
           (term[6] & x & y & ~z) | (term[7] & x & y & z);
  });
}

uint32_t pickByte(uint64_t both, uint32_t selector) {
  uint32_t byte = uint32_t(both >> 8 * (selector & 7)) & 0xff;
  return selector & 8 ? (byte & 0x80 ? 0xff : 0) : byte;
}

uint32_t prmt(uint32_t a, uint32_t b, uint32_t c) {
  uint64_t both = uint64_t(b) << 32 | a;
  uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i)
    result |= pickByte(both, c >> 4 * i & 15) << 8 * i;
  return result;
}

/// The modes f4e, b4e, rc8, ecl, ecr, rc16 as selectors of the general one.
template <unsigned Mode> uint32_t prmtMode(uint32_t a, uint32_t b, uint32_t c) {
  static constexpr uint32_t selectors[6][4] = {
      {0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123},
      {0x0000, 0x1111, 0x2222, 0x3333}, {0x3210, 0x3211, 0x3222, 0x3333},
      {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232}};
  return prmt(a, b, selectors[Mode][c & 3]);
}

uint32_t fns(uint32_t mask, uint32_t base, int32_t offset) {
  if (base > 31)
    return ~0u;
  if (offset == 0)
    return mask >> base & 1 ? base : ~0u;
  int step = offset > 0 ? 1 : -1;
  int count = offset > 0 ? offset : -offset;
  for (int at = int(base); at >= 0 && at < 32; at += step)
    if (mask >> at & 1 && --count == 0)
      return uint32_t(at);
  return ~0u;
}

//===----------------------------------------------------------------------===//
// Decoding
//===----------------------------------------------------------------------===//

template <template <typename> class Op> ExecFn pickBits(Type type) {
  switch (typeBits(type)) {
  case 16:
    return LaneOp<&Op<uint16_t>::run>::run;
  case 32:
    return LaneOp<&Op<uint32_t>::run>::run;
  case 64:
    return LaneOp<&Op<uint64_t>::run>::run;
  default:
    return nullptr;
  }
}

/// Logic of predicates works on 32 lanes at once.
template <char Op> void runPred(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t a = warp.pred(inst.a);
  uint32_t b = inst.b == kNone ? 0 : warp.pred(inst.b);
  writePred(warp, inst.d, mask,
            Op == '&'   ? a & b
            : Op == '|' ? a | b
            : Op == '^' ? a ^ b
                        : ~a);
}

void finish(Decode &d, Type type, ExecFn run, unsigned sources) {
  if (!run || isFloat(type))
    return d.failType(type);
  if (!d.expectOperands(sources + 1))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run = run;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  if (sources > 1)
    d.inst.b = d.source(2, type);
}

template <template <typename> class Op, char Symbol>
void decodeLogic(Decode &d) {
  Type type = d.needType();
  unsigned sources = Symbol == '~' ? 1 : 2;
  if (type != Type::Pred)
    return finish(d, type, pickBits<Op>(type), sources);
  if (!d.expectOperands(sources + 1))
    return;
  d.inst.kind = InstClass::Predicate;
  d.inst.run = runPred<Symbol>;
  d.inst.d = d.predicateDestination(d.operand(0));
  d.inst.a = d.predicateSource(d.operand(1), nullptr);
  if (sources > 1)
    d.inst.b = d.predicateSource(d.operand(2), nullptr);
}

void decodeCNot(Decode &d) {
  Type type = d.needType();
  finish(d, type, pickBits<CNot>(type), 1);
}

void decodeShift(Decode &d) {
  bool left = d.word() == "shl";
  Type type = d.needType();
  ExecFn run = nullptr;
  if (left || !isSigned(type))
    run = left ? pickBits<Shl>(type) : pickBits<Shr>(type);
  else if (typeBits(type) == 16)
    run = LaneOp<&Shr<int16_t>::run>::run;
  else if (typeBits(type) == 32)
    run = LaneOp<&Shr<int32_t>::run>::run;
  else if (typeBits(type) == 64)
    run = LaneOp<&Shr<int64_t>::run>::run;
  if (!run || isFloat(type))
    return d.failType(type);
  if (!d.expectOperands(3))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run = run;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, Type::B32);
}

void decodeShf(Decode &d) {
  int direction = d.takeOneOf({"l", "r"});
  int mode = d.takeOneOf({"wrap", "clamp"});
  Type type = d.needType();
  if (direction < 0 || mode < 0)
    return d.fail("needs a direction and .wrap or .clamp");
  if (type != Type::B32)
    return d.failType(type);
  if (!d.expectOperands(4))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run =
      direction
          ? (mode ? LaneOp<&shfRightClamp>::run : LaneOp<&shfRightWrap>::run)
          : (mode ? LaneOp<&shfLeftClamp>::run : LaneOp<&shfLeftWrap>::run);
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.source(1, Type::B32);
  d.inst.b = d.source(2, Type::B32);
  d.inst.c = d.source(3, Type::B32);
}

/// d is of 32 bits whatever the type.
void decodeCount(Decode &d) {
  std::string_view word = d.word();
  bool shift = word == "bfind" && d.take("shiftamt");
  Type type = d.needType();
  bool wide = typeBits(type) == 64;
  if ((typeBits(type) != 32 && !wide) || isFloat(type))
    return d.failType(type);
  if (!d.expectOperands(2))
    return;
  ExecFn run = nullptr;
  if (word == "popc")
    run = wide ? LaneOp<&popCount<uint64_t>>::run
               : LaneOp<&popCount<uint32_t>>::run;
  else if (word == "clz")
    run = wide ? LaneOp<&clz64>::run : LaneOp<&clz32>::run;
  else if (isSigned(type))
    run = wide ? (shift ? LaneOp<&bfind<int64_t, true>>::run
                        : LaneOp<&bfind<int64_t, false>>::run)
               : (shift ? LaneOp<&bfind<int32_t, true>>::run
                        : LaneOp<&bfind<int32_t, false>>::run);
  else
    run = wide ? (shift ? LaneOp<&bfind<uint64_t, true>>::run
                        : LaneOp<&bfind<uint64_t, false>>::run)
               : (shift ? LaneOp<&bfind<uint32_t, true>>::run
                        : LaneOp<&bfind<uint32_t, false>>::run);
  d.inst.kind = InstClass::Integer;
  d.inst.run = run;
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.source(1, type);
}

void decodeReverse(Decode &d) {
  Type type = d.needType();
  ExecFn run = type == Type::B32   ? LaneOp<&reverse<uint32_t>>::run
               : type == Type::B64 ? LaneOp<&reverse<uint64_t>>::run
                                   : nullptr;
  finish(d, type, run, 1);
}

void decodeBfe(Decode &d) {
  Type type = d.needType();
  switch (type) {
  case Type::U32:
    d.inst.run = LaneOp<&bfe<uint32_t>>::run;
    break;
  case Type::S32:
    d.inst.run = LaneOp<&bfe<int32_t>>::run;
    break;
  case Type::U64:
    d.inst.run = LaneOp<&bfe<uint64_t>>::run;
    break;
  case Type::S64:
    d.inst.run = LaneOp<&bfe<int64_t>>::run;
    break;
  default:
    return d.failType(type);
  }
  if (!d.expectOperands(4))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, Type::B32);
  d.inst.c = d.source(3, Type::B32);
}

void decodeBfi(Decode &d) {
  Type type = d.needType();
  if (type != Type::B32 && type != Type::B64)
    return d.failType(type);
  if (!d.expectOperands(5))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run = type == Type::B32 ? runBfi<uint32_t> : runBfi<uint64_t>;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
  d.inst.c = d.source(3, Type::B32);
  d.inst.e = d.source(4, Type::B32);
}

void decodeLop3(Decode &d) {
  Type type = d.needType();
  if (type != Type::B32)
    return d.failType(type);
  if (!d.expectOperands(5))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run = runLop3;
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
  d.inst.c = d.source(3, type);
  d.inst.imm = int64_t(d.integer(4) & 0xff);
}

void decodePrmt(Decode &d) {
  Type type = d.needType();
  if (type != Type::B32)
    return d.failType(type);
  if (!d.expectOperands(4))
    return;
  switch (d.takeOneOf({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"})) {
  case 0:
    d.inst.run = LaneOp<&prmtMode<0>>::run;
    break;
  case 1:
    d.inst.run = LaneOp<&prmtMode<1>>::run;
    break;
  case 2:
    d.inst.run = LaneOp<&prmtMode<2>>::run;
    break;
  case 3:
    d.inst.run = LaneOp<&prmtMode<3>>::run;
    break;
  case 4:
    d.inst.run = LaneOp<&prmtMode<4>>::run;
    break;
  case 5:
    d.inst.run = LaneOp<&prmtMode<5>>::run;
    break;
  default:
    d.inst.run = LaneOp<&prmt>::run;
  }
  d.inst.kind = InstClass::Integer;
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
  d.inst.c = d.source(3, type);
}

void decodeFns(Decode &d) {
  Type type = d.needType();
  if (type != Type::B32)
    return d.failType(type);
  if (!d.expectOperands(4))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run = LaneOp<&fns>::run;
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.source(1, type);
  d.inst.b = d.source(2, type);
  d.inst.c = d.source(3, type);
}

} // namespace

void emulator::addBitOps(DecodeTable &table) {
  table["and"] = decodeLogic<And, '&'>;
  table["or"] = decodeLogic<Or, '|'>;
  table["xor"] = decodeLogic<Xor, '^'>;
  table["not"] = decodeLogic<Not, '~'>;
  table["cnot"] = decodeCNot;
  table["shl"] = table["shr"] = decodeShift;
  table["shf"] = decodeShf;
  table["popc"] = table["clz"] = table["bfind"] = decodeCount;
  table["brev"] = decodeReverse;
  table["bfe"] = decodeBfe;
  table["bfi"] = decodeBfi;
  table["lop3"] = decodeLop3;
  table["prmt"] = decodePrmt;
  table["fns"] = decodeFns;
}
