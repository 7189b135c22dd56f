//===- CheckGradients.cpp - A backward against differences ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/CheckGradients.h"
#include "Numbers.h"
#include "moe/IO/Json.h"
#include "moe/Run/Benchmark.h"
#include "moe/Run/Bind.h"
#include "moe/Run/Generate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <ostream>

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::Status;
using moe::io::Tensor;

namespace {

constexpr double kTolerance = 1e-5;
constexpr double kFirstStep = 1e-5;
constexpr double kLastStep = 1e-9;
/// The last step that is taken to come off a kink: below it the rounding of the
/// losses says more than their difference.
constexpr double kLastRetry = 1e-7;

using Tensors = std::vector<Tensor>;

bool isReal(const Tensor &tensor) {
  return io::sameDType(tensor.dtype(), io::kF64);
}

/// A floating-point tensor in f64, any other as it is.
Expected<Tensor> widen(const Tensor &tensor, const std::string &what) {
  bool isFloat = tensor.dtype().code == 2 || tensor.dtype().code == 4;
  if (!isFloat || isReal(tensor))
    return tensor;
  bool isNarrow = tensor.dtype().bits < 32;
  Expected<Tensor> single =
      isNarrow ? io::widenToF32(tensor, what) : Expected<Tensor>(tensor);
  if (!single)
    return single;
  Expected<Tensor> wide = Tensor::allocate(io::kF64, tensor.shape(), what);
  if (!wide)
    return wide;
  std::copy_n(single->as<float>(), single->numElements(),
              wide->mutableAs<double>());
  return wide;
}

/// Arguments of an entry, by name and in order.
struct Description {
  const moe_entry_info &info;

  std::string nameOf(uint32_t place) const {
    return fieldText(info.args[place].name);
  }
  std::string outputName(uint32_t place) const {
    return nameOf(info.num_inputs + place);
  }
  /// New tensors for the results of a call, sized by its inputs.
  Expected<Tensors> allocate(const Tensors &inputs) const;
};

Expected<Tensors> Description::allocate(const Tensors &inputs) const {
  std::map<int64_t, int64_t> sizes;
  for (uint32_t i = 0; i < info.num_inputs; ++i)
    for (int32_t d = 0; d < info.args[i].rank; ++d)
      if (int64_t size = info.args[i].shape[d]; size < 0)
        sizes[size] = inputs[i].shape()[size_t(d)];
  Tensors outputs;
  for (uint32_t i = 0; i < info.num_outputs; ++i) {
    const moe_arg_info &arg = info.args[info.num_inputs + i];
    std::string what = "result " + outputName(i);
    io::Shape shape;
    for (int32_t d = 0; d < arg.rank; ++d) {
      int64_t size = arg.shape[d];
      if (size < 0 && !sizes.count(size))
        return Error{what + ": no argument has its size " +
                     fieldText(info.symbol_name[size_t(-1 - size)])};
      shape.push_back(size < 0 ? sizes[size] : size);
    }
    Expected<Tensor> tensor = Tensor::allocate(arg.dtype, shape, what);
    if (!tensor)
      return tensor.error();
    outputs.push_back(*tensor);
  }
  return outputs;
}

/// Random normal numbers of a tensor's shape.
Expected<Tensor> drawLike(const Tensor &tensor, uint64_t seed,
                          const std::string &what) {
  Generator generator{Generator::Kind::Random, seed, 1.0};
  return generate(generator, io::kF64, tensor.shape(), what);
}

double dot(const Tensor &x, const Tensor &y) {
  double sum = 0.0;
  for (int64_t i = 0; i < x.numElements(); ++i)
    sum += x.as<double>()[i] * y.as<double>()[i];
  return sum;
}

/// One gradient's verdict.
struct Verdict {
  std::string argument;
  double gradient = 0.0;   ///< <d_X, v>
  double difference = 0.0; ///< By central differences.
  double relative = 0.0;
  bool isCompared = true; ///< False where the choice changes at any step.
  bool isSurrogate = false;

  bool fails() const {
    return isCompared && !isSurrogate && !(relative <= kTolerance);
  }
  const char *text() const {
    if (!isCompared)
      return "not compared: the choice of experts changes";
    if (relative <= kTolerance)
      return "equal";
    return isSurrogate ? "differs, as a surrogate may" : "DIFFERS";
  }
};

class Check {
public:
  Check(const GradientEntries &entries, moe_context *context)
      : entries(entries), context(context), layer{*entries.layer.info},
        forward{*entries.forward.info}, backward{*entries.backward.info} {}

  Expected<std::vector<Verdict>> run(Tensors given);

private:
  Expected<Tensors> call(const moe_entry &entry, const Description &of,
                         Tensors in);
  Expected<Tensors> findGradients();
  Expected<Verdict> compare(uint32_t place, const Tensor &gradient);
  /// L at inputs moved along a direction, or NaN where the choice differs.
  Expected<double> lossAt(uint32_t input, const Tensor &direction, double step);
  bool choosesAlike(const Tensors &outputs) const;

  const GradientEntries &entries;
  moe_context *context;
  Description layer, forward, backward;
  Tensors inputs, chosen, cotangents;
  double lossSize = 0.0; ///< The largest part of a loss so far.
};

Expected<Tensors> Check::call(const moe_entry &entry, const Description &of,
                              Tensors in) {
  Expected<Tensors> out = of.allocate(in);
  if (!out)
    return out;
  if (Status status = callEntry(context, entry, in, *out); !status)
    return status.error();
  return out;
}

Expected<Tensors> Check::findGradients() {
  Expected<Tensors> outputs = call(entries.forward, forward, inputs);
  if (!outputs)
    return outputs;
  chosen = *outputs;
  std::map<std::string, Tensor> byName;
  for (uint32_t i = 0; i < inputs.size(); ++i)
    byName.emplace(layer.nameOf(i), inputs[i]);
  for (uint32_t i = 0; i < outputs->size(); ++i) {
    std::string name = forward.outputName(i);
    byName.emplace(name, (*outputs)[i]);
    if (i >= layer.info.num_outputs)
      continue;
    Tensor cotangent;
    if (isReal((*outputs)[i])) {
      Expected<Tensor> drawn = drawLike((*outputs)[i], 1000 + i, "d_" + name);
      if (!drawn)
        return drawn.error();
      cotangent = *drawn;
      byName.emplace("d_" + name, cotangent);
    }
    cotangents.push_back(cotangent);
  }
  Tensors in;
  for (uint32_t i = 0; i < backward.info.num_inputs; ++i)
    in.push_back(byName.at(backward.nameOf(i)));
  return call(entries.backward, backward, in);
}

bool Check::choosesAlike(const Tensors &outputs) const {
  for (size_t i = 0; i < outputs.size(); ++i)
    if (!isReal(outputs[i]) && std::memcmp(outputs[i].data(), chosen[i].data(),
                                           size_t(outputs[i].numBytes())) != 0)
      return false;
  return true;
}

Expected<double> Check::lossAt(uint32_t input, const Tensor &direction,
                               double step) {
  Tensors moved = inputs;
  Expected<Tensor> own = inputs[input].clone(layer.nameOf(input));
  if (!own)
    return own.error();
  for (int64_t i = 0; i < own->numElements(); ++i)
    own->mutableAs<double>()[i] += step * direction.as<double>()[i];
  moved[input] = *own;
  Expected<Tensors> saved = call(entries.forward, forward, moved);
  if (!saved)
    return saved.error();
  if (!choosesAlike(*saved))
    return std::nan("");
  Expected<Tensors> outputs = call(entries.layer, layer, moved);
  if (!outputs)
    return outputs.error();
  double loss = 0.0;
  for (size_t i = 0; i < outputs->size(); ++i)
    if (isReal((*outputs)[i])) {
      double part = dot((*outputs)[i], cotangents[i]);
      loss += part;
      lossSize = std::max(lossSize, std::fabs(part));
    }
  return loss;
}

Expected<Verdict> Check::compare(uint32_t place, const Tensor &gradient) {
  Verdict verdict;
  verdict.argument = backward.outputName(place).substr(2);
  verdict.isSurrogate = entries.surrogates.count(verdict.argument) > 0;
  uint32_t input = 0;
  while (layer.nameOf(input) != verdict.argument)
    ++input;
  Expected<Tensor> direction =
      drawLike(gradient, 2000 + place, verdict.argument);
  if (!direction)
    return direction.error();
  verdict.gradient = dot(gradient, *direction);
  double size = std::sqrt(dot(gradient, gradient));
  verdict.isCompared = false;
  for (double step = kFirstStep; step >= kLastStep; step /= 10.0) {
    Expected<double> above = lossAt(input, *direction, step);
    if (!above)
      return above.error();
    Expected<double> below = lossAt(input, *direction, -step);
    if (!below)
      return below.error();
    if (std::isnan(*above) || std::isnan(*below))
      continue;
    verdict.difference = (*above - *below) / (2.0 * step);
    // Of the gradient's own size, should the direction be nearly at a right
    // angle to it.
    double scale = std::max({std::fabs(verdict.gradient),
                             std::fabs(verdict.difference), 1e-2 * size});
    // What rounding of the losses alone may make of the difference.
    double noise =
        64.0 * std::numeric_limits<double>::epsilon() * lossSize / (2.0 * step);
    double apart = std::fabs(verdict.gradient - verdict.difference);
    apart = std::max(0.0, apart - noise);
    verdict.relative = scale > 0.0 ? apart / scale : apart;
    verdict.isCompared = true;
    // A clamp or a relu within the step has no slope there. A wrong gradient
    // differs at every step.
    if (!verdict.fails() || step <= kLastRetry)
      return verdict;
  }
  return verdict;
}

Expected<std::vector<Verdict>> Check::run(Tensors given) {
  for (uint32_t i = 0; i < given.size(); ++i) {
    Expected<Tensor> wide = widen(given[i], "argument " + layer.nameOf(i));
    if (!wide)
      return wide.error();
    inputs.push_back(*wide);
  }
  Expected<Tensors> gradients = findGradients();
  if (!gradients)
    return gradients.error();
  std::vector<Verdict> verdicts;
  for (uint32_t i = 0; i < gradients->size(); ++i) {
    Expected<Verdict> verdict = compare(i, (*gradients)[i]);
    if (!verdict)
      return verdict.error();
    verdicts.push_back(*verdict);
  }
  return verdicts;
}

void printText(const std::vector<Verdict> &verdicts, std::ostream &out) {
  for (const Verdict &verdict : verdicts) {
    out << "gradient of " << verdict.argument << ": ";
    if (verdict.isCompared)
      out << number(verdict.gradient, 9) << ", by differences "
          << number(verdict.difference, 9) << ", relative difference "
          << number(verdict.relative, 2) << ": ";
    out << verdict.text() << "\n";
  }
}

void printJson(const std::vector<Verdict> &verdicts, std::ostream &out) {
  out << "{\"gradients\": [";
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const Verdict &verdict = verdicts[i];
    out << (i ? ", " : "")
        << "{\"argument\": " << io::quoteJson(verdict.argument)
        << ", \"compared\": " << (verdict.isCompared ? "true" : "false")
        << ", \"surrogate\": " << (verdict.isSurrogate ? "true" : "false")
        << ", \"gradient\": " << jsonNumber(verdict.gradient)
        << ", \"difference\": " << jsonNumber(verdict.difference)
        << ", \"relative\": " << jsonNumber(verdict.relative)
        << ", \"ok\": " << (verdict.fails() ? "false" : "true") << "}";
  }
  out << "]}\n";
}

} // namespace

int moe::run::checkGradients(const Options &options, const moe_entry_info &info,
                             const GradientEntries &entries,
                             moe_context *context, std::ostream &out,
                             std::ostream &err) {
  auto fail = [&](const std::string &message) {
    err << "moe-run: error: " << message << "\n";
    return 1;
  };
  Expected<BoundCall> bound = bind(options, info);
  if (!bound)
    return fail(bound.message());
  for (const std::string &text : bound->notes)
    err << "moe-run: note: " << text << "\n";
  Expected<std::vector<Verdict>> verdicts =
      Check(entries, context).run(bound->inputs);
  if (!verdicts)
    return fail(verdicts.message());
  options.json ? printJson(*verdicts, out) : printText(*verdicts, out);
  out.flush();
  if (!out)
    return fail("cannot print the report");
  bool isGood = std::none_of(verdicts->begin(), verdicts->end(),
                             [](const Verdict &v) { return v.fails(); });
  return isGood ? 0 : 1;
}
