// The list, and the numbers that a model is known by.
// RUN: moe-compile --list-examples | FileCheck %s --check-prefix=LIST
// LIST-DAG: {{^}}mixtral P Mixtral-8x7B
// LIST-DAG: {{^}}deepseek-v3 S DeepSeek-V3
// LIST-DAG: {{^}}vmoe P V-MoE
// LIST: Sources: S huggingface/transformers

// RUN: moe-compile --list-keys | FileCheck %s --check-prefix=KEYS
// KEYS: {{^}}name=layer
// KEYS: {{^}}top_k=2 {{.*}} (an integer from 1 to 16777216)
// KEYS: {{^}}score=softmax {{.*}} (softmax, sigmoid, sqrt_softplus or none)
// KEYS: {{^}}weights=false {{.*}} (true or false)

// What is printed parses, verifies and is what it was.
// RUN: moe-compile --example mixtral | FileCheck %s
// RUN: moe-compile --example mixtral | moe-opt | FileCheck %s
// CHECK: func.func @mixtral(
// CHECK-SAME: tensor<?x4096xbf16> {moe.dims = ["T", ""], moe.name = "x"}
// CHECK-SAME: tensor<8x4096xbf16> {moe.name = "router_weight"}
// CHECK-SAME: tensor<8x28672x4096xbf16> {moe.layout = #moe.layout<orientation = out_in>, moe.name = "gate_up"}
// CHECK-SAME: tensor<8x4096x14336xbf16> {moe.layout = #moe.layout<orientation = out_in>, moe.name = "down"}
// CHECK-SAME: -> (tensor<?x4096xbf16> {moe.dims = ["T", ""], moe.name = "y"})
// CHECK-SAME: moe.entry
// CHECK: moe.gate {{.*}} -> tensor<?x8xbf16>
// CHECK: moe.route #moe.top_k<k = 2, normalize = sum> {{.*}} tensor<?x2xf32>
// CHECK: moe.dispatch {{.*}} experts 8
// CHECK: moe.experts {{.*}} gated activation #moe.activation<kind = silu>
// CHECK: moe.combine {{.*}} weights(

// The last setting of a key wins; -o writes what is printed otherwise.
// RUN: moe-compile --example mixtral --set hidden=32 --set tokens=7 \
// RUN:   --set hidden=48 --set name=small -o %t.mlir
// RUN: FileCheck %s --check-prefix=SET --input-file=%t.mlir
// SET: func.func @small({{.*}}: tensor<7x48xbf16>

// RUN: moe-compile --example deepseek-v3 | FileCheck %s --check-prefix=V3
// V3: moe.route #moe.top_k<k = 8, score = sigmoid, groups = 8, kept_groups = 4, group_score = top2sum, normalize = sum, eps = {{9.9+5E-21}}, scale = {{2.50+e\+00}}> {{.*}} bias({{.*}} : tensor<256xf32>)
// V3: moe.experts {{.*}} up({{.*}} : tensor<1x4096x7168xbf16>)
// V3: moe.combine {{.*}} residual(

// RUN: moe-compile --example gpt-oss-20b | FileCheck %s --check-prefix=OSS
// OSS: tensor<32x2880x5760xbf16> {moe.layout = #moe.layout<orientation = in_out, down = in_out, pairing = interleaved>, moe.name = "gate_up"}
// OSS: moe.route #moe.top_k<k = 4, domain = topk, score_dtype = bf16>
// OSS: moe.experts {{.*}} bias({{.*}} down_bias({{.*}} activation #moe.activation<kind = silu, style = oai, limit = {{7.0+[^>]*}}>

// RUN: moe-compile --example expert-choice | FileCheck %s --check-prefix=EC
// EC: moe.route_experts #moe.expert_choice<capacity = <factor = {{2.0[^>]*}}>> {{.*}} -> tensor<64x?xi32>
// EC: moe.dispatch {{.*}} chosen_by <expert>
// EC: moe.combine {{.*}} chosen_by <expert> {{.*}} num_tokens(

// RUN: moe-compile --example vmoe | FileCheck %s --check-prefix=VMOE
// VMOE: moe.limit_capacity {{.*}} by <factor = {{1.05[^,]*}}, rounding = nearest, per = slots> queue <prioritized>
