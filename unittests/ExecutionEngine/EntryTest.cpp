//===- EntryTest.cpp - Descriptions, checks, packing ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// One compiled layer for all tests of this file.
class EntryTest : public ::testing::Test {
protected:
  static void SetUpTestSuite() {
    Compiler compiler;
    OwningOpRef<ModuleOp> lowered = compiler.lower(
        "name=small experts=4 top_k=2 hidden=8 inter=6 ids=true");
    ASSERT_TRUE(lowered);
    descriptions = new std::vector(getEntryDescriptions(*lowered));
    auto object = compileToObject(*lowered, {});
    ASSERT_TRUE(bool(object)) << llvm::toString(object.takeError());
    module = load(std::move(*object)).release();
  }
  static void TearDownTestSuite() {
    delete descriptions;
    delete module;
  }
  void SetUp() override {
    ASSERT_TRUE(module);
    auto found = module->getEntry("small");
    ASSERT_TRUE(bool(found)) << llvm::toString(found.takeError());
    entry = *found;
  }
  int64_t findInput(StringRef name) {
    for (uint32_t i = 0; i < entry.info->num_inputs; ++i)
      if (name == entry.info->args[i].name)
        return i;
    ADD_FAILURE() << "no input " << name.str();
    return 0;
  }
  std::string error() { return moe_context_error(context.get()); }

  static std::vector<EntryDescription> *descriptions;
  static JITModule *module;
  moe_entry entry;
  ContextPtr context = makeContext();
};

std::vector<EntryDescription> *EntryTest::descriptions;
JITModule *EntryTest::module;

TEST_F(EntryTest, descriptionBeforeAndInTheCode) {
  ASSERT_EQ(descriptions->size(), 1u);
  const EntryDescription &description = descriptions->front();
  EXPECT_EQ(description.name, "small");
  // What the compiler tells is what the object carries.
  EXPECT_EQ(
      std::memcmp(description.get(), entry.info, description.bytes.size()), 0);
  const moe_entry_info &info = *entry.info;
  EXPECT_EQ(description.bytes.size(),
            sizeof(moe_entry_info) +
                (info.num_inputs + info.num_outputs) * sizeof(moe_arg_info));
}

TEST_F(EntryTest, descriptionSaysWhatTheLayerTakes) {
  const moe_entry_info &info = *entry.info;
  EXPECT_EQ(info.abi_version, MOE_ABI_VERSION);
  EXPECT_STREQ(info.name, "small");
  ASSERT_EQ(info.num_inputs, 4u);
  ASSERT_EQ(info.num_outputs, 2u);
  ASSERT_EQ(info.num_symbols, 1u);
  EXPECT_STREQ(info.symbol_name[0], "T");
  EXPECT_GT(info.symbol_bound[0], 1 << 20);

  const moe_arg_info &x = info.args[0], &gateUp = info.args[2];
  EXPECT_STREQ(x.name, "x");
  EXPECT_STREQ(x.layout, "");
  EXPECT_EQ(x.rank, 2);
  EXPECT_EQ(x.shape[0], -1);
  EXPECT_EQ(x.shape[1], 8);
  EXPECT_EQ(x.dtype.code, 2);
  EXPECT_EQ(x.dtype.bits, 32);
  EXPECT_EQ(x.dtype.lanes, 1);
  EXPECT_STREQ(gateUp.name, "gate_up");
  EXPECT_TRUE(StringRef(gateUp.layout).starts_with("#moe.layout<"));
  EXPECT_EQ(gateUp.rank, 3);
  EXPECT_EQ(gateUp.shape[0], 4);
  EXPECT_EQ(gateUp.shape[1], 12);
  EXPECT_EQ(gateUp.shape[2], 8);

  const moe_arg_info &y = info.args[4], &ids = info.args[5];
  EXPECT_STREQ(y.name, "y");
  EXPECT_EQ(y.shape[0], -1);
  EXPECT_STREQ(ids.name, "ids");
  EXPECT_EQ(ids.dtype.code, 0);
  EXPECT_EQ(ids.dtype.bits, 32);
  EXPECT_EQ(ids.shape[1], 2);
}

TEST_F(EntryTest, workspaceGrowsWithTheTokens) {
  size_t last = 0;
  for (int64_t tokens : {1, 100, 10000}) {
    Arguments arguments(entry.info, tokens);
    size_t bytes = 0;
    ASSERT_EQ(entry.workspace(context.get(), arguments.in(), &bytes), MOE_OK)
        << error();
    EXPECT_GT(bytes, last);
    EXPECT_EQ(bytes % 64, 0u);
    last = bytes;
  }
}

TEST_F(EntryTest, wrongCallsAreRefused) {
  Arguments arguments(entry.info, 5);
  arguments.fill();
  arguments.tensors[0].dtype.bits = 64;
  EXPECT_EQ(arguments.call(context.get(), entry), MOE_ERROR_ARGUMENT);
  EXPECT_NE(error().find("argument 'x' (input 0)"), std::string::npos);

  Arguments sizes(entry.info, 5);
  sizes.tensors[0].shape[1] = 9;
  size_t bytes = 0;
  EXPECT_EQ(entry.workspace(context.get(), sizes.in(), &bytes),
            MOE_ERROR_ARGUMENT);

  Arguments output(entry.info, 5);
  output.out()[0].shape[0] = 4;
  EXPECT_EQ(output.call(context.get(), entry), MOE_ERROR_ARGUMENT);
  EXPECT_NE(error().find("'y'"), std::string::npos) << error();

  Arguments noWorkspace(entry.info, 5);
  EXPECT_EQ(
      entry.run(context.get(), noWorkspace.in(), noWorkspace.out(), nullptr, 0),
      MOE_ERROR_WORKSPACE);

  Arguments huge(entry.info, 1);
  huge.tensors[0].shape[0] = entry.info->symbol_bound[0] + 1;
  EXPECT_EQ(entry.workspace(context.get(), huge.in(), &bytes), MOE_ERROR_BOUND);
}

TEST_F(EntryTest, anotherVersionOfTheContextIsRefused) {
  moe_context other = *context;
  other.abi_version = MOE_ABI_VERSION + 1;
  other.check = nullptr;
  other.check_inputs = nullptr;
  Arguments arguments(entry.info, 5);
  size_t bytes = 0;
  EXPECT_EQ(entry.run(&other, arguments.in(), arguments.out(), nullptr, 0),
            MOE_ERROR_ABI);
  EXPECT_EQ(entry.workspace(&other, arguments.in(), &bytes), MOE_ERROR_ABI);
  EXPECT_EQ(entry.pack(&other, arguments.in(), arguments.out()), MOE_ERROR_ABI);
}

TEST_F(EntryTest, packCopiesAndChecks) {
  // The arguments with a layout, as the header of the runtime says.
  std::vector<uint32_t> packed;
  for (uint32_t i = 0; i < entry.info->num_inputs; ++i)
    if (entry.info->args[i].layout[0])
      packed.push_back(i);
  ASSERT_FALSE(packed.empty());
  Arguments stored(entry.info, 5), read(entry.info, 5);
  stored.fill();
  std::vector<moe_tensor> in, out;
  for (uint32_t i : packed) {
    in.push_back(stored.tensors[i]);
    out.push_back(read.tensors[i]);
  }
  ASSERT_EQ(entry.pack(context.get(), in.data(), out.data()), MOE_OK)
      << error();
  for (uint32_t i : packed) {
    EXPECT_EQ(stored.floats(i), read.floats(i));
    EXPECT_NE(stored.floats(i)[0], 0.0f);
  }

  moe_tensor good = out[0];
  out[0] = in[0];
  EXPECT_EQ(entry.pack(context.get(), in.data(), out.data()),
            MOE_ERROR_ARGUMENT);
  EXPECT_NE(error(), "");
  out[0] = good;
  in[0].dtype = {4, 16, 1};
  EXPECT_EQ(entry.pack(context.get(), in.data(), out.data()),
            MOE_ERROR_ARGUMENT);
  EXPECT_NE(error().find("gate_up"), std::string::npos) << error();
}

} // namespace
