//===- GPUTest.cpp - Tests of the emulator as a GPU of the runtime --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Emulator/GPU.h"

#include <cstring>
#include <gtest/gtest.h>
#include <thread>

using namespace moe::emulator;

namespace {

/// Stores a number where it is told to.
std::string imageOf(int number) {
  return ".version 7.8\n.target sm_80\n.address_size 64\n"
         ".visible .entry put(.param .u64 to)\n{\n  .reg .b64 %rd<2>;\n"
         "  ld.param.u64 %rd1, [to];\n  st.global.u32 [%rd1], " +
         std::to_string(number) + ";\n  ret;\n}\n";
}

class EmulatedGPUTest : public testing::Test {
protected:
  EmulatedGPUTest() : gpu(createGPU()) {
    EXPECT_EQ(gpu->allocate(gpu, 4, &memory), MOE_OK);
  }
  ~EmulatedGPUTest() override {
    gpu->release(gpu, memory);
    gpu->destroy(gpu);
  }

  int launch(const std::string &image, uint64_t id) {
    void *arguments[] = {&memory};
    moe_launch launch = {
        image.c_str(), image.size() + 1, "put", {1, 1, 1}, {1, 1, 1}, 0, 1,
        arguments,     {id, 0}};
    return gpu->launch(gpu, nullptr, &launch);
  }
  int read() {
    int value = -1;
    EXPECT_EQ(gpu->read(gpu, nullptr, &value, memory, 4), MOE_OK);
    EXPECT_EQ(gpu->synchronize(gpu, nullptr), MOE_OK);
    return value;
  }

  moe_gpu *gpu;
  void *memory = nullptr;
};

TEST_F(EmulatedGPUTest, AnImageIsKnownByItsHash) {
  std::string image = imageOf(7);
  ASSERT_EQ(launch(image, 1), MOE_OK) << gpu->error(gpu);
  EXPECT_EQ(read(), 7);
  // Another one at the same place.
  std::memcpy(image.data(), imageOf(9).data(), image.size());
  ASSERT_EQ(launch(image, 2), MOE_OK) << gpu->error(gpu);
  EXPECT_EQ(read(), 9);
  // The first at another place, where its text would not be read again.
  ASSERT_EQ(launch("nonsense", 1), MOE_OK) << gpu->error(gpu);
  EXPECT_EQ(read(), 7);
}

TEST_F(EmulatedGPUTest, WhatItCannotRunIsNamed) {
  EXPECT_EQ(launch("\177ELF and so on", 3), MOE_ERROR_DEVICE);
  EXPECT_STREQ(gpu->error(gpu),
               "the kernels are a cubin, and the emulator runs PTX");
  EXPECT_EQ(launch("nonsense", 4), MOE_ERROR_DEVICE);
  void *more = nullptr;
  EXPECT_EQ(gpu->allocate(gpu, uint64_t(1) << 60, &more), MOE_ERROR_MEMORY);
  EXPECT_STREQ(gpu->error(gpu), "no memory for 1152921504606846976 bytes");
  EXPECT_EQ(more, nullptr);
}

TEST_F(EmulatedGPUTest, AnErrorBelongsToItsThread) {
  EXPECT_EQ(launch("\177ELF", 5), MOE_ERROR_DEVICE);
  std::thread([&] {
    int value = 0;
    EXPECT_EQ(gpu->read(gpu, nullptr, &value, &value, 4), MOE_ERROR_DEVICE);
  }).join();
  EXPECT_STREQ(gpu->error(gpu),
               "the kernels are a cubin, and the emulator runs PTX");
}

} // namespace
