//===- OutputTest.cpp - Kinds of output, headers, remarks, linkers --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Its logits come from outside, so that there is no gate to fuse with.
constexpr const char *kUnfused = R"mlir(
func.func @choose(%l: tensor<?x8xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) attributes {moe.entry} {
  %ids, %weights = moe.route #moe.top_k<k = 2> %l
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
)mlir";

struct Seen {
  std::vector<std::pair<DiagnosticSeverity, std::string>> all;
  LogicalResult result = success();
};

/// Lowers text and returns what was said about it.
Seen lowerText(const char *text, const CompileOptions &options) {
  Compiler compiler;
  Seen seen;
  ScopedDiagnosticHandler handler(&compiler.context, [&](Diagnostic &diag) {
    seen.all.push_back({diag.getSeverity(), diag.str()});
    return success();
  });
  auto module = parseSourceString<ModuleOp>(text, &compiler.context);
  seen.result = module ? lowerModule(*module, options) : failure();
  return seen;
}

TEST(OutputTest, kindsHaveNamesAndExtensions) {
  for (OutputKind kind :
       {OutputKind::object, OutputKind::shared, OutputKind::llvmIR,
        OutputKind::mlir, OutputKind::header})
    EXPECT_EQ(symbolizeOutputKind(stringifyOutputKind(kind)), kind);
  EXPECT_EQ(symbolizeOutputKind("exe"), std::nullopt);
  EXPECT_EQ(inferOutputKind("a/b.so"), OutputKind::shared);
  EXPECT_EQ(inferOutputKind("b.o"), OutputKind::object);
  EXPECT_EQ(inferOutputKind("b.so.ll"), OutputKind::llvmIR);
  EXPECT_EQ(inferOutputKind("b.mlir"), OutputKind::mlir);
  EXPECT_EQ(inferOutputKind("b.h"), OutputKind::header);
  for (const char *other : {"-", "", "so", "a.so/b", "b.txt", "b."})
    EXPECT_EQ(inferOutputKind(other), std::nullopt) << other;
}

TEST(OutputTest, fallbacksAreWarnings) {
  Seen seen = lowerText(kUnfused, {});
  EXPECT_TRUE(succeeded(seen.result));
  ASSERT_EQ(seen.all.size(), 1u);
  EXPECT_EQ(seen.all[0].first, DiagnosticSeverity::Warning);
  EXPECT_NE(seen.all[0].second.find("not fused with a gate"),
            std::string::npos);
}

TEST(OutputTest, fallbacksAreErrorsOnDemand) {
  CompileOptions options;
  options.fallbackIsError = true;
  Seen seen = lowerText(kUnfused, options);
  EXPECT_TRUE(failed(seen.result));
  ASSERT_EQ(seen.all.size(), 1u);
  EXPECT_EQ(seen.all[0].first, DiagnosticSeverity::Error);
  EXPECT_NE(seen.all[0].second.find("[--Werror=fallback]"), std::string::npos);
}

TEST(OutputTest, headerOfNamesThatCHasNot) {
  Compiler compiler;
  OwningOpRef<ModuleOp> module = compiler.lower("name=good hidden=8 inter=8");
  ASSERT_TRUE(module);
  auto entries = getEntryDescriptions(*module);
  auto header = emitHeader(entries, "some/layer-1.h");
  ASSERT_TRUE(bool(header)) << llvm::toString(header.takeError());
  EXPECT_NE(header->find("#ifndef MOE_LAYER_LAYER_1_H\n"), std::string::npos);
  EXPECT_NE(header->find("int moe_good_workspace("), std::string::npos);

  ASSERT_EQ(entries.size(), 1u);
  entries[0].name = "a-b";
  auto refused = emitHeader(entries, "layer.h");
  ASSERT_FALSE(bool(refused));
  EXPECT_EQ(llvm::toString(refused.takeError()),
            "entry 'a-b' has no name that C allows");
}

TEST(OutputTest, foreignGlobalsAreNoDescriptions) {
  Compiler compiler;
  auto module = parseSourceString<ModuleOp>(R"mlir(
llvm.mlir.global external constant @moe_a_info() : !llvm.array<4 x i8>
llvm.func @moe_a_workspace(!llvm.ptr, !llvm.ptr, !llvm.ptr) -> i32
llvm.mlir.global constant @moe_b_info("short")
llvm.func @moe_b_workspace(!llvm.ptr, !llvm.ptr, !llvm.ptr) -> i32
)mlir",
                                            &compiler.context);
  ASSERT_TRUE(module);
  EXPECT_TRUE(getEntryDescriptions(*module).empty());
}

TEST(OutputTest, linkersThatFail) {
  auto object = llvm::MemoryBuffer::getMemBuffer("no object");
  auto unknown = linkSharedLibrary(*object, "layer.so", "no-such-linker");
  ASSERT_FALSE(bool(unknown));
  EXPECT_EQ(llvm::toString(unknown.takeError()),
            "no linker 'no-such-linker' is installed");
  auto broken = linkSharedLibrary(*object, "layer.so", "");
  ASSERT_FALSE(bool(broken));
  EXPECT_NE(llvm::toString(broken.takeError()).find("failed: exit code"),
            std::string::npos);
  auto silent = linkSharedLibrary(*object, "layer.so", "true");
  ASSERT_FALSE(bool(silent));
  EXPECT_NE(llvm::toString(silent.takeError()).find("wrote nothing"),
            std::string::npos);
}

} // namespace
