//===- Run.h - moe-run without its compiler ---------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the tool moe-run does once it has an entry, whether that was compiled a
// moment ago or loaded from a library.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_RUN_H
#define MOE_RUN_RUN_H

#include "moe/Run/Benchmark.h"
#include "moe/Run/Options.h"
#include "moe/Runtime/moe_rt.h"

#include <iosfwd>

namespace moe::run {

/// Binds the arguments, calls the entry, measures where asked, writes the
/// results. The report goes to `out` (with --json one object, and nothing
/// where there is an error), notes and the one error message to `err`.
/// Returns the exit code, 0 or 1. `cost` may be empty.
int runEntry(const Options &options, const moe_entry &entry,
             moe_context *context, const CostFn &cost, std::ostream &out,
             std::ostream &err);

} // namespace moe::run

#endif // MOE_RUN_RUN_H
