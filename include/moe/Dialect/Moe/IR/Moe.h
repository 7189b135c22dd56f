//===- Moe.h - The dialect's C++ face ---------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOE_H
#define MOE_DIALECT_MOE_IR_MOE_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/APFloat.h"

#include "moe/Dialect/Moe/IR/MoeEnums.h.inc"

namespace mlir::moe {

/// Which optional operands a moe.route has; a router says which it takes.
struct RouteOperandSet {
  bool selectionBias = false;
  bool expertScale = false;
  bool indices = false;
  bool noise = false;
  bool training = false;
};

/// Whose random numbers a token draws: all i64. The key is the seed, the
/// counter the token's number, the draw and the layer.
struct TokenRandom {
  Value seed;
  Value layer;
  Value token; ///< Differs from token to token.
};

/// What a token body may read. Rows belong to the token and are read by
/// tensor.extract at an index that is equal for all tokens.
struct TokenBodyInputs {
  Value logits;        ///< tensor<R x compute type>, the token's row.
  Value selectionBias; ///< tensor<R x float>, shared; may be null.
  Value expertScale;   ///< tensor<R x float>, shared; may be null.
  Value indices;       ///< tensor<k x i32>, the token's row; may be null.
  Value noise;         ///< tensor<R x compute type>, the token's; may be null.
  std::optional<TokenRandom> random; ///< Where the router draws, in training.
  int64_t width;                     ///< R.
  FloatType computeType;
};

/// What a token body gives: per slot an i32 id and a weight of compute type.
struct TokenBodyResult {
  SmallVector<Value> ids;
  SmallVector<Value> weights;
};

/// What the backward of a token body may read beside the body's own inputs, all
/// of one token.
struct TokenVJPInputs {
  TokenBodyInputs forward;       ///< `selectionBias` and `indices` are null.
  SmallVector<Value> ids;        ///< i32, as the route gave them; -1 is empty.
  SmallVector<Value> weights;    ///< As the route gave them.
  SmallVector<Value> cotangents; ///< Of the weights; any value at empty slots.
};

/// What it gives: rows [R] of the compute type.
struct TokenVJPResult {
  Value logits;
  Value noise;       ///< Where the noise was given.
  Value expertScale; ///< Where expert scales were: the token's share.
};

/// What becomes of results of an op that a backward reads: they are computed
/// again, or saved by the forward.
enum class Residual { recomputed, saved };

class Cotangents;
class ActivationAttrInterface;

/// What a token-local op gives for one of its results: a scalar a column, or a
/// row of the token, or one scalar where the result has the token axis alone.
struct TokenValue {
  SmallVector<Value> columns;
  Value row;
};

/// The noise that training adds to logits; `std` is of normal noise, `floor` of
/// learned noise.
struct NoiseSettings {
  NoiseKind kind;
  double std;
  double floor;
  double temperature = 1.0; ///< Of Gumbel noise.
};

/// The sizes that a subset of experts may have, from `min` to `max`.
struct SubsetBand {
  int64_t min;
  int64_t max;
};

namespace detail {
/// A double in the syntax of attribute parameters, exact to the last digit.
FailureOr<APFloat> parseDouble(AsmParser &parser);
void printDouble(AsmPrinter &printer, const APFloat &value);
} // namespace detail

namespace detail {
/// The backward of an activation by the ops of its body.
FailureOr<std::pair<Value, Value>>
buildActivationVJP(ActivationAttrInterface activation,
                   ImplicitLocOpBuilder &builder, Value gate, Value up,
                   Value cotangent);
} // namespace detail

namespace detail {
/// The shape of an op's only result: T as of `tokens`, a second size static.
SmallVector<OpFoldResult> reifyTokenResult(OpBuilder &builder, Operation *op,
                                           Value tokens);
} // namespace detail

/// Names of the attributes that entries and their arguments carry.
constexpr StringLiteral kEntryAttrName = "moe.entry";
constexpr StringLiteral kNameAttrName = "moe.name";
constexpr StringLiteral kDimsAttrName = "moe.dims";
constexpr StringLiteral kBoundsAttrName = "moe.bounds";
/// The largest dynamic size of an entry that gives no bound for it.
constexpr int64_t kDefaultSizeBound = int64_t(1) << 24;
constexpr StringLiteral kLayoutAttrName = "moe.layout";
/// On a prepared entry: how many of its arguments are inputs; the others are
/// destinations of its results.
constexpr StringLiteral kNumInputsAttrName = "moe.num_inputs";

/// The function that makes an entry's packed weights of the stored ones.
inline std::string getPackFunctionName(StringRef entry) {
  return (entry + ".pack").str();
}

/// The version that bytecode of this dialect carries.
constexpr uint64_t kDialectVersion = 1;

} // namespace mlir::moe

#include "moe/Dialect/Moe/IR/MoeDialect.h.inc"

#include "moe/Dialect/Moe/IR/MoeAttrInterfaces.h.inc"
#include "moe/Dialect/Moe/IR/MoeOpInterfaces.h.inc"

#define GET_ATTRDEF_CLASSES
#include "moe/Dialect/Moe/IR/MoeAttrs.h.inc"

#define GET_OP_CLASSES
#include "moe/Dialect/Moe/IR/MoeOps.h.inc"

#endif // MOE_DIALECT_MOE_IR_MOE_H
