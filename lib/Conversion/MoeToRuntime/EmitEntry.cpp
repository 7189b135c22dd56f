//===- EmitEntry.cpp - C entry points and descriptions --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RuntimeABI.h"
#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Runtime/moe_rt.h"
#include <cstring>
#include <vector>

namespace mlir::moe {
#define GEN_PASS_DEF_MOEEMITENTRYPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// Descriptions
//===----------------------------------------------------------------------===//

/// Builds the bytes of a moe_entry_info.
class InfoBuilder {
public:
  InfoBuilder(func::FuncOp function, moe_device device) : function(function) {
    std::memset(&head, 0, sizeof head);
    head.abi_version = MOE_ABI_VERSION;
    head.device = device;
  }

  LogicalResult setName(StringRef name) {
    return copyText(name, head.name, sizeof head.name, "entry name");
  }
  LogicalResult addArgument(unsigned index, bool isInput);
  std::string getBytes() const;
  uint32_t getNumInputs() const { return head.num_inputs; }

private:
  LogicalResult copyText(StringRef text, char *field, size_t size,
                         StringRef what) {
    if (text.size() >= size)
      return function.emitOpError()
             << what << " '" << text << "' is longer than " << size - 1
             << " bytes";
    std::memcpy(field, text.data(), text.size());
    return success();
  }
  FailureOr<int64_t> getSymbol(StringRef name);
  static std::optional<moe_dtype> getDType(Type type);

  func::FuncOp function;
  std::vector<moe_arg_info> args;
  SmallVector<std::string> symbols;
  moe_entry_info head; // Ends in an array, so it stands last.
};

/// Types of the ABI: an f8 has no code of its own there, and elements narrower
/// than a byte would be packed there but not in memory here.
std::optional<moe_dtype> InfoBuilder::getDType(Type type) {
  auto bits = static_cast<uint8_t>(type.getIntOrFloatBitWidth());
  if (type.isBF16())
    return moe_dtype{4, bits, 1};
  if (type.isF16() || type.isF32() || type.isF64())
    return moe_dtype{2, bits, 1};
  if (type.isInteger(1))
    return moe_dtype{6, 8, 1};
  for (unsigned width : {8, 16, 32, 64})
    if (type.isInteger(width))
      return moe_dtype{static_cast<uint8_t>(type.isUnsignedInteger() ? 1 : 0),
                       bits, 1};
  return std::nullopt;
}

FailureOr<int64_t> InfoBuilder::getSymbol(StringRef name) {
  for (auto [index, symbol] : llvm::enumerate(symbols))
    if (symbol == name)
      return static_cast<int64_t>(index);
  if (symbols.size() == MOE_MAX_SYMBOLS)
    return function.emitOpError("has more than ")
           << MOE_MAX_SYMBOLS << " different dynamic sizes";
  size_t index = symbols.size();
  if (failed(copyText(name, head.symbol_name[index],
                      sizeof head.symbol_name[index], "size name")))
    return failure();
  int64_t bound = kDefaultSizeBound;
  if (auto bounds = function->getAttrOfType<DictionaryAttr>(kBoundsAttrName))
    if (auto given = bounds.getAs<IntegerAttr>(name))
      bound = given.getInt();
  head.symbol_bound[index] = bound;
  symbols.push_back(name.str());
  head.num_symbols = symbols.size();
  return static_cast<int64_t>(index);
}

LogicalResult InfoBuilder::addArgument(unsigned index, bool isInput) {
  auto type = dyn_cast<MemRefType>(function.getArgumentTypes()[index]);
  if (!type)
    return function.emitOpError("argument ")
           << index << " is " << function.getArgumentTypes()[index]
           << ", no buffer";
  moe_arg_info info;
  std::memset(&info, 0, sizeof info);
  auto name = function.getArgAttrOfType<StringAttr>(index, kNameAttrName);
  if (!name)
    return function.emitOpError("argument ") << index << " has no name";
  if (failed(copyText(name.getValue(), info.name, sizeof info.name,
                      "argument name")))
    return failure();
  if (Attribute layout = function.getArgAttr(index, kLayoutAttrName)) {
    std::string text;
    llvm::raw_string_ostream(text) << layout;
    if (failed(copyText(text, info.layout, sizeof info.layout, "layout")))
      return failure();
  }
  if (type.getRank() > MOE_MAX_RANK)
    return function.emitOpError("argument '")
           << name.getValue() << "' has more than " << MOE_MAX_RANK
           << " dimensions";
  std::optional<moe_dtype> dtype = getDType(type.getElementType());
  if (!dtype)
    return function.emitOpError("argument '")
           << name.getValue() << "' is of " << type.getElementType()
           << ", a type that the runtime's ABI does not describe";
  info.dtype = *dtype;
  info.rank = static_cast<int32_t>(type.getRank());
  auto dims = function.getArgAttrOfType<ArrayAttr>(index, kDimsAttrName);
  for (int64_t dim = 0; dim < type.getRank(); ++dim) {
    info.shape[dim] = type.getDimSize(dim);
    if (!type.isDynamicDim(dim))
      continue;
    if (!dims)
      return function.emitOpError("argument '")
             << name.getValue() << "' names no sizes";
    auto symbol = getSymbol(cast<StringAttr>(dims[dim]).getValue());
    if (failed(symbol))
      return failure();
    info.shape[dim] = -1 - *symbol;
  }
  args.push_back(info);
  ++(isInput ? head.num_inputs : head.num_outputs);
  return success();
}

std::string InfoBuilder::getBytes() const {
  std::string bytes(reinterpret_cast<const char *>(&head), sizeof head);
  for (const moe_arg_info &info : args)
    bytes.append(reinterpret_cast<const char *>(&info), sizeof info);
  return bytes;
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

class EntryEmitter {
public:
  EntryEmitter(func::FuncOp function, bool gpu)
      : function(function), device(gpu ? MOE_DEVICE_CUDA : MOE_DEVICE_CPU),
        module(function->getParentOfType<ModuleOp>()),
        b(function.getLoc(), function.getContext()), abi(b),
        converter(function.getContext()) {
    pointer = LLVM::LLVMPointerType::get(b.getContext());
    i32 = b.getI32Type();
    i64 = b.getI64Type();
    b.setInsertionPointToEnd(module.getBody());
  }

  LogicalResult run();

private:
  LLVM::GlobalOp emitInfo(StringRef suffix, const InfoBuilder &info);
  LLVM::LLVMFuncOp startFunction(StringRef suffix, ArrayRef<Type> types);
  /// Leaves the function with `status` where it is not zero.
  void returnUnlessOk(Value status);
  void returnUnlessAbiFits(Value context);
  Value emitMemRef(Value tensors, unsigned index, MemRefType type);
  Value emitNeeded(ArrayRef<Value> inputs);
  void emitRun();
  void emitWorkspace();
  LogicalResult emitPack();
  LogicalResult checkNoWorkspace(func::FuncOp packer);
  Value emitWorkspaceBuffer(MemRefType type, Value address, Value bytes);
  static void stripEntry(func::FuncOp planned);

  std::string exported(StringRef suffix) {
    return ("moe_" + function.getName() + suffix).str();
  }
  MemRefType typeOf(unsigned index) {
    return cast<MemRefType>(function.getArgumentTypes()[index]);
  }

  func::FuncOp function;
  moe_device device;
  ModuleOp module;
  ImplicitLocOpBuilder b;
  RuntimeABI abi;
  LLVMTypeConverter converter;
  Type pointer, i32, i64;
  unsigned numInputs = 0, numOutputs = 0;
  LLVM::GlobalOp info;
};

LLVM::GlobalOp EntryEmitter::emitInfo(StringRef suffix,
                                      const InfoBuilder &builder) {
  std::string bytes = builder.getBytes();
  return LLVM::GlobalOp::create(
      b, LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size()),
      /*isConstant=*/true, LLVM::Linkage::External, exported(suffix),
      b.getStringAttr(bytes), /*alignment=*/8);
}

LLVM::LLVMFuncOp EntryEmitter::startFunction(StringRef suffix,
                                             ArrayRef<Type> types) {
  b.setInsertionPointToEnd(module.getBody());
  auto result = LLVM::LLVMFuncOp::create(
      b, exported(suffix), LLVM::LLVMFunctionType::get(i32, types));
  b.setInsertionPointToStart(result.addEntryBlock(b));
  return result;
}

void EntryEmitter::returnUnlessOk(Value status) {
  Value ok = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::eq, status,
                                  abi.constant(i32, MOE_OK));
  Block *here = b.getInsertionBlock();
  Region *region = here->getParent();
  Block *failed = b.createBlock(region, region->end());
  LLVM::ReturnOp::create(b, status);
  Block *next = b.createBlock(region, region->end());
  b.setInsertionPointToEnd(here);
  LLVM::CondBrOp::create(b, ok, next, failed);
  b.setInsertionPointToStart(next);
}

/// A context of another version has another function table: nothing of it is
/// called.
void EntryEmitter::returnUnlessAbiFits(Value context) {
  Value version = abi.loadAt(i32, context, offsetof(moe_context, abi_version));
  Value fits = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::eq, version,
                                    abi.constant(i32, MOE_ABI_VERSION));
  returnUnlessOk(LLVM::SelectOp::create(b, fits, abi.constant(i32, MOE_OK),
                                        abi.constant(i32, MOE_ERROR_ABI)));
}

/// A checked tensor view as a memref: its data, its sizes, compact strides.
Value EntryEmitter::emitMemRef(Value tensors, unsigned index, MemRefType type) {
  Value tensor = abi.byteOffset(tensors, index * sizeof(moe_tensor));
  Value data = abi.loadAt(pointer, tensor, offsetof(moe_tensor, data));
  Value skip = abi.loadAt(i64, tensor, offsetof(moe_tensor, byte_offset));
  Value address = LLVM::GEPOp::create(b, pointer, b.getI8Type(), data,
                                      ArrayRef<LLVM::GEPArg>{skip});
  Value shape = abi.loadAt(pointer, tensor, offsetof(moe_tensor, shape));
  auto descriptor =
      MemRefDescriptor::poison(b, b.getLoc(), converter.convertType(type));
  descriptor.setAllocatedPtr(b, b.getLoc(), address);
  descriptor.setAlignedPtr(b, b.getLoc(), address);
  descriptor.setConstantOffset(b, b.getLoc(), 0);
  Value stride = abi.constant(i64, 1);
  for (int64_t dim = type.getRank() - 1; dim >= 0; --dim) {
    Value size = type.isDynamicDim(dim)
                     ? abi.loadAt(i64, shape, dim * sizeof(int64_t))
                     : abi.constant(i64, type.getDimSize(dim));
    descriptor.setSize(b, b.getLoc(), dim, size);
    descriptor.setStride(b, b.getLoc(), dim, stride);
    stride = LLVM::MulOp::create(b, stride, size);
  }
  return UnrealizedConversionCastOp::create(b, type, Value(descriptor))
      .getResult(0);
}

/// Calls NAME.workspace. Only sizes of inputs decide it, so that destinations,
/// which may not be known yet, are stood in for by nothing: their sizes follow.
Value EntryEmitter::emitNeeded(ArrayRef<Value> inputs) {
  SmallVector<Value> arguments(inputs);
  for (unsigned i = 0; i < numOutputs; ++i) {
    MemRefType type = typeOf(numInputs + i);
    auto none =
        MemRefDescriptor::poison(b, b.getLoc(), converter.convertType(type));
    arguments.push_back(
        UnrealizedConversionCastOp::create(b, type, Value(none)).getResult(0));
  }
  auto sizeFunction = module.lookupSymbol<func::FuncOp>(
      getWorkspaceFunctionName(function.getName()));
  Value bytes = func::CallOp::create(b, sizeFunction, arguments).getResult(0);
  return UnrealizedConversionCastOp::create(b, i64, bytes).getResult(0);
}

void EntryEmitter::emitRun() {
  LLVM::LLVMFuncOp entry =
      startFunction("", {pointer, pointer, pointer, pointer, i64});
  Value context = entry.getArgument(0), in = entry.getArgument(1),
        out = entry.getArgument(2), workspace = entry.getArgument(3),
        bytes = entry.getArgument(4);
  returnUnlessAbiFits(context);
  Value description = LLVM::AddressOfOp::create(b, info);
  returnUnlessOk(abi.callThrough(context, offsetof(moe_context, check_inputs),
                                 i32, {context, description, in}));
  SmallVector<Value> arguments;
  for (unsigned i = 0; i < numInputs; ++i)
    arguments.push_back(emitMemRef(in, i, typeOf(i)));
  Value needed = emitNeeded(arguments);
  returnUnlessOk(abi.callThrough(
      context, offsetof(moe_context, check), i32,
      {context, description, in, out, workspace, bytes, needed}));
  for (unsigned i = 0; i < numOutputs; ++i)
    arguments.push_back(emitMemRef(out, i, typeOf(numInputs + i)));

  arguments.push_back(
      emitWorkspaceBuffer(typeOf(numInputs + numOutputs), workspace, bytes));
  arguments.push_back(context);
  auto call = func::CallOp::create(b, function, arguments);
  LLVM::ReturnOp::create(b, call.getResult(0));
}

void EntryEmitter::emitWorkspace() {
  LLVM::LLVMFuncOp entry =
      startFunction("_workspace", {pointer, pointer, pointer});
  Value context = entry.getArgument(0), in = entry.getArgument(1);
  returnUnlessAbiFits(context);
  Value description = LLVM::AddressOfOp::create(b, info);
  returnUnlessOk(abi.callThrough(context, offsetof(moe_context, check_inputs),
                                 i32, {context, description, in}));
  SmallVector<Value> arguments;
  for (unsigned i = 0; i < numInputs; ++i)
    arguments.push_back(emitMemRef(in, i, typeOf(i)));
  LLVM::StoreOp::create(b, emitNeeded(arguments), entry.getArgument(2));
  LLVM::ReturnOp::create(b, abi.constant(i32, MOE_OK));
}

/// Where moe-pack-weights made @NAME.pack, that function; else the entry reads
/// weights as they are stored, and packing is a checked copy.
LogicalResult EntryEmitter::emitPack() {
  auto packer = module.lookupSymbol<func::FuncOp>(
      getPackFunctionName(function.getName()));
  func::FuncOp described = packer ? packer : function;
  SmallVector<unsigned> inputs, outputs;
  if (packer) {
    auto count = packer->getAttrOfType<IntegerAttr>(kNumInputsAttrName);
    if (!count || packer.getNumArguments() < count.getInt() + 2 ||
        failed(checkNoWorkspace(packer)))
      return packer.emitOpError("is no planned pack function");
    llvm::append_range(inputs, llvm::seq<unsigned>(0, count.getInt()));
    llvm::append_range(
        outputs,
        llvm::seq<unsigned>(count.getInt(), packer.getNumArguments() - 2));
  } else {
    for (unsigned i = 0; i < numInputs; ++i)
      if (function.getArgAttr(i, kLayoutAttrName))
        inputs.push_back(i);
    outputs = inputs;
  }
  InfoBuilder builder(described, MOE_DEVICE_CPU);
  if (failed(builder.setName((function.getName() + "_pack").str())))
    return failure();
  for (auto [list, isInput] : {std::pair(inputs, true), {outputs, false}})
    for (unsigned index : list)
      if (failed(builder.addArgument(index, isInput)))
        return failure();
  b.setInsertionPointToEnd(module.getBody());
  LLVM::GlobalOp packInfo = emitInfo("_pack_info", builder);

  LLVM::LLVMFuncOp entry = startFunction("_pack", {pointer, pointer, pointer});
  Value context = entry.getArgument(0), in = entry.getArgument(1),
        out = entry.getArgument(2);
  returnUnlessAbiFits(context);
  Value zero = abi.constant(i64, 0);
  Value none = LLVM::ZeroOp::create(b, pointer);
  returnUnlessOk(
      abi.callThrough(context, offsetof(moe_context, check), i32,
                      {context, LLVM::AddressOfOp::create(b, packInfo), in, out,
                       none, zero, zero}));
  SmallVector<Value> arguments;
  auto typeOf = [&](unsigned index) {
    return cast<MemRefType>(described.getArgumentTypes()[index]);
  };
  for (auto [place, index] : llvm::enumerate(inputs))
    arguments.push_back(emitMemRef(in, place, typeOf(index)));
  for (auto [place, index] : llvm::enumerate(outputs))
    arguments.push_back(emitMemRef(out, place, typeOf(index)));
  Value status = abi.constant(i32, MOE_OK);
  if (packer) {
    arguments.push_back(
        emitWorkspaceBuffer(typeOf(packer.getNumArguments() - 2), none, zero));
    arguments.push_back(context);
    status = func::CallOp::create(b, packer, arguments).getResult(0);
    stripEntry(packer);
  } else {
    for (size_t i = 0; i < inputs.size(); ++i)
      memref::CopyOp::create(b, arguments[i], arguments[inputs.size() + i]);
  }
  LLVM::ReturnOp::create(b, status);
  return success();
}

/// A pack function is called without a workspace.
LogicalResult EntryEmitter::checkNoWorkspace(func::FuncOp packer) {
  auto size = module.lookupSymbol<func::FuncOp>(
      getWorkspaceFunctionName(packer.getName()));
  if (!size)
    return failure();
  auto returned = cast<func::ReturnOp>(size.getBody().front().getTerminator());
  return success(matchPattern(returned.getOperand(0), m_Zero()));
}

/// `bytes` bytes at an address as the buffer that a planned function takes.
Value EntryEmitter::emitWorkspaceBuffer(MemRefType type, Value address,
                                        Value bytes) {
  auto descriptor =
      MemRefDescriptor::poison(b, b.getLoc(), converter.convertType(type));
  descriptor.setAllocatedPtr(b, b.getLoc(), address);
  descriptor.setAlignedPtr(b, b.getLoc(), address);
  descriptor.setConstantOffset(b, b.getLoc(), 0);
  descriptor.setSize(b, b.getLoc(), 0, bytes);
  descriptor.setConstantStride(b, b.getLoc(), 0, 1);
  return UnrealizedConversionCastOp::create(b, type, Value(descriptor))
      .getResult(0);
}

/// From here on a function like any other.
void EntryEmitter::stripEntry(func::FuncOp planned) {
  planned.setPrivate();
  planned->removeAttr(kEntryAttrName);
  planned->removeAttr(kNumInputsAttrName);
  planned->removeAttr(kBoundsAttrName);
  for (unsigned i = 0, e = planned.getNumArguments(); i < e; ++i)
    planned.setArgAttrs(i, ArrayRef<NamedAttribute>());
}

LogicalResult EntryEmitter::run() {
  auto inputs = function->getAttrOfType<IntegerAttr>(kNumInputsAttrName);
  // Inputs, destinations, the workspace and the context.
  if (!inputs || function.getNumArguments() < inputs.getInt() + 2 ||
      function.getNumResults() != 1)
    return function.emitOpError("is no planned entry");
  numInputs = inputs.getInt();
  numOutputs = function.getNumArguments() - numInputs - 2;
  InfoBuilder builder(function, device);
  if (failed(builder.setName(function.getName())))
    return failure();
  for (unsigned i = 0; i < numInputs + numOutputs; ++i)
    if (failed(builder.addArgument(i, i < numInputs)))
      return failure();
  std::string planned = getWorkspaceFunctionName(function.getName());
  if (!module.lookupSymbol<func::FuncOp>(planned))
    return function.emitOpError("has no function @") << planned;
  info = emitInfo("_info", builder);
  emitRun();
  emitWorkspace();
  if (failed(emitPack()))
    return failure();
  // Under a name that no function of C has: an entry may be called exp, and
  // call that of the math library.
  std::string inner = (function.getName() + ".body").str();
  if (module.lookupSymbol(inner) ||
      failed(SymbolTable::replaceAllSymbolUses(function, b.getStringAttr(inner),
                                               module)))
    return function.emitOpError("cannot be renamed to '") << inner << "'";
  function.setName(inner);
  stripEntry(function);
  return success();
}

struct MoeEmitEntry : public moe::impl::MoeEmitEntryPassBase<MoeEmitEntry> {
  using MoeEmitEntryPassBase::MoeEmitEntryPassBase;

  void runOnOperation() override {
    // A pack function belongs to its entry, and is an entry no more after it.
    SmallVector<func::FuncOp> entries = getEntries(getOperation());
    llvm::erase_if(entries, [&](func::FuncOp entry) {
      return llvm::any_of(entries, [&](func::FuncOp other) {
        return getPackFunctionName(other.getName()) == entry.getName();
      });
    });
    for (func::FuncOp entry : entries)
      if (failed(EntryEmitter(entry, gpu).run()))
        return signalPassFailure();
  }
};

} // namespace
