//===- moe_rt.h - The runtime's C interface ---------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Everything that compiled layers and their hosts agree on, in plain C:
// tensors, contexts, errors, the description of an entry, and loading. This
// header includes neither MLIR nor LLVM and needs no C++.
//
// A compiled layer NAME exports five symbols:
//   int moe_NAME(moe_context *, const moe_tensor *in, moe_tensor *out,
//                void *workspace, size_t workspace_bytes);
//   int moe_NAME_workspace(moe_context *, const moe_tensor *in, size_t *bytes);
//   int moe_NAME_pack(moe_context *, const moe_tensor *in, moe_tensor *out);
//   const moe_entry_info moe_NAME_info;
//   const moe_entry_info moe_NAME_pack_info;
// The pack entry takes the inputs whose layout is not empty, in their order,
// and writes them as the entry reads them; its description says how.
// It calls the host only through the function table at the head of its
// context, so the object has no undefined symbol besides libc and libm.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUNTIME_MOE_RT_H
#define MOE_RUNTIME_MOE_RT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOE_ABI_VERSION 3u
#define MOE_MAX_RANK 8
#define MOE_MAX_SYMBOLS 8
#define MOE_NAME_BYTES 64
#define MOE_LAYOUT_BYTES 192

/// What every function that can fail returns; zero is success.
typedef enum moe_status {
  MOE_OK = 0,
  MOE_ERROR_ARGUMENT = 1,  ///< Count, rank, shape, dtype, stride or alignment.
  MOE_ERROR_WORKSPACE = 2, ///< Workspace absent, misaligned or too small.
  MOE_ERROR_DATA = 3,      ///< Found in the data: a given id outside E, ...
  MOE_ERROR_BOUND = 4,     ///< A dimension past its declared bound.
  MOE_ERROR_MEMORY = 5,    ///< The host is out of memory.
  MOE_ERROR_LOAD = 6,      ///< A library or symbol cannot be loaded.
  MOE_ERROR_ABI = 7,       ///< Compiled for another version of this header.
  MOE_ERROR_DEVICE = 8     ///< No GPU, or one that refused.
} moe_status;

/// Where the tensors and the workspace of an entry lie, in DLPack's codes.
typedef enum moe_device {
  MOE_DEVICE_CPU = 1,
  MOE_DEVICE_CUDA = 2 ///< Or what stands for it: see moe_gpu.
} moe_device;

/// Element type, with the field layout and type codes of DLPack's DLDataType.
typedef struct moe_dtype {
  uint8_t code; ///< 0 int, 1 uint, 2 float, 4 bfloat, 6 bool.
  uint8_t bits;
  uint16_t lanes; ///< Always 1.
} moe_dtype;

/// A strided view that somebody else owns, binary identical to DLPack's
/// DLTensor. `strides` counts elements; NULL means compact row-major.
typedef struct moe_tensor {
  void *data;
  int32_t device_type; ///< A moe_device.
  int32_t device_id;
  int32_t ndim;
  moe_dtype dtype;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
} moe_tensor;

/// One input or output of an entry. Fixed size and free of pointers, so that a
/// compiled layer carries it as constant bytes.
typedef struct moe_arg_info {
  char name[MOE_NAME_BYTES];
  char layout[MOE_LAYOUT_BYTES]; ///< Text of the layout attribute, or empty.
  moe_dtype dtype;
  int32_t rank;
  /// A static size (>= 0), or -1 - s for a size that equals symbol s.
  int64_t shape[MOE_MAX_RANK];
} moe_arg_info;

/// The description that a compiled layer exports as moe_NAME_info. Dimensions
/// with the same symbol must be equal in one call.
typedef struct moe_entry_info {
  uint32_t abi_version;
  uint32_t num_inputs;
  uint32_t num_outputs;
  uint32_t num_symbols;
  uint32_t device;   ///< A moe_device.
  uint32_t reserved; ///< Zero.
  char name[MOE_NAME_BYTES];
  char symbol_name[MOE_MAX_SYMBOLS][16];
  int64_t symbol_bound[MOE_MAX_SYMBOLS]; ///< Largest legal size.
  moe_arg_info args[];                   ///< Inputs, then outputs.
} moe_entry_info;

typedef struct moe_context moe_context;

/// Runs the iterations [begin, end) of a parallel loop.
typedef void (*moe_task_fn)(void *data, int64_t begin, int64_t end);

/// One launch of a kernel, as compiled code hands it on.
typedef struct moe_launch {
  const void *image; ///< PTX text with its end, or a cubin. Stays where it is.
  uint64_t image_bytes;
  const char *kernel;
  uint32_t grid[3];  ///< Blocks, each at least 1.
  uint32_t block[3]; ///< Threads of a block.
  uint32_t shared_bytes;
  uint32_t num_arguments;
  /// Pointers to the kernel's arguments, as cuLaunchKernel takes them.
  void *const *arguments;
  /// A hash of the image: equal ones are loaded once, wherever they lie. Zeros:
  /// the address stands for the image, which then outlives the GPU.
  uint64_t image_id[2];
} moe_launch;

/// The head of every context: what compiled code calls. A host may bring its
/// own context by laying out these fields first; moe_context_create fills them
/// with the runtime's own. Compiled code never reads beyond them.
struct moe_context {
  uint32_t abi_version;
  uint32_t reserved; ///< Zero in a context that a host brings.
  /// Calls `fn` on disjoint ranges that cover [0, n) and returns when all are
  /// done. Ranges may run on any thread in any order. n <= 0 calls nothing.
  void (*parallel_for)(moe_context *, int64_t n, moe_task_fn fn, void *data);
  /// Checks a call against the description; MOE_OK or an error that is kept.
  /// `workspace_needed` is compared with `workspace_bytes`.
  int (*check)(moe_context *, const moe_entry_info *, const moe_tensor *in,
               const moe_tensor *out, const void *workspace,
               size_t workspace_bytes, size_t workspace_needed);
  /// Checks the inputs alone, before their shapes are used.
  int (*check_inputs)(moe_context *, const moe_entry_info *,
                      const moe_tensor *in);
  /// Keeps an error found by compiled code and returns its code.
  int (*fail)(moe_context *, int status, const char *message);
  /// Starts a kernel on the context's stream, in order.
  int (*launch)(moe_context *, const moe_launch *);
  /// Copies from the device and waits for that and all before it.
  int (*copy_back)(moe_context *, void *host, const void *device,
                   uint64_t bytes);
};

//===----------------------------------------------------------------------===//
// Contexts and errors
//===----------------------------------------------------------------------===//

/// Makes a context with `threads` workers in all, the caller among them; 0 is
/// one a core that this process may run on. On error `*context` is NULL.
int moe_context_create(int threads, moe_context **context);

/// Ends the workers and frees the context; NULL is allowed.
void moe_context_destroy(moe_context *);

/// The number of threads of the runtime's own parallel_for; 0 for a context
/// that moe_context_create did not make.
int moe_context_threads(const moe_context *);

/// Runs parallel loops on the host's pool instead of the runtime's own; NULL
/// puts the runtime's own back. `host` reaches every call.
typedef void (*moe_parallel_for_fn)(void *host, int64_t n, moe_task_fn fn,
                                    void *data);
void moe_context_set_parallel_for(moe_context *, moe_parallel_for_fn fn,
                                  void *host);

/// The message of the last error on this context, or "". It lives until the
/// next call on the context.
const char *moe_context_error(const moe_context *);

/// The name of a status, such as "argument".
const char *moe_status_name(int status);

//===----------------------------------------------------------------------===//
// GPUs
//===----------------------------------------------------------------------===//

/// A GPU, or what stands for one: memory, and streams, which do one thing after
/// the other. A stream is a CUstream; NULL is the default one. Functions return
/// a status; what went wrong is then in `error`, which belongs to the calling
/// thread and lives until its next call. Any number of threads and contexts may
/// share one. Whoever makes one lays out these fields first.
typedef struct moe_gpu moe_gpu;
struct moe_gpu {
  int32_t device_id; ///< As its tensors have it.
  uint32_t reserved; ///< Zero.
  /// Memory aligned to 256 bytes at least; `bytes` is not 0.
  int (*allocate)(moe_gpu *, uint64_t bytes, void **memory);
  /// Nothing on any stream may still use the memory.
  void (*release)(moe_gpu *, void *memory);
  /// Copies, on a stream: `host` stays until that is done.
  int (*write)(moe_gpu *, void *stream, void *device, const void *host,
               uint64_t bytes);
  int (*read)(moe_gpu *, void *stream, void *host, const void *device,
              uint64_t bytes);
  int (*launch)(moe_gpu *, void *stream, const moe_launch *);
  /// Waits for what is on the stream; errors of that show here at the latest.
  int (*synchronize)(moe_gpu *, void *stream);
  /// What comes on `stream` from now on waits for what is on `earlier` now.
  int (*order)(moe_gpu *, void *stream, void *earlier);
  const char *(*error)(moe_gpu *);
  /// Waits for the whole GPU and unloads its images.
  void (*destroy)(moe_gpu *);
};

/// The GPU that entries of MOE_DEVICE_CUDA run on; NULL is none. The context
/// does not own it, and keeps a workspace on it until another is set or the
/// context is destroyed. The stream is the default one again.
void moe_context_set_gpu(moe_context *, moe_gpu *gpu);

/// The stream of the context's GPU on which calls put their copies and kernels.
/// It is the host's, as is the one before, which must still be there: what it
/// has comes first. Set another before destroying one.
int moe_context_set_stream(moe_context *, void *stream);

/// Opens a GPU through NVIDIA's driver, which is looked for at run time, in its
/// primary context. On error `*gpu` is NULL and the context has the message.
int moe_gpu_open_cuda(moe_context *, int device, moe_gpu **gpu);

//===----------------------------------------------------------------------===//
// Compiled layers
//===----------------------------------------------------------------------===//

typedef int (*moe_entry_fn)(moe_context *, const moe_tensor *in,
                            moe_tensor *out, void *workspace,
                            size_t workspace_bytes);
typedef int (*moe_workspace_fn)(moe_context *, const moe_tensor *in,
                                size_t *bytes);
typedef int (*moe_pack_fn)(moe_context *, const moe_tensor *in,
                           moe_tensor *out);

/// What a caller needs of one entry, from a library or from the JIT.
typedef struct moe_entry {
  const moe_entry_info *info;
  moe_entry_fn run;
  moe_workspace_fn workspace;
  moe_pack_fn pack;
  const moe_entry_info *pack_info;
} moe_entry;

typedef struct moe_module moe_module;

/// Loads a shared library that moe-compile wrote.
int moe_module_load(moe_context *, const char *path, moe_module **module);
void moe_module_unload(moe_module *);

/// Looks up entry `name` and refuses another ABI version.
int moe_module_entry(moe_context *, moe_module *, const char *name,
                     moe_entry *entry);

/// Runs an entry with a workspace that the context keeps and grows, for hosts
/// that do not plan their own. Not for several threads on one context.
///
/// Of an entry that runs on a GPU, tensors of MOE_DEVICE_CUDA are used where
/// they lie, on the context's GPU; where all are, the call returns when its
/// work is on the context's stream. Tensors of MOE_DEVICE_CPU are copied there
/// and back, and the call then waits for its results.
int moe_entry_call(moe_context *, const moe_entry *, const moe_tensor *in,
                   uint32_t num_in, moe_tensor *out, uint32_t num_out);

#ifdef __cplusplus
}
#endif

#endif // MOE_RUNTIME_MOE_RT_H
