//===- SizeText.h - Sizes of the IR as formulas -----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EXECUTIONENGINE_SIZETEXT_H
#define MOE_LIB_EXECUTIONENGINE_SIZETEXT_H

#include "mlir/IR/Value.h"
#include <string>

namespace mlir::moe {

/// An index as a formula of the sizes of an entry's arguments, such as
/// "max(1, ceil(T / 128))"; what is none is "?".
std::string getSizeText(Value value);

} // namespace mlir::moe

#endif // MOE_LIB_EXECUTIONENGINE_SIZETEXT_H
