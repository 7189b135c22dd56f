// A report of the emulator names the line of the source that the kernel's code
// is of: here a number is read at an index that nobody checked.

// REQUIRES: nvptx
// RUN: not moe-run %s --dim=T=4 --arg=table=ones --arg=ids=iota \
// RUN:   --target=gpu-emulator 2>&1 | FileCheck %s --check-prefix=INDEX
// INDEX: moe-run: error: line {{[0-9]+}}: out of bounds: ld.global{{.*}}kernel 'look_up_kernel', {{.*}}moe-run-report.mlir:[[#@LINE+14]]:{{[0-9]+}} [2 times]

#row = affine_map<(d0) -> (d0)>

func.func @look_up(%table: tensor<2xf32> {moe.name = "table"},
                   %ids: tensor<?xi32> {moe.name = "ids", moe.dims = ["T"]})
    -> (tensor<?xf32> {moe.name = "y", moe.dims = ["T"]}) attributes {moe.entry} {
  %zero = arith.constant 0 : index
  %tokens = tensor.dim %ids, %zero : tensor<?xi32>
  %empty = tensor.empty(%tokens) : tensor<?xf32>
  %y = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel"]}
      ins(%ids : tensor<?xi32>) outs(%empty : tensor<?xf32>) {
  ^bb0(%id: i32, %unused: f32):
    %index = arith.index_cast %id : i32 to index
    %read = tensor.extract %table[%index] : tensor<2xf32>
    linalg.yield %read : f32
  } -> tensor<?xf32>
  return %y : tensor<?xf32>
}
