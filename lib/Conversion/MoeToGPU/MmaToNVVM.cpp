//===- MmaToNVVM.cpp - mma.sync of 16-bit numbers ------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEMMATONVVMPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

namespace {

/// The registers of a fragment: pairs of f16, all else as i32.
SmallVector<Value> getRegisters(ImplicitLocOpBuilder &b, Value fragment) {
  auto type = cast<VectorType>(fragment.getType());
  auto word = VectorType::get({1}, b.getI32Type());
  SmallVector<Value> registers;
  for (int64_t i = 0; i < type.getDimSize(0); ++i) {
    Value pair = vector::ExtractOp::create(b, fragment, ArrayRef<int64_t>{i});
    if (type.getElementType().isF16()) {
      registers.push_back(pair);
      continue;
    }
    Value bits = vector::BitCastOp::create(b, word, pair);
    registers.push_back(
        vector::ExtractOp::create(b, bits, ArrayRef<int64_t>{0}));
  }
  return registers;
}

void convert(nvgpu::MmaSyncOp op) {
  ImplicitLocOpBuilder b(op.getLoc(), op);
  auto type = cast<VectorType>(op.getType());
  SmallVector<Value> sums;
  for (int64_t i = 0; i < type.getDimSize(0); ++i)
    for (int64_t j = 0; j < 2; ++j)
      sums.push_back(vector::ExtractOp::create(b, op.getMatrixC(),
                                               ArrayRef<int64_t>{i, j}));
  Type f32 = b.getF32Type();
  Type number = op.getMatrixA().getType().getElementType();
  NVVM::MMATypes element = number.isBF16()  ? NVVM::MMATypes::bf16
                           : number.isF16() ? NVVM::MMATypes::f16
                                            : NVVM::MMATypes::tf32;
  auto result = LLVM::LLVMStructType::getLiteral(
      b.getContext(), SmallVector<Type>(sums.size(), f32));
  ArrayAttr shape = op.getMmaShape();
  auto sizeOf = [&](unsigned dim) {
    return cast<IntegerAttr>(shape[dim]).getInt();
  };
  Value product =
      NVVM::MmaOp::create(b, result, getRegisters(b, op.getMatrixA()),
                          getRegisters(b, op.getMatrixB()), sums,
                          ArrayRef<int64_t>{sizeOf(0), sizeOf(1), sizeOf(2)},
                          /*b1Op=*/std::nullopt, /*intOverflow=*/std::nullopt,
                          std::array<NVVM::MMATypes, 2>{element, element},
                          std::array<NVVM::MMALayout, 2>{NVVM::MMALayout::row,
                                                         NVVM::MMALayout::col});
  Value made = arith::ConstantOp::create(b, b.getZeroAttr(type));
  for (auto [place, sum] : llvm::enumerate(sums)) {
    Value own = LLVM::ExtractValueOp::create(b, product, place);
    int64_t at[] = {static_cast<int64_t>(place) / 2,
                    static_cast<int64_t>(place) % 2};
    made = vector::InsertOp::create(b, own, made, at);
  }
  op.replaceAllUsesWith(made);
  op.erase();
}

struct MoeMmaToNVVM : public moe::impl::MoeMmaToNVVMPassBase<MoeMmaToNVVM> {
  void runOnOperation() override {
    SmallVector<nvgpu::MmaSyncOp> ops;
    getOperation()->walk([&](nvgpu::MmaSyncOp op) {
      Type element = op.getMatrixA().getType().getElementType();
      bool isF32 = cast<VectorType>(op.getType()).getElementType().isF32();
      if (isF32 && (element.isBF16() || element.isF16() || element.isF32()))
        ops.push_back(op);
    });
    for (nvgpu::MmaSyncOp op : ops)
      convert(op);
  }
};

} // namespace
