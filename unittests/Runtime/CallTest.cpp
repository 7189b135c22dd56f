//===- CallTest.cpp - Tests of moe_entry_call -----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include <gtest/gtest.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
// An allocation that cannot succeed returns null, as it does elsewhere.
extern "C" const char *__asan_default_options() {
  return "allocator_may_return_null=1";
}
extern "C" const char *__tsan_default_options() {
  return "allocator_may_return_null=1";
}
#endif
#endif

using namespace moe::test;

namespace {

/// What the fake entry does next, and what it saw.
struct Fake {
  size_t bytes = 0;
  int workspaceStatus = MOE_OK;
  int runStatus = MOE_OK;
  const char *message = nullptr;
  int runs = 0;
  void *workspace = nullptr;
  size_t workspaceBytes = 0;
  moe_entry *nested = nullptr;
} fake;

int fakeWorkspace(moe_context *context, const moe_tensor *, size_t *bytes) {
  *bytes = fake.bytes;
  if (fake.workspaceStatus && fake.message)
    return context->fail(context, fake.workspaceStatus, fake.message);
  return fake.workspaceStatus;
}

int fakeRun(moe_context *context, const moe_tensor *in, moe_tensor *out,
            void *workspace, size_t bytes) {
  ++fake.runs;
  fake.workspace = workspace;
  fake.workspaceBytes = bytes;
  if (fake.nested)
    return moe_entry_call(context, fake.nested, in, 1, out, 1);
  if (bytes)
    std::memset(workspace, 0xab, bytes);
  if (fake.runStatus && fake.message)
    return context->fail(context, fake.runStatus, fake.message);
  return fake.runStatus;
}

int fakePack(moe_context *, const moe_tensor *, moe_tensor *) { return MOE_OK; }

class CallTest : public ::testing::Test {
protected:
  void SetUp() override { fake = Fake(); }

  std::string call(uint32_t numIn = 1, uint32_t numOut = 1) {
    moe_tensor in[] = {x.get()}, out[] = {y.get()};
    int status = moe_entry_call(context.get(), &entry, in, numIn, out, numOut);
    EXPECT_EQ(status == MOE_OK, errorOf(context).empty());
    if (status == MOE_OK)
      return "ok";
    return std::string(moe_status_name(status)) + ": " + errorOf(context);
  }

  ContextPtr context = makeContext(1);
  Info info{"fake", {{"x", kF32, {-1}}}, {{"y", kF32, {-1}}}};
  moe_entry entry{info.get(), fakeRun, fakeWorkspace, fakePack, nullptr};
  Tensor x{kF32, {4}};
  Tensor y{kF32, {4}};
};

TEST_F(CallTest, NoWorkspace) {
  EXPECT_EQ(call(), "ok");
  EXPECT_EQ(fake.workspace, nullptr);
  EXPECT_EQ(fake.workspaceBytes, 0u);
}

TEST_F(CallTest, WorkspaceGrowsOnly) {
  size_t largest = 0;
  for (size_t bytes : {1u, 63u, 64u, 65u, 10u, 100000u, 5u}) {
    void *before = fake.workspace;
    fake.bytes = bytes;
    ASSERT_EQ(call(), "ok");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(fake.workspace) % 64, 0u);
    EXPECT_GE(fake.workspaceBytes, bytes);
    if (bytes <= largest)
      EXPECT_EQ(fake.workspace, before);
    largest = std::max(largest, bytes);
  }
}

TEST_F(CallTest, OutOfMemory) {
  for (size_t bytes : {SIZE_MAX / 4, SIZE_MAX - 62, SIZE_MAX}) {
    fake.bytes = bytes;
    EXPECT_EQ(call(), "memory: fake: out of memory for a workspace of " +
                          std::to_string(bytes) + " bytes");
  }
  EXPECT_EQ(fake.runs, 0);
  // The context still works.
  fake.bytes = 4096;
  EXPECT_EQ(call(), "ok");
}

TEST_F(CallTest, Counts) {
  EXPECT_EQ(call(2, 1),
            "argument: fake: expected 1 inputs and 1 outputs, got 2 and 1");
  EXPECT_EQ(call(1, 0),
            "argument: fake: expected 1 inputs and 1 outputs, got 1 and 0");
  EXPECT_EQ(fake.runs, 0);
}

TEST_F(CallTest, ErrorsPassThrough) {
  fake.workspaceStatus = MOE_ERROR_BOUND;
  fake.message = "fake: T";
  EXPECT_EQ(call(), "bound: fake: T");
  EXPECT_EQ(fake.runs, 0);
  fake.workspaceStatus = MOE_OK;
  fake.runStatus = MOE_ERROR_DATA;
  EXPECT_EQ(call(), "data: fake: T");
  // The next good call forgets it.
  fake.runStatus = MOE_OK;
  EXPECT_EQ(call(), "ok");
}

TEST_F(CallTest, SilentErrorsGetAMessage) {
  fake.workspaceStatus = MOE_ERROR_BOUND;
  EXPECT_EQ(call(), "bound: fake: failed with status 4 (bound)");
  fake.workspaceStatus = MOE_OK;
  fake.runStatus = 1234;
  EXPECT_EQ(call(), "unknown: fake: failed with status 1234 (unknown)");
}

TEST_F(CallTest, OneCallAtATime) {
  moe_entry other = entry;
  fake.nested = &other;
  EXPECT_EQ(call(), "argument: moe_entry_call: another call is running on this "
                    "context");
  EXPECT_EQ(fake.runs, 1);
  fake.nested = nullptr;
  EXPECT_EQ(call(), "ok");
}

TEST_F(CallTest, BadEntries) {
  entry.run = nullptr;
  EXPECT_EQ(call(),
            "argument: moe_entry_call: expected an entry with its functions");
  entry.run = fakeRun;
  entry.workspace = nullptr;
  EXPECT_EQ(call(),
            "argument: moe_entry_call: expected an entry with its functions");
  entry.workspace = fakeWorkspace;
  entry.info = nullptr;
  EXPECT_EQ(call(), "argument: expected the description of an entry, got NULL");
  entry.info = info.get();
  info->abi_version = 7;
  EXPECT_EQ(call(), "abi: expected an entry of ABI version 3, got version 7");
  EXPECT_EQ(moe_entry_call(context.get(), nullptr, nullptr, 0, nullptr, 0),
            MOE_ERROR_ARGUMENT);
  EXPECT_EQ(fake.runs, 0);
}

} // namespace
