//===- Check.cpp - Checks a call against its description ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Check.h"

using namespace moe::rt;

namespace {

/// The bytes [begin, end) of a tensor.
struct Span {
  uintptr_t begin;
  uintptr_t end;

  bool overlaps(const Span &other) const {
    return begin < other.end && other.begin < end;
  }
};

/// What kernels read and write at a time, whatever the type.
constexpr uintptr_t kDeviceAlignment = 16;

/// Sizes that the symbols of one call have been found to be, and where.
struct Symbols {
  int64_t size[MOE_MAX_SYMBOLS];
  /// The argument that gave the size, or -1 where none has yet.
  int64_t source[MOE_MAX_SYMBOLS];

  Symbols() {
    for (int64_t &argument : source)
      argument = -1;
  }
};

/// Checks the arguments of one call in order.
class CallChecker {
public:
  CallChecker(moe_context *context, const moe_entry_info &info)
      : context(context), info(info) {}

  int checkAll(const char *kind, const moe_tensor *tensors, uint32_t first,
               uint32_t count);
  int checkOverlap(const moe_tensor *in, const moe_tensor *out);
  int checkWorkspace(const moe_tensor *in, const moe_tensor *out,
                     const void *workspace, size_t bytes, size_t needed);

private:
  int checkOne(uint32_t index, const moe_tensor &tensor);
  int checkShape(uint32_t index, const moe_tensor &tensor);
  int checkStrides(uint32_t index, const moe_tensor &tensor);
  int checkData(uint32_t index, const moe_tensor &tensor, size_t bytes);

  Message startMessage(uint32_t index) const;
  Message startMismatch(uint32_t index, const moe_tensor &tensor,
                        int32_t symbol = -1, bool bound = false) const;
  int mismatch(uint32_t index, const moe_tensor &tensor,
               const char *note = "") {
    return fail(context, MOE_ERROR_ARGUMENT,
                startMismatch(index, tensor).append("%s", note));
  }

  moe_context *context;
  const moe_entry_info &info;
  Symbols symbols;
};

} // namespace

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

static void appendType(Message &message, moe_dtype type) {
  static const struct {
    uint8_t code;
    const char *prefix;
  } kinds[] = {{0, "i"}, {1, "ui"}, {2, "f"}, {4, "bf"}};
  if (type.code == 6 && type.bits == 8 && type.lanes == 1) {
    message.append("bool");
    return;
  }
  for (const auto &kind : kinds) {
    if (kind.code == type.code && type.lanes == 1) {
      message.append("%s%d", kind.prefix, type.bits);
      return;
    }
  }
  message.append("(dtype code %d, %d bits, %d lanes)", type.code, type.bits,
                 type.lanes);
}

static void appendSizes(Message &message, const int64_t *sizes, int32_t rank) {
  message.append("[");
  for (int32_t i = 0; i < rank; ++i)
    message.append("%s%lld", i ? ", " : "", static_cast<long long>(sizes[i]));
  message.append("]");
}

static void appendExpected(Message &message, const moe_entry_info &info,
                           const moe_arg_info &arg) {
  appendType(message, arg.dtype);
  message.append("[");
  for (int32_t i = 0; i < arg.rank; ++i) {
    if (i)
      message.append(", ");
    if (arg.shape[i] >= 0)
      message.append("%lld", static_cast<long long>(arg.shape[i]));
    else
      message.append("%.*s",
                     MOE_PRINT_NAME(info.symbol_name[-1 - arg.shape[i]]));
  }
  message.append("]");
}

static void appendFound(Message &message, const moe_tensor &tensor) {
  appendType(message, tensor.dtype);
  if (tensor.ndim < 0 || tensor.ndim > MOE_MAX_RANK)
    message.append(" of rank %d", tensor.ndim);
  else if (tensor.ndim > 0 && !tensor.shape)
    message.append(" of rank %d without a shape", tensor.ndim);
  else
    appendSizes(message, tensor.shape, tensor.ndim);
}

/// "layer: argument 'x' (input 0): ".
Message CallChecker::startMessage(uint32_t index) const {
  bool isInput = index < info.num_inputs;
  return Message().append(
      "%.*s: argument '%.*s' (%s %u): ", MOE_PRINT_NAME(info.name),
      MOE_PRINT_NAME(info.args[index].name), isInput ? "input" : "output",
      isInput ? index : index - info.num_inputs);
}

/// "... expected f32[T, 64], got f32[16, 63]", with what is known of a symbol.
Message CallChecker::startMismatch(uint32_t index, const moe_tensor &tensor,
                                   int32_t symbol, bool bound) const {
  Message message = startMessage(index).append("expected ");
  appendExpected(message, info, info.args[index]);
  if (symbol >= 0) {
    message.append(" with %.*s", MOE_PRINT_NAME(info.symbol_name[symbol]));
    if (bound)
      message.append(" <= %lld",
                     static_cast<long long>(info.symbol_bound[symbol]));
    else
      message.append(" = %lld as in '%.*s'",
                     static_cast<long long>(symbols.size[symbol]),
                     MOE_PRINT_NAME(info.args[symbols.source[symbol]].name));
  }
  message.append(", got ");
  appendFound(message, tensor);
  return message;
}

//===----------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------===//

static bool isEmpty(const moe_tensor &tensor) {
  for (int32_t i = 0; i < tensor.ndim; ++i)
    if (tensor.shape[i] == 0)
      return true;
  return false;
}

/// Computes the bytes of a tensor whose sizes are not negative; false where
/// they pass int64_t or the address space.
static bool getBytes(const moe_tensor &tensor, size_t &bytes) {
  bytes = 0;
  if (isEmpty(tensor))
    return true;
  int64_t bits = tensor.dtype.bits;
  for (int32_t i = 0; i < tensor.ndim; ++i)
    if (__builtin_mul_overflow(bits, tensor.shape[i], &bits))
      return false;
  // The sum of 7 must not overflow either.
  uint64_t rounded = (static_cast<uint64_t>(bits) + 7) / 8;
  bytes = static_cast<size_t>(rounded);
  return bytes == rounded;
}

/// The bytes of a tensor that passed checkOne.
static Span getSpan(const moe_tensor &tensor) {
  size_t bytes = 0;
  if (!getBytes(tensor, bytes) || bytes == 0)
    return {0, 0};
  uintptr_t begin = reinterpret_cast<uintptr_t>(tensor.data) +
                    static_cast<uintptr_t>(tensor.byte_offset);
  return {begin, begin + bytes};
}

static bool equalTypes(moe_dtype a, moe_dtype b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

int CallChecker::checkShape(uint32_t index, const moe_tensor &tensor) {
  const moe_arg_info &arg = info.args[index];
  for (int32_t i = 0; i < arg.rank; ++i)
    if (tensor.shape[i] < 0)
      return mismatch(index, tensor, ": a size is negative");
  for (int32_t i = 0; i < arg.rank; ++i) {
    int64_t size = tensor.shape[i];
    if (arg.shape[i] >= 0) {
      if (size != arg.shape[i])
        return mismatch(index, tensor);
      continue;
    }
    int32_t symbol = static_cast<int32_t>(-1 - arg.shape[i]);
    if (symbols.source[symbol] < 0) {
      if (size > info.symbol_bound[symbol])
        return fail(context, MOE_ERROR_BOUND,
                    startMismatch(index, tensor, symbol, /*bound=*/true));
      symbols.source[symbol] = index;
      symbols.size[symbol] = size;
    } else if (size != symbols.size[symbol]) {
      return fail(context, MOE_ERROR_ARGUMENT,
                  startMismatch(index, tensor, symbol));
    }
  }
  return MOE_OK;
}

int CallChecker::checkStrides(uint32_t index, const moe_tensor &tensor) {
  if (!tensor.strides || isEmpty(tensor))
    return MOE_OK;
  // getBytes found that this product fits.
  int64_t compact = 1;
  for (int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != compact) {
      Message message = startMessage(index).append("expected contiguous ");
      appendExpected(message, info, info.args[index]);
      message.append(", got ");
      appendFound(message, tensor);
      message.append(" with strides ");
      appendSizes(message, tensor.strides, tensor.ndim);
      return fail(context, MOE_ERROR_ARGUMENT, message);
    }
    compact *= tensor.shape[i];
  }
  return MOE_OK;
}

int CallChecker::checkData(uint32_t index, const moe_tensor &tensor,
                           size_t bytes) {
  if (bytes == 0)
    return MOE_OK;
  if (!tensor.data)
    return mismatch(index, tensor, " with NULL data");
  uintptr_t address = reinterpret_cast<uintptr_t>(tensor.data);
  if (tensor.byte_offset > UINTPTR_MAX - address ||
      bytes > UINTPTR_MAX - address - tensor.byte_offset)
    return mismatch(index, tensor, " that ends past the address space");
  address += tensor.byte_offset;
  bool isGPU = info.device != MOE_DEVICE_CPU;
  uintptr_t alignment = isGPU                    ? kDeviceAlignment
                        : tensor.dtype.bits >= 8 ? tensor.dtype.bits / 8
                                                 : 1;
  if (address % alignment != 0)
    return fail(context, MOE_ERROR_ARGUMENT,
                startMessage(index).append(
                    "expected data aligned to %llu bytes%s, got address 0x%llx",
                    static_cast<unsigned long long>(alignment),
                    isGPU ? " on a GPU" : "",
                    static_cast<unsigned long long>(address)));
  return MOE_OK;
}

int CallChecker::checkOne(uint32_t index, const moe_tensor &tensor) {
  const moe_arg_info &arg = info.args[index];
  if (!equalTypes(tensor.dtype, arg.dtype) || tensor.ndim != arg.rank ||
      (tensor.ndim > 0 && !tensor.shape))
    return mismatch(index, tensor);
  if (int status = checkShape(index, tensor))
    return status;
  size_t bytes = 0;
  if (!getBytes(tensor, bytes))
    return mismatch(index, tensor, ": its bits pass the range of int64");
  if (tensor.device_type != static_cast<int32_t>(info.device))
    return fail(context, MOE_ERROR_ARGUMENT,
                startMessage(index).append(
                    "expected data on the %s (device type %u), got device "
                    "type %d",
                    info.device == MOE_DEVICE_CPU ? "CPU" : "GPU", info.device,
                    tensor.device_type));
  const Context *own = getOwn(context);
  if (info.device != MOE_DEVICE_CPU && own && own->gpu &&
      tensor.device_id != own->gpu->device_id)
    return fail(context, MOE_ERROR_ARGUMENT,
                startMessage(index).append(
                    "expected data on GPU %d, the context's, got GPU %d",
                    own->gpu->device_id, tensor.device_id));
  if (int status = checkStrides(index, tensor))
    return status;
  return checkData(index, tensor, bytes);
}

int CallChecker::checkAll(const char *kind, const moe_tensor *tensors,
                          uint32_t first, uint32_t count) {
  if (count > 0 && !tensors)
    return fail(context, MOE_ERROR_ARGUMENT,
                Message().append("%.*s: expected %u %ss, got NULL",
                                 MOE_PRINT_NAME(info.name), count, kind));
  for (uint32_t i = 0; i < count; ++i)
    if (int status = checkOne(first + i, tensors[i]))
      return status;
  return MOE_OK;
}

//===----------------------------------------------------------------------===//
// Memory of the whole call
//===----------------------------------------------------------------------===//

int CallChecker::checkOverlap(const moe_tensor *in, const moe_tensor *out) {
  for (uint32_t i = 0; i < info.num_outputs; ++i) {
    uint32_t index = info.num_inputs + i;
    Span written = getSpan(out[i]);
    // Later outputs compare themselves with this one.
    for (uint32_t j = 0; j < index; ++j) {
      bool isInput = j < info.num_inputs;
      const moe_tensor &other = isInput ? in[j] : out[j - info.num_inputs];
      if (written.overlaps(getSpan(other)))
        return fail(context, MOE_ERROR_ARGUMENT,
                    startMessage(index).append(
                        "expected memory of its own, got memory that overlaps "
                        "'%.*s' (%s %u)",
                        MOE_PRINT_NAME(info.args[j].name),
                        isInput ? "input" : "output",
                        isInput ? j : j - info.num_inputs));
    }
  }
  return MOE_OK;
}

int CallChecker::checkWorkspace(const moe_tensor *in, const moe_tensor *out,
                                const void *workspace, size_t bytes,
                                size_t needed) {
  if (needed == 0)
    return MOE_OK;
  auto failWith = [&](const Message &found) {
    return fail(context, MOE_ERROR_WORKSPACE,
                Message().append("%.*s: workspace: expected %zu bytes of its "
                                 "own aligned to %zu, got %s",
                                 MOE_PRINT_NAME(info.name), needed, kAlignment,
                                 found.str()));
  };
  if (!workspace)
    return failWith(Message().append("NULL"));
  if (bytes < needed)
    return failWith(Message().append("%zu bytes", bytes));
  uintptr_t begin = reinterpret_cast<uintptr_t>(workspace);
  if (begin % kAlignment != 0)
    return failWith(Message().append("address 0x%llx",
                                     static_cast<unsigned long long>(begin)));
  if (needed > UINTPTR_MAX - begin)
    return failWith(Message().append("memory past the address space"));
  Span span{begin, begin + needed};
  for (uint32_t i = 0; i < info.num_inputs + info.num_outputs; ++i) {
    bool isInput = i < info.num_inputs;
    const moe_tensor &tensor = isInput ? in[i] : out[i - info.num_inputs];
    if (span.overlaps(getSpan(tensor)))
      return failWith(Message().append("memory that overlaps '%.*s' (%s %u)",
                                       MOE_PRINT_NAME(info.args[i].name),
                                       isInput ? "input" : "output",
                                       isInput ? i : i - info.num_inputs));
  }
  return MOE_OK;
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

static Message startMalformed(const moe_entry_info &info) {
  return Message().append("%.*s: malformed description: ",
                          MOE_PRINT_NAME(info.name));
}

int moe::rt::checkInfo(moe_context *context, const moe_entry_info *info) {
  if (!info)
    return fail(context, MOE_ERROR_ARGUMENT,
                Message().append("expected the description of an entry, got "
                                 "NULL"));
  // Nothing else may be read before the version is known.
  if (info->abi_version != MOE_ABI_VERSION)
    return fail(context, MOE_ERROR_ABI,
                Message().append("expected an entry of ABI version %u, got "
                                 "version %u",
                                 MOE_ABI_VERSION, info->abi_version));
  if (info->num_symbols > MOE_MAX_SYMBOLS)
    return fail(context, MOE_ERROR_ABI,
                startMalformed(*info).append("expected at most %d symbols, "
                                             "got %u",
                                             MOE_MAX_SYMBOLS,
                                             info->num_symbols));
  if (info->num_inputs > INT32_MAX || info->num_outputs > INT32_MAX)
    return fail(context, MOE_ERROR_ABI,
                startMalformed(*info).append("%u inputs and %u outputs",
                                             info->num_inputs,
                                             info->num_outputs));
  for (uint32_t i = 0; i < info->num_inputs + info->num_outputs; ++i) {
    const moe_arg_info &arg = info->args[i];
    if (arg.rank < 0 || arg.rank > MOE_MAX_RANK)
      return fail(context, MOE_ERROR_ABI,
                  startMalformed(*info).append(
                      "argument '%.*s': expected rank 0 to %d, got %d",
                      MOE_PRINT_NAME(arg.name), MOE_MAX_RANK, arg.rank));
    for (int32_t d = 0; d < arg.rank; ++d)
      if (arg.shape[d] < -static_cast<int64_t>(info->num_symbols))
        return fail(context, MOE_ERROR_ABI,
                    startMalformed(*info).append(
                        "argument '%.*s': size %d is symbol %lld of %u",
                        MOE_PRINT_NAME(arg.name), d,
                        static_cast<long long>(-1 - arg.shape[d]),
                        info->num_symbols));
  }
  return MOE_OK;
}

int moe::rt::checkInputs(moe_context *context, const moe_entry_info *info,
                         const moe_tensor *in) {
  if (!context)
    return MOE_ERROR_ARGUMENT;
  clearError(context);
  if (int status = checkInfo(context, info))
    return status;
  return CallChecker(context, *info).checkAll("input", in, 0, info->num_inputs);
}

int moe::rt::checkCall(moe_context *context, const moe_entry_info *info,
                       const moe_tensor *in, const moe_tensor *out,
                       const void *workspace, size_t workspaceBytes,
                       size_t workspaceNeeded) {
  if (!context)
    return MOE_ERROR_ARGUMENT;
  clearError(context);
  if (int status = checkInfo(context, info))
    return status;
  CallChecker checker(context, *info);
  if (int status = checker.checkAll("input", in, 0, info->num_inputs))
    return status;
  if (int status =
          checker.checkAll("output", out, info->num_inputs, info->num_outputs))
    return status;
  if (int status = checker.checkOverlap(in, out))
    return status;
  return checker.checkWorkspace(in, out, workspace, workspaceBytes,
                                workspaceNeeded);
}
