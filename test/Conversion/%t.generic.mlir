"builtin.module"() ({
  "func.func"() <{function_type = (tensor<?x64xf32>, tensor<8x64xf32>, tensor<8xf32>) -> tensor<?x8xf32>, sym_name = "gate"}> ({
  ^bb0(%arg106: tensor<?x64xf32>, %arg107: tensor<8x64xf32>, %arg108: tensor<8xf32>):
    %43 = "moe.gate"(%arg106, %arg107) : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
    %44 = "moe.gate"(%arg106, %arg107, %arg108) : (tensor<?x64xf32>, tensor<8x64xf32>, tensor<8xf32>) -> tensor<?x8xf32>
    "func.return"(%44) : (tensor<?x8xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<0x64xbf16>, tensor<8x64xf32>, tensor<8xf64>) -> tensor<0x8xf16>, sym_name = "gate_types"}> ({
  ^bb0(%arg103: tensor<0x64xbf16>, %arg104: tensor<8x64xf32>, %arg105: tensor<8xf64>):
    %42 = "moe.gate"(%arg103, %arg104, %arg105) : (tensor<0x64xbf16>, tensor<8x64xf32>, tensor<8xf64>) -> tensor<0x8xf16>
    "func.return"(%42) : (tensor<0x8xf16>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x8xf32>) -> tensor<?x8xf64>, sym_name = "score"}> ({
  ^bb0(%arg102: tensor<?x8xf32>):
    %38 = "moe.score"(%arg102) <{kind = #moe.score<softmax>, softcap = 0.000000e+00 : f64}> : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %39 = "moe.score"(%38) <{kind = #moe.score<sigmoid>, softcap = 0.000000e+00 : f64}> : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %40 = "moe.score"(%39) <{kind = #moe.score<sqrt_softplus>, softcap = 0.000000e+00 : f64}> : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %41 = "moe.score"(%40) <{kind = #moe.score<none>, softcap = 3.000000e+01 : f64}> : (tensor<?x8xf32>) -> tensor<?x8xf64>
    "func.return"(%41) : (tensor<?x8xf64>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x8xf32>, tensor<8xf32>, tensor<8xbf16>, tensor<?x2xi32>, tensor<?xi1>) -> tensor<?x2xi32>, sym_name = "route"}> ({
  ^bb0(%arg97: tensor<?x8xf32>, %arg98: tensor<8xf32>, %arg99: tensor<8xbf16>, %arg100: tensor<?x2xi32>, %arg101: tensor<?xi1>):
    %35:2 = "moe.route"(%arg97) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0>, router = #moe.top_k<k = 2>}> : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %36:2 = "moe.route"(%arg97, %arg98, %arg99, %arg101) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0, 0>, router = #moe.top_k<k = 2, score = sigmoid>}> : (tensor<?x8xf32>, tensor<8xf32>, tensor<8xbf16>, tensor<?xi1>) -> (tensor<?x2xi32>, tensor<?x2xbf16>)
    %37:2 = "moe.route"(%arg97, %arg99, %arg100, %arg101) <{operandSegmentSizes = array<i32: 1, 0, 1, 1, 1, 0, 0, 0, 0>, router = #moe.top_k<k = 2>}> : (tensor<?x8xf32>, tensor<8xbf16>, tensor<?x2xi32>, tensor<?xi1>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    "func.return"(%37#0) : (tensor<?x2xi32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x8xf32>, tensor<?xi1>, tensor<?xi32>, tensor<6x3xf32>, tensor<3xi32>) -> tensor<8x?xi32>, sym_name = "route_experts"}> ({
  ^bb0(%arg92: tensor<?x8xf32>, %arg93: tensor<?xi1>, %arg94: tensor<?xi32>, %arg95: tensor<6x3xf32>, %arg96: tensor<3xi32>):
    %31:2 = "moe.route_experts"(%arg92) <{operandSegmentSizes = array<i32: 1, 0, 0>, router = #moe.expert_choice<capacity = <>>}> : (tensor<?x8xf32>) -> (tensor<8x?xi32>, tensor<8x?xf32>)
    %32:2 = "moe.route_experts"(%arg92, %arg93, %arg94) <{operandSegmentSizes = array<i32: 1, 1, 1>, router = #moe.expert_choice<capacity = <factor = 2.000000e+00>, axis = tokens, normalize = sum>}> : (tensor<?x8xf32>, tensor<?xi1>, tensor<?xi32>) -> (tensor<8x?xi32>, tensor<8x?xf32>)
    %33:2 = "moe.route_experts"(%arg95) <{operandSegmentSizes = array<i32: 1, 0, 0>, router = #moe.expert_choice<capacity = <>>}> : (tensor<6x3xf32>) -> (tensor<3x2xi32>, tensor<3x2xf64>)
    %34:2 = "moe.route_experts"(%arg95, %arg96) <{operandSegmentSizes = array<i32: 1, 0, 1>, router = #moe.expert_choice<capacity = <min = 0>>}> : (tensor<6x3xf32>, tensor<3xi32>) -> (tensor<3x4xi32>, tensor<3x4xf32>)
    "func.return"(%32#0) : (tensor<8x?xi32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x2xi32>, tensor<?x2xf32>, tensor<5xi32>) -> tensor<?x2xi32>, sym_name = "limit_capacity"}> ({
  ^bb0(%arg89: tensor<?x2xi32>, %arg90: tensor<?x2xf32>, %arg91: tensor<5xi32>):
    %29:2 = "moe.limit_capacity"(%arg89, %arg90) <{capacity = #moe.capacity<factor = 1.250000e+00, per = slots>, num_experts = 8 : i64, queue = #moe.queue<first_come>}> : (tensor<?x2xi32>, tensor<?x2xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %30:2 = "moe.limit_capacity"(%29#0, %29#1, %arg91) <{capacity = #moe.capacity<fixed = 3>, num_experts = 8 : i64, queue = #moe.queue<prioritized>}> : (tensor<?x2xi32>, tensor<?x2xf32>, tensor<5xi32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    "func.return"(%30#0) : (tensor<?x2xi32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?xi1>, tensor<?xi32>) -> tensor<f64>, sym_name = "aux_loss"}> ({
  ^bb0(%arg85: tensor<?x8xf32>, %arg86: tensor<?x2xi32>, %arg87: tensor<?xi1>, %arg88: tensor<?xi32>):
    %26 = "moe.aux_loss"(%arg85, %arg86, %arg87, %arg88) <{coefficient = 1.000000e-02 : f64, kind = #moe.aux_loss<balance>, operandSegmentSizes = array<i32: 1, 1, 1, 1>}> : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?xi1>, tensor<?xi32>) -> tensor<f32>
    %27 = "moe.aux_loss"(%arg85) <{coefficient = 1.000000e+00 : f64, kind = #moe.aux_loss<importance>, operandSegmentSizes = array<i32: 1, 0, 0, 0>}> : (tensor<?x8xf32>) -> tensor<f32>
    %28 = "moe.aux_loss"(%arg85) <{coefficient = -1.000000e+00 : f64, kind = #moe.aux_loss<z>, operandSegmentSizes = array<i32: 1, 0, 0, 0>}> : (tensor<?x8xf32>) -> tensor<f64>
    "func.return"(%28) : (tensor<f64>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x?xi32>, tensor<8x?xf32>) -> tensor<?x64xf32>, sym_name = "dispatch"}> ({
  ^bb0(%arg80: tensor<?x64xf32>, %arg81: tensor<?x2xi32>, %arg82: tensor<?x2xf32>, %arg83: tensor<8x?xi32>, %arg84: tensor<8x?xf32>):
    %23:2 = "moe.dispatch"(%arg80, %arg81) <{choice = #moe.choice<token>, num_experts = 8 : i64}> : (tensor<?x64xf32>, tensor<?x2xi32>) -> (tensor<?x64xf32>, tensor<9xi32>)
    %24:2 = "moe.dispatch"(%arg80, %arg81, %arg82) <{choice = #moe.choice<token>, num_experts = 8 : i64}> : (tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> (tensor<?x64xf32>, tensor<9xi32>)
    %25:2 = "moe.dispatch"(%arg80, %arg83, %arg84) <{choice = #moe.choice<expert>, num_experts = 8 : i64}> : (tensor<?x64xf32>, tensor<8x?xi32>, tensor<8x?xf32>) -> (tensor<?x64xf32>, tensor<9xi32>)
    "func.return"(%25#0) : (tensor<?x64xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<5x4xbf16>, tensor<5x3xi32>) -> tensor<15x4xbf16>, sym_name = "dispatch_static"}> ({
  ^bb0(%arg78: tensor<5x4xbf16>, %arg79: tensor<5x3xi32>):
    %22:2 = "moe.dispatch"(%arg78, %arg79) <{choice = #moe.choice<token>, num_experts = 1 : i64}> : (tensor<5x4xbf16>, tensor<5x3xi32>) -> (tensor<15x4xbf16>, tensor<2xi32>)
    "func.return"(%22#0) : (tensor<15x4xbf16>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x64xbf16>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x64xf32>, tensor<64xf16>) -> tensor<?x64xf32>, sym_name = "combine"}> ({
  ^bb0(%arg73: tensor<?x64xbf16>, %arg74: tensor<?x2xi32>, %arg75: tensor<?x2xf32>, %arg76: tensor<?x64xf32>, %arg77: tensor<64xf16>):
    %20 = "moe.combine"(%arg73, %arg74) <{choice = #moe.choice<token>, num_experts = 8 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0>, scale = 1.000000e+00 : f64}> : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xf32>
    %21 = "moe.combine"(%arg73, %arg74, %arg75, %arg76, %arg76, %arg77) <{average, choice = #moe.choice<token>, num_experts = 8 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>, scale = 2.500000e+00 : f64}> : (tensor<?x64xbf16>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<64xf16>) -> tensor<?x64xf32>
    "func.return"(%21) : (tensor<?x64xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x64xf32>, tensor<8x?xi32>, tensor<8x?xf32>, index) -> (tensor<?x64xf32>, tensor<5x64xf32>), sym_name = "combine_chosen"}> ({
  ^bb0(%arg69: tensor<?x64xf32>, %arg70: tensor<8x?xi32>, %arg71: tensor<8x?xf32>, %arg72: index):
    %18 = "moe.combine"(%arg69, %arg70, %arg71, %arg72) <{choice = #moe.choice<expert>, num_experts = 8 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 1>, scale = 1.000000e+00 : f64}> : (tensor<?x64xf32>, tensor<8x?xi32>, tensor<8x?xf32>, index) -> tensor<?x64xf32>
    %19 = "moe.combine"(%arg69, %arg70) <{choice = #moe.choice<expert>, num_experts = 8 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0>, scale = 1.000000e+00 : f64}> : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<5x64xf32>
    "func.return"(%18, %19) : (tensor<?x64xf32>, tensor<5x64xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x64xf32>, tensor<9xi32>, tensor<8x256x64xf32>, tensor<8x64x128xf32>, tensor<8x256xf32>, tensor<8x64xf32>) -> tensor<?x64xf32>, sym_name = "experts"}> ({
  ^bb0(%arg63: tensor<?x64xf32>, %arg64: tensor<9xi32>, %arg65: tensor<8x256x64xf32>, %arg66: tensor<8x64x128xf32>, %arg67: tensor<8x256xf32>, %arg68: tensor<8x64xf32>):
    %16 = "moe.experts"(%arg63, %arg64, %arg65, %arg66) <{activation = #moe.activation<kind = silu>, gated, layout = #moe.layout<orientation = out_in>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0>}> : (tensor<?x64xf32>, tensor<9xi32>, tensor<8x256x64xf32>, tensor<8x64x128xf32>) -> tensor<?x64xf32>
    %17 = "moe.experts"(%16, %arg64, %arg65, %arg67, %arg66, %arg68) <{activation = #moe.activation<kind = silu, style = oai, limit = 7.000000e+00>, gated, layout = #moe.layout<orientation = out_in, pairing = interleaved>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1>}> : (tensor<?x64xf32>, tensor<9xi32>, tensor<8x256x64xf32>, tensor<8x256xf32>, tensor<8x64x128xf32>, tensor<8x64xf32>) -> tensor<?x64xf32>
    "func.return"(%17) : (tensor<?x64xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<10x4xbf16>, tensor<3xi32>, tensor<2x4x6xbf16>, tensor<2x4x6xbf16>, tensor<2x6xf32>, tensor<2x6xf32>, tensor<2x6x3xbf16>) -> tensor<10x3xf32>, sym_name = "experts_separate"}> ({
  ^bb0(%arg56: tensor<10x4xbf16>, %arg57: tensor<3xi32>, %arg58: tensor<2x4x6xbf16>, %arg59: tensor<2x4x6xbf16>, %arg60: tensor<2x6xf32>, %arg61: tensor<2x6xf32>, %arg62: tensor<2x6x3xbf16>):
    %15 = "moe.experts"(%arg56, %arg57, %arg58, %arg59, %arg60, %arg61, %arg62) <{activation = #moe.activation<kind = gelu_tanh>, gated, layout = #moe.layout<orientation = in_out, down = in_out, pairing = separate>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 1, 0>}> : (tensor<10x4xbf16>, tensor<3xi32>, tensor<2x4x6xbf16>, tensor<2x4x6xbf16>, tensor<2x6xf32>, tensor<2x6xf32>, tensor<2x6x3xbf16>) -> tensor<10x3xf32>
    "func.return"(%15) : (tensor<10x3xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x4xf32>, tensor<3xi32>, tensor<12x4xf32>, tensor<8x6xf32>) -> tensor<?x4xf32>, sym_name = "experts_folded"}> ({
  ^bb0(%arg52: tensor<?x4xf32>, %arg53: tensor<3xi32>, %arg54: tensor<12x4xf32>, %arg55: tensor<8x6xf32>):
    %14 = "moe.experts"(%arg52, %arg53, %arg54, %arg55) <{activation = #moe.activation<kind = relu2>, layout = #moe.layout<orientation = out_in, expert_axis = folded>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0>}> : (tensor<?x4xf32>, tensor<3xi32>, tensor<12x4xf32>, tensor<8x6xf32>) -> tensor<?x4xf32>
    "func.return"(%14) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x4xf64>, tensor<1x6x4xf64>, tensor<1x4x6xf64>) -> tensor<?x4xf64>, sym_name = "experts_shared"}> ({
  ^bb0(%arg49: tensor<?x4xf64>, %arg50: tensor<1x6x4xf64>, %arg51: tensor<1x4x6xf64>):
    %13 = "moe.experts"(%arg49, %arg50, %arg51) <{activation = #moe.activation<kind = identity>, layout = #moe.layout<orientation = out_in>, operandSegmentSizes = array<i32: 1, 0, 1, 0, 1, 0>}> : (tensor<?x4xf64>, tensor<1x6x4xf64>, tensor<1x4x6xf64>) -> tensor<?x4xf64>
    "func.return"(%13) : (tensor<?x4xf64>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<8x64x256xbf16>, tensor<512x128xf32>, tensor<8x256xf32>) -> tensor<8x256x64xbf16>, sym_name = "relayout"}> ({
  ^bb0(%arg46: tensor<8x64x256xbf16>, %arg47: tensor<512x128xf32>, %arg48: tensor<8x256xf32>):
    %8 = "moe.relayout"(%arg46) <{from = #moe.layout<orientation = in_out, pairing = interleaved>, gated, num_experts = 8 : i64, projection = #moe.projection<up>, to = #moe.layout<orientation = out_in>}> : (tensor<8x64x256xbf16>) -> tensor<8x256x64xbf16>
    %9:2 = "moe.relayout"(%8) <{from = #moe.layout<orientation = out_in>, gated, num_experts = 8 : i64, projection = #moe.projection<up>, to = #moe.layout<orientation = out_in, pairing = separate>}> : (tensor<8x256x64xbf16>) -> (tensor<8x128x64xbf16>, tensor<8x128x64xbf16>)
    %10 = "moe.relayout"(%9#0, %9#1) <{from = #moe.layout<orientation = out_in, pairing = separate>, gated, num_experts = 8 : i64, projection = #moe.projection<up>, to = #moe.layout<orientation = out_in, order = up_gate, shards = 4>}> : (tensor<8x128x64xbf16>, tensor<8x128x64xbf16>) -> tensor<8x256x64xbf16>
    %11 = "moe.relayout"(%arg47) <{from = #moe.layout<orientation = out_in, expert_axis = folded>, num_experts = 8 : i64, projection = #moe.projection<down>, to = #moe.layout<orientation = out_in, down = in_out>}> : (tensor<512x128xf32>) -> tensor<8x128x64xf32>
    %12 = "moe.relayout"(%arg48) <{from = #moe.layout<orientation = out_in, shards = 2>, gated, num_experts = 8 : i64, projection = #moe.projection<up_bias>, to = #moe.layout<orientation = out_in, pairing = interleaved>}> : (tensor<8x256xf32>) -> tensor<8x256xf32>
    "func.return"(%10) : (tensor<8x256x64xbf16>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x2xi32>, tensor<?x2xf32>, tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>) -> tensor<?xf32>, sym_name = "group"}> ({
  ^bb0(%arg40: tensor<?x2xi32>, %arg41: tensor<?x2xf32>, %arg42: tensor<9xi32>, %arg43: tensor<?xi32>, %arg44: tensor<?xi32>, %arg45: tensor<?xf32>):
    %6:4 = "moe.group"(%arg40, %arg42, %arg43, %arg44, %arg43) <{choice = #moe.choice<token>, operandSegmentSizes = array<i32: 1, 0, 4>}> : (tensor<?x2xi32>, tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) -> (tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>)
    %7:5 = "moe.group"(%arg40, %arg41, %arg42, %arg43, %arg44, %arg43, %arg45) <{choice = #moe.choice<token>, operandSegmentSizes = array<i32: 1, 1, 5>}> : (tensor<?x2xi32>, tensor<?x2xf32>, tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>) -> (tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>)
    "func.return"(%7#4) : (tensor<?xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (memref<3x4xi32>, memref<4xi32>, memref<12xi32>, memref<7xi32>) -> (), sym_name = "group_memref"}> ({
  ^bb0(%arg36: memref<3x4xi32>, %arg37: memref<4xi32>, %arg38: memref<12xi32>, %arg39: memref<7xi32>):
    "moe.group"(%arg36, %arg37, %arg38, %arg39, %arg38) <{choice = #moe.choice<expert>, operandSegmentSizes = array<i32: 1, 0, 4>}> : (memref<3x4xi32>, memref<4xi32>, memref<12xi32>, memref<7xi32>, memref<12xi32>) -> ()
    "func.return"() : () -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x64xbf16>, tensor<?xi32>, tensor<?xf32>, tensor<9xi32>, tensor<8x128x64xbf16>, tensor<8x128x64xbf16>, tensor<8x128xf32>, tensor<?x128xbf16>) -> tensor<?x128xbf16>, sym_name = "grouped_matmul"}> ({
  ^bb0(%arg25: tensor<?x64xbf16>, %arg26: tensor<?xi32>, %arg27: tensor<?xf32>, %arg28: tensor<9xi32>, %arg29: tensor<8x128x64xbf16>, %arg30: tensor<8x128x64xbf16>, %arg31: tensor<8x128xf32>, %arg32: tensor<?x128xbf16>):
    %3 = "moe.grouped_matmul"(%arg25, %arg26, %arg27, %arg28, %arg29, %arg30, %arg31, %arg32) <{operandSegmentSizes = array<i32: 1, 1, 1, 1, 2, 1, 0, 0, 1>}> ({
    ^bb0(%arg33: f32, %arg34: f32, %arg35: f32):
      %4 = "arith.addf"(%arg33, %arg35) <{fastmath = #arith.fastmath<none>}> : (f32, f32) -> f32
      %5 = "arith.mulf"(%4, %arg34) <{fastmath = #arith.fastmath<none>}> : (f32, f32) -> f32
      "moe.yield"(%5) : (f32) -> ()
    }) : (tensor<?x64xbf16>, tensor<?xi32>, tensor<?xf32>, tensor<9xi32>, tensor<8x128x64xbf16>, tensor<8x128x64xbf16>, tensor<8x128xf32>, tensor<?x128xbf16>) -> tensor<?x128xbf16>
    "func.return"(%3) : (tensor<?x128xbf16>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (memref<?x64xf64, strided<[?, 1]>>, memref<1x64x128xf64>, memref<?x128xf64>) -> (), sym_name = "grouped_matmul_memref"}> ({
  ^bb0(%arg21: memref<?x64xf64, strided<[?, 1]>>, %arg22: memref<1x64x128xf64>, %arg23: memref<?x128xf64>):
    "moe.grouped_matmul"(%arg21, %arg22, %arg23) <{in_out, operandSegmentSizes = array<i32: 1, 0, 0, 0, 1, 0, 0, 0, 1>}> ({
    ^bb0(%arg24: f64):
      "moe.yield"(%arg24) : (f64) -> ()
    }) : (memref<?x64xf64, strided<[?, 1]>>, memref<1x64x128xf64>, memref<?x128xf64>) -> ()
    "func.return"() : () -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>, tensor<?xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<64xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>, sym_name = "combine_slots"}> ({
  ^bb0(%arg12: tensor<?x64xf32>, %arg13: tensor<?xi32>, %arg14: tensor<?xi32>, %arg15: tensor<?xf32>, %arg16: tensor<?xf32>, %arg17: tensor<?x64xf32>, %arg18: tensor<?x64xf32>, %arg19: tensor<64xf32>, %arg20: tensor<?x64xf32>):
    %1 = "moe.combine_slots"(%arg12, %arg13, %arg14, %arg20) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 1>, scale = 1.000000e+00 : f64}> : (tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?x64xf32>) -> tensor<?x64xf32>
    %2 = "moe.combine_slots"(%arg12, %arg13, %arg14, %arg15, %arg16, %arg17, %arg18, %arg19, %1) <{average, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 1, 1>, scale = 2.500000e+00 : f64}> : (tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>, tensor<?xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<64xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>
    "func.return"(%2) : (tensor<?x64xf32>) -> ()
  }) : () -> ()
  "func.func"() <{function_type = (memref<8x4xf32>, memref<5xi32>, memref<8xi32>, memref<4x4xbf16>) -> (), sym_name = "combine_slots_memref"}> ({
  ^bb0(%arg8: memref<8x4xf32>, %arg9: memref<5xi32>, %arg10: memref<8xi32>, %arg11: memref<4x4xbf16>):
    "moe.combine_slots"(%arg8, %arg9, %arg10, %arg11) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 1>, scale = 1.000000e+00 : f64}> : (memref<8x4xf32>, memref<5xi32>, memref<8xi32>, memref<4x4xbf16>) -> ()
    "func.return"() : () -> ()
  }) : () -> ()
  "func.func"() <{function_type = (tensor<?x64xf32>, tensor<?x8xf32>, tensor<?x8xi32>, memref<4x6xbf16>, memref<4x6xbf16>, memref<4x6xi32>) -> tensor<?x8xi32>, sym_name = "top_k"}> ({
  ^bb0(%arg2: tensor<?x64xf32>, %arg3: tensor<?x8xf32>, %arg4: tensor<?x8xi32>, %arg5: memref<4x6xbf16>, %arg6: memref<4x6xbf16>, %arg7: memref<4x6xi32>):
    %0:2 = "moe.top_k"(%arg2, %arg3, %arg4) : (tensor<?x64xf32>, tensor<?x8xf32>, tensor<?x8xi32>) -> (tensor<?x8xf32>, tensor<?x8xi32>)
    "moe.top_k"(%arg5, %arg6, %arg7) : (memref<4x6xbf16>, memref<4x6xbf16>, memref<4x6xi32>) -> ()
    "func.return"(%0#1) : (tensor<?x8xi32>) -> ()
  }) : () -> ()
  "func.func"() <{arg_attrs = [{moe.dims = ["T", ""], moe.name = "x"}, {moe.layout = #moe.layout<orientation = out_in>, moe.name = "up"}], function_type = (tensor<?x4xf32>, tensor<2x6x4xf32>) -> tensor<?x4xf32>, res_attrs = [{moe.dims = ["T", ""], moe.name = "y"}], sym_name = "entry"}> ({
  ^bb0(%arg0: tensor<?x4xf32>, %arg1: tensor<2x6x4xf32>):
    "func.return"(%arg0) : (tensor<?x4xf32>) -> ()
  }) {moe.bounds = {T = 4096 : i64}, moe.entry, moe.num_inputs = 2 : i64} : () -> ()
}) : () -> ()

