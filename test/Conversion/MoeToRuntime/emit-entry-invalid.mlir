// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-emit-entry

// expected-error @below {{is no planned entry}}
func.func @not_planned(%x: memref<4xf32> {moe.name = "x", moe.dims = [""]})
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  return
}

// -----

// expected-error @below {{argument 0 has no name}}
func.func @no_name(%x: memref<4xf32>, %workspace: memref<?xi8>,
                   %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// expected-error @below {{argument 'x' names no sizes}}
func.func @no_sizes(%x: memref<?xf32> {moe.name = "x"},
                    %workspace: memref<?xi8>, %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// expected-error @below {{argument 0 is 'index', no buffer}}
func.func @no_buffer(%x: index {moe.name = "x"},
                     %workspace: memref<?xi8>, %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// expected-error @below {{has no function @no_plan.workspace}}
func.func @no_plan(%x: memref<4xf32> {moe.name = "x"},
                   %workspace: memref<?xi8>, %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// expected-error @below {{argument 'x' has more than 8 dimensions}}
func.func @rank(%x: memref<1x1x1x1x1x1x1x1x1xf32> {moe.name = "x"},
                %workspace: memref<?xi8>, %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// expected-error @below {{is longer than}}
func.func @long_name(
    %x: memref<4xf32> {moe.name = "a_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on"},
    %workspace: memref<?xi8>, %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}
