// One case or more for every label of the primitives, named after it. The
// generic form serves where the text cannot express the mistake.
//
// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// group
//===----------------------------------------------------------------------===//

func.func @group_c1(%ids: memref<?x2xi32>, %o: memref<1xi32>,
                    %n: memref<?xi32>) {
  // expected-error @+1 {{'moe.group' op has 0 experts, not 1 to 2147483646 (group_c1)}}
  moe.group ins(%ids : memref<?x2xi32>)
      outs(%o, %n, %n, %n
           : memref<1xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c1_dynamic(%ids: memref<?x2xi32>, %n: memref<?xi32>) {
  // expected-error @+1 {{has ? experts, not 1 to 2147483646 (group_c1)}}
  moe.group ins(%ids : memref<?x2xi32>)
      outs(%n, %n, %n, %n
           : memref<?xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c2(%ids: memref<5x2xi32>, %o: memref<9xi32>,
                    %n: memref<?xi32>, %s: memref<9xi32>) {
  // expected-error @+1 {{ids has N = 10 but slot has 9 (group_c2)}}
  moe.group ins(%ids : memref<5x2xi32>)
      outs(%o, %n, %n, %s
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<9xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c2_overflow(%ids: memref<4294967296x4294967296xi32>,
                             %o: memref<9xi32>, %n: memref<?xi32>) {
  // expected-error @+1 {{ids have 4294967296 x 4294967296 slots, more than i32 offsets count (group_c2)}}
  moe.group ins(%ids : memref<4294967296x4294967296xi32>)
      outs(%o, %n, %n, %n
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c3_count(%ids: memref<?x2xi32>, %w: memref<?x2xf32>,
                          %o: memref<9xi32>, %n: memref<?xi32>) {
  // expected-error @+1 {{writes 5 results, not 4; weights and weight come together (group_c3)}}
  moe.group ins(%ids, %w : memref<?x2xi32>, memref<?x2xf32>)
      outs(%o, %n, %n, %n
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c3_element(%ids: memref<?x2xi32>, %o: memref<9xi32>,
                            %n: memref<?xi32>, %f: memref<?xf32>) {
  // expected-error @+1 {{result 1 has the wrong element type (group_c3)}}
  moe.group ins(%ids : memref<?x2xi32>)
      outs(%o, %f, %n, %n
           : memref<9xi32>, memref<?xf32>, memref<?xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c3_types(%ids: memref<?x2xi32>, %w: memref<?x2xf32>,
                          %o: memref<9xi32>, %n: memref<?xi32>,
                          %f: memref<?xbf16>) {
  // expected-error @+1 {{weights and weight differ in type (group_c3)}}
  moe.group ins(%ids, %w : memref<?x2xi32>, memref<?x2xf32>)
      outs(%o, %n, %n, %n, %f
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>,
             memref<?xbf16>)
      chosen_by <token>
  return
}

// -----

func.func @group_c3_shape(%ids: memref<?x2xi32>, %w: memref<?x3xf32>,
                          %o: memref<9xi32>, %n: memref<?xi32>,
                          %f: memref<?xf32>) {
  // expected-error @+1 {{ids has second size = 2 but weights has 3 (group_c3)}}
  moe.group ins(%ids, %w : memref<?x2xi32>, memref<?x3xf32>)
      outs(%o, %n, %n, %n, %f
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>,
             memref<?xf32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c4(%ids: memref<5x2xi32>, %o: memref<9xi32>,
                    %n: memref<?xi32>, %f: memref<5xi32>) {
  // expected-error @+1 {{first (less one) has T = 4 but ids has 5 (group_c4)}}
  moe.group ins(%ids : memref<5x2xi32>)
      outs(%o, %n, %f, %n
           : memref<9xi32>, memref<?xi32>, memref<5xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_c4_empty(%ids: memref<8x?xi32>, %o: memref<9xi32>,
                          %n: memref<?xi32>, %f: memref<0xi32>) {
  // expected-error @+1 {{first (less one) has T = -1 (group_c4)}}
  moe.group ins(%ids : memref<8x?xi32>)
      outs(%o, %n, %f, %n
           : memref<9xi32>, memref<?xi32>, memref<0xi32>, memref<?xi32>)
      chosen_by <expert>
  return
}

// -----

func.func @group_c5(%ids: memref<7x?xi32>, %o: memref<9xi32>,
                    %n: memref<?xi32>) {
  // expected-error @+1 {{offsets (less one) has E = 8 but ids has 7 (group_c5)}}
  moe.group ins(%ids : memref<7x?xi32>)
      outs(%o, %n, %n, %n
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <expert>
  return
}

// -----

func.func @group_c6(%ids: tensor<?x2xi32>, %o: memref<9xi32>,
                    %n: memref<?xi32>) {
  // expected-error @+1 {{mixes tensors and memrefs (group_c6)}}
  moe.group ins(%ids : tensor<?x2xi32>)
      outs(%o, %n, %n, %n
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_results(%ids: tensor<?x2xi32>, %o: tensor<9xi32>,
                         %n: tensor<?xi32>) {
  // expected-error @+1 {{expected the number of tensor results (0) to be equal to the number of output tensors (4)}}
  moe.group ins(%ids : tensor<?x2xi32>)
      outs(%o, %n, %n, %n
           : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>)
      chosen_by <token>
  return
}

// -----

func.func @group_unranked(%ids: memref<*xi32>, %o: memref<9xi32>,
                          %n: memref<?xi32>) {
  // expected-error @+1 {{operand #0 must be 2D tensor of 32-bit signless integer values or 2D memref of 32-bit signless integer values, but got 'memref<*xi32>'}}
  moe.group ins(%ids : memref<*xi32>)
      outs(%o, %n, %n, %n
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <token>
  return
}

// -----

//===----------------------------------------------------------------------===//
// grouped_matmul
//===----------------------------------------------------------------------===//

func.func @grouped_matmul_c1_three(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                   %y: memref<?x6xf32>) {
  // expected-error @+1 {{takes one or two weights and a destination, not 3 and 1 (grouped_matmul_c1)}}
  moe.grouped_matmul %x
      weights(%w, %w, %w
              : memref<1x6x4xf32>, memref<1x6x4xf32>, memref<1x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32, %b: f32, %c: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c1_none(%x: memref<?x4xf32>, %y: memref<?x6xf32>) {
  // expected-error @+1 {{takes one or two weights and a destination, not 0 and 1 (grouped_matmul_c1)}}
  "moe.grouped_matmul"(%x, %y)
      <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 1>}> ({
    %zero = arith.constant 0.0 : f32
    moe.yield %zero : f32
  }) : (memref<?x4xf32>, memref<?x6xf32>) -> ()
  return
}

// -----

// Nothing says how many rows such a product has.
func.func @grouped_matmul_c1_no_result(%x: memref<?x4xf32>,
                                       %w: memref<1x6x4xf32>) {
  // expected-error @+1 {{takes one or two weights and a destination, not 1 and 0 (grouped_matmul_c1)}}
  "moe.grouped_matmul"(%x, %w)
      <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 1, 0, 0, 0, 0>}> ({
  ^bb0(%a: f32):
    moe.yield
  }) : (memref<?x4xf32>, memref<1x6x4xf32>) -> ()
  return
}

// -----

func.func @grouped_matmul_c1_lhs(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                 %y: memref<?x6xf32>) {
  // expected-error @+1 {{takes one lhs or one for each weight, not 2 (grouped_matmul_c1)}}
  moe.grouped_matmul %x, %x weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32>, memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c1_no_lhs(%w: memref<1x6x4xf32>,
                                    %y: memref<?x6xf32>) {
  // expected-error @+1 {{takes one lhs or one for each weight, not 0 (grouped_matmul_c1)}}
  "moe.grouped_matmul"(%w, %y)
      <{operandSegmentSizes = array<i32: 0, 0, 0, 0, 1, 0, 0, 0, 1>}> ({
  ^bb0(%a: f32):
    moe.yield %a : f32
  }) : (memref<1x6x4xf32>, memref<?x6xf32>) -> ()
  return
}

// -----

func.func @grouped_matmul_c1_types(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                   %v: memref<1x6x4xbf16>,
                                   %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights differ in type (grouped_matmul_c1)}}
  moe.grouped_matmul %x weights(%w, %v : memref<1x6x4xf32>, memref<1x6x4xbf16>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c1_dynamic(%x: memref<?x4xf32>, %w: memref<1x?x4xf32>,
                                     %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights need static sizes (grouped_matmul_c1)}}
  moe.grouped_matmul %x weights(%w : memref<1x?x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c2(%x: memref<?x5xf32>, %w: memref<1x6x4xf32>,
                             %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights has D = 4 but lhs has 5 (grouped_matmul_c2)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x5xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c3(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                             %y: memref<?x7xf32>) {
  // expected-error @+1 {{weights has J = 6 but result has 7 (grouped_matmul_c3)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<?x7xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c2_second(%x: memref<?x4xf32>, %z: memref<?x5xf32>,
                                    %w: memref<1x6x4xf32>,
                                    %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights has D = 4 but lhs has 5 (grouped_matmul_c2)}}
  moe.grouped_matmul %x, %z
      weights(%w, %w : memref<1x6x4xf32>, memref<1x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32>, memref<?x5xf32> {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c3_elements(%x: memref<?x4xf32>,
                                      %w: memref<1x6x4xf32>,
                                      %e: memref<?x7xf32>,
                                      %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights has J = 6 but elements has 7 (grouped_matmul_c3)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      elements(%e : memref<?x7xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c3_second(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                    %y: memref<?x6xf32>, %z: memref<?x7xf32>) {
  // expected-error @+1 {{weights has J = 6 but result has 7 (grouped_matmul_c3)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y, %z : memref<?x6xf32>, memref<?x7xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a, %a : f32, f32
  }
  return
}

// -----

func.func @grouped_matmul_c3_in_out(%x: memref<?x4xf32>, %w: memref<1x4x6xf32>,
                                    %b: memref<1x4xf32>, %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights has J = 6 but bias has 4 (grouped_matmul_c3)}}
  moe.grouped_matmul %x weights(%w : memref<1x4x6xf32>)
      biases(%b : memref<1x4xf32>) in_out
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32, %c: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c4(%x: memref<?x4xf32>, %w: memref<2x6x4xf32>,
                             %o: memref<4xi32>, %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights has E = 2 but offsets (less one) has 3 (grouped_matmul_c4)}}
  moe.grouped_matmul %x offsets(%o : memref<4xi32>)
      weights(%w : memref<2x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c4_bias(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                  %b: memref<2x6xf32>, %y: memref<?x6xf32>) {
  // expected-error @+1 {{weights has E = 1 but bias has 2 (grouped_matmul_c4)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      biases(%b : memref<2x6xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32, %c: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c4_none(%x: memref<?x4xf32>, %w: memref<0x6x4xf32>,
                                  %o: memref<1xi32>, %y: memref<?x6xf32>) {
  // expected-error @+1 {{has 0 experts, not 1 to 2147483646 (grouped_matmul_c4)}}
  moe.grouped_matmul %x offsets(%o : memref<1xi32>)
      weights(%w : memref<0x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c5(%x: memref<5x4xf32>, %w: memref<1x6x4xf32>,
                             %y: memref<7x6xf32>) {
  // expected-error @+1 {{lhs has N = 5 but result has 7 (grouped_matmul_c5)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<7x6xf32>) : memref<5x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// With gathered rows, lhs has any number of rows.
func.func @grouped_matmul_c5_rows(%x: memref<5x4xf32>, %w: memref<1x6x4xf32>,
                                  %r: memref<7xi32>, %s: memref<8xf32>,
                                  %y: memref<7x6xf32>) {
  // expected-error @+1 {{result has N = 7 but row_scale has 8 (grouped_matmul_c5)}}
  moe.grouped_matmul %x rows(%r : memref<7xi32>) row_scale(%s : memref<8xf32>)
      weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<7x6xf32>) : memref<5x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c5_elements(%x: memref<5x4xf32>,
                                      %w: memref<1x6x4xf32>,
                                      %e: memref<7x6xf32>,
                                      %y: memref<5x6xf32>) {
  // expected-error @+1 {{lhs has N = 5 but elements has 7 (grouped_matmul_c5)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      elements(%e : memref<7x6xf32>)
      outs(%y : memref<5x6xf32>) : memref<5x4xf32> {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c5_values(%x: memref<5x4xf32>,
                                    %w: memref<1x6x4xf32>, %v: memref<7xf32>,
                                    %y: memref<5x6xf32>) {
  // expected-error @+1 {{lhs has N = 5 but row_values has 7 (grouped_matmul_c5)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      row_values(%v : memref<7xf32>)
      outs(%y : memref<5x6xf32>) : memref<5x4xf32> {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// Without gathered rows, every lhs has a row for each of the result's.
func.func @grouped_matmul_c5_second(%x: memref<5x4xf32>, %z: memref<7x4xf32>,
                                    %w: memref<1x6x4xf32>,
                                    %y: memref<?x6xf32>) {
  // expected-error @+1 {{lhs has N = 5 but lhs has 7 (grouped_matmul_c5)}}
  moe.grouped_matmul %x, %z
      weights(%w, %w : memref<1x6x4xf32>, memref<1x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<5x4xf32>, memref<7x4xf32> {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c6_arguments(%x: memref<?x4xf32>,
                                       %w: memref<1x6x4xf32>,
                                       %y: memref<?x6xf32>) {
  // expected-error @+1 {{epilogue takes 1 values of type 'f32' and yields 1 (grouped_matmul_c6)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c6_yield(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                   %y: memref<?x6xf32>) {
  // expected-error @+1 {{epilogue takes 1 values of type 'f32' and yields 1 (grouped_matmul_c6)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield
  }
  return
}

// -----

func.func @grouped_matmul_c6_yields(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                    %y: memref<?x6xf32>) {
  // expected-error @+1 {{epilogue takes 1 values of type 'f32' and yields 2 (grouped_matmul_c6)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y, %y : memref<?x6xf32>, memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// Elements and row values are arguments too.
func.func @grouped_matmul_c6_values(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                    %v: memref<?xf32>, %y: memref<?x6xf32>) {
  // expected-error @+1 {{epilogue takes 3 values of type 'f32' and yields 1 (grouped_matmul_c6)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      elements(%y : memref<?x6xf32>) row_values(%v : memref<?xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// f64 in any operand or in the result makes the arithmetic f64.
func.func @grouped_matmul_c6_f64(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                 %y: memref<?x6xf64>) {
  // expected-error @+1 {{epilogue takes 1 values of type 'f64' and yields 1 (grouped_matmul_c6)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y : memref<?x6xf64>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c6_no_block(%x: memref<?x4xf32>,
                                      %w: memref<1x6x4xf32>,
                                      %y: memref<?x6xf32>) {
  // expected-error @+1 {{region #0 ('epilogue') failed to verify constraint: region with 1 blocks}}
  "moe.grouped_matmul"(%x, %w, %y)
      <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 1, 0, 0, 0, 1>}> ({
  }) : (memref<?x4xf32>, memref<1x6x4xf32>, memref<?x6xf32>) -> ()
  return
}

// -----

func.func @grouped_matmul_c7(%x: memref<?x4xf32>, %w: memref<2x6x4xf32>,
                             %y: memref<?x6xf32>) {
  // expected-error @+1 {{has 2 experts but no offsets to give them rows (grouped_matmul_c7)}}
  moe.grouped_matmul %x weights(%w : memref<2x6x4xf32>)
      outs(%y : memref<?x6xf32>) : memref<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c8(%x: tensor<?x4xf32>, %w: memref<1x6x4xf32>,
                             %y: tensor<?x6xf32>) {
  // expected-error @+1 {{mixes tensors and memrefs (grouped_matmul_c8)}}
  %0 = moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      outs(%y : tensor<?x6xf32>) : tensor<?x4xf32> -> tensor<?x6xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @grouped_matmul_c1_rank(%x: memref<?x4xf32>,
                                  %w: memref<1x1x4x16x1xf32>,
                                  %dest: memref<?x6xf32>) {
  // expected-error @+1 {{weights have 5 dimensions, not 3 (grouped_matmul_c1)}}
  moe.grouped_matmul %x weights(%w : memref<1x1x4x16x1xf32>)
      outs(%dest : memref<?x6xf32>)
      : memref<?x4xf32> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  return
}

// -----

func.func @grouped_matmul_c9_rank(%x: memref<?x4xf32>, %w: memref<1x6x4xf32>,
                                  %dest: memref<?x6xf32>) {
  // expected-error @+1 {{weights have 3 dimensions, not 5 as in panels (grouped_matmul_c9)}}
  moe.grouped_matmul %x weights(%w : memref<1x6x4xf32>)
      panels<columns = 16, steps = 1, sides = 1>
      outs(%dest : memref<?x6xf32>)
      : memref<?x4xf32> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  return
}

// -----

func.func @grouped_matmul_c9_shape(%x: memref<?x4xf32>,
                                   %w: memref<1x1x4x16x1xf32>,
                                   %dest: memref<?x20xf32>) {
  // expected-error @+1 {{has panels of shape [1, 1, 4, 16, 1], expected [1, 2, 4, 16, 1] (grouped_matmul_c9)}}
  moe.grouped_matmul %x weights(%w : memref<1x1x4x16x1xf32>)
      panels<columns = 16, steps = 1, sides = 1>
      outs(%dest : memref<?x20xf32>)
      : memref<?x4xf32> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  return
}

// -----

func.func @grouped_matmul_c9_in_out(%x: memref<?x4xf32>,
                                    %w: memref<1x1x4x16x1xf32>,
                                    %dest: memref<?x6xf32>) {
  // expected-error @+1 {{with panels takes one weight tensor, one lhs and no in_out (grouped_matmul_c9)}}
  moe.grouped_matmul %x weights(%w : memref<1x1x4x16x1xf32>)
      panels<columns = 16, steps = 1, sides = 1> in_out
      outs(%dest : memref<?x6xf32>)
      : memref<?x4xf32> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  return
}

// -----

func.func @grouped_matmul_c9_dynamic(%x: memref<?x?xf32>,
                                     %w: memref<1x1x4x16x1xf32>,
                                     %dest: memref<?x6xf32>) {
  // expected-error @+1 {{with panels needs static J and D (grouped_matmul_c9)}}
  moe.grouped_matmul %x weights(%w : memref<1x1x4x16x1xf32>)
      panels<columns = 16, steps = 1, sides = 1>
      outs(%dest : memref<?x6xf32>)
      : memref<?x?xf32> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  return
}

// -----

func.func @yield_parent(%a: f32) {
  // expected-error @+1 {{'moe.yield' op expects parent op 'moe.grouped_matmul'}}
  moe.yield %a : f32
}

// -----

//===----------------------------------------------------------------------===//
// combine_slots
//===----------------------------------------------------------------------===//

func.func @combine_slots_c1(%r: memref<?x4xf32>, %i: memref<?xi32>,
                            %y: memref<?x5xf32>) {
  // expected-error @+1 {{rows has D = 4 but result has 5 (combine_slots_c1)}}
  moe.combine_slots %r, %i, %i outs(%y : memref<?x5xf32>)
      : memref<?x4xf32>, memref<?xi32>, memref<?xi32>
  return
}

// -----

func.func @combine_slots_c1_two(%r: memref<?x4xf32>, %i: memref<?xi32>,
                                %y: memref<?x4xf32>) {
  // expected-error @+1 {{has one destination, not 2 (combine_slots_c1)}}
  moe.combine_slots %r, %i, %i outs(%y, %y : memref<?x4xf32>, memref<?x4xf32>)
      : memref<?x4xf32>, memref<?xi32>, memref<?xi32>
  return
}

// -----

func.func @combine_slots_c2(%r: memref<8x4xf32>, %f: memref<?xi32>,
                            %s: memref<9xi32>, %y: memref<?x4xf32>) {
  // expected-error @+1 {{rows has N = 8 but slot has 9 (combine_slots_c2)}}
  moe.combine_slots %r, %f, %s outs(%y : memref<?x4xf32>)
      : memref<8x4xf32>, memref<?xi32>, memref<9xi32>
  return
}

// -----

func.func @combine_slots_c3(%r: memref<?x4xf32>, %f: memref<5xi32>,
                            %s: memref<?xi32>, %y: memref<5x4xf32>) {
  // expected-error @+1 {{result has T = 5 but first (less one) has 4 (combine_slots_c3)}}
  moe.combine_slots %r, %f, %s outs(%y : memref<5x4xf32>)
      : memref<?x4xf32>, memref<5xi32>, memref<?xi32>
  return
}

// -----

func.func @combine_slots_c3_empty(%r: memref<?x4xf32>, %f: memref<0xi32>,
                                  %s: memref<?xi32>, %y: memref<?x4xf32>) {
  // expected-error @+1 {{first (less one) has T = -1 (combine_slots_c3)}}
  moe.combine_slots %r, %f, %s outs(%y : memref<?x4xf32>)
      : memref<?x4xf32>, memref<0xi32>, memref<?xi32>
  return
}

// -----

func.func @combine_slots_c4(%r: memref<?x4xf32>, %i: memref<?xi32>,
                            %w: memref<?xf32>, %y: memref<?x4xf32>) {
  // expected-error @+1 {{identity and its weight come together (combine_slots_c4)}}
  "moe.combine_slots"(%r, %i, %i, %w, %y)
      <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0, 1>}>
      : (memref<?x4xf32>, memref<?xi32>, memref<?xi32>, memref<?xf32>,
         memref<?x4xf32>) -> ()
  return
}

// -----

func.func @combine_slots_c5(%r: tensor<?x4xf32>, %i: memref<?xi32>,
                            %y: memref<?x4xf32>) {
  // expected-error @+1 {{mixes tensors and memrefs (combine_slots_c5)}}
  moe.combine_slots %r, %i, %i outs(%y : memref<?x4xf32>)
      : tensor<?x4xf32>, memref<?xi32>, memref<?xi32>
  return
}

// -----

func.func @combine_slots_c6(%r: memref<?x4xf32>, %i: memref<?xi32>,
                            %y: memref<?x4xf32>) {
  // expected-error @+1 {{scale is not finite (combine_slots_c6)}}
  moe.combine_slots %r, %i, %i outs(%y : memref<?x4xf32>)
      {scale = 0x7FF0000000000000 : f64}
      : memref<?x4xf32>, memref<?xi32>, memref<?xi32>
  return
}

// -----

func.func @combine_slots_segments(%r: memref<?x4xf32>, %i: memref<?xi32>,
                                  %y: memref<?x4xf32>) {
  // expected-error @+1 {{operand count (4) does not match with the total size (5) specified in attribute 'operandSegmentSizes'}}
  "moe.combine_slots"(%r, %i, %i, %y)
      <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 2>}>
      : (memref<?x4xf32>, memref<?xi32>, memref<?xi32>, memref<?x4xf32>) -> ()
  return
}

// -----

//===----------------------------------------------------------------------===//
// top_k
//===----------------------------------------------------------------------===//

func.func @top_k_op_c1_count(%x: memref<?x8xf32>, %v: memref<?x2xf32>) {
  // expected-error @+1 {{writes values of its input's type and i32 indices (top_k_op_c1)}}
  moe.top_k ins(%x : memref<?x8xf32>) outs(%v : memref<?x2xf32>)
  return
}

// -----

func.func @top_k_op_c1_type(%x: memref<?x8xf32>, %v: memref<?x2xbf16>,
                            %i: memref<?x2xi32>) {
  // expected-error @+1 {{writes values of its input's type and i32 indices (top_k_op_c1)}}
  moe.top_k ins(%x : memref<?x8xf32>)
      outs(%v, %i : memref<?x2xbf16>, memref<?x2xi32>)
  return
}

// -----

func.func @top_k_op_c1_tokens(%x: memref<5x8xf32>, %v: memref<5x2xf32>,
                              %i: memref<4x2xi32>) {
  // expected-error @+1 {{values has T = 5 but second result has 4 (top_k_op_c1)}}
  moe.top_k ins(%x : memref<5x8xf32>)
      outs(%v, %i : memref<5x2xf32>, memref<4x2xi32>)
  return
}

// -----

func.func @top_k_op_c2(%x: memref<?x8xf32>, %v: memref<?x2xf32>,
                       %i: memref<?x3xi32>) {
  // expected-error @+1 {{first result has k = 2 but second result has 3 (top_k_op_c2)}}
  moe.top_k ins(%x : memref<?x8xf32>)
      outs(%v, %i : memref<?x2xf32>, memref<?x3xi32>)
  return
}

// -----

func.func @top_k_op_c3(%x: memref<?x8xf32>, %v: memref<?x9xf32>,
                       %i: memref<?x9xi32>) {
  // expected-error @+1 {{chooses k = 9 of 8 (top_k_op_c3)}}
  moe.top_k ins(%x : memref<?x8xf32>)
      outs(%v, %i : memref<?x9xf32>, memref<?x9xi32>)
  return
}

// -----

func.func @top_k_op_c3_none(%x: memref<?x8xf32>, %v: memref<?x0xf32>,
                            %i: memref<?x0xi32>) {
  // expected-error @+1 {{chooses k = 0 of 8 (top_k_op_c3)}}
  moe.top_k ins(%x : memref<?x8xf32>)
      outs(%v, %i : memref<?x0xf32>, memref<?x0xi32>)
  return
}

// -----

func.func @top_k_op_c3_dynamic(%x: memref<?x?xf32>, %v: memref<?x?xf32>,
                               %i: memref<?x?xi32>) {
  // expected-error @+1 {{chooses k = ? of ? (top_k_op_c3)}}
  moe.top_k ins(%x : memref<?x?xf32>)
      outs(%v, %i : memref<?x?xf32>, memref<?x?xi32>)
  return
}

// -----

func.func @top_k_op_c4(%x: memref<?x8xf32>, %v: memref<?x2xf32>,
                       %i: tensor<?x2xi32>) {
  // expected-error @+1 {{mixes tensors and memrefs (top_k_op_c4)}}
  %0 = moe.top_k ins(%x : memref<?x8xf32>)
      outs(%v, %i : memref<?x2xf32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  return
}
