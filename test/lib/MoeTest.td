//===- MoeTest.td - A test dialect's attributes -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LIB_MOETEST_TD
#define MOE_TEST_LIB_MOETEST_TD

include "mlir/IR/AttrTypeBase.td"
include "moe/Dialect/Moe/IR/MoeInterfaces.td"

def MoeTest_Dialect : Dialect {
  let name = "moe_test";
  let cppNamespace = "::mlir::moe_test";
  let summary = "routers and activations of somebody else's compiler";
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"
  ];
  let useDefaultAttributePrinterParser = 1;
}

class MoeTest_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<MoeTest_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
  let assemblyFormat = "`<` struct(params) `>`";
}

class MoeTest_Router<string name, string attrMnemonic>
    : MoeTest_Attr<name, attrMnemonic,
                   [DeclareAttrInterfaceMethods<Moe_RouterAttrInterface>]>;

def MoeTest_ThresholdAttr : MoeTest_Router<"Threshold", "threshold"> {
  let summary = "top-k of the logits whose sigmoid reaches a threshold";
  let description = [{
    The k largest of logit + bias in descending order, ties to the lower expert;
    their weights are the sigmoids of the logits. A slot whose weight is below
    `threshold` is empty. A NaN logit is never chosen.
  }];
  let parameters = (ins
    "int64_t":$k,
    DefaultValuedParameter<"::llvm::APFloat",
                           "::llvm::APFloat(0.5)">:$threshold
  );
}

def MoeTest_NoBodyAttr : MoeTest_Router<"NoBody", "no_body"> {
  let summary = "a router that declares itself but has no code";
  let parameters = (ins
    "int64_t":$k,
    DefaultValuedParameter<"bool", "false">:$mixed
  );
}

def MoeTest_RuleBreakerAttr : MoeTest_Router<"RuleBreaker", "rule_breaker"> {
  let summary = "a router whose token body breaks one of the rules";
  let description = [{
    `rule` names the rule: `read` and `write` use a row at an index that depends
    on the token, `shared` writes to a row of all tokens, `bound` counts to a
    number of the token, `branch` branches on it, `memory` uses a buffer.
  }];
  let parameters = (ins
    StringRefParameter<"the rule that is broken">:$rule
  );
  let genVerifyDecl = 1;
}

def MoeTest_CubeAttr : MoeTest_Attr<"Cube", "cube"> {
  let summary = "gate^3, times up where gated, times a factor";
  let parameters = (ins
    DefaultValuedParameter<"int64_t", "1">:$factor
  );
}

#endif // MOE_TEST_LIB_MOETEST_TD
