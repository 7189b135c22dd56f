//===- Mutations.h - Faults that can be put into a kernel -------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_FAULTS_MUTATIONS_H
#define MOE_TEST_FAULTS_MUTATIONS_H

#include "Image.h"

#include <cstdint>

namespace moe::faults {

enum class FaultKind : uint8_t {
  Barrier,   ///< A barrier deleted.
  Wait,      ///< A wait or commit of `cp.async` deleted, or weakened by one.
  Branch,    ///< A guarded branch never taken, or always.
  Bound,     ///< A comparison or minimum that guards, off by one.
  Predicate, ///< An instruction without its guard.
  CopySize,  ///< `cp.async` of all bytes in place of none.
  Alignment, ///< A variable with less alignment than it asks for.
  Address,   ///< An address 2 or 16 bytes further.
};
inline constexpr unsigned kNumFaultKinds = unsigned(FaultKind::Address) + 1;

/// Such as "barrier".
const char *faultKindName(FaultKind kind);

/// A reason why a fault need not be noticed, and how to prove it.
struct Excuse {
  /// In place of the faulty line: no report and the same numbers are the proof.
  std::string text;
  std::string reason;
  bool changesNothing = false; ///< Then there is no fault in this run.
};

/// One fault: another text for one line.
struct Fault {
  FaultKind kind = FaultKind::Barrier;
  std::string what;            ///< Such as "deleted" or "+16 bytes".
  size_t line = 0;             ///< Of the image, from 0.
  std::string text;            ///< In place of that line.
  std::vector<Excuse> excuses; ///< The first that holds counts.
};

/// All faults of a kernel, in the order of its lines.
std::vector<Fault> findFaults(const Image &image, const KernelLines &kernel);

} // namespace moe::faults

#endif // MOE_TEST_FAULTS_MUTATIONS_H
