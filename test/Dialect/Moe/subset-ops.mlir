// The subset ops and the routers that sample: text, generic form, bytecode,
// sizes.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s
// RUN: moe-opt %s --resolve-ranked-shaped-type-result-dims --canonicalize \
// RUN:   | FileCheck %s --check-prefix=SIZE

// CHECK-LABEL: func.func @subsets(
func.func @subsets(%x: tensor<?x8xf32>, %v: tensor<?x8xf32>,
                   %ids: tensor<?x3xi32>, %seed: i64, %layer: i64,
                   %first: i64) {
  // CHECK: moe.subset_partition %{{.*}} size 2 to 3 : tensor<?x8xf32> -> tensor<?x2xf32>
  %0 = moe.subset_partition %x size 2 to 3
      : tensor<?x8xf32> -> tensor<?x2xf32>
  // CHECK: moe.subset_marginals %{{.*}} size 3 to 3 : tensor<?x8xf32> -> tensor<?x8xf32>
  %1 = moe.subset_marginals %x size 3 to 3
      : tensor<?x8xf32> -> tensor<?x8xf32>
  // CHECK: moe.subset_covariance %{{.*}}, %{{.*}} size 1 to 8 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %2 = moe.subset_covariance %x, %v size 1 to 8
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  // CHECK: moe.subset_sample %{{.*}} size 1 to 3 draw(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x8xf32> -> tensor<?x3xi32>
  %3 = moe.subset_sample %x size 1 to 3 draw(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x3xi32>
  // CHECK: moe.subset_log_prob %{{.*}}, %{{.*}} size 2 to 3 : tensor<?x8xf32>, tensor<?x3xi32> -> tensor<?xf32>
  %4 = moe.subset_log_prob %x, %ids size 2 to 3
      : tensor<?x8xf32>, tensor<?x3xi32> -> tensor<?xf32>
  return
}

// CHECK-LABEL: func.func @philox(
func.func @philox(%tokens: index, %seed: i64, %layer: i64, %first: i64)
    -> tensor<?x5xf32> {
  // CHECK: moe.philox %{{.*}} at(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x5xf32>
  %u = moe.philox %tokens at(%seed, %layer, %first) : tensor<?x5xf32>
  return %u : tensor<?x5xf32>
}

// CHECK-LABEL: func.func @routers(
func.func @routers(%x: tensor<?x8xf32>, %mask: tensor<?xi1>, %seed: i64,
                   %layer: i64, %first: i64) {
  // CHECK: moe.route #moe.exact_k<k = 3> %{{.*}} training(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  %a:2 = moe.route #moe.exact_k<k = 3> %x training(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  // CHECK: moe.route #moe.exact_k<k = 3, normalize = sum> %{{.*}} mask(%{{.*}} : tensor<?xi1>)
  %b:2 = moe.route #moe.exact_k<k = 3, normalize = sum> %x
      mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  // CHECK: moe.route #moe.dynamic_k<min = 2, max = 4> %{{.*}} mask(%{{.*}} : tensor<?xi1>) training(%{{.*}}, %{{.*}}, %{{.*}})
  %c:2 = moe.route #moe.dynamic_k<min = 2, max = 4> %x
      training(%seed, %layer, %first) mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x4xi32>, tensor<?x4xf32>
  // CHECK: moe.route #moe.moesart<k = 2> %{{.*}} : tensor<?x8xf32>
  %d:2 = moe.route #moe.moesart<k = 2, weighting = small_random> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.moesart<k = 2, weighting = zero, replacement = true, temperature = 5.000000e-01>
  %e:2 = moe.route #moe.moesart<k = 2, weighting = zero, replacement = true,
                                temperature = 0.5> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.noisy_top_k<k = 2> %{{.*}} noise(%{{.*}} : tensor<?x8xf32>) training(%{{.*}}, %{{.*}}, %{{.*}})
  %f:2 = moe.route #moe.noisy_top_k<k = 2> %x noise(%x : tensor<?x8xf32>)
      training(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.noisy_top_k<k = 2, noise = normal, std = 1.250000e-01, weights = all>
  %g:2 = moe.route #moe.noisy_top_k<k = 2, noise = normal, std = 0.125,
                                    weights = all> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route #moe.noisy_top_k<k = 1, noise = gumbel, weights = clean>
  %h:2 = moe.route #moe.noisy_top_k<k = 1, noise = gumbel, weights = clean> %x
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}

// SIZE-LABEL: func.func @sizes(
// SIZE-SAME:    %[[X:[^ ]*]]: tensor<?x8xf32>, %[[N:[^ ]*]]: index
// SIZE:         %[[T:.*]] = tensor.dim %[[X]], %c0
// SIZE:         %[[U:.*]] = tensor.dim %[[X]], %c0
// SIZE:         return %[[T]], %[[U]], %[[N]]
func.func @sizes(%x: tensor<?x8xf32>, %n: index, %r: i64)
    -> (index, index, index) {
  %c0 = arith.constant 0 : index
  %m = moe.subset_marginals %x size 3 to 3
      : tensor<?x8xf32> -> tensor<?x8xf32>
  %ids = moe.subset_sample %x size 1 to 3 draw(%r, %r, %r)
      : tensor<?x8xf32> -> tensor<?x3xi32>
  %u = moe.philox %n at(%r, %r, %r) : tensor<?x5xf32>
  %0 = tensor.dim %m, %c0 : tensor<?x8xf32>
  %1 = tensor.dim %ids, %c0 : tensor<?x3xi32>
  %2 = tensor.dim %u, %c0 : tensor<?x5xf32>
  return %0, %1, %2 : index, index, index
}
