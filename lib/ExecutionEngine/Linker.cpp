//===- Linker.cpp - Shared libraries, files written whole ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/ExecutionEngine/Compiler.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"

using namespace mlir;
using namespace mlir::moe;

static llvm::Error makeError(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

llvm::Error moe::writeFile(StringRef path, StringRef contents) {
  if (path == "-") {
    llvm::outs() << contents;
    llvm::outs().flush();
    return llvm::Error::success();
  }
  // A temporary file in the same folder, renamed when it is complete.
  llvm::Error error =
      llvm::writeToOutput(path, [&](llvm::raw_ostream &stream) {
        stream << contents;
        return llvm::Error::success();
      });
  if (error)
    return makeError("cannot write '" + path +
                     "': " + llvm::toString(std::move(error)));
  return llvm::Error::success();
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

llvm::Error moe::linkSharedLibrary(const llvm::MemoryBuffer &object,
                                   StringRef output, StringRef linker) {
  auto program = findLinker(linker);
  if (!program)
    return program.takeError();
  SmallString<128> objectPath, libraryPath, errorPath;
  if (std::error_code error = llvm::sys::fs::createTemporaryFile(
          "moe-layer", "o", objectPath))
    return makeError("cannot write a temporary file: " + error.message());
  llvm::FileRemover removeObject(objectPath);
  if (std::error_code error = llvm::sys::fs::createTemporaryFile(
          "moe-link", "txt", errorPath))
    return makeError("cannot write a temporary file: " + error.message());
  llvm::FileRemover removeErrors(errorPath);
  if (llvm::Error error = writeFile(objectPath, object.getBuffer()))
    return error;
  // Next to the result, so that the last step is a rename.
  if (std::error_code error =
          llvm::sys::fs::createUniqueFile(output + ".%%%%%%", libraryPath))
    return makeError("cannot write '" + output + "': " + error.message());
  llvm::FileRemover removeLibrary(libraryPath);

  bool isDriver = !llvm::sys::path::filename(*program).contains("ld");
  SmallVector<StringRef> arguments = {*program, "-shared", "-o", libraryPath,
                                      objectPath};
  if (isDriver)
    arguments.push_back("-lm");
  std::optional<StringRef> redirects[] = {StringRef(""), StringRef(errorPath),
                                          StringRef(errorPath)};
  std::string message;
  int status = llvm::sys::ExecuteAndWait(*program, arguments,
                                         /*Env=*/std::nullopt, redirects,
                                         /*SecondsToWait=*/0,
                                         /*MemoryLimit=*/0, &message);
  if (status != 0) {
    if (auto text = llvm::MemoryBuffer::getFile(errorPath))
      message += (*text)->getBuffer().take_front(2000).str();
    return makeError("linker '" + *program + "' failed: " + message);
  }
  auto permissions = llvm::sys::fs::all_read | llvm::sys::fs::all_exe |
                     llvm::sys::fs::owner_write;
  (void)llvm::sys::fs::setPermissions(libraryPath, permissions);
  if (std::error_code error = llvm::sys::fs::rename(libraryPath, output))
    return makeError("cannot write '" + output + "': " + error.message());
  removeLibrary.releaseFile();
  return llvm::Error::success();
}
