/*===- dialect.c - The dialect through MLIR's C API
------------------------===*\
|*                                                                            *|
|* Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.      *|
|* See LICENSE for license information.                                       *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

/* RUN: %moe_cc %s %capi_flags -lMoeC -o %t
 * RUN: %t | FileCheck %s
 */

#include "mlir-c/Dialect/Func.h"
#include "moe-c/Dialects.h"

#include <stdio.h>

static void print(MlirStringRef text, void *file) {
  fwrite(text.data, 1, text.length, file);
}

int main(void) {
  MlirContext context = mlirContextCreate();
  MlirDialectHandle moe = mlirGetDialectHandle__moe__();
  mlirDialectHandleRegisterDialect(moe, context);
  mlirDialectHandleLoadDialect(mlirGetDialectHandle__func__(), context);

  // CHECK: namespace: moe
  printf("namespace: ");
  print(mlirDialectHandleGetNamespace(moe), stdout);
  printf("\n");
  fflush(stdout);

  MlirModule module = mlirModuleCreateParse(
      context, mlirStringRefCreateFromCString(
                   "func.func @f(%x: tensor<?x4xf32>, %w: tensor<8x4xf32>)"
                   "    -> tensor<?x8xf32> {"
                   "  %0 = moe.gate %x, %w"
                   "    : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>"
                   "  return %0 : tensor<?x8xf32>"
                   "}"));
  if (mlirModuleIsNull(module))
    return 1;
  // CHECK: %[[LOGITS:.+]] = moe.gate %{{.+}}, %{{.+}} :
  // CHECK-NEXT: return %[[LOGITS]]
  mlirOperationPrint(mlirModuleGetOperation(module), print, stdout);
  mlirModuleDestroy(module);

  // CHECK: error: moe.gate without operands
  fflush(stdout);
  MlirModule wrong = mlirModuleCreateParse(
      context, mlirStringRefCreateFromCString("\"moe.gate\"() : () -> ()"));
  printf("%s: moe.gate without operands\n",
         mlirModuleIsNull(wrong) ? "error" : "accepted");
  mlirContextDestroy(context);
  return 0;
}
