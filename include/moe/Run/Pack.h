//===- Pack.h - Stored weights for entries that read packed ones -*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_PACK_H
#define MOE_RUN_PACK_H

#include "moe/IO/Tensor.h"
#include "moe/Runtime/moe_rt.h"

#include <memory>
#include <vector>

namespace moe::run {

/// Whether an entry reads its weights in another form than they are stored in.
bool packsWeights(const moe_entry &entry);

/// The description of an entry as if it took its weights as they are stored:
/// the inputs of its pack function stand in the place of the first one packed.
std::shared_ptr<const moe_entry_info> describeStored(const moe_entry &entry);

/// Packs: from inputs of that description, those that the entry takes.
io::Expected<std::vector<io::Tensor>>
packInputs(moe_context *context, const moe_entry &entry,
           const std::vector<io::Tensor> &stored);

} // namespace moe::run

#endif // MOE_RUN_PACK_H
