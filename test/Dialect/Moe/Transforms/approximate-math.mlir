// RUN: moe-opt %s --moe-approximate-math | FileCheck %s

// CHECK-LABEL: func.func @lanes(
// CHECK-NOT:     math.exp
// CHECK-NOT:     math.log1p
// CHECK-NOT:     math.tanh
// CHECK-NOT:     math.erf
// CHECK:         math.fma {{.*}} : vector<16xf32>
// CHECK-NOT:     math.exp
// CHECK-NOT:     math.log1p
// CHECK-NOT:     math.tanh
// CHECK-NOT:     math.erf
// CHECK:         return
func.func @lanes(%x: vector<16xf32>) -> (vector<16xf32>, vector<16xf32>,
                                         vector<16xf32>, vector<16xf32>) {
  %0 = math.exp %x : vector<16xf32>
  %1 = math.log1p %x : vector<16xf32>
  %2 = math.tanh %x : vector<16xf32>
  %3 = math.erf %x : vector<16xf32>
  return %0, %1, %2, %3
      : vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>
}

// CHECK-LABEL: func.func @scalar(
// CHECK-NOT:     math.exp
// CHECK:         return
func.func @scalar(%x: f32) -> f32 {
  %0 = math.exp %x : f32
  return %0 : f32
}

// Of f64, and functions without a polynomial, the math library has the better
// ones.
// CHECK-LABEL: func.func @left(
// CHECK-DAG:     math.exp {{.*}} : vector<8xf64>
// CHECK-DAG:     math.powf {{.*}} : vector<16xf32>
// CHECK-DAG:     math.sqrt {{.*}} : vector<16xf32>
func.func @left(%x: vector<8xf64>, %y: vector<16xf32>)
    -> (vector<8xf64>, vector<16xf32>, vector<16xf32>) {
  %0 = math.exp %x : vector<8xf64>
  %1 = math.powf %y, %y : vector<16xf32>
  %2 = math.sqrt %y : vector<16xf32>
  return %0, %1, %2 : vector<8xf64>, vector<16xf32>, vector<16xf32>
}
