//===- CheckGradients.h - A backward against differences --------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Compares a compiled backward with central differences of the naive forward,
// in f64: for every gradient d_X the derivative along a random direction v of X
// of L = <results, random cotangents> is <d_X, v>, and is
// (L(X + h v) - L(X - h v)) / 2h up to h^2. The choice of experts has to be the
// same at both ends, which is checked; h shrinks until it is, and, where the
// two differ, to come off a kink such as a clamp's.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_CHECKGRADIENTS_H
#define MOE_RUN_CHECKGRADIENTS_H

#include "moe/Run/Options.h"
#include "moe/Runtime/moe_rt.h"

#include <iosfwd>
#include <set>
#include <string>

namespace moe::run {

/// The entries of one layer with f64 for every floating-point type.
struct GradientEntries {
  moe_entry layer;   ///< By the naive road.
  moe_entry forward; ///< As moe-generate-vjp makes them.
  moe_entry backward;
  /// Arguments whose gradient goes through a router's surrogate, which is no
  /// derivative.
  std::set<std::string> surrogates;
};

/// Binds the arguments of the layer as it is written (`info`), compares every
/// gradient, and prints a line for each, or one JSON object. Returns the exit
/// code: 1 where one differs by more than 1e-5 of its size.
int checkGradients(const Options &options, const moe_entry_info &info,
                   const GradientEntries &entries, moe_context *context,
                   std::ostream &out, std::ostream &err);

} // namespace moe::run

#endif // MOE_RUN_CHECKGRADIENTS_H
