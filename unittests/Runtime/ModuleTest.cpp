//===- ModuleTest.cpp - Tests of loading compiled layers ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include <array>
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace moe::test;

extern "C" int moe_test_from_c(void);

namespace {

class ModuleTest : public ::testing::Test {
protected:
  ~ModuleTest() override { moe_module_unload(module); }

  /// Loads and returns "STATUS: MESSAGE", or "ok".
  std::string load(const char *path) {
    moe_module_unload(module);
    return describe(moe_module_load(context.get(), path, &module));
  }

  std::string find(const char *name) {
    return describe(moe_module_entry(context.get(), module, name, &entry));
  }

  std::string describe(int status) {
    EXPECT_EQ(status == MOE_OK, errorOf(context).empty());
    if (status == MOE_OK)
      return "ok";
    return std::string(moe_status_name(status)) + ": " + errorOf(context);
  }

  ContextPtr context = makeContext(2);
  moe_module *module = nullptr;
  moe_entry entry = {};
  const std::string layer = MOE_TEST_LAYER;
};

TEST_F(ModuleTest, RunsAnEntry) {
  ASSERT_EQ(load(layer.c_str()), "ok");
  ASSERT_EQ(find("tiny"), "ok");
  EXPECT_STREQ(entry.info->name, "tiny");

  constexpr int64_t tokens = 300;
  Tensor x(kF32, {tokens, 4}), ids(kI32, {tokens}), y(kF32, {tokens, 4});
  for (int64_t i = 0; i < tokens; ++i)
    ids.data<int32_t>()[i] = static_cast<int32_t>(i % 8);
  for (int64_t i = 0; i < tokens * 4; ++i)
    x.data<float>()[i] = static_cast<float>(i);
  moe_tensor in[] = {x.get(), ids.get()}, out[] = {y.get()};
  ASSERT_EQ(moe_entry_call(context.get(), &entry, in, 2, out, 1), MOE_OK);
  for (int64_t i = 0; i < tokens * 4; ++i)
    ASSERT_EQ(y.data<float>()[i], static_cast<float>(i * (i / 4 % 8 + 1)));

  ids.data<int32_t>()[7] = 8;
  EXPECT_EQ(moe_entry_call(context.get(), &entry, in, 2, out, 1),
            MOE_ERROR_DATA);
  EXPECT_EQ(errorOf(context), "tiny: argument 'ids' (input 1): id 8 of token 7 "
                              "is outside [0, 8)");
}

TEST_F(ModuleTest, MissingFile) {
  module = nullptr;
  EXPECT_EQ(load("/nowhere/layer.so"),
            "load: cannot load '/nowhere/layer.so': No such file or directory");
  EXPECT_EQ(module, nullptr);
  // A bare name is a file here, not a library of the system.
  EXPECT_EQ(load("libc.so.6"),
            "load: cannot load 'libc.so.6': No such file or directory");
}

TEST_F(ModuleTest, Folder) {
  EXPECT_EQ(load("/"), "load: cannot load '/': not a regular file");
}

TEST_F(ModuleTest, NotALibrary) {
  std::string path = ::testing::TempDir() + "moe-not-a-library-" +
                     std::to_string(getpid()) + ".so";
  std::ofstream(path) << std::string(4096, 'x');
  EXPECT_EQ(load(path.c_str()), "load: cannot load '" + path + "': " + path +
                                    ": invalid ELF header");
  std::ofstream(path) << "";
  EXPECT_EQ(load(path.c_str()),
            "load: cannot load '" + path + "': " + path + ": file too short");
  std::remove(path.c_str());
}

TEST_F(ModuleTest, BareNameIsAFileHere) {
  std::array<char, 4096> folder;
  ASSERT_NE(getcwd(folder.data(), folder.size()), nullptr);
  size_t slash = layer.rfind('/');
  ASSERT_NE(slash, std::string::npos);
  ASSERT_EQ(chdir(layer.substr(0, slash).c_str()), 0);
  EXPECT_EQ(load(layer.substr(slash + 1).c_str()), "ok");
  ASSERT_EQ(chdir(folder.data()), 0);
}

TEST_F(ModuleTest, MissingSymbols) {
  ASSERT_EQ(load(layer.c_str()), "ok");
  EXPECT_EQ(find("absent"), "load: '" + layer +
                                "' has no entry 'absent': symbol "
                                "moe_absent_info is missing");
  EXPECT_EQ(find("nothing"), "load: '" + layer +
                                 "' has no entry 'nothing': symbol moe_nothing "
                                 "is missing");
  EXPECT_EQ(find("nopack"), "load: '" + layer +
                                "' has no entry 'nopack': symbol "
                                "moe_nopack_pack is missing");
  EXPECT_EQ(entry.info, nullptr);
  EXPECT_EQ(entry.run, nullptr);
}

TEST_F(ModuleTest, OtherVersions) {
  ASSERT_EQ(load(layer.c_str()), "ok");
  EXPECT_EQ(find("future"), "abi: '" + layer +
                                "': expected entry 'future' of ABI version 3, "
                                "got version 4");
  EXPECT_EQ(find("malformed"), "abi: tiny: malformed description: argument "
                               "'x': expected rank 0 to 8, got 99");
  EXPECT_EQ(entry.info, nullptr);
}

TEST_F(ModuleTest, BadArguments) {
  EXPECT_EQ(load(nullptr), "argument: moe_module_load: expected a path");
  EXPECT_EQ(load(""), "argument: moe_module_load: expected a path");
  EXPECT_EQ(describe(moe_module_load(context.get(), "x", nullptr)),
            "argument: moe_module_load: expected a place for the module");
  EXPECT_EQ(moe_module_load(nullptr, "x", &module), MOE_ERROR_ARGUMENT);
  EXPECT_EQ(find("tiny"), "argument: moe_module_entry: expected a module");
  ASSERT_EQ(load(layer.c_str()), "ok");
  EXPECT_EQ(find(nullptr), "argument: moe_module_entry: expected a name");
  EXPECT_EQ(find(""), "argument: moe_module_entry: expected a name");
  EXPECT_EQ(describe(moe_module_entry(context.get(), module, "tiny", nullptr)),
            "argument: moe_module_entry: expected a place for the entry");
  EXPECT_EQ(moe_module_entry(nullptr, module, "tiny", &entry),
            MOE_ERROR_ARGUMENT);
}

TEST_F(ModuleTest, LongPathsKeepTheirReason) {
  std::string path = "/" + std::string(200, 'p') + "/" + std::string(200, 'q');
  EXPECT_EQ(load(path.c_str()),
            "load: cannot load '" + path + "': No such file or directory");
  path.assign(5000, 'p');
  EXPECT_EQ(load(path.c_str()),
            "load: cannot load '" + path + "': File name too long");
}

TEST_F(ModuleTest, LoadsTwice) {
  moe_module *second = nullptr;
  ASSERT_EQ(load(layer.c_str()), "ok");
  ASSERT_EQ(moe_module_load(context.get(), layer.c_str(), &second), MOE_OK);
  moe_module_unload(module);
  module = second;
  EXPECT_EQ(find("tiny"), "ok");
}

TEST(CInterfaceTest, NeedsNoCxxLibrary) {
  for (const char *path : {MOE_TEST_EXAMPLE, MOE_TEST_SHARED_RUNTIME}) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)),
                      std::istreambuf_iterator<char>());
    EXPECT_NE(bytes.find("libc.so"), std::string::npos) << path;
    EXPECT_EQ(bytes.find("libstdc++.so"), std::string::npos) << path;
    EXPECT_EQ(bytes.find("libc++.so"), std::string::npos) << path;
  }
}

TEST(CInterfaceTest, CallsFromC) { EXPECT_EQ(moe_test_from_c(), MOE_OK); }

/// Runs the C example and returns its exit code and what it printed.
std::pair<int, std::string> runExample(const std::string &arguments) {
  std::string command =
      std::string("'") + MOE_TEST_EXAMPLE + "' " + arguments + " 2>&1";
  FILE *pipe = popen(command.c_str(), "r");
  if (!pipe)
    return {-1, ""};
  std::string text;
  std::array<char, 256> part;
  while (std::fgets(part.data(), part.size(), pipe))
    text += part.data();
  int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text};
}

TEST(CExampleTest, PrintsALayersOutputs) {
  std::string layer = std::string("'") + MOE_TEST_LAYER + "' ";
  auto [code, text] = runExample(layer + "tiny T=2");
  EXPECT_EQ(code, 0);
  EXPECT_EQ(text, "y[2, 4]: -0.75 -0.625 -0.5 -0.375 -0.25 -0.125 0 0.125\n");
}

TEST(CExampleTest, ReportsErrors) {
  std::string layer = std::string("'") + MOE_TEST_LAYER + "' ";
  EXPECT_EQ(
      runExample(layer + "tiny T=1001"),
      std::make_pair(1, std::string("call_layer: bound: tiny: argument "
                                    "'x' (input 0): expected f32[T, 4] "
                                    "with T <= 1000, got f32[1001, 4]\n")));
  EXPECT_EQ(runExample(layer + "tiny"),
            std::make_pair(1, std::string("call_layer: the size of 'T' is "
                                          "missing: add T=SIZE\n")));
  EXPECT_EQ(runExample("/nowhere.so tiny"),
            std::make_pair(1, std::string("call_layer: load: cannot load "
                                          "'/nowhere.so': No such file or "
                                          "directory\n")));
}

} // namespace
