//===- GPUPlan.h - What a compiled module runs on a GPU ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Read off the IR, of no call in particular: sizes that a call decides are
// expressions of its symbols, and what kernels execute is not in it.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EXECUTIONENGINE_GPUPLAN_H
#define MOE_EXECUTIONENGINE_GPUPLAN_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"
#include <map>
#include <string>
#include <vector>

namespace mlir::moe {

struct GPUPlan {
  struct Kernel {
    std::string name;
    /// The ops of the source that it computes, or empty where their places are
    /// unknown.
    std::string ops;
    std::string location; ///< "layer.mlir:6:15", or empty.
    int64_t sharedBytes = 0;
    int64_t privateBytes = 0; ///< Arrays of a thread.
    /// Instructions in the code, not executed ones: mma by shape and type.
    std::map<std::string, int64_t> products;
    int64_t asyncCopies = 0, shuffles = 0, barriers = 0;
    /// Buffers that asynchronous copies fill, as "4 x (64x32 + 64x32) bf16" is
    /// four stages of two tiles.
    std::string stages;
  };

  struct Launch {
    std::string kernel;
    std::string blocks, threads; ///< "max(1, ceil(T / 128)) x 2".
    /// The launch stands in a loop or a condition of the host's.
    std::string under;
  };

  struct Entry {
    std::string name;
    std::vector<Launch> launches; ///< In order.
    int64_t copiesBack = 0;       ///< Numbers that the host waits for.
  };

  std::vector<Kernel> kernels;
  std::vector<Entry> entries;
  uint64_t imageBytes = 0;
};

/// Where the ops of a module stand, to be asked when passes have replaced them.
class SourceOps {
public:
  explicit SourceOps(ModuleOp module);
  /// The names of the ops at the locations of `op` and of what touches memory
  /// in it, once each, in the module's order.
  std::string namesIn(Operation *op) const;

private:
  llvm::MapVector<Attribute, SmallVector<StringRef>> names;
};

/// Describes a module of outlined kernels; all but the image.
GPUPlan planKernels(ModuleOp module, const SourceOps &source);

/// One more column of the table of kernels, by their names.
struct PlanColumn {
  std::string title;
  llvm::StringMap<std::string> cells;
};

/// Tables for people.
void printPlan(llvm::raw_ostream &os, const GPUPlan &plan,
               ArrayRef<PlanColumn> columns = {});

} // namespace mlir::moe

#endif // MOE_EXECUTIONENGINE_GPUPLAN_H
