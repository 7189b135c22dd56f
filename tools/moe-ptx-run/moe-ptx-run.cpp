//===- moe-ptx-run.cpp - Run a kernel of a PTX file, checked --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Options.h"
#include "moe/IO/Files.h"
#include "moe/IO/Json.h"
#include "moe/IO/Npy.h"

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <random>

using namespace moe;
using namespace moe::ptxrun;

namespace {

int fail(const std::string &message) {
  std::fprintf(stderr, "moe-ptx-run: error: %s\n", message.c_str());
  return 1;
}

/// A buffer as it is before each run, and as the last run has left it.
struct BufferState {
  const ArgumentSpec *spec = nullptr;
  io::Tensor before, after;
  uint64_t address = 0;
};

void fillTensor(io::Tensor &tensor, const ArgumentSpec &spec) {
  std::mt19937_64 random(spec.seed);
  unsigned size = unsigned(io::elementBytes(spec.dtype));
  bool isFloat =
      spec.dtype.code == io::kF32.code || spec.dtype.code == io::kBF16.code;
  auto *to = tensor.mutableAs<uint8_t>();
  for (int64_t i = 0; i < tensor.numElements(); ++i, to += size) {
    double value = spec.fill == ArgumentSpec::Iota   ? double(i)
                   : spec.fill == ArgumentSpec::Ones ? 1
                                                     : 0;
    if (spec.fill == ArgumentSpec::Random)
      // In [-1, 1) for floats, in [0, 128) for integers: both fit everywhere.
      value = isFloat ? double(int64_t(random() >> 40) - (1 << 23)) / (1 << 23)
                      : double(random() >> 57);
    if (!isFloat) {
      int64_t whole = int64_t(value);
      std::memcpy(to, &whole, size);
    } else if (size == 8) {
      std::memcpy(to, &value, size);
    } else if (size == 4) {
      float single = float(value);
      std::memcpy(to, &single, size);
    } else {
      uint16_t half = spec.dtype.code == io::kBF16.code
                          ? io::f32ToBF16(float(value))
                          : io::f32ToF16(float(value));
      std::memcpy(to, &half, size);
    }
  }
}

class Runner {
public:
  explicit Runner(const Options &options) : options(options) {}

  int run();

private:
  io::Status loadModule();
  int list() const;
  io::Status makeBuffers();
  io::Status bindArguments();
  io::Status runOnce(uint64_t seed);
  io::Status writeOutputs() const;
  void printText() const;
  void printJson() const;
  const BufferState &find(const std::string &name) const;

  const Options &options;
  std::unique_ptr<emulator::Module> module;
  const emulator::KernelInfo *kernel = nullptr;
  emulator::Device device;
  std::vector<BufferState> buffers;
  std::vector<uint8_t> arguments;
  std::vector<emulator::Report> reports;
  emulator::Statistics statistics;
  std::vector<std::string> differing;
  bool completed = true;
  uint64_t runs = 0;
};

io::Status Runner::loadModule() {
  auto file = io::MappedFile::open(options.file);
  if (!file)
    return file.error();
  auto loaded = emulator::Module::load((*file)->bytes(), options.file);
  if (!loaded)
    return loaded.error();
  module = std::move(*loaded);
  if (options.list)
    return io::Success();
  std::string names;
  std::vector<emulator::KernelInfo> kernels = module->kernels();
  for (const emulator::KernelInfo &info : kernels)
    names += (names.empty() ? "" : ", ") + info.name;
  if (kernels.empty())
    return io::Error{options.file + ": has no kernel"};
  if (options.kernel.empty() && kernels.size() > 1)
    return io::Error{options.file + ": name one by --kernel: " + names};
  kernel = module->findKernel(options.kernel.empty() ? kernels[0].name
                                                     : options.kernel);
  if (!kernel)
    return io::Error{options.file + ": no kernel '" + options.kernel +
                     "'; it has " + names};
  return io::Success();
}

int Runner::list() const {
  for (const emulator::KernelInfo &info : module->kernels()) {
    std::printf("%s(", info.name.c_str());
    bool first = true;
    for (const emulator::KernelParam &param : info.params) {
      std::printf("%s%s", first ? "" : ", ", param.type.c_str());
      if (param.isArray)
        std::printf("[%zu]", param.size);
      first = false;
    }
    std::printf(")\n");
  }
  return 0;
}

io::Status Runner::makeBuffers() {
  for (const ArgumentSpec &spec : options.arguments) {
    if (spec.name.empty())
      continue;
    BufferState state;
    state.spec = &spec;
    if (!spec.path.empty()) {
      auto tensor = io::readNpy(spec.path);
      if (!tensor)
        return tensor.error();
      state.before = *tensor;
    } else {
      auto tensor = io::Tensor::allocate(spec.dtype, spec.shape,
                                         "buffer '" + spec.name + "'");
      if (!tensor)
        return tensor.error();
      state.before = *tensor;
      fillTensor(state.before, spec);
    }
    auto address = device.allocate(size_t(state.before.numBytes()), spec.name);
    if (!address)
      return address.error();
    state.address = *address;
    buffers.push_back(std::move(state));
  }
  return io::Success();
}

/// The words of a memref: allocated and aligned address, offset, sizes and
/// strides.
void appendMemref(const BufferState &state,
                  std::vector<std::vector<uint8_t>> &values) {
  const io::Shape &shape = state.before.shape();
  std::vector<uint64_t> words = {state.address, state.address, 0};
  words.insert(words.end(), shape.begin(), shape.end());
  uint64_t stride = 1;
  std::vector<uint64_t> strides(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= uint64_t(shape[i]);
  }
  words.insert(words.end(), strides.begin(), strides.end());
  for (uint64_t word : words) {
    values.emplace_back(8);
    std::memcpy(values.back().data(), &word, 8);
  }
}

io::Status Runner::bindArguments() {
  std::vector<std::vector<uint8_t>> values;
  for (const ArgumentSpec &spec : options.arguments) {
    if (spec.memref) {
      appendMemref(find(spec.name), values);
      continue;
    }
    values.push_back(spec.bytes);
    if (!spec.name.empty() || !spec.reference.empty()) {
      values.back().resize(8);
      std::memcpy(values.back().data(),
                  &find(spec.name.empty() ? spec.reference : spec.name).address,
                  8);
    }
  }
  if (values.size() != kernel->params.size())
    return io::Error{"kernel '" + kernel->name + "' takes " +
                     std::to_string(kernel->params.size()) +
                     " parameters, not " + std::to_string(values.size())};
  arguments.assign(kernel->paramBytes, 0);
  for (size_t i = 0; i < kernel->params.size(); ++i) {
    const emulator::KernelParam &param = kernel->params[i];
    if (values[i].size() != param.size)
      return io::Error{"parameter " + std::to_string(i + 1) + " of '" +
                       kernel->name + "' has " + std::to_string(param.size) +
                       " bytes, not " + std::to_string(values[i].size())};
    std::memcpy(&arguments[param.offset], values[i].data(), param.size);
  }
  return io::Success();
}

io::Status Runner::runOnce(uint64_t seed) {
  for (BufferState &state : buffers) {
    // Memory anew, so that what is not written is known again.
    device.release(state.address);
    auto address =
        device.allocate(size_t(state.before.numBytes()), state.spec->name);
    if (!address)
      return address.error();
    state.address = *address;
    if (!state.spec->path.empty() || state.spec->fill != ArgumentSpec::None)
      if (io::Status status = device.write(*address, state.before.as<uint8_t>(),
                                           size_t(state.before.numBytes()));
          !status)
        return status;
  }
  if (io::Status status = bindArguments(); !status)
    return status;
  emulator::LaunchOptions launch = options.launch;
  launch.seed = seed;
  auto result = device.launch(*module, kernel->name, launch, arguments);
  if (!result)
    return result.error();
  bool isFirst = runs++ == 0;
  completed &= result->completed;
  if (isFirst)
    statistics = result->statistics;
  for (emulator::Report &report : result->reports) {
    bool known = false;
    for (emulator::Report &other : reports)
      if (other.kind == report.kind && other.line == report.line) {
        other.count += report.count;
        known = true;
      }
    if (!known)
      reports.push_back(std::move(report));
  }
  for (BufferState &state : buffers) {
    auto after = io::Tensor::allocate(state.before.dtype(),
                                      state.before.shape(), state.spec->name);
    if (!after)
      return after.error();
    if (io::Status status =
            device.read(after->mutableAs<uint8_t>(), state.address,
                        size_t(after->numBytes()));
        !status)
      return status;
    if (isFirst)
      state.after = *after;
    else if (std::memcmp(after->data(), state.after.data(),
                         size_t(after->numBytes())) &&
             (differing.empty() || differing.back() != state.spec->name))
      differing.push_back(state.spec->name);
  }
  return io::Success();
}

const BufferState &Runner::find(const std::string &name) const {
  for (const BufferState &state : buffers)
    if (state.spec->name == name)
      return state;
  return buffers.front();
}

io::Status Runner::writeOutputs() const {
  std::vector<io::OutputFile> files;
  for (const OutputSpec &output : options.outputs) {
    auto file = io::npyFile(output.path, find(output.name).after);
    if (!file)
      return file.error();
    files.push_back(std::move(*file));
  }
  return io::writeFiles(files);
}

std::string elementText(const io::Tensor &tensor, int64_t index) {
  moe_dtype dtype = tensor.dtype();
  size_t size = io::elementBytes(dtype);
  const uint8_t *at = tensor.as<uint8_t>() + size_t(index) * size;
  char text[40];
  if (dtype.code == io::kF32.code || dtype.code == io::kBF16.code) {
    double value = 0;
    float single = 0;
    uint16_t half = 0;
    if (size == 8)
      std::memcpy(&value, at, 8);
    else if (size == 4)
      std::memcpy(&single, at, 4);
    else
      std::memcpy(&half, at, 2);
    if (size == 4)
      value = double(single);
    if (size == 2)
      value = double(dtype.code == io::kBF16.code ? io::bf16ToF32(half)
                                                  : io::f16ToF32(half));
    std::snprintf(text, sizeof text, "%g", value);
    return text;
  }
  uint64_t bits = 0;
  std::memcpy(&bits, at, size);
  if (dtype.code == io::kI32.code) {
    unsigned shift = unsigned(64 - 8 * size);
    std::snprintf(text, sizeof text, "%" PRId64,
                  int64_t(bits << shift) >> shift);
  } else {
    std::snprintf(text, sizeof text, "%" PRIu64, bits);
  }
  return text;
}

void Runner::printText() const {
  for (const emulator::Report &report : reports)
    std::printf("%s: %s\n", options.file.c_str(),
                emulator::toString(report).c_str());
  for (const std::string &name : differing)
    std::printf("buffer '%s' is not the same after all schedules\n",
                name.c_str());
  std::printf("kernel '%s': %" PRIu64 " %s, %zu reports%s\n",
              kernel->name.c_str(), runs, runs == 1 ? "run" : "runs",
              reports.size(), completed ? "" : ", not completed");
  if (options.statistics)
    std::printf("%s", emulator::toText(statistics).c_str());
  for (const OutputSpec &output : options.prints) {
    const io::Tensor &tensor = find(output.name).after;
    std::printf("%s:", output.name.c_str());
    for (int64_t i = 0; i < output.count && i < tensor.numElements(); ++i)
      std::printf(" %s", elementText(tensor, i).c_str());
    std::printf("\n");
  }
}

std::string dimJson(const emulator::Dim3 &dim) {
  return "[" + std::to_string(dim.x) + ", " + std::to_string(dim.y) + ", " +
         std::to_string(dim.z) + "]";
}

void Runner::printJson() const {
  std::string text = "{\"file\": " + io::quoteJson(options.file) +
                     ", \"kernel\": " + io::quoteJson(kernel->name) +
                     ", \"runs\": " + std::to_string(runs) +
                     ", \"completed\": " + (completed ? "true" : "false") +
                     ", \"reports\": [";
  bool first = true;
  for (const emulator::Report &report : reports) {
    text += std::string(first ? "" : ", ") + "{\"kind\": " +
            io::quoteJson(emulator::reportKindName(report.kind)) +
            ", \"line\": " + std::to_string(report.line) +
            ", \"source\": " + io::quoteJson(report.source) +
            ", \"block\": " + dimJson(report.where.block) +
            ", \"thread\": " + dimJson(report.where.thread) +
            ", \"count\": " + std::to_string(report.count) +
            ", \"message\": " + io::quoteJson(report.message) + "}";
    first = false;
  }
  text += "], \"differing\": [";
  first = true;
  for (const std::string &name : differing) {
    text += (first ? "" : ", ") + io::quoteJson(name);
    first = false;
  }
  text += "], \"statistics\": " + emulator::toJson(statistics) + "}";
  std::printf("%s\n", text.c_str());
}

int Runner::run() {
  if (io::Status status = loadModule(); !status)
    return fail(status.message());
  if (options.list)
    return list();
  if (io::Status status = makeBuffers(); !status)
    return fail(status.message());
  for (uint64_t i = 0; i < options.schedules; ++i) {
    uint64_t seed = options.launch.seed + i;
    if (io::Status status = runOnce(seed); !status)
      return fail(status.message());
  }
  if (options.json)
    printJson();
  else
    printText();
  if (io::Status status = writeOutputs(); !status)
    return fail(status.message());
  return reports.empty() && completed ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
  auto options = parseOptions(argc, argv);
  if (!options)
    return fail(options.message());
  if (options->help) {
    std::printf("%s", helpText().c_str());
    return 0;
  }
  return Runner(*options).run();
}
