//===- Check.h - Checks a call against its description ----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUNTIME_CHECK_H
#define MOE_LIB_RUNTIME_CHECK_H

#include "Context.h"

namespace moe::rt {

/// The `check` and `check_inputs` of a context. Both report through its `fail`
/// alone, so a host that brings its own context may use them in it.
int checkCall(moe_context *context, const moe_entry_info *info,
              const moe_tensor *in, const moe_tensor *out,
              const void *workspace, size_t workspaceBytes,
              size_t workspaceNeeded);
int checkInputs(moe_context *context, const moe_entry_info *info,
                const moe_tensor *in);

/// Refuses a description of another ABI version or one that cannot be true.
int checkInfo(moe_context *context, const moe_entry_info *info);

/// The text of a name that fills its field to the last byte is not terminated:
/// print names by these, as in printf("%.*s", MOE_PRINT_NAME(info->name)).
template <size_t size> int nameLength(const char (&name)[size]) {
  size_t length = 0;
  while (length < size && name[length])
    ++length;
  return static_cast<int>(length);
}
#define MOE_PRINT_NAME(name) ::moe::rt::nameLength(name), name

} // namespace moe::rt

#endif // MOE_LIB_RUNTIME_CHECK_H
