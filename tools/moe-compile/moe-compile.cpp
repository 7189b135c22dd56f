//===- moe-compile.cpp - The compiler's command line ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Support/FileUtilities.h"
#include "moe/Layer/Examples.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"

using namespace mlir;
using namespace mlir::moe;
namespace cl = llvm::cl;

static cl::OptionCategory category("moe-compile options");

static cl::opt<std::string> outputFile("o", cl::desc("file to write"),
                                       cl::value_desc("file"), cl::init("-"),
                                       cl::cat(category));
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

/// The output file is opened last, so that a mistake leaves none behind.
static int writeOutput(StringRef text) {
  std::string error;
  std::unique_ptr<llvm::ToolOutputFile> file =
      openOutputFile(outputFile, &error);
  if (!file)
    return fail(error);
  file->os() << text;
  file->os().flush();
  if (std::error_code code = file->os().error()) {
    file->os().clear_error();
    return fail("writing '" + outputFile + "': " + code.message());
  }
  file->keep();
  return 0;
}

//===----------------------------------------------------------------------===//
// Modes
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
  return writeOutput(text);
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv,
                              "Compiles Mixture-of-Experts layers\n");
  if (!settings.empty() && !exampleName.getNumOccurrences())
    return fail("--set needs --example");
  if (wantsExample())
    return runExample();
  return fail("nothing to do; see --help");
}
