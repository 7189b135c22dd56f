//===- MoeToLinalg.h - From moe to linalg, tensor and scf -------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Patterns that turn every op of the dialect on tensors into upstream dialects
// on tensors, for compilers that want nothing of moe below the layer ops. Each
// op has one pattern; a pattern needs no other.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_CONVERSION_MOETOLINALG_H
#define MOE_CONVERSION_MOETOLINALG_H

namespace mlir {
class RewritePatternSet;
} // namespace mlir

namespace mlir::moe {

/// gate, score, route, route_experts, route_hash, limit_capacity, jitter.
void populateMoeToLinalgRoutingPatterns(RewritePatternSet &patterns);

/// dispatch, combine.
void populateMoeToLinalgDispatchPatterns(RewritePatternSet &patterns);

/// experts, relayout.
void populateMoeToLinalgExpertsPatterns(RewritePatternSet &patterns);

/// group, grouped_matmul, combine_slots, top_k, on tensors.
void populateMoeToLinalgPrimitivesPatterns(RewritePatternSet &patterns);

/// aux_loss, load_loss, expert_load, update_bias.
void populateMoeToLinalgLossesPatterns(RewritePatternSet &patterns);

/// All of the above.
void populateMoeToLinalgPatterns(RewritePatternSet &patterns);
/// In place of some of these, for GPUs: soft slots as parallel loops whose
/// iterations make one number, or one column of a group.
void populateSlotThreadPatterns(RewritePatternSet &patterns);
/// Expert choice likewise, by counting in place of a sort.
void populateExpertChoiceThreadPatterns(RewritePatternSet &patterns);
/// Capacities, by ranks that chunks of tokens add up to.
void populateCapacityThreadPatterns(RewritePatternSet &patterns);
/// Losses, their gradients and expert_load, by sums of chunks of tokens.
void populateLossThreadPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe

#endif // MOE_CONVERSION_MOETOLINALG_H
