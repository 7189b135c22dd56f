//===- Examples.cpp - Looking up and printing examples --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Layer/Examples.h"
#include "NearNames.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

const LayerExample *layer::lookupExample(StringRef name) {
  for (const LayerExample &example : listExamples())
    if (example.name == name)
      return &example;
  return nullptr;
}

/// A checkpoint's name as that of a C function: `qwen3-30b` to `qwen3_30b`.
static std::string toIdentifier(StringRef name) {
  std::string text = name.str();
  for (char &c : text)
    if (!llvm::isAlnum(c))
      c = '_';
  return text;
}

LayerSpec layer::getExampleSpec(const LayerExample &example) {
  LayerSpec spec;
  std::string error;
  spec.name = toIdentifier(example.name);
  if (failed(setLayerKeys(spec, example.family, error)) ||
      failed(setLayerKeys(spec, example.own, error)))
    llvm_unreachable("the table of examples holds a wrong key");
  return spec;
}

static void printExamples(raw_ostream &os) {
  size_t widest = 0;
  for (const LayerExample &example : listExamples())
    widest = std::max(widest, example.name.size());
  for (const LayerExample &example : listExamples())
    os << llvm::left_justify(example.name, widest + 2)
       << static_cast<char>(example.source) << "  " << example.description
       << "\n";
  os << "\nSources: S huggingface/transformers, R another repository's tests "
        "or tables,\nP the public configuration or paper, T this project.\n";
}

static void printKeys(raw_ostream &os) {
  size_t widest = 0;
  forEachLayerKey([&](const LayerKey &key) {
    widest = std::max(widest, key.name.size() + key.defaultValue.size() + 1);
  });
  forEachLayerKey([&](const LayerKey &key) {
    std::string setting = (key.name + "=" + key.defaultValue).str();
    os << llvm::left_justify(setting, widest + 2) << key.meaning << " ("
       << key.allowed << ")\n";
  });
}

LogicalResult layer::printExample(const ExampleRequest &request,
                                  raw_ostream &os, std::string &error) {
  if (request.listExamples || request.listKeys) {
    if (request.listExamples)
      printExamples(os);
    if (request.listKeys)
      printKeys(os);
    return success();
  }
  const LayerExample *example = lookupExample(request.example);
  if (!example) {
    SmallVector<StringRef> names;
    for (const LayerExample &other : listExamples())
      names.push_back(other.name);
    std::string near = suggestNames(request.example, names);
    error = "there is no example '" + request.example + "'" +
            (near.empty() ? "; --list-examples shows all" : near);
    return failure();
  }
  LayerSpec spec = getExampleSpec(*example);
  for (StringRef setting : request.settings) {
    if (!setting.contains('=')) {
      error = ("'" + setting + "' is not of the form key=value").str();
      return failure();
    }
    auto [key, value] = setting.split('=');
    if (failed(setLayerKey(spec, key, value, error)))
      return failure();
  }
  if (failed(validate(spec, error)))
    return failure();
  MLIRContext context;
  OwningOpRef<ModuleOp> module = buildLayer(&context, spec);
  module->print(os);
  os << "\n";
  return success();
}
