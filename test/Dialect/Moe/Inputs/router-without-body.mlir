func.func @f(%logits: tensor<?x3xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    attributes {moe.entry} {
  %ids, %weights = moe.route #moe_test.no_body<k = 2> %logits
      : tensor<?x3xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
