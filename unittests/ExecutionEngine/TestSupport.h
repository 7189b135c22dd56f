//===- TestSupport.h - Layers compiled and called for tests -----*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_UNITTESTS_EXECUTIONENGINE_TESTSUPPORT_H
#define MOE_UNITTESTS_EXECUTIONENGINE_TESTSUPPORT_H

#include "mlir/IR/MLIRContext.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "moe/ExecutionEngine/Compiler.h"
#include "moe/ExecutionEngine/JIT.h"
#include "moe/InitAllDialects.h"
#include "moe/Layer/LayerSpec.h"
#include "gtest/gtest.h"
#include <cstring>
#include <deque>

namespace mlir::moe {

/// A compiler of its own: nothing of it is shared with another.
class Compiler {
public:
  Compiler() : context(makeRegistry()) {}

  OwningOpRef<ModuleOp> build(StringRef words) {
    layer::LayerSpec spec;
    std::string error;
    EXPECT_TRUE(succeeded(layer::setLayerKeys(spec, words, error))) << error;
    EXPECT_TRUE(succeeded(layer::validate(spec, error))) << error;
    return layer::buildLayer(&context, spec);
  }

  /// A module at its last stage; null where it cannot be lowered.
  OwningOpRef<ModuleOp> lower(StringRef words,
                              const CompileOptions &options = {}) {
    OwningOpRef<ModuleOp> module = build(words);
    return succeeded(lowerModule(*module, options)) ? std::move(module)
                                                    : nullptr;
  }

  std::unique_ptr<llvm::MemoryBuffer>
  compile(StringRef words, const CompileOptions &options = {}) {
    OwningOpRef<ModuleOp> module = lower(words, options);
    if (!module)
      return nullptr;
    auto object = compileToObject(*module, options);
    EXPECT_TRUE(bool(object)) << llvm::toString(object.takeError());
    return object ? std::move(*object) : nullptr;
  }

  MLIRContext context;

private:
  static DialectRegistry makeRegistry() {
    DialectRegistry registry;
    ::mlir::moe::registerAllDialects(registry);
    registerAllToLLVMIRTranslations(registry);
    return registry;
  }
};

inline std::unique_ptr<JITModule>
load(std::unique_ptr<llvm::MemoryBuffer> object) {
  if (!object)
    return nullptr;
  auto module = JITModule::create(std::move(object));
  EXPECT_TRUE(bool(module)) << llvm::toString(module.takeError());
  return module ? std::move(*module) : nullptr;
}

struct ContextDeleter {
  void operator()(moe_context *context) const { moe_context_destroy(context); }
};
using ContextPtr = std::unique_ptr<moe_context, ContextDeleter>;

inline ContextPtr makeContext(int threads = 2) {
  moe_context *context = nullptr;
  EXPECT_EQ(moe_context_create(threads, &context), MOE_OK);
  return ContextPtr(context);
}

/// Memory for the arguments of a description, with one size for all symbols.
class Arguments {
public:
  Arguments(const moe_entry_info *info, int64_t size) : info(info) {
    uint32_t count = info->num_inputs + info->num_outputs;
    for (uint32_t i = 0; i < count; ++i)
      add(info->args[i], size);
  }

  /// Small numbers of both signs, different in every input.
  void fill() {
    for (uint32_t i = 0; i < info->num_inputs; ++i)
      if (info->args[i].dtype.code == 2 && info->args[i].dtype.bits == 32)
        for (auto [index, value] : llvm::enumerate(floats(i)))
          value = static_cast<float>((index * 7 + i * 3) % 31) / 16 - 0.9f;
  }

  MutableArrayRef<float> floats(uint32_t i) {
    return {reinterpret_cast<float *>(memory[i].data()),
            memory[i].size() / sizeof(float)};
  }
  MutableArrayRef<float> result(uint32_t i = 0) {
    return floats(info->num_inputs + i);
  }
  moe_tensor *in() { return tensors.data(); }
  moe_tensor *out() { return tensors.data() + info->num_inputs; }

  int call(moe_context *context, const moe_entry &entry) {
    return moe_entry_call(context, &entry, in(), info->num_inputs, out(),
                          info->num_outputs);
  }
  bool hasSameResults(const Arguments &other) const {
    for (uint32_t i = 0; i < info->num_outputs; ++i)
      if (memory[info->num_inputs + i] != other.memory[info->num_inputs + i])
        return false;
    return true;
  }

  const moe_entry_info *info;
  std::vector<moe_tensor> tensors;

private:
  void add(const moe_arg_info &arg, int64_t size) {
    size_t bytes = arg.dtype.bits / 8;
    shapes.emplace_back();
    for (int32_t dim = 0; dim < arg.rank; ++dim) {
      shapes.back().push_back(arg.shape[dim] < 0 ? size : arg.shape[dim]);
      bytes *= shapes.back().back();
    }
    memory.emplace_back(bytes);
    tensors.push_back({memory.back().data(), 1, 0, arg.rank, arg.dtype,
                       shapes.back().data(), nullptr, 0});
  }

  std::deque<std::vector<int64_t>> shapes;
  std::deque<std::vector<char>> memory;
};

} // namespace mlir::moe

#endif // MOE_UNITTESTS_EXECUTIONENGINE_TESTSUPPORT_H
