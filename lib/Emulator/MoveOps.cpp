//===- MoveOps.cpp - Moves, packing and addresses of spaces ---------------===//
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

template <typename T>
void runMove(Warp &warp, const Inst &inst, uint32_t mask) {
  const T *a = warp.slots<T>(inst.a);
  T *d = warp.slots<T>(inst.d);
  if (mask == kAllLanes)
    std::memmove(d, a, kLanes * sizeof(T));
  else
    forLanes(mask, [&](unsigned lane) { d[lane] = a[lane]; });
}

void runMovePred(Warp &warp, const Inst &inst, uint32_t mask) {
  writePred(warp, inst.d, mask, warp.pred(inst.a));
}

/// d = {a, b, ...}: elements of `bytes` each.
template <typename T>
void runPack(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint32_t *list = &warp.program->lists[inst.list];
  T values[kLanes] = {};
  for (unsigned i = 0; i < inst.listSize; ++i) {
    const uint32_t *a = warp.slots<uint32_t>(list[i]);
    T keep = inst.bytes == 4 ? T(0xffffffffu) : T((1u << 8 * inst.bytes) - 1);
    for (unsigned lane = 0; lane < kLanes; ++lane)
      values[lane] |= T(T(a[lane]) & keep) << (8 * inst.bytes * i);
  }
  T *d = warp.slots<T>(inst.d);
  forLanes(mask, [&](unsigned lane) { d[lane] = values[lane]; });
}

/// {a, b, ...} = d
template <typename T>
void runUnpack(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint32_t *list = &warp.program->lists[inst.list];
  T values[kLanes];
  std::memcpy(values, warp.at(inst.a), sizeof values);
  for (unsigned i = 0; i < inst.listSize; ++i) {
    uint32_t *d = warp.slots<uint32_t>(list[i]);
    T keep = inst.bytes == 4 ? T(0xffffffffu) : T((1u << 8 * inst.bytes) - 1);
    forLanes(mask, [&](unsigned lane) {
      d[lane] = uint32_t(values[lane] >> (8 * inst.bytes * i) & keep);
    });
  }
}

/// Instructions so far: it goes forward, that is all.
template <typename T>
void runClock(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t now = warp.block->launch->stats.warpInstructions;
  writeLanes<T>(warp, inst.d, mask,
                [&](unsigned) { return T(inst.option ? now >> 32 : now); });
}

bool decodeClock(Decode &d, Type type) {
  std::string_view name = d.operand(1).text;
  if (d.operand(1).kind != Operand::Name || name.substr(0, 1) != "%")
    return false;
  bool wide = name == "%clock64" || name == "%globaltimer";
  bool high = name == "%clock_hi" || name == "%globaltimer_hi";
  if (wide || high || name == "%clock" || name == "%globaltimer_lo") {
    d.inst.run = wide ? runClock<uint64_t> : runClock<uint32_t>;
    d.inst.option = high;
    d.inst.d = d.destination(size_t(0), wide ? 64 : 32);
    return true;
  }
  // What a grid on one multiprocessor without clusters would see.
  uint64_t value = 0;
  if (name == "%nsmid" || name == "%cluster_nctaid.x" ||
      name == "%cluster_nctaid.y" || name == "%cluster_nctaid.z" ||
      name == "%cluster_nctarank")
    value = 1;
  else if (name != "%smid" && name != "%cluster_ctaid.x" &&
           name != "%cluster_ctaid.y" && name != "%cluster_ctaid.z" &&
           name != "%cluster_ctarank")
    return false;
  d.inst.run = runMove<uint32_t>;
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.constant(value, 32);
  return typeBits(type) == 32;
}

void decodeVector(Decode &d, Type type, bool pack) {
  const Operand &vector = d.operand(pack ? 1 : 0);
  size_t count = vector.elements.size();
  unsigned bits = typeBits(type);
  if ((count != 2 && count != 4 && count != 8) || bits / count < 8 ||
      bits / count > 32)
    return d.fail("has a vector of " + std::to_string(count) +
                  " elements for " + std::to_string(bits) + " bits");
  unsigned each = bits / unsigned(count);
  Type element = each == 8 ? Type::B8 : each == 16 ? Type::B16 : Type::B32;
  std::vector<uint32_t> list;
  for (const Operand &operand : vector.elements)
    list.push_back(pack ? d.source(operand, element)
                        : d.destination(operand, each));
  d.setList(list);
  d.inst.bytes = uint8_t(each / 8);
  bool wide = bits == 64;
  if (pack) {
    d.inst.run = wide ? runPack<uint64_t> : runPack<uint32_t>;
    d.inst.d = d.destination(size_t(0), bits);
  } else {
    d.inst.run = wide ? runUnpack<uint64_t> : runUnpack<uint32_t>;
    d.inst.a = d.source(1, type);
  }
}

void decodeMov(Decode &d) {
  Type type = d.needType();
  if (!d.expectOperands(2))
    return;
  d.inst.kind = InstClass::Move;
  if (type == Type::Pred) {
    d.inst.run = runMovePred;
    d.inst.d = d.predicateDestination(d.operand(0));
    d.inst.a = d.predicateSource(d.operand(1), nullptr);
    return;
  }
  if (d.operand(0).kind == Operand::Vector)
    return decodeVector(d, type, false);
  if (d.operand(1).kind == Operand::Vector)
    return decodeVector(d, type, true);
  if (decodeClock(d, type))
    return;
  d.inst.run = typeBits(type) > 32 ? runMove<uint64_t> : runMove<uint32_t>;
  d.inst.d = d.destination(size_t(0), typeBits(type));
  d.inst.a = d.source(1, type);
}

//===----------------------------------------------------------------------===//
// Spaces
//===----------------------------------------------------------------------===//

uint64_t windowOf(Space space) {
  switch (space) {
  case Space::Shared:
    return kSharedWindow;
  case Space::Local:
    return kLocalWindow;
  case Space::Param:
    return kParamWindow;
  default:
    return 0;
  }
}

std::optional<Space> takeSpace(Decode &d) {
  // Of a cluster with one block, the shared memory is the block's.
  if (d.take("shared::cluster"))
    return Space::Shared;
  switch (d.takeOneOf({"global", "shared", "shared::cta", "local", "param",
                       "param::entry", "param::func", "const"})) {
  case 0:
    return Space::Global;
  case 1:
  case 2:
    return Space::Shared;
  case 3:
    return Space::Local;
  case 4:
  case 5:
    return Space::Param;
  case 6:
    return Space::Local;
  case 7:
    return Space::Const;
  default:
    return std::nullopt;
  }
}

template <typename T>
void runCvta(Warp &warp, const Inst &inst, uint32_t mask) {
  const T *a = warp.slots<T>(inst.a);
  uint64_t window = uint64_t(inst.imm);
  // To a space: its part of the address, or what shows that it is another's.
  if (inst.flag)
    writeLanes<T>(warp, inst.d, mask,
                  [&](unsigned lane) { return T(a[lane] ^ T(window)); });
  else
    writeLanes<T>(warp, inst.d, mask,
                  [&](unsigned lane) { return T(a[lane] + T(window)); });
}

void decodeCvta(Decode &d) {
  bool to = d.take("to");
  std::optional<Space> space = takeSpace(d);
  Type type = d.needType();
  if (!space)
    return d.fail("names no space");
  if (type != Type::U64)
    return d.failType(type);
  if (!d.expectOperands(2))
    return;
  d.inst.kind = InstClass::Integer;
  d.inst.run = runCvta<uint64_t>;
  d.inst.flag = to;
  d.inst.imm = int64_t(windowOf(*space));
  d.inst.d = d.destination(size_t(0), 64);
  d.inst.a = d.source(1, type);
}

void runIsSpace(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint64_t *a = warp.slots<uint64_t>(inst.a);
  uint32_t bits = 0;
  forLanes(mask, [&](unsigned lane) {
    bits |=
        uint32_t(a[lane] >> kWindowShift == uint64_t(inst.imm) >> kWindowShift)
        << lane;
  });
  writePred(warp, inst.d, mask, bits);
}

void decodeIsSpace(Decode &d) {
  std::optional<Space> space = takeSpace(d);
  if (!space)
    return d.fail("names no space");
  if (*space == Space::Const)
    return d.fail("is not supported for .const");
  if (!d.expectOperands(2))
    return;
  d.inst.kind = InstClass::Predicate;
  d.inst.run = runIsSpace;
  d.inst.imm = int64_t(windowOf(*space));
  d.inst.d = d.predicateDestination(d.operand(0));
  d.inst.a = d.source(1, Type::U64);
}

} // namespace

void emulator::addMoveOps(DecodeTable &table) {
  table["mov"] = decodeMov;
  table["cvta"] = decodeCvta;
  table["isspacep"] = decodeIsSpace;
}
