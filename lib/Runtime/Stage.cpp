//===- Stage.cpp - Calls of entries that run on a GPU --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Stage.h"
#include "Check.h"

using namespace moe::rt;

namespace {

/// Bytes of a tensor whose shape has been checked; false past an int64.
bool countBytes(const moe_tensor &tensor, uint64_t &bytes) {
  bytes = (tensor.dtype.bits + 7u) / 8u;
  for (int32_t i = 0; i < tensor.ndim; ++i) {
    if (tensor.shape[i] < 0 ||
        __builtin_mul_overflow(bytes, static_cast<uint64_t>(tensor.shape[i]),
                               &bytes))
      return false;
  }
  return bytes <= INT64_MAX;
}

/// The tensors of one call where the GPU sees them, and their memory.
class StagedCall {
public:
  StagedCall(Context &context, const moe_entry &entry)
      : context(context), gpu(*context.gpu), entry(entry), info(*entry.info) {}
  StagedCall(const StagedCall &) = delete;
  StagedCall &operator=(const StagedCall &) = delete;
  ~StagedCall();

  int run(const moe_tensor *in, moe_tensor *out);

private:
  /// Keeps the GPU's error, of argument `index` or of what `index` is not.
  int failed(int status, uint32_t index, const char *other = "");
  int place(uint32_t index, const moe_tensor &tensor);
  int getWorkspace(size_t bytes, void *&workspace);
  int copyBack(uint32_t index, const moe_tensor &tensor);

  Context &context;
  moe_gpu &gpu;
  const moe_entry &entry;
  const moe_entry_info &info;
  moe_tensor *staged = nullptr; ///< Inputs, then outputs.
  void **memory = nullptr;      ///< To release.
  uint32_t numMemory = 0;
  bool isBusy = false; ///< The stream may use the memory.
};

constexpr uint32_t kNoArgument = UINT32_MAX;

StagedCall::~StagedCall() {
  if (isBusy)
    gpu.synchronize(&gpu, context.stream);
  for (uint32_t i = 0; i < numMemory; ++i)
    gpu.release(&gpu, memory[i]);
  std::free(memory);
  std::free(staged);
}

int StagedCall::failed(int status, uint32_t index, const char *other) {
  Message message;
  message.append("%.*s: ", MOE_PRINT_NAME(info.name));
  if (index != kNoArgument)
    message.append(
        "argument '%.*s' (%s %u): ", MOE_PRINT_NAME(info.args[index].name),
        index < info.num_inputs ? "input" : "output",
        index < info.num_inputs ? index : index - info.num_inputs);
  return fail(&context, status, message.append("%s%s", other, gpu.error(&gpu)));
}

/// A tensor of the CPU gets memory of the GPU, an input its values as well.
/// What makes no sense is left as it is, for the entry's own check to name.
int StagedCall::place(uint32_t index, const moe_tensor &tensor) {
  moe_tensor &own = staged[index];
  own = tensor;
  uint64_t bytes = 0;
  if (tensor.device_type != MOE_DEVICE_CPU ||
      (tensor.ndim > 0 && !tensor.shape))
    return MOE_OK;
  own.device_type = MOE_DEVICE_CUDA;
  own.device_id = gpu.device_id;
  if (!countBytes(tensor, bytes) || (bytes > 0 && !tensor.data))
    return MOE_OK;
  own.byte_offset = 0;
  if (int status = gpu.allocate(&gpu, bytes ? bytes : 1, &own.data))
    return failed(status, index);
  memory[numMemory++] = own.data;
  if (index >= info.num_inputs || bytes == 0)
    return MOE_OK;
  isBusy = true;
  const char *from =
      static_cast<const char *>(tensor.data) + tensor.byte_offset;
  int status = gpu.write(&gpu, context.stream, own.data, from, bytes);
  return status ? failed(status, index) : MOE_OK;
}

/// A call that waits for its results gives its workspace back with the rest;
/// others use the context's, which grows.
int StagedCall::getWorkspace(size_t bytes, void *&workspace) {
  workspace = nullptr;
  if (bytes == 0)
    return MOE_OK;
  bool isKept = numMemory == 0;
  if (isKept && bytes <= context.deviceWorkspaceBytes) {
    workspace = context.deviceWorkspace;
    return MOE_OK;
  }
  if (isKept)
    context.releaseDeviceWorkspace();
  if (int status = gpu.allocate(&gpu, bytes, &workspace))
    return failed(status, kNoArgument, "workspace: ");
  if (isKept) {
    context.deviceWorkspace = workspace;
    context.deviceWorkspaceBytes = bytes;
  } else {
    memory[numMemory++] = workspace;
  }
  return MOE_OK;
}

int StagedCall::copyBack(uint32_t index, const moe_tensor &tensor) {
  uint64_t bytes = 0;
  if (tensor.device_type != MOE_DEVICE_CPU || !countBytes(tensor, bytes) ||
      bytes == 0)
    return MOE_OK;
  char *to = static_cast<char *>(tensor.data) + tensor.byte_offset;
  int status = gpu.read(&gpu, context.stream, to, staged[index].data, bytes);
  return status ? failed(status, index) : MOE_OK;
}

int StagedCall::run(const moe_tensor *in, moe_tensor *out) {
  uint32_t numIn = info.num_inputs, count = numIn + info.num_outputs;
  if ((numIn > 0 && !in) || (info.num_outputs > 0 && !out))
    return fail(&context, MOE_ERROR_ARGUMENT,
                Message().append("%.*s: expected tensors, got NULL",
                                 MOE_PRINT_NAME(info.name)));
  staged = static_cast<moe_tensor *>(std::calloc(count + 1, sizeof *staged));
  memory = static_cast<void **>(std::calloc(count + 1, sizeof *memory));
  if (!staged || !memory)
    return fail(
        &context, MOE_ERROR_MEMORY,
        Message().append("%.*s: out of memory", MOE_PRINT_NAME(info.name)));
  for (uint32_t i = 0; i < count; ++i)
    if (int status = place(i, i < numIn ? in[i] : out[i - numIn]))
      return status;
  size_t bytes = 0;
  if (int status = entry.workspace(&context, staged, &bytes))
    return status;
  void *workspace = nullptr;
  if (int status = getWorkspace(bytes, workspace))
    return status;
  isBusy = numMemory > 0;
  if (int status =
          entry.run(&context, staged, staged + numIn, workspace, bytes))
    return status;
  for (uint32_t i = numIn; i < count; ++i)
    if (int status = copyBack(i, out[i - numIn]))
      return status;
  if (isBusy)
    if (int status = gpu.synchronize(&gpu, context.stream))
      return failed(status, kNoArgument);
  isBusy = false;
  return MOE_OK;
}

} // namespace

int moe::rt::callOnGPU(Context &context, const moe_entry &entry,
                       const moe_tensor *in, moe_tensor *out) {
  if (!context.gpu)
    return fail(&context, MOE_ERROR_DEVICE,
                Message().append("%.*s: runs on a GPU, and this context has "
                                 "none",
                                 MOE_PRINT_NAME(entry.info->name)));
  return StagedCall(context, entry).run(in, out);
}
