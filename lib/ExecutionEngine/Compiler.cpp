//===- Compiler.cpp - From a module to an object --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/ExecutionEngine/Compiler.h"
#include "FallbackHandler.h"
#include "RoundToBF16.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/ExecutionEngine/OptUtils.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/ExecutionEngine/GPUPlan.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"
#include <cstring>

using namespace mlir;
using namespace mlir::moe;

static llvm::Error makeError(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

static constexpr std::pair<OutputKind, StringLiteral> kKindNames[] = {
    {OutputKind::object, "object"},  {OutputKind::shared, "shared"},
    {OutputKind::llvmIR, "llvm-ir"}, {OutputKind::mlir, "mlir"},
    {OutputKind::header, "header"},
};

StringRef moe::stringifyOutputKind(OutputKind kind) {
  for (const auto &[known, name] : kKindNames)
    if (known == kind)
      return name;
  llvm_unreachable("every kind has a name");
}

std::optional<OutputKind> moe::symbolizeOutputKind(StringRef name) {
  for (const auto &[kind, known] : kKindNames)
    if (known == name)
      return kind;
  return std::nullopt;
}

std::optional<OutputKind> moe::inferOutputKind(StringRef fileName) {
  return llvm::StringSwitch<std::optional<OutputKind>>(
             llvm::sys::path::extension(fileName))
      .Case(".o", OutputKind::object)
      .Case(".so", OutputKind::shared)
      .Case(".ll", OutputKind::llvmIR)
      .Case(".mlir", OutputKind::mlir)
      .Case(".h", OutputKind::header)
      .Default(std::nullopt);
}

bool moe::hasEntry(ModuleOp module) {
  return llvm::any_of(module.getOps<func::FuncOp>(), [](func::FuncOp function) {
    return function->hasAttr(kEntryAttrName);
  });
}

static llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
createTargetMachine(const CompileOptions &options) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  llvm::InitializeNativeTargetAsmParser();
  llvm::Triple triple(llvm::sys::getProcessTriple());
  std::string message;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return makeError(message);
  std::string cpu = options.cpu, features;
  if (cpu == "native") {
    cpu = llvm::sys::getHostCPUName().str();
    llvm::SubtargetFeatures host;
    for (const auto &feature : llvm::sys::getHostCPUFeatures())
      host.AddFeature(feature.first(), feature.second);
    features = host.getString();
  } else {
    auto probe = std::unique_ptr<llvm::MCSubtargetInfo>(
        target->createMCSubtargetInfo(triple, "", ""));
    if (probe && !probe->isCPUStringValid(cpu))
      return makeError("unknown processor '" + cpu + "' for " + triple.str());
  }
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      triple, cpu, features, llvm::TargetOptions(), llvm::Reloc::PIC_,
      /*CodeModel=*/std::nullopt,
      static_cast<llvm::CodeGenOptLevel>(options.optLevel)));
  if (!machine)
    return makeError("no code generator for " + triple.str());
  return machine;
}

/// What the processor decides of packed products: the width of its vectors,
/// panels of 24 sums (12 of half the registers) beside their operands, and
/// whether vdpbf16ps is the fastest way to multiply bf16. It is on AMD's cores;
/// on Intel's it does in two cycles what two multiply-adds do in one (measured
/// on Emerald Rapids: 84 of 172 GFLOP/s).
static const CPUPipelineOptions &
chooseForProcessor(const CompileOptions &options,
                   CPUPipelineOptions &pipeline) {
  pipeline.copyOptionValuesFrom(options.pipeline);
  if (!pipeline.packWeights)
    return pipeline;
  auto machine = createTargetMachine(options);
  if (!machine) {
    // Told by whoever makes code of the module.
    llvm::consumeError(machine.takeError());
    return pipeline;
  }
  const llvm::MCSubtargetInfo &info = *(*machine)->getMCSubtargetInfo();
  bool isX86 = (*machine)->getTargetTriple().isX86();
  if (isX86 && info.checkFeatures("+avx512f")) {
    pipeline.vectorBits = 512;
    pipeline.panelColumns = 64;
    pipeline.bf16Dot = info.checkFeatures("+avx512bf16") &&
                       (*machine)->getTargetCPU().starts_with("znver");
    return pipeline;
  }
  pipeline.vectorBits = isX86 ? 256 : 128;
  pipeline.panelColumns = 16;
  return pipeline;
}

/// More than a row of most layers, so that one index too far lands in it.
static constexpr int64_t kEmulatorPadding = 4096;

/// The bytes of all kernels that a lowered module carries.
static uint64_t getImageBytes(ModuleOp module) {
  uint64_t bytes = 0;
  for (auto global : module.getOps<LLVM::GlobalOp>())
    if (global.getName().ends_with(".image"))
      bytes += cast<StringAttr>(global.getValueAttr()).getValue().size();
  return bytes;
}

/// In two steps, as a plan is read off the kernels between them.
static LogicalResult lowerToGPU(ModuleOp module, const CompileOptions &options,
                                GPUPlan *plan) {
  GPUPipelineOptions gpu;
  gpu.copyOptionValuesFrom(options.gpu);
  if (options.target == CompileTarget::gpuEmulator)
    gpu.padding = kEmulatorPadding;
  std::optional<SourceOps> source;
  if (plan)
    source.emplace(module);
  PassManager kernels(module.getContext()), entries(module.getContext());
  buildGPUKernels(kernels, gpu);
  buildGPUEntries(entries, gpu);
  if (failed(kernels.run(module)))
    return failure();
  if (plan)
    *plan = planKernels(module, *source);
  if (failed(entries.run(module)))
    return failure();
  if (plan)
    plan->imageBytes = getImageBytes(module);
  return success();
}

LogicalResult moe::lowerModule(ModuleOp module, const CompileOptions &options,
                               Stage last, GPUPlan *plan) {
  FallbackHandler fallbacks(module.getContext(), options.fallbackIsError);
  if (isGPU(options.target) && last != Stage::llvm)
    return module.emitError("kernels stop at no stage but llvm, not '")
           << stringifyStage(last) << "'";
  LogicalResult lowered = failure();
  if (isGPU(options.target)) {
    lowered = lowerToGPU(module, options, plan);
  } else {
    PassManager pm(module.getContext());
    CPUPipelineOptions pipeline;
    if (options.target == CompileTarget::oracle)
      buildOraclePipeline(pm, last);
    else
      buildCPUPipeline(pm, chooseForProcessor(options, pipeline), last);
    lowered = pm.run(module);
  }
  // Whoever reads the result is owed a reason.
  if (failed(lowered) && fallbacks.getNumErrors() == 0)
    module.emitError("could not be lowered to stage '")
        << stringifyStage(last) << "'";
  return success(succeeded(lowered) && fallbacks.getNumErrors() == 0);
}

/// Symbols that no host calls stay inside, whatever layers are called.
static void hideAllButEntries(llvm::Module &module,
                              const std::vector<EntryDescription> &entries) {
  llvm::StringSet<> exported;
  for (const EntryDescription &entry : entries)
    for (const char *suffix :
         {"", "_workspace", "_pack", "_info", "_pack_info"})
      exported.insert("moe_" + entry.name + suffix);
  for (llvm::GlobalValue &value : module.global_values())
    if (!value.isDeclaration() && !exported.contains(value.getName()))
      value.setLinkage(llvm::GlobalValue::InternalLinkage);
}

static llvm::Expected<std::unique_ptr<llvm::Module>>
translate(ModuleOp module, llvm::LLVMContext &context,
          llvm::TargetMachine &machine, const CompileOptions &options) {
  std::unique_ptr<llvm::Module> translated =
      translateModuleToLLVMIR(module, context, "moe");
  if (!translated)
    return makeError("the module could not be translated to LLVM IR");
  translated->setTargetTriple(machine.getTargetTriple());
  translated->setDataLayout(machine.createDataLayout());
  // Code of vectors as wide as the registers is what the passes asked for.
  // Text names its processor too, so that it means the same wherever it goes.
  for (llvm::Function &function : *translated)
    if (!function.isDeclaration()) {
      function.addFnAttr("prefer-vector-width", "512");
      function.addFnAttr("target-cpu", machine.getTargetCPU());
      function.addFnAttr("target-features", machine.getTargetFeatureString());
    }
  hideAllButEntries(*translated, getEntryDescriptions(module));
  expandRoundingToBF16(*translated, machine);
  auto optimize =
      makeOptimizingTransformer(options.optLevel, /*sizeLevel=*/0, &machine);
  if (llvm::Error error = optimize(translated.get()))
    return std::move(error);
  return translated;
}

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
moe::compileToObject(ModuleOp module, const CompileOptions &options) {
  auto machine = createTargetMachine(options);
  if (!machine)
    return machine.takeError();
  llvm::LLVMContext context;
  auto translated = translate(module, context, **machine, options);
  if (!translated)
    return translated.takeError();
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  if ((*machine)->addPassesToEmitFile(passes, stream, nullptr,
                                      llvm::CodeGenFileType::ObjectFile))
    return makeError("this target emits no objects");
  passes.run(**translated);
  return std::make_unique<llvm::SmallVectorMemoryBuffer>(
      std::move(bytes), "moe-layer.o", /*RequiresNullTerminator=*/false);
}

llvm::Expected<std::string>
moe::compileToLLVMText(ModuleOp module, const CompileOptions &options) {
  auto machine = createTargetMachine(options);
  if (!machine)
    return machine.takeError();
  llvm::LLVMContext context;
  auto translated = translate(module, context, **machine, options);
  if (!translated)
    return translated.takeError();
  std::string text;
  llvm::raw_string_ostream stream(text);
  (*translated)->print(stream, nullptr);
  return text;
}

/// True where the bytes hold as many arguments as they say.
static bool isWholeDescription(StringRef bytes) {
  moe_entry_info head;
  if (bytes.size() < sizeof head)
    return false;
  std::memcpy(&head, bytes.data(), sizeof head);
  uint64_t count = uint64_t(head.num_inputs) + head.num_outputs;
  return head.abi_version == MOE_ABI_VERSION &&
         head.num_symbols <= MOE_MAX_SYMBOLS &&
         bytes.size() - sizeof head == count * sizeof(moe_arg_info);
}

std::vector<EntryDescription> moe::getEntryDescriptions(ModuleOp module) {
  std::vector<EntryDescription> entries;
  for (auto global : module.getOps<LLVM::GlobalOp>()) {
    StringRef symbol = global.getName();
    if (!symbol.consume_front("moe_") || !symbol.consume_back("_info"))
      continue;
    // The description of a pack function belongs to its entry.
    auto function = "moe_" + symbol.str();
    if (!module.lookupSymbol<LLVM::LLVMFuncOp>(function + "_workspace"))
      continue;
    auto value = dyn_cast_or_null<StringAttr>(global.getValueOrNull());
    if (!value || !isWholeDescription(value.getValue()))
      continue;
    StringRef bytes = value.getValue();
    entries.push_back({symbol.str(), {bytes.begin(), bytes.end()}});
  }
  return entries;
}
