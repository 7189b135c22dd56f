//===- LayerCost.cpp - Work of one call of a layer ------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LayerCost.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include <algorithm>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// One product: per row, and per expert whose weights are read.
struct Product {
  double macsPerRow = 0;
  double bytesPerExpert = 0;
  int64_t numExperts = 1;
  int64_t slots = 1; ///< Rows a token, where routed.
  bool isRouted = false;
};

double bytesOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return static_cast<double>(type.getNumElements()) *
         type.getElementTypeBitWidth() / 8;
}

int64_t getSlots(ExpertsOp op) {
  auto dispatch = op.getRows().getDefiningOp<DispatchOp>();
  if (!dispatch || dispatch.getChoice() == Choice::expert)
    return 1;
  int64_t slots = dispatch.getIds().getType().getDimSize(1);
  return ShapedType::isDynamic(slots) ? 1 : slots;
}

std::vector<Product> collectProducts(func::FuncOp layer) {
  std::vector<Product> products;
  layer.walk([&](ExpertsOp op) {
    Product product;
    double width = op.getIntermediateSize();
    double up = op.getGated() ? 2.0 : 1.0;
    product.macsPerRow = width * (up * op.getInSize() + op.getOutSize());
    product.numExperts = op.getNumExperts();
    double bytes = bytesOf(op.getDown());
    for (Value weight : op.getUp())
      bytes += bytesOf(weight);
    product.bytesPerExpert = bytes / product.numExperts;
    product.isRouted = static_cast<bool>(op.getOffsets());
    product.slots = getSlots(op);
    products.push_back(product);
  });
  layer.walk([&](GateOp op) {
    Product product;
    product.macsPerRow =
        static_cast<double>(op.getWeight().getType().getNumElements());
    product.bytesPerExpert = bytesOf(op.getWeight());
    products.push_back(product);
  });
  return products;
}

} // namespace

::moe::run::CostFn mlir::moe::makeCostFunction(func::FuncOp layer) {
  int tokenInput = -1, tokenDim = -1, loadsOutput = -1;
  for (auto [i, type] : llvm::enumerate(layer.getArgumentTypes())) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (tokenInput < 0 && tensor && tensor.getRank() == 2 &&
        isa<FloatType>(tensor.getElementType())) {
      tokenInput = i;
      tokenDim = 0;
    }
  }
  for (unsigned i = 0; i < layer.getNumResults(); ++i)
    if (auto name = layer.getResultAttrOfType<StringAttr>(i, kNameAttrName))
      if (name.getValue() == "expert_loads")
        loadsOutput = i;
  std::vector<Product> products = collectProducts(layer);
  if (products.empty() || tokenInput < 0)
    return {};
  return [=](const std::vector<::moe::io::Tensor> &inputs,
             const std::vector<::moe::io::Tensor> &outputs)
             -> std::optional<::moe::run::Cost> {
    double tokens = static_cast<double>(inputs[tokenInput].shape()[tokenDim]);
    double rows = -1, touched = -1;
    if (loadsOutput >= 0) {
      const ::moe::io::Tensor &loads = outputs[loadsOutput];
      const auto *counts = loads.as<int32_t>();
      rows = touched = 0;
      for (int64_t e = 0; e < loads.shape()[0]; ++e) {
        rows += counts[e];
        touched += counts[e] > 0;
      }
    }
    ::moe::run::Cost cost;
    for (const Product &product : products) {
      double productRows = tokens, experts = tokens > 0 ? 1 : 0;
      if (product.isRouted) {
        productRows = rows >= 0 ? rows : tokens * product.slots;
        experts = touched >= 0
                      ? touched
                      : std::min<double>(product.numExperts, productRows);
      }
      cost.flops += 2 * product.macsPerRow * productRows;
      cost.weightBytes += product.bytesPerExpert * experts;
    }
    return cost;
  };
}
