//===- Context.h - The runtime's own context --------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUNTIME_CONTEXT_H
#define MOE_LIB_RUNTIME_CONTEXT_H

#include "Support.h"
#include "ThreadPool.h"

// The shared library exports what this header declares and nothing else.
#pragma GCC visibility push(default)
#include "moe/Runtime/moe_rt.h"
#pragma GCC visibility pop

#include <atomic>

namespace moe::rt {

/// What moe_context_create makes: the public head, then the runtime's state.
struct Context : moe_context {
  ThreadPool pool;

  /// Neither is owned.
  moe_gpu *gpu = nullptr;
  void *stream = nullptr;
  /// The workspace of moe_entry_call on the GPU.
  void *deviceWorkspace = nullptr;
  size_t deviceWorkspaceBytes = 0;

  moe_parallel_for_fn hostParallelFor = nullptr;
  void *host = nullptr;

  /// Tasks of one loop may fail at the same time.
  mutable Mutex errorMutex;
  char error[kMessageBytes] = {};

  /// The workspace of moe_entry_call, and whether a call is using it.
  std::atomic<bool> inCall{false};
  void *workspace = nullptr;
  size_t workspaceBytes = 0;

  /// Waits for the stream, which may use it.
  void releaseDeviceWorkspace();

  ~Context() {
    releaseDeviceWorkspace();
    std::free(workspace);
  }
};

/// The runtime's own context behind `context`, or null where the host brought
/// one: beyond its head nothing may be read.
Context *getOwn(moe_context *context);
inline const Context *getOwn(const moe_context *context) {
  return getOwn(const_cast<moe_context *>(context));
}

/// Forgets the last error of a context of the runtime.
void clearError(moe_context *context);

/// Keeps an error through the context's `fail`, as compiled code does. The
/// status stands whatever a host's own `fail` returns.
inline int fail(moe_context *context, int status, const Message &message) {
  context->fail(context, status, message.str());
  return status;
}

} // namespace moe::rt

#endif // MOE_LIB_RUNTIME_CONTEXT_H
