//===- Bind.cpp - Arguments of a call from the command line ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Bind.h"
#include "moe/IO/Files.h"
#include "moe/Run/Generate.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <optional>

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::Shape;
using moe::io::Status;
using moe::io::Success;
using moe::io::Tensor;
using moe::io::TensorPath;

namespace {

/// What an argument is to be, from the command line.
struct Source {
  const std::string *text = nullptr;
  std::optional<Generator> generator;
  TensorPath path; ///< Where there is no generator.
  std::optional<std::string> layout;
};

/// What is known of a symbol.
struct Symbol {
  std::string name;
  std::optional<int64_t> size;
  std::string from; ///< Who said so.
  /// The sizes [B, S] that were merged into it, where they were.
  std::optional<Shape> split;
  std::string splitFrom;
};

class Binder {
public:
  Binder(const Options &options, const moe_entry_info &info)
      : options(options), info(info) {}

  Expected<BoundCall> bind();

private:
  const Options &options;
  const moe_entry_info &info;
  BoundCall call;
  std::vector<std::string> inputNames, outputNames;
  std::vector<Source> sources;
  std::vector<Symbol> symbols;

  Status checkInfo();
  Status assignArgs();
  Status assignLayouts();
  Status assignDims();
  Status assignOuts();
  Status loadInput(uint32_t index);
  Status checkLayout(uint32_t index,
                     const std::optional<std::string> &inFile) const;
  Status fitShape(uint32_t index, Tensor &tensor);
  Status fitSymbol(size_t symbol, int64_t size, const std::string &from);
  Status convert(uint32_t index, Tensor &tensor);
  Status generateInput(uint32_t index);
  Status allocateOutput(uint32_t index);
  Expected<Shape> shapeOf(const moe_arg_info &arg, const std::string &what,
                          const std::string &advice) const;

  std::string expectedText(const moe_arg_info &arg) const;
  std::string argumentText(uint32_t index) const {
    return "argument '" + inputNames[index] + "'";
  }
};

std::string joinNames(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// The end of a message about a name that is not among `known`.
std::string expectedNames(const std::vector<std::string> &known) {
  return known.empty() ? "; there is none" : "; expected " + joinNames(known);
}

/// Takes each setting to the index of its name in `known`, at most one each.
Expected<std::vector<const std::string *>>
matchNames(const char *option, const char *kind,
           const std::vector<std::string> &known,
           const std::vector<Setting> &settings) {
  std::vector<const std::string *> result(known.size());
  for (const auto &[name, text] : settings) {
    size_t at =
        size_t(std::find(known.begin(), known.end(), name) - known.begin());
    if (at == known.size())
      return Error{std::string(option) + ": no " + kind + " '" + name + "'" +
                   expectedNames(known)};
    if (result[at])
      return Error{std::string(option) + ": " + kind + " '" + name +
                   "' is given twice"};
    result[at] = &text;
  }
  return result;
}

std::string withoutSpace(const std::string &text) {
  std::string result;
  for (char c : text)
    if (!std::isspace(static_cast<unsigned char>(c)))
      result += c;
  return result;
}

} // namespace

//===----------------------------------------------------------------------===//
// The command line against the description
//===----------------------------------------------------------------------===//

Status Binder::checkInfo() {
  if (info.abi_version != MOE_ABI_VERSION)
    return Error{"the entry is of ABI version " +
                 std::to_string(info.abi_version) + ", expected " +
                 std::to_string(MOE_ABI_VERSION)};
  bool legal = info.num_symbols <= MOE_MAX_SYMBOLS;
  for (uint32_t s = 0; legal && s < info.num_symbols; ++s)
    symbols.push_back({fieldText(info.symbol_name[s]), {}, {}, {}, {}});
  for (uint32_t i = 0; legal && i < info.num_inputs + info.num_outputs; ++i) {
    const moe_arg_info &arg = info.args[i];
    legal = arg.rank >= 0 && arg.rank <= MOE_MAX_RANK;
    for (int32_t d = 0; legal && d < arg.rank; ++d)
      legal = arg.shape[d] >= -int64_t(info.num_symbols);
    auto &names = i < info.num_inputs ? inputNames : outputNames;
    names.push_back(fieldText(arg.name));
  }
  if (!legal)
    return Error{"the description of the entry is damaged"};
  return Success();
}

Status Binder::assignArgs() {
  auto texts = matchNames("--arg", "argument", inputNames, options.args);
  if (!texts)
    return texts.error();
  std::vector<std::string> missing;
  sources.resize(inputNames.size());
  for (size_t i = 0; i < inputNames.size(); ++i) {
    sources[i].text = (*texts)[i];
    if (!sources[i].text)
      missing.push_back(inputNames[i]);
  }
  if (!missing.empty())
    return Error{"no --arg for " + joinNames(missing) + "; the entry '" +
                 fieldText(info.name) + "' takes " + joinNames(inputNames)};
  for (size_t i = 0; i < sources.size(); ++i) {
    Expected<std::optional<Generator>> generator =
        parseGenerator(*sources[i].text);
    if (!generator)
      return Error{"--arg=" + inputNames[i] + ": " + generator.message()};
    sources[i].generator = *generator;
    if (*generator)
      continue;
    Expected<TensorPath> path = io::parseTensorPath(*sources[i].text);
    if (!path)
      return Error{"--arg=" + inputNames[i] + ": " + path.message() +
                   " nor a generator (random:SEED[:SCALE], zeros, ones, "
                   "iota)"};
    sources[i].path = *path;
  }
  return Success();
}

Status Binder::assignLayouts() {
  auto texts = matchNames("--layout", "argument", inputNames, options.layouts);
  if (!texts)
    return texts.error();
  for (uint32_t i = 0; i < sources.size(); ++i) {
    if (!(*texts)[i])
      continue;
    if (fieldText(info.args[i].layout).empty())
      return Error{"--layout: " + argumentText(i) + " has no layout"};
    sources[i].layout = *(*texts)[i];
    // A generated argument has no file to disagree with, but the user may.
    if (sources[i].generator)
      if (Status status = checkLayout(i, std::nullopt); !status)
        return status;
  }
  return Success();
}

Status Binder::assignDims() {
  std::vector<std::string> known;
  for (const Symbol &symbol : symbols)
    known.push_back(symbol.name);
  for (const auto &[name, size] : options.dims) {
    auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end())
      return Error{"--dim: the entry has no dynamic size '" + name + "'" +
                   expectedNames(known)};
    if (Status status =
            fitSymbol(size_t(found - known.begin()), size, "--dim=" + name);
        !status)
      return status;
  }
  return Success();
}

Status Binder::assignOuts() {
  auto texts = matchNames("--out", "result", outputNames, options.outs);
  if (!texts)
    return texts.error();
  for (uint32_t i = 0; i < outputNames.size(); ++i) {
    if (!(*texts)[i])
      continue;
    std::string option = "--out=" + outputNames[i];
    Expected<TensorPath> path = io::parseTensorPath(*(*texts)[i]);
    if (!path)
      return Error{option + ": " + path.message()};
    if (path->format == TensorPath::Format::SafetensorsIndex)
      return Error{option + ": '" + *(*texts)[i] +
                   "': results go to FILE.npy or FILE.safetensors#NAME"};
    for (const BoundCall::Destination &other : call.destinations)
      if (other.path.file == path->file && other.path.name == path->name)
        return Error{option + ": '" + *(*texts)[i] +
                     "' is the destination of result '" +
                     outputNames[other.output] + "' as well"};
    // Better found now than after a long run.
    if (Status status = io::checkWritable(path->file); !status)
      return Error{option + ": " + status.message()};
    call.destinations.push_back({i, std::move(*path)});
  }
  return Success();
}

//===----------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------===//

std::string Binder::expectedText(const moe_arg_info &arg) const {
  std::string text = "[";
  for (int32_t d = 0; d < arg.rank; ++d) {
    int64_t size = arg.shape[d];
    text += (d ? ", " : "") + (size >= 0 ? std::to_string(size)
                                         : symbols[size_t(-1 - size)].name);
  }
  return text + "]";
}

Status Binder::fitSymbol(size_t index, int64_t size, const std::string &from) {
  Symbol &symbol = symbols[index];
  if (symbol.size && *symbol.size != size)
    return Error{from + ": " + symbol.name + " = " + std::to_string(size) +
                 " disagrees with " + symbol.name + " = " +
                 std::to_string(*symbol.size) + " from " + symbol.from};
  if (size > info.symbol_bound[index])
    return Error{from + ": " + symbol.name + " = " + std::to_string(size) +
                 " is over its bound " +
                 std::to_string(info.symbol_bound[index])};
  if (!symbol.size) {
    symbol.size = size;
    symbol.from = from;
  }
  return Success();
}

/// Checks the shape of a file's tensor, merges [B, S, ...] to [T, ...], and
/// learns the symbols.
Status Binder::fitShape(uint32_t index, Tensor &tensor) {
  const moe_arg_info &arg = info.args[index];
  size_t rank = size_t(arg.rank);
  const Shape given = tensor.shape();
  auto mismatch = [&] {
    return Error{argumentText(index) + ": " + *sources[index].text +
                 " has the shape " + io::shapeText(given) + ", expected " +
                 expectedText(arg)};
  };
  Shape shape = given, split;
  bool merges = rank > 0 && given.size() > rank && arg.shape[0] < 0;
  if (merges) {
    size_t leading = given.size() - rank + 1;
    split.assign(given.begin(), given.begin() + ptrdiff_t(leading));
    std::optional<int64_t> merged = io::countElements(split);
    if (!merged)
      return mismatch();
    shape.erase(shape.begin(), shape.begin() + ptrdiff_t(leading - 1));
    shape[0] = *merged;
  }
  if (shape.size() != rank)
    return mismatch();
  for (size_t d = 0; d < rank; ++d)
    if (arg.shape[d] >= 0 && shape[d] != arg.shape[d])
      return mismatch();
  for (size_t d = 0; d < rank; ++d)
    if (arg.shape[d] < 0)
      if (Status status = fitSymbol(size_t(-1 - arg.shape[d]), shape[d],
                                    argumentText(index));
          !status)
        return status;
  if (merges) {
    Symbol &symbol = symbols[size_t(-1 - arg.shape[0])];
    if (symbol.split && *symbol.split != split)
      return Error{argumentText(index) + ": " + symbol.name + " is given as " +
                   io::shapeText(split) + ", but as " +
                   io::shapeText(*symbol.split) + " by " + symbol.splitFrom};
    symbol.split = split;
    symbol.splitFrom = argumentText(index);
  }
  if (!io::countElements(shape)) // Merging a zero can uncover an overflow.
    return mismatch();
  tensor = tensor.reshaped(std::move(shape));
  return Success();
}

Status Binder::convert(uint32_t index, Tensor &tensor) {
  moe_dtype want = info.args[index].dtype;
  if (io::sameDType(tensor.dtype(), want))
    return Success();
  std::string what = argumentText(index);
  bool rounds =
      io::sameDType(tensor.dtype(), io::kF32) &&
      (io::sameDType(want, io::kBF16) || io::sameDType(want, io::kF16));
  if (!rounds)
    return Error{what + ": " + *sources[index].text + " holds " +
                 io::dtypeName(tensor.dtype()) + ", expected " +
                 io::dtypeName(want)};
  Expected<Tensor> rounded = io::roundFromF32(tensor, want, what);
  if (!rounded)
    return rounded.error();
  call.notes.push_back(what + ": the f32 values of " + *sources[index].text +
                       " are rounded to " + io::dtypeName(want));
  tensor = std::move(*rounded);
  return Success();
}

Status Binder::checkLayout(uint32_t index,
                           const std::optional<std::string> &inFile) const {
  std::string expected = fieldText(info.args[index].layout);
  if (expected.empty())
    return Success();
  const Source &source = sources[index];
  if (!source.layout && !inFile)
    return Error{argumentText(index) + ": nothing states the layout of " +
                 *source.text + "; if it is the expected one, say --layout=" +
                 inputNames[index] + "='" + expected + "'"};
  auto refuse = [&](const std::string &who, const std::string &text) {
    return Error{argumentText(index) + ": " + who + " states the layout '" +
                 text + "', expected '" + expected + "'"};
  };
  if (source.layout && withoutSpace(*source.layout) != withoutSpace(expected))
    return refuse("--layout", *source.layout);
  if (inFile && withoutSpace(*inFile) != withoutSpace(expected))
    return refuse(*source.text, *inFile);
  return Success();
}

Status Binder::loadInput(uint32_t index) {
  Expected<io::LoadedTensor> loaded = io::loadTensor(sources[index].path);
  if (!loaded)
    return Error{argumentText(index) + ": " + loaded.message()};
  if (Status status = checkLayout(index, loaded->layout); !status)
    return status;
  // The shape first: it says more about a wrong file than the dtype does.
  if (Status status = fitShape(index, loaded->tensor); !status)
    return status;
  if (Status status = convert(index, loaded->tensor); !status)
    return status;
  call.inputs[index] = std::move(loaded->tensor);
  return Success();
}

Expected<Shape> Binder::shapeOf(const moe_arg_info &arg,
                                const std::string &what,
                                const std::string &advice) const {
  Shape shape;
  for (int32_t d = 0; d < arg.rank; ++d) {
    if (arg.shape[d] >= 0) {
      shape.push_back(arg.shape[d]);
      continue;
    }
    const Symbol &symbol = symbols[size_t(-1 - arg.shape[d])];
    if (!symbol.size)
      return Error{what + ": the size " + symbol.name + " of " +
                   expectedText(arg) + " is not known; " + advice +
                   "--dim=" + symbol.name + "=SIZE"};
    shape.push_back(*symbol.size);
  }
  return shape;
}

Status Binder::generateInput(uint32_t index) {
  const moe_arg_info &arg = info.args[index];
  Expected<Shape> shape = shapeOf(arg, argumentText(index), "give ");
  if (!shape)
    return shape.error();
  Expected<Tensor> tensor = generate(*sources[index].generator, arg.dtype,
                                     *shape, argumentText(index));
  if (!tensor)
    return tensor.error();
  call.inputs[index] = std::move(*tensor);
  return Success();
}

Status Binder::allocateOutput(uint32_t index) {
  const moe_arg_info &arg = info.args[info.num_inputs + index];
  std::string what = "result '" + outputNames[index] + "'";
  Expected<Shape> shape = shapeOf(arg, what, "no argument has it, so give ");
  if (!shape)
    return shape.error();
  Expected<Tensor> tensor = Tensor::allocate(arg.dtype, *shape, what);
  if (!tensor)
    return tensor.error();
  call.outputs.push_back(std::move(*tensor));
  if (arg.rank > 0 && arg.shape[0] < 0) {
    if (const auto &split = symbols[size_t(-1 - arg.shape[0])].split) {
      shape->erase(shape->begin());
      shape->insert(shape->begin(), split->begin(), split->end());
    }
  }
  call.resultShapes.push_back(std::move(*shape));
  return Success();
}

Expected<BoundCall> Binder::bind() {
  using Step = Status (Binder::*)();
  for (Step step :
       {&Binder::checkInfo, &Binder::assignArgs, &Binder::assignLayouts,
        &Binder::assignDims, &Binder::assignOuts})
    if (Status status = (this->*step)(); !status)
      return status.error();
  call.inputs.resize(sources.size());
  // Files first: they tell the sizes of what is generated.
  for (bool generated : {false, true})
    for (uint32_t i = 0; i < sources.size(); ++i)
      if (sources[i].generator.has_value() == generated)
        if (Status status = generated ? generateInput(i) : loadInput(i);
            !status)
          return status.error();
  for (uint32_t i = 0; i < outputNames.size(); ++i)
    if (Status status = allocateOutput(i); !status)
      return status.error();
  return std::move(call);
}

Expected<BoundCall> moe::run::bind(const Options &options,
                                   const moe_entry_info &info) {
  return Binder(options, info).bind();
}
