// RUN: moe-opt %s --split-input-file --allow-unregistered-dialect \
// RUN:   --verify-diagnostics --moe-plan-workspace=max-stack-bytes=1024

func.func @size_of_data(%x: memref<4xi32>)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %c0 = arith.constant 0 : index
  // expected-error @below {{decides the size of a buffer, but the workspace is known before the data is}}
  %e = memref.load %x[%c0] : memref<4xi32>
  %n = arith.index_cast %e : i32 to index
  %a = memref.alloc(%n) : memref<?xf32>
  "test.use"(%a) : (memref<?xf32>) -> ()
  return
}

// -----

func.func @size_of_a_destination(%x: memref<?xf32>)
    attributes {moe.entry, moe.num_inputs = 0 : i64} {
  %c0 = arith.constant 0 : index
  // expected-error @below {{decides the size of a buffer, but the workspace is known before the data is}}
  %n = memref.dim %x, %c0 : memref<?xf32>
  %a = memref.alloc(%n) : memref<?xf32>
  "test.use"(%a) : (memref<?xf32>) -> ()
  return
}

// -----

func.func @no_bound(%t: index, %n: index)
    attributes {moe.entry, moe.num_inputs = 2 : i64} {
  scf.forall (%i) in (%t) {
    // expected-error @below {{of a parallel task has no constant bound}}
    %a = memref.alloc(%n) : memref<?xf32>
    "test.use"(%a) : (memref<?xf32>) -> ()
  }
  return
}

// -----

// Not refused: the loop becomes a sequential one.
func.func @too_large(%t: index)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  scf.forall (%i) in (%t) {
    // expected-remark @below {{its parallel loop runs on one thread: a task may take 2048 bytes; at most 1024 fit on its stack}}
    %a = memref.alloc() : memref<512xf32>
    "test.use"(%a) : (memref<512xf32>) -> ()
  }
  return
}

// -----

func.func @size_of_an_iteration(%t: index)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %t step %c1 {
    // expected-error @below {{of a loop has a size that changes with it}}
    %a = memref.alloc(%i) : memref<?xf32>
    "test.use"(%a) : (memref<?xf32>) -> ()
  }
  return
}

// -----

// An iteration reads what the one before it wrote: two buffers, not one.
func.func @carried(%x: memref<4xf32>, %t: index)
    attributes {moe.entry, moe.num_inputs = 2 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %i = %c0 to %t step %c1 iter_args(%last = %x)
      -> (memref<4xf32>) {
    // expected-error @below {{of a loop is handed to its next iteration, so that one buffer cannot serve all}}
    %a = memref.alloc() : memref<4xf32>
    "test.use"(%last, %a) : (memref<4xf32>, memref<4xf32>) -> ()
    scf.yield %a : memref<4xf32>
  }
  "test.use"(%r) : (memref<4xf32>) -> ()
  return
}
