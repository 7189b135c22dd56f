//===- Examples.h - Layers of published models ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ready layers by the name of the checkpoint that they are in, with its real
// shapes, types and router settings; and the part of moe-compile that prints
// them.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LAYER_EXAMPLES_H
#define MOE_LAYER_EXAMPLES_H

#include "moe/Layer/LayerSpec.h"

#include <string>
#include <vector>

namespace mlir::moe::layer {

/// Where the numbers of an example were read.
enum class Source : char {
  project = 'T',    ///< Made up for this project.
  reference = 'S',  ///< Source code of huggingface/transformers.
  repository = 'R', ///< Another repository's tests or tuning tables.
  published = 'P',  ///< The public configuration or paper.
};

struct LayerExample {
  StringLiteral name;
  StringLiteral description;
  Source source;
  StringLiteral family; ///< Settings shared with related checkpoints.
  StringLiteral own;    ///< Settings of this one, which come last.
};

ArrayRef<LayerExample> listExamples();

/// The example of that name, or null.
const LayerExample *lookupExample(StringRef name);

/// The layer of an example.
LayerSpec getExampleSpec(const LayerExample &example);

/// What moe-compile was asked to print.
struct ExampleRequest {
  bool listExamples = false;
  bool listKeys = false;
  std::string example;
  std::vector<std::string> settings; ///< key=value, applied in this order.
};

/// Writes the lists, or the example's IR. On failure `error` describes the
/// mistake and nothing was written.
LogicalResult printExample(const ExampleRequest &request, raw_ostream &os,
                           std::string &error);

} // namespace mlir::moe::layer

#endif // MOE_LAYER_EXAMPLES_H
