//===- GPUPlan.cpp - What a compiled module runs on a GPU -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/ExecutionEngine/GPUPlan.h"
#include "SizeText.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Places in the source
//===----------------------------------------------------------------------===//

/// The places of files in a location that passes may have fused.
static SmallVector<FileLineColLoc> getPlaces(Location location) {
  SmallVector<FileLineColLoc> places;
  location->walk([&](Location part) {
    if (auto place = dyn_cast<FileLineColLoc>(part))
      places.push_back(place);
    return WalkResult::advance();
  });
  return places;
}

SourceOps::SourceOps(ModuleOp module) {
  module.walk([&](Operation *op) {
    if (isa<ModuleOp, FunctionOpInterface>(op) ||
        op->hasTrait<OpTrait::ConstantLike>() ||
        op->hasTrait<OpTrait::IsTerminator>())
      return;
    for (FileLineColLoc place : getPlaces(op->getLoc()))
      names[place].push_back(op->getName().getStringRef());
  });
}

std::string SourceOps::namesIn(Operation *op) const {
  llvm::SetVector<Attribute> places;
  op->walk([&](Operation *inner) {
    // Others may come from anywhere: equal constants and sizes are one op.
    if (inner == op || hasEffect<MemoryEffects::Read>(inner) ||
        hasEffect<MemoryEffects::Write>(inner))
      for (FileLineColLoc place : getPlaces(inner->getLoc()))
        places.insert(place);
  });
  llvm::SetVector<StringRef> found;
  for (const auto &[place, own] : names)
    if (places.contains(place))
      found.insert_range(own);
  return llvm::join(found, ", ");
}

static std::string getPlaceText(Location location) {
  SmallVector<FileLineColLoc> places = getPlaces(location);
  if (places.empty())
    return "";
  FileLineColLoc place = places.front();
  return llvm::formatv("{0}:{1}:{2}",
                       llvm::sys::path::filename(place.getFilename()),
                       place.getLine(), place.getColumn());
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

static std::string getTypeName(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

static int64_t getBytes(MemRefType type) {
  Type element = type.getElementType();
  int64_t bits = element.isIndex() ? 64 : element.getIntOrFloatBitWidth();
  return type.hasStaticShape()
             ? type.getNumElements() * llvm::divideCeil(bits, 8)
             : 0;
}

/// "4 x (64x32 + 64x32) bf16" of buffers whose first dimension is the stage.
static std::string getStagesText(ArrayRef<MemRefType> buffers) {
  if (buffers.empty())
    return "";
  std::string tiles;
  for (MemRefType buffer : buffers)
    tiles += (tiles.empty() ? "" : " + ") +
             llvm::join(llvm::map_range(
                            buffer.getShape().drop_front(),
                            [](int64_t size) { return std::to_string(size); }),
                        "x");
  return std::to_string(buffers.front().getDimSize(0)) + " x (" + tiles + ") " +
         getTypeName(buffers.front().getElementType());
}

static std::string getProductName(nvgpu::MmaSyncOp op) {
  auto [m, n, k] = op.getMmaShapeAsArray();
  Type type = op.getMatrixA().getType().getElementType();
  return llvm::formatv("m{0}n{1}k{2} {3}", m, n, k,
                       op.getTf32Enabled() ? "tf32" : getTypeName(type));
}

static GPUPlan::Kernel planKernel(gpu::GPUFuncOp function,
                                  const SourceOps &source) {
  GPUPlan::Kernel kernel;
  kernel.name = function.getName().str();
  kernel.ops = source.namesIn(function);
  kernel.location = getPlaceText(function.getLoc());
  for (BlockArgument buffer : function.getWorkgroupAttributions())
    kernel.sharedBytes += getBytes(cast<MemRefType>(buffer.getType()));
  llvm::SetVector<Value> staged;
  function.walk([&](Operation *op) {
    llvm::TypeSwitch<Operation *>(op)
        .Case([&](nvgpu::MmaSyncOp mma) {
          ++kernel.products[getProductName(mma)];
        })
        .Case([&](nvgpu::DeviceAsyncCopyOp copy) {
          ++kernel.asyncCopies;
          staged.insert(copy.getDst());
        })
        .Case([&](gpu::ShuffleOp) { ++kernel.shuffles; })
        .Case([&](gpu::BarrierOp) { ++kernel.barriers; })
        .Case([&](memref::AllocaOp own) {
          kernel.privateBytes += getBytes(own.getType());
        });
  });
  SmallVector<MemRefType> buffers;
  for (Value buffer : staged)
    buffers.push_back(cast<MemRefType>(buffer.getType()));
  kernel.stages = getStagesText(buffers);
  return kernel;
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

/// "A x B x C" without ones at the end.
static std::string getSizesText(gpu::KernelDim3 sizes) {
  SmallVector<std::string> texts;
  for (Value size : {sizes.x, sizes.y, sizes.z})
    texts.push_back(getSizeText(size));
  while (texts.size() > 1 && texts.back() == "1")
    texts.pop_back();
  return llvm::join(texts, " x ");
}

static std::string getNesting(Operation *op) {
  std::string text;
  for (Operation *parent = op->getParentOp(); !isa<func::FuncOp>(parent);
       parent = parent->getParentOp()) {
    StringRef kind =
        isa<LoopLikeOpInterface>(parent) ? "in a loop" : "on a condition";
    text = kind.str() + (text.empty() ? "" : ", ") + text;
  }
  return text;
}

static GPUPlan::Entry planEntry(func::FuncOp function) {
  GPUPlan::Entry entry;
  entry.name = function.getName().str();
  function.walk<WalkOrder::PreOrder>([&](Operation *op) {
    entry.copiesBack += isa<gpu::MemcpyOp>(op);
    auto launch = dyn_cast<gpu::LaunchFuncOp>(op);
    if (!launch)
      return;
    entry.launches.push_back({launch.getKernelName().str(),
                              getSizesText(launch.getGridSizeOperandValues()),
                              getSizesText(launch.getBlockSizeOperandValues()),
                              getNesting(launch)});
  });
  return entry;
}

GPUPlan moe::planKernels(ModuleOp module, const SourceOps &source) {
  GPUPlan plan;
  module.walk([&](gpu::GPUFuncOp function) {
    if (function.isKernel())
      plan.kernels.push_back(planKernel(function, source));
  });
  for (auto function : module.getOps<func::FuncOp>())
    if (function->hasAttr(kEntryAttrName))
      plan.entries.push_back(planEntry(function));
  return plan;
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

using Row = std::vector<std::string>;

/// Columns two blanks apart, without blanks at the end of a line.
static void printTable(llvm::raw_ostream &os, ArrayRef<Row> rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row &row : rows)
    for (auto [width, cell] : llvm::zip_equal(widths, row))
      width = std::max(width, cell.size());
  for (const Row &row : rows) {
    std::string line;
    for (auto [width, cell] : llvm::zip_equal(widths, row))
      line += cell + std::string(width - cell.size() + 2, ' ');
    os << "  " << StringRef(line).rtrim() << "\n";
  }
}

static std::string getProductsText(const GPUPlan::Kernel &kernel) {
  std::string text;
  for (const auto &[name, count] : kernel.products)
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + name;
  return text;
}

/// A row for each kernel, without the columns in which no kernel has anything.
static void printKernels(llvm::raw_ostream &os, const GPUPlan &plan,
                         ArrayRef<PlanColumn> columns) {
  Row titles = {"kernel",         "of",       "at",       "shared bytes",
                "private",        "barriers", "shuffles", "mma in the code",
                "cp.async in it", "stages"};
  for (const PlanColumn &column : columns)
    titles.push_back(column.title);
  auto number = [](int64_t value) {
    return value ? std::to_string(value) : std::string();
  };
  std::vector<Row> rows = {titles};
  for (const GPUPlan::Kernel &kernel : plan.kernels) {
    Row row = {kernel.name,
               kernel.ops,
               kernel.location,
               number(kernel.sharedBytes),
               number(kernel.privateBytes),
               number(kernel.barriers),
               number(kernel.shuffles),
               getProductsText(kernel),
               number(kernel.asyncCopies),
               kernel.stages};
    for (const PlanColumn &column : columns)
      row.push_back(column.cells.lookup(kernel.name));
    rows.push_back(row);
  }
  std::vector<Row> kept(rows.size());
  for (size_t i = 0; i < titles.size(); ++i) {
    bool isUsed = llvm::any_of(llvm::drop_begin(rows),
                               [&](const Row &row) { return !row[i].empty(); });
    for (size_t r = 0; isUsed && r < rows.size(); ++r)
      kept[r].push_back(rows[r][i].empty() ? "-" : rows[r][i]);
  }
  printTable(os, kept);
}

void moe::printPlan(llvm::raw_ostream &os, const GPUPlan &plan,
                    ArrayRef<PlanColumn> columns) {
  os << plan.kernels.size() << " kernels, an image of " << plan.imageBytes
     << " bytes\n";
  if (!plan.kernels.empty())
    printKernels(os, plan, columns);
  for (const GPUPlan::Entry &entry : plan.entries) {
    os << "entry " << entry.name << ": " << entry.launches.size()
       << " launches, one after the other";
    if (entry.copiesBack)
      os << "; the host waits for " << entry.copiesBack << " copies";
    os << "\n";
    std::vector<Row> rows = {{"", "kernel", "threads", "blocks", ""}};
    for (const auto &[i, launch] : llvm::enumerate(entry.launches))
      rows.push_back({std::to_string(i + 1), launch.kernel, launch.threads,
                      launch.blocks, launch.under});
    if (rows.size() > 1)
      printTable(os, rows);
  }
}
