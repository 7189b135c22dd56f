// RUN: %run_oracle | FileCheck %s

// A layer without tokens runs, and reads and writes nothing.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %x0 = arith.constant dense<> : tensor<0x2xf32>
  %x = tensor.cast %x0 : tensor<0x2xf32> to tensor<?x2xf32>
  %router = arith.constant dense<1.0> : tensor<2x2xf32>
  %w = arith.constant dense<1.0> : tensor<2x2x2xf32>
  %logits = moe.gate %x, %router
      : (tensor<?x2xf32>, tensor<2x2xf32>) -> tensor<?x2xf32>
  %ids, %weights = moe.route #moe.top_k<k = 1> %logits
      : tensor<?x2xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %kept, %kept_weights = moe.limit_capacity %ids, %weights experts 2
      by #moe.capacity<factor = 1.0> queue <prioritized>
      : tensor<?x1xi32>, tensor<?x1xf32>
  %rows, %offsets = moe.dispatch %x, %kept experts 2
      : (tensor<?x2xf32>, tensor<?x1xi32>) -> (tensor<?x2xf32>, tensor<3xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%w : tensor<2x2x2xf32>) down(%w : tensor<2x2x2xf32>)
      activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x2xf32> -> tensor<?x2xf32>
  %y = moe.combine %h, %kept experts 2 weights(%kept_weights : tensor<?x1xf32>)
      : (tensor<?x2xf32>, tensor<?x1xi32>) -> tensor<?x2xf32>
  %z = moe.aux_loss <z> %logits coefficient 1.0 : tensor<?x2xf32> -> tensor<f32>
  %chosen, %chosen_weights = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.0>> %logits
      : tensor<?x2xf32> -> tensor<2x?xi32>, tensor<2x?xf32>
  %p0 = tensor.cast %offsets : tensor<3xi32> to tensor<*xi32>
  call @printMemrefI32(%p0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 0, 0]

  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %num_rows = tensor.dim %y, %c0 : tensor<?x2xf32>
  %num_slots = tensor.dim %chosen, %c1 : tensor<2x?xi32>
  %num_rows_i32 = arith.index_cast %num_rows : index to i32
  %num_slots_i32 = arith.index_cast %num_slots : index to i32
  %sizes = tensor.from_elements %num_rows_i32, %num_slots_i32 : tensor<2xi32>
  %p1 = tensor.cast %sizes : tensor<2xi32> to tensor<*xi32>
  call @printMemrefI32(%p1) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 0]

  %p3 = tensor.cast %z : tensor<f32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0]

  return
}
