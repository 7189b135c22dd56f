//===- FuseGating.cpp - Gate, score and choice in one pass ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/TileUsingInterface.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEGATINGPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A token-local op in front of a gate, such as a jitter of its rows, or null.
TokenBodyOpInterface getRowsOp(GateOp gate) {
  auto rows = gate.getInput().getDefiningOp<TokenBodyOpInterface>();
  if (!rows || rows->getNumResults() != 1 ||
      !isa<TilingInterface>(rows.getOperation()))
    return nullptr;
  return rows;
}

/// A token-local op on logits, such as a route, the gate and score that feed
/// it, and what makes the gate's rows. Logits that others read too leave the
/// loop with the results, so that no gate is computed twice.
class GatingChain {
public:
  explicit GatingChain(TokenBodyOpInterface root)
      : root(root), logits(root->getOperand(0)) {
    Operation *op = logits.getDefiningOp();
    if (auto score = dyn_cast_if_present<ScoreOp>(op)) {
      addProducer(score);
      op = score.getLogits().getDefiningOp();
    }
    if (auto gate = dyn_cast_if_present<GateOp>(op); gate && addProducer(gate))
      if (TokenBodyOpInterface rows = getRowsOp(gate))
        addProducer(rows);
    for (Operation *producer : producers)
      for (Operation *user : producer->getUsers())
        if (user != root && !isProducer(user) && !isa<tensor::DimOp>(user))
          read.insert(producer);
  }

  /// Why the route stays as it is, or nothing.
  std::optional<StringRef> getRefusal();
  /// Ops in front of the route that read the logits move behind it.
  void moveReadersBehind();

  bool isProducer(Operation *op) const { return producers.contains(op); }
  /// Whether an op outside the chain reads values, rather than their size.
  bool hasReader(Operation *producer) const { return read.contains(producer); }

  /// Replaces what the fused loop computes and erases the chain.
  void finish(RewriterBase &rewriter, Operation *loop,
              const llvm::DenseMap<Value, Value> &replacements);

private:
  bool addProducer(Operation *op) {
    // A gate of another block may serve many routes.
    return op->getBlock() == root->getBlock() && producers.insert(op);
  }

  TokenBodyOpInterface root;
  Value logits;
  llvm::SmallSetVector<Operation *, 3> producers; ///< Score, gate, rows.
  llvm::SmallPtrSet<Operation *, 2> read;         ///< Those with readers.
  SmallVector<Operation *> readers; ///< In front of the route, in order.
};

std::optional<StringRef> GatingChain::getRefusal() {
  auto route = dyn_cast<RouteOp>(root.getOperation());
  if (route && route.getRouter().getLocality() != Locality::token)
    return StringRef("its router looks beyond the token");
  Operation *producer = logits.getDefiningOp();
  if (!isa_and_nonnull<GateOp, ScoreOp>(producer))
    return StringRef("its logits do not come from a gate or score");
  if (!isProducer(producer))
    return StringRef("its gate stands in another block");

  // The readers and what is computed from them, up to the route.
  llvm::SmallPtrSet<Operation *, 8> late(producers.begin(), producers.end());
  for (Operation &op : llvm::make_range(
           std::next(producers.back()->getIterator()), root->getIterator())) {
    bool isLate = false;
    op.walk([&](Operation *inner) {
      for (Value operand : inner->getOperands()) {
        Operation *source = operand.getDefiningOp();
        isLate |= source && late.contains(source);
      }
    });
    // A size is known without the values.
    if (!isLate || isProducer(&op) || isa<tensor::DimOp>(op))
      continue;
    if (!isMemoryEffectFree(&op))
      return StringRef("an op in front of it reads its logits and cannot move");
    late.insert(&op);
    readers.push_back(&op);
  }
  for (Value operand : root->getOperands())
    if (Operation *source = operand.getDefiningOp())
      if (late.contains(source) && !isProducer(source))
        return StringRef("another operand of it depends on its logits");
  return std::nullopt;
}

void GatingChain::moveReadersBehind() {
  Operation *anchor = root;
  for (Operation *op : readers) {
    op->moveAfter(anchor);
    anchor = op;
  }
}

void GatingChain::finish(RewriterBase &rewriter, Operation *loop,
                         const llvm::DenseMap<Value, Value> &replacements) {
  for (auto [original, replacement] : replacements)
    rewriter.replaceUsesWithIf(original, replacement, [&](OpOperand &operand) {
      Operation *user =
          loop->getBlock()->findAncestorOpInBlock(*operand.getOwner());
      return !isProducer(user) && loop->isBeforeInBlock(user);
    });
  rewriter.eraseOp(root);
  // What is left are sizes and slices that tiling has seen through.
  for (Operation *op : producers) {
    for (Operation *user : llvm::make_early_inc_range(op->getUsers())) {
      auto dim = dyn_cast<tensor::DimOp>(user);
      if (dim && !dim.use_empty() && dim.getConstantIndex()) {
        rewriter.setInsertionPoint(dim);
        auto size = reifyDimOfResult(rewriter, op, 0, *dim.getConstantIndex());
        if (succeeded(size))
          rewriter.replaceAllUsesWith(dim, getValueOrCreateConstantIndexOp(
                                               rewriter, dim.getLoc(), *size));
      }
      if (isOpTriviallyDead(user))
        rewriter.eraseOp(user);
    }
    if (isOpTriviallyDead(op))
      rewriter.eraseOp(op);
  }
}

struct MoeFuseGating : public moe::impl::MoeFuseGatingPassBase<MoeFuseGating> {
  using MoeFuseGatingPassBase::MoeFuseGatingPassBase;

  void runOnOperation() override {
    done.clear();
    if (tileSize < 1) {
      getOperation()->emitError("moe-fuse-gating needs a tile of tokens");
      return signalPassFailure();
    }
    // What makes a gate's rows comes last: it may have been fused by then.
    for (bool isLast : {false, true}) {
      SmallVector<TokenBodyOpInterface> roots;
      getOperation()->walk([&](TokenBodyOpInterface op) {
        if (isa<TilingInterface>(op.getOperation()) && !done.contains(op) &&
            !done.contains(op->getParentOfType<scf::ForallOp>()) &&
            (isLast || !isRowsOp(op)))
          roots.push_back(op);
      });
      for (TokenBodyOpInterface root : roots)
        if (failed(fuse(root, /*isRows=*/isLast)))
          return signalPassFailure();
    }
  }

  /// Whether a gate reads what the op makes.
  static bool isRowsOp(TokenBodyOpInterface op) {
    return llvm::any_of(op->getUsers(), [&](Operation *user) {
      auto gate = dyn_cast<GateOp>(user);
      return gate && getRowsOp(gate) == op;
    });
  }

  LogicalResult fuse(TokenBodyOpInterface root, bool isRows) {
    GatingChain chain(root);
    std::optional<StringRef> reason = chain.getRefusal();
    if (reason && isRows)
      reason = "its gate is not fused with a choice beside it";
    if (!reason)
      chain.moveReadersBehind();
    else if (isRows || !isa<JitterOp>(root))
      // A jitter that no gate reads has nothing to be fused with.
      root.emitRemark("not fused with a gate: ") << *reason;
    auto route = dyn_cast<RouteOp>(root.getOperation());
    if (route && route.getRouter().getLocality() != Locality::token) {
      done.insert(root);
      return success();
    }

    scf::SCFTilingOptions tiling;
    tiling.setTileSizes({OpFoldResult(
        IntegerAttr::get(IndexType::get(&getContext()), tileSize))});
    tiling.setLoopType(scf::SCFTilingOptions::LoopType::ForallOp);
    scf::SCFTileAndFuseOptions options;
    options.setTilingOptions(tiling);
    options.setFusionControlFn(
        [&](tensor::ExtractSliceOp, OpResult producer, bool)
            -> std::optional<scf::SCFTileAndFuseOptions::ControlFnResult> {
          if (reason || !chain.isProducer(producer.getOwner()))
            return std::nullopt;
          scf::SCFTileAndFuseOptions::ControlFnResult result;
          result.yieldProducerReplacement =
              chain.hasReader(producer.getOwner());
          return result;
        });

    IRRewriter rewriter(&getContext());
    rewriter.setInsertionPoint(root);
    auto fused = scf::tileConsumerAndFuseProducersUsingSCF(
        rewriter, cast<TilingInterface>(root.getOperation()), options);
    if (failed(fused))
      return root.emitOpError("could not be tiled over tokens");
    if (reason) {
      // Its tokens still run on all threads.
      for (OpResult result : root->getResults())
        rewriter.replaceAllUsesWith(result, fused->replacements[result]);
      rewriter.eraseOp(root);
      done.insert(fused->loops.front());
      ++numTiled;
      return success();
    }
    done.insert(fused->loops.front());
    chain.finish(rewriter, fused->loops.front(), fused->replacements);
    ++numFused;
    return success();
  }

  llvm::SmallPtrSet<Operation *, 4> done; ///< Loops made, routes left alone.
};

} // namespace
