//===- FallbackHandler.h - Remarks as warnings or errors --------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EXECUTIONENGINE_FALLBACKHANDLER_H
#define MOE_LIB_EXECUTIONENGINE_FALLBACKHANDLER_H

#include "mlir/IR/Diagnostics.h"

namespace mlir::moe {

/// While it lives, remarks reach the other handlers of the context as warnings
/// or errors. Everything else passes through and errors are counted.
class FallbackHandler : public ScopedDiagnosticHandler {
public:
  FallbackHandler(MLIRContext *context, bool areErrors)
      : ScopedDiagnosticHandler(context), areErrors(areErrors) {
    setHandler([this](Diagnostic &diag) { return handle(diag); });
  }

  unsigned getNumErrors() const { return numErrors; }

private:
  LogicalResult handle(Diagnostic &diag) {
    if (diag.getSeverity() == DiagnosticSeverity::Error)
      ++numErrors;
    if (diag.getSeverity() != DiagnosticSeverity::Remark)
      return failure();
    // Emitted anew, and seen here again: a severity cannot be changed.
    InFlightDiagnostic again = areErrors ? emitError(diag.getLocation())
                                         : emitWarning(diag.getLocation());
    again << diag.str();
    if (areErrors)
      again << " [--Werror=fallback]";
    for (Diagnostic &note : diag.getNotes())
      again.attachNote(note.getLocation()) << note.str();
    return success();
  }

  bool areErrors;
  unsigned numErrors = 0;
};

} // namespace mlir::moe

#endif // MOE_LIB_EXECUTIONENGINE_FALLBACKHANDLER_H
