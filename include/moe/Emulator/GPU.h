//===- GPU.h - The emulator as a GPU of the runtime -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EMULATOR_GPU_H
#define MOE_EMULATOR_GPU_H

#include "moe/Emulator/Statistics.h"
#include "moe/Runtime/moe_rt.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moe::emulator {

/// What stands for a GPU of a context: kernels are PTX text and run by the
/// emulator. A launch with a report fails with the first one as its error.
/// `seed` is of LaunchOptions. Null where memory is short.
moe_gpu *createGPU(uint64_t seed = 0);

/// What a kernel added up to in all its launches.
struct KernelStatistics {
  std::string kernel;
  uint64_t launches = 0;
  Statistics statistics;
};

/// The kernels that an emulated GPU has run, in the order of their first
/// launch.
std::vector<KernelStatistics> getStatistics(moe_gpu *gpu);

} // namespace moe::emulator

#endif // MOE_EMULATOR_GPU_H
