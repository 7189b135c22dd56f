//===- Moe.cpp - The Python extension moe_mlir._moe -----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Compiled entries and their calls, one to one with the C interfaces of the
// compiler and the runtime. The package's Python code does the rest: names,
// keyword arguments, results.
//
//===----------------------------------------------------------------------===//

#include "moe-c/Compiler.h"
#include "moe/Emulator/GPU.h"
#include "moe/Runtime/moe_rt.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

/// An argument of the caller's that no check of the runtime saw.
[[noreturn]] void throwValueError(const std::string &text) {
  throw nb::value_error(text.c_str());
}

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

/// Becomes the Python exception CompileError.
class CompileFailure : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

struct Deleter {
  void operator()(moe_compiled *compiled) const {
    moe_compiled_destroy(compiled);
  }
  void operator()(moe_context *context) const { moe_context_destroy(context); }
  void operator()(moe_gpu *gpu) const { gpu->destroy(gpu); }
  void operator()(char *message) const { moe_message_free(message); }
};

/// The code of one source; entries share it.
using Code = std::shared_ptr<moe_compiled>;

class Module {
public:
  /// `gradients` is of moe_compile_options: the entry, the arguments, what is
  /// saved.
  Module(nb::bytes source, const std::string &target, const std::string &name,
         const std::optional<std::array<std::string, 3>> &gradients,
         const std::optional<std::string> &chip, bool tf32, bool batchInvariant,
         bool packWeights);

  std::vector<std::string> entryNames() const {
    std::vector<std::string> names;
    for (size_t i = 0; i < moe_compiled_num_entries(code.get()); ++i)
      names.push_back(moe_compiled_get_entry(code.get(), i)->info->name);
    return names;
  }

  /// The GPU that all entries share, opened for the first of them. `context`
  /// is for the error.
  const std::shared_ptr<moe_gpu> &getGPU(moe_context *context);

  Code code;
  bool isEmulated = false; ///< What is compiled for a GPU runs by emulation.
  std::string warnings;

private:
  std::shared_ptr<moe_gpu> gpu;
};

const std::shared_ptr<moe_gpu> &Module::getGPU(moe_context *context) {
  if (gpu)
    return gpu;
  moe_gpu *opened = nullptr;
  if (isEmulated)
    opened = moe::emulator::createGPU();
  else if (moe_gpu_open_cuda(context, /*device=*/0, &opened) != MOE_OK)
    throw std::runtime_error(moe_context_error(context));
  if (!opened)
    throw std::bad_alloc();
  gpu = std::shared_ptr<moe_gpu>(opened, Deleter());
  return gpu;
}

Module::Module(nb::bytes source, const std::string &target,
               const std::string &name,
               const std::optional<std::array<std::string, 3>> &gradients,
               const std::optional<std::string> &chip, bool tf32,
               bool batchInvariant, bool packWeights) {
  moe_compile_options options;
  moe_compile_options_init(&options, sizeof options);
  options.name = name.c_str();
  if (target == "oracle")
    options.target = MOE_COMPILE_TARGET_ORACLE;
  else if (target == "cuda")
    options.target = MOE_COMPILE_TARGET_CUDA;
  else if (target == "gpu-emulator")
    options.target = MOE_COMPILE_TARGET_GPU_EMULATOR;
  else if (target != "cpu")
    throwValueError("there is no target '" + target +
                    "'; expected 'cpu', 'oracle', 'cuda' or 'gpu-emulator'");
  isEmulated = target == "gpu-emulator";
  if (chip)
    options.chip = chip->c_str();
  options.tf32 = tf32;
  options.batch_invariant = batchInvariant;
  options.pack_weights = packWeights;
  if (gradients) {
    options.gradients_of = (*gradients)[0].c_str();
    options.gradients_wrt = (*gradients)[1].c_str();
    options.gradients_save = (*gradients)[2].c_str();
  }
  moe_compiled *compiled = nullptr;
  char *text = nullptr;
  int status;
  {
    nb::gil_scoped_release release;
    status = moe_compiler_compile(source.c_str(), source.size(), &options,
                                  &compiled, &text);
  }
  std::unique_ptr<char, Deleter> message(text);
  std::string found = text ? text : "";
  if (status == MOE_COMPILE_ERROR_ARGUMENT)
    throwValueError(found);
  if (status != MOE_COMPILE_OK)
    throw CompileFailure(found);
  code = Code(compiled, Deleter());
  warnings = found;
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

/// The name of an element type, as MLIR and NumPy do not differ on.
std::string dtypeName(moe_dtype type) {
  if (type.code == 6)
    return "bool";
  const char *kind = type.code == 0   ? "int"
                     : type.code == 1 ? "uint"
                     : type.code == 4 ? "bfloat"
                                      : "float";
  return kind + std::to_string(type.bits);
}

/// An input or result of an entry, as the package's Argument is made of.
nb::tuple describe(const moe_entry_info &info, const moe_arg_info &arg) {
  nb::list shape;
  for (int32_t d = 0; d < arg.rank; ++d) {
    if (arg.shape[d] >= 0)
      shape.append(arg.shape[d]);
    else
      shape.append(nb::str(info.symbol_name[-1 - arg.shape[d]]));
  }
  return nb::make_tuple(nb::str(arg.name), dtypeName(arg.dtype),
                        nb::tuple(shape), nb::str(arg.layout));
}

/// An entry with a context of its own.
class Entry {
public:
  Entry(Module &module, const std::string &name, int threads)
      : code(module.code) {
    const moe_entry *found = moe_compiled_find_entry(code.get(), name.c_str());
    if (!found)
      throwValueError("there is no entry '" + name + "'");
    entry = *found;
    moe_context *created = nullptr;
    int status = moe_context_create(threads, &created);
    context.reset(created);
    if (status == MOE_ERROR_ARGUMENT)
      throwValueError("threads: " + std::to_string(threads) +
                      " is no possible number");
    if (status == MOE_ERROR_MEMORY)
      throw std::bad_alloc();
    if (status != MOE_OK)
      throw std::runtime_error("no context of " + std::to_string(threads) +
                               " threads: " + moe_status_name(status));
    if (entry.info->device != MOE_DEVICE_CPU) {
      gpu = module.getGPU(created);
      moe_context_set_gpu(created, gpu.get());
    }
  }

  const moe_entry_info &info() const { return *entry.info; }
  const moe_entry_info &packInfo() const { return *entry.pack_info; }
  int threads() const { return moe_context_threads(context.get()); }

  static nb::list describeArgs(const moe_entry_info &info, bool inputs) {
    nb::list list;
    uint32_t first = inputs ? 0 : info.num_inputs;
    uint32_t count = inputs ? info.num_inputs : info.num_outputs;
    for (uint32_t i = 0; i < count; ++i)
      list.append(describe(info, info.args[first + i]));
    return list;
  }

  static nb::list describeSymbols(const moe_entry_info &info) {
    nb::list list;
    for (uint32_t s = 0; s < info.num_symbols; ++s)
      list.append(
          nb::make_tuple(nb::str(info.symbol_name[s]), info.symbol_bound[s]));
    return list;
  }

  /// Runs `function(context, entry)` while no other thread does; an error
  /// becomes an exception with the runtime's message.
  template <typename Function> void runLocked(Function function) {
    std::string message;
    int status;
    {
      // In this order: a thread that waits for the lock must not keep others
      // from Python.
      nb::gil_scoped_release release;
      std::lock_guard<std::mutex> lock(mutex);
      status = function(context.get(), entry);
      if (status != MOE_OK)
        message = moe_context_error(context.get());
    }
    switch (status) {
    case MOE_OK:
      return;
    case MOE_ERROR_ARGUMENT:
    case MOE_ERROR_BOUND:
    case MOE_ERROR_DATA:
      throwValueError(message);
    case MOE_ERROR_MEMORY:
      PyErr_SetString(PyExc_MemoryError, message.c_str());
      throw nb::python_error();
    default:
      throw std::runtime_error(message);
    }
  }

private:
  Code code;
  std::shared_ptr<moe_gpu> gpu; // Outlives the context.
  std::unique_ptr<moe_context, Deleter> context;
  moe_entry entry;
  std::mutex mutex;
};

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

/// A tensor view of an array that stays alive through it.
template <typename... Flags> struct View {
  nb::ndarray<Flags...> array;
  moe_tensor tensor;
};

/// Takes an array as it is, without a copy. `isBF16` says that its elements are
/// bf16 in the place of u16, which NumPy's own types cannot.
template <typename... Flags>
View<Flags...> makeView(nb::handle object, bool isBF16,
                        const moe_arg_info &arg) {
  View<Flags...> view;
  if (!nb::try_cast(object, view.array, /*convert=*/false))
    throwValueError("argument '" + std::string(arg.name) +
                    "': the array has an element type, strides or a memory "
                    "that cannot be shared");
  auto &array = view.array;
  nb::dlpack::dtype dtype = array.dtype();
  moe_dtype type = {dtype.code, dtype.bits, dtype.lanes};
  bool isU16 = type.code == 1 && type.bits == 16;
  if (isU16 && (isBF16 || arg.dtype.code == 4))
    type.code = 4;
  view.tensor = {const_cast<void *>(static_cast<const void *>(array.data())),
                 array.device_type(),
                 array.device_id(),
                 static_cast<int32_t>(array.ndim()),
                 type,
                 const_cast<int64_t *>(array.shape_ptr()),
                 const_cast<int64_t *>(array.stride_ptr()),
                 /*byte_offset=*/0};
  return view;
}

using InputView = View<nb::ro>;
using OutputView = View<>;

/// One call: inputs that were found to fit, then outputs.
class Call {
public:
  Call(Entry &entry, nb::list arrays, const std::vector<bool> &areBF16)
      : entry(entry) {
    const moe_entry_info &info = entry.info();
    if (arrays.size() != info.num_inputs || areBF16.size() != arrays.size())
      throwValueError("expected " + std::to_string(info.num_inputs) +
                      " inputs");
    for (uint32_t i = 0; i < info.num_inputs; ++i) {
      views.push_back(makeView<nb::ro>(arrays[i], areBF16[i], info.args[i]));
      in.push_back(views.back().tensor);
    }
    std::vector<moe_tensor> staged = in;
    if (info.device != MOE_DEVICE_CPU)
      for (moe_tensor &tensor : staged)
        moveToDevice(tensor);
    entry.runLocked([&](moe_context *context, const moe_entry &own) {
      return context->check_inputs(context, own.info, staged.data());
    });
  }

  /// The shape of a result, with None for a size that no input has.
  nb::tuple resultShape(uint32_t index) const {
    const moe_entry_info &info = entry.info();
    if (index >= info.num_outputs)
      throw nb::index_error("there is no such result");
    const moe_arg_info &arg = info.args[info.num_inputs + index];
    nb::list shape;
    for (int32_t d = 0; d < arg.rank; ++d) {
      std::optional<int64_t> size = arg.shape[d];
      if (arg.shape[d] < 0)
        size = symbolSize(arg.shape[d]);
      shape.append(nb::cast(size));
    }
    return nb::tuple(shape);
  }

  void run(nb::list arrays, const std::vector<bool> &areBF16) {
    const moe_entry_info &info = entry.info();
    if (arrays.size() != info.num_outputs || areBF16.size() != arrays.size())
      throwValueError("expected " + std::to_string(info.num_outputs) +
                      " results");
    std::vector<OutputView> results;
    std::vector<moe_tensor> out;
    for (uint32_t i = 0; i < info.num_outputs; ++i) {
      results.push_back(
          makeView<>(arrays[i], areBF16[i], info.args[info.num_inputs + i]));
      out.push_back(results.back().tensor);
    }
    entry.runLocked([&](moe_context *context, const moe_entry &own) {
      return moe_entry_call(context, &own, in.data(),
                            static_cast<uint32_t>(in.size()), out.data(),
                            static_cast<uint32_t>(out.size()));
    });
  }

private:
  /// What a call makes of a tensor of the CPU before it is checked: one in
  /// memory of the GPU, which is aligned.
  static void moveToDevice(moe_tensor &tensor) {
    if (tensor.device_type != MOE_DEVICE_CPU)
      return;
    tensor.device_type = MOE_DEVICE_CUDA;
    tensor.device_id = 0;
    if (tensor.data)
      tensor.data = reinterpret_cast<void *>(uintptr_t(256));
  }

  /// The size of the symbol with this code in the inputs, which all agree.
  std::optional<int64_t> symbolSize(int64_t code) const {
    const moe_entry_info &info = entry.info();
    for (uint32_t i = 0; i < info.num_inputs; ++i)
      for (int32_t d = 0; d < info.args[i].rank; ++d)
        if (info.args[i].shape[d] == code)
          return in[i].shape[d];
    return std::nullopt;
  }

  Entry &entry;
  std::vector<InputView> views;
  std::vector<moe_tensor> in;
};

/// Packs stored weights; which may be those of a part of the experts.
void packWeights(Entry &entry, nb::list inputs,
                 const std::vector<bool> &inputsBF16, nb::list outputs,
                 const std::vector<bool> &outputsBF16) {
  const moe_entry_info &info = entry.packInfo();
  if (inputs.size() != info.num_inputs || outputs.size() != info.num_outputs ||
      inputsBF16.size() != inputs.size() ||
      outputsBF16.size() != outputs.size())
    throwValueError("expected " + std::to_string(info.num_inputs) +
                    " weights and " + std::to_string(info.num_outputs) +
                    " packed ones");
  std::vector<InputView> from;
  std::vector<OutputView> to;
  std::vector<moe_tensor> in, out;
  for (uint32_t i = 0; i < info.num_inputs; ++i) {
    from.push_back(makeView<nb::ro>(inputs[i], inputsBF16[i], info.args[i]));
    in.push_back(from.back().tensor);
  }
  for (uint32_t i = 0; i < info.num_outputs; ++i) {
    to.push_back(
        makeView<>(outputs[i], outputsBF16[i], info.args[info.num_inputs + i]));
    out.push_back(to.back().tensor);
  }
  entry.runLocked([&](moe_context *context, const moe_entry &own) {
    return own.pack(context, in.data(), out.data());
  });
}

} // namespace

NB_MODULE(_moe, m) {
  m.doc() = "Compiled layers and their calls; used by the package moe_mlir.";
  nb::exception<CompileFailure>(m, "CompileError", PyExc_ValueError);
  m.def("version", &moe_compiler_version, "The compiler's version.");

  nb::class_<Module>(m, "Module", "The compiled entries of one source.")
      .def(nb::init<nb::bytes, const std::string &, const std::string &,
                    const std::optional<std::array<std::string, 3>> &,
                    const std::optional<std::string> &, bool, bool, bool>(),
           "source"_a, "target"_a, "name"_a, "gradients"_a = nb::none(),
           "chip"_a = nb::none(), "tf32"_a = false, "batch_invariant"_a = false,
           "pack_weights"_a = false)
      .def_prop_ro("entries", &Module::entryNames)
      .def_ro("warnings", &Module::warnings);

  nb::class_<Entry>(m, "Entry", "An entry with a pool of threads.")
      .def(nb::init<Module &, const std::string &, int>(), "module"_a, "name"_a,
           "threads"_a)
      .def_prop_ro("threads", &Entry::threads)
      .def("inputs",
           [](const Entry &e) { return Entry::describeArgs(e.info(), true); })
      .def("outputs",
           [](const Entry &e) { return Entry::describeArgs(e.info(), false); })
      .def("symbols",
           [](const Entry &e) { return Entry::describeSymbols(e.info()); })
      .def("pack_inputs",
           [](const Entry &e) {
             return Entry::describeArgs(e.packInfo(), true);
           })
      .def("pack_outputs",
           [](const Entry &e) {
             return Entry::describeArgs(e.packInfo(), false);
           })
      .def("pack_symbols",
           [](const Entry &e) { return Entry::describeSymbols(e.packInfo()); })
      .def("pack", &packWeights, "inputs"_a, "inputs_bf16"_a, "outputs"_a,
           "outputs_bf16"_a);

  nb::class_<Call>(m, "Call", "One call; checks the inputs when made.")
      .def(nb::init<Entry &, nb::list, const std::vector<bool> &>(), "entry"_a,
           "inputs"_a, "bf16"_a, nb::keep_alive<1, 2>())
      .def("result_shape", &Call::resultShape, "index"_a)
      .def("run", &Call::run, "outputs"_a, "bf16"_a);
}
