//===- FuseGating.cpp - Gate, score and choice in one pass over tokens ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/TileUsingInterface.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Dominance.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEGATINGPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

struct MoeFuseGating : public moe::impl::MoeFuseGatingPassBase<MoeFuseGating> {
  using MoeFuseGatingPassBase::MoeFuseGatingPassBase;

  void runOnOperation() override {
    if (tileSize < 1) {
      getOperation()->emitError("moe-fuse-gating needs a tile of tokens");
      return signalPassFailure();
    }
    SmallVector<RouteOp> routes;
    getOperation()->walk([&](RouteOp op) { routes.push_back(op); });
    for (RouteOp route : routes)
      if (failed(fuse(route)))
        return signalPassFailure();
  }

  /// Why a route stays as it is, or nothing.
  static std::optional<StringRef> getRefusal(RouteOp route) {
    if (route.getRouter().getLocality() != Locality::token)
      return StringRef("its router looks beyond the token");
    Operation *producer = route.getLogits().getDefiningOp();
    if (!isa_and_nonnull<GateOp, ScoreOp>(producer))
      return StringRef("its logits do not come from a gate or score");
    if (producer->getBlock() != route->getBlock())
      return StringRef("its gate stands in another block");
    return std::nullopt;
  }

  LogicalResult fuse(RouteOp route) {
    if (std::optional<StringRef> reason = getRefusal(route)) {
      route.emitRemark("not fused with a gate: ") << *reason;
      return success();
    }
    scf::SCFTilingOptions tiling;
    tiling.setTileSizes({OpFoldResult(
        IntegerAttr::get(IndexType::get(&getContext()), tileSize))});
    tiling.setLoopType(scf::SCFTilingOptions::LoopType::ForallOp);
    scf::SCFTileAndFuseOptions options;
    options.setTilingOptions(tiling);
    // Logits that others read too leave the loop with the routing, so that no
    // gate is computed twice.
    DominanceInfo dominance(getOperation());
    Operation *root = route;
    options.setFusionControlFn(
        [root](tensor::ExtractSliceOp, OpResult producer, bool)
            -> std::optional<scf::SCFTileAndFuseOptions::ControlFnResult> {
          if (!isa<GateOp, ScoreOp>(producer.getOwner()))
            return std::nullopt;
          scf::SCFTileAndFuseOptions::ControlFnResult result;
          result.yieldProducerReplacement =
              llvm::any_of(producer.getUsers(), [&](Operation *user) {
                return user != root && !isa<tensor::ExtractSliceOp>(user) &&
                       !isa<tensor::DimOp>(user);
              });
          return result;
        });

    IRRewriter rewriter(&getContext());
    rewriter.setInsertionPoint(route);
    // Uses between a producer and the loop would read a value defined later.
    moveLaterUsersBehind(route);
    auto fused = scf::tileConsumerAndFuseProducersUsingSCF(
        rewriter, cast<TilingInterface>(route.getOperation()), options);
    if (failed(fused)) {
      return route.emitOpError("could not be tiled over tokens");
    }
    for (auto [original, replacement] : fused->replacements)
      rewriter.replaceAllUsesWith(original, replacement);
    SmallVector<Operation *> dead(fused->fusedProducers.begin(),
                                  fused->fusedProducers.end());
    rewriter.eraseOp(route);
    for (Operation *op : dead)
      if (isOpTriviallyDead(op))
        rewriter.eraseOp(op);
    ++numFused;
    return success();
  }

  /// Ops in front of the route that read its producers' logits move behind it.
  static void moveLaterUsersBehind(RouteOp route) {
    Operation *producer = route.getLogits().getDefiningOp();
    SmallVector<Operation *> producers = {producer};
    if (auto score = dyn_cast<ScoreOp>(producer))
      if (Operation *gate = score.getLogits().getDefiningOp())
        producers.push_back(gate);
    Operation *anchor = route;
    for (Operation *op : producers)
      for (Operation *user : llvm::make_early_inc_range(op->getUsers())) {
        bool early = user->getBlock() == route->getBlock() &&
                     user->isBeforeInBlock(route) &&
                     !llvm::is_contained(producers, user);
        // Only leaves of the graph in front of the route may move.
        bool feedsRoute = llvm::any_of(user->getUsers(), [&](Operation *next) {
          return next->getBlock() != route->getBlock() ||
                 next->isBeforeInBlock(route) || next == route;
        });
        if (early && !feedsRoute && isMemoryEffectFree(user)) {
          user->moveAfter(anchor);
          anchor = user;
        }
      }
  }
};

} // namespace
