//===- MoeTokenOps.td - Around a router: jitter, hashing -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOETOKENOPS_TD
#define MOE_DIALECT_MOE_IR_MOETOKENOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_JitterOp : Moe_LayerOp<"jitter"> {
  let summary = "token rows times random numbers around 1";
  let description = [{
    output[t, h] = input[t, h] * (1 - eps + 2 eps u), u draw h of token t: input
    and output [T, H]. The numbers drawn are those of moe.philox with these
    three i64 operands. Computed in f32 (f64 where a tensor is f64), rounded
    once. For training alone; in inference the op is left out.

    A router that draws behind it takes other numbers only if it has another
    seed or layer: draws 0 to H - 1 are taken.

    In front of a gate that is fused with its route it is computed in the same
    tiles, so that no jittered copy of the tokens is made for the router.

    Labels: jitter_c1 equal shapes, H static, 1 to 2^31; jitter_c2 eps within 0
    and 1.

    Source: Switch (2101.03961) as in tensorflow/mesh, eps 1e-2 (read).

    ```mlir
    %y = moe.jitter %x eps 1.000000e-02 draw(%seed, %layer, %first)
        : tensor<?x64xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$input,
    I64:$seed,
    I64:$layer,
    I64:$first_token,
    F64Attr:$eps
  );
  let results = (outs Moe_FloatTensor<[2]>:$output);
  let assemblyFormat = [{
    $input `eps` $eps `draw` `(` $seed `,` $layer `,` $first_token `)` attr-dict
    `:` type($input) `->` type($output)
  }];
}

def Moe_RouteHashOp : Moe_LayerOp<"route_hash"> {
  let summary = "token choice by a table: the experts of a vocabulary's entry";
  let description = [{
    ids[t, :] = table[token_ids[t], :] and weights 1: token ids [T] and table
    [V, k] (i32), ids and weights [T, k]. A token whose `mask` is false has
    empty slots only (id -1, weight 0). There are no logits, no gradient, and no
    capacity; moe.limit_capacity takes the result. A row of the table may name
    an expert twice, who then is computed twice.

    A token id outside [0, V), of masked tokens too, is a run-time error of the
    entry, and so is an expert outside [0, E) in a row of the table that is
    looked up. For weights by a router, give the ids to moe.route as `indices`.

    Labels: route_hash_c1 k of table and results, static; route_hash_c2 T of
    all; route_hash_c3 experts at least 1; route_hash_c4 the entries of a
    constant table are experts.

    Source: Hash layers (2106.04426) and their authors' code (read): a table of
    random experts, k = 1.

    ```mlir
    %ids, %weights = moe.route_hash %tokens, %table experts 8
        : tensor<?xi32>, tensor<32000x1xi32>
        -> tensor<?x1xi32>, tensor<?x1xf32>
    ```
  }];
  let arguments = (ins
    Moe_IndexTensor<[1]>:$token_ids,
    Moe_IndexTensor<[2]>:$table,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    I64Attr:$num_experts
  );
  let results = (outs
    Moe_IndexTensor<[2]>:$ids,
    Moe_FloatTensor<[2]>:$weights
  );
  let assemblyFormat = [{
    $token_ids `,` $table `experts` $num_experts
    (`mask` `(` $token_mask^ `:` type($token_mask) `)`)? attr-dict
    `:` type($token_ids) `,` type($table) `->` type($ids) `,` type($weights)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOETOKENOPS_TD
