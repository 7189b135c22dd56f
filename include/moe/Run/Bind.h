//===- Bind.h - Arguments of a call from the command line -------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_BIND_H
#define MOE_RUN_BIND_H

#include "moe/IO/Tensor.h"
#include "moe/IO/TensorPath.h"
#include "moe/Run/Options.h"
#include "moe/Runtime/moe_rt.h"

#include <string>
#include <vector>

namespace moe::run {

/// Everything a call needs, and where its results go.
struct BoundCall {
  std::vector<io::Tensor> inputs; ///< In the entry's order and shapes.
  std::vector<io::Tensor> outputs;
  /// The shapes in which results are written: where an argument [T, ...] was
  /// given as [B, S, ...], results [T, ...] go back to [B, S, ...].
  std::vector<io::Shape> resultShapes;
  struct Destination {
    uint32_t output;
    io::TensorPath path;
  };
  std::vector<Destination> destinations;
  std::vector<std::string> notes; ///< Conversions the user should know of.
};

/// Checks everything that can be known before the call, reads and generates
/// the arguments, allocates the results.
io::Expected<BoundCall> bind(const Options &options,
                             const moe_entry_info &info);

/// Writes the results with a destination, all of them or none. Each line of
/// what it returns is a note.
io::Expected<std::vector<std::string>> writeResults(const BoundCall &call,
                                                    const moe_entry_info &info);

/// A field of the description as text; it need not end in NUL.
template <size_t N> std::string fieldText(const char (&field)[N]) {
  std::string text(field, N);
  return text.substr(0, text.find('\0'));
}

} // namespace moe::run

#endif // MOE_RUN_BIND_H
