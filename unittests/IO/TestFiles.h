//===- TestFiles.h - Files for the tests of readers -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_UNITTESTS_IO_TESTFILES_H
#define MOE_UNITTESTS_IO_TESTFILES_H

#include "gtest/gtest.h"

#include <cstdlib>
#include <dirent.h>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace moe::test {

/// A test in an empty folder of its own, removed afterwards.
class FolderTest : public ::testing::Test {
protected:
  void SetUp() override {
    const char *base = std::getenv("TMPDIR");
    folder = std::string(base ? base : "/tmp") + "/moe-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
  }
  void TearDown() override { remove(folder); }

  std::string path(const std::string &name) const {
    return folder + "/" + name;
  }
  std::string write(const std::string &name, const std::string &bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }
  static std::string read(const std::string &file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    DIR *dir = opendir(folder.c_str());
    while (dirent *entry = readdir(dir))
      if (entry->d_name[0] != '.')
        result.push_back(entry->d_name);
    closedir(dir);
    return result;
  }

  std::string folder;

private:
  static void remove(const std::string &target) {
    struct stat info;
    if (lstat(target.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
      DIR *dir = opendir(target.c_str());
      while (dirent *entry = readdir(dir)) {
        std::string name = entry->d_name;
        if (name != "." && name != "..")
          remove(target + "/" + name);
      }
      closedir(dir);
      rmdir(target.c_str());
      return;
    }
    unlink(target.c_str());
  }
};

/// `value` as `bytes` little-endian bytes.
inline std::string littleEndian(uint64_t value, unsigned bytes) {
  std::string result;
  for (unsigned i = 0; i < bytes; ++i)
    result += char(value >> (8 * i) & 0xff);
  return result;
}

template <typename T> std::string bytesOf(const std::vector<T> &values) {
  return {reinterpret_cast<const char *>(values.data()),
          values.size() * sizeof(T)};
}

inline std::string npyBytes(const std::string &header, const std::string &data,
                            char version = 1) {
  return std::string("\x93NUMPY") + version + '\0' +
         littleEndian(header.size(), version == 1 ? 2 : 4) + header + data;
}

inline std::string npyBytes(const std::string &descr, const std::string &shape,
                            const std::string &data, char version) {
  return npyBytes("{'descr': '" + descr +
                      "', 'fortran_order': False, 'shape': " + shape + ", }\n",
                  data, version);
}

inline std::string safetensorsBytes(const std::string &header,
                                    const std::string &data) {
  return littleEndian(header.size(), 8) + header + data;
}

/// The header's text for one tensor.
inline std::string entryText(const std::string &name, const std::string &dtype,
                             const std::string &shape, uint64_t begin,
                             uint64_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(end) + "]}";
}

template <typename T> std::vector<T> values(const T *data, int64_t count) {
  return std::vector<T>(data, data + count);
}

} // namespace moe::test

#endif // MOE_UNITTESTS_IO_TESTFILES_H
