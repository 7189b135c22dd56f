//===- Compiler.cpp - C API for compiling in the process ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe-c/Compiler.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/ExecutionEngine/Compiler.h"
#include "moe/ExecutionEngine/JIT.h"
#include "moe/InitAllDialects.h"
#include "moe/Version.h"
#include "llvm/Support/SourceMgr.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace mlir;
using namespace mlir::moe;

struct moe_compiled {
  std::unique_ptr<JITModule> jit;
  std::vector<moe_entry> entries;
};

/// A step that failed, with what diagnostics do not say.
namespace {
struct Failure {
  moe_compile_status status;
  std::string text;
};
} // namespace

//===----------------------------------------------------------------------===//
// Options and messages
//===----------------------------------------------------------------------===//

static moe_compile_options getDefaultOptions() {
  moe_compile_options options;
  std::memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.target = MOE_COMPILE_TARGET_CPU;
  options.opt_level = 3;
  return options;
}

/// Reads the options of a caller that may know fewer fields, or more if it has
/// left them zero.
static std::optional<Failure> readOptions(const moe_compile_options *given,
                                          moe_compile_options &options) {
  options = getDefaultOptions();
  if (!given)
    return std::nullopt;
  auto refuse = [](const Twine &text) {
    return Failure{MOE_COMPILE_ERROR_ARGUMENT, text.str()};
  };
  size_t size = given->size;
  if (size < offsetof(moe_compile_options, target) + sizeof(int32_t))
    return refuse("options: size is " + Twine(size) +
                  "; moe_compile_options_init sets it");
  const char *bytes = reinterpret_cast<const char *>(given);
  if (size > sizeof options && std::any_of(bytes + sizeof options, bytes + size,
                                           [](char byte) { return byte != 0; }))
    return refuse("options: a field is set that this library does not know");
  std::memcpy(&options, given, std::min(size, sizeof options));
  if (options.target < MOE_COMPILE_TARGET_CPU ||
      options.target > MOE_COMPILE_TARGET_GPU_EMULATOR)
    return refuse("options: there is no target " + Twine(options.target));
  if (options.chip && options.target < MOE_COMPILE_TARGET_CUDA)
    return refuse("options: a chip is of target cuda");
  if ((options.tf32 || options.batch_invariant) &&
      options.target < MOE_COMPILE_TARGET_CUDA)
    return refuse("options: tf32 and batch_invariant are of target cuda");
  if (options.pack_weights && options.target != MOE_COMPILE_TARGET_CPU)
    return refuse("options: pack_weights is of target cpu");
  if (options.opt_level < 0 || options.opt_level > 3)
    return refuse("options: opt_level is " + Twine(options.opt_level) +
                  ", expected 0 to 3");
  return std::nullopt;
}

/// Hands text to the caller, without blank space at its end.
static void setMessage(char **message, StringRef text) {
  text = text.rtrim();
  if (!message || text.empty())
    return;
  if (auto *copy = static_cast<char *>(std::malloc(text.size() + 1))) {
    std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = '\0';
    *message = copy;
  }
}

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

/// Adds a forward with residuals and a backward to the module.
static LogicalResult addGradients(ModuleOp module,
                                  const moe_compile_options &options) {
  MoeGenerateVJPPassOptions passOptions;
  passOptions.function = options.gradients_of;
  if (options.gradients_save)
    passOptions.save = options.gradients_save;
  SmallVector<StringRef> names;
  if (options.gradients_wrt)
    StringRef(options.gradients_wrt)
        .split(names, ',', /*MaxSplit=*/-1, /*KeepEmpty=*/false);
  for (StringRef name : names)
    passOptions.wrt.push_back(name.str());
  PassManager pm(module.getContext());
  pm.addPass(createInlinerPass());
  pm.addPass(createMoeGenerateVJPPass(passOptions));
  return pm.run(module);
}

static std::optional<Failure> compile(StringRef source,
                                      const moe_compile_options &options,
                                      StringRef name, raw_ostream &diagnostics,
                                      moe_compiled &result) {
  auto refuse = [&](moe_compile_status status, const Twine &text) {
    return Failure{status, (name + ": " + text).str()};
  };
  DialectRegistry registry;
  moe::registerAllDialects(registry);
  registerAllToLLVMIRTranslations(registry);
  // One function after the other, so that messages keep their order.
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  auto sourceManager = std::make_shared<llvm::SourceMgr>();
  // A copy: text must be followed by a zero, bytecode must be aligned.
  auto buffer = llvm::WritableMemoryBuffer::getNewUninitMemBuffer(
      source.size(), name, llvm::Align(64));
  if (!buffer)
    return refuse(MOE_COMPILE_ERROR_SOURCE, "out of memory");
  std::copy(source.begin(), source.end(), buffer->getBufferStart());
  sourceManager->AddNewSourceBuffer(std::move(buffer), llvm::SMLoc());
  SourceMgrDiagnosticHandler handler(*sourceManager, &context, diagnostics);

  OwningOpRef<ModuleOp> module =
      parseSourceFile<ModuleOp>(sourceManager, &context);
  if (!module)
    return refuse(MOE_COMPILE_ERROR_SOURCE, "cannot be read as a module");
  if (options.gradients_of && failed(addGradients(*module, options)))
    return refuse(MOE_COMPILE_ERROR_LOWERING, "could not be differentiated");
  std::vector<std::string> names;
  for (auto function : module->getOps<func::FuncOp>())
    if (function->hasAttr(kEntryAttrName))
      names.push_back(function.getName().str());
  if (names.empty())
    return refuse(MOE_COMPILE_ERROR_SOURCE,
                  "no function is marked " + kEntryAttrName);

  CompileOptions compileOptions;
  constexpr CompileTarget kTargets[] = {
      CompileTarget::cpu, CompileTarget::oracle, CompileTarget::cuda,
      CompileTarget::gpuEmulator};
  compileOptions.target = kTargets[options.target];
  if (options.chip)
    compileOptions.gpu.chip = options.chip;
  compileOptions.gpu.tf32 = options.tf32 != 0;
  compileOptions.gpu.batchInvariant = options.batch_invariant != 0;
  compileOptions.pipeline.packWeights = options.pack_weights != 0;
  compileOptions.optLevel = static_cast<unsigned>(options.opt_level);
  if (options.cpu)
    compileOptions.cpu = options.cpu;
  if (failed(lowerModule(*module, compileOptions)))
    return refuse(MOE_COMPILE_ERROR_LOWERING, "could not be compiled");
  auto refuseCode = [&](llvm::Error error) {
    return refuse(MOE_COMPILE_ERROR_CODE, llvm::toString(std::move(error)));
  };
  auto object = compileToObject(*module, compileOptions);
  if (!object)
    return refuseCode(object.takeError());
  auto jit = JITModule::create(std::move(*object));
  if (!jit)
    return refuseCode(jit.takeError());
  for (const std::string &entryName : names) {
    auto entry = (*jit)->getEntry(entryName);
    if (!entry)
      return refuseCode(entry.takeError());
    result.entries.push_back(*entry);
  }
  result.jit = std::move(*jit);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

uint32_t moe_compiler_api_version(void) { return MOE_COMPILER_API_VERSION; }

const char *moe_compiler_version(void) { return MOE_VERSION_STRING; }

void moe_compile_options_init(moe_compile_options *options, size_t size) {
  moe_compile_options defaults = getDefaultOptions();
  defaults.size = size;
  if (!options)
    return;
  std::memset(options, 0, size);
  std::memcpy(options, &defaults, std::min(size, sizeof defaults));
}

int moe_compiler_compile(const char *source, size_t length,
                         const moe_compile_options *options,
                         moe_compiled **compiled, char **message) {
  if (message)
    *message = nullptr;
  if (compiled)
    *compiled = nullptr;
  if (!compiled || (!source && length > 0)) {
    setMessage(message, compiled ? "source is NULL" : "compiled is NULL");
    return MOE_COMPILE_ERROR_ARGUMENT;
  }
  moe_compile_options known;
  std::string text;
  auto result = std::make_unique<moe_compiled>();
  std::optional<Failure> failure = readOptions(options, known);
  if (!failure) {
    llvm::raw_string_ostream diagnostics(text);
    failure = compile(StringRef(source, length), known,
                      known.name ? known.name : "source", diagnostics, *result);
  }
  if (failure) {
    setMessage(message, text + failure->text);
    return failure->status;
  }
  setMessage(message, text);
  *compiled = result.release();
  return MOE_COMPILE_OK;
}

void moe_compiled_destroy(moe_compiled *compiled) { delete compiled; }

size_t moe_compiled_num_entries(const moe_compiled *compiled) {
  return compiled ? compiled->entries.size() : 0;
}

const moe_entry *moe_compiled_get_entry(const moe_compiled *compiled,
                                        size_t index) {
  return index < moe_compiled_num_entries(compiled) ? &compiled->entries[index]
                                                    : nullptr;
}

const moe_entry *moe_compiled_find_entry(const moe_compiled *compiled,
                                         const char *name) {
  if (!compiled || !name)
    return nullptr;
  for (const moe_entry &entry : compiled->entries)
    if (StringRef(entry.info->name) == name)
      return &entry;
  return nullptr;
}

void moe_message_free(char *message) { std::free(message); }
