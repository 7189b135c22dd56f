//===- Linker.cpp - Objects as shared libraries ---------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/ExecutionEngine/Compiler.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"

using namespace mlir;
using namespace mlir::moe;

static llvm::Error makeError(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

/// The program that links, and whether it is a compiler driver.
static llvm::Expected<std::string> findLinker(StringRef linker) {
  SmallVector<StringRef> candidates = {"cc", "clang-22", "ld.lld-22", "ld.lld",
                                       "ld"};
  if (!linker.empty())
    candidates = {linker};
  for (StringRef candidate : candidates)
    if (auto path = llvm::sys::findProgramByName(candidate))
      return *path;
  if (!linker.empty())
    return makeError("no linker '" + linker + "' is installed");
  return makeError("no linker is installed: tried cc, clang-22, ld.lld-22, "
                   "ld.lld and ld; name one by --linker");
}

/// True for ld and its kin by name, false for compilers that call one.
static bool isPlainLinker(StringRef program) {
  StringRef stem = llvm::sys::path::filename(program).split('.').first;
  stem = stem.rtrim("-0123456789");
  return stem.ends_with("ld");
}

namespace {
/// A file in the folder for temporary files, removed at the end of the scope.
class TemporaryFile {
public:
  ~TemporaryFile() {
    if (!path.empty())
      llvm::sys::fs::remove(path);
  }
  llvm::Error create(StringRef suffix) {
    if (std::error_code error =
            llvm::sys::fs::createTemporaryFile("moe-link", suffix, path))
      return makeError("cannot write a temporary file: " + error.message());
    return llvm::Error::success();
  }
  SmallString<128> path;
};
} // namespace

static llvm::Error runLinker(StringRef program, ArrayRef<StringRef> arguments,
                             StringRef messages) {
  std::optional<StringRef> redirects[] = {StringRef(""), messages, messages};
  std::string reason;
  int status = llvm::sys::ExecuteAndWait(program, arguments,
                                         /*Env=*/std::nullopt, redirects,
                                         /*SecondsToWait=*/0,
                                         /*MemoryLimit=*/0, &reason);
  if (status == 0)
    return llvm::Error::success();
  if (reason.empty())
    reason = "exit code " + std::to_string(status);
  auto text = llvm::MemoryBuffer::getFile(messages);
  if (text && !(*text)->getBuffer().trim().empty())
    reason += ": " + (*text)->getBuffer().trim().take_front(2000).str();
  return makeError("linker '" + program + "' failed: " + reason);
}

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
moe::linkSharedLibrary(const llvm::MemoryBuffer &object, StringRef name,
                       StringRef linker) {
  auto program = findLinker(linker);
  if (!program)
    return program.takeError();
  TemporaryFile input, library, messages;
  if (llvm::Error error = input.create("o"))
    return std::move(error);
  if (llvm::Error error = library.create("so"))
    return std::move(error);
  if (llvm::Error error = messages.create("txt"))
    return std::move(error);
  std::error_code code;
  llvm::raw_fd_ostream stream(input.path, code);
  stream << object.getBuffer();
  stream.close();
  if (code || (code = stream.error())) {
    stream.clear_error();
    return makeError("cannot write '" + input.path + "': " + code.message());
  }

  SmallVector<StringRef> arguments = {*program, "-shared", "-o", library.path,
                                      input.path};
  // A layer has no start-up code and needs nothing but libm and libc.
  std::string driverName = ("-Wl,-soname," + name).str();
  if (isPlainLinker(*program))
    arguments.append({"-soname", name});
  else
    arguments.append({driverName, "-nostartfiles", "-Wl,--as-needed",
                      "-Wl,--no-undefined", "-lm"});
  if (llvm::Error error = runLinker(*program, arguments, messages.path))
    return std::move(error);
  auto bytes = llvm::MemoryBuffer::getFile(library.path, /*IsText=*/false,
                                           /*RequiresNullTerminator=*/false,
                                           /*IsVolatile=*/true);
  // A volatile file is read, not mapped: it is about to be removed.
  if (!bytes || (*bytes)->getBufferSize() == 0)
    return makeError("linker '" + *program + "' wrote nothing");
  return std::move(*bytes);
}
