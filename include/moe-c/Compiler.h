//===- Compiler.h - C API for compiling in the process ----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// IR in, functions that can be called out. This header is plain C, includes
// neither MLIR nor LLVM, and its functions are in libMoeC.so. The entries are
// called through the runtime's interface (moe_entry_call of moe_rt.h).
//
// Functions return errors, with everything that the compiler had to say in one
// message. Different threads may compile at the same time.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_C_COMPILER_H
#define MOE_C_COMPILER_H

#include "moe/Runtime/moe_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOE_C_EXPORTED __attribute__((visibility("default")))
#else
#define MOE_C_EXPORTED
#endif

/// Grows by one with every change that breaks callers. Fields at the end of
/// moe_compile_options and new functions do not.
#define MOE_COMPILER_API_VERSION 1u

/// The MOE_COMPILER_API_VERSION that the library was built with.
MOE_C_EXPORTED uint32_t moe_compiler_api_version(void);

/// The project's version, such as "0.1.0".
MOE_C_EXPORTED const char *moe_compiler_version(void);

/// What moe_compiler_compile returns; zero is success.
typedef enum moe_compile_status {
  MOE_COMPILE_OK = 0,
  MOE_COMPILE_ERROR_ARGUMENT = 1, ///< NULL, or an option with no such value.
  MOE_COMPILE_ERROR_SOURCE = 2,   ///< No valid module, or one without an entry.
  MOE_COMPILE_ERROR_LOWERING = 3, ///< The target's passes refused the module.
  MOE_COMPILE_ERROR_CODE = 4      ///< No machine code, or none that loads.
} moe_compile_status;

typedef enum moe_compile_target {
  MOE_COMPILE_TARGET_CPU = 0,
  MOE_COMPILE_TARGET_ORACLE = 1, ///< The naive road; slow, and the judge.
  /// Kernels for NVIDIA's GPUs; a context needs one: moe_context_set_gpu.
  MOE_COMPILE_TARGET_CUDA = 2,
  /// The same for the emulator, with buffers apart: what is read past the end
  /// of one was never written.
  MOE_COMPILE_TARGET_GPU_EMULATOR = 3
} moe_compile_target;

/// Filled by moe_compile_options_init, then changed field by field.
typedef struct moe_compile_options {
  size_t size;       ///< sizeof(moe_compile_options) of the caller.
  int32_t target;    ///< A moe_compile_target.
  int32_t opt_level; ///< 0 to 3.
  const char *cpu;   ///< As `clang -mcpu` names it; NULL is this machine's.
  const char *name;  ///< What messages call the source; NULL is "source".
  /// The entry NAME that NAME_fwd and NAME_bwd are made of beside the others,
  /// as moe-generate-vjp makes them; empty for the only one, NULL for none.
  const char *gradients_of;
  /// The names of its arguments to differentiate by, with commas between them;
  /// NULL or empty: all that are floating-point.
  const char *gradients_wrt;
  const char *gradients_save; ///< "minimal" (NULL) or "recompute".
  const char *chip;           ///< The GPU of target cuda, "sm_80" (NULL), ...
  /// Not 0: f32 is multiplied as tf32, of 11 bits, on tensor cores of a GPU.
  int32_t tf32;
  /// Not 0: on a GPU no row's result depends on how many rows its expert has;
  /// decoding is slower.
  int32_t batch_invariant;
  /// Not 0: entries for the CPU take expert weights packed; their pack function
  /// makes these of stored ones.
  int32_t pack_weights;
} moe_compile_options;

/// Sets the defaults: target cpu, level 3, this machine's processor. `size` is
/// the caller's sizeof(moe_compile_options), and no more is written.
MOE_C_EXPORTED void moe_compile_options_init(moe_compile_options *options,
                                             size_t size);

/// The compiled entries of one source.
typedef struct moe_compiled moe_compiled;

/// Compiles IR, text or bytecode of `length` bytes, which need not end in a
/// zero. `options` may be NULL. `*message` becomes NULL or text to be freed
/// by moe_message_free: the errors, or after a success the warnings and
/// remarks. A caller with no interest in it passes NULL. On error `*compiled`
/// is NULL. Returns a moe_compile_status.
MOE_C_EXPORTED int moe_compiler_compile(const char *source, size_t length,
                                        const moe_compile_options *options,
                                        moe_compiled **compiled,
                                        char **message);

/// Frees the code: no entry of it may be running or be called later. NULL is
/// allowed.
MOE_C_EXPORTED void moe_compiled_destroy(moe_compiled *compiled);

/// The number of entries; at least one.
MOE_C_EXPORTED size_t moe_compiled_num_entries(const moe_compiled *compiled);

/// An entry in the order of the source, or NULL past the last one. It lives as
/// long as `compiled`; its name is entry->info->name.
MOE_C_EXPORTED const moe_entry *
moe_compiled_get_entry(const moe_compiled *compiled, size_t index);

/// The entry of that name, or NULL.
MOE_C_EXPORTED const moe_entry *
moe_compiled_find_entry(const moe_compiled *compiled, const char *name);

/// Frees a message; NULL is allowed.
MOE_C_EXPORTED void moe_message_free(char *message);

#ifdef __cplusplus
}
#endif

#endif // MOE_C_COMPILER_H
