// Every rule of the mixes, unit rows and soft slots, broken once.

// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @mix_c1(%v: tensor<?x4xf32>, %u: tensor<?x6xf32>) {
  // expected-error @below {{values has R = 4 but result has 5 (mix_c1)}}
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>)
      : tensor<?x4xf32> -> tensor<?x5xf32>
  return
}

// -----

func.func @mix_c2(%v: tensor<7x4xf32>, %u: tensor<6x6xf32>) {
  // expected-error @below {{key has T = 6 but values has 7 (mix_c2)}}
  %0 = moe.mix %v query(%u : tensor<6x6xf32>) key(%u : tensor<6x6xf32>)
      : tensor<7x4xf32> -> tensor<6x4xf32>
  return
}

// -----

func.func @mix_c2_mask(%v: tensor<7x4xf32>, %u: tensor<7x6xf32>,
                       %m: tensor<8xi1>) {
  // expected-error @below {{key has T = 7 but mask has 8 (mix_c2)}}
  %0 = moe.mix %v query(%u : tensor<7x6xf32>) key(%u : tensor<7x6xf32>)
      mask(%m : tensor<8xi1>) : tensor<7x4xf32> -> tensor<7x4xf32>
  return
}

// -----

func.func @mix_c2_rows(%v: tensor<7x4xf32>, %q: tensor<2x6xf32>,
                       %k: tensor<7x6xf32>, %f: i64) {
  // expected-error @below {{query has rows = 2 but result has 3 (mix_c2)}}
  %0 = moe.mix %v query(%q : tensor<2x6xf32>) key(%k : tensor<7x6xf32>)
      from(%f) : tensor<7x4xf32> -> tensor<3x4xf32>
  return
}

// -----

func.func @mix_c3(%v: tensor<?x4xf32>, %u: tensor<?x6xf32>) {
  // expected-error @below {{has 0 heads (mix_c3)}}
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>) heads 0
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_c3_posterior(%v: tensor<?x4xf32>, %u: tensor<?x6xf32>,
                            %p: tensor<?x3xf32>) {
  // expected-error @below {{the op has heads = 2 but posterior has 3 (mix_c3)}}
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>)
      posterior(%p : tensor<?x3xf32>) heads 2
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_c4(%v: tensor<?x4xf32>, %u: tensor<?x6xf32>) {
  // expected-error @below {{query has 6 columns, which are no 4 heads (mix_c4)}}
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>) heads 4
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_c4_key(%v: tensor<?x4xf32>, %q: tensor<?x8xf32>,
                      %k: tensor<?x6xf32>) {
  // expected-error @below {{key has 6 columns; heads of 2 columns that divide 4 heads are needed (mix_c4)}}
  %0 = moe.mix %v query(%q : tensor<?x8xf32>) key(%k : tensor<?x6xf32>) heads 4
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_c4_dynamic(%v: tensor<?x4xf32>, %u: tensor<?x?xf32>) {
  // expected-error @below {{query and key need static widths (mix_c4)}}
  %0 = moe.mix %v query(%u : tensor<?x?xf32>) key(%u : tensor<?x?xf32>)
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_c5(%v: tensor<?x4xf32>, %u: tensor<?x6xf32>) {
  // expected-error @below {{scale is not finite and positive (mix_c5)}}
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>)
      scale -1.0 : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_matrix_c1(%v: tensor<?x?xf32>, %a: tensor<1x?x?xf32>) {
  // expected-error @below {{values has R = ?, which must be static (mix_matrix_c1)}}
  %0 = moe.mix_matrix %v by %a
      : (tensor<?x?xf32>, tensor<1x?x?xf32>) -> tensor<?x?xf32>
  return
}

// -----

func.func @mix_matrix_c2(%v: tensor<5x4xf32>, %a: tensor<1x5x6xf32>) {
  // expected-error @below {{matrices' last axis has T = 6 but values has 5 (mix_matrix_c2)}}
  %0 = moe.mix_matrix %v by %a
      : (tensor<5x4xf32>, tensor<1x5x6xf32>) -> tensor<5x4xf32>
  return
}

// -----

func.func @mix_matrix_c3(%v: tensor<?x4xf32>, %a: tensor<2x?x?xf32>,
                         %p: tensor<?x1xf32>) {
  // expected-error @below {{matrices has heads = 2 but posterior has 1 (mix_matrix_c3)}}
  %0 = moe.mix_matrix %v by %a posterior(%p : tensor<?x1xf32>)
      : (tensor<?x4xf32>, tensor<2x?x?xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_matrix_c3_none(%v: tensor<?x4xf32>, %a: tensor<0x?x?xf32>) {
  // expected-error @below {{has 0 heads (mix_matrix_c3)}}
  %0 = moe.mix_matrix %v by %a
      : (tensor<?x4xf32>, tensor<0x?x?xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @groups_empty(%v: tensor<?x4xf32>, %u: tensor<?x6xf32>,
                        %g: tensor<0xi32>) {
  // expected-error @below {{operand #3 must be 1D tensor of 32-bit signless integer offsets, at least one}}
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>)
      groups(%g : tensor<0xi32>) : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @unit_rows_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{rows has D = 4 but result has 3 (unit_rows_c1)}}
  %0 = moe.unit_rows %x eps <add> 1.0e-6 : tensor<?x4xf32> -> tensor<?x3xf32>
  return
}

// -----

func.func @unit_rows_c2(%x: tensor<?x4xf32>) {
  // expected-error @below {{eps is negative or not finite (unit_rows_c2)}}
  %0 = moe.unit_rows %x eps <clamp> -1.0 : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @route_slots_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{logits has S = 4 but combine has 5 (route_slots_c1)}}
  %0, %1 = moe.route_slots %x
      : tensor<?x4xf32> -> tensor<?x4xf32>, tensor<?x5xf32>
  return
}

// -----

func.func @route_slots_c1_none(%x: tensor<?x0xf32>) {
  // expected-error @below {{has no slots (route_slots_c1)}}
  %0, %1 = moe.route_slots %x
      : tensor<?x0xf32> -> tensor<?x0xf32>, tensor<?x0xf32>
  return
}

// -----

func.func @route_slots_c2(%x: tensor<5x4xf32>, %m: tensor<6xi1>) {
  // expected-error @below {{logits has T = 5 but mask has 6 (route_slots_c2)}}
  %0, %1 = moe.route_slots %x mask(%m : tensor<6xi1>)
      : tensor<5x4xf32> -> tensor<5x4xf32>, tensor<5x4xf32>
  return
}

// -----

func.func @soft_dispatch_c1(%x: tensor<5x4xf32>, %d: tensor<6x2xf32>) {
  // expected-error @below {{input has T = 5 but dispatch has 6 (soft_dispatch_c1)}}
  %0, %1 = moe.soft_dispatch %x, %d experts 2
      : (tensor<5x4xf32>, tensor<6x2xf32>) -> (tensor<2x4xf32>, tensor<3xi32>)
  return
}

// -----

func.func @soft_dispatch_c2(%x: tensor<?x4xf32>, %d: tensor<?x2xf32>) {
  // expected-error @below {{input has D = 4 but rows has 3 (soft_dispatch_c2)}}
  %0, %1 = moe.soft_dispatch %x, %d experts 2
      : (tensor<?x4xf32>, tensor<?x2xf32>) -> (tensor<2x3xf32>, tensor<3xi32>)
  return
}

// -----

func.func @soft_dispatch_c3(%x: tensor<?x4xf32>, %d: tensor<?x5xf32>) {
  // expected-error @below {{has S = 5, which are no slots of 2 experts (soft_dispatch_c3)}}
  %0, %1 = moe.soft_dispatch %x, %d experts 2
      : (tensor<?x4xf32>, tensor<?x5xf32>) -> (tensor<5x4xf32>, tensor<3xi32>)
  return
}

// -----

func.func @soft_dispatch_c4(%x: tensor<?x4xf32>, %d: tensor<?x6xf32>,
                            %g: tensor<4xi32>) {
  // expected-error @below {{the slots has G * S = 18 but rows has 6 (soft_dispatch_c4)}}
  %0, %1 = moe.soft_dispatch %x, %d experts 2 groups(%g : tensor<4xi32>)
      : (tensor<?x4xf32>, tensor<?x6xf32>) -> (tensor<6x4xf32>, tensor<3xi32>)
  return
}

// -----

func.func @soft_dispatch_c5(%x: tensor<?x4xf32>, %d: tensor<?x6xf32>) {
  // expected-error @below {{experts + 1 has length = 3 but offsets has 2 (soft_dispatch_c5)}}
  %0, %1 = moe.soft_dispatch %x, %d experts 2
      : (tensor<?x4xf32>, tensor<?x6xf32>) -> (tensor<6x4xf32>, tensor<2xi32>)
  return
}

// -----

func.func @soft_combine_c1(%r: tensor<6x4xf32>, %c: tensor<5x6xf32>) {
  // expected-error @below {{combine has T = 5 but output has 6 (soft_combine_c1)}}
  %0 = moe.soft_combine %r, %c experts 2
      : (tensor<6x4xf32>, tensor<5x6xf32>) -> tensor<6x4xf32>
  return
}

// -----

func.func @soft_combine_c2(%r: tensor<6x4xf32>, %c: tensor<?x6xf32>) {
  // expected-error @below {{rows has D = 4 but output has 5 (soft_combine_c2)}}
  %0 = moe.soft_combine %r, %c experts 2
      : (tensor<6x4xf32>, tensor<?x6xf32>) -> tensor<?x5xf32>
  return
}

// -----

func.func @soft_combine_c3(%r: tensor<6x4xf32>, %c: tensor<?x6xf32>) {
  // expected-error @below {{has 0 experts, not 1 to 2147483646 (soft_combine_c3)}}
  %0 = moe.soft_combine %r, %c experts 0
      : (tensor<6x4xf32>, tensor<?x6xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @soft_combine_c4(%r: tensor<5x4xf32>, %c: tensor<?x6xf32>) {
  // expected-error @below {{the slots has G * S = 6 but rows has 5 (soft_combine_c4)}}
  %0 = moe.soft_combine %r, %c experts 2
      : (tensor<5x4xf32>, tensor<?x6xf32>) -> tensor<?x4xf32>
  return
}
