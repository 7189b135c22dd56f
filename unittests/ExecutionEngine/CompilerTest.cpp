//===- CompilerTest.cpp - One object for JIT and ahead of time ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"
#include "llvm/Support/FileSystem.h"
#include <cmath>
#include <thread>

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr const char *kLayer = "experts=5 top_k=2 hidden=24 inter=16";
constexpr const char *kOther =
    "experts=3 top_k=1 hidden=24 inter=8 score=sigmoid";

/// The results of one call with `tokens` tokens.
Arguments run(const moe_entry &entry, int64_t tokens, int threads = 2) {
  Arguments arguments(entry.info, tokens);
  arguments.fill();
  ContextPtr context = makeContext(threads);
  EXPECT_EQ(arguments.call(context.get(), entry), MOE_OK)
      << moe_context_error(context.get());
  return arguments;
}

moe_entry entryOf(JITModule &module, StringRef name = "layer") {
  auto entry = module.getEntry(name);
  EXPECT_TRUE(bool(entry)) << llvm::toString(entry.takeError());
  return entry ? *entry : moe_entry{};
}

/// A shared library that is linked, loaded and removed.
class Library {
public:
  explicit Library(const llvm::MemoryBuffer &object) : context(makeContext()) {
    auto bytes = linkSharedLibrary(object, "layer.so", "");
    EXPECT_TRUE(bool(bytes)) << llvm::toString(bytes.takeError());
    if (!bytes || llvm::sys::fs::createTemporaryFile("layer", "so", path))
      return;
    std::error_code code;
    llvm::raw_fd_ostream(path, code) << (*bytes)->getBuffer();
    EXPECT_EQ(moe_module_load(context.get(), path.c_str(), &module), MOE_OK)
        << moe_context_error(context.get());
  }
  ~Library() {
    moe_module_unload(module);
    llvm::sys::fs::remove(path);
  }
  moe_entry getEntry() {
    moe_entry entry = {};
    EXPECT_EQ(moe_module_entry(context.get(), module, "layer", &entry), MOE_OK)
        << moe_context_error(context.get());
    return entry;
  }

private:
  ContextPtr context;
  moe_module *module = nullptr;
  llvm::SmallString<128> path;
};

TEST(CompilerTest, jitAndLibraryAgreeToTheBit) {
  for (CompileTarget target : {CompileTarget::cpu, CompileTarget::oracle}) {
    CompileOptions options;
    options.target = target;
    auto object = Compiler().compile(kLayer, options);
    ASSERT_TRUE(object);
    Library library(*object);
    auto module = load(std::move(object));
    ASSERT_TRUE(module);
    moe_entry jit = entryOf(*module), aot = library.getEntry();
    ASSERT_TRUE(jit.run && aot.run);
    for (int64_t tokens : {0, 1, 37, 200})
      EXPECT_TRUE(run(jit, tokens).hasSameResults(run(aot, tokens))) << tokens;
  }
}

TEST(CompilerTest, sameModuleGivesSameBytes) {
  auto first = Compiler().compile(kLayer), second = Compiler().compile(kLayer);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->getBuffer(), second->getBuffer());
  auto library = linkSharedLibrary(*first, "layer.so", ""),
       again = linkSharedLibrary(*second, "layer.so", "");
  ASSERT_TRUE(library && again);
  EXPECT_EQ((*library)->getBuffer(), (*again)->getBuffer());
}

TEST(CompilerTest, twoCompilersAtTheSameTime) {
  CompileOptions oracle;
  oracle.target = CompileTarget::oracle;
  oracle.optLevel = 1;
  std::unique_ptr<llvm::MemoryBuffer> naive, fast;
  std::thread other([&] { naive = Compiler().compile(kLayer, oracle); });
  fast = Compiler().compile(kLayer);
  other.join();
  ASSERT_TRUE(naive && fast);
  // Both define the same symbols and live side by side.
  auto judge = load(std::move(naive)), judged = load(std::move(fast));
  ASSERT_TRUE(judge && judged);
  Arguments expected = run(entryOf(*judge), 50),
            found = run(entryOf(*judged), 50);
  ASSERT_EQ(expected.result().size(), 50u * 24);
  float largest = 0;
  for (auto [a, b] : llvm::zip(expected.result(), found.result())) {
    EXPECT_NEAR(a, b, 1e-4f * (1 + std::fabs(a)));
    largest = std::max(largest, std::fabs(a));
  }
  EXPECT_GT(largest, 0.1f);
}

TEST(CompilerTest, oneModuleUsedAgainAndByThreads) {
  auto module = load(Compiler().compile(kLayer));
  ASSERT_TRUE(module);
  moe_entry entry = entryOf(*module), again = entryOf(*module);
  EXPECT_EQ(entry.run, again.run);
  Arguments first = run(entry, 70);
  // One context and its workspace, sizes up and down.
  ContextPtr context = makeContext();
  for (int64_t tokens : {3, 70, 1, 70}) {
    Arguments arguments(entry.info, tokens);
    arguments.fill();
    ASSERT_EQ(arguments.call(context.get(), again), MOE_OK)
        << moe_context_error(context.get());
    if (tokens == 70)
      EXPECT_TRUE(arguments.hasSameResults(first));
  }
  bool same[4] = {};
  std::vector<std::thread> callers;
  for (bool &result : same)
    callers.emplace_back(
        [&] { result = run(entry, 70, 1).hasSameResults(first); });
  for (std::thread &caller : callers)
    caller.join();
  for (bool result : same)
    EXPECT_TRUE(result);
}

TEST(CompilerTest, oneCompilerCompilesSeveralLayers) {
  Compiler compiler;
  auto first = compiler.compile(kLayer), second = compiler.compile(kOther);
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->getBuffer(), second->getBuffer());
  auto again = compiler.compile(kLayer);
  ASSERT_TRUE(again);
  EXPECT_EQ(first->getBuffer(), again->getBuffer());
}

TEST(CompilerTest, unknownEntry) {
  auto module = load(Compiler().compile(kLayer));
  ASSERT_TRUE(module);
  auto entry = module->getEntry("nothing");
  ASSERT_FALSE(bool(entry));
  EXPECT_EQ(
      llvm::toString(entry.takeError()),
      "entry 'nothing' cannot be used: Symbols not found: [ moe_nothing ]");
}

TEST(CompilerTest, brokenObject) {
  auto module = JITModule::create(
      llvm::MemoryBuffer::getMemBufferCopy("no object", "broken.o"));
  ASSERT_FALSE(bool(module));
  EXPECT_NE(llvm::toString(module.takeError()), "");
}

TEST(CompilerTest, unknownProcessor) {
  Compiler compiler;
  CompileOptions options;
  OwningOpRef<ModuleOp> module = compiler.lower(kLayer);
  ASSERT_TRUE(module);
  options.cpu = "abacus";
  auto object = compileToObject(*module, options);
  ASSERT_FALSE(bool(object));
  EXPECT_NE(
      llvm::toString(object.takeError()).find("unknown processor 'abacus'"),
      std::string::npos);
}

TEST(CompilerTest, everyLevelOfOptimisation) {
  CompileOptions options;
  auto module = load(Compiler().compile(kLayer, options));
  ASSERT_TRUE(module);
  Arguments expected = run(entryOf(*module), 20);
  for (unsigned level : {0, 1, 2}) {
    options.optLevel = level;
    auto other = load(Compiler().compile(kLayer, options));
    ASSERT_TRUE(other);
    Arguments found = run(entryOf(*other), 20);
    for (auto [a, b] : llvm::zip(expected.result(), found.result()))
      EXPECT_NEAR(a, b, 1e-4f * (1 + std::fabs(a))) << "-O" << level;
  }
}

} // namespace
