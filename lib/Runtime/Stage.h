//===- Stage.h - Calls of entries that run on a GPU -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUNTIME_STAGE_H
#define MOE_LIB_RUNTIME_STAGE_H

#include "Context.h"

namespace moe::rt {

/// Runs an entry on the context's GPU and stream. Tensors that are the CPU's
/// are copied there and back, and the stream is then waited for; results that a
/// failed call wrote are not copied.
int callOnGPU(Context &context, const moe_entry &entry, const moe_tensor *in,
              moe_tensor *out);

} // namespace moe::rt

#endif // MOE_LIB_RUNTIME_STAGE_H
