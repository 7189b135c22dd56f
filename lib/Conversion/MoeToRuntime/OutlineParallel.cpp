//===- OutlineParallel.cpp - scf.forall as a call of parallel_for ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A loop becomes three things: a function of the captured values and a task
// number; a second one with the runtime's signature, which unpacks the captured
// values from a struct and runs a range of tasks; and, in the loop's place, the
// packing of that struct and the call of the context's parallel_for.
//
//===----------------------------------------------------------------------===//

#include "RuntimeABI.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Transforms.h"
#include "mlir/Transforms/RegionUtils.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEOUTLINEPARALLELPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A value of the host function in the form that a struct can hold.
class CaptureStruct {
public:
  CaptureStruct(LLVMTypeConverter &converter, ArrayRef<Value> captures) {
    SmallVector<Type> fields;
    for (Value capture : captures)
      fields.push_back(converter.convertType(capture.getType()));
    MLIRContext *context = &converter.getContext();
    type = LLVM::LLVMStructType::getLiteral(context, fields);
  }

  LLVM::LLVMStructType type;

  Value fieldAddress(ImplicitLocOpBuilder &b, Value base, size_t field) {
    return LLVM::GEPOp::create(
        b, LLVM::LLVMPointerType::get(b.getContext()), type, base,
        ArrayRef<LLVM::GEPArg>{0, static_cast<int32_t>(field)});
  }
};

Value castTo(ImplicitLocOpBuilder &b, Value value, Type type) {
  if (value.getType() == type)
    return value;
  return UnrealizedConversionCastOp::create(b, type, value).getResult(0);
}

class ParallelOutliner {
public:
  ParallelOutliner(func::FuncOp function, LLVMTypeConverter &converter)
      : function(function), converter(converter),
        module(function->getParentOfType<ModuleOp>()) {}

  void outline(scf::ForallOp loop);

private:
  Value emitCount(ImplicitLocOpBuilder &b, scf::ForallOp loop,
                  SmallVectorImpl<Value> &extents);
  func::FuncOp emitTask(scf::ForallOp loop, ArrayRef<Value> captures,
                        size_t numOuter);
  LLVM::LLVMFuncOp emitRange(func::FuncOp task, CaptureStruct &layout);

  func::FuncOp function;
  LLVMTypeConverter &converter;
  ModuleOp module;
  unsigned number = 0;
};

/// The number of tasks, and of iterations in each dimension.
Value ParallelOutliner::emitCount(ImplicitLocOpBuilder &b, scf::ForallOp loop,
                                  SmallVectorImpl<Value> &extents) {
  Value count;
  for (auto [low, high, step] : llvm::zip(
           loop.getLowerBound(b), loop.getUpperBound(b), loop.getStep(b))) {
    Value distance = arith::SubIOp::create(b, high, low);
    Value extent = arith::CeilDivSIOp::create(b, distance, step);
    extents.push_back(extent);
    count =
        count ? arith::MulIOp::create(b, count, extent).getResult() : extent;
  }
  return count;
}

/// The loop's body as a function of the captured values and a task number. The
/// last captured values are, per dimension, lower bound, step and extent.
func::FuncOp ParallelOutliner::emitTask(scf::ForallOp loop,
                                        ArrayRef<Value> captures,
                                        size_t numOuter) {
  OpBuilder top(module.getContext());
  top.setInsertionPoint(function);
  SmallVector<Type> types = llvm::to_vector(ValueRange(captures).getTypes());
  types.push_back(top.getIndexType());
  auto task = func::FuncOp::create(
      top, loop.getLoc(), (function.getName() + ".task" + Twine(number)).str(),
      top.getFunctionType(types, {}));
  task.setPrivate();
  Block *entry = task.addEntryBlock();

  ImplicitLocOpBuilder b(loop.getLoc(), task.getContext());
  b.setInsertionPointToEnd(entry);
  Value rest = entry->getArguments().back();
  Block::BlockArgListType all = entry->getArguments();
  ArrayRef<BlockArgument> bounds = all.drop_front(numOuter).drop_back();
  SmallVector<Value> indices(loop.getRank());
  for (int64_t dim = loop.getRank() - 1; dim >= 0; --dim) {
    Value low = bounds[3 * dim], step = bounds[3 * dim + 1],
          extent = bounds[3 * dim + 2];
    Value place = rest;
    if (dim > 0) {
      place = arith::RemUIOp::create(b, rest, extent);
      rest = arith::DivUIOp::create(b, rest, extent);
    }
    indices[dim] =
        arith::AddIOp::create(b, low, arith::MulIOp::create(b, place, step));
  }
  IRMapping mapping;
  for (auto [capture, argument] :
       llvm::zip(captures.take_front(numOuter), entry->getArguments()))
    mapping.map(capture, argument);
  mapping.map(loop.getInductionVars(), indices);
  for (Operation &op : loop.getBody()->without_terminator())
    b.clone(op, mapping);
  func::ReturnOp::create(b);
  return task;
}

/// void (ptr data, i64 begin, i64 end), as parallel_for calls it.
LLVM::LLVMFuncOp ParallelOutliner::emitRange(func::FuncOp task,
                                             CaptureStruct &layout) {
  OpBuilder top(task);
  MLIRContext *context = task.getContext();
  Type pointer = LLVM::LLVMPointerType::get(context);
  Type i64 = top.getI64Type();
  auto range = LLVM::LLVMFuncOp::create(
      top, task.getLoc(), (task.getName() + ".range").str(),
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context),
                                  {pointer, i64, i64}),
      LLVM::Linkage::Internal);
  ImplicitLocOpBuilder b(task.getLoc(), context);
  Block *entry = range.addEntryBlock(b);
  b.setInsertionPointToStart(entry);
  SmallVector<Value> arguments;
  ArrayRef<Type> taskTypes = task.getArgumentTypes();
  for (auto [field, type] : llvm::enumerate(taskTypes.drop_back())) {
    Value address = layout.fieldAddress(b, entry->getArgument(0), field);
    Value value =
        LLVM::LoadOp::create(b, layout.type.getBody()[field], address);
    arguments.push_back(castTo(b, value, type));
  }
  Type index = b.getIndexType();
  Value begin = castTo(b, entry->getArgument(1), index);
  Value end = castTo(b, entry->getArgument(2), index);
  Value one = arith::ConstantIndexOp::create(b, 1);
  scf::ForOp::create(
      b, begin, end, one, ValueRange(),
      [&](OpBuilder &nested, Location loc, Value place, ValueRange) {
        SmallVector<Value> operands(arguments);
        operands.push_back(place);
        func::CallOp::create(nested, loc, task, operands);
        scf::YieldOp::create(nested, loc);
      });
  LLVM::ReturnOp::create(b, ValueRange());
  return range;
}

void ParallelOutliner::outline(scf::ForallOp loop) {
  ImplicitLocOpBuilder b(loop.getLoc(), loop);
  // Constants are made anew in the task; the rest is captured.
  llvm::SetVector<Value> used;
  getUsedValuesDefinedAbove(loop.getRegion(), used);
  OpBuilder inside = OpBuilder::atBlockBegin(loop.getBody());
  SmallVector<Value> captures;
  for (Value value : used) {
    Operation *definition = value.getDefiningOp();
    if (definition && definition->getNumOperands() == 0 &&
        definition->getNumRegions() == 0 && isMemoryEffectFree(definition)) {
      Operation *copy = inside.clone(*definition);
      unsigned result = cast<OpResult>(value).getResultNumber();
      replaceAllUsesInRegionWith(value, copy->getResult(result),
                                 loop.getRegion());
      continue;
    }
    captures.push_back(value);
  }
  size_t numOuter = captures.size();
  SmallVector<Value> extents;
  Value count = emitCount(b, loop, extents);
  for (auto [low, step, extent] :
       llvm::zip(loop.getLowerBound(b), loop.getStep(b), extents))
    llvm::append_values(captures, low, step, extent);

  CaptureStruct layout(converter, captures);
  func::FuncOp task = emitTask(loop, captures, numOuter);
  LLVM::LLVMFuncOp range = emitRange(task, layout);
  ++number;

  RuntimeABI abi(b);
  // In the entry block, so that a loop around this one does not grow the stack.
  OpBuilder::InsertPoint here = b.saveInsertionPoint();
  b.setInsertionPointToStart(&function.getBody().front());
  Value storage = LLVM::AllocaOp::create(b, abi.pointer(), layout.type,
                                         abi.constant(b.getI64Type(), 1));
  b.restoreInsertionPoint(here);
  for (auto [field, capture] : llvm::enumerate(captures))
    LLVM::StoreOp::create(b, castTo(b, capture, layout.type.getBody()[field]),
                          layout.fieldAddress(b, storage, field));
  abi.parallelFor(function.getArguments().back(),
                  castTo(b, count, b.getI64Type()),
                  LLVM::AddressOfOp::create(b, range), storage);
  loop.erase();
}

struct MoeOutlineParallel
    : public moe::impl::MoeOutlineParallelPassBase<MoeOutlineParallel> {
  LogicalResult serializeInner(func::FuncOp entry) {
    SmallVector<scf::ForallOp> inner;
    entry.walk([&](scf::ForallOp op) {
      if (op->getParentOfType<scf::ForallOp>())
        inner.push_back(op);
    });
    IRRewriter rewriter(&getContext());
    for (scf::ForallOp op : inner) {
      rewriter.setInsertionPoint(op);
      if (failed(scf::forallToForLoop(rewriter, op)))
        return op.emitOpError("could not be made a loop of its task");
    }
    return success();
  }

  void runOnOperation() override {
    LLVMTypeConverter converter(&getContext());
    for (func::FuncOp entry : getEntries(getOperation())) {
      if (failed(serializeInner(entry)))
        return signalPassFailure();
      SmallVector<scf::ForallOp> loops;
      bool onTensors = false;
      entry.walk([&](scf::ForallOp op) {
        loops.push_back(op);
        onTensors |= op->getNumResults() > 0;
      });
      if (loops.empty())
        continue;
      bool hasContext =
          entry.getNumArguments() > 0 &&
          isa<LLVM::LLVMPointerType>(entry.getArgumentTypes().back());
      if (onTensors || !hasContext) {
        entry.emitOpError("needs a context and parallel loops on memrefs");
        return signalPassFailure();
      }
      ParallelOutliner outliner(entry, converter);
      for (scf::ForallOp loop : loops)
        outliner.outline(loop);
      numOutlined += loops.size();
    }
  }
};

} // namespace
