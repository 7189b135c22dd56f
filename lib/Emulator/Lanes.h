//===- Lanes.h - The same function for every lane ---------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_LANES_H
#define MOE_LIB_EMULATOR_LANES_H

#include "Warp.h"
#include <cstring>
#include <type_traits>

namespace moe::emulator {

/// A 16-bit float, by its bits.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
/// Two in one register; `lo` in its low half.
template <typename T> struct Pair {
  T lo, hi;
};
using Half2 = Pair<Half>;
using BFloat2 = Pair<BFloat>;

/// What a lane of a register is kept in: narrow values are zero-extended.
template <typename T>
using Slot = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <typename T> inline T fromSlot(Slot<T> slot) {
  T value;
  std::memcpy(&value, &slot, sizeof value);
  return value;
}
template <typename T> inline Slot<T> toSlot(T value) {
  Slot<T> slot = 0;
  std::memcpy(&slot, &value, sizeof value);
  return slot;
}

/// Writes f(lane) for the lanes of `mask`. With all of them it goes through a
/// temporary, which lets the compiler vectorise without asking what overlaps.
template <typename D, typename F>
inline void writeLanes(const Warp &warp, uint32_t d, uint32_t mask, F f) {
  Slot<D> *to = warp.slots<Slot<D>>(d);
  if (mask == kAllLanes) {
    Slot<D> values[kLanes];
    for (unsigned lane = 0; lane < kLanes; ++lane)
      values[lane] = toSlot<D>(f(lane));
    std::memcpy(to, values, sizeof values);
    return;
  }
  forLanes(mask, [&](unsigned lane) { to[lane] = toSlot<D>(f(lane)); });
}

/// LaneOp<F>::run executes d = F(a, ...) for a function F of one to three
/// values; the operands' types are those of F.
template <auto F> struct LaneOp;

template <typename D, typename A, D (*F)(A)> struct LaneOp<F> {
  static void run(Warp &warp, const Inst &inst, uint32_t mask) {
    const Slot<A> *a = warp.slots<Slot<A>>(inst.a);
    writeLanes<D>(warp, inst.d, mask,
                  [&](unsigned lane) { return F(fromSlot<A>(a[lane])); });
  }
};
template <typename D, typename A, typename B, D (*F)(A, B)> struct LaneOp<F> {
  static void run(Warp &warp, const Inst &inst, uint32_t mask) {
    const Slot<A> *a = warp.slots<Slot<A>>(inst.a);
    const Slot<B> *b = warp.slots<Slot<B>>(inst.b);
    writeLanes<D>(warp, inst.d, mask, [&](unsigned lane) {
      return F(fromSlot<A>(a[lane]), fromSlot<B>(b[lane]));
    });
  }
};
template <typename D, typename A, typename B, typename C, D (*F)(A, B, C)>
struct LaneOp<F> {
  static void run(Warp &warp, const Inst &inst, uint32_t mask) {
    const Slot<A> *a = warp.slots<Slot<A>>(inst.a);
    const Slot<B> *b = warp.slots<Slot<B>>(inst.b);
    const Slot<C> *c = warp.slots<Slot<C>>(inst.c);
    writeLanes<D>(warp, inst.d, mask, [&](unsigned lane) {
      return F(fromSlot<A>(a[lane]), fromSlot<B>(b[lane]),
               fromSlot<C>(c[lane]));
    });
  }
};

/// Writes bits of lanes into a predicate.
inline void writePred(const Warp &warp, uint32_t d, uint32_t mask,
                      uint32_t bits) {
  if (d == kNone)
    return;
  uint32_t &to = warp.pred(d);
  to = (to & ~mask) | (bits & mask);
}

/// How setp and set join a comparison with a predicate.
enum Combine : uint8_t { CombineNone, CombineAnd, CombineOr, CombineXor };

inline uint32_t combine(const Warp &warp, const Inst &inst, uint32_t bits) {
  if (inst.option == CombineNone)
    return bits;
  uint32_t other = warp.pred(inst.c);
  if (inst.flag2)
    other = ~other;
  return inst.option == CombineAnd  ? bits & other
         : inst.option == CombineOr ? bits | other
                                    : bits ^ other;
}

/// PredOp<F>::run executes setp with the comparison F.
template <auto F> struct PredOp;
template <typename A, bool (*F)(A, A)> struct PredOp<F> {
  static uint32_t compare(const Warp &warp, const Inst &inst) {
    const Slot<A> *a = warp.slots<Slot<A>>(inst.a);
    const Slot<A> *b = warp.slots<Slot<A>>(inst.b);
    uint32_t bits = 0;
    for (unsigned lane = 0; lane < kLanes; ++lane)
      bits |= uint32_t(F(fromSlot<A>(a[lane]), fromSlot<A>(b[lane]))) << lane;
    return bits;
  }
  static void run(Warp &warp, const Inst &inst, uint32_t mask) {
    uint32_t bits = compare(warp, inst);
    // Both before either is written: the third operand may be one of them.
    uint32_t yes = combine(warp, inst, bits);
    uint32_t no = combine(warp, inst, ~bits);
    writePred(warp, inst.d, mask, yes);
    writePred(warp, inst.d2, mask, no);
  }
  /// `set`: all ones or 1.0 where true, as `imm` says.
  static void runSet(Warp &warp, const Inst &inst, uint32_t mask) {
    uint32_t bits = combine(warp, inst, compare(warp, inst));
    uint32_t one = uint32_t(inst.imm);
    writeLanes<uint32_t>(warp, inst.d, mask, [&](unsigned lane) {
      return bits >> lane & 1 ? one : 0u;
    });
  }
};

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_LANES_H
