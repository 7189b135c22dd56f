//===- MoeTokenGradientOps.td - Backwards of ops on tokens -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOETOKENGRADIENTOPS_TD
#define MOE_DIALECT_MOE_IR_MOETOKENGRADIENTOPS_TD

include "moe/Dialect/Moe/IR/MoeSubsetOps.td"

def Moe_NoisyLogitsVJPOp : Moe_LayerOp<"noisy_logits_vjp"> {
  let summary = "the cotangent of what scales learned noise";
  let description = [{
    The backward of moe.noisy_logits <learned> for its operand `noise`, given
    the `cotangent` of the noisy logits and, with `sigma`, that of sigma:
      (cotangent n + sigma cotangent) / (1 + exp(-noise)),
    n the normal numbers of the same three operands, drawn again. All [T, E].
    Computed in f32 (f64 where a tensor is), one rounding. The cotangent of the
    logits is that of the noisy logits.

    Labels: noisy_logits_vjp_c1 equal shapes, E static.

    ```mlir
    %dn = moe.noisy_logits_vjp %noise by %dnoisy
        sigma(%dsigma : tensor<?x8xf32>) draw(%seed, %layer, %first)
        : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$noise,
    Moe_FloatTensor<[2]>:$cotangent,
    Optional<Moe_FloatTensor<[2]>>:$sigma_cotangent,
    I64:$seed,
    I64:$layer,
    I64:$first_token
  );
  let results = (outs Moe_FloatTensor<[2]>:$gradient);
  let assemblyFormat = [{
    $noise `by` $cotangent
    (`sigma` `(` $sigma_cotangent^ `:` type($sigma_cotangent) `)`)?
    `draw` `(` $seed `,` $layer `,` $first_token `)` attr-dict
    `:` type($noise) `,` type($cotangent) `->` type($gradient)
  }];
}

def Moe_UnitRowsVJPOp : Moe_LayerOp<"unit_rows_vjp"> {
  let summary = "cotangents of rows that are scaled to length one";
  let description = [{
    The backward of moe.unit_rows with the same operands and settings. With l
    the length as it is kept from zero, u = x / l and s the scale: the cotangent
    of the rows s (g - u (u . g)) / l [T, D], without the second term where
    `clamp` puts eps in place of the length; and, where `scale` is given, every
    token's share u . g of its cotangent [T, 1], whose sum over the tokens it
    is. Computed in f32 (f64 where rows, cotangent or results are), one
    rounding.

    Labels: unit_rows_vjp_c1 T and D (static) of rows, cotangent and the first
    result; unit_rows_vjp_c2 eps finite and not negative; unit_rows_vjp_c3 a
    second result [T, 1] exactly with a scale.

    ```mlir
    %dx = moe.unit_rows_vjp %x by %du eps <clamp> 1.000000e-12
        : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$rows,
    Moe_FloatTensor<[2]>:$cotangent,
    Optional<Moe_FloatTensor<[0]>>:$scale,
    Moe_EpsModeAttr:$mode,
    F64Attr:$eps
  );
  let results = (outs Variadic<Moe_FloatTensor<[2]>>:$gradients);
  let assemblyFormat = [{
    $rows `by` $cotangent `eps` $mode $eps
    (`scale` `(` $scale^ `:` type($scale) `)`)? attr-dict
    `:` type($rows) `,` type($cotangent) `->` type($gradients)
  }];
}

def Moe_SubsetPartitionVJPOp : Moe_SubsetOp<"subset_partition_vjp"> {
  let summary = "the logits' cotangent of the logs of e_j";
  let description = [{
    The backward of moe.subset_partition with the same sizes: sum over j of
    cotangent[t, j - min] times the marginals of subsets of exactly j experts.
    logits and result [T, E], cotangent [T, max - min + 1]. One pass over the
    experts makes the whole sum. A size whose log e_j is -inf gives nothing; a
    row with NaN or +inf is NaN.

    Labels: those of moe.subset_partition; the columns are those of the
    cotangent and of the result.

    ```mlir
    %dr = moe.subset_partition_vjp %logits by %dz size 6 to 8
        : tensor<?x64xf32>, tensor<?x3xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Moe_FloatTensor<[2]>:$cotangent,
    I64Attr:$min,
    I64Attr:$max
  );
  let results = (outs Moe_FloatTensor<[2]>:$gradient);
  let assemblyFormat = [{
    $logits `by` $cotangent `size` $min `to` $max attr-dict
    `:` type($logits) `,` type($cotangent) `->` type($gradient)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOETOKENGRADIENTOPS_TD
