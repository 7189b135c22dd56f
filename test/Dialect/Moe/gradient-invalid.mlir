// Every rule of the ops of backwards, broken once or more.
//
// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// grouped_outer
//===----------------------------------------------------------------------===//

func.func @grouped_outer_c1(%x: memref<?x6xf32>, %y: memref<?x4xf32>,
                            %d: memref<1x6x4xf32>) {
  // expected-error @below {{has one destination, not 2 (grouped_outer_c1)}}
  moe.grouped_outer %x by %y outs(%d, %d : memref<1x6x4xf32>, memref<1x6x4xf32>)
      : memref<?x6xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_c1_none(%x: memref<?x6xf32>, %y: memref<?x4xf32>) {
  // expected-error @below {{has one destination, not 0 (grouped_outer_c1)}}
  "moe.grouped_outer"(%x, %y)
      <{operandSegmentSizes = array<i32: 1, 0, 1, 0, 0, 0>}>
      : (memref<?x6xf32>, memref<?x4xf32>) -> ()
  return
}

// -----

func.func @grouped_outer_c1_dynamic(%x: memref<?x6xf32>, %y: memref<?x4xf32>,
                                    %d: memref<1x6x?xf32>) {
  // expected-error @below {{result needs static sizes (grouped_outer_c1)}}
  moe.grouped_outer %x by %y outs(%d : memref<1x6x?xf32>)
      : memref<?x6xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_c2(%x: memref<?x5xf32>, %y: memref<?x4xf32>,
                            %d: memref<1x6x4xf32>) {
  // expected-error @below {{lhs has J = 5 but result has 6 (grouped_outer_c2)}}
  moe.grouped_outer %x by %y outs(%d : memref<1x6x4xf32>)
      : memref<?x5xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_c3(%x: memref<?x6xf32>, %y: memref<?x5xf32>,
                            %d: memref<1x6x4xf32>) {
  // expected-error @below {{rhs has D = 5 but result has 4 (grouped_outer_c3)}}
  moe.grouped_outer %x by %y outs(%d : memref<1x6x4xf32>)
      : memref<?x6xf32>, memref<?x5xf32>
  return
}

// -----

func.func @grouped_outer_c4(%x: memref<?x6xf32>, %y: memref<?x4xf32>,
                            %o: memref<4xi32>, %d: memref<2x6x4xf32>) {
  // expected-error @below {{offsets (less one) has E = 3 but result has 2 (grouped_outer_c4)}}
  moe.grouped_outer %x by %y offsets(%o : memref<4xi32>)
      outs(%d : memref<2x6x4xf32>) : memref<?x6xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_c4_none(%x: memref<?x6xf32>, %y: memref<?x4xf32>,
                                 %o: memref<1xi32>, %d: memref<0x6x4xf32>) {
  // expected-error @below {{has 0 experts, not 1 to 2147483646 (grouped_outer_c4)}}
  moe.grouped_outer %x by %y offsets(%o : memref<1xi32>)
      outs(%d : memref<0x6x4xf32>) : memref<?x6xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_c4_empty(%x: memref<?x6xf32>, %y: memref<?x4xf32>,
                                  %o: memref<0xi32>, %d: memref<1x6x4xf32>) {
  // expected-error @below {{offsets (less one) has E = -1 (grouped_outer_c4)}}
  moe.grouped_outer %x by %y offsets(%o : memref<0xi32>)
      outs(%d : memref<1x6x4xf32>) : memref<?x6xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_c5(%x: memref<5x6xf32>, %y: memref<7x4xf32>,
                            %d: memref<1x6x4xf32>) {
  // expected-error @below {{lhs has N = 5 but rhs has 7 (grouped_outer_c5)}}
  moe.grouped_outer %x by %y outs(%d : memref<1x6x4xf32>)
      : memref<5x6xf32>, memref<7x4xf32>
  return
}

// -----

// A gathered side has as many rows as there are numbers.
func.func @grouped_outer_c5_rows(%x: memref<5x6xf32>, %y: memref<7x4xf32>,
                                 %r: memref<8xi32>, %d: memref<1x6x4xf32>) {
  // expected-error @below {{lhs has N = 8 but rhs has 7 (grouped_outer_c5)}}
  moe.grouped_outer %x rows(%r : memref<8xi32>) by %y
      outs(%d : memref<1x6x4xf32>) : memref<5x6xf32>, memref<7x4xf32>
  return
}

// -----

func.func @grouped_outer_c5_both(%x: memref<5x6xf32>, %y: memref<5x4xf32>,
                                 %r: memref<8xi32>, %s: memref<9xi32>,
                                 %d: memref<1x6x4xf32>) {
  // expected-error @below {{lhs has N = 8 but rhs has 9 (grouped_outer_c5)}}
  moe.grouped_outer %x rows(%r : memref<8xi32>) by %y rows(%s : memref<9xi32>)
      outs(%d : memref<1x6x4xf32>) : memref<5x6xf32>, memref<5x4xf32>
  return
}

// -----

func.func @grouped_outer_c6(%x: memref<?x6xf32>, %y: memref<?x4xf32>,
                            %d: memref<2x6x4xf32>) {
  // expected-error @below {{has 2 experts but no offsets to give them rows (grouped_outer_c6)}}
  moe.grouped_outer %x by %y outs(%d : memref<2x6x4xf32>)
      : memref<?x6xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_c7(%x: tensor<?x6xf32>, %y: memref<?x4xf32>,
                            %d: memref<1x6x4xf32>) {
  // expected-error @below {{mixes tensors and memrefs (grouped_outer_c7)}}
  moe.grouped_outer %x by %y outs(%d : memref<1x6x4xf32>)
      : tensor<?x6xf32>, memref<?x4xf32>
  return
}

// -----

func.func @grouped_outer_results(%x: tensor<?x6xf32>, %y: tensor<?x4xf32>,
                                 %d: tensor<1x6x4xf32>) {
  // expected-error @below {{expected the number of tensor results (0) to be equal to the number of output tensors (1)}}
  moe.grouped_outer %x by %y outs(%d : tensor<1x6x4xf32>)
      : tensor<?x6xf32>, tensor<?x4xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// slot_dots
//===----------------------------------------------------------------------===//

func.func @slot_dots_c1(%r: tensor<?x4xf32>, %i: tensor<?x2xi32>,
                        %t: tensor<?x5xf32>) {
  // expected-error @below {{rows has D = 4 but tokens has 5 (slot_dots_c1)}}
  %0 = moe.slot_dots %r, %i experts 8 tokens(%t : tensor<?x5xf32>)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return
}

// -----

func.func @slot_dots_c1_identity(%r: tensor<?x4xf32>, %i: tensor<?x2xi32>,
                                 %t: tensor<?x4xf32>, %x: tensor<?x5xf32>) {
  // expected-error @below {{rows has D = 4 but identity has 5 (slot_dots_c1)}}
  %0 = moe.slot_dots %r, %i experts 8 tokens(%t : tensor<?x4xf32>)
      identity(%x : tensor<?x5xf32>)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return
}

// -----

func.func @slot_dots_c2(%r: tensor<9x4xf32>, %i: tensor<5x2xi32>) {
  // expected-error @below {{ids has N = 10 but rows has 9 (slot_dots_c2)}}
  %0 = moe.slot_dots %r, %i experts 8
      : (tensor<9x4xf32>, tensor<5x2xi32>) -> tensor<5x2xf32>
  return
}

// -----

func.func @slot_dots_c2_overflow(%r: tensor<?x4xf32>,
                                 %i: tensor<4294967296x4294967296xi32>) {
  // expected-error @below {{ids have 4294967296 x 4294967296 slots, more than i32 offsets count (slot_dots_c2)}}
  %0 = moe.slot_dots %r, %i experts 8
      : (tensor<?x4xf32>, tensor<4294967296x4294967296xi32>)
      -> tensor<4294967296x4294967296xf32>
  return
}

// -----

func.func @slot_dots_c3(%r: tensor<?x4xf32>, %i: tensor<5x2xi32>,
                        %t: tensor<6x4xf32>) {
  // expected-error @below {{ids has T = 5 but tokens has 6 (slot_dots_c3)}}
  %0 = moe.slot_dots %r, %i experts 8 tokens(%t : tensor<6x4xf32>)
      : (tensor<?x4xf32>, tensor<5x2xi32>) -> tensor<5x2xf32>
  return
}

// -----

func.func @slot_dots_c3_identity(%r: tensor<?x4xf32>, %i: tensor<?x2xi32>,
                                 %t: tensor<5x4xf32>, %x: tensor<6x4xf32>) {
  // expected-error @below {{tokens has T = 5 but identity has 6 (slot_dots_c3)}}
  %0 = moe.slot_dots %r, %i experts 8 tokens(%t : tensor<5x4xf32>)
      identity(%x : tensor<6x4xf32>)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return
}

// -----

func.func @slot_dots_c4(%r: tensor<?x4xf32>, %i: tensor<?x2xi32>) {
  // expected-error @below {{ids has second size = 2 but dots has 3 (slot_dots_c4)}}
  %0 = moe.slot_dots %r, %i experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x3xf32>
  return
}

// -----

func.func @slot_dots_c4_tokens(%r: tensor<?x4xf32>, %i: tensor<5x2xi32>) {
  // expected-error @below {{ids has first size = 5 but dots has 6 (slot_dots_c4)}}
  %0 = moe.slot_dots %r, %i experts 8
      : (tensor<?x4xf32>, tensor<5x2xi32>) -> tensor<6x2xf32>
  return
}

// -----

func.func @slot_dots_c5(%r: tensor<?x4xf32>, %i: tensor<?x2xi32>,
                        %t: tensor<?x4xf32>) {
  // expected-error @below {{identity needs tokens and ids by token (slot_dots_c5)}}
  %0 = moe.slot_dots %r, %i experts 8 identity(%t : tensor<?x4xf32>)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return
}

// -----

func.func @slot_dots_c5_chosen(%r: tensor<?x4xf32>, %i: tensor<8x?xi32>,
                               %t: tensor<?x4xf32>) {
  // expected-error @below {{identity needs tokens and ids by token (slot_dots_c5)}}
  %0 = moe.slot_dots %r, %i experts 8 chosen_by <expert>
      tokens(%t : tensor<?x4xf32>) identity(%t : tensor<?x4xf32>)
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<8x?xf32>
  return
}

// -----

func.func @slot_dots_c6(%r: tensor<?x4xf32>, %i: tensor<?x2xi32>) {
  // expected-error @below {{has 0 experts, not 1 to 2147483646 (slot_dots_c6)}}
  %0 = moe.slot_dots %r, %i experts 0
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return
}

// -----

func.func @slot_dots_c6_chosen(%r: tensor<?x4xf32>, %i: tensor<7x?xi32>,
                               %t: tensor<?x4xf32>) {
  // expected-error @below {{experts has E = 8 but ids has 7 (slot_dots_c6)}}
  %0 = moe.slot_dots %r, %i experts 8 chosen_by <expert>
      tokens(%t : tensor<?x4xf32>)
      : (tensor<?x4xf32>, tensor<7x?xi32>) -> tensor<7x?xf32>
  return
}

// -----

func.func @slot_dots_c7(%r: tensor<?x4xf32>, %i: tensor<8x?xi32>) {
  // expected-error @below {{takes num_tokens where experts choose without tokens, and nowhere else (slot_dots_c7)}}
  %0 = moe.slot_dots %r, %i experts 8 chosen_by <expert>
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<8x?xf32>
  return
}

// -----

func.func @slot_dots_c7_tokens(%r: tensor<?x4xf32>, %i: tensor<8x?xi32>,
                               %t: tensor<?x4xf32>, %n: index) {
  // expected-error @below {{takes num_tokens where experts choose without tokens, and nowhere else (slot_dots_c7)}}
  %0 = moe.slot_dots %r, %i experts 8 chosen_by <expert> num_tokens(%n)
      tokens(%t : tensor<?x4xf32>)
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<8x?xf32>
  return
}

// -----

func.func @slot_dots_c7_by_token(%r: tensor<?x4xf32>, %i: tensor<?x2xi32>,
                                 %n: index) {
  // expected-error @below {{takes num_tokens where experts choose without tokens, and nowhere else (slot_dots_c7)}}
  %0 = moe.slot_dots %r, %i experts 8 num_tokens(%n)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return
}
