//===- Driver.cpp - A driver for tests, on top of the emulator ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The functions of NVIDIA's driver that the runtime looks up, with the meaning
// that the driver's documentation gives them and no device: kernels are PTX and
// run in the emulator. It is no driver: it shows that the runtime asks for the
// right things in an order that is allowed, not what a device makes of them.
//
// It is as unkind as the documentation permits. Work on a stream, copies
// included, is done when somebody waits for it; a report of the emulator ends
// the context, and is told when the library is unloaded, together with all
// that was not released.
//
//===----------------------------------------------------------------------===//

#include "State.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

using namespace moe_test::driver;

using Handle = void *;
using Address = unsigned long long;

namespace {

/// Stands for the only primary context.
char primaryContext;

/// Options of loading.
enum { kErrorLog = 5, kErrorLogBytes = 6 };

/// The most workgroup memory of a launch.
constexpr unsigned kSharedBytes = 48 << 10;
/// A flag of events.
constexpr unsigned kWithoutTime = 2;

/// The same as the arguments of a launch, laid out for the emulator.
std::vector<uint8_t> copyArguments(const emulator::KernelInfo &kernel,
                                   void **arguments) {
  std::vector<uint8_t> bytes(kernel.paramBytes);
  for (size_t i = 0; i < kernel.params.size(); ++i)
    std::memcpy(bytes.data() + kernel.params[i].offset, arguments[i],
                kernel.params[i].size);
  return bytes;
}

Result codeOf(emulator::ReportKind kind) {
  switch (kind) {
  case emulator::ReportKind::Misaligned:
    return kMisalignedAddress;
  case emulator::ReportKind::OutOfBounds:
    return kIllegalAddress;
  default:
    return kLaunchFailed;
  }
}

/// Runs a kernel; a report is a fault.
Result runKernel(Module &module, const std::string &name,
                 const emulator::LaunchOptions &options,
                 const std::vector<uint8_t> &arguments) {
  --module.pending;
  auto done = state().device.launch(*module.code, name, options, arguments);
  if (!done) {
    state().addProblem(name + ": " + done.error().message);
    return kLaunchFailed;
  }
  if (done->reports.empty())
    return kSuccess;
  state().addProblem(emulator::toString(done->reports.front()));
  return codeOf(done->reports.front().kind);
}

/// False where the bytes are no device memory.
bool isDeviceMemory(Address address, size_t bytes) {
  return bool(state().device.countUnwritten(address, bytes));
}

Result refuseMemory(const char *what) {
  state().addProblem(std::string(what) + " of memory that is not there");
  return kInvalidValue;
}

/// Puts a copy on a stream.
Result enqueueCopy(const char *what, Handle stream, Address device,
                   size_t bytes, std::function<Result()> copy) {
  Stream *to = state().find(stream);
  if (!to)
    return kInvalidHandle;
  if (!isDeviceMemory(device, bytes))
    return refuseMemory(what);
  state().enqueue(*to, std::move(copy));
  return kSuccess;
}

/// The host's clock: kernels are its own work.
double getMilliseconds() {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Result copyToHost(void *host, Address device, size_t bytes) {
  auto unwritten = state().device.countUnwritten(device, bytes);
  if (!unwritten || !state().device.read(host, device, bytes))
    return refuseMemory("copy to the host"), kIllegalAddress;
  if (*unwritten)
    state().addProblem("copy to the host of " + std::to_string(*unwritten) +
                       " bytes that nobody wrote");
  return kSuccess;
}

Result copyToDevice(Address device, const void *host, size_t bytes) {
  if (!state().device.write(device, host, bytes))
    return refuseMemory("copy to the device"), kIllegalAddress;
  return kSuccess;
}

template <typename T>
Handle keep(std::map<void *, std::unique_ptr<T>> &objects,
            std::unique_ptr<T> object) {
  Handle handle = object.get();
  objects.emplace(handle, std::move(object));
  return handle;
}

} // namespace

#pragma GCC visibility push(default)
extern "C" {

//===----------------------------------------------------------------------===//
// Devices and contexts
//===----------------------------------------------------------------------===//

Result cuInit(unsigned flags) {
  Call call("cuInit", /*needsContext=*/false);
  if (call.result)
    return call.result;
  return state().options.devices == 0 ? kNoDevice : kSuccess;
}

Result cuDriverGetVersion(int *version) {
  Call call("cuDriverGetVersion", /*needsContext=*/false);
  *version = state().options.version;
  return call.result;
}

Result cuDeviceGetCount(int *count) {
  Call call("cuDeviceGetCount", /*needsContext=*/false);
  *count = state().options.devices;
  return call.result;
}

Result cuDeviceGet(int *device, int ordinal) {
  Call call("cuDeviceGet", /*needsContext=*/false);
  if (call.result)
    return call.result;
  *device = ordinal;
  return ordinal < state().options.devices ? kSuccess : kInvalidDevice;
}

Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  Call call("cuDeviceGetAttribute", /*needsContext=*/false);
  if (call.result)
    return call.result;
  int capability = state().options.capability;
  switch (attribute) {
  case 75:
    *value = capability / 10;
    return kSuccess;
  case 76:
    *value = capability % 10;
    return kSuccess;
  case 97:
    *value = kSharedBytes;
    return kSuccess;
  default:
    return kInvalidValue;
  }
}

Result cuDeviceGetName(char *name, int length, int device) {
  Call call("cuDeviceGetName", /*needsContext=*/false);
  if (call.result)
    return call.result;
  // Whoever prints times says by it that they are no device's.
  std::snprintf(name, size_t(length), "driver of the tests (emulated)");
  return kSuccess;
}

Result cuDevicePrimaryCtxRetain(Handle *context, int device) {
  Call call("cuDevicePrimaryCtxRetain", /*needsContext=*/false);
  if (call.result)
    return call.result;
  ++state().retained;
  *context = &primaryContext;
  return kSuccess;
}

Result cuDevicePrimaryCtxRelease_v2(int device) {
  Call call("cuDevicePrimaryCtxRelease_v2", /*needsContext=*/false);
  if (state().retained == 0)
    state().addProblem("release of a context that nobody retains");
  else
    --state().retained;
  return call.result;
}

Result cuCtxPushCurrent_v2(Handle context) {
  Call call("cuCtxPushCurrent_v2", /*needsContext=*/false);
  // A context that is broken can still be current.
  if (call.result && call.result != state().sticky)
    return call.result;
  if (context != &primaryContext || state().retained == 0 ||
      numPushed == kMaxPushed)
    return kInvalidContext;
  ++numPushed;
  return kSuccess;
}

Result cuCtxPopCurrent_v2(Handle *context) {
  Call call("cuCtxPopCurrent_v2", /*needsContext=*/false);
  if (numPushed == 0)
    return kInvalidContext;
  --numPushed;
  *context = &primaryContext;
  return kSuccess;
}

Result cuCtxSynchronize() {
  Call call("cuCtxSynchronize");
  return call.result ? call.result : state().drainAll();
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Result cuMemAlloc_v2(Address *address, size_t bytes) {
  Call call("cuMemAlloc_v2");
  if (call.result)
    return call.result;
  if (bytes == 0)
    return kInvalidValue;
  State &own = state();
  if (bytes > own.options.memory ||
      own.allocatedBytes() > own.options.memory - bytes)
    return kOutOfMemory;
  auto made = own.device.allocate(bytes, "device memory");
  if (!made)
    return kOutOfMemory;
  own.allocations[*made] = bytes;
  *address = *made;
  return kSuccess;
}

Result cuMemFree_v2(Address address) {
  Call call("cuMemFree_v2");
  // What a broken context holds goes with it.
  if (call.result && call.result != state().sticky)
    return call.result;
  if (!state().allocations.erase(address))
    return refuseMemory("release");
  state().device.release(address);
  return call.result;
}

Result cuMemcpyHtoDAsync_v2(Address device, const void *host, size_t bytes,
                            Handle stream) {
  Call call("cuMemcpyHtoDAsync_v2");
  if (call.result)
    return call.result;
  return enqueueCopy("copy to the device", stream, device, bytes,
                     [=] { return copyToDevice(device, host, bytes); });
}

Result cuMemcpyDtoHAsync_v2(void *host, Address device, size_t bytes,
                            Handle stream) {
  Call call("cuMemcpyDtoHAsync_v2");
  if (call.result)
    return call.result;
  return enqueueCopy("copy to the host", stream, device, bytes,
                     [=] { return copyToHost(host, device, bytes); });
}

//===----------------------------------------------------------------------===//
// Modules and launches
//===----------------------------------------------------------------------===//

Result cuModuleLoadDataEx(Handle *module, const void *image, unsigned count,
                          int *options, void **values) {
  // Long enough for another thread to ask for the same.
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  Call call("cuModuleLoadDataEx");
  char *log = nullptr;
  size_t logBytes = 0;
  for (unsigned i = 0; i < count; ++i)
    if (options[i] == kErrorLog)
      log = static_cast<char *>(values[i]);
    else if (options[i] == kErrorLogBytes)
      logBytes = reinterpret_cast<size_t>(values[i]);
  auto refuse = [&](Result result, const std::string &text) {
    if (log && logBytes)
      std::snprintf(log, logBytes, "%s\n", text.c_str());
    return result;
  };
  if (call.result)
    return refuse(call.result, "asked to refuse");
  const char *text = static_cast<const char *>(image);
  if (std::strncmp(text, "\177ELF", 4) == 0)
    return refuse(kInvalidImage, "a cubin, which no emulator runs");
  auto code = emulator::Module::load(text, "ptx");
  if (!code)
    return refuse(kInvalidPTX, code.error().message);
  auto made = std::make_unique<Module>();
  made->code = std::move(*code);
  *module = keep(state().modules, std::move(made));
  return kSuccess;
}

Result cuModuleUnload(Handle module) {
  Call call("cuModuleUnload");
  auto found = state().modules.find(module);
  if (found == state().modules.end())
    return kInvalidHandle;
  if (found->second->pending && !state().sticky) {
    state().addProblem("a module was unloaded before its kernels had run");
    state().drainAll();
  }
  for (auto it = state().functions.begin(); it != state().functions.end();)
    it = it->second->module == module ? state().functions.erase(it)
                                      : std::next(it);
  state().modules.erase(found);
  return call.result;
}

Result cuModuleGetFunction(Handle *function, Handle module, const char *name) {
  Call call("cuModuleGetFunction");
  if (call.result)
    return call.result;
  auto found = state().modules.find(module);
  if (found == state().modules.end())
    return kInvalidHandle;
  if (!found->second->code->findKernel(name))
    return kNotFound;
  for (const auto &[handle, known] : state().functions)
    if (known->module == module && known->name == name) {
      *function = handle;
      return kSuccess;
    }
  *function = keep(state().functions,
                   std::make_unique<Function>(
                       Function{found->second.get(), std::string(name)}));
  return kSuccess;
}

Result cuLaunchKernel(Handle handle, unsigned gridX, unsigned gridY,
                      unsigned gridZ, unsigned blockX, unsigned blockY,
                      unsigned blockZ, unsigned sharedBytes, Handle stream,
                      void **arguments, void **) {
  Call call("cuLaunchKernel");
  if (call.result)
    return call.result;
  auto found = state().functions.find(handle);
  Stream *to = state().find(stream);
  if (found == state().functions.end() || !to)
    return kInvalidHandle;
  emulator::LaunchOptions options;
  options.grid = {gridX, gridY, gridZ};
  options.block = {blockX, blockY, blockZ};
  options.dynamicShared = sharedBytes;
  if (!options.grid.count() || !options.block.count() ||
      options.block.count() > 1024 || gridY > 65535 || gridZ > 65535 ||
      blockZ > 64 || sharedBytes > kSharedBytes)
    return kInvalidValue;
  Function function = *found->second;
  std::vector<uint8_t> values = copyArguments(
      *function.module->code->findKernel(function.name), arguments);
  ++function.module->pending;
  state().enqueue(*to, [=] {
    return runKernel(*function.module, function.name, options, values);
  });
  return kSuccess;
}

//===----------------------------------------------------------------------===//
// Streams and events
//===----------------------------------------------------------------------===//

Result cuStreamCreate(Handle *stream, unsigned flags) {
  Call call("cuStreamCreate");
  if (call.result)
    return call.result;
  auto made = std::make_unique<Stream>();
  made->isBlocking = flags == 0;
  *stream = keep(state().streams, std::move(made));
  return kSuccess;
}

Result cuStreamDestroy_v2(Handle stream) {
  Call call("cuStreamDestroy_v2");
  Stream *found = state().find(stream);
  if (!found || !stream)
    return kInvalidHandle;
  Result result = state().drain(*found, found->enqueued);
  state().streams.erase(stream);
  return result;
}

Result cuStreamSynchronize(Handle stream) {
  Call call("cuStreamSynchronize");
  if (call.result)
    return call.result;
  Stream *found = state().find(stream);
  if (!found)
    return kInvalidHandle;
  // The default stream comes behind all that blocks it.
  if (!stream)
    state().enqueue(*found, [] { return kSuccess; });
  return state().drain(*found, found->enqueued);
}

Result cuEventCreate(Handle *event, unsigned flags) {
  Call call("cuEventCreate");
  if (call.result)
    return call.result;
  auto made = std::make_unique<Event>();
  if (!(flags & kWithoutTime))
    made->time = std::make_shared<double>(-1);
  *event = keep(state().events, std::move(made));
  return kSuccess;
}

Result cuEventRecord(Handle event, Handle stream) {
  Call call("cuEventRecord");
  if (call.result)
    return call.result;
  auto found = state().events.find(event);
  Stream *of = state().find(stream);
  if (found == state().events.end() || !of)
    return kInvalidHandle;
  std::shared_ptr<double> time = found->second->time;
  if (time) {
    *time = -1;
    state().enqueue(*of, [time] {
      *time = getMilliseconds();
      return kSuccess;
    });
  }
  *found->second = {of, of->enqueued, time};
  return kSuccess;
}

Result cuEventSynchronize(Handle event) {
  Call call("cuEventSynchronize");
  if (call.result)
    return call.result;
  auto found = state().events.find(event);
  if (found == state().events.end())
    return kInvalidHandle;
  Stream *of = found->second->stream;
  return of ? state().drain(*of, found->second->count) : Result(kSuccess);
}

Result cuEventElapsedTime(float *milliseconds, Handle start, Handle end) {
  Call call("cuEventElapsedTime");
  if (call.result)
    return call.result;
  auto from = state().events.find(start), to = state().events.find(end);
  if (from == state().events.end() || to == state().events.end() ||
      !from->second->time || !to->second->time)
    return kInvalidHandle;
  if (*from->second->time < 0 || *to->second->time < 0)
    return kNotReady;
  *milliseconds = float(*to->second->time - *from->second->time);
  return kSuccess;
}

Result cuStreamWaitEvent(Handle stream, Handle event, unsigned) {
  Call call("cuStreamWaitEvent");
  if (call.result)
    return call.result;
  auto found = state().events.find(event);
  Stream *waiting = state().find(stream);
  if (found == state().events.end() || !waiting)
    return kInvalidHandle;
  if (found->second->stream)
    state().waitFor(*waiting, *found->second->stream, found->second->count);
  return kSuccess;
}

Result cuEventDestroy_v2(Handle event) {
  Call call("cuEventDestroy_v2");
  return state().events.erase(event) ? call.result : Result(kInvalidHandle);
}

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

Result cuGetErrorString(Result result, const char **text) {
  static const std::map<Result, const char *> words = {
      {kSuccess, "no error"},
      {kInvalidValue, "invalid argument"},
      {kOutOfMemory, "out of memory"},
      {kNoDevice, "no CUDA-capable device is detected"},
      {kInvalidDevice, "invalid device ordinal"},
      {kInvalidImage, "device kernel image is invalid"},
      {kInvalidContext, "invalid device context"},
      {kInvalidPTX, "a PTX JIT compilation failed"},
      {kInvalidHandle, "invalid resource handle"},
      {kNotFound, "named symbol not found"},
      {kNotReady, "device not ready"},
      {kIllegalAddress, "an illegal memory access was encountered"},
      {kMisalignedAddress, "misaligned address"},
      {kLaunchFailed, "unspecified launch failure"},
  };
  auto found = words.find(result);
  *text = found == words.end() ? nullptr : found->second;
  return *text ? kSuccess : kInvalidValue;
}
}
#pragma GCC visibility pop
