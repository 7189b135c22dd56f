//===- Module.cpp - Loads compiled layers ---------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Check.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <sys/stat.h>

using namespace moe::rt;

/// A loaded library and its path for messages, which follows the struct.
struct moe_module {
  void *handle;

  char *path() { return reinterpret_cast<char *>(this + 1); }
};

/// Opens `path` as a file, where dlopen alone would search system folders for a
/// name without a slash. Returns null and says why in `reason`.
static void *openLibrary(const char *path, Message &reason) {
  struct stat file;
  if (stat(path, &file) != 0) {
    reason.append("%s", std::strerror(errno));
    return nullptr;
  }
  if (!S_ISREG(file.st_mode)) {
    reason.append("not a regular file");
    return nullptr;
  }
  Message located;
  located.append("%s%s", std::strchr(path, '/') ? "" : "./", path);
  void *handle = dlopen(located.str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *error = dlerror();
    reason.append("%s", error ? error : "not a shared library");
  }
  return handle;
}

int moe_module_load(moe_context *context, const char *path,
                    moe_module **module) {
  if (module)
    *module = nullptr;
  if (!context)
    return MOE_ERROR_ARGUMENT;
  clearError(context);
  if (!module || !path || !*path)
    return fail(context, MOE_ERROR_ARGUMENT,
                Message().append("moe_module_load: expected %s",
                                 module ? "a path" : "a place for the module"));

  Message reason;
  void *handle = openLibrary(path, reason);
  if (!handle)
    return fail(context, MOE_ERROR_LOAD,
                Message().append("cannot load '%s': %s", path, reason.str()));
  size_t pathBytes = std::strlen(path) + 1;
  void *memory = std::malloc(sizeof(moe_module) + pathBytes);
  if (!memory) {
    dlclose(handle);
    return fail(context, MOE_ERROR_MEMORY,
                Message().append("cannot load '%s': out of memory", path));
  }
  moe_module *loaded = new (memory) moe_module{handle};
  std::memcpy(loaded->path(), path, pathBytes);
  *module = loaded;
  return MOE_OK;
}

void moe_module_unload(moe_module *module) {
  if (!module)
    return;
  dlclose(module->handle);
  std::free(module);
}

namespace {

/// Finds the four symbols of one entry.
class EntryLookup {
public:
  EntryLookup(moe_context *context, moe_module &module, const char *name)
      : context(context), module(module), name(name) {}

  /// Sets `result` to the symbol moe_NAME`suffix`.
  template <typename T> int find(const char *suffix, T &result) {
    Message symbol;
    symbol.append("moe_%s%s", name, suffix);
    void *address = dlsym(module.handle, symbol.str());
    if (!address)
      return fail(context, MOE_ERROR_LOAD,
                  Message().append("'%s' has no entry '%s': symbol %s is "
                                   "missing",
                                   module.path(), name, symbol.str()));
    result = reinterpret_cast<T>(address);
    return MOE_OK;
  }

private:
  moe_context *context;
  moe_module &module;
  const char *name;
};

} // namespace

int moe_module_entry(moe_context *context, moe_module *module, const char *name,
                     moe_entry *entry) {
  if (entry)
    *entry = moe_entry{};
  if (!context)
    return MOE_ERROR_ARGUMENT;
  clearError(context);
  if (!module || !name || !*name || !entry)
    return fail(context, MOE_ERROR_ARGUMENT,
                Message().append("moe_module_entry: expected %s",
                                 !module  ? "a module"
                                 : !entry ? "a place for the entry"
                                          : "a name"));

  EntryLookup lookup(context, *module, name);
  moe_entry found = {};
  if (int status = lookup.find("_info", found.info))
    return status;
  // The version decides what the other symbols mean.
  if (found.info->abi_version != MOE_ABI_VERSION)
    return fail(context, MOE_ERROR_ABI,
                Message().append("'%s': expected entry '%s' of ABI version %u, "
                                 "got version %u",
                                 module->path(), name, MOE_ABI_VERSION,
                                 found.info->abi_version));
  if (int status = checkInfo(context, found.info))
    return status;
  if (int status = lookup.find("", found.run))
    return status;
  if (int status = lookup.find("_workspace", found.workspace))
    return status;
  if (int status = lookup.find("_pack", found.pack))
    return status;
  if (int status = lookup.find("_pack_info", found.pack_info))
    return status;
  if (int status = checkInfo(context, found.pack_info))
    return status;
  *entry = found;
  return MOE_OK;
}
