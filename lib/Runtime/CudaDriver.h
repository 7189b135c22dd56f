//===- CudaDriver.h - NVIDIA's driver, found at run time --------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Types and values are those of the driver's documented C interface, of which
// nothing is needed to compile or link.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUNTIME_CUDADRIVER_H
#define MOE_LIB_RUNTIME_CUDADRIVER_H

#include "Support.h"

namespace moe::rt::cuda {

using Result = int;
using Handle = void *;
using Address = unsigned long long;

constexpr Result kOutOfMemory = 2;
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;
constexpr int kErrorLog = 5, kErrorLogBytes = 6; ///< Options of loading.
constexpr unsigned kEventWithoutTime = 2;

/// The driver's functions; a null one is never called.
struct Driver {
  Result (*init)(unsigned);
  Result (*getVersion)(int *);
  Result (*getCount)(int *);
  Result (*getDevice)(int *, int);
  Result (*getAttribute)(int *, int attribute, int device);
  Result (*retain)(Handle *, int);
  Result (*release)(int);
  Result (*push)(Handle);
  Result (*pop)(Handle *);
  Result (*synchronizeAll)();
  Result (*allocate)(Address *, size_t);
  Result (*free)(Address);
  Result (*toDevice)(Address, const void *, size_t, Handle stream);
  Result (*toHost)(void *, Address, size_t, Handle stream);
  Result (*load)(Handle *, const void *, unsigned, int *options, void **values);
  Result (*unload)(Handle);
  Result (*getFunction)(Handle *, Handle, const char *);
  Result (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned,
                   unsigned, unsigned, Handle stream, void **arguments,
                   void **extra);
  Result (*synchronize)(Handle stream);
  Result (*wait)(Handle stream, Handle event, unsigned);
  Result (*createEvent)(Handle *, unsigned);
  Result (*record)(Handle event, Handle stream);
  Result (*destroyEvent)(Handle);
  Result (*describe)(Result, const char **);

  /// Looks the functions up; the name of the first that is missing, or null.
  const char *open(void *library);
};

/// What a device and its driver can run.
struct Abilities {
  int device = 0;
  int driver = 0;     ///< The CUDA version, 12020 for 12.2.
  int capability = 0; ///< 90 for sm_90.
};

/// Says why an image in PTX cannot run there, by its own head; false where
/// nothing is known against it.
bool explainUnfit(const void *image, size_t bytes, const Abilities &abilities,
                  Message &reason);

} // namespace moe::rt::cuda

#endif // MOE_LIB_RUNTIME_CUDADRIVER_H
