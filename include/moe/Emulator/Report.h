//===- Report.h - What a checked run of a kernel found ----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EMULATOR_REPORT_H
#define MOE_EMULATOR_REPORT_H

#include <cstdint>
#include <string>

namespace moe::emulator {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t(x) * y * z; }
};

enum class ReportKind : uint8_t {
  OutOfBounds,
  Misaligned,
  NeverWritten,
  ReadOnly,
  InFlight,
  Race,
  Collective, ///< A shuffle, vote, mma ... that its lanes do not agree on.
  DivergentBarrier,
  Deadlock,
  InstructionLimit,
  Trap,
  Assertion,
  InvalidOperand,
};

/// Such as "out of bounds".
const char *reportKindName(ReportKind kind);

/// Where a thread was: zeros where a report is about a whole block.
struct ThreadId {
  Dim3 block{0, 0, 0};
  Dim3 thread{0, 0, 0};
};

/// One finding: the first of its kind at its line, and how many there were.
struct Report {
  ReportKind kind = ReportKind::OutOfBounds;
  std::string message;
  std::string kernel;
  ThreadId where;
  int line = 0;       ///< Of the PTX text.
  std::string source; ///< "file:line:column" of `.loc`, or empty.
  uint64_t count = 1;
};

/// One line of text.
std::string toString(const Report &report);

} // namespace moe::emulator

#endif // MOE_EMULATOR_REPORT_H
