module {
  func.func @gate(%arg0: tensor<?x64xf32>, %arg1: tensor<8x64xf32>, %arg2: tensor<8xf32>) -> tensor<?x8xf32> {
    %0 = moe.gate %arg0, %arg1 : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
    %1 = moe.gate %arg0, %arg1 bias(%arg2 : tensor<8xf32>) : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
    return %1 : tensor<?x8xf32>
  }
  func.func @gate_types(%arg0: tensor<0x64xbf16>, %arg1: tensor<8x64xf32>, %arg2: tensor<8xf64>) -> tensor<0x8xf16> {
    %0 = moe.gate %arg0, %arg1 bias(%arg2 : tensor<8xf64>) : (tensor<0x64xbf16>, tensor<8x64xf32>) -> tensor<0x8xf16>
    return %0 : tensor<0x8xf16>
  }
  func.func @score(%arg0: tensor<?x8xf32>) -> tensor<?x8xf64> {
    %0 = moe.score %arg0 by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
    %1 = moe.score %0 by sigmoid : tensor<?x8xf32> -> tensor<?x8xf32>
    %2 = moe.score %1 by sqrt_softplus : tensor<?x8xf32> -> tensor<?x8xf32>
    %3 = moe.score %2 by none {softcap = 3.000000e+01 : f64} : tensor<?x8xf32> -> tensor<?x8xf64>
    return %3 : tensor<?x8xf64>
  }
  func.func @route(%arg0: tensor<?x8xf32>, %arg1: tensor<8xf32>, %arg2: tensor<8xbf16>, %arg3: tensor<?x2xi32>, %arg4: tensor<?xi1>) -> tensor<?x2xi32> {
    %ids, %weights = moe.route #moe.top_k<k = 2> %arg0 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    %ids_0, %weights_1 = moe.route #moe.top_k<k = 2, score = sigmoid> %arg0 bias(%arg1 : tensor<8xf32>) expert_scale(%arg2 : tensor<8xbf16>) mask(%arg4 : tensor<?xi1>) : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xbf16>
    %ids_2, %weights_3 = moe.route #moe.top_k<k = 2> %arg0 expert_scale(%arg2 : tensor<8xbf16>) indices(%arg3 : tensor<?x2xi32>) mask(%arg4 : tensor<?xi1>) : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    return %ids_2 : tensor<?x2xi32>
  }
  func.func @route_experts(%arg0: tensor<?x8xf32>, %arg1: tensor<?xi1>, %arg2: tensor<?xi32>, %arg3: tensor<6x3xf32>, %arg4: tensor<3xi32>) -> tensor<8x?xi32> {
    %ids, %weights = moe.route_experts #moe.expert_choice<capacity = <>> %arg0 : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
    %ids_0, %weights_1 = moe.route_experts #moe.expert_choice<capacity = <factor = 2.000000e+00>, axis = tokens, normalize = sum> %arg0 mask(%arg1 : tensor<?xi1>) groups(%arg2 : tensor<?xi32>) : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
    %ids_2, %weights_3 = moe.route_experts #moe.expert_choice<capacity = <>> %arg3 : tensor<6x3xf32> -> tensor<3x2xi32>, tensor<3x2xf64>
    %ids_4, %weights_5 = moe.route_experts #moe.expert_choice<capacity = <min = 0>> %arg3 groups(%arg4 : tensor<3xi32>) : tensor<6x3xf32> -> tensor<3x4xi32>, tensor<3x4xf32>
    return %ids_0 : tensor<8x?xi32>
  }
  func.func @limit_capacity(%arg0: tensor<?x2xi32>, %arg1: tensor<?x2xf32>, %arg2: tensor<5xi32>) -> tensor<?x2xi32> {
    %kept_ids, %kept_weights = moe.limit_capacity %arg0, %arg1 experts 8 by <factor = 1.250000e+00, per = slots> queue <first_come> : tensor<?x2xi32>, tensor<?x2xf32>
    %kept_ids_0, %kept_weights_1 = moe.limit_capacity %kept_ids, %kept_weights experts 8 by <fixed = 3> queue <prioritized> groups(%arg2 : tensor<5xi32>) : tensor<?x2xi32>, tensor<?x2xf32>
    return %kept_ids_0 : tensor<?x2xi32>
  }
  func.func @aux_loss(%arg0: tensor<?x8xf32>, %arg1: tensor<?x2xi32>, %arg2: tensor<?xi1>, %arg3: tensor<?xi32>) -> tensor<f64> {
    %0 = moe.aux_loss <balance> %arg0 ids(%arg1 : tensor<?x2xi32>) mask(%arg2 : tensor<?xi1>) groups(%arg3 : tensor<?xi32>) coefficient 1.000000e-02 : tensor<?x8xf32> -> tensor<f32>
    %1 = moe.aux_loss <importance> %arg0 coefficient 1.000000e+00 : tensor<?x8xf32> -> tensor<f32>
    %2 = moe.aux_loss <z> %arg0 coefficient -1.000000e+00 : tensor<?x8xf32> -> tensor<f64>
    return %2 : tensor<f64>
  }
  func.func @dispatch(%arg0: tensor<?x64xf32>, %arg1: tensor<?x2xi32>, %arg2: tensor<?x2xf32>, %arg3: tensor<8x?xi32>, %arg4: tensor<8x?xf32>) -> tensor<?x64xf32> {
    %rows, %offsets = moe.dispatch %arg0, %arg1 experts 8 : (tensor<?x64xf32>, tensor<?x2xi32>) -> (tensor<?x64xf32>, tensor<9xi32>)
    %rows_0, %offsets_1 = moe.dispatch %arg0, %arg1 experts 8 weights(%arg2 : tensor<?x2xf32>) : (tensor<?x64xf32>, tensor<?x2xi32>) -> (tensor<?x64xf32>, tensor<9xi32>)
    %rows_2, %offsets_3 = moe.dispatch %arg0, %arg3 experts 8 chosen_by <expert> weights(%arg4 : tensor<8x?xf32>) : (tensor<?x64xf32>, tensor<8x?xi32>) -> (tensor<?x64xf32>, tensor<9xi32>)
    return %rows_2 : tensor<?x64xf32>
  }
  func.func @dispatch_static(%arg0: tensor<5x4xbf16>, %arg1: tensor<5x3xi32>) -> tensor<15x4xbf16> {
    %rows, %offsets = moe.dispatch %arg0, %arg1 experts 1 : (tensor<5x4xbf16>, tensor<5x3xi32>) -> (tensor<15x4xbf16>, tensor<2xi32>)
    return %rows : tensor<15x4xbf16>
  }
  func.func @combine(%arg0: tensor<?x64xbf16>, %arg1: tensor<?x2xi32>, %arg2: tensor<?x2xf32>, %arg3: tensor<?x64xf32>, %arg4: tensor<64xf16>) -> tensor<?x64xf32> {
    %0 = moe.combine %arg0, %arg1 experts 8 : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xf32>
    %1 = moe.combine %arg0, %arg1 experts 8 weights(%arg2 : tensor<?x2xf32>) identity(%arg3 : tensor<?x64xf32>) residual(%arg3 : tensor<?x64xf32>) bias(%arg4 : tensor<64xf16>) {average, scale = 2.500000e+00 : f64} : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xf32>
    return %1 : tensor<?x64xf32>
  }
  func.func @combine_chosen(%arg0: tensor<?x64xf32>, %arg1: tensor<8x?xi32>, %arg2: tensor<8x?xf32>, %arg3: index) -> (tensor<?x64xf32>, tensor<5x64xf32>) {
    %0 = moe.combine %arg0, %arg1 experts 8 chosen_by <expert> weights(%arg2 : tensor<8x?xf32>) num_tokens(%arg3) : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<?x64xf32>
    %1 = moe.combine %arg0, %arg1 experts 8 chosen_by <expert> : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<5x64xf32>
    return %0, %1 : tensor<?x64xf32>, tensor<5x64xf32>
  }
  func.func @experts(%arg0: tensor<?x64xf32>, %arg1: tensor<9xi32>, %arg2: tensor<8x256x64xf32>, %arg3: tensor<8x64x128xf32>, %arg4: tensor<8x256xf32>, %arg5: tensor<8x64xf32>) -> tensor<?x64xf32> {
    %output = moe.experts %arg0 offsets(%arg1 : tensor<9xi32>) up(%arg2 : tensor<8x256x64xf32>) down(%arg3 : tensor<8x64x128xf32>) gated activation #moe.activation<kind = silu> layout <orientation = out_in> : tensor<?x64xf32> -> tensor<?x64xf32>
    %output_0 = moe.experts %output offsets(%arg1 : tensor<9xi32>) up(%arg2 : tensor<8x256x64xf32>) bias(%arg4 : tensor<8x256xf32>) down(%arg3 : tensor<8x64x128xf32>) down_bias(%arg5 : tensor<8x64xf32>) gated activation #moe.activation<kind = silu, style = oai, limit = 7.000000e+00> layout <orientation = out_in, pairing = interleaved> : tensor<?x64xf32> -> tensor<?x64xf32>
    return %output_0 : tensor<?x64xf32>
  }
  func.func @experts_separate(%arg0: tensor<10x4xbf16>, %arg1: tensor<3xi32>, %arg2: tensor<2x4x6xbf16>, %arg3: tensor<2x4x6xbf16>, %arg4: tensor<2x6xf32>, %arg5: tensor<2x6xf32>, %arg6: tensor<2x6x3xbf16>) -> tensor<10x3xf32> {
    %output = moe.experts %arg0 offsets(%arg1 : tensor<3xi32>) up(%arg2, %arg3 : tensor<2x4x6xbf16>, tensor<2x4x6xbf16>) bias(%arg4, %arg5 : tensor<2x6xf32>, tensor<2x6xf32>) down(%arg6 : tensor<2x6x3xbf16>) gated activation #moe.activation<kind = gelu_tanh> layout <orientation = in_out, down = in_out, pairing = separate> : tensor<10x4xbf16> -> tensor<10x3xf32>
    return %output : tensor<10x3xf32>
  }
  func.func @experts_folded(%arg0: tensor<?x4xf32>, %arg1: tensor<3xi32>, %arg2: tensor<12x4xf32>, %arg3: tensor<8x6xf32>) -> tensor<?x4xf32> {
    %output = moe.experts %arg0 offsets(%arg1 : tensor<3xi32>) up(%arg2 : tensor<12x4xf32>) down(%arg3 : tensor<8x6xf32>) activation #moe.activation<kind = relu2> layout <orientation = out_in, expert_axis = folded> : tensor<?x4xf32> -> tensor<?x4xf32>
    return %output : tensor<?x4xf32>
  }
  func.func @experts_shared(%arg0: tensor<?x4xf64>, %arg1: tensor<1x6x4xf64>, %arg2: tensor<1x4x6xf64>) -> tensor<?x4xf64> {
    %output = moe.experts %arg0 up(%arg1 : tensor<1x6x4xf64>) down(%arg2 : tensor<1x4x6xf64>) activation #moe.activation<kind = identity> layout <orientation = out_in> : tensor<?x4xf64> -> tensor<?x4xf64>
    return %output : tensor<?x4xf64>
  }
  func.func @relayout(%arg0: tensor<8x64x256xbf16>, %arg1: tensor<512x128xf32>, %arg2: tensor<8x256xf32>) -> tensor<8x256x64xbf16> {
    %0 = moe.relayout <up> %arg0 experts 8 gated from <orientation = in_out, pairing = interleaved> to <orientation = out_in> : (tensor<8x64x256xbf16>) -> tensor<8x256x64xbf16>
    %1:2 = moe.relayout <up> %0 experts 8 gated from <orientation = out_in> to <orientation = out_in, pairing = separate> : (tensor<8x256x64xbf16>) -> (tensor<8x128x64xbf16>, tensor<8x128x64xbf16>)
    %2 = moe.relayout <up> %1#0, %1#1 experts 8 gated from <orientation = out_in, pairing = separate> to <orientation = out_in, order = up_gate, shards = 4> : (tensor<8x128x64xbf16>, tensor<8x128x64xbf16>) -> tensor<8x256x64xbf16>
    %3 = moe.relayout <down> %arg1 experts 8 from <orientation = out_in, expert_axis = folded> to <orientation = out_in, down = in_out> : (tensor<512x128xf32>) -> tensor<8x128x64xf32>
    %4 = moe.relayout <up_bias> %arg2 experts 8 gated from <orientation = out_in, shards = 2> to <orientation = out_in, pairing = interleaved> : (tensor<8x256xf32>) -> tensor<8x256xf32>
    return %2 : tensor<8x256x64xbf16>
  }
  func.func @group(%arg0: tensor<?x2xi32>, %arg1: tensor<?x2xf32>, %arg2: tensor<9xi32>, %arg3: tensor<?xi32>, %arg4: tensor<?xi32>, %arg5: tensor<?xf32>) -> tensor<?xf32> {
    %0:4 = moe.group ins(%arg0 : tensor<?x2xi32>) outs(%arg2, %arg3, %arg4, %arg3 : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) chosen_by <token> -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>
    %1:5 = moe.group ins(%arg0, %arg1 : tensor<?x2xi32>, tensor<?x2xf32>) outs(%arg2, %arg3, %arg4, %arg3, %arg5 : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>) chosen_by <token> -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>
    return %1#4 : tensor<?xf32>
  }
  func.func @group_memref(%arg0: memref<3x4xi32>, %arg1: memref<4xi32>, %arg2: memref<12xi32>, %arg3: memref<7xi32>) {
    moe.group ins(%arg0 : memref<3x4xi32>) outs(%arg1, %arg2, %arg3, %arg2 : memref<4xi32>, memref<12xi32>, memref<7xi32>, memref<12xi32>) chosen_by <expert>
    return
  }
  func.func @grouped_matmul(%arg0: tensor<?x64xbf16>, %arg1: tensor<?xi32>, %arg2: tensor<?xf32>, %arg3: tensor<9xi32>, %arg4: tensor<8x128x64xbf16>, %arg5: tensor<8x128x64xbf16>, %arg6: tensor<8x128xf32>, %arg7: tensor<?x128xbf16>) -> tensor<?x128xbf16> {
    %0 = moe.grouped_matmul %arg0 rows(%arg1 : tensor<?xi32>) row_scale(%arg2 : tensor<?xf32>) offsets(%arg3 : tensor<9xi32>) weights(%arg4, %arg5 : tensor<8x128x64xbf16>, tensor<8x128x64xbf16>) biases(%arg6 : tensor<8x128xf32>) outs(%arg7 : tensor<?x128xbf16>) : tensor<?x64xbf16> -> tensor<?x128xbf16> {
    ^bb0(%arg8: f32, %arg9: f32, %arg10: f32):
      %1 = arith.addf %arg8, %arg10 : f32
      %2 = arith.mulf %1, %arg9 : f32
      moe.yield %2 : f32
    }
    return %0 : tensor<?x128xbf16>
  }
  func.func @grouped_matmul_memref(%arg0: memref<?x64xf64, strided<[?, 1]>>, %arg1: memref<1x64x128xf64>, %arg2: memref<?x128xf64>) {
    moe.grouped_matmul %arg0 weights(%arg1 : memref<1x64x128xf64>) in_out outs(%arg2 : memref<?x128xf64>) : memref<?x64xf64, strided<[?, 1]>> {
    ^bb0(%arg3: f64):
      moe.yield %arg3 : f64
    }
    return
  }
  func.func @combine_slots(%arg0: tensor<?x64xf32>, %arg1: tensor<?xi32>, %arg2: tensor<?xi32>, %arg3: tensor<?xf32>, %arg4: tensor<?xf32>, %arg5: tensor<?x64xf32>, %arg6: tensor<?x64xf32>, %arg7: tensor<64xf32>, %arg8: tensor<?x64xf32>) -> tensor<?x64xf32> {
    %0 = moe.combine_slots %arg0, %arg1, %arg2 outs(%arg8 : tensor<?x64xf32>) : tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
    %1 = moe.combine_slots %arg0, %arg1, %arg2 weight(%arg3 : tensor<?xf32>) identity(%arg4, %arg5 : tensor<?xf32>, tensor<?x64xf32>) residual(%arg6 : tensor<?x64xf32>) bias(%arg7 : tensor<64xf32>) outs(%0 : tensor<?x64xf32>) {average, scale = 2.500000e+00 : f64} : tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
    return %1 : tensor<?x64xf32>
  }
  func.func @combine_slots_memref(%arg0: memref<8x4xf32>, %arg1: memref<5xi32>, %arg2: memref<8xi32>, %arg3: memref<4x4xbf16>) {
    moe.combine_slots %arg0, %arg1, %arg2 outs(%arg3 : memref<4x4xbf16>) : memref<8x4xf32>, memref<5xi32>, memref<8xi32>
    return
  }
  func.func @top_k(%arg0: tensor<?x64xf32>, %arg1: tensor<?x8xf32>, %arg2: tensor<?x8xi32>, %arg3: memref<4x6xbf16>, %arg4: memref<4x6xbf16>, %arg5: memref<4x6xi32>) -> tensor<?x8xi32> {
    %0:2 = moe.top_k ins(%arg0 : tensor<?x64xf32>) outs(%arg1, %arg2 : tensor<?x8xf32>, tensor<?x8xi32>) -> tensor<?x8xf32>, tensor<?x8xi32>
    moe.top_k ins(%arg3 : memref<4x6xbf16>) outs(%arg4, %arg5 : memref<4x6xbf16>, memref<4x6xi32>)
    return %0#1 : tensor<?x8xi32>
  }
  func.func @entry(%arg0: tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "x"}, %arg1: tensor<2x6x4xf32> {moe.layout = #moe.layout<orientation = out_in>, moe.name = "up"}) -> (tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "y"}) attributes {moe.bounds = {T = 4096 : i64}, moe.entry, moe.num_inputs = 2 : i64} {
    return %arg0 : tensor<?x4xf32>
  }
}

