//===- CudaTest.cpp - Tests of the road through NVIDIA's driver -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The driver is test/lib/Driver, which runs kernels by the emulator, puts work
// off until somebody waits for it, and tells what was not released.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <thread>

using namespace moe::test;

namespace {

/// Whatever the machine has, libcuda.so.1 is this one from here on.
struct TestDriver {
  static TestDriver &get() {
    static TestDriver only;
    return only;
  }

  void (*configure)(const char *) = nullptr;
  int (*calls)(const char *) = nullptr;
  const char *(*report)() = nullptr;
  int (*createStream)(void **, unsigned) = nullptr;
  int (*destroyStream)(void *) = nullptr;
  int (*retain)(void **, int) = nullptr;
  int (*releaseContext)(int) = nullptr;
  int (*push)(void *) = nullptr;
  int (*pop)(void **) = nullptr;

private:
  TestDriver() {
    void *library = dlopen(MOE_TEST_DRIVER, RTLD_NOW | RTLD_LOCAL);
    if (!library)
      return;
    find(library, configure, "moe_test_driver_configure");
    find(library, calls, "moe_test_driver_calls");
    find(library, report, "moe_test_driver_report");
    find(library, createStream, "cuStreamCreate");
    find(library, destroyStream, "cuStreamDestroy_v2");
    find(library, retain, "cuDevicePrimaryCtxRetain");
    find(library, releaseContext, "cuDevicePrimaryCtxRelease_v2");
    find(library, push, "cuCtxPushCurrent_v2");
    find(library, pop, "cuCtxPopCurrent_v2");
  }
  template <typename T>
  static void find(void *library, T &function, const char *name) {
    function = reinterpret_cast<T>(dlsym(library, name));
  }
};

/// y = x + 1 of 64 numbers.
constexpr char kImage[] = R"(// A comment.
.version 7.8
.target sm_80
.address_size 64
.visible .entry add_one(.param .u64 x, .param .u64 y)
{
  .reg .b32 %r<2>;
  .reg .f32 %f<3>;
  .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [x];
  ld.param.u64 %rd2, [y];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd4, %rd1, %rd3;
  ld.global.f32 %f1, [%rd4];
  add.rn.f32 %f2, %f1, 0f3F800000;
  add.s64 %rd5, %rd2, %rd3;
  st.global.f32 [%rd5], %f2;
  ret;
}
)";

constexpr int64_t kCount = 64;
constexpr size_t kBytes = kCount * sizeof(float);

/// What launches of the entry below use; a test may change it.
struct Code {
  const char *image = kImage;
  uint64_t bytes = sizeof kImage;
  uint64_t id = 7;
  uint32_t threads = kCount;
} code;

int launchAddOne(moe_context *context, void *from, void *to) {
  void *arguments[] = {&from, &to};
  moe_launch launch = {code.image,           code.bytes, "add_one", {1, 1, 1},
                       {code.threads, 1, 1}, 0,          2,         arguments,
                       {code.id, 0}};
  return context->launch(context, &launch);
}

Info &layerInfo() {
  static Info only = [] {
    Info info("layer", {{"x", kF32, {kCount}}}, {{"y", kF32, {kCount}}});
    info->device = MOE_DEVICE_CUDA;
    return info;
  }();
  return only;
}

int needOneRow(moe_context *context, const moe_tensor *in, size_t *bytes) {
  *bytes = kBytes;
  return context->check_inputs(context, layerInfo().get(), in);
}

/// y = x + 2 by two kernels, with the workspace between them.
int addTwo(moe_context *context, const moe_tensor *in, moe_tensor *out,
           void *workspace, size_t bytes) {
  if (int status = context->check(context, layerInfo().get(), in, out,
                                  workspace, bytes, kBytes))
    return status;
  if (int status = launchAddOne(context, in->data, workspace))
    return status;
  return launchAddOne(context, workspace, out->data);
}

const moe_entry kEntry = {layerInfo().get(), addTwo, needOneRow, nullptr};

int call(const ContextPtr &context, const moe_tensor &in, moe_tensor out) {
  return moe_entry_call(context.get(), &kEntry, &in, 1, &out, 1);
}

class CudaTest : public testing::Test {
protected:
  CudaTest() : x(kF32, {kCount}), y(kF32, {kCount}), context(makeContext()) {
    code = Code();
    for (int i = 0; i < kCount; ++i)
      x.data<float>()[i] = float(i);
  }

  void SetUp() override {
    ASSERT_NE(driver.configure, nullptr) << MOE_TEST_DRIVER;
    driver.report();
  }
  void TearDown() override {
    close();
    EXPECT_STREQ(driver.report(), "");
  }

  int open(const char *options = "", int device = 0) {
    driver.configure(options);
    int status = moe_gpu_open_cuda(context.get(), device, &gpu);
    moe_context_set_gpu(context.get(), gpu);
    return status;
  }
  void close() {
    moe_context_set_gpu(context.get(), nullptr);
    if (gpu)
      gpu->destroy(gpu);
    gpu = nullptr;
  }
  std::string error() { return errorOf(context); }
  int callOnCPU() { return call(context, x.get(), y.get()); }

  static moe_tensor onDevice(Tensor &like, void *memory) {
    moe_tensor tensor = like.get();
    tensor.device_type = MOE_DEVICE_CUDA;
    tensor.data = memory;
    return tensor;
  }
  void *allocate(size_t bytes = kBytes) {
    void *memory = nullptr;
    EXPECT_EQ(gpu->allocate(gpu, bytes, &memory), MOE_OK) << gpu->error(gpu);
    return memory;
  }
  /// Memory that holds x; the copy waits like all else.
  void *allocateX() {
    void *memory = allocate();
    EXPECT_EQ(gpu->write(gpu, nullptr, memory, x.data<float>(), kBytes),
              MOE_OK);
    return memory;
  }
  void expectSum(float added) {
    for (int i = 0; i < kCount; ++i)
      ASSERT_EQ(y.data<float>()[i], float(i) + added) << i;
  }
  void release(std::initializer_list<void *> all) {
    for (void *memory : all)
      gpu->release(gpu, memory);
  }

  TestDriver &driver = TestDriver::get();
  Tensor x, y;
  ContextPtr context;
  moe_gpu *gpu = nullptr;
};

/// The driver's context as the thread's own, as a host would have it.
class CurrentContext {
public:
  explicit CurrentContext(TestDriver &driver) : driver(driver) {
    driver.retain(&context, 0);
    driver.push(context);
  }
  ~CurrentContext() {
    driver.pop(&context);
    driver.releaseContext(0);
  }

private:
  TestDriver &driver;
  void *context = nullptr;
};

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

TEST_F(CudaTest, TensorsOfTheCPUAreCopiedThereAndBack) {
  ASSERT_EQ(open(), MOE_OK) << error();
  ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  expectSum(2);
  ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  EXPECT_EQ(driver.calls("cuLaunchKernel"), 4);
}

TEST_F(CudaTest, TensorsOfTheGPUStayAndNobodyWaits) {
  ASSERT_EQ(open(), MOE_OK) << error();
  void *from = allocateX(), *to = allocate();
  moe_tensor in = onDevice(x, from), out = onDevice(y, to);
  for (int i = 0; i < 3; ++i)
    ASSERT_EQ(call(context, in, out), MOE_OK) << error();
  EXPECT_EQ(driver.calls("cuStreamSynchronize"), 0);
  EXPECT_EQ(driver.calls("cuMemcpyHtoDAsync_v2"), 1);
  // Two tensors and one workspace for all calls.
  EXPECT_EQ(driver.calls("cuMemAlloc_v2"), 3);
  ASSERT_EQ(gpu->read(gpu, nullptr, y.data<float>(), to, kBytes), MOE_OK);
  EXPECT_EQ(y.data<float>()[1], 0.0f) << "the driver did not put work off";
  ASSERT_EQ(gpu->synchronize(gpu, nullptr), MOE_OK) << gpu->error(gpu);
  expectSum(2);
  release({from, to});
}

TEST_F(CudaTest, AResultOfTheCPUIsWaitedFor) {
  ASSERT_EQ(open(), MOE_OK) << error();
  void *from = allocateX();
  ASSERT_EQ(call(context, onDevice(x, from), y.get()), MOE_OK) << error();
  expectSum(2);
  release({from});
}

TEST_F(CudaTest, AStreamFollowsTheOneBeforeIt) {
  ASSERT_EQ(open(), MOE_OK) << error();
  void *streams[2] = {};
  void *from = allocateX(), *between = allocate(), *to = allocate();
  ASSERT_EQ(gpu->synchronize(gpu, nullptr), MOE_OK);
  CurrentContext current(driver);
  for (void *&stream : streams)
    ASSERT_EQ(driver.createStream(&stream, /*non-blocking*/ 1), 0);
  ASSERT_EQ(moe_context_set_stream(context.get(), streams[0]), MOE_OK);
  ASSERT_EQ(call(context, onDevice(x, from), onDevice(y, between)), MOE_OK);
  ASSERT_EQ(moe_context_set_stream(context.get(), streams[1]), MOE_OK);
  ASSERT_EQ(call(context, onDevice(x, between), onDevice(y, to)), MOE_OK);
  ASSERT_EQ(gpu->read(gpu, streams[1], y.data<float>(), to, kBytes), MOE_OK);
  ASSERT_EQ(gpu->synchronize(gpu, streams[1]), MOE_OK) << gpu->error(gpu);
  expectSum(4);
  // Tensors of the CPU go over the stream as well.
  int launches = driver.calls("cuLaunchKernel");
  ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  expectSum(2);
  EXPECT_EQ(driver.calls("cuLaunchKernel"), launches + 2);
  ASSERT_EQ(moe_context_set_stream(context.get(), nullptr), MOE_OK);
  release({from, between, to});
  for (void *stream : streams)
    EXPECT_EQ(driver.destroyStream(stream), 0);
}

TEST_F(CudaTest, ACallerPlansTheWorkspace) {
  ASSERT_EQ(open(), MOE_OK) << error();
  void *from = allocateX(), *to = allocate();
  moe_tensor in = onDevice(x, from), out = onDevice(y, to);
  size_t bytes = 0;
  ASSERT_EQ(kEntry.workspace(context.get(), &in, &bytes), MOE_OK) << error();
  ASSERT_EQ(bytes, kBytes);
  void *workspace = allocate(bytes);
  EXPECT_EQ(kEntry.run(context.get(), &in, &out, workspace, bytes - 1),
            MOE_ERROR_WORKSPACE);
  ASSERT_EQ(kEntry.run(context.get(), &in, &out, workspace, bytes), MOE_OK);
  ASSERT_EQ(context->copy_back(context.get(), y.data<float>(), to, kBytes),
            MOE_OK);
  expectSum(2);
  release({from, to, workspace});
}

TEST_F(CudaTest, AGPUIsDestroyedWhenItsKernelsHaveRun) {
  ASSERT_EQ(open(), MOE_OK) << error();
  void *from = allocateX(), *between = allocate(), *to = allocate();
  moe_tensor in = onDevice(x, from), out = onDevice(y, to);
  moe_gpu *other = nullptr;
  ASSERT_EQ(moe_gpu_open_cuda(context.get(), 0, &other), MOE_OK) << error();
  ASSERT_EQ(kEntry.run(context.get(), &in, &out, between, kBytes), MOE_OK);
  close();
  gpu = other;
  ASSERT_EQ(gpu->read(gpu, nullptr, y.data<float>(), to, kBytes), MOE_OK);
  ASSERT_EQ(gpu->synchronize(gpu, nullptr), MOE_OK) << gpu->error(gpu);
  expectSum(2);
  release({from, between, to});
}

TEST_F(CudaTest, TheThreadsOwnContextStaysCurrent) {
  ASSERT_EQ(open(), MOE_OK) << error();
  ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  void *popped = nullptr;
  EXPECT_NE(driver.pop(&popped), 0) << "a context was left on the stack";
}

//===----------------------------------------------------------------------===//
// Images
//===----------------------------------------------------------------------===//

TEST_F(CudaTest, ImagesAreLoadedOnce) {
  ASSERT_EQ(open(), MOE_OK) << error();
  // As two libraries would carry it.
  std::string copy(kImage, sizeof kImage);
  for (const char *image : {kImage, copy.c_str()}) {
    code.image = image;
    ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  }
  EXPECT_EQ(driver.calls("cuModuleLoadDataEx"), 1);
  // Another image at the address of one that is gone.
  copy.replace(copy.find("0f3F800000"), 10, "0f40000000");
  code.id = 8;
  ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  expectSum(4);
  EXPECT_EQ(driver.calls("cuModuleLoadDataEx"), 2);
  // Without a hash the address stands for the image.
  code = Code();
  code.id = 0;
  for (int i = 0; i < 2; ++i)
    ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  EXPECT_EQ(driver.calls("cuModuleLoadDataEx"), 3);
}

TEST_F(CudaTest, ManyImagesStayLoaded) {
  ASSERT_EQ(open(), MOE_OK) << error();
  for (uint64_t id = 1; id <= 100; ++id) {
    code.id = id;
    ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  }
  code.id = 1;
  ASSERT_EQ(callOnCPU(), MOE_OK) << error();
  EXPECT_EQ(driver.calls("cuModuleLoadDataEx"), 100);
}

TEST_F(CudaTest, ContextsAndThreadsShareAGPU) {
  ASSERT_EQ(open(), MOE_OK) << error();
  std::vector<std::string> errors(4);
  std::vector<std::thread> threads;
  moe_tensor in = x.get();
  for (std::string &error : errors)
    threads.emplace_back([this, &error, in] {
      ContextPtr own = makeContext(1);
      moe_context_set_gpu(own.get(), gpu);
      for (int i = 0; i < 20 && error.empty(); ++i) {
        Tensor result(kF32, {kCount});
        if (call(own, in, result.get()) != MOE_OK)
          error = errorOf(own);
        else if (result.data<float>()[5] != 7.0f)
          error = "a wrong result";
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  for (const std::string &error : errors)
    EXPECT_EQ(error, "");
  EXPECT_EQ(driver.calls("cuModuleLoadDataEx"), 1);
  EXPECT_EQ(driver.calls("cuLaunchKernel"), 160);
}

//===----------------------------------------------------------------------===//
// What is refused
//===----------------------------------------------------------------------===//

TEST_F(CudaTest, ADriverWithoutADeviceIsNamed) {
  EXPECT_EQ(open("devices=0"), MOE_ERROR_DEVICE);
  EXPECT_EQ(gpu, nullptr);
  EXPECT_EQ(error(), "cuInit: no CUDA-capable device is detected (CUDA error "
                     "100)");
  EXPECT_EQ(open("devices=2", 2), MOE_ERROR_DEVICE);
  EXPECT_EQ(error(), "there is no GPU 2; there are 2");
  EXPECT_EQ(open("", -1), MOE_ERROR_DEVICE);
  EXPECT_EQ(error(), "there is no GPU -1; there are 1");
}

TEST_F(CudaTest, ADriverTooOldForTheImageIsNamed) {
  ASSERT_EQ(open("version=11070"), MOE_OK) << error();
  EXPECT_EQ(callOnCPU(), MOE_ERROR_DEVICE);
  EXPECT_EQ(error(), "the NVIDIA driver is too old: PTX 7.8 needs one of CUDA "
                     "11.8, and this is of CUDA 11.7");
  EXPECT_EQ(driver.calls("cuModuleLoadDataEx"), 0);
  close();
  ASSERT_EQ(open("version=11080"), MOE_OK) << error();
  EXPECT_EQ(callOnCPU(), MOE_OK) << error();
}

TEST_F(CudaTest, AnImageForAnotherChipIsNamed) {
  std::string image(kImage, sizeof kImage);
  auto callFor = [&](const char *chip, const char *capability) {
    std::string own = image;
    own.replace(own.find("sm_80"), 5, chip);
    code.image = own.c_str();
    code.bytes = own.size();
    EXPECT_EQ(open(capability), MOE_OK) << error();
    int status = callOnCPU();
    close();
    return status;
  };
  EXPECT_EQ(callFor("sm_80", "capability=80"), MOE_OK);
  EXPECT_EQ(callFor("sm_90", "capability=120"), MOE_OK);
  EXPECT_EQ(callFor("sm_90a", "capability=90"), MOE_OK);
  EXPECT_EQ(callFor("sm_90", "capability=80"), MOE_ERROR_DEVICE);
  EXPECT_EQ(error(), "kernels for sm_90 do not run on GPU 0, which is sm_80: "
                     "compile them for its chip");
  EXPECT_EQ(callFor("sm_90a", "capability=100"), MOE_ERROR_DEVICE);
  EXPECT_EQ(error(), "kernels for sm_90a do not run on GPU 0, which is sm_100: "
                     "compile them for its chip");
  EXPECT_EQ(callFor("sm_100f", "capability=120"), MOE_ERROR_DEVICE);
}

TEST_F(CudaTest, AnImageThatIsNoneIsToldInTheDriversWords) {
  ASSERT_EQ(open(), MOE_OK) << error();
  code.image = ".version 7.8\n.target sm_80\n.address_size 64\nnonsense\n";
  code.bytes = std::strlen(code.image) + 1;
  EXPECT_EQ(callOnCPU(), MOE_ERROR_DEVICE);
  EXPECT_EQ(error().find("loading kernels: a PTX JIT compilation failed (CUDA "
                         "error 218): ptx:4: "),
            0u)
      << error();
  code.image = "\177ELF";
  code.id = 9;
  EXPECT_EQ(callOnCPU(), MOE_ERROR_DEVICE);
  EXPECT_NE(error().find("a cubin"), std::string::npos) << error();
  code = Code();
  EXPECT_EQ(callOnCPU(), MOE_OK) << "what was refused was kept";
}

TEST_F(CudaTest, MemoryThatIsNotThereIsNamed) {
  const std::pair<const char *, const char *> cases[] = {
      {"memory=255", "layer: argument 'x' (input 0): GPU 0: 256 bytes of "
                     "memory: out of memory (CUDA error 2)"},
      {"memory=511", "layer: argument 'y' (output 0): GPU 0: 256 bytes of "
                     "memory: out of memory (CUDA error 2)"},
      {"memory=767", "layer: workspace: GPU 0: 256 bytes of memory: out of "
                     "memory (CUDA error 2)"}};
  for (auto [options, message] : cases) {
    ASSERT_EQ(open(options), MOE_OK) << error();
    EXPECT_EQ(callOnCPU(), MOE_ERROR_MEMORY) << options;
    EXPECT_EQ(error(), message);
    close();
    EXPECT_STREQ(driver.report(), "") << options;
  }
  // A workspace that is kept is given back before a larger one is asked for.
  ASSERT_EQ(open("memory=768"), MOE_OK) << error();
  EXPECT_EQ(callOnCPU(), MOE_OK) << error();
}

TEST_F(CudaTest, DevicePointersAreChecked) {
  ASSERT_EQ(open("devices=2"), MOE_OK) << error();
  char *from = static_cast<char *>(allocate(2 * kBytes));
  void *to = allocate();
  moe_tensor in = onDevice(x, from + 4), out = onDevice(y, to);
  EXPECT_EQ(call(context, in, out), MOE_ERROR_ARGUMENT);
  EXPECT_EQ(error().find("layer: argument 'x' (input 0): expected data aligned "
                         "to 16 bytes on a GPU, got address 0x"),
            0u)
      << error();
  in = onDevice(x, from);
  in.byte_offset = 8;
  EXPECT_EQ(call(context, in, out), MOE_ERROR_ARGUMENT);
  in.byte_offset = 16;
  in.device_id = 1;
  EXPECT_EQ(call(context, in, out), MOE_ERROR_ARGUMENT);
  EXPECT_EQ(error(), "layer: argument 'x' (input 0): expected data on GPU 0, "
                     "the context's, got GPU 1");
  in.device_id = 0;
  out.data = static_cast<char *>(to) + 2;
  EXPECT_EQ(call(context, in, out), MOE_ERROR_ARGUMENT);
  EXPECT_NE(error().find("argument 'y' (output 0)"), std::string::npos);
  EXPECT_EQ(driver.calls("cuLaunchKernel"), 0);
  release({from, to});
}

TEST_F(CudaTest, AFaultOfAKernelEndsTheCall) {
  ASSERT_EQ(open(), MOE_OK) << error();
  code.threads = 128; // Twice as many as there are numbers.
  EXPECT_EQ(callOnCPU(), MOE_ERROR_DEVICE);
  EXPECT_EQ(error(), "layer: waiting for kernels: an illegal memory access was "
                     "encountered (CUDA error 700)");
  // So does every later one, as on a device.
  code.threads = kCount;
  EXPECT_EQ(callOnCPU(), MOE_ERROR_DEVICE);
  close();
  std::string report = driver.report();
  EXPECT_EQ(report.find("test driver: line 15: out of bounds"), 0u) << report;
  EXPECT_EQ(report.find("there are still"), std::string::npos) << report;
}

TEST_F(CudaTest, WhateverFailsLeavesNothingBehind) {
  // Functions and how often a call may fail at them; the context is made
  // current eight times before memory is given back.
  const std::pair<const char *, int> functions[] = {
      {"cuInit", 1},
      {"cuDriverGetVersion", 1},
      {"cuDeviceGetCount", 1},
      {"cuDeviceGet", 1},
      {"cuDeviceGetAttribute", 2},
      {"cuDevicePrimaryCtxRetain", 1},
      {"cuCtxPushCurrent_v2", 8},
      {"cuMemAlloc_v2", 3},
      {"cuMemcpyHtoDAsync_v2", 1},
      {"cuModuleLoadDataEx", 1},
      {"cuModuleGetFunction", 2},
      {"cuLaunchKernel", 2},
      {"cuMemcpyDtoHAsync_v2", 1},
      {"cuStreamSynchronize", 1}};
  for (auto [function, count] : functions)
    for (int place = 1; place <= count; ++place) {
      std::string options = std::string("fail=") + function + ":" +
                            std::to_string(place) + ":719";
      int status = open(options.c_str());
      if (status == MOE_OK)
        status = callOnCPU();
      EXPECT_EQ(status, MOE_ERROR_DEVICE) << options;
      EXPECT_NE(error().find("CUDA error 719"), std::string::npos)
          << options << ": " << error();
      close();
      ASSERT_STREQ(driver.report(), "") << options;
    }
  ASSERT_EQ(open(), MOE_OK);
  ASSERT_EQ(callOnCPU(), MOE_OK);
  for (auto [function, count] : functions)
    EXPECT_GE(driver.calls(function), count) << function;
}

} // namespace
