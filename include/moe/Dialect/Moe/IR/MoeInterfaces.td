//===- MoeInterfaces.td - Interfaces of attributes -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEINTERFACES_TD
#define MOE_DIALECT_MOE_IR_MOEINTERFACES_TD

include "mlir/IR/OpBase.td"

def Moe_RouterAttrInterface : AttrInterface<"RouterAttrInterface"> {
  let cppNamespace = "::mlir::moe";
  let description = [{
    A router: the rule by which logits become a routing. A router is an
    attribute, so that a compiler can register its own; nothing in the passes
    names one. This interface holds what is declared; the code a token-local
    router runs is the `TokenBodyAttrInterface`, which can be attached from
    outside.
  }];
  let methods = [
    InterfaceMethod<[{
      What the routing of one token depends on: its own logits (`token`), its
      group's through a mix in front (`mixed`), or its group's (`global`).
    }], "::mlir::moe::Locality", "getLocality">,
    InterfaceMethod<[{
      The number of slots k of a token, or std::nullopt where experts choose.
    }], "std::optional<int64_t>", "getNumSlots">,
    InterfaceMethod<[{
      Whether it draws random numbers in training.
    }], "bool", "isSampled", (ins), [{}], [{ return false; }]>,
    InterfaceMethod<[{
      Checks the router against a router width and the optional operands that
      are present, and reports what does not fit.
    }], "::llvm::LogicalResult", "verifyRoute",
      (ins "::llvm::function_ref<::mlir::InFlightDiagnostic()>":$emitError,
           "int64_t":$width, "const ::mlir::moe::RouteOperandSet &":$operands)>
  ];
}

def Moe_TokenBodyAttrInterface : AttrInterface<"TokenBodyAttrInterface"> {
  let cppNamespace = "::mlir::moe";
  let description = [{
    The code of a token-local router: arith, math and scf on scalars of one
    token. The framework owns the token axis and makes of this body a scalar
    loop, SIMD lanes or GPU lanes.

    Rules that make this possible: every scf.for has bounds that are equal for
    all tokens; a row is read at an index equal for all tokens (constants and
    induction variables); a choice is an arith.select. What few tokens need may
    stand in an scf.if whose else part does nothing: on lanes it runs where any
    lane needs it, and changes the values and rows of those lanes alone.
  }];
  let methods = [
    InterfaceMethod<[{
      Emits the body at the builder's place and returns ids and weights, one
      scalar a slot: i32 and the body's compute type.
    }], "::mlir::moe::TokenBodyResult", "buildTokenBody",
      (ins "::mlir::ImplicitLocOpBuilder &":$builder,
           "const ::mlir::moe::TokenBodyInputs &":$inputs)>
  ];
}

def Moe_TokenVJPAttrInterface : AttrInterface<"TokenVJPAttrInterface"> {
  let cppNamespace = "::mlir::moe";
  let description = [{
    The backward of a token-local router, which is what moe.route_vjp runs: a
    body like that of `TokenBodyAttrInterface` and under its rules.
  }];
  let methods = [
    InterfaceMethod<[{
      Emits the body at the builder's place, from what the route read and chose
      and the cotangents of its weights.
    }], "::mlir::moe::TokenVJPResult", "buildTokenVJP",
      (ins "::mlir::ImplicitLocOpBuilder &":$builder,
           "const ::mlir::moe::TokenVJPInputs &":$inputs)>,
    InterfaceMethod<[{
      Whether the gradient is the derivative of the weights while the ids stay
      the same, so that finite differences show it; `training` is whether the
      route draws. False for surrogates.
    }], "bool", "isDerivative", (ins "bool":$training), [{}],
      [{ return true; }]>
  ];
}

def Moe_DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::mlir::moe";
  let description = [{
    An op with a backward. It can be attached from outside the dialect, and is,
    to ops of the arith, math, tensor and linalg dialects.
  }];
  let methods = [
    InterfaceMethod<[{
      Emits the op's backward at the builder's place: reads the cotangents of
      its results, adds to those of its operands. At least one result has a
      cotangent and one operand wants one. The backward may read the op's
      operands and results. An op may see through operands that have no other
      user and add to what they are made of. On failure the op has reported an
      error.
    }], "::llvm::LogicalResult", "buildVJP",
      (ins "::mlir::ImplicitLocOpBuilder &":$builder,
           "::mlir::moe::Cotangents &":$cotangents)>,
    InterfaceMethod<[{
      What becomes of a result that a backward reads.
    }], "::mlir::moe::Residual", "getResidual", (ins "unsigned":$result), [{}],
      [{ return ::mlir::moe::Residual::saved; }]>
  ];
}

def Moe_TokenBodyOpInterface : OpInterface<"TokenBodyOpInterface"> {
  let cppNamespace = "::mlir::moe";
  let description = [{
    An op that treats every token apart, by the same kind of body as a router's:
    what follows from it alone is tiling over tokens, scalar loops, and SIMD
    lanes. Attached from outside the dialect, as bodies are code.
  }];
  let methods = [
    InterfaceMethod<[{
      The operands that have the token axis in front, of rank 1 or 2.
    }], "::llvm::SmallVector<::mlir::OpOperand *>", "getTokenOperands">,
    InterfaceMethod<[{
      The operand that counts the op's first token (i64), which a tile of tokens
      moves on; null for ops that do not ask who a token is.
    }], "::mlir::OpOperand *", "getFirstTokenOperand", (ins), [{}],
      [{ return nullptr; }]>,
    InterfaceMethod<[{
      Whether the body asks for the token's number. Without an operand that
      counts the first token, that token is number 0.
    }], "bool", "isNumbered", (ins), [{}], [{
        return ::llvm::cast<::mlir::moe::TokenBodyOpInterface>(
            $_op.getOperation()).getFirstTokenOperand() != nullptr;
      }]>,
    InterfaceMethod<[{
      Makes `first` (i64) the number of the first token.
    }], "void", "setFirstToken", (ins "::mlir::Value":$first), [{}], [{
        ::llvm::cast<::mlir::moe::TokenBodyOpInterface>($_op.getOperation())
            .getFirstTokenOperand()->set(first);
      }]>,
    InterfaceMethod<[{
      Emits assertions on operands by which a call can go wrong, in front of
      all tokens.
    }], "void", "emitChecks", (ins "::mlir::ImplicitLocOpBuilder &":$builder),
      [{}], [{ return; }]>,
    InterfaceMethod<[{
      Emits the body of one token and returns one value a result: `values` holds
      one value an operand (a row or scalar of the token for token operands, the
      operand itself for others, null for absent ones), floating-point rows of
      tokens in the compute type; `token` is the token's number (i64), null
      where the op is not numbered.
    }], "::llvm::SmallVector<::mlir::moe::TokenValue>", "buildTokenBody",
      (ins "::mlir::ImplicitLocOpBuilder &":$builder,
           "::mlir::ValueRange":$values, "::mlir::Value":$token,
           "::mlir::FloatType":$computeType)>
  ];
}

def Moe_ActivationAttrInterface : AttrInterface<"ActivationAttrInterface"> {
  let cppNamespace = "::mlir::moe";
  let description = [{
    An expert's activation: a generated body on scalars, never a name that a
    kernel looks up. Attachable from outside.
  }];
  let methods = [
    InterfaceMethod<[{
      Emits the activation of a gate value and, where gated, an up value, both
      of the same floating-point type; `up` is null where ungated.
    }], "::mlir::Value", "buildActivation",
      (ins "::mlir::ImplicitLocOpBuilder &":$builder, "::mlir::Value":$gate,
           "::mlir::Value":$up)>,
    InterfaceMethod<[{
      Emits the cotangents of the gate value and the up value (null where
      ungated) from that of the activation. The rule made from the body's own
      ops, unless an activation has one that is more robust.
    }], "::llvm::FailureOr<std::pair<::mlir::Value, ::mlir::Value>>",
      "buildActivationVJP",
      (ins "::mlir::ImplicitLocOpBuilder &":$builder, "::mlir::Value":$gate,
           "::mlir::Value":$up, "::mlir::Value":$cotangent), [{}], [{
        return ::mlir::moe::detail::buildActivationVJP(
            ::llvm::cast<::mlir::moe::ActivationAttrInterface>(
                ::mlir::Attribute($_attr)),
            builder, gate, up, cotangent);
      }]>
  ];
}

#endif // MOE_DIALECT_MOE_IR_MOEINTERFACES_TD
