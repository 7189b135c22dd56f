// Each token goes to one of two experts, which are y = down up x.

func.func @layer(
    %x: tensor<?x2xf32> {moe.name = "x", moe.dims = ["T", ""]},
    %router: tensor<2x2xf32> {moe.name = "router_weight"},
    %up: tensor<2x2x2xf32>
      {moe.name = "up", moe.layout = #moe.layout<orientation = out_in>},
    %down: tensor<2x2x2xf32>
      {moe.name = "down", moe.layout = #moe.layout<orientation = out_in>})
    -> (tensor<?x2xf32> {moe.name = "y", moe.dims = ["T", ""]})
    attributes {moe.entry} {
  %logits = moe.gate %x, %router
    : (tensor<?x2xf32>, tensor<2x2xf32>) -> tensor<?x2xf32>
  %ids, %weights = moe.route #moe.top_k<k = 1, normalize = sum> %logits
    : tensor<?x2xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 2
    : (tensor<?x2xf32>, tensor<?x1xi32>) -> (tensor<?x2xf32>, tensor<3xi32>)
  %out = moe.experts %rows offsets(%offsets : tensor<3xi32>)
    up(%up : tensor<2x2x2xf32>) down(%down : tensor<2x2x2xf32>)
    activation #moe.activation<kind = identity>
    layout <orientation = out_in> : tensor<?x2xf32> -> tensor<?x2xf32>
  %y = moe.combine %out, %ids experts 2 weights(%weights : tensor<?x1xf32>)
    : (tensor<?x2xf32>, tensor<?x1xi32>) -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

func.func @router(
    %x: tensor<?x2xf32> {moe.name = "x", moe.dims = ["T", ""]},
    %router: tensor<2x2xf32> {moe.name = "router_weight"})
    -> (tensor<?x1xi32> {moe.name = "ids", moe.dims = ["T", ""]})
    attributes {moe.entry} {
  %logits = moe.gate %x, %router
    : (tensor<?x2xf32>, tensor<2x2xf32>) -> tensor<?x2xf32>
  %ids, %weights = moe.route #moe.top_k<k = 1, normalize = sum> %logits
    : tensor<?x2xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids : tensor<?x1xi32>
}
