//===- Dialects.cpp - C API for registering the dialect -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe-c/Dialects.h"
#include "mlir/CAPI/Registration.h"
#include "moe/Dialect/Moe/IR/Moe.h"

MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Moe, moe, mlir::moe::MoeDialect)
