//===- GPUTest.cpp - Tests of calls that run on a GPU ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include <gtest/gtest.h>
#include <map>

using namespace moe::test;

namespace {

/// A GPU whose memory is the host's; any function can be made to fail.
struct FakeGPU : moe_gpu {
  std::map<void *, std::vector<char>> memory;
  std::string failing; ///< The function that fails.
  int failAt = 0;      ///< At which of its calls.
  int launches = 0;
  std::vector<void *> waited;                     ///< Streams.
  std::vector<std::pair<void *, void *>> ordered; ///< Streams.

  static FakeGPU &own(moe_gpu *gpu) { return *static_cast<FakeGPU *>(gpu); }

  int check(const char *function) {
    return failing == function && failAt-- == 0 ? MOE_ERROR_DEVICE : MOE_OK;
  }

  FakeGPU() {
    device_id = 0;
    reserved = 0;
    allocate = [](moe_gpu *gpu, uint64_t bytes, void **found) {
      if (int status = own(gpu).check("allocate"))
        return status;
      std::vector<char> block(bytes);
      *found = block.data();
      own(gpu).memory.emplace(*found, std::move(block));
      return int(MOE_OK);
    };
    release = [](moe_gpu *gpu, void *block) { own(gpu).memory.erase(block); };
    write = [](moe_gpu *gpu, void *, void *device, const void *host,
               uint64_t bytes) {
      int status = own(gpu).check("write");
      if (!status)
        std::memcpy(device, host, bytes);
      return status;
    };
    read = [](moe_gpu *gpu, void *, void *host, const void *device,
              uint64_t bytes) {
      int status = own(gpu).check("read");
      if (!status)
        std::memcpy(host, device, bytes);
      return status;
    };
    launch = [](moe_gpu *gpu, void *, const moe_launch *) {
      ++own(gpu).launches;
      return own(gpu).check("launch");
    };
    synchronize = [](moe_gpu *gpu, void *stream) {
      own(gpu).waited.push_back(stream);
      return own(gpu).check("synchronize");
    };
    order = [](moe_gpu *gpu, void *stream, void *earlier) {
      own(gpu).ordered.push_back({stream, earlier});
      return own(gpu).check("order");
    };
    error = [](moe_gpu *) { return "the fake refuses"; };
    destroy = [](moe_gpu *) {};
  }
};

int needSixteen(moe_context *, const moe_tensor *, size_t *bytes) {
  *bytes = 16;
  return MOE_OK;
}

/// y = x + 1 on the device, after one launch.
int addOne(moe_context *context, const moe_tensor *in, moe_tensor *out,
           void *workspace, size_t bytes) {
  EXPECT_NE(workspace, nullptr);
  EXPECT_EQ(bytes, 16u);
  moe_launch launch = {};
  if (int status = context->launch(context, &launch))
    return status;
  EXPECT_EQ(in[0].device_type, MOE_DEVICE_CUDA);
  EXPECT_EQ(out[0].device_type, MOE_DEVICE_CUDA);
  EXPECT_EQ(in[0].byte_offset, 0u);
  auto *x = static_cast<float *>(in[0].data);
  auto *y = static_cast<float *>(out[0].data);
  for (int i = 0; i < 3; ++i)
    y[i] = x[i] + 1.0f;
  return MOE_OK;
}

class GPUTest : public testing::Test {
protected:
  GPUTest()
      : info("layer", {{"x", kF32, {3}}}, {{"y", kF32, {3}}}), x(kF32, {3}),
        y(kF32, {3}), context(makeContext()) {
    info->device = MOE_DEVICE_CUDA;
    entry = {info.get(), addOne, needSixteen, nullptr};
    for (int i = 0; i < 3; ++i) {
      x.data<float>()[i] = float(i);
      y.data<float>()[i] = -7.0f;
    }
  }

  int call() {
    moe_tensor in = x.get(), out = y.get();
    return moe_entry_call(context.get(), &entry, &in, 1, &out, 1);
  }

  Info info;
  Tensor x, y;
  FakeGPU gpu; // Outlives the context, which keeps memory on it.
  ContextPtr context;
  moe_entry entry;
};

TEST_F(GPUTest, TensorsOfTheCPUAreCopiedThereAndBack) {
  moe_context_set_gpu(context.get(), &gpu);
  ASSERT_EQ(call(), MOE_OK) << errorOf(context);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(y.data<float>()[i], float(i) + 1.0f);
  EXPECT_EQ(gpu.launches, 1);
  EXPECT_TRUE(gpu.memory.empty());
}

TEST_F(GPUTest, TensorsOfTheGPUAreUsedWhereTheyAre) {
  moe_context_set_gpu(context.get(), &gpu);
  float there[3] = {4, 5, 6}, result[3] = {};
  moe_tensor in = x.get(), out = y.get();
  in.device_type = out.device_type = MOE_DEVICE_CUDA;
  in.data = there;
  out.data = result;
  ASSERT_EQ(moe_entry_call(context.get(), &entry, &in, 1, &out, 1), MOE_OK);
  EXPECT_EQ(result[2], 7.0f);
  EXPECT_EQ(y.data<float>()[0], -7.0f);
}

TEST_F(GPUTest, AContextWithoutOneRefuses) {
  EXPECT_EQ(call(), MOE_ERROR_DEVICE);
  EXPECT_EQ(errorOf(context),
            "layer: runs on a GPU, and this context has none");
  moe_context_set_gpu(context.get(), &gpu);
  EXPECT_EQ(call(), MOE_OK);
  moe_context_set_gpu(context.get(), nullptr);
  EXPECT_EQ(call(), MOE_ERROR_DEVICE);
}

TEST_F(GPUTest, EveryFailureLeavesNothingBehind) {
  moe_context_set_gpu(context.get(), &gpu);
  const std::pair<const char *, int> failures[] = {
      {"allocate", 0}, {"allocate", 1}, {"allocate", 2},   {"write", 0},
      {"launch", 0},   {"read", 0},     {"synchronize", 0}};
  for (auto [function, place] : failures) {
    gpu.failing = function;
    gpu.failAt = place;
    EXPECT_EQ(call(), MOE_ERROR_DEVICE) << function << place;
    EXPECT_NE(errorOf(context).find("the fake refuses"), std::string::npos);
    EXPECT_TRUE(gpu.memory.empty()) << function << place;
    // Whether a copy has been made is not known before it has been waited for.
    if (std::string(function) != "synchronize")
      EXPECT_EQ(y.data<float>()[0], -7.0f) << function << place;
  }
  gpu.failing.clear();
  EXPECT_EQ(call(), MOE_OK);
}

TEST_F(GPUTest, TensorsThatDoNotFitAreLeftAlone) {
  moe_context_set_gpu(context.get(), &gpu);
  moe_tensor in = x.get(), out = y.get();
  EXPECT_EQ(moe_entry_call(context.get(), &entry, nullptr, 1, &out, 1),
            MOE_ERROR_ARGUMENT);
  x.shape[0] = -1;
  in = x.get();
  entry.workspace = [](moe_context *context, const moe_tensor *tensors,
                       size_t *) {
    EXPECT_EQ(tensors[0].shape[0], -1);
    return context->fail(context, MOE_ERROR_ARGUMENT, "x does not fit");
  };
  EXPECT_EQ(moe_entry_call(context.get(), &entry, &in, 1, &out, 1),
            MOE_ERROR_ARGUMENT);
  EXPECT_EQ(errorOf(context), "x does not fit");
  EXPECT_TRUE(gpu.memory.empty());
}

TEST_F(GPUTest, LaunchesOfAContextWithoutOneFail) {
  moe_launch launch = {};
  int host = 0;
  EXPECT_EQ(context->launch(context.get(), &launch), MOE_ERROR_DEVICE);
  EXPECT_EQ(errorOf(context), "this context has no GPU");
  EXPECT_EQ(context->copy_back(context.get(), &host, &host, 4),
            MOE_ERROR_DEVICE);
}

TEST_F(GPUTest, AStreamIsOrderedBehindTheOneBeforeIt) {
  int first = 0, second = 0;
  EXPECT_EQ(moe_context_set_stream(nullptr, &first), MOE_ERROR_ARGUMENT);
  EXPECT_EQ(moe_context_set_stream(context.get(), &first), MOE_ERROR_DEVICE);
  EXPECT_EQ(errorOf(context), "this context has no GPU");
  moe_context_set_gpu(context.get(), &gpu);
  EXPECT_EQ(moe_context_set_stream(context.get(), &first), MOE_OK);
  EXPECT_EQ(call(), MOE_OK) << errorOf(context);
  EXPECT_EQ(gpu.waited, std::vector<void *>{&first});
  gpu.failing = "order";
  EXPECT_EQ(moe_context_set_stream(context.get(), &second), MOE_ERROR_DEVICE);
  EXPECT_EQ(errorOf(context), "the fake refuses");
  gpu.failing.clear();
  EXPECT_EQ(moe_context_set_stream(context.get(), &first), MOE_OK);
  ASSERT_EQ(gpu.ordered.size(), 2u);
  EXPECT_EQ(gpu.ordered[0].first, &first);
  EXPECT_EQ(gpu.ordered[0].second, nullptr);
  EXPECT_EQ(gpu.ordered[1].second, &first);
  // Another GPU knows no stream of this one.
  moe_context_set_gpu(context.get(), &gpu);
  EXPECT_EQ(call(), MOE_OK);
  EXPECT_EQ(gpu.waited.back(), nullptr);
}

TEST_F(GPUTest, AWorkspaceIsKeptForTensorsOfTheGPUAlone) {
  moe_context_set_gpu(context.get(), &gpu);
  ASSERT_EQ(call(), MOE_OK);
  EXPECT_TRUE(gpu.memory.empty());
  alignas(16) float there[4] = {4, 5, 6}, result[4] = {};
  moe_tensor in = x.get(), out = y.get();
  in.device_type = out.device_type = MOE_DEVICE_CUDA;
  in.data = there;
  out.data = result;
  gpu.waited.clear();
  for (int i = 0; i < 2; ++i)
    ASSERT_EQ(moe_entry_call(context.get(), &entry, &in, 1, &out, 1), MOE_OK);
  EXPECT_EQ(gpu.memory.size(), 1u);
  EXPECT_TRUE(gpu.waited.empty());
  moe_context_set_gpu(context.get(), nullptr);
  EXPECT_TRUE(gpu.memory.empty());
  EXPECT_EQ(gpu.waited.size(), 1u);
}

TEST_F(GPUTest, OpeningADriverTellsWhatIsMissing) {
  moe_gpu *opened = nullptr;
  EXPECT_EQ(moe_gpu_open_cuda(nullptr, 0, &opened), MOE_ERROR_ARGUMENT);
  EXPECT_EQ(moe_gpu_open_cuda(context.get(), 0, nullptr), MOE_ERROR_ARGUMENT);
  // No machine has so many.
  EXPECT_EQ(moe_gpu_open_cuda(context.get(), 1 << 20, &opened),
            MOE_ERROR_DEVICE);
  EXPECT_EQ(opened, nullptr);
  EXPECT_NE(errorOf(context), "");
}

} // namespace
