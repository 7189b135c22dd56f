// RUN: moe-opt %s --split-input-file --verify-diagnostics
// RUN: not moe-opt %S/Inputs/router-without-body.mlir --convert-moe-to-loops \
// RUN:   2>&1 | FileCheck %s --check-prefix=LOOPS
// RUN: not moe-opt %S/Inputs/router-without-body.mlir --convert-moe-to-linalg \
// RUN:   2>&1 | FileCheck %s --check-prefix=LINALG
// RUN: not moe-opt %S/Inputs/router-without-body.mlir --moe-cpu \
// RUN:   2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not moe-opt %S/Inputs/router-without-body.mlir --moe-oracle \
// RUN:   2>&1 | FileCheck %s --check-prefix=LOOPS

// A router without a body is an error of each road, on the route.

// LOOPS:  router-without-body.mlir:[[#]]:{{.*}} error: {{.*}}moe.route
// LOOPS-NOT: error:
// LINALG: router-without-body.mlir:[[#]]:{{.*}} error: 'moe.route' op has a router without a token body, #moe_test.no_body<k = 2>
// LINALG-NOT: error:
// CPU:    router-without-body.mlir:[[#]]:{{.*}} error: 'moe.route' op router #moe_test.no_body<k = 2> has no token body to generate code from
// CPU-NOT: error:

// What a router of another dialect objects to is the route's error.
func.func @too_many(%logits: tensor<?x3xf32>)
    -> (tensor<?x4xi32>, tensor<?x4xf32>) {
  // expected-error @below {{a threshold chooses 4 of 3}}
  %ids, %weights = moe.route #moe_test.threshold<k = 4> %logits
      : tensor<?x3xf32> -> tensor<?x4xi32>, tensor<?x4xf32>
  return %ids, %weights : tensor<?x4xi32>, tensor<?x4xf32>
}

// -----

func.func @operand(%logits: tensor<?x3xf32>, %scale: tensor<3xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  // expected-error @below {{a threshold takes no operand but a bias}}
  %ids, %weights = moe.route #moe_test.threshold<k = 2> %logits
      expert_scale(%scale : tensor<3xf32>)
      : tensor<?x3xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

func.func @no_router(%logits: tensor<?x3xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  // expected-error @below {{invalid kind of attribute specified}}
  %ids, %weights = moe.route #moe_test.cube<factor = 1> %logits
      : tensor<?x3xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
