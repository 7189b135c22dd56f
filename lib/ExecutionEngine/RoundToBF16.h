//===- RoundToBF16.h - f32 to bf16 without a library ------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EXECUTIONENGINE_ROUNDTOBF16_H
#define MOE_LIB_EXECUTIONENGINE_ROUNDTOBF16_H

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm

namespace mlir::moe {

/// Where the processor cannot round to bf16, LLVM calls the compiler's runtime
/// library, one element at a time, which a layer does without: the rounding
/// becomes arithmetic on the bits; f64 becomes an f32 first, without rounding
/// twice, on every processor.
void expandRoundingToBF16(llvm::Module &module,
                          const llvm::TargetMachine &machine);

} // namespace mlir::moe

#endif // MOE_LIB_EXECUTIONENGINE_ROUNDTOBF16_H
