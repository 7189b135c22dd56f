//===- CudaDriver.cpp - NVIDIA's driver, found at run time ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CudaDriver.h"

#include <cstring>
#include <dlfcn.h>

using namespace moe::rt;
using namespace moe::rt::cuda;

const char *Driver::open(void *library) {
  const struct {
    void *place;
    const char *name;
  } functions[] = {
      {&init, "cuInit"},
      {&getVersion, "cuDriverGetVersion"},
      {&getCount, "cuDeviceGetCount"},
      {&getDevice, "cuDeviceGet"},
      {&getAttribute, "cuDeviceGetAttribute"},
      {&retain, "cuDevicePrimaryCtxRetain"},
      {&release, "cuDevicePrimaryCtxRelease_v2"},
      {&push, "cuCtxPushCurrent_v2"},
      {&pop, "cuCtxPopCurrent_v2"},
      {&synchronizeAll, "cuCtxSynchronize"},
      {&allocate, "cuMemAlloc_v2"},
      {&free, "cuMemFree_v2"},
      {&toDevice, "cuMemcpyHtoDAsync_v2"},
      {&toHost, "cuMemcpyDtoHAsync_v2"},
      {&load, "cuModuleLoadDataEx"},
      {&unload, "cuModuleUnload"},
      {&getFunction, "cuModuleGetFunction"},
      {&launch, "cuLaunchKernel"},
      {&synchronize, "cuStreamSynchronize"},
      {&wait, "cuStreamWaitEvent"},
      {&createEvent, "cuEventCreate"},
      {&record, "cuEventRecord"},
      {&destroyEvent, "cuEventDestroy_v2"},
      {&describe, "cuGetErrorString"},
  };
  for (const auto &function : functions) {
    void *found = dlsym(library, function.name);
    if (!found)
      return function.name;
    std::memcpy(function.place, &found, sizeof found);
  }
  return nullptr;
}

//===----------------------------------------------------------------------===//
// What an image needs
//===----------------------------------------------------------------------===//

namespace {

/// The first release of CUDA whose driver reads a version of PTX.
struct Release {
  int ptx;
  int cuda;
};
constexpr Release kReleases[] = {
    {70, 11000}, {71, 11010}, {72, 11020}, {73, 11030}, {74, 11040},
    {75, 11050}, {76, 11060}, {77, 11070}, {78, 11080}, {80, 12000},
    {81, 12010}, {82, 12020}, {83, 12030}, {84, 12040}, {85, 12050},
    {86, 12070}, {87, 12080}, {88, 12090}, {90, 13000},
};

/// The head of PTX text.
struct Head {
  int version = 0; ///< 78 for 7.8.
  int chip = 0;    ///< 90 for sm_90a.
  char suffix = 0; ///< 'a' of sm_90a.
};

/// Reads directives off the front of a text that need not end.
class HeadReader {
public:
  HeadReader(const char *text, size_t bytes) : at(text), end(text + bytes) {}

  bool read(Head &head) {
    int major = 0, minor = 0;
    if (!skip(".version ") || !number(major) || !skip(".") || !number(minor) ||
        !skip(".target sm_") || !number(head.chip))
      return false;
    head.version = major * 10 + minor;
    if (at != end && *at >= 'a' && *at <= 'z')
      head.suffix = *at;
    return true;
  }

private:
  /// Passes blanks, comments of a line, and then `word`.
  bool skip(const char *word) {
    auto isBlank = [](char c) { return c == ' ' || c == '\n' || c == '\t'; };
    while (at != end && (isBlank(*at) || *at == '/'))
      if (*at == '/')
        while (at != end && *at != '\n')
          ++at;
      else
        ++at;
    for (; *word; ++word, ++at)
      if (at == end || *at != *word)
        return false;
    return true;
  }
  bool number(int &value) {
    const char *begin = at;
    for (value = 0; at != end && *at >= '0' && *at <= '9' && at - begin < 4;
         ++at)
      value = value * 10 + (*at - '0');
    return at != begin;
  }

  const char *at;
  const char *end;
};

} // namespace

/// Whether code for a chip runs on a device: on later ones too, unless it is
/// for one chip or family alone.
static bool runsOn(const Head &head, int capability) {
  if (head.suffix == 'a')
    return capability == head.chip;
  if (head.suffix == 'f')
    return capability >= head.chip && capability / 10 == head.chip / 10;
  return capability >= head.chip;
}

bool moe::rt::cuda::explainUnfit(const void *image, size_t bytes,
                                 const Abilities &abilities, Message &reason) {
  Head head;
  if (!HeadReader(static_cast<const char *>(image), bytes).read(head))
    return false;
  int needed = 0;
  for (const Release &release : kReleases)
    if (release.ptx == head.version)
      needed = release.cuda;
  if (needed > abilities.driver) {
    reason.append("the NVIDIA driver is too old: PTX %d.%d needs one of CUDA "
                  "%d.%d, and this is of CUDA %d.%d",
                  head.version / 10, head.version % 10, needed / 1000,
                  needed % 1000 / 10, abilities.driver / 1000,
                  abilities.driver % 1000 / 10);
    return true;
  }
  char suffix[2] = {head.suffix, '\0'};
  if (!runsOn(head, abilities.capability)) {
    reason.append("kernels for sm_%d%s do not run on GPU %d, which is sm_%d: "
                  "compile them for its chip",
                  head.chip, suffix, abilities.device, abilities.capability);
    return true;
  }
  return false;
}
