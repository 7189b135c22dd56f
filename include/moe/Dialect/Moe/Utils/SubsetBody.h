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
// The shift makes the odds of each of `max` groups of experts sum to nearly 1,
// so that e_max is neither small nor large. Where a polynomial leaves the
// range all the same, the token is done again in the tilted form: odds become
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
  /// A row of the cotangents of the logits, from those of the logs.
  Value emitPartitionVJP(ValueRange cotangents);
  /// The log-probability of the subset of these ids.
  Value emitLogProb(ValueRange ids);
  /// A row of the probabilities of being taken.
  Value emitMarginals();
  /// A row of Cov(z) v, for a row v.
  Value emitCovariance(Value vector);
  /// `max` ids in ascending order, -1 behind the size that was drawn.
  SmallVector<Value> emitSample(const TokenRandom &random);

private:
  /// Coefficients by degree, and their tangents along a vector, if any.
  struct Polynomials {
    SmallVector<Value> values;
    SmallVector<Value> dots;
  };
  /// The factor stay + odds z of one expert.
  struct Expert {
    Value odds;
    Value stay;      ///< Null where it is 1.
    Value direction; ///< The vector's component; null without.
    Value along;     ///< The tangent of the odds: odds times that.
  };
  /// A pass over the experts and what it left behind.
  struct Table {
    int64_t columns = 0;      ///< Degrees that the prefix keeps.
    int64_t rowSize = 1;      ///< Experts that share a row of it.
    double floor = 0.0;       ///< Where sums start that would start at 0.
    Value prefix;             ///< P_i(j) of the first expert of each row.
    Value prefixDot;          ///< The tangents; null without.
    Value odds;               ///< Row [E].
    Value stay;               ///< Row [E] of 1 - p_i; null in the linear form.
    SmallVector<Value> total; ///< e_0 to e_max.
    SmallVector<Value> totalDot; ///< Their tangents; empty without.
    Value scale;                 ///< Linear: odds are scale exp(r - largest),
    Value shift;                 ///< that is, exp(r - shift).
    Value isForced;              ///< Tilted: all admissible experts are taken,
    Value admissible;            ///< so many (a float),
    Value isBad;                 ///< or there is a NaN or +inf.
  };
  using BlockStep = llvm::function_ref<void(Value block, int64_t size,
                                            SmallVector<Value> &carried)>;

  /// The numbers between which polynomials are trusted. A quotient of two of
  /// them, which the derivatives of log Z are, is in the type's range too.
  std::pair<double, double> getSafeRange() const {
    if (type.isF64())
      return {1e-100, 1e200};
    return {1e-8, 1e24};
  }
  bool isExact() const { return band.min == band.max; }
  Value readLogit(Value expert) { return read(logits, expert); }

  SmallVector<Value> loopBlocks(int64_t size, ValueRange inits, BlockStep step);
  SmallVector<Value> loopBlocksDown(int64_t size, ValueRange inits,
                                    BlockStep step);
  Value expertOf(Value block, int64_t size, int64_t place);

  Expert readExpert(const Table &table, Value odds, Value number, Value vector);
  /// What is left of a value without the expert.
  Value keep(const Expert &expert, Value value);
  void multiply(Polynomials &sums, const Expert &expert);
  void absorb(Polynomials &slopes, const Expert &expert);
  std::pair<Value, Value> contract(const Polynomials &before,
                                   const Polynomials &slopes, int64_t lag);

  SmallVector<Value> emitLargest(int64_t count);
  void emitScale(Table &table);
  Table emitLinear(int64_t columns, int64_t rowSize, Value vector = {});
  Table emitTilted(const Table &linear, Value vector = {});
  void emitTilt(Table &table);
  Value emitTiltStart(Value &size);
  void emitRecursion(Table &table, Value vector);
  SmallVector<Value> emitTiltedLogs(const Table &table);
  Value isUnsafe(const Table &table);
  /// The law of the size, for j = 0 to max; null where it is 0 for all tokens.
  SmallVector<Value> emitSizeLaw(const Table &table);
  /// U_E(l), l < max; times e_max in the linear form.
  SmallVector<Value> emitAdjointStart(const Table &table, ValueRange law);
  Value emitAdjoint(const Table &table, ValueRange start, Value row,
                    Value vector = {}, Value zeta = {});
  /// The same for the sum of factor_j log e_j in place of log Z.
  SmallVector<Value> emitWeightedStart(const Table &table, ValueRange factors);
  /// The derivatives by the logits of what the adjoint starts from.
  Value emitSlopes(llvm::function_ref<SmallVector<Value>(const Table &)> start);
  Value emitZeta(const Table &table, ValueRange law);
  Value emitSize(ValueRange law, Value uniform);

  Value logits;
  int64_t width;
  SubsetBand band;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_SUBSETBODY_H
