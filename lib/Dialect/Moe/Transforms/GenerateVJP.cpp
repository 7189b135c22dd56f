//===- GenerateVJP.cpp - Forwards with residuals, and backwards -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The forward and the backward are made in one function, where the backward may
// read any value of the forward, and are then taken apart: each value of the
// forward that the backward reads is an argument, is saved, or is computed
// again.
//
//===----------------------------------------------------------------------===//

#include "SizeClasses.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Transforms/RegionUtils.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEGENERATEVJPPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

bool isReal(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa<FloatType>(tensor.getElementType());
}

/// Makes @f_fwd and @f_bwd of one function.
class VJPGenerator {
public:
  VJPGenerator(func::FuncOp function, SaveMode mode)
      : function(function), b(function.getLoc(), function.getContext()),
        cotangents(mode) {}

  LogicalResult run(ArrayRef<std::string> wrt);

private:
  /// The name of an argument or a result of @f.
  std::string nameOf(bool isArgument, unsigned place);
  LogicalResult chooseArguments(ArrayRef<std::string> wrt);
  void copyFunction();
  void keepGiven(ExpertsOp op);
  LogicalResult emitBackward();
  void dropUnused();

  bool isForward(Value value) {
    Operation *op = value.getDefiningOp();
    return op && forward.contains(op);
  }
  bool canSize(SizeClasses &known, Value value);
  bool isSaved(Value value);
  void require(Value value);
  void requireAll();
  void resolveSizes();
  bool resolveSize(tensor::DimOp op);

  Value getIds(Value value);
  RankedTensorType getSavedType(Value value);
  func::FuncOp createFunction(StringRef suffix, FunctionType type);
  ArrayAttr nameSizes(Value value);
  void setNames(func::FuncOp made, bool isArgument, unsigned place, Value value,
                StringRef name, DictionaryAttr attrs);
  void createForward();
  void createBackward();

  func::FuncOp function, joint;
  ImplicitLocOpBuilder b;
  Cotangents cotangents;
  SmallVector<unsigned> wanted; ///< Numbers of arguments.
  llvm::DenseSet<Operation *> forward;
  SmallVector<Operation *> backward; ///< In order.
  SmallVector<Value> results;        ///< Of the forward.
  SmallVector<BlockArgument> given;  ///< Cotangents of results.
  SmallVector<unsigned> givenFor;    ///< Whose.
  SmallVector<Value> gradients;
  llvm::SetVector<Value> saved, arguments;
  llvm::DenseSet<Operation *> again; ///< Ops of the forward, computed again.
  std::unique_ptr<SizeClasses> classes;
  std::unique_ptr<SizeNames> names;
};

std::string VJPGenerator::nameOf(bool isArgument, unsigned place) {
  Attribute attr = isArgument ? function.getArgAttr(place, kNameAttrName)
                              : function.getResultAttr(place, kNameAttrName);
  if (auto name = dyn_cast_or_null<StringAttr>(attr))
    return name.str();
  return ((isArgument ? "arg" : "result") + Twine(place)).str();
}

LogicalResult VJPGenerator::chooseArguments(ArrayRef<std::string> wrt) {
  llvm::StringMap<unsigned> places;
  for (unsigned i = 0; i < function.getNumArguments(); ++i) {
    places[nameOf(true, i)] = i;
    if (wrt.empty() && isReal(function.getArgument(i).getType()))
      wanted.push_back(i);
  }
  for (const std::string &name : wrt) {
    auto found = places.find(name);
    if (found == places.end())
      return function.emitError("moe-generate-vjp: @")
             << function.getName() << " has no argument '" << name << "'";
    unsigned place = found->second;
    if (!isReal(function.getArgument(place).getType()))
      return function.emitError("moe-generate-vjp: argument '")
             << name << "' is no tensor of floating-point numbers";
    if (llvm::is_contained(wanted, place))
      return function.emitError("moe-generate-vjp: argument '")
             << name << "' is named twice";
    wanted.push_back(place);
  }
  if (wanted.empty())
    return function.emitError("moe-generate-vjp: @")
           << function.getName() << " has no argument to differentiate by";
  return success();
}

void VJPGenerator::copyFunction() {
  joint = cast<func::FuncOp>(function->clone());
  joint.setPrivate();
  b.setInsertionPointAfter(function);
  b.insert(joint);
  joint.setName((function.getName() + ".vjp").str());
}

/// The same op, keeping what its activation is given.
void VJPGenerator::keepGiven(ExpertsOp op) {
  if (!op.getKept().empty())
    return;
  b.setInsertionPoint(op);
  auto type = RankedTensorType::get(
      {op.getOutput().getType().getDimSize(0), op.getIntermediateSize()},
      op.getRows().getType().getElementType());
  SmallVector<Type> kept(op.getGated() ? 2 : 1, type);
  auto keeping = ExpertsOp::create(
      b, op.getOutput().getType(), kept, op.getRows(), op.getOffsets(),
      op.getUp(), op.getUpBias(), op.getDown(), op.getDownBias(), op.getGated(),
      op.getActivation(), op.getLayout());
  op.getOutput().replaceAllUsesWith(keeping.getOutput());
  op.erase();
}

LogicalResult VJPGenerator::emitBackward() {
  Block &body = joint.getBody().front();
  for (unsigned place : wanted)
    cotangents.activate(joint.getArgument(place));
  for (Operation &op : body.without_terminator())
    cotangents.propagate(&op);
  if (cotangents.getMode() == SaveMode::minimal) {
    SizeClasses known(joint);
    SmallVector<ExpertsOp> experts(body.getOps<ExpertsOp>());
    for (ExpertsOp op : experts)
      if (cotangents.isActive(op.getOutput()) && canSize(known, op.getOutput()))
        keepGiven(op);
    for (Operation &op : body.without_terminator())
      cotangents.propagate(&op);
  }
  SmallVector<Operation *> ops;
  for (Operation &op : body.without_terminator()) {
    ops.push_back(&op);
    forward.insert(&op);
  }
  results.assign(body.getTerminator()->operand_begin(),
                 body.getTerminator()->operand_end());
  b.setInsertionPoint(body.getTerminator());
  for (auto [place, result] : llvm::enumerate(results)) {
    if (!isReal(result.getType()))
      continue;
    given.push_back(body.addArgument(result.getType(), result.getLoc()));
    givenFor.push_back(place);
    cotangents.add(b, result, given.back());
  }
  if (failed(differentiate(b, ops, cotangents)))
    return failure();
  b.setLoc(function.getLoc());
  for (unsigned place : wanted)
    gradients.push_back(cotangents.ofOrZero(b, joint.getArgument(place)));
  body.getTerminator()->setOperands(gradients);
  return success();
}

/// Ops of the backward that no gradient needs.
void VJPGenerator::dropUnused() {
  Block &body = joint.getBody().front();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(body)))
    if (!forward.contains(&op) && isOpTriviallyDead(&op))
      op.erase();
  for (Operation &op : body.without_terminator())
    if (!forward.contains(&op))
      backward.push_back(&op);
}

/// Whether a caller can make room for what is saved of a value: each of its
/// dynamic sizes is one of an argument, whatever the input.
bool VJPGenerator::canSize(SizeClasses &known, Value value) {
  Value sized = value;
  if (Value ids = getIds(value))
    sized = ids;
  auto type = cast<RankedTensorType>(sized.getType());
  for (int64_t dim = 0; dim < type.getRank(); ++dim) {
    if (!type.isDynamicDim(dim))
      continue;
    int64_t wantedClass = known.getClass(sized, dim);
    auto hasSize = [&](BlockArgument argument) {
      auto own = dyn_cast<RankedTensorType>(argument.getType());
      for (int64_t at = 0; own && at < own.getRank(); ++at)
        if (known.getClass(argument, at) == wantedClass)
          return true;
      return false;
    };
    if (llvm::none_of(
            joint.getArguments().take_front(function.getNumArguments()),
            hasSize))
      return false;
  }
  return true;
}

bool VJPGenerator::isSaved(Value value) {
  auto result = dyn_cast<OpResult>(value);
  if (!result || !isa<RankedTensorType>(value.getType()))
    return false;
  Operation *op = result.getOwner();
  // What was drawn is never drawn again.
  auto route = dyn_cast<RouteOp>(op);
  if (!canSize(*classes, value) && !(route && route.getSeed()))
    return false;
  if (auto differentiable = dyn_cast<DifferentiableOpInterface>(op))
    return differentiable.getResidual(result.getResultNumber()) ==
           Residual::saved;
  // Constants, sizes and the like are cheap; a choice is not made twice.
  return isa_and_nonnull<MoeDialect>(op->getDialect());
}

void VJPGenerator::require(Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    if (argument.getOwner() == &joint.getBody().front() &&
        argument.getArgNumber() < function.getNumArguments())
      arguments.insert(value);
    return;
  }
  if (!isForward(value))
    return;
  if (isSaved(value)) {
    saved.insert(value);
    return;
  }
  Operation *op = value.getDefiningOp();
  if (!again.insert(op).second)
    return;
  for (Value operand : op->getOperands())
    require(operand);
  llvm::SetVector<Value> captured;
  getUsedValuesDefinedAbove(op->getRegions(), captured);
  for (Value operand : captured)
    require(operand);
}

/// Finds what the backward reads; a size of a value is no reason to have it.
void VJPGenerator::requireAll() {
  saved.clear();
  arguments.clear();
  again.clear();
  for (Operation *op : backward)
    op->walk([&](Operation *inner) {
      if (isa<tensor::DimOp>(inner))
        return;
      for (Value operand : inner->getOperands())
        require(operand);
    });
  for (Value gradient : gradients)
    require(gradient);
}

/// Replaces the size of a value that the backward does not have by the sizes
/// that its op makes it of.
bool VJPGenerator::resolveSize(tensor::DimOp dim) {
  Value source = dim.getSource();
  auto index = dim.getConstantIndex();
  auto result = dyn_cast<OpResult>(source);
  if (!index || !result || !isForward(source) || saved.contains(source))
    return false;
  auto shaped = dyn_cast<ReifyRankedShapedTypeOpInterface>(result.getOwner());
  if (!shaped)
    return false;
  b.setInsertionPoint(dim);
  ReifiedRankedShapedTypeDims shapes;
  if (failed(shaped.reifyResultShapes(b, shapes)))
    return false;
  OpFoldResult size = shapes[result.getResultNumber()][*index];
  dim.replaceAllUsesWith(
      getValueOrCreateConstantIndexOp(b, dim.getLoc(), size));
  dim.erase();
  return true;
}

void VJPGenerator::resolveSizes() {
  bool hasChanged = true;
  while (hasChanged) {
    hasChanged = false;
    SmallVector<tensor::DimOp> sizes;
    for (Operation &op : joint.getBody().front())
      if (!forward.contains(&op))
        op.walk([&](tensor::DimOp dim) { sizes.push_back(dim); });
    for (tensor::DimOp dim : sizes)
      hasChanged |= resolveSize(dim);
  }
  backward.clear();
  dropUnused();
  requireAll();
  // The sizes that are left, of values that it has or has to have.
  for (Operation *op : backward)
    op->walk([&](tensor::DimOp dim) { require(dim.getSource()); });
}

/// The ids of the routing whose assignments a saved value has a row of, or
/// null. Such a value is saved in the shape of the ids, [T, k, ..], as a caller
/// knows these sizes.
Value VJPGenerator::getIds(Value value) {
  auto experts = value.getDefiningOp<ExpertsOp>();
  auto dispatch =
      experts ? experts.getRows().getDefiningOp<DispatchOp>() : DispatchOp();
  return dispatch ? dispatch.getIds() : Value();
}

RankedTensorType VJPGenerator::getSavedType(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  Value ids = getIds(value);
  if (!ids)
    return type;
  SmallVector<int64_t> shape(cast<RankedTensorType>(ids.getType()).getShape());
  llvm::append_range(shape, type.getShape().drop_front());
  return RankedTensorType::get(shape, type.getElementType());
}

func::FuncOp VJPGenerator::createFunction(StringRef suffix, FunctionType type) {
  b.setInsertionPointAfter(joint);
  auto made =
      func::FuncOp::create(b, (function.getName() + suffix).str(), type);
  made->setDiscardableAttrs(function->getDiscardableAttrDictionary());
  made.setVisibility(function.getVisibility());
  made.addEntryBlock();
  return made;
}

ArrayAttr VJPGenerator::nameSizes(Value value) {
  Value ids = getIds(value);
  if (!ids)
    return names->get(value);
  SmallVector<Attribute> found(names->get(ids).getValue());
  found.push_back(b.getStringAttr(""));
  return b.getArrayAttr(found);
}

void VJPGenerator::setNames(func::FuncOp made, bool isArgument, unsigned place,
                            Value value, StringRef name, DictionaryAttr attrs) {
  NamedAttrList list(attrs ? attrs : b.getDictionaryAttr({}));
  list.set(kNameAttrName, b.getStringAttr(name));
  if (isa<RankedTensorType>(value.getType()))
    list.set(kDimsAttrName, nameSizes(value));
  DictionaryAttr all = list.getDictionary(b.getContext());
  if (isArgument)
    made.setArgAttrs(place, all);
  else
    made.setResultAttrs(place, all);
}

void VJPGenerator::createForward() {
  SmallVector<Value> returned(results);
  llvm::append_range(returned, saved);
  SmallVector<Type> types(ValueRange(results).getTypes());
  for (Value value : saved)
    types.push_back(getSavedType(value));
  func::FuncOp made = createFunction(
      "_fwd", b.getFunctionType(function.getArgumentTypes(), types));
  IRMapping mapping;
  mapping.map(joint.getArguments().take_front(function.getNumArguments()),
              made.getArguments());
  b.setInsertionPointToEnd(&made.getBody().front());
  for (Operation &op : joint.getBody().front())
    if (forward.contains(&op))
      b.clone(op, mapping);
  SmallVector<Value> values;
  for (auto [i, value] : llvm::enumerate(returned)) {
    Value own = mapping.lookup(value);
    if (Value ids = getIds(value); ids && i >= results.size()) {
      SmallVector<OpFoldResult> sizes =
          tensor::getMixedSizes(b, b.getLoc(), mapping.lookup(ids));
      sizes.push_back(b.getIndexAttr(
          cast<RankedTensorType>(value.getType()).getDimSize(1)));
      own = tensor::ExpandShapeOp::create(
          b, types[i], own, ArrayRef<ReassociationIndices>{{0, 1}, {2}}, sizes);
    }
    values.push_back(own);
  }
  func::ReturnOp::create(b, values);
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    setNames(made, true, i, joint.getArgument(i), nameOf(true, i),
             function.getArgAttrDict(i));
  for (auto [i, value] : llvm::enumerate(returned)) {
    bool isResult = i < results.size();
    std::string name = isResult ? nameOf(false, i)
                                : "saved_" + std::to_string(i - results.size());
    setNames(made, false, i, value, name,
             isResult ? function.getResultAttrDict(i) : DictionaryAttr());
  }
}

void VJPGenerator::createBackward() {
  SmallVector<Value> taken;
  for (BlockArgument argument :
       joint.getArguments().take_front(function.getNumArguments()))
    if (arguments.contains(argument))
      taken.push_back(argument);
  size_t numArguments = taken.size();
  llvm::append_range(taken, saved);
  llvm::append_range(taken, given);
  SmallVector<Type> types;
  for (Value value : taken)
    types.push_back(saved.contains(value) ? getSavedType(value)
                                          : value.getType());
  func::FuncOp made = createFunction(
      "_bwd", b.getFunctionType(types, ValueRange(gradients).getTypes()));
  IRMapping mapping;
  b.setInsertionPointToEnd(&made.getBody().front());
  for (auto [value, argument] : llvm::zip(taken, made.getArguments())) {
    Value own = argument;
    if (own.getType() != value.getType())
      own = tensor::CollapseShapeOp::create(
          b, value.getType(), own, ArrayRef<ReassociationIndices>{{0, 1}, {2}});
    mapping.map(value, own);
  }
  for (Operation &op : joint.getBody().front().without_terminator())
    if (again.contains(&op) || !forward.contains(&op))
      b.clone(op, mapping);
  func::ReturnOp::create(b, llvm::map_to_vector(gradients, [&](Value value) {
                           return mapping.lookup(value);
                         }));
  for (auto [i, value] : llvm::enumerate(taken)) {
    std::string name;
    DictionaryAttr attrs;
    Value sized = value;
    if (i < numArguments) {
      unsigned place = cast<BlockArgument>(value).getArgNumber();
      name = nameOf(true, place);
      attrs = function.getArgAttrDict(place);
    } else if (i < numArguments + saved.size()) {
      name = "saved_" + std::to_string(i - numArguments);
    } else {
      // What only moves cotangents on says nothing of their sizes.
      unsigned place = givenFor[i - numArguments - saved.size()];
      name = "d_" + nameOf(false, place);
      sized = results[place];
    }
    setNames(made, true, i, sized, name, attrs);
  }
  for (auto [i, gradient] : llvm::enumerate(gradients))
    setNames(made, false, i, joint.getArgument(wanted[i]),
             "d_" + nameOf(true, wanted[i]),
             function.getArgAttrDict(wanted[i]));
}

LogicalResult VJPGenerator::run(ArrayRef<std::string> wrt) {
  if (failed(chooseArguments(wrt)))
    return failure();
  copyFunction();
  LogicalResult status = emitBackward();
  if (succeeded(status)) {
    dropUnused();
    classes = std::make_unique<SizeClasses>(joint);
    requireAll();
    resolveSizes();
    names = std::make_unique<SizeNames>(*classes);
    for (unsigned i = 0; i < function.getNumArguments(); ++i)
      if (isa<RankedTensorType>(joint.getArgument(i).getType()))
        names->give(joint.getArgument(i),
                    function.getArgAttr(i, kDimsAttrName));
    for (auto [i, result] : llvm::enumerate(results))
      if (isa<RankedTensorType>(result.getType()))
        names->give(result, function.getResultAttr(i, kDimsAttrName));
    createBackward();
    createForward();
  }
  joint.erase();
  return status;
}

struct MoeGenerateVJP
    : public moe::impl::MoeGenerateVJPPassBase<MoeGenerateVJP> {
  using MoeGenerateVJPPassBase::MoeGenerateVJPPassBase;

  void runOnOperation() override {
    func::FuncOp chosen = chooseFunction();
    if (!chosen || failed(checkFunction(chosen)))
      return signalPassFailure();
    SaveMode mode;
    if (save == "minimal") {
      mode = SaveMode::minimal;
    } else if (save == "recompute") {
      mode = SaveMode::recompute;
    } else {
      getOperation()->emitError("moe-generate-vjp: save is minimal or "
                                "recompute, not '")
          << save << "'";
      return signalPassFailure();
    }
    SmallVector<std::string> names(wrt.begin(), wrt.end());
    if (failed(VJPGenerator(chosen, mode).run(names)))
      signalPassFailure();
  }

private:
  func::FuncOp chooseFunction() {
    SmallVector<func::FuncOp> all(getOperation().getOps<func::FuncOp>());
    SmallVector<func::FuncOp> chosen;
    for (func::FuncOp candidate : all)
      if (!function.empty() ? candidate.getName() == function
                            : candidate->hasAttr(kEntryAttrName))
        chosen.push_back(candidate);
    if (function.empty() && chosen.empty())
      chosen = all;
    if (chosen.size() == 1)
      return chosen.front();
    InFlightDiagnostic error = getOperation()->emitError("moe-generate-vjp: ");
    if (!function.empty())
      error << "there is no function @" << function;
    else
      error << "choose one of the " << chosen.size()
            << " functions by the option 'function'";
    return {};
  }

  LogicalResult checkFunction(func::FuncOp op) {
    if (op.isExternal() || !llvm::hasSingleElement(op.getBody()) ||
        op->hasAttr(kNumInputsAttrName))
      return op.emitError("moe-generate-vjp: @")
             << op.getName()
             << " needs a body of one block, before moe-prepare-entry";
    SymbolTable symbols(getOperation());
    for (StringRef suffix : {"_fwd", "_bwd"})
      if (symbols.lookup((op.getName() + suffix).str()))
        return op.emitError("moe-generate-vjp: there is a function @")
               << op.getName() << suffix << " already";
    return success();
  }
};

} // namespace
