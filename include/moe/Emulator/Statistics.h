//===- Statistics.h - Counts of an executed kernel --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EMULATOR_STATISTICS_H
#define MOE_EMULATOR_STATISTICS_H

#include <array>
#include <cstdint>
#include <map>
#include <string>

namespace moe::emulator {

enum class InstClass : uint8_t {
  Integer,
  Float,
  Convert,
  Move,
  Predicate,
  Control,
  Barrier,
  Shuffle,
  LoadGlobal,
  StoreGlobal,
  LoadShared,
  StoreShared,
  LoadLocal,
  StoreLocal,
  LoadParam,
  Atomic,
  AsyncCopy,
  Matrix,
  LoadMatrix,
  Other,
};
inline constexpr unsigned kNumInstClasses = unsigned(InstClass::Other) + 1;

/// Such as "load global".
const char *instClassName(InstClass kind);

/// What the emulated instructions of a launch add up to. Counts only: nothing
/// here is a time.
struct Statistics {
  uint64_t warpInstructions = 0;
  uint64_t threadInstructions = 0;
  std::array<uint64_t, kNumInstClasses> byClass{}; ///< Warp instructions.
  /// Warp instructions that ran with some living lanes of their warp elsewhere.
  uint64_t divergentInstructions = 0;
  uint64_t branches = 0, divergentBranches = 0;
  std::map<std::string, uint64_t> matrix; ///< mma by shape and types.
  /// Sectors of 32 bytes: those touched, and as few as hold the bytes used.
  uint64_t loadSectors = 0, loadSectorsIdeal = 0, loadBytes = 0;
  uint64_t storeSectors = 0, storeSectorsIdeal = 0, storeBytes = 0;
  /// Passes over the 32 banks, and as few as hold the words used.
  uint64_t sharedPasses = 0, sharedPassesIdeal = 0;
  uint64_t barriers = 0; ///< Barriers of blocks that were passed.
  uint64_t asyncCopyBytes = 0;
  uint64_t atomics = 0; ///< Of threads.
  uint64_t blocks = 0, warps = 0;

  void add(const Statistics &other);
};

/// A table for people.
std::string toText(const Statistics &statistics);
/// One JSON object.
std::string toJson(const Statistics &statistics);

} // namespace moe::emulator

#endif // MOE_EMULATOR_STATISTICS_H
