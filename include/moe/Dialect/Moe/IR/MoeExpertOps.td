//===- MoeExpertOps.td - Expert function and weights -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEEXPERTOPS_TD
#define MOE_DIALECT_MOE_IR_MOEEXPERTOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_ExpertsOp : Moe_LayerOp<"experts", [AttrSizedOperandSegments]> {
  let summary = "an expert's MLP on the rows of every expert";
  let description = [{
    For every row of expert e: down_e(act(gate_e(x) + gate_bias_e, up_e(x) +
    up_bias_e)) + down_bias_e, or act of one projection where ungated. rows
    [N, D] in expert order by offsets [E+1]; without offsets there is one
    expert (E = 1) and it owns all rows: a dense or shared expert. Result
    [N, D']. Rows from offsets[E] on are unspecified.

    `up` holds one weight (ungated, or gate and up fused) or two (gate, then up,
    pairing `separate`), as the layout says: [E, 2I, D] with out_in, [E, D, 2I]
    with in_out, [E*2I, D] or [E*D, 2I] with a folded expert axis; ungated
    experts have I for 2I. `down` is [E, D', I] (out_in) or [E, I, D'].
    Biases: `up_bias` [E, 2I] or [E, I] in the pairing and order of the weights
    (two of [E, I] where separate), `down_bias` [E, D']. `gated` says whether
    there is a gate.

    Each product accumulates in f32 (f64 for f64); the activation is computed
    there too and its result rounds once to the rows' type, the output once to
    its type. An expert without rows costs nothing. The layout is inherent:
    nothing else tells a square weight from its transpose.

    `keeping` adds results [N, I] that hold what the activation was given,
    biases included: the gate's and the up projection's values (one, where
    ungated).
    They are what a backward needs; each rounds once to its type.

    Labels: experts_c1 number of up weights and biases fits gated and pairing;
    experts_c2 D of rows and up, static; experts_c3 E (at least 1) of offsets,
    weights, biases, and their rank; experts_c4 the up weight's output axis is
    even (divisible by 2 * shards) where gate and up are fused; experts_c5 I of
    down; experts_c6 D' of down, down_bias and result, static; experts_c7 shape
    of up_bias; experts_c8 N; experts_c9 without offsets E is 1; experts_c10
    results that are kept: none, or one for each projection, [N, I].

    ```mlir
    %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
        up(%gate_up : tensor<8x256x64xf32>) down(%down : tensor<8x64x128xf32>)
        gated activation #moe.activation<kind = silu>
        layout <orientation = out_in>
        : tensor<?x64xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$rows,
    Optional<Moe_IndexTensor<[1]>>:$offsets,
    Variadic<Moe_FloatTensor<[2, 3]>>:$up,
    Variadic<Moe_FloatTensor<[2]>>:$up_bias,
    Moe_FloatTensor<[2, 3]>:$down,
    Optional<Moe_FloatTensor<[2]>>:$down_bias,
    UnitAttr:$gated,
    Moe_ActivationAttrInterface:$activation,
    Moe_LayoutAttr:$layout
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$output,
    Variadic<Moe_FloatTensor<[2]>>:$kept
  );
  let assemblyFormat = [{
    $rows (`offsets` `(` $offsets^ `:` type($offsets) `)`)?
    `up` `(` $up `:` type($up) `)`
    (`bias` `(` $up_bias^ `:` type($up_bias) `)`)?
    `down` `(` $down `:` type($down) `)`
    (`down_bias` `(` $down_bias^ `:` type($down_bias) `)`)?
    (`gated` $gated^)? `activation` $activation `layout` $layout attr-dict
    `:` type($rows) `->` type($output) (`keeping` type($kept)^)?
  }];
  let builders = [
    /// Without results that are kept.
    OpBuilder<(ins "::mlir::Type":$output, "::mlir::Value":$rows,
                   "::mlir::Value":$offsets, "::mlir::ValueRange":$up,
                   "::mlir::ValueRange":$upBias, "::mlir::Value":$down,
                   "::mlir::Value":$downBias, "bool":$gated,
                   "::mlir::moe::ActivationAttrInterface":$activation,
                   "::mlir::moe::LayoutAttr":$layout), [{
      build($_builder, $_state, output, /*kept=*/::mlir::TypeRange(), rows,
            offsets, up, upBias, down, downBias, gated, activation, layout);
    }]>
  ];
  let extraClassDeclaration = [{
    /// The number of experts E: that of the offsets, or 1.
    int64_t getNumExperts();
    /// The expert width I, and D, D' of a verified op.
    int64_t getIntermediateSize();
    int64_t getInSize();
    int64_t getOutSize();
    /// How many tensors hold the up projection, and how many times I the
    /// output axis of each is.
    static unsigned getNumUpTensors(bool gated,
                                    ::mlir::moe::LayoutAttr layout) {
      return gated && !layout.isFused() ? 2 : 1;
    }
    static int64_t getUpFactor(bool gated, ::mlir::moe::LayoutAttr layout) {
      return gated && layout.isFused() ? 2 : 1;
    }
  }];
}

def Moe_RelayoutOp : Moe_LayerOp<"relayout"> {
  let summary = "an expert weight in another layout";
  let description = [{
    Rewrites the weight of one projection from layout `from` to layout `to`:
    `up` (one or two tensors by the pairing of each side), `down`, or `up_bias`.
    `gated` says whether the up weight holds a gate. Values do not change.

    Labels: relayout_c1 number of sources and results fits the pairings;
    relayout_c2 shapes of the results; relayout_c3 element types agree;
    relayout_c4 the sources' own shape fits the layout, the width both shards;
    relayout_c5 experts at least 1.

    ```mlir
    %w2 = moe.relayout <up> %w experts 8 gated
        from <orientation = in_out, pairing = interleaved>
        to <orientation = out_in>
        : (tensor<8x64x256xbf16>) -> tensor<8x256x64xbf16>
    ```
  }];
  let arguments = (ins
    Moe_ProjectionAttr:$projection,
    Variadic<Moe_FloatTensor<[2, 3]>>:$sources,
    I64Attr:$num_experts,
    UnitAttr:$gated,
    Moe_LayoutAttr:$from,
    Moe_LayoutAttr:$to
  );
  let results = (outs Variadic<Moe_FloatTensor<[2, 3]>>:$results);
  let assemblyFormat = [{
    $projection $sources `experts` $num_experts (`gated` $gated^)?
    `from` $from `to` $to attr-dict
    `:` functional-type($sources, $results)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEEXPERTOPS_TD
