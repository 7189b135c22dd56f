//===- NearNames.h - What a mistyped name may stand for ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_LAYER_NEARNAMES_H
#define MOE_LIB_LAYER_NEARNAMES_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>

namespace mlir::moe::layer {

/// Up to five of `names` that are spelled much like `text` or hold it, nearest
/// first: "; similar ones: a, b", or nothing.
std::string suggestNames(llvm::StringRef text,
                         llvm::ArrayRef<llvm::StringRef> names);

} // namespace mlir::moe::layer

#endif // MOE_LIB_LAYER_NEARNAMES_H
