//===- Roofline.h - What counts allow a device at best ----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A model, not a measurement: each unit of a device needs the time that its
// own work takes at its published peak, and the slowest one is the bound. See
// docs/Emulator.md for what the model leaves out.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EMULATOR_ROOFLINE_H
#define MOE_EMULATOR_ROOFLINE_H

#include "moe/Emulator/Statistics.h"

#include <array>
#include <string>

namespace moe::emulator {

/// Published peaks of a device.
struct DevicePeaks {
  const char *name;
  unsigned multiprocessors;
  double clock;       ///< Of multiprocessors, per second.
  double memoryBytes; ///< Per second.
  /// Operations per second of mma, a multiplication and an addition being two,
  /// by the bits of an element: 8, 16 and 32 (tf32).
  double matrix8, matrix16, matrix32;
};

/// Those with a bound.
const std::array<DevicePeaks, 2> &knownDevices();

enum class Limit : uint8_t { Memory, TensorCores, SharedMemory, IssueSlots };
inline constexpr unsigned kNumLimits = unsigned(Limit::IssueSlots) + 1;

/// Such as "tensor cores".
const char *limitName(Limit limit);

struct Roofline {
  std::array<double, kNumLimits> microseconds{}; ///< Of each unit alone.
  Limit limit = Limit::Memory; ///< The slowest, the first of equals.

  double bound() const { return microseconds[unsigned(limit)]; }
};

Roofline computeRoofline(const Statistics &statistics,
                         const DevicePeaks &device);

/// One JSON object: the bound of each known device.
std::string toRooflineJson(const Statistics &statistics);

} // namespace moe::emulator

#endif // MOE_EMULATOR_ROOFLINE_H
