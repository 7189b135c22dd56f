// Routers of two experts, jitter, hashing, renormalising capacity: text,
// generic form, bytecode, sizes.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s
// RUN: moe-opt %s --resolve-ranked-shaped-type-result-dims --canonicalize \
// RUN:   | FileCheck %s --check-prefix=SIZE

// CHECK-LABEL: func.func @routers(
func.func @routers(%x: tensor<?x8xf32>, %mask: tensor<?xi1>, %seed: i64,
                   %layer: i64, %first: i64) {
  // Defaults are not printed.
  // CHECK: moe.route #moe.gshard<> %{{.*}} : tensor<?x8xf32>
  %a:2 = moe.route #moe.gshard<policy = all, threshold = 0.2,
                               normalize = before, eps = 1.0e-9> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.gshard<policy = random, threshold = 5.000000e-01> %{{.*}} mask(%{{.*}} : tensor<?xi1>) training(%{{.*}}, %{{.*}}, %{{.*}})
  %b:2 = moe.route #moe.gshard<policy = random, threshold = 0.5> %x
      mask(%mask : tensor<?xi1>) training(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.gshard<policy = sampling, normalize = after, eps = 0.000000e+00>
  %c:2 = moe.route #moe.gshard<policy = sampling, normalize = after,
                               eps = 0.0> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.gshard<policy = none>
  %d:2 = moe.route #moe.gshard<policy = none> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.gshard<policy = threshold>
  %e:2 = moe.route #moe.gshard<policy = threshold> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.sparse_mixer<> %{{.*}} training(%{{.*}}, %{{.*}}, %{{.*}})
  %f:2 = moe.route #moe.sparse_mixer<eps = 0.01> %x
      training(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.sparse_mixer<eps = 1.000000e-01, third = 2.500000e-01>
  %g:2 = moe.route #moe.sparse_mixer<eps = 0.1, third = 0.25> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.noisy_top_k<k = 1, noise = gumbel, weights = clean, temperature = 5.000000e-01>
  %h:2 = moe.route #moe.noisy_top_k<k = 1, noise = gumbel, weights = clean,
                                    temperature = 0.5> %x
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}

// CHECK-LABEL: func.func @ops(
func.func @ops(%x: tensor<?x64xbf16>, %tokens: tensor<?xi32>,
               %table: tensor<100x2xi32>, %mask: tensor<?xi1>,
               %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>,
               %groups: tensor<3xi32>, %seed: i64, %layer: i64, %first: i64) {
  // CHECK: moe.jitter %{{.*}} eps 1.000000e-02 draw(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x64xbf16> -> tensor<?x64xf32>
  %a = moe.jitter %x eps 1.0e-2 draw(%seed, %layer, %first)
      : tensor<?x64xbf16> -> tensor<?x64xf32>
  // CHECK: moe.route_hash %{{.*}}, %{{.*}} experts 8 : tensor<?xi32>, tensor<100x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %b:2 = moe.route_hash %tokens, %table experts 8
      : tensor<?xi32>, tensor<100x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route_hash %{{.*}}, %{{.*}} experts 8 mask(%{{.*}} : tensor<?xi1>)
  %c:2 = moe.route_hash %tokens, %table experts 8 mask(%mask : tensor<?xi1>)
      : tensor<?xi32>, tensor<100x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.limit_capacity %{{.*}}, %{{.*}} experts 8 by <factor = 2.000000e+00> queue <first_come> normalize 1.000000e-09 groups(%{{.*}} : tensor<3xi32>)
  %d:2 = moe.limit_capacity %ids, %w experts 8 by #moe.capacity<factor = 2.0>
      queue <first_come> normalize 1.0e-9 groups(%groups : tensor<3xi32>)
      : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// SIZE-LABEL: func.func @sizes(
// SIZE-SAME:    %[[X:[^ ]*]]: tensor<?x8xf32>, %[[I:[^ ]*]]: tensor<?xi32>
// SIZE:         %[[T:.*]] = tensor.dim %[[X]], %c0
// SIZE:         %[[U:.*]] = tensor.dim %[[I]], %c0
// SIZE:         %[[V:.*]] = tensor.dim %[[I]], %c0
// SIZE:         return %[[T]], %[[U]], %[[V]], %c2
func.func @sizes(%x: tensor<?x8xf32>, %tokens: tensor<?xi32>,
                 %table: tensor<?x2xi32>, %r: i64)
    -> (index, index, index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %y = moe.jitter %x eps 0.1 draw(%r, %r, %r)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  %ids, %w = moe.route_hash %tokens, %table experts 8
      : tensor<?xi32>, tensor<?x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %0 = tensor.dim %y, %c0 : tensor<?x8xf32>
  %1 = tensor.dim %ids, %c0 : tensor<?x2xi32>
  %2 = tensor.dim %w, %c0 : tensor<?x2xf32>
  %3 = tensor.dim %ids, %c1 : tensor<?x2xi32>
  return %0, %1, %2, %3 : index, index, index, index
}
