//===- MemoryOps.cpp - Loads and stores -----------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MemoryOps.h"
#include "Lanes.h"

using namespace moe;
using namespace moe::emulator;

void emulator::computeAddresses(const Warp &warp, const Inst &inst,
                                uint32_t mask, uint64_t *addresses) {
  if (inst.flag) {
    const uint64_t *base = warp.slots<uint64_t>(inst.a);
    forLanes(mask, [&](unsigned lane) {
      addresses[lane] = base[lane] + uint64_t(inst.imm);
    });
    return;
  }
  const uint32_t *base = warp.slots<uint32_t>(inst.a);
  forLanes(mask, [&](unsigned lane) {
    addresses[lane] = uint32_t(base[lane] + uint32_t(inst.imm));
  });
}

void emulator::countAccess(Warp &warp, Space space, const uint64_t *addresses,
                           uint32_t mask, unsigned bytes, bool store) {
  if (space == Space::Generic)
    switch (addresses[__builtin_ctz(mask)] >> kWindowShift) {
    case 0:
      space = Space::Global;
      break;
    case kSharedWindow >> kWindowShift:
      space = Space::Shared;
      break;
    default:
      return;
    }
  Launch &launch = *warp.block->launch;
  if (space == Space::Global)
    countGlobalAccess(launch, addresses, mask, bytes, store);
  else if (space == Space::Shared)
    countSharedAccess(launch, addresses, mask, bytes);
}

namespace {

enum LoadOption : uint8_t { Plain, Strong, StrongFence };

/// T is the slot of the registers. flag2: signed elements.
template <typename T>
void runLoad(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t addresses[kLanes];
  computeAddresses(warp, inst, mask, addresses);
  const unsigned bytes = inst.bytes, total = bytes * inst.count;
  countAccess(warp, inst.space, addresses, mask, total, false);
  if (inst.option == StrongFence)
    warp.block->fenced = true;
  AccessKind kind = inst.option ? AccessKind::StrongRead : AccessKind::Read;
  const uint32_t *list = &warp.program->lists[inst.list];
  forLanes(mask, [&](unsigned lane) {
    const uint8_t *from = accessMemory(warp, inst, lane, inst.space,
                                       addresses[lane], total, kind);
    for (unsigned i = 0; i < inst.count; ++i) {
      uint64_t value = 0;
      // What a refused access reads is nothing in particular.
      if (from)
        std::memcpy(&value, from + i * bytes, bytes);
      if (inst.flag2) {
        unsigned shift = 64 - 8 * bytes;
        value = uint64_t(int64_t(value << shift) >> shift);
        if (inst.option2)
          value &= 0xffff;
      }
      warp.slots<T>(list[i])[lane] = T(value);
    }
  });
}

/// Of a kernel's parameters at a constant address: one access for all lanes.
template <typename T>
void runLoadParam(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t addresses[kLanes];
  computeAddresses(warp, inst, mask, addresses);
  unsigned first = unsigned(__builtin_ctz(mask)), bytes = inst.bytes;
  const uint8_t *from =
      accessMemory(warp, inst, first, inst.space, addresses[first],
                   bytes * inst.count, AccessKind::Read);
  const uint32_t *list = &warp.program->lists[inst.list];
  for (unsigned i = 0; i < inst.count; ++i) {
    uint64_t value = 0;
    if (from)
      std::memcpy(&value, from + i * bytes, bytes);
    if (inst.flag2) {
      unsigned shift = 64 - 8 * bytes;
      value = uint64_t(int64_t(value << shift) >> shift);
      if (inst.option2)
        value &= 0xffff;
    }
    T *to = warp.slots<T>(list[i]);
    forLanes(mask, [&](unsigned lane) { to[lane] = T(value); });
  }
}

template <typename T>
void runStore(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t addresses[kLanes];
  computeAddresses(warp, inst, mask, addresses);
  const unsigned bytes = inst.bytes, total = bytes * inst.count;
  countAccess(warp, inst.space, addresses, mask, total, true);
  if (inst.option == StrongFence)
    warp.block->fenced = true;
  AccessKind kind = inst.option ? AccessKind::StrongWrite : AccessKind::Write;
  const uint32_t *list = &warp.program->lists[inst.list];
  forLanes(mask, [&](unsigned lane) {
    uint8_t data[32];
    for (unsigned i = 0; i < inst.count; ++i) {
      T value = warp.slots<T>(list[i])[lane];
      std::memcpy(data + i * bytes, &value, bytes);
    }
    if (uint8_t *to = accessMemory(warp, inst, lane, inst.space,
                                   addresses[lane], total, kind, data))
      std::memcpy(to, data, total);
  });
}

//===----------------------------------------------------------------------===//
// Decoding
//===----------------------------------------------------------------------===//

InstClass classOf(Space space, bool store) {
  switch (space) {
  case Space::Shared:
    return store ? InstClass::StoreShared : InstClass::LoadShared;
  case Space::Local:
    return store ? InstClass::StoreLocal : InstClass::LoadLocal;
  case Space::Param:
    return InstClass::LoadParam;
  default:
    return store ? InstClass::StoreGlobal : InstClass::LoadGlobal;
  }
}

void takeAccess(Decode &d, size_t addressIndex, Type &type, unsigned &count) {
  Semantics semantics = takeSemantics(d);
  Space space = takeMemorySpace(d);
  if (takeCacheHints(d))
    d.expectOperands(3);
  else
    d.expectOperands(2);
  int vector = d.takeOneOf({"v2", "v4", "v8"});
  count = vector < 0 ? 1 : 2u << vector;
  type = d.needType();
  d.inst.option = semantics.fence    ? StrongFence
                  : semantics.strong ? Strong
                                     : Plain;
  if (!d.error.empty())
    return;
  if (type == Type::Pred || typeBits(type) > 64)
    return d.failType(type);
  d.inst.bytes = uint8_t(typeBytes(type));
  d.inst.count = uint8_t(count);
  if (d.inst.bytes * count > 32)
    return d.fail("moves more than 32 bytes");
  d.address(addressIndex, space);
}

void decodeLoad(Decode &d) {
  Type type = Type::None;
  unsigned count = 1;
  takeAccess(d, 1, type, count);
  if (!d.error.empty())
    return;
  d.inst.kind = classOf(d.inst.space, false);
  std::vector<uint32_t> list;
  unsigned slot = 0;
  const Operand &to = d.operand(0);
  const std::vector<Operand> &targets =
      to.kind == Operand::Vector ? to.elements : std::vector<Operand>{to};
  if (targets.size() != count)
    return d.fail("loads " + std::to_string(count) + " elements into " +
                  std::to_string(targets.size()) + " registers");
  bool narrow = false;
  for (const Operand &target : targets) {
    unsigned here = 0;
    list.push_back(d.wideDestination(target, typeBits(type), here));
    if (slot && here != slot && target.text != "_")
      return d.fail("loads into registers of several sizes");
    if (target.text != "_" || targets.size() == 1 || !slot)
      slot = std::max(slot, here);
    narrow |= d.narrowRegister(target);
  }
  d.setList(list);
  d.inst.flag2 = isSigned(type);
  d.inst.option2 = narrow;
  bool uniform = d.inst.space == Space::Param && (d.inst.a & kConstant);
  if (uniform)
    d.inst.run = slot == 8 ? runLoadParam<uint64_t> : runLoadParam<uint32_t>;
  else
    d.inst.run = slot == 8 ? runLoad<uint64_t> : runLoad<uint32_t>;
}

void decodeStore(Decode &d) {
  Type type = Type::None;
  unsigned count = 1;
  takeAccess(d, 0, type, count);
  if (!d.error.empty())
    return;
  d.inst.kind = classOf(d.inst.space, true);
  const Operand &from = d.operand(1);
  const std::vector<Operand> &sources =
      from.kind == Operand::Vector ? from.elements : std::vector<Operand>{from};
  if (sources.size() != count)
    return d.fail("stores " + std::to_string(count) + " elements from " +
                  std::to_string(sources.size()) + " registers");
  std::vector<uint32_t> list;
  unsigned slot = 0;
  for (const Operand &source : sources) {
    unsigned here = 0;
    list.push_back(d.wideSource(source, type, here));
    if (slot && here != slot)
      return d.fail("stores registers of several sizes");
    slot = here;
  }
  d.setList(list);
  d.inst.run = slot == 8 ? runStore<uint64_t> : runStore<uint32_t>;
}

void runNothing(Warp &, const Inst &, uint32_t) {}

void decodePrefetch(Decode &d) {
  takeMemorySpace(d);
  d.takeOneOf({"L1", "L2", "L2::evict_last", "L2::evict_normal", "tensormap"});
  d.expectOperands(1);
  d.inst.kind = InstClass::Other;
  d.inst.run = runNothing;
}

void runPolicy(Warp &warp, const Inst &inst, uint32_t mask) {
  writeLanes<uint64_t>(warp, inst.d, mask,
                       [](unsigned) { return uint64_t(0); });
}

void decodePolicy(Decode &d) {
  while (!d.takePrefix("L2::").empty())
    ;
  d.takeOneOf({"fractional", "range"});
  d.take("global");
  if (d.needType() != Type::B64 || !d.expectOperands(1, 4))
    return;
  d.inst.kind = InstClass::Other;
  d.inst.run = runPolicy;
  d.inst.d = d.destination(size_t(0), 64);
}

} // namespace

Space emulator::takeMemorySpace(Decode &d) {
  // Of a cluster with one block, the shared memory is the block's.
  if (d.take("shared::cluster"))
    return Space::Shared;
  switch (d.takeOneOf({"global", "shared", "shared::cta", "const", "local",
                       "param", "param::entry", "param::func"})) {
  case 0:
    return Space::Global;
  case 1:
  case 2:
    return Space::Shared;
  case 3:
    return Space::Const;
  case 4:
    return Space::Local;
  case 5:
  case 6:
  case 7:
    return Space::Param;
  default:
    return Space::Generic;
  }
}

Semantics emulator::takeSemantics(Decode &d) {
  Semantics result;
  d.take("weak");
  if (d.take("volatile") || d.take("relaxed"))
    result.strong = true;
  if (d.take("acquire") || d.take("release") || d.take("acq_rel") ||
      d.take("sc"))
    result.strong = result.fence = true;
  d.take("mmio");
  d.takeOneOf({"cta", "cluster", "gpu", "sys"});
  return result;
}

bool emulator::takeCacheHints(Decode &d) {
  d.take("nc");
  d.takeOneOf({"ca", "cg", "cs", "lu", "cv", "wb", "wt"});
  while (!d.takePrefix("L1::").empty())
    ;
  bool policy = d.take("L2::cache_hint");
  while (!d.takePrefix("L2::").empty())
    ;
  return policy;
}

void emulator::addMemoryOps(DecodeTable &table) {
  table["ld"] = table["ldu"] = decodeLoad;
  table["st"] = decodeStore;
  table["prefetch"] = table["prefetchu"] = decodePrefetch;
  table["createpolicy"] = decodePolicy;
}
