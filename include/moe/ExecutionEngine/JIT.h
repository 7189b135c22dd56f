//===- JIT.h - Compiled entries in this process -----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EXECUTIONENGINE_JIT_H
#define MOE_EXECUTIONENGINE_JIT_H

#include "mlir/Support/LLVM.h"
#include "moe/Runtime/moe_rt.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"
#include <memory>

namespace llvm::orc {
class LLJIT;
} // namespace llvm::orc

namespace mlir::moe {

/// An object of compileToObject, loaded into this process.
class JITModule {
public:
  static llvm::Expected<std::unique_ptr<JITModule>>
  create(std::unique_ptr<llvm::MemoryBuffer> object);
  ~JITModule();

  /// The functions of one entry; they live as long as the module.
  llvm::Expected<moe_entry> getEntry(StringRef name);

private:
  explicit JITModule(std::unique_ptr<llvm::orc::LLJIT> jit);
  std::unique_ptr<llvm::orc::LLJIT> jit;
};

} // namespace mlir::moe

#endif // MOE_EXECUTIONENGINE_JIT_H
