// A router and an activation of another dialect run on all roads, with numbers
// computed by hand.

// REQUIRES: python
// RUN: rm -rf %t && mkdir -p %t/cpu %t/oracle %t/linalg
// RUN: %python %S/Inputs/external_router.py write %t
// RUN: moe-run %s --target=cpu --threads=2 \
// RUN:   --arg=logits=%t/logits.npy --arg=x=%t/x.npy \
// RUN:   --out=ids=%t/cpu/ids.npy --out=weights=%t/cpu/weights.npy \
// RUN:   --out=y=%t/cpu/y.npy
// RUN: moe-run %s --target=oracle \
// RUN:   --arg=logits=%t/logits.npy --arg=x=%t/x.npy \
// RUN:   --out=ids=%t/oracle/ids.npy --out=weights=%t/oracle/weights.npy \
// RUN:   --out=y=%t/oracle/y.npy
// RUN: moe-opt %s --convert-moe-to-linalg -o %t/linalg.mlir
// RUN: FileCheck %s --input-file=%t/linalg.mlir --check-prefix=UPSTREAM \
// RUN:   --implicit-check-not="= moe."
// RUN: moe-run %t/linalg.mlir \
// RUN:   --arg=logits=%t/logits.npy --arg=x=%t/x.npy \
// RUN:   --out=ids=%t/linalg/ids.npy --out=weights=%t/linalg/weights.npy \
// RUN:   --out=y=%t/linalg/y.npy
// RUN: %python %S/Inputs/external_router.py print %t/cpu | FileCheck %s
// RUN: %python %S/Inputs/external_router.py print %t/oracle | FileCheck %s
// RUN: %python %S/Inputs/external_router.py print %t/linalg | FileCheck %s

// Its own backward, and that of the activation, which is made of its body.
// RUN: moe-run %s --check-gradients --dim=T=9 --arg=logits=random:1 \
// RUN:   --arg=x=random:2 | FileCheck %s --check-prefix=GRADIENTS
// RUN: moe-run %s --check-gradients --dim=T=9 --arg=logits=random:1 \
// RUN:   --arg=x=random:2 --target=oracle \
// RUN:   | FileCheck %s --check-prefix=GRADIENTS

// GRADIENTS:      gradient of logits: {{.*}}: equal
// GRADIENTS-NEXT: gradient of x: {{.*}}: equal

// UPSTREAM: linalg.generic

// Sigmoids of 100 and 0 are 1 and 0.5. The bias of 50 on expert 2 moves the
// choice alone. Token 1 reaches no threshold; token 2 takes the lower of two
// equal experts; token 3 has a NaN logit, which is never chosen; token 4's first
// slot is empty, its second is not.
// CHECK:      ids repeats {{\[\[}}0, 1], [-1, -1], [2, 0], [2, 1], [-1, 0]]
// CHECK-NEXT: weights repeats {{\[\[}}1.0, 0.5], [0.0, 0.0], [0.5, 0.5], [1.0, 0.5], [0.0, 0.5]]

// Expert e gives (e + 1) * 2 x^3: token 0 has 1 * 2 x^3 + 0.5 * 4 x^3.
// CHECK-NEXT: y repeats {{\[\[}}4.0, 32.0], [0.0, 0.0], [4.0, -4.0], [64.0, 0.0], [-1.0, 1.0]]

func.func @layer(%logits: tensor<?x3xf32> {moe.name = "logits"},
                 %x: tensor<?x2xf32> {moe.name = "x"})
    -> (tensor<?x2xi32> {moe.name = "ids"},
        tensor<?x2xf32> {moe.name = "weights"},
        tensor<?x2xf32> {moe.name = "y"}) attributes {moe.entry} {
  %bias = arith.constant dense<[0.0, 0.0, 50.0]> : tensor<3xf32>
  %up = arith.constant dense<[[[1.0, 0.0], [0.0, 1.0]],
                              [[1.0, 0.0], [0.0, 1.0]],
                              [[1.0, 0.0], [0.0, 1.0]]]> : tensor<3x2x2xf32>
  %down = arith.constant dense<[[[1.0, 0.0], [0.0, 1.0]],
                                [[2.0, 0.0], [0.0, 2.0]],
                                [[3.0, 0.0], [0.0, 3.0]]]> : tensor<3x2x2xf32>
  %ids, %weights = moe.route #moe_test.threshold<k = 2> %logits
      bias(%bias : tensor<3xf32>)
      : tensor<?x3xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 3
      : (tensor<?x2xf32>, tensor<?x2xi32>) -> (tensor<?x2xf32>, tensor<4xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<4xi32>)
      up(%up : tensor<3x2x2xf32>) down(%down : tensor<3x2x2xf32>)
      activation #moe_test.cube<factor = 2> layout <orientation = out_in>
      : tensor<?x2xf32> -> tensor<?x2xf32>
  %y = moe.combine %h, %ids experts 3 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x2xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return %ids, %weights, %y
      : tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
}
