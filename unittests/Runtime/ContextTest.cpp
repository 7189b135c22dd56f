//===- ContextTest.cpp - Tests of contexts and errors ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include <gtest/gtest.h>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

using namespace moe::test;

namespace {

TEST(ContextTest, BadArguments) {
  EXPECT_EQ(moe_context_create(1, nullptr), MOE_ERROR_ARGUMENT);
  for (int threads : {-1, 4097, INT32_MIN, INT32_MAX}) {
    moe_context *context = reinterpret_cast<moe_context *>(8);
    EXPECT_EQ(moe_context_create(threads, &context), MOE_ERROR_ARGUMENT);
    EXPECT_EQ(context, nullptr);
  }
}

TEST(ContextTest, NullIsHarmless) {
  moe_context_destroy(nullptr);
  moe_context_set_parallel_for(nullptr, nullptr, nullptr);
  EXPECT_EQ(moe_context_threads(nullptr), 0);
  EXPECT_STREQ(moe_context_error(nullptr), "");
  EXPECT_EQ(moe_entry_call(nullptr, nullptr, nullptr, 0, nullptr, 0),
            MOE_ERROR_ARGUMENT);
}

TEST(ContextTest, Head) {
  ContextPtr context = makeContext(3);
  ASSERT_TRUE(context);
  EXPECT_EQ(context->abi_version, MOE_ABI_VERSION);
  EXPECT_NE(context->parallel_for, nullptr);
  EXPECT_NE(context->check, nullptr);
  EXPECT_NE(context->check_inputs, nullptr);
  EXPECT_NE(context->fail, nullptr);
  EXPECT_EQ(moe_context_threads(context.get()), 3);
  EXPECT_EQ(errorOf(context), "");
}

#ifdef __linux__
TEST(ContextTest, ThreadsFollowAffinity) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(moe_context_threads(makeContext(0).get()), CPU_COUNT(&before));

  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before))
      CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(moe_context_threads(makeContext(0).get()), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}
#endif

TEST(ContextTest, ErrorsAreKept) {
  ContextPtr context = makeContext(1);
  EXPECT_EQ(context->fail(context.get(), MOE_ERROR_DATA, "first"),
            MOE_ERROR_DATA);
  EXPECT_EQ(errorOf(context), "first");
  EXPECT_EQ(context->fail(context.get(), MOE_ERROR_BOUND, "second"),
            MOE_ERROR_BOUND);
  EXPECT_EQ(errorOf(context), "second");
  // Without a text the status speaks.
  context->fail(context.get(), MOE_ERROR_DATA, nullptr);
  EXPECT_EQ(errorOf(context), "data");
  context->fail(context.get(), MOE_ERROR_BOUND, "");
  EXPECT_EQ(errorOf(context), "bound");
}

TEST(ContextTest, LongErrorsAreCut) {
  ContextPtr context = makeContext(1);
  context->fail(context.get(), MOE_ERROR_DATA, std::string(9000, 'x').c_str());
  EXPECT_EQ(errorOf(context), std::string(5119, 'x'));
}

TEST(ContextTest, TasksMayFailAtTheSameTime) {
  ContextPtr context = makeContext(4);
  auto task = [](void *data, int64_t begin, int64_t) {
    auto *context = static_cast<moe_context *>(data);
    context->fail(context, MOE_ERROR_DATA, begin % 2 ? "odd odd" : "even");
  };
  for (int i = 0; i < 50; ++i)
    context->parallel_for(context.get(), 64, task, context.get());
  EXPECT_TRUE(errorOf(context) == "odd odd" || errorOf(context) == "even");
}

TEST(ContextTest, ErrorsBelongToOneContext) {
  ContextPtr a = makeContext(1), b = makeContext(1);
  a->fail(a.get(), MOE_ERROR_DATA, "of a");
  EXPECT_EQ(errorOf(b), "");
  EXPECT_EQ(errorOf(a), "of a");
}

TEST(ContextTest, CopiedHeadIsNotTheRuntimes) {
  ContextPtr context = makeContext(2);
  alignas(64) moe_context copy = *context;
  EXPECT_EQ(moe_context_threads(&copy), 0);
  EXPECT_EQ(copy.fail(&copy, MOE_ERROR_DATA, "lost"), MOE_ERROR_DATA);
  EXPECT_STREQ(moe_context_error(&copy), "");
  EXPECT_EQ(errorOf(context), "");
  EXPECT_EQ(moe_entry_call(&copy, nullptr, nullptr, 0, nullptr, 0),
            MOE_ERROR_ARGUMENT);
  moe_context_set_parallel_for(&copy, nullptr, nullptr);
  moe_context_destroy(&copy);
  int64_t sum = 0;
  copy.parallel_for(
      &copy, 5,
      [](void *data, int64_t begin, int64_t end) {
        *static_cast<int64_t *>(data) += end - begin;
      },
      &sum);
  EXPECT_EQ(sum, 5);
}

TEST(ContextTest, StatusNames) {
  const char *names[] = {"ok",     "argument", "workspace", "data",  "bound",
                         "memory", "load",     "abi",       "device"};
  for (int i = 0; i < 9; ++i)
    EXPECT_STREQ(moe_status_name(i), names[i]);
  for (int i : {-1, 9, INT32_MAX})
    EXPECT_STREQ(moe_status_name(i), "unknown");
}

} // namespace
