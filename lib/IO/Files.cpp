//===- Files.cpp - Mapped reading, all-or-nothing writing -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Files.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

using namespace moe::io;

namespace {

Error failure(const std::string &path, const std::string &what) {
  return Error{path + ": " + what};
}

Error failure(const std::string &path, const char *what, int code) {
  return failure(path, std::string(what) + ": " + std::strerror(code));
}

class Descriptor {
public:
  explicit Descriptor(int fd) : fd(fd) {}
  ~Descriptor() {
    if (fd >= 0)
      ::close(fd);
  }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  int get() const { return fd; }

  /// Reports what only closing tells, such as a full quota.
  bool close() { return ::close(std::exchange(fd, -1)) == 0; }

private:
  int fd;
};

} // namespace

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

Expected<std::shared_ptr<const MappedFile>>
MappedFile::open(const std::string &path) {
  // O_NONBLOCK: opening a pipe without a writer must not hang.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (file.get() < 0 || fstat(file.get(), &info) != 0)
    return failure(path, "cannot open", errno);
  if (S_ISDIR(info.st_mode))
    return failure(path, "is a directory, not a file");
  if (!S_ISREG(info.st_mode))
    return failure(path, "is not a regular file");
  if (info.st_size == 0)
    return failure(path, "is empty");
  size_t length = size_t(info.st_size);
  void *base =
      mmap(nullptr, length, PROT_READ, MAP_PRIVATE, file.get(), /*offset=*/0);
  if (base == MAP_FAILED)
    return failure(path, "cannot map", errno);
  return std::shared_ptr<const MappedFile>(
      new MappedFile(static_cast<const char *>(base), length));
}

MappedFile::~MappedFile() { munmap(const_cast<char *>(base), length); }

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

namespace {

/// Where a write to a path really goes.
struct Target {
  std::string path; ///< With symbolic links followed.
  mode_t mode = 0666;
  bool exists = false;
};

/// The path without symbolic links, so that one file has one path.
Expected<std::string> realPath(const std::string &path) {
  char *real = realpath(path.c_str(), nullptr);
  if (!real)
    return Error{std::strerror(errno)};
  std::string result = real;
  std::free(real);
  return result;
}

Expected<Target> findTarget(const std::string &path) {
  Target target;
  struct stat info;
  size_t slash = path.rfind('/') + 1; // 0 where there is none.
  if (slash == path.size())
    return Error{"'" + path + "' is no name for an output file"};
  if (lstat(path.c_str(), &info) == 0) {
    target.exists = true;
    // Rename would replace a link itself.
    Expected<std::string> real = realPath(path);
    if (!real)
      return failure(path, "cannot follow the link: " + real.message());
    target.path = *real;
    if (stat(target.path.c_str(), &info) != 0)
      return failure(path, "cannot write", errno);
    if (S_ISDIR(info.st_mode))
      return failure(path, "cannot write: is a directory");
    // Rename would replace a device or pipe by a file.
    if (!S_ISREG(info.st_mode))
      return failure(path, "cannot write: is not a regular file");
    if (access(target.path.c_str(), W_OK) != 0)
      return failure(path, "cannot write", errno);
    target.mode = info.st_mode & 0777;
  } else {
    Expected<std::string> folder =
        realPath(slash ? path.substr(0, slash) : ".");
    if (!folder)
      return failure(path, "cannot write to its folder: " + folder.message());
    target.path = *folder + "/" + path.substr(slash);
  }
  std::string folder = target.path.substr(0, target.path.rfind('/') + 1);
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    return failure(path, "cannot write to its folder", errno);
  return target;
}

bool writeAll(int fd, std::string_view bytes) {
  constexpr size_t kMost = size_t(1) << 30; // Linux writes 2 GiB at most.
  while (!bytes.empty()) {
    ssize_t n = write(fd, bytes.data(), std::min(bytes.size(), kMost));
    if (n < 0 && errno != EINTR)
      return false;
    bytes.remove_prefix(n > 0 ? size_t(n) : 0);
  }
  return true;
}

/// A complete file under a temporary name; removed unless renamed.
class StagedFile {
public:
  StagedFile() = default;
  StagedFile(StagedFile &&other)
      : wanted(std::move(other.wanted)), target(std::move(other.target)),
        temporary(std::exchange(other.temporary, {})) {}
  StagedFile &operator=(StagedFile &&) = delete;
  ~StagedFile() {
    if (!temporary.empty())
      unlink(temporary.c_str());
  }

  Status write(const OutputFile &file) {
    wanted = file.path;
    Expected<Target> found = findTarget(file.path);
    if (!found)
      return found.error();
    target = std::move(*found);
    Descriptor out(create());
    if (out.get() < 0)
      return failure(wanted, "cannot create a temporary file beside it", errno);
    bool written = writeAll(out.get(), file.head);
    for (std::string_view chunk : file.chunks)
      written = written && writeAll(out.get(), chunk);
    if (written && target.exists)
      written = fchmod(out.get(), target.mode) == 0;
    written = written && fsync(out.get()) == 0 && out.close();
    if (!written)
      return failure(wanted, "cannot write", errno);
    return Success();
  }

  const std::string &targetPath() const { return target.path; }

  Status commit() {
    if (rename(temporary.c_str(), target.path.c_str()) != 0)
      return failure(wanted, "cannot rename the finished file", errno);
    temporary.clear();
    return Success();
  }

private:
  std::string wanted;
  Target target;
  std::string temporary;

  int create() {
    std::string stem = target.path + ".tmp-" + std::to_string(getpid());
    for (int attempt = 0; attempt < 100; ++attempt) {
      std::string name = stem + "-" + std::to_string(attempt);
      int fd =
          ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd >= 0)
        temporary = name;
      if (fd >= 0 || errno != EEXIST)
        return fd;
    }
    return -1;
  }
};

} // namespace

Status moe::io::checkWritable(const std::string &path) {
  Expected<Target> target = findTarget(path);
  if (!target)
    return target.error();
  return Success();
}

Status moe::io::writeFiles(const std::vector<OutputFile> &files) {
  std::vector<StagedFile> staged;
  staged.reserve(files.size());
  for (const OutputFile &file : files) {
    staged.emplace_back();
    if (Status status = staged.back().write(file); !status)
      return status;
    for (size_t i = 0; i + 1 < staged.size(); ++i)
      if (staged[i].targetPath() == staged.back().targetPath())
        return failure(file.path, "is to be written twice");
  }
  for (StagedFile &file : staged)
    if (Status status = file.commit(); !status)
      return status;
  return Success();
}
