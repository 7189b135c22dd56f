//===- Call.cpp - Runs an entry for hosts that plan no memory -------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Check.h"
#include "Stage.h"

using namespace moe::rt;

namespace {

/// Claims the workspace of a context for one call.
class CallScope {
public:
  explicit CallScope(Context &context)
      : context(context),
        claimed(!context.inCall.exchange(true, std::memory_order_acquire)) {}
  CallScope(const CallScope &) = delete;
  CallScope &operator=(const CallScope &) = delete;
  ~CallScope() {
    if (claimed)
      context.inCall.store(false, std::memory_order_release);
  }

  explicit operator bool() const { return claimed; }

private:
  Context &context;
  bool claimed;
};

} // namespace

static int checkCounts(moe_context *context, const moe_entry_info &info,
                       uint32_t numIn, uint32_t numOut) {
  if (numIn == info.num_inputs && numOut == info.num_outputs)
    return MOE_OK;
  return fail(context, MOE_ERROR_ARGUMENT,
              Message().append("%.*s: expected %u inputs and %u outputs, got "
                               "%u and %u",
                               MOE_PRINT_NAME(info.name), info.num_inputs,
                               info.num_outputs, numIn, numOut));
}

/// Makes the workspace at least `bytes` large. What it held is dropped first:
/// no call relies on it, and both at once may not fit.
static int growWorkspace(Context &context, const moe_entry_info &info,
                         size_t bytes) {
  if (bytes <= context.workspaceBytes)
    return MOE_OK;
  std::free(context.workspace);
  context.workspaceBytes = 0;
  context.workspace = allocateAligned(bytes);
  if (!context.workspace)
    return fail(&context, MOE_ERROR_MEMORY,
                Message().append("%.*s: out of memory for a workspace of %zu "
                                 "bytes",
                                 MOE_PRINT_NAME(info.name), bytes));
  context.workspaceBytes = bytes;
  return MOE_OK;
}

/// Returns `status` and makes sure that an error has a message.
static int finish(Context &context, const moe_entry_info &info, int status) {
  bool explained;
  {
    Lock lock(context.errorMutex);
    explained = context.error[0] != '\0';
  }
  if (status == MOE_OK || explained)
    return status;
  return fail(&context, status,
              Message().append("%.*s: failed with status %d (%s)",
                               MOE_PRINT_NAME(info.name), status,
                               moe_status_name(status)));
}

int moe_entry_call(moe_context *context, const moe_entry *entry,
                   const moe_tensor *in, uint32_t numIn, moe_tensor *out,
                   uint32_t numOut) {
  if (!context)
    return MOE_ERROR_ARGUMENT;
  Context *own = getOwn(context);
  if (!own)
    return fail(context, MOE_ERROR_ARGUMENT,
                Message().append("moe_entry_call: expected a context of "
                                 "moe_context_create"));
  CallScope scope(*own);
  if (!scope)
    return fail(context, MOE_ERROR_ARGUMENT,
                Message().append("moe_entry_call: another call is running on "
                                 "this context"));
  clearError(context);
  if (!entry || !entry->run || !entry->workspace)
    return fail(context, MOE_ERROR_ARGUMENT,
                Message().append("moe_entry_call: expected an entry with its "
                                 "functions"));
  if (int status = checkInfo(context, entry->info))
    return status;
  const moe_entry_info &info = *entry->info;
  if (int status = checkCounts(context, info, numIn, numOut))
    return status;

  if (info.device != MOE_DEVICE_CPU)
    return finish(*own, info, callOnGPU(*own, *entry, in, out));

  // The entry's own functions check the tensors.
  size_t bytes = 0;
  if (int status = entry->workspace(context, in, &bytes))
    return finish(*own, info, status);
  if (int status = growWorkspace(*own, info, bytes))
    return status;
  return finish(
      *own, info,
      entry->run(context, in, out, own->workspace, own->workspaceBytes));
}
