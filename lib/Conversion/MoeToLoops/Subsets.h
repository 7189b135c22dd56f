//===- Subsets.h - The oracle's laws and random numbers ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLOOPS_SUBSETS_H
#define MOE_LIB_CONVERSION_MOETOLOOPS_SUBSETS_H

#include "LoopBuilder.h"

namespace mlir::moe::loops {

/// A draw of a token (all i64, the draw an index), as a float.
Value emitUniform(LoopBuilder &b, Value seed, Value layer, Value token,
                  Value draw);

/// The law over subsets of `band` experts, of one token after the other: tables
/// of log e_j in log space. The builder computes in f64, whatever is stored.
class SubsetRule {
public:
  SubsetRule(LoopBuilder &b, Value logits, SubsetBand band);

  /// Fills the tables for a token; the methods below speak of that token.
  void readToken(Value token);

  /// log e_j, -inf where there is no such subset; NaN in a row with NaN.
  Value getLogPolynomial(Value size);
  /// The log of their sum over the band as it is for the token.
  Value getLogSum() { return b.load(logSum, b.index(0)); }
  /// Stores the marginals into a buffer [E].
  void computeMarginals(Value dest);
  /// Stores Cov(z) v for a row `vector(e)` into a buffer [E].
  void computeCovariance(llvm::function_ref<Value(Value)> vector, Value dest);
  /// Stores a sample into a buffer [max] of ids.
  void drawSample(llvm::function_ref<Value(Value draw)> uniform, Value ids);

  /// Whether the token has enough experts for some size of the band.
  Value hasBand() { return b.equal(lowest(), b.index(band.min)); }
  Value isBad() { return b.load(bad, b.index(0)); }

private:
  Value logAdd(Value x, Value y);
  Value lowest() { return b.load(bounds, b.index(0)); }
  Value highest() { return b.load(bounds, b.index(1)); }
  /// The sizes of the band, as it is for the token.
  void loopSizes(LoopBuilder::Body body) {
    b.loop(lowest(), b.add(highest(), b.index(1)), body);
  }
  /// log of the summand of an expert's marginal that has `before` experts in
  /// front of it and `behind` behind it.
  Value logTerm(Value expert, Value before, Value behind);

  LoopBuilder &b;
  Value logits;
  Value numExperts, numColumns;
  SubsetBand band;
  Value row;    ///< [E] logits, 0 where the row has a NaN or +inf
  Value bad;    ///< [1]
  Value bounds; ///< [2] the band, lowered to the number of admissible experts
  Value prefix; ///< [E + 1, max + 1] log e_j of the experts before one
  Value suffix; ///< [E + 1, max + 1] and of it and those behind it
  Value logSum; ///< [1]
  Value meansBefore, meansBehind; ///< The same shapes: mean of v over subsets
  Value margins;                  ///< [E]
};

/// The standard deviation of normal or learned noise; `raw` is what softplus
/// is taken of, null for normal noise.
Value emitSigma(LoopBuilder &b, const NoiseSettings &settings, Value raw);

/// What training adds to an expert's logit.
Value emitNoise(LoopBuilder &b, const NoiseSettings &settings, Value raw,
                Value expert, llvm::function_ref<Value(Value draw)> uniform);

void populateNoisePatterns(RewritePatternSet &patterns);
void populateSubsetPatterns(RewritePatternSet &patterns);

/// The i64 number of a token.
Value emitTokenNumber(LoopBuilder &b, Value firstToken, Value token);

/// Routes the tokens of an op whose router is one of those that sample; false
/// where it is another one. `ids` and `weights` hold empty slots.
bool routeBySampling(LoopBuilder &b, RouteOp op, Value ids, Value weights);

} // namespace mlir::moe::loops

#endif // MOE_LIB_CONVERSION_MOETOLOOPS_SUBSETS_H
