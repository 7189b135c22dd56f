// Small enough to compute by hand, with 0, 1, 2, ... in every input: both
// tokens choose expert 1, whose rows are relu(x up) down times the logit.
func.func @tiny(
    %x: tensor<?x2xf32> {moe.name = "x", moe.dims = ["T", ""]},
    %router: tensor<2x2xf32> {moe.name = "router"},
    %up: tensor<2x2x2xf32> {moe.name = "up",
                            moe.layout = #moe.layout<orientation = out_in>},
    %down: tensor<2x2x2xf32> {moe.name = "down",
                              moe.layout = #moe.layout<orientation = out_in>})
    -> (tensor<?x2xf32> {moe.name = "y", moe.dims = ["T", ""]})
    attributes {moe.entry, moe.bounds = {T = 4096 : i64}} {
  %logits = moe.gate %x, %router
      : (tensor<?x2xf32>, tensor<2x2xf32>) -> tensor<?x2xf32>
  %ids, %weights = moe.route #moe.top_k<k = 1, score = none> %logits
      : tensor<?x2xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 2
      : (tensor<?x2xf32>, tensor<?x1xi32>) -> (tensor<?x2xf32>, tensor<3xi32>)
  %out = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%up : tensor<2x2x2xf32>) down(%down : tensor<2x2x2xf32>)
      activation #moe.activation<kind = relu> layout <orientation = out_in>
      : tensor<?x2xf32> -> tensor<?x2xf32>
  %y = moe.combine %out, %ids experts 2 weights(%weights : tensor<?x1xf32>)
      : (tensor<?x2xf32>, tensor<?x1xi32>) -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}
