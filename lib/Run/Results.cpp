//===- Results.cpp - Writing the results of a call ------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Npy.h"
#include "moe/IO/Safetensors.h"
#include "moe/Run/Bind.h"

#include <map>

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::OutputFile;
using moe::io::Tensor;

Expected<std::vector<std::string>>
moe::run::writeResults(const BoundCall &call, const moe_entry_info &info) {
  struct Content {
    std::vector<io::NamedTensor> tensors;
    std::vector<std::pair<std::string, std::string>> metadata;
  };
  std::vector<std::string> notes;
  std::vector<Tensor> stored; // Keeps what the files point to.
  stored.reserve(call.destinations.size());
  std::map<std::string, Content> safetensors;
  std::vector<OutputFile> files;
  for (const BoundCall::Destination &to : call.destinations) {
    const moe_arg_info &arg = info.args[info.num_inputs + to.output];
    std::string what = "result '" + fieldText(arg.name) + "'";
    stored.push_back(
        call.outputs[to.output].reshaped(call.resultShapes[to.output]));
    Tensor &tensor = stored.back();
    if (to.path.format == io::TensorPath::Format::Safetensors) {
      Content &content = safetensors[to.path.file];
      content.tensors.push_back({to.path.name, &tensor});
      if (std::string layout = fieldText(arg.layout); !layout.empty())
        content.metadata.emplace_back(io::layoutKey(to.path.name), layout);
      continue;
    }
    if (io::sameDType(tensor.dtype(), io::kBF16)) {
      Expected<Tensor> wide = io::widenToF32(tensor, what);
      if (!wide)
        return wide.error();
      tensor = std::move(*wide);
      notes.push_back(what + ": .npy has no bf16, so " + to.path.file +
                      " holds the values as f32");
    }
    Expected<OutputFile> file = io::npyFile(to.path.file, tensor);
    if (!file)
      return Error{what + ": " + file.message()};
    files.push_back(std::move(*file));
  }
  for (auto &[path, content] : safetensors) {
    Expected<OutputFile> file =
        io::safetensorsFile(path, content.tensors, content.metadata);
    if (!file)
      return file.error();
    files.push_back(std::move(*file));
  }
  if (io::Status status = io::writeFiles(files); !status)
    return status.error();
  return notes;
}
