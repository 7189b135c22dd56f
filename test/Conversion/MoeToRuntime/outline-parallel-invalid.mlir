// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-outline-parallel

// expected-error @below {{needs a context and parallel loops on memrefs}}
func.func @no_context(%x: memref<?xf32>, %f: f32, %n: index)
    attributes {moe.entry, moe.num_inputs = 3 : i64} {
  scf.forall (%i) in (%n) {
    memref.store %f, %x[%i] : memref<?xf32>
  }
  return
}

// -----

// expected-error @below {{needs a context and parallel loops on memrefs}}
func.func @tensors(%x: tensor<4xf32>, %context: !llvm.ptr)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %0 = scf.forall (%i) in (4) shared_outs(%o = %x) -> tensor<4xf32> {
    %s = tensor.extract_slice %x[%i] [1] [1] : tensor<4xf32> to tensor<1xf32>
    scf.forall.in_parallel {
      tensor.parallel_insert_slice %s into %o[%i] [1] [1]
          : tensor<1xf32> into tensor<4xf32>
    }
  }
  return
}
