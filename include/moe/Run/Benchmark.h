//===- Benchmark.h - Repeated timed calls -----------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_BENCHMARK_H
#define MOE_RUN_BENCHMARK_H

#include "moe/IO/Expected.h"
#include "moe/IO/Tensor.h"
#include "moe/Runtime/moe_rt.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace moe::run {

/// The work of one call.
struct Cost {
  double flops = 0;
  double weightBytes = 0; ///< Bytes of weights that the call reads.
};

/// Computes the cost after a call, when results such as expert loads are
/// known. Nothing: not known.
using CostFn =
    std::function<std::optional<Cost>(const std::vector<io::Tensor> &inputs,
                                      const std::vector<io::Tensor> &outputs)>;

/// How many copies of the inputs take turns, so that no call finds its
/// operands in the cache.
struct Rotation {
  int64_t cacheBytes = 0;      ///< Of the last-level cache; 0: unknown.
  int64_t activationBytes = 0; ///< Inputs with a dynamic size, one copy.
  int64_t weightBytes = 0;     ///< All others, one copy.
  int64_t activationCopies = 1;
  int64_t weightCopies = 1;
  double touchedBytes = 0; ///< Between two uses of the same copies.
  bool enough = false;     ///< touchedBytes is over 8 times the cache.

  std::string text() const;
};

/// Plans the copies. A call reads `touchedWeightBytes` of the weights; copies
/// are made until the calls of one turn touch over 8 times `cacheBytes`, or
/// they would take more than `memoryBytes`.
Rotation planRotation(int64_t activationBytes, int64_t weightBytes,
                      double touchedWeightBytes, int64_t cacheBytes,
                      int64_t memoryBytes);

/// The size of the last-level cache as the system states it, or 0.
int64_t lastLevelCacheBytes();

struct Timing {
  int repeat = 0;
  double median = 0; ///< Seconds a call.
  double min = 0;
  Rotation rotation;
};

/// Times `repeat` calls; one call of each copy comes before, unmeasured.
/// `cost` (where known) is that of one call.
io::Expected<Timing> benchmark(moe_context *context, const moe_entry &entry,
                               const std::vector<io::Tensor> &inputs,
                               std::vector<io::Tensor> &outputs, int repeat,
                               const std::optional<Cost> &cost);

/// One call, with the context's message as the error.
io::Status callEntry(moe_context *context, const moe_entry &entry,
                     std::vector<io::Tensor> &inputs,
                     std::vector<io::Tensor> &outputs);

} // namespace moe::run

#endif // MOE_RUN_BENCHMARK_H
