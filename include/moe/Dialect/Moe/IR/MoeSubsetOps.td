//===- MoeSubsetOps.td - Inference over subsets of experts -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Independent experts with odds exp(logit), given how many are taken: the
// conditional Bernoulli law, which for one size k is
//   P(S) = exp(sum of the logits in S) / e_k,
// e_k the elementary symmetric polynomial of the odds. Routers are made of
// these; each is an op of its own for whoever needs it alone.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOESUBSETOPS_TD
#define MOE_DIALECT_MOE_IR_MOESUBSETOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

/// An op on subsets: sizes from `min` to `max` of the E experts of a row.
class Moe_SubsetOp<string mnemonic> : Moe_LayerOp<mnemonic> {
  code subsetDeclaration = [{
    ::mlir::moe::SubsetBand getBand() {
      return {static_cast<int64_t>(getMin()), static_cast<int64_t>(getMax())};
    }
  }];
  let extraClassDeclaration = subsetDeclaration;
  // T is the logits', columns are static.
  let extraClassDefinition = [{
    ::llvm::LogicalResult $cppClass::reifyResultShapes(
        ::mlir::OpBuilder &builder,
        ::mlir::ReifiedRankedShapedTypeDims &shapes) {
      shapes = {::mlir::moe::detail::reifyTokenResult(builder, *this,
                                                      getLogits())};
      return ::mlir::success();
    }
  }];
}

def Moe_SubsetPartitionOp : Moe_SubsetOp<"subset_partition"> {
  let summary = "log e_j of the odds, for every size of a band";
  let description = [{
    log_partition[t, j - min] = log e_j(exp(logits[t, :])) for j = min to max:
    logits [T, E], result [T, max - min + 1], -inf where fewer than j experts
    have a logit above -inf. The probability of size j under the law of the band
    is the softmax of a row. A row with NaN or +inf is NaN.

    In f32 as accurate as 2e-5 relative to e_j where the sizes of the band are
    those that the row makes likely; sizes e^-80 times less likely than these
    may be -inf.

    Labels: subset_c1 1 <= min <= max <= E, E static; subset_c2 T of all;
    subset_c3 columns of the result.

    Source: arXiv 2606.01509 (the law), 2210.01941 (the algorithm).

    ```mlir
    %z = moe.subset_partition %logits size 6 to 8
        : tensor<?x64xf32> -> tensor<?x3xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    I64Attr:$min,
    I64Attr:$max
  );
  let results = (outs Moe_FloatTensor<[2]>:$log_partition);
  let assemblyFormat = [{
    $logits `size` $min `to` $max attr-dict
    `:` type($logits) `->` type($log_partition)
  }];
}

def Moe_SubsetMarginalsOp : Moe_SubsetOp<"subset_marginals"> {
  let summary = "the exact probability that an expert is among those taken";
  let description = [{
    marginals[t, e] = P(e in S) = d log Z / d logits[t, e], where Z is the sum
    of e_j over the band: logits [T, E], result [T, E]. Rows sum to the expected
    size, k for a band of one size. |error| <= 2e-5 max(m, 1e-7) in f32.

    Experts at -inf have 0. Where a row has n < j experts above -inf, subsets of
    j do not exist: the band's sizes are lowered to n, so that at n <= min all n
    are taken and have 1. A row with NaN or +inf is NaN.

    Labels: those of moe.subset_partition; the columns are E.

    Source: arXiv 2606.01509; the linear form with its range check and the
    tilted form for rows that fail it are this project's.

    ```mlir
    %m = moe.subset_marginals %logits size 8 to 8
        : tensor<?x64xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    I64Attr:$min,
    I64Attr:$max
  );
  let results = (outs Moe_FloatTensor<[2]>:$marginals);
  let assemblyFormat = [{
    $logits `size` $min `to` $max attr-dict
    `:` type($logits) `->` type($marginals)
  }];
}

def Moe_SubsetEntropyOp : Moe_SubsetOp<"subset_entropy"> {
  let summary = "the entropy of the law over subsets of experts";
  let description = [{
    entropy[t] = - sum over S of P(S) log P(S) = log Z - sum_e m_e logits[t, e],
    in nats, with Z and the marginals m of moe.subset_marginals: logits [T, E],
    result [T]. 0 where a row has no more experts above -inf than `min`. A row
    with NaN or +inf is NaN. In f32 the error is that of the difference: about
    1e-7 times the larger of its two terms.

    Labels: those of moe.subset_partition, without columns.

    Source: arXiv 2606.01509 (the law); the formula is derived.

    ```mlir
    %h = moe.subset_entropy %logits size 8 to 8
        : tensor<?x64xf32> -> tensor<?xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    I64Attr:$min,
    I64Attr:$max
  );
  let results = (outs Moe_FloatTensor<[1]>:$entropy);
  let assemblyFormat = [{
    $logits `size` $min `to` $max attr-dict
    `:` type($logits) `->` type($entropy)
  }];
}

def Moe_SubsetSampleOp : Moe_SubsetOp<"subset_sample"> {
  let summary = "an exact sample of a subset of experts";
  let description = [{
    ids[t, :] is a subset drawn with its exact probability, in ascending order,
    -1 behind its size: logits [T, E], result [T, max]. The numbers drawn are
    those of moe.philox with these three i64 operands: for a band of several
    sizes, draw E chooses the size (the first whose cumulative probability is
    above it); then, from the last expert to the first, expert e is taken where
    draw e is below its probability given what is left to take.

    Rows with few admissible experts: see moe.subset_marginals. A row with NaN
    or +inf has ids in range and distinct.

    Labels: those of moe.subset_partition; the columns are `max`.

    Source: arXiv 2210.01941 (the algorithm of exact ancestral sampling).

    ```mlir
    %ids = moe.subset_sample %logits size 6 to 8 draw(%seed, %layer, %first)
        : tensor<?x64xf32> -> tensor<?x8xi32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    I64:$seed,
    I64:$layer,
    I64:$first_token,
    I64Attr:$min,
    I64Attr:$max
  );
  let results = (outs Moe_IndexTensor<[2]>:$ids);
  let assemblyFormat = [{
    $logits `size` $min `to` $max
    `draw` `(` $seed `,` $layer `,` $first_token `)` attr-dict
    `:` type($logits) `->` type($ids)
  }];
}

def Moe_SubsetCovarianceOp : Moe_SubsetOp<"subset_covariance"> {
  let summary = "the covariance of a subset's indicators times a vector";
  let description = [{
    result[t, :] = Cov(z) vector[t, :], z the indicator of the subset: logits,
    vector and result [T, E]. It is the Jacobian of moe.subset_marginals, which
    is symmetric, so both its tangent along a vector and its gradient for a
    cotangent. Computed by one pass in forward mode, without a tape.

    Rows with few admissible experts: see moe.subset_marginals; the covariance
    of a forced subset is 0.

    Labels: those of moe.subset_partition; the columns of all are E.

    ```mlir
    %g = moe.subset_covariance %logits, %v size 8 to 8
        : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Moe_FloatTensor<[2]>:$vector,
    I64Attr:$min,
    I64Attr:$max
  );
  let results = (outs Moe_FloatTensor<[2]>:$result);
  let assemblyFormat = [{
    $logits `,` $vector `size` $min `to` $max attr-dict
    `:` type($logits) `,` type($vector) `->` type($result)
  }];
}

def Moe_SubsetLogProbOp : Moe_SubsetOp<"subset_log_prob"> {
  let summary = "the log-probability of a given subset";
  let description = [{
    log_prob[t] = sum of logits[t, e] over the ids of the row, less log Z of the
    band: logits [T, E], ids [T, max] (-1 in empty slots, distinct otherwise),
    result [T]. -inf for a subset whose size is not in the band, and in a row
    that has no subset of the band. Its gradient is the subset's indicator less
    the marginals. An id outside [-1, E) adds
    nothing and counts as an expert.

    Labels: those of moe.subset_partition; the columns are those of ids.

    ```mlir
    %p = moe.subset_log_prob %logits, %ids size 8 to 8
        : tensor<?x64xf32>, tensor<?x8xi32> -> tensor<?xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Moe_IndexTensor<[2]>:$ids,
    I64Attr:$min,
    I64Attr:$max
  );
  let results = (outs Moe_FloatTensor<[1]>:$log_prob);
  let assemblyFormat = [{
    $logits `,` $ids `size` $min `to` $max attr-dict
    `:` type($logits) `,` type($ids) `->` type($log_prob)
  }];
}

def Moe_PhiloxOp : Moe_LayerOp<"philox"> {
  let summary = "uniform random numbers of tokens";
  let description = [{
    numbers[t, d] = (word >> 8) * 2^-24 in [0, 1), where word is word d mod 4 of
    Philox4x32-10 with the key `seed` and the counter (low and high half of
    first_token + t, d / 4, low half of layer): numbers [T, D], T from `tokens`.
    All three operands are i64; halves are 32 bits. A number depends on these
    alone, not on how tokens are split over calls, tiles or threads.

    Labels: philox_c1 at least one draw, static, at most 2^31.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).

    ```mlir
    %u = moe.philox %tokens at(%seed, %layer, %first) : tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Index:$tokens,
    I64:$seed,
    I64:$layer,
    I64:$first_token
  );
  let results = (outs Moe_FloatTensor<[2]>:$numbers);
  let assemblyFormat = [{
    $tokens `at` `(` $seed `,` $layer `,` $first_token `)` attr-dict
    `:` type($numbers)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOESUBSETOPS_TD
