//===- moe-compile.cpp - The compiler's command line ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/AsmState.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "moe/ExecutionEngine/Compiler.h"
#include "moe/ExecutionEngine/GPUPlan.h"
#include "moe/IO/Files.h"
#include "moe/InitAllDialects.h"
#include "moe/Layer/Examples.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;
using namespace mlir::moe;
namespace cl = llvm::cl;
namespace io = ::moe::io;

static cl::OptionCategory category("moe-compile options");

static cl::opt<std::string> inputFile(cl::Positional, cl::desc("[file.mlir]"),
                                      cl::cat(category));
static cl::opt<std::string> outputFile("o", cl::desc("file to write"),
                                       cl::value_desc("file"), cl::init("-"),
                                       cl::cat(category));
static cl::opt<std::string>
    emitName("emit",
             cl::desc("what to write: object, shared, llvm-ir, mlir or header; "
                      "by default what the extension of -o says (.o, .so, "
                      ".ll, .mlir, .h)"),
             cl::value_desc("kind"), cl::cat(category));
static cl::opt<std::string>
    headerFile("header", cl::desc("also write the C header of the entries"),
               cl::value_desc("file"), cl::cat(category));
static cl::opt<bool>
    wantsPlan("plan",
              cl::desc("write, in place of code, which kernels a GPU's code "
                       "has and how they are launched"),
              cl::cat(category));
static cl::opt<std::string>
    stageName("compile-to",
              cl::desc("stop after a stage and print its IR: moe, routed, "
                       "grouped, buffers, cpu or llvm"),
              cl::value_desc("stage"), cl::cat(category));
static cl::opt<std::string>
    targetName("target",
               cl::desc("cpu; oracle: the naive reference code; cuda: kernels "
                        "for NVIDIA's GPUs, launched by the runtime; "
                        "gpu-emulator: the same with buffers apart"),
               cl::value_desc("target"), cl::init("cpu"), cl::cat(category));
static cl::opt<std::string>
    chipName("chip", cl::desc("the GPU of target cuda, sm_80 (default), ..."),
             cl::value_desc("name"), cl::cat(category));
static cl::opt<bool>
    tf32("tf32", cl::desc("f32 is multiplied as tf32, of 11 bits, on a GPU"),
         cl::cat(category));
static cl::opt<bool> packWeights(
    "pack-weights",
    cl::desc(
        "entries take expert weights in the order in which code for --mcpu "
        "reads them; moe_NAME_pack makes these of stored ones"),
    cl::cat(category));
static cl::opt<bool> batchInvariant(
    "batch-invariant",
    cl::desc("on a GPU no row's result depends on how many its expert has"),
    cl::cat(category));
static cl::opt<std::string>
    cpuName("mcpu", cl::desc("processor; native (default) is this machine's"),
            cl::value_desc("name"), cl::init("native"), cl::cat(category));
static cl::opt<std::string>
    linkerName("linker", cl::desc("program that links shared libraries"),
               cl::value_desc("program"), cl::cat(category));
static cl::opt<unsigned> optLevel("O", cl::desc("optimisation, 0 to 3"),
                                  cl::Prefix, cl::init(3), cl::cat(category));
static cl::list<std::string>
    warningsAsErrors("Werror",
                     cl::desc("fallback: code that was not fused or takes a "
                              "slower road is an error, not a warning"),
                     cl::value_desc("fallback"), cl::cat(category));

static cl::opt<std::string>
    exampleName("example", cl::desc("print the layer of a published model"),
                cl::value_desc("name"), cl::cat(category));
static cl::list<std::string>
    settings("set", cl::desc("change a key of the example (may be repeated)"),
             cl::value_desc("key=value"), cl::cat(category));
static cl::opt<bool> listExamples("list-examples",
                                  cl::desc("list the examples"),
                                  cl::cat(category));
static cl::opt<bool> listKeys("list-keys",
                              cl::desc("list the keys that --set changes"),
                              cl::cat(category));

static int fail(const Twine &message) {
  llvm::errs() << "moe-compile: error: " << message << "\n";
  return 1;
}

/// Writes all files or none; "-" is standard output and comes last.
static int writeOutputs(std::vector<io::OutputFile> files) {
  auto printed = std::stable_partition(
      files.begin(), files.end(),
      [](const io::OutputFile &file) { return file.path != "-"; });
  if (files.end() - printed > 1)
    return fail("only one output can go to standard output");
  std::string text = printed == files.end() ? "" : std::move(printed->head);
  files.erase(printed, files.end());
  if (io::Status status = io::writeFiles(files); !status)
    return fail(status.message());
  llvm::outs() << text;
  llvm::outs().flush();
  if (std::error_code code = llvm::outs().error()) {
    llvm::outs().clear_error();
    return fail("writing to standard output: " + code.message());
  }
  return 0;
}

//===----------------------------------------------------------------------===//
// Examples
//===----------------------------------------------------------------------===//

static bool wantsExample() {
  return listExamples || listKeys || exampleName.getNumOccurrences();
}

static int runExample() {
  layer::ExampleRequest request = {listExamples, listKeys, exampleName,
                                   settings};
  std::string text, error;
  llvm::raw_string_ostream os(text);
  if (failed(layer::printExample(request, os, error)))
    return fail(error);
  return writeOutputs({{outputFile, text, {}}});
}

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

namespace {
struct Request {
  OutputKind kind = OutputKind::mlir;
  Stage stage = Stage::llvm;
  CompileOptions compile;
};
} // namespace

/// Reads what is to be written.
static llvm::Error readOutput(Request &request) {
  auto stage = symbolizeStage(stageName);
  if (stageName.getNumOccurrences() && !stage)
    return llvm::createStringError(
        "there is no stage '" + stageName +
        "'; stages are moe, routed, grouped, buffers, cpu and llvm");
  request.stage = stage.value_or(Stage::llvm);
  if (wantsPlan &&
      (stage || emitName.getNumOccurrences() || headerFile.getNumOccurrences()))
    return llvm::createStringError(
        "--plan is written in place of code: it goes without --emit, "
        "--header and --compile-to");
  if (wantsPlan)
    return llvm::Error::success();

  auto kind = emitName.getNumOccurrences() ? symbolizeOutputKind(emitName)
                                           : inferOutputKind(outputFile);
  if (emitName.getNumOccurrences() && !kind)
    return llvm::createStringError(
        "--emit knows no '" + emitName +
        "'; it takes object, shared, llvm-ir, mlir and header");
  if (!kind && stage)
    kind = OutputKind::mlir;
  if (!kind && outputFile == "-")
    return llvm::createStringError(
        "name a file by -o, or by --emit what to print");
  if (!kind)
    return llvm::createStringError(
        "the extension of '" + outputFile +
        "' says not what to write: .o, .so, .ll, .mlir and .h do, and --emit");
  request.kind = *kind;
  if (request.kind != OutputKind::mlir && request.stage != Stage::llvm)
    return llvm::createStringError("--compile-to=" + stageName +
                                   " leaves IR, which is written by "
                                   "--emit=mlir, not " +
                                   stringifyOutputKind(*kind));
  bool describesEntries = request.stage >= Stage::cpu;
  if (!headerFile.empty() && !describesEntries)
    return llvm::createStringError("--header needs the stage cpu or llvm");
  return llvm::Error::success();
}

/// Reads what code is made for.
static llvm::Error readTarget(Request &request) {
  auto target = llvm::StringSwitch<std::optional<CompileTarget>>(targetName)
                    .Case("cpu", CompileTarget::cpu)
                    .Case("oracle", CompileTarget::oracle)
                    .Case("cuda", CompileTarget::cuda)
                    .Case("gpu-emulator", CompileTarget::gpuEmulator)
                    .Default(std::nullopt);
  if (!target)
    return llvm::createStringError("there is no target '" + targetName +
                                   "'; targets are cpu, oracle, cuda and "
                                   "gpu-emulator");
  request.compile.target = *target;
  if (isGPU(*target) && request.stage != Stage::llvm)
    return llvm::createStringError("target " + targetName +
                                   " stops at no stage; moe-opt "
                                   "--moe-to-gpu prints its kernels");
  if (!chipName.empty() && !isGPU(*target))
    return llvm::createStringError("--chip goes with --target=cuda or "
                                   "gpu-emulator");
  if ((tf32 || batchInvariant) && !isGPU(*target))
    return llvm::createStringError("--tf32 and --batch-invariant go with "
                                   "--target=cuda or gpu-emulator");
  if (wantsPlan && !isGPU(*target))
    return llvm::createStringError("there is no plan of target " + targetName +
                                   " yet: --plan goes with --target=cuda or "
                                   "gpu-emulator");
  if (!chipName.empty())
    request.compile.gpu.chip = chipName;
  if (packWeights && *target != CompileTarget::cpu)
    return llvm::createStringError("--pack-weights goes with --target=cpu");
  request.compile.pipeline.packWeights = packWeights;
  request.compile.gpu.tf32 = tf32;
  request.compile.gpu.batchInvariant = batchInvariant;
  return llvm::Error::success();
}

/// Reads what the options ask for; an error where they contradict each other.
static llvm::Error readOptions(Request &request) {
  if (llvm::Error wrong = readOutput(request))
    return wrong;
  if (llvm::Error wrong = readTarget(request))
    return wrong;
  if (optLevel > 3)
    return llvm::createStringError("-O takes 0, 1, 2 or 3");
  request.compile.optLevel = optLevel;
  request.compile.cpu = cpuName;
  for (StringRef warning : warningsAsErrors)
    if (warning != "fallback")
      return llvm::createStringError("--Werror knows no '" + warning +
                                     "'; it takes fallback");
  request.compile.fallbackIsError = !warningsAsErrors.empty();
  return llvm::Error::success();
}

/// What was compiled, and how its bounds are found.
static std::string getPlanText(const GPUPlan &plan, const Request &request) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "plan of " << llvm::sys::path::filename(inputFile) << ", target "
     << targetName << ", chip " << request.compile.gpu.chip << ": ";
  printPlan(os, plan);
  os << "bounds of a call, modelled: moe-run --target=gpu-emulator --plan\n";
  return text;
}

/// The bytes that are asked for, of a module at its last stage.
static llvm::Expected<std::string> emitOutput(ModuleOp module,
                                              const Request &request) {
  if (request.kind == OutputKind::header)
    return emitHeader(getEntryDescriptions(module), outputFile);
  if (request.kind == OutputKind::llvmIR)
    return compileToLLVMText(module, request.compile);
  if (request.kind == OutputKind::mlir) {
    std::string text;
    llvm::raw_string_ostream os(text);
    module.print(os);
    os << "\n";
    return text;
  }
  auto bytes = compileToObject(module, request.compile);
  if (bytes && request.kind == OutputKind::shared)
    bytes = linkSharedLibrary(
        **bytes,
        outputFile == "-" ? "layer.so" : llvm::sys::path::filename(outputFile),
        linkerName);
  if (!bytes)
    return bytes.takeError();
  return (*bytes)->getBuffer().str();
}

static int runCompile() {
  Request request;
  if (llvm::Error wrong = readOptions(request))
    return fail(llvm::toString(std::move(wrong)));
  std::string error;
  auto source = openInputFile(inputFile, &error);
  if (!source)
    return fail(error);

  DialectRegistry registry;
  mlir::moe::registerAllDialects(registry);
  registerAllToLLVMIRTranslations(registry);
  MLIRContext context(registry);
  context.printOpOnDiagnostic(false);
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(std::move(source), llvm::SMLoc());
  SourceMgrDiagnosticHandler handler(sources, &context);
  // Errors from here to the code are diagnostics, printed with their place.
  auto module = parseSourceFile<ModuleOp>(sources, &context);
  if (!module)
    return 1;
  if ((wantsPlan || request.kind != OutputKind::mlir) && !hasEntry(*module))
    return fail(inputFile + ": no function is marked moe.entry");
  GPUPlan plan;
  if (failed(lowerModule(*module, request.compile, request.stage,
                         wantsPlan ? &plan : nullptr)))
    return 1;
  if (wantsPlan)
    return writeOutputs({{outputFile, getPlanText(plan, request), {}}});

  auto output = emitOutput(*module, request);
  if (!output)
    return fail(inputFile + ": " + llvm::toString(output.takeError()));
  std::vector<io::OutputFile> files = {{outputFile, std::move(*output), {}}};
  if (!headerFile.empty()) {
    auto header = emitHeader(getEntryDescriptions(*module), headerFile);
    if (!header)
      return fail(inputFile + ": " + llvm::toString(header.takeError()));
    files.push_back({headerFile, std::move(*header), {}});
  }
  return writeOutputs(std::move(files));
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv,
                              "Compiles Mixture-of-Experts layers\n");
  if (!settings.empty() && !exampleName.getNumOccurrences())
    return fail("--set needs --example");
  if (wantsExample() && !inputFile.empty())
    return fail("an example takes no input file");
  if (wantsExample())
    return runExample();
  if (inputFile.empty())
    return fail("nothing to do; see --help");
  return runCompile();
}
