//===- Compiler.h - From a module to an object ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One compileToObject stands behind the JIT and ahead-of-time compilation: what
// is tested by one is what the other ships.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EXECUTIONENGINE_COMPILER_H
#define MOE_EXECUTIONENGINE_COMPILER_H

#include "mlir/IR/BuiltinOps.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Runtime/moe_rt.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"
#include <vector>

namespace mlir::moe {
struct GPUPlan;

/// Code of `cuda` is launched by the runtime on whatever GPU a context has.
/// That of `gpuEmulator` is the same with its buffers apart, so that the
/// emulator sees it when one is left.
enum class CompileTarget { cpu, oracle, cuda, gpuEmulator };

/// Whether a target's kernels run on what a context has for a GPU.
inline bool isGPU(CompileTarget target) {
  return target == CompileTarget::cuda || target == CompileTarget::gpuEmulator;
}

struct CompileOptions {
  CompileTarget target = CompileTarget::cpu;
  /// The processor code is made for, as `clang -mcpu` names it; "native" is
  /// this machine's.
  std::string cpu = "native";
  unsigned optLevel = 3;
  /// Passes tell in remarks where they took a slower road. These are warnings,
  /// or errors where this is set.
  bool fallbackIsError = false;
  CPUPipelineOptions pipeline;
  GPUPipelineOptions gpu;
};

/// What a compilation can write.
enum class OutputKind { object, shared, llvmIR, mlir, header };

StringRef stringifyOutputKind(OutputKind kind);
std::optional<OutputKind> symbolizeOutputKind(StringRef name);
/// The kind that the extension of a file name stands for.
std::optional<OutputKind> inferOutputKind(StringRef fileName);

/// True where a function of the module is marked as an entry.
bool hasEntry(ModuleOp module);

/// Runs the target's passes up to a stage; those of cuda have no stage to stop
/// at but the last, and describe what they made in `plan` where there is one.
/// Errors are diagnostics on the module.
LogicalResult lowerModule(ModuleOp module, const CompileOptions &options,
                          Stage last = Stage::llvm, GPUPlan *plan = nullptr);

/// Translates a module of the LLVM dialect and optimises it. The object defines
/// the symbols of its entries and no other.
llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
compileToObject(ModuleOp module, const CompileOptions &options);

/// The same as LLVM assembly text.
llvm::Expected<std::string> compileToLLVMText(ModuleOp module,
                                              const CompileOptions &options);

/// A description of one entry, as compiled into a module of the LLVM dialect.
struct EntryDescription {
  std::string name;
  std::vector<char> bytes;
  const moe_entry_info *get() const {
    return reinterpret_cast<const moe_entry_info *>(bytes.data());
  }
};
/// The entries of a module lowered to stage cpu or llvm.
std::vector<EntryDescription> getEntryDescriptions(ModuleOp module);

/// The C header of a compiled module: prototypes, and what each argument is.
llvm::Expected<std::string>
emitHeader(const std::vector<EntryDescription> &entries, StringRef fileName);

/// Links an object into a shared library that calls itself `name`, by `linker`
/// (a program name or path; empty: the first of cc, clang-22, ld.lld-22,
/// ld.lld, ld that is found). Nothing is left on disk.
llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
linkSharedLibrary(const llvm::MemoryBuffer &object, StringRef name,
                  StringRef linker);

} // namespace mlir::moe

#endif // MOE_EXECUTIONENGINE_COMPILER_H
