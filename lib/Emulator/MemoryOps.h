//===- MemoryOps.h - Operands of loads and stores ---------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_MEMORYOPS_H
#define MOE_LIB_EMULATOR_MEMORYOPS_H

#include "Decoder.h"
#include "Warp.h"

namespace moe::emulator {

/// Addresses of the lanes of `mask` from inst.a, inst.imm and inst.flag.
void computeAddresses(const Warp &warp, const Inst &inst, uint32_t mask,
                      uint64_t *addresses);

/// Counts the access by the space of its first lane.
void countAccess(Warp &warp, Space space, const uint64_t *addresses,
                 uint32_t mask, unsigned bytes, bool store);

/// `.global`, `.shared::cta` ...; generic where there is none.
Space takeMemorySpace(Decode &decode);

/// `.relaxed.gpu` and the like; tells whether any makes an access strong, and
/// whether it is a fence.
struct Semantics {
  bool strong = false, fence = false;
};
Semantics takeSemantics(Decode &decode);

/// Modifiers that say how to cache: accepted, and mean nothing here. True
/// where an operand with a policy follows.
bool takeCacheHints(Decode &decode);

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_MEMORYOPS_H
