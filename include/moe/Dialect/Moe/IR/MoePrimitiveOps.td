//===- MoePrimitiveOps.td - The grouped primitives -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEPRIMITIVEOPS_TD
#define MOE_DIALECT_MOE_IR_MOEPRIMITIVEOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

/// A tensor or memref of the given element types and rank.
class Moe_Shaped<list<Type> elements, list<int> ranks>
    : AnyTypeOf<[TensorRankOf<elements, ranks>, MemRefRankOf<elements, ranks>]>;
class Moe_FloatShaped<list<int> ranks> : Moe_Shaped<[AnyFloat], ranks>;
class Moe_IndexShaped<list<int> ranks> : Moe_Shaped<[I32], ranks>;

/// A primitive: destination style, on tensors or on memrefs, never a mixture.
class Moe_PrimitiveOp<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, !listconcat([DestinationStyleOpInterface,
        DeclareOpInterfaceMethods<MemoryEffectsOpInterface>], traits)> {
  let hasVerifier = 1;
  code primitiveDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() {
      return getInitsMutable();
    }
  }];
  let extraClassDeclaration = primitiveDeclaration;
}

def Moe_GroupOp : Moe_PrimitiveOp<"group", [AttrSizedOperandSegments]> {
  let summary = "the grouped form of a routing";
  let description = [{
    The one form that every sparse routing has before code is generated. From
    ids [T, k] (`choice` token) or [E, C] (expert) and optional weights of that
    shape, writes in this order: offsets [E+1]; token [N], the token of each
    assignment in expert order; first [T+1] and slot [N], by which token t's
    assignments are the rows slot[first[t]] .. slot[first[t+1]-1], in slot order
    (expert order where experts chose); and, with weights, weight [N] in expert
    order. All i32 but weight. Assignments of an expert come in token order. The
    number of assignments is offsets[E] = first[T]; entries past it are not
    written. Ids outside [0, E) are no assignments.

    Labels: group_c1 E of offsets, static, at least 1; group_c2 N of ids, token,
    slot and weight, within an i32; group_c3 weights and weight come together
    and agree; group_c4 T of first; group_c5 E of ids where experts choose;
    group_c6 all tensors or all memrefs.
  }];
  let arguments = (ins
    Moe_IndexShaped<[2]>:$ids,
    Optional<Moe_FloatShaped<[2]>>:$weights,
    Variadic<Moe_Shaped<[I32, AnyFloat], [1]>>:$inits,
    Moe_ChoiceAttr:$choice
  );
  let results = (outs Variadic<TensorRankOf<[I32, AnyFloat], [1]>>:$results);
  let assemblyFormat = [{
    `ins` `(` $ids (`,` $weights^)? `:` type($ids) (`,` type($weights)^)? `)`
    `outs` `(` $inits `:` type($inits) `)` `chosen_by` $choice attr-dict
    (`->` type($results)^)?
  }];
  let extraClassDeclaration = primitiveDeclaration # [{
    /// The destinations by name.
    ::mlir::Value getOffsetsInit() { return getInits()[0]; }
    ::mlir::Value getTokenInit() { return getInits()[1]; }
    ::mlir::Value getFirstInit() { return getInits()[2]; }
    ::mlir::Value getSlotInit() { return getInits()[3]; }
    ::mlir::Value getWeightInit() {
      return getInits().size() > 4 ? getInits()[4] : ::mlir::Value();
    }
    int64_t getNumExperts() {
      return ::llvm::cast<::mlir::ShapedType>(getInits()[0].getType())
                 .getDimSize(0) - 1;
    }
  }];
}

def Moe_GroupedMatmulOp : Moe_PrimitiveOp<"grouped_matmul",
    [AttrSizedOperandSegments,
     SingleBlockImplicitTerminator<"::mlir::moe::YieldOp">]> {
  let summary = "a product of each expert's rows with its own weight";
  let description = [{
    For expert e and each of its rows n in offsets[e] .. offsets[e+1]:
    acc_p[n, j] = sum_d a_p[n, d] * weight_p[e, j, d], for one or two weights of
    one shape, and init_q[n, j] = the q-th value of epilogue(acc_0, ..,
    bias_0[e, j], .., elements_0[n, j], .., row_values_0[n], ..). The region is
    the epilogue: it gets these as scalars of the compute type (f32; f64 where
    lhs, weights or a result are) and yields one for each destination, which
    rounds once to its type. `lhs` is one for all weights, or one for each.

    `rows` [N] makes a's row of assignment n lhs[rows[n]] (the gather happens in
    the load; negative or too large rows are undefined), `row_scale` [N]
    multiplies it, rounded to lhs's type. Without offsets there is one expert
    and it owns all rows. Weights are [E, J, D], or [E, D, J] where `in_out` is
    set; `elements` are [N, J], `row_values` [N]. Rows past the last offset are
    not written. The order of the sum depends on the weight's orientation alone,
    so that a row's result does not depend on other rows.

    With `panels` there is one weight tensor, packed as that attribute says; it
    holds as many weights as it has sides. moe-pack-weights makes it; only code
    for CPUs and the oracle read it.

    Labels: grouped_matmul_c1 one or two weights of one type, one lhs or as
    many, at least one destination; grouped_matmul_c2 D of lhs and weights;
    grouped_matmul_c3 J of weights, biases, elements and results;
    grouped_matmul_c4 E (at least 1) of offsets, weights, biases;
    grouped_matmul_c5 N of rows, row_scale, elements, row_values and results;
    grouped_matmul_c6 arguments and yields of the epilogue; grouped_matmul_c7
    without offsets E is 1; grouped_matmul_c8 all tensors or all memrefs;
    grouped_matmul_c9 panels have one weight tensor of the shape that follows
    from E, J and D, one lhs and no `in_out`.
  }];
  let arguments = (ins
    Variadic<Moe_FloatShaped<[2]>>:$lhs,
    Optional<Moe_IndexShaped<[1]>>:$rows,
    Optional<Moe_FloatShaped<[1]>>:$row_scale,
    Optional<Moe_IndexShaped<[1]>>:$offsets,
    Variadic<Moe_FloatShaped<[3, 5]>>:$weights,
    Variadic<Moe_FloatShaped<[2]>>:$biases,
    Variadic<Moe_FloatShaped<[2]>>:$elements,
    Variadic<Moe_FloatShaped<[1]>>:$row_values,
    Variadic<Moe_FloatShaped<[2]>>:$inits,
    UnitAttr:$in_out,
    OptionalAttr<Moe_PanelsAttr>:$panels
  );
  let results = (outs Variadic<TensorRankOf<[AnyFloat], [2]>>:$results);
  let regions = (region SizedRegion<1>:$epilogue);
  let assemblyFormat = [{
    $lhs
    oilist(`rows` `(` $rows `:` type($rows) `)`
         | `row_scale` `(` $row_scale `:` type($row_scale) `)`
         | `offsets` `(` $offsets `:` type($offsets) `)`)
    `weights` `(` $weights `:` type($weights) `)`
    (`panels` `` $panels^)?
    (`biases` `(` $biases^ `:` type($biases) `)`)? (`in_out` $in_out^)?
    (`elements` `(` $elements^ `:` type($elements) `)`)?
    (`row_values` `(` $row_values^ `:` type($row_values) `)`)?
    `outs` `(` $inits `:` type($inits) `)` attr-dict
    `:` type($lhs) (`->` type($results)^)? $epilogue
  }];
  let extraClassDeclaration = primitiveDeclaration # [{
    ::mlir::Value getInit() { return getInits()[0]; }
    /// The rows that a weight is multiplied with.
    ::mlir::Value getLhsOf(unsigned weight) {
      return getLhs()[getLhs().size() > 1 ? weight : 0];
    }
    /// The type the sum and the epilogue are computed in.
    ::mlir::FloatType getComputeType();
    int64_t getNumExperts();
    /// Sums that the epilogue gets: weights, or sides of panels.
    int64_t getNumSums();
    /// J, and D.
    int64_t getOutSize();
    int64_t getInSize();
  }];
  let hasRegionVerifier = 1;
}

def Moe_GroupedOuterOp : Moe_PrimitiveOp<"grouped_outer",
    [AttrSizedOperandSegments]> {
  let summary = "a sum of outer products for each expert: a weight's gradient";
  let description = [{
    init[e, j, d] = sum over n = offsets[e] .. offsets[e+1] - 1, in that order,
    of lhs[n, j] * rhs[n, d]; `lhs_rows` and `rhs_rows` [N] make row n of that
    side the one of this number (the gather happens in the load; negative or too
    large numbers are undefined). An expert without rows has zeros. Without
    offsets there is one expert and it owns all rows. lhs [., J], rhs [., D],
    init [E, J, D]. Accumulates in f32 (f64 where an operand or the result is),
    rounds once. With rows of x and of a cotangent this is the gradient of an
    expert's weight in either orientation.

    Labels: grouped_outer_c1 one destination, static; grouped_outer_c2 J of lhs
    and result; grouped_outer_c3 D of rhs and result; grouped_outer_c4 E (at
    least 1) of offsets and result; grouped_outer_c5 N of all that have it;
    grouped_outer_c6 without offsets E is 1; grouped_outer_c7 all tensors or all
    memrefs.

    ```mlir
    %d = moe.grouped_outer %dy rows(%token : tensor<?xi32>) by %h
        offsets(%offsets : tensor<9xi32>) outs(%init : tensor<8x64x128xf32>)
        : tensor<?x64xf32>, tensor<?x128xf32> -> tensor<8x64x128xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatShaped<[2]>:$lhs,
    Optional<Moe_IndexShaped<[1]>>:$lhs_rows,
    Moe_FloatShaped<[2]>:$rhs,
    Optional<Moe_IndexShaped<[1]>>:$rhs_rows,
    Optional<Moe_IndexShaped<[1]>>:$offsets,
    Variadic<Moe_FloatShaped<[3]>>:$inits
  );
  let results = (outs Variadic<TensorRankOf<[AnyFloat], [3]>>:$results);
  let assemblyFormat = [{
    $lhs (`rows` `(` $lhs_rows^ `:` type($lhs_rows) `)`)?
    `by` $rhs (`rows` `(` $rhs_rows^ `:` type($rhs_rows) `)`)?
    (`offsets` `(` $offsets^ `:` type($offsets) `)`)?
    `outs` `(` $inits `:` type($inits) `)` attr-dict
    `:` type($lhs) `,` type($rhs) (`->` type($results)^)?
  }];
  let extraClassDeclaration = primitiveDeclaration # [{
    ::mlir::Value getInit() { return getInits()[0]; }
    /// The type the sum is computed in.
    ::mlir::FloatType getComputeType();
  }];
}

def Moe_CombineSlotsOp : Moe_PrimitiveOp<"combine_slots",
    [AttrSizedOperandSegments]> {
  let summary = "weighted sum of a token's rows in fixed order";
  let description = [{
    init[t] = scale * (sum over n = slot[first[t]] .. slot[first[t+1]-1], in
    that order, of weight[n] * rows[n], plus identity_weight[t] * identity[t]) +
    bias + residual[t], halved where `average` is set. Shapes: rows [N, D],
    first [T+1], slot [N], weight [N] (absent: 1), identity_weight [T], identity
    and residual [T, D], bias [D], init [T, D]. Accumulates in f32 (f64 for f64
    rows), rounds once.

    Labels: combine_slots_c1 D of all; combine_slots_c2 N of rows, slot and
    weight; combine_slots_c3 T of all; combine_slots_c4 identity and its weight
    come together; combine_slots_c5 all tensors or all memrefs; combine_slots_c6
    scale finite.
  }];
  let arguments = (ins
    Moe_FloatShaped<[2]>:$rows,
    Moe_IndexShaped<[1]>:$first,
    Moe_IndexShaped<[1]>:$slot,
    Optional<Moe_FloatShaped<[1]>>:$weight,
    Optional<Moe_FloatShaped<[1]>>:$identity_weight,
    Optional<Moe_FloatShaped<[2]>>:$identity,
    Optional<Moe_FloatShaped<[2]>>:$residual,
    Optional<Moe_FloatShaped<[1]>>:$bias,
    Variadic<Moe_FloatShaped<[2]>>:$inits,
    DefaultValuedAttr<F64Attr, "1.0">:$scale,
    UnitAttr:$average
  );
  let results = (outs Variadic<TensorRankOf<[AnyFloat], [2]>>:$results);
  let assemblyFormat = [{
    $rows `,` $first `,` $slot
    oilist(`weight` `(` $weight `:` type($weight) `)`
         | `identity` `(` $identity_weight `,` $identity `:`
                          type($identity_weight) `,` type($identity) `)`
         | `residual` `(` $residual `:` type($residual) `)`
         | `bias` `(` $bias `:` type($bias) `)`)
    `outs` `(` $inits `:` type($inits) `)` attr-dict
    `:` type($rows) `,` type($first) `,` type($slot) (`->` type($results)^)?
  }];
  let extraClassDeclaration = primitiveDeclaration # [{
    ::mlir::Value getInit() { return getInits()[0]; }
  }];
}

def Moe_TopKOp : Moe_PrimitiveOp<"top_k"> {
  let summary = "the k largest of every row";
  let description = [{
    values [T, E] to the k largest of each row, in descending order, and their
    indices: inits are [T, k] of the values' type and [T, k] i32. Ties: lower
    index first; -0 equals +0 (and is written as +0); NaN comes after everything
    else, among NaN the lower index first. k at most E.

    Labels: top_k_op_c1 T and types of values and results; top_k_op_c2 k of both
    results; top_k_op_c3 k at most E and at least 1, both static; top_k_op_c4
    all tensors or all memrefs.

    ```mlir
    %v, %i = moe.top_k ins(%x : tensor<?x64xf32>)
        outs(%v0, %i0 : tensor<?x8xf32>, tensor<?x8xi32>)
        -> tensor<?x8xf32>, tensor<?x8xi32>
    ```
  }];
  let arguments = (ins
    Moe_FloatShaped<[2]>:$values,
    Variadic<Moe_Shaped<[I32, AnyFloat], [2]>>:$inits
  );
  let results = (outs Variadic<TensorRankOf<[I32, AnyFloat], [2]>>:$results);
  let assemblyFormat = [{
    `ins` `(` $values `:` type($values) `)`
    `outs` `(` $inits `:` type($inits) `)` attr-dict (`->` type($results)^)?
  }];
}

def Moe_YieldOp : Moe_Op<"yield", [Pure, ReturnLike, Terminator,
    HasParent<"::mlir::moe::GroupedMatmulOp">]> {
  let summary = "the value of an epilogue";
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
  let builders = [OpBuilder<(ins), [{ }]>];
}

#endif // MOE_DIALECT_MOE_IR_MOEPRIMITIVEOPS_TD
