//===- LaunchToRuntime.cpp - Launches through the context ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A launch becomes a moe_launch on the host's stack and a call of the context's
// `launch`; its arguments are what the conversion of kernels to NVVM makes of
// them: memrefs taken apart, in their order. An error of either call leaves the
// entry.
//
//===----------------------------------------------------------------------===//

#include "RuntimeABI.h"
#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Runtime/moe_rt.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/xxhash.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELAUNCHTORUNTIMEPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

class LaunchLowering {
public:
  LaunchLowering(func::FuncOp function, LLVMTypeConverter &converter)
      : function(function), module(function->getParentOfType<ModuleOp>()),
        b(function.getLoc(), function.getContext()), abi(b),
        converter(converter), context(function.getArguments().back()) {
    pointer = LLVM::LLVMPointerType::get(b.getContext());
    i32 = b.getI32Type();
    i64 = b.getI64Type();
  }

  LogicalResult lower(gpu::LaunchFuncOp launch);
  LogicalResult lower(gpu::MemcpyOp copy);

private:
  Value castTo(Value value, Type type) {
    if (value.getType() == type)
      return value;
    return UnrealizedConversionCastOp::create(b, type, value).getResult(0);
  }
  /// Memory of the entry's first block, so that no loop grows the stack.
  Value allocate(Type type, int64_t count = 1) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    return LLVM::AllocaOp::create(b, pointer, type, abi.constant(i64, count),
                                  /*alignment=*/8);
  }
  void store(Value value, Value base, int64_t offset) {
    LLVM::StoreOp::create(b, value, abi.byteOffset(base, offset));
  }
  FailureOr<LLVM::GlobalOp> getImage(gpu::LaunchFuncOp launch);
  void appendArguments(Value operand, SmallVectorImpl<Value> &values);
  Value getAddress(Value buffer);
  void returnUnlessOk(Operation *op, Value status);

  func::FuncOp function;
  ModuleOp module;
  ImplicitLocOpBuilder b;
  RuntimeABI abi;
  LLVMTypeConverter &converter;
  Value context;
  Type pointer, i32, i64;
};

/// The code of a launch's kernels as bytes of the host's object, with an end.
FailureOr<LLVM::GlobalOp> LaunchLowering::getImage(gpu::LaunchFuncOp launch) {
  StringRef name = launch.getKernelModuleName().getValue();
  auto binary = module.lookupSymbol<gpu::BinaryOp>(name);
  if (!binary || binary.getObjects().empty())
    return launch.emitOpError("has no code for '") << name << "'";
  std::string symbol = (name + ".image").str();
  if (auto known = module.lookupSymbol<LLVM::GlobalOp>(symbol))
    return known;
  auto object = cast<gpu::ObjectAttr>(binary.getObjects()[0]);
  std::string bytes = object.getObject().getValue().str();
  bytes.push_back('\0');
  OpBuilder top = OpBuilder::atBlockBegin(module.getBody());
  return LLVM::GlobalOp::create(
      top, binary.getLoc(),
      LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size()),
      /*isConstant=*/true, LLVM::Linkage::Internal, symbol,
      top.getStringAttr(bytes), /*alignment=*/16);
}

/// What a kernel takes for an operand.
void LaunchLowering::appendArguments(Value operand,
                                     SmallVectorImpl<Value> &values) {
  Type type = converter.convertType(operand.getType());
  Value own = castTo(operand, type);
  if (auto memref = dyn_cast<MemRefType>(operand.getType()))
    return MemRefDescriptor::unpack(b, b.getLoc(), own, memref, values);
  // A flag is a byte in memory.
  if (type.isInteger(1))
    own = LLVM::ZExtOp::create(b, b.getI8Type(), own);
  values.push_back(own);
}

/// Leaves the entry with `status` where it is not zero; goes on behind `op`.
void LaunchLowering::returnUnlessOk(Operation *op, Value status) {
  Value zero = arith::ConstantOp::create(b, b.getI32IntegerAttr(MOE_OK));
  Value ok = arith::CmpIOp::create(b, arith::CmpIPredicate::eq, status, zero);
  Block *before = op->getBlock();
  Block *after = before->splitBlock(std::next(op->getIterator()));
  Block *failed = b.createBlock(after);
  func::ReturnOp::create(b, status);
  b.setInsertionPointToEnd(before);
  cf::CondBranchOp::create(b, ok, after, failed);
  op->erase();
}

LogicalResult LaunchLowering::lower(gpu::LaunchFuncOp launch) {
  FailureOr<LLVM::GlobalOp> image = getImage(launch);
  if (failed(image))
    return failure();
  b.setLoc(launch.getLoc());
  b.setInsertionPoint(launch);
  SmallVector<Value> values;
  for (Value operand : launch.getKernelOperands())
    appendArguments(operand, values);
  Value list = allocate(pointer, std::max<size_t>(values.size(), 1));
  for (auto [place, value] : llvm::enumerate(values)) {
    Value own = allocate(value.getType());
    LLVM::StoreOp::create(b, value, own);
    store(own, list, place * sizeof(void *));
  }
  Value record = allocate(b.getI8Type(), sizeof(moe_launch));
  store(LLVM::AddressOfOp::create(b, *image), record,
        offsetof(moe_launch, image));
  auto imageType = cast<LLVM::LLVMArrayType>(image->getGlobalType());
  store(abi.constant(i64, imageType.getNumElements()), record,
        offsetof(moe_launch, image_bytes));
  store(abi.stringConstant(launch.getKernelName().getValue()), record,
        offsetof(moe_launch, kernel));
  auto storeSizes = [&](gpu::KernelDim3 sizes, int64_t offset) {
    for (auto [dim, size] :
         llvm::enumerate(ArrayRef<Value>{sizes.x, sizes.y, sizes.z}))
      store(arith::IndexCastOp::create(b, i32, size), record,
            offset + dim * sizeof(uint32_t));
  };
  storeSizes(launch.getGridSizeOperandValues(), offsetof(moe_launch, grid));
  storeSizes(launch.getBlockSizeOperandValues(), offsetof(moe_launch, block));
  Value shared = launch.getDynamicSharedMemorySize();
  store(shared ? shared : abi.constant(i32, 0), record,
        offsetof(moe_launch, shared_bytes));
  store(abi.constant(i32, values.size()), record,
        offsetof(moe_launch, num_arguments));
  store(list, record, offsetof(moe_launch, arguments));
  StringRef bytes = cast<StringAttr>(image->getValueAttr()).getValue();
  auto id = llvm::xxh3_128bits(arrayRefFromStringRef(bytes));
  store(abi.constant(i64, id.low64), record, offsetof(moe_launch, image_id));
  store(abi.constant(i64, id.high64), record,
        offsetof(moe_launch, image_id) + sizeof(uint64_t));
  returnUnlessOk(launch, abi.callThrough(context, offsetof(moe_context, launch),
                                         i32, {context, record}));
  return success();
}

/// Of a buffer's first element.
Value LaunchLowering::getAddress(Value buffer) {
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(b, buffer);
  return LLVM::IntToPtrOp::create(b, pointer, castTo(address, i64));
}

LogicalResult LaunchLowering::lower(gpu::MemcpyOp copy) {
  auto type = cast<MemRefType>(copy.getDst().getType());
  if (!type.hasStaticShape() || !type.getLayout().isIdentity() ||
      !copy.getDst().getDefiningOp<memref::AllocaOp>())
    return copy.emitOpError("is no copy of a number back to the host");
  b.setLoc(copy.getLoc());
  b.setInsertionPoint(copy);
  int64_t width =
      type.getElementType().isIndex() ? 64 : type.getElementTypeBitWidth();
  Value bytes =
      abi.constant(i64, type.getNumElements() * llvm::divideCeil(width, 8));
  returnUnlessOk(copy,
                 abi.callThrough(context, offsetof(moe_context, copy_back), i32,
                                 {context, getAddress(copy.getDst()),
                                  getAddress(copy.getSrc()), bytes}));
  return success();
}

struct MoeLaunchToRuntime
    : public moe::impl::MoeLaunchToRuntimePassBase<MoeLaunchToRuntime> {
  void runOnOperation() override {
    LLVMTypeConverter converter(&getContext());
    for (func::FuncOp entry : getEntries(getOperation())) {
      bool hasContext =
          entry.getNumArguments() > 0 &&
          isa<LLVM::LLVMPointerType>(entry.getArgumentTypes().back());
      SmallVector<Operation *> ops;
      entry.walk([&](Operation *op) {
        if (isa<gpu::LaunchFuncOp, gpu::MemcpyOp>(op))
          ops.push_back(op);
      });
      if (!ops.empty() && !hasContext) {
        entry.emitOpError("needs a context to launch kernels");
        return signalPassFailure();
      }
      for (Operation *op : ops) {
        LaunchLowering lowering(entry, converter);
        auto launch = dyn_cast<gpu::LaunchFuncOp>(op);
        if (failed(launch ? lowering.lower(launch)
                          : lowering.lower(cast<gpu::MemcpyOp>(op))))
          return signalPassFailure();
        numLowered += 1;
      }
    }
    for (auto binary :
         llvm::make_early_inc_range(getOperation().getOps<gpu::BinaryOp>()))
      binary.erase();
    getOperation()->removeAttr(gpu::GPUDialect::getContainerModuleAttrName());
  }
};

} // namespace
