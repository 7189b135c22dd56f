//===- SubsetBody.h - Subset inference as token code ------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The conditional Bernoulli law over subsets of the experts of one token, with
// odds w_i = exp(r_i - shift). P_i(j) below is the elementary symmetric
// polynomial of degree j of the odds of the experts before i, so that
// e_j = P_E(j); U_i(l) is the derivative of log Z by P_i(l). Both follow from
// one expert to the next by one multiply-add a degree:
//   P_{i+1}(j) = P_i(j) + w_i P_i(j-1)
//   U_i(l) = U_{i+1}(l) + w_i U_{i+1}(l+1)
// and the marginal of expert i is w_i sum_l P_i(l) U_{i+1}(l). All terms are
// positive, so nothing cancels; what can go wrong is the range of f32.
//
// The shift is the mean of the `max` largest logits, by which the largest
// subset of that size has the weight 1. Where a polynomial leaves the range all
// the same, the token is done again in the tilted form: odds become
// probabilities p_i = sigmoid(r_i - t) with sum p_i a size of the band, every
// step multiplies by 1 - p_i as well, and no entry exceeds 1.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_SUBSETBODY_H
#define MOE_DIALECT_MOE_UTILS_SUBSETBODY_H

#include "moe/Dialect/Moe/Utils/BodyBuilder.h"

namespace mlir::moe {

class SubsetBody : public BodyBuilder {
public:
  /// `logits` is a row of `width` numbers of the compute type.
  SubsetBody(ImplicitLocOpBuilder &b, FloatType type, Value logits,
             int64_t width, SubsetBand band)
      : BodyBuilder(b, type), logits(logits), width(width), band(band) {}

  /// log e_j for the sizes of the band.
  SmallVector<Value> emitLogPartition();
  /// The log-probability of the subset of these ids.
  Value emitLogProb(ValueRange ids);
  /// A row of the probabilities of being taken.
  Value emitMarginals();
  /// A row of Cov(z) v, for a row v.
  Value emitCovariance(Value vector);
  /// `max` ids in ascending order, -1 behind the size that was drawn.
  SmallVector<Value> emitSample(const TokenRandom &random);

private:
  /// A pass over the experts and what it left behind.
  struct Table {
    Value prefix;    ///< Row [E x columns] of P_i(j).
    Value prefixDot; ///< Row [E x columns] of the tangents; null without.
    Value odds;      ///< Row [E].
    Value stay;      ///< Row [E] of 1 - p_i; null in the linear form.
    SmallVector<Value> total;    ///< e_0 to e_max.
    SmallVector<Value> totalDot; ///< Their tangents; empty without.
    Value shift;                 ///< Odds are exp(r - shift).
    Value isForced;              ///< Tilted: all admissible experts are taken,
    Value admissible;            ///< so many (a float),
    Value isBad;                 ///< or there is a NaN or +inf.
  };

  bool isExact() const { return band.min == band.max; }
  Value readLogit(Value expert) { return read(logits, expert); }

  SmallVector<Value> emitLargest(int64_t count);
  Table emitLinear(int64_t columns, Value vector = {});
  Table emitTilted(const Table &linear, int64_t columns, Value vector = {});
  void emitTilt(Table &table);
  Value emitTiltStart(Value &size);
  void emitRecursion(Table &table, int64_t columns, Value vector);
  SmallVector<Value> emitTiltedLogs(const Table &table);
  Value isUnsafe(const Table &table);
  /// The law of the size, for j = 0 to max; null where it is 0 for all tokens.
  SmallVector<Value> emitSizeLaw(const Table &table);
  /// U_E(l), l < max.
  SmallVector<Value> emitAdjointStart(const Table &table, ValueRange law);
  Value emitAdjoint(const Table &table, ValueRange start, Value row);
  Value emitAdjointDot(const Table &table, ValueRange start, Value zeta,
                       Value vector, Value row);
  Value emitZeta(const Table &table, ValueRange law);
  Value emitSize(ValueRange law, Value uniform);

  Value logits;
  int64_t width;
  SubsetBand band;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_SUBSETBODY_H
