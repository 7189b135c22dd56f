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
#include "mlir/IR/Remarks.h"
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

/// What makes the rows of a gate, token by token.
bool isRowsOp(Operation *op) {
  return isa_and_nonnull<JitterOp, UnitRowsOp>(op);
}

/// A backward reads what a forward saved: there is no gate in front of it.
bool isBackward(Operation *op) {
  return isa<RouteVJPOp, ScoreVJPOp, NoisyLogitsVJPOp, UnitRowsVJPOp,
             SubsetPartitionVJPOp, MixQueryVJPOp, MixKeyVJPOp>(op);
}

bool isMix(Operation *op) { return isa_and_nonnull<MixOp, MixMatrixOp>(op); }

/// An op over tokens (the root: a route, or whatever else reads logits) and the
/// ops that feed it: score, mix, gate, what makes its rows. A mix ends the
/// chain, as it reads the values of tokens outside a tile. Values that others
/// read too leave the loop with the results, so that no gate is computed twice.
class GatingChain {
public:
  explicit GatingChain(Operation *root)
      : root(root), logits(root->getOperand(0)) {
    Operation *op = root;
    while (Operation *producer = getFeeder(op)) {
      // A gate of another block may serve many routes.
      if (producer->getBlock() != root->getBlock())
        break;
      producers.insert(producer);
      op = producer;
    }
    for (Operation *producer : producers)
      for (Operation *user : producer->getUsers())
        if (user != root && !isProducer(user) && !isa<tensor::DimOp>(user))
          read.insert(producer);
  }

  /// The op that could run in one loop with `op`, tile by tile, or null.
  static Operation *getFeeder(Operation *op) {
    if (isMix(op) || isBackward(op) || op->getNumOperands() == 0)
      return nullptr;
    Operation *feeder = op->getOperand(0).getDefiningOp();
    bool isFeeder = isRowsOp(feeder);
    if (!isa<GateOp>(op) && !isRowsOp(op))
      isFeeder |= isMix(feeder) || isa_and_nonnull<GateOp, ScoreOp>(feeder);
    return isFeeder ? feeder : nullptr;
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
              const llvm::DenseMap<Value, Value> &replacements,
              llvm::SmallPtrSetImpl<Operation *> &erased);

private:
  Operation *root;
  Value logits;
  llvm::SmallSetVector<Operation *, 4> producers; ///< The last one first.
  llvm::SmallPtrSet<Operation *, 4> read;         ///< Those with readers.
  SmallVector<Operation *> readers; ///< In front of the route, in order.
};

std::optional<StringRef> GatingChain::getRefusal() {
  if (auto route = dyn_cast<RouteOp>(root);
      route && route.getRouter().getLocality() != Locality::token)
    return StringRef("its router looks beyond the token");
  Operation *producer = getFeeder(root);
  if (!producer)
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
                         const llvm::DenseMap<Value, Value> &replacements,
                         llvm::SmallPtrSetImpl<Operation *> &erased) {
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
    if (isOpTriviallyDead(op)) {
      erased.insert(op);
      rewriter.eraseOp(op);
    }
  }
}

struct MoeFuseGating : public moe::impl::MoeFuseGatingPassBase<MoeFuseGating> {
  using MoeFuseGatingPassBase::MoeFuseGatingPassBase;

  void runOnOperation() override {
    if (tileSize < 1) {
      getOperation()->emitError("moe-fuse-gating needs a tile of tokens");
      return signalPassFailure();
    }
    erased.clear();
    IRRewriter rewriter(&getContext());
    getOperation()->walk([&](Operation *op) {
      remarkOnTokens(op);
      splitScore(rewriter, op);
    });
    // Routes take the ops that feed them into their loops; then what feeds no
    // route, from the last op to the first.
    SmallVector<Operation *> roots, feeders;
    getOperation()->walk([&](Operation *op) {
      if (isa<GateOp, ScoreOp>(op) || isMix(op) || isRowsOp(op))
        feeders.push_back(op);
      else if (isa<TokenBodyOpInterface>(op) && isa<TilingInterface>(op))
        roots.push_back(op);
    });
    for (Operation *root : roots)
      if (failed(fuse(root)))
        return signalPassFailure();
    for (Operation *root : llvm::reverse(feeders)) {
      // A gate alone is a product, which has loops of its own.
      if (erased.contains(root) ||
          (isa<GateOp>(root) && !GatingChain::getFeeder(root)))
        continue;
      if (failed(fuse(root)))
        return signalPassFailure();
    }
  }

private:
  /// What reads more tokens than its own is not fused with its gate. Nothing
  /// was missed, and no warning is due: an analysis for who asks.
  static void remarkOnTokens(Operation *op) {
    Operation *feeder =
        op->getNumOperands() > 0 ? op->getOperand(0).getDefiningOp() : nullptr;
    StringRef reason;
    if (isMix(op))
      reason = "a mix reads the values of other tokens";
    else if (isa<RouteExpertsOp>(op))
      reason = "experts choose among all tokens of a group";
    else if (isa<RouteSlotsOp>(op))
      reason = "a slot is an average of all tokens of a group";
    if (reason.empty() || !isa_and_nonnull<GateOp, ScoreOp>(feeder))
      return;
    remark::analysis(
        op->getLoc(),
        remark::RemarkOpts::name("Locality").category("moe-fuse-gating"))
        << ("not fused with the gate in front: " + reason).str();
  }

  /// A global router's softmax over a token's experts or slots is no more
  /// global than a score: it leaves the selection per group and joins the gate.
  static void splitScore(IRRewriter &rewriter, Operation *op) {
    auto score = [&](Value logits, RankedTensorType type) -> Value {
      rewriter.setInsertionPoint(op);
      return ScoreOp::create(
          rewriter, op->getLoc(), type, logits,
          ScoreKindAttr::get(op->getContext(), ScoreKind::softmax),
          rewriter.getF64FloatAttr(0.0));
    };
    if (auto route = dyn_cast<RouteSlotsOp>(op);
        route && !route.getTokenMask() && !route.getCombine().use_empty()) {
      rewriter.replaceAllUsesWith(
          route.getCombine(),
          score(route.getLogits(), route.getCombine().getType()));
    }
    auto route = dyn_cast<RouteExpertsOp>(op);
    auto choice =
        route ? dyn_cast<ExpertChoiceAttr>(route.getRouter()) : nullptr;
    // A cap wants scores in f64.
    if (!choice || choice.isCapped() || choice.getAxis() != ChoiceAxis::experts)
      return;
    RankedTensorType type = route.getLogits().getType();
    bool isWide = type.getElementType().isF64() ||
                  route.getWeights().getType().getElementType().isF64();
    Value scores =
        score(route.getLogits(), type.clone(isWide ? Type(rewriter.getF64Type())
                                                   : rewriter.getF32Type()));
    rewriter.modifyOpInPlace(route, [&] {
      route.getLogitsMutable().assign(scores);
      route.setRouterAttr(
          ExpertChoiceAttr::get(choice.getContext(), choice.getCapacity(),
                                ChoiceAxis::given, choice.getNormalize()));
    });
  }

  LogicalResult fuse(Operation *root) {
    GatingChain chain(root);
    std::optional<StringRef> reason;
    // These have no gate to be fused with.
    bool isAlone = isMix(root) || isBackward(root) ||
                   (isRowsOp(root) && !chain.getFeeder(root));
    if (!isAlone)
      reason = chain.getRefusal();
    if (reason)
      root->emitRemark("not fused with a gate: ") << *reason;
    else
      chain.moveReadersBehind();
    if (auto route = dyn_cast<RouteOp>(root);
        route && route.getRouter().getLocality() != Locality::token)
      return success();

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
        rewriter, cast<TilingInterface>(root), options);
    if (failed(fused))
      return root->emitOpError("could not be tiled over tokens");
    erased.insert(root);
    if (reason || isAlone) {
      // Its tokens still run on all threads.
      for (OpResult result : root->getResults())
        rewriter.replaceAllUsesWith(result, fused->replacements[result]);
      rewriter.eraseOp(root);
      ++numTiled;
      return success();
    }
    chain.finish(rewriter, fused->loops.front(), fused->replacements, erased);
    ++numFused;
    return success();
  }

  llvm::SmallPtrSet<Operation *, 16> erased; ///< By their old addresses.
};

} // namespace
