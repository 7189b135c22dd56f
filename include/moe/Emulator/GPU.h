//===- GPU.h - The emulator as a GPU of the runtime -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EMULATOR_GPU_H
#define MOE_EMULATOR_GPU_H

#include "moe/Runtime/moe_rt.h"

#include <cstdint>

namespace moe::emulator {

/// What stands for a GPU of a context: kernels are PTX text and run by the
/// emulator. A launch with a report fails with the first one as its error.
/// `seed` is of LaunchOptions. Null where memory is short.
moe_gpu *createGPU(uint64_t seed = 0);

} // namespace moe::emulator

#endif // MOE_EMULATOR_GPU_H
