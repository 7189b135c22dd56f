//===- ResolveSizes.h - Sizes of results from sizes of operands -*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_RESOLVESIZES_H
#define MOE_DIALECT_MOE_TRANSFORMS_RESOLVESIZES_H

#include "mlir/Interfaces/FunctionInterfaces.h"

namespace mlir::moe {

/// Replaces every tensor.dim that loops, branches, destinations or the rules of
/// this dialect's ops decide by the sizes that they decide it from, as far as
/// possible sizes of the function's arguments.
void resolveSizes(FunctionOpInterface function);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_RESOLVESIZES_H
