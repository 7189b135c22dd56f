//===- Run.cpp - moe-run without its compiler -----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Run.h"
#include "Numbers.h"
#include "moe/IO/Json.h"
#include "moe/Run/Bind.h"
#include "moe/Run/Pack.h"

#include <ostream>

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::Status;

namespace {

/// What a run found out.
struct Report {
  const Options &options;
  const moe_entry_info &info;
  const BoundCall &call;
  int threads;
  std::optional<Cost> cost;
  std::optional<Timing> timing;

  void printText(std::ostream &out) const;
  void printJson(std::ostream &out) const;

private:
  const BoundCall::Destination *destination(uint32_t output) const {
    for (const BoundCall::Destination &to : call.destinations)
      if (to.output == output)
        return &to;
    return nullptr;
  }
  std::string jsonResult(uint32_t output) const;
  std::string jsonTiming() const;
};

std::string pathText(const io::TensorPath &path) {
  return path.name.empty() ? path.file : path.file + "#" + path.name;
}

std::string resultName(const moe_entry_info &info, uint32_t output) {
  return fieldText(info.args[info.num_inputs + output].name);
}

/// `amount` per second in units of 1e9.
double rate(double amount, double seconds) { return amount / seconds * 1e-9; }

} // namespace

void Report::printText(std::ostream &out) const {
  out << "entry " << fieldText(info.name) << ", target "
      << targetName(options.target) << ", threads " << threads << "\n";
  for (uint32_t i = 0; i < call.outputs.size(); ++i) {
    out << "result " << resultName(info, i) << ": "
        << io::dtypeName(call.outputs[i].dtype()) << " "
        << io::shapeText(call.resultShapes[i]);
    if (const auto *to = destination(i))
      out << " -> " << pathText(to->path);
    out << "\n";
  }
  if (!timing)
    return;
  out << "time: median " << number(timing->median * 1e6, 4) << " us, min "
      << number(timing->min * 1e6, 4) << " us of " << timing->repeat
      << " calls\n";
  if (cost)
    out << "rate: " << number(rate(cost->flops, timing->median), 4)
        << " GFLOP/s, " << number(rate(cost->weightBytes, timing->median), 4)
        << " GB/s of weights (by the median)\n";
  out << "cache: " << timing->rotation.text() << "\n";
}

std::string Report::jsonResult(uint32_t output) const {
  std::string shape;
  for (int64_t size : call.resultShapes[output])
    shape += (shape.empty() ? "" : ", ") + std::to_string(size);
  const BoundCall::Destination *to = destination(output);
  return "{\"name\": " + io::quoteJson(resultName(info, output)) +
         ", \"dtype\": " +
         io::quoteJson(io::dtypeName(call.outputs[output].dtype())) +
         ", \"shape\": [" + shape +
         "], \"path\": " + (to ? io::quoteJson(pathText(to->path)) : "null") +
         "}";
}

std::string Report::jsonTiming() const {
  if (!timing)
    return "null";
  const Rotation &r = timing->rotation;
  auto costNumber = [&](double value) {
    return cost ? jsonNumber(value) : std::string("null");
  };
  Cost known = cost.value_or(Cost());
  return "{\"repeat\": " + std::to_string(timing->repeat) +
         ", \"median_s\": " + jsonNumber(timing->median) +
         ", \"min_s\": " + jsonNumber(timing->min) +
         ", \"flops\": " + costNumber(known.flops) +
         ", \"weight_bytes\": " + costNumber(known.weightBytes) +
         ", \"gflop_per_s\": " + costNumber(rate(known.flops, timing->median)) +
         ", \"weight_gb_per_s\": " +
         costNumber(rate(known.weightBytes, timing->median)) +
         ", \"rotation\": {\"cache_bytes\": " + std::to_string(r.cacheBytes) +
         ", \"activation_bytes\": " + std::to_string(r.activationBytes) +
         ", \"activation_copies\": " + std::to_string(r.activationCopies) +
         ", \"weight_bytes\": " + std::to_string(r.weightBytes) +
         ", \"weight_copies\": " + std::to_string(r.weightCopies) +
         ", \"touched_bytes\": " + jsonNumber(r.touchedBytes) +
         ", \"over_8x_cache\": " + (r.enough ? "true" : "false") + "}}";
}

void Report::printJson(std::ostream &out) const {
  std::string results;
  for (uint32_t i = 0; i < call.outputs.size(); ++i)
    results += (i ? ", " : "") + jsonResult(i);
  out << "{\"file\": " << io::quoteJson(options.file)
      << ", \"entry\": " << io::quoteJson(fieldText(info.name))
      << ", \"target\": " << io::quoteJson(targetName(options.target))
      << ", \"threads\": " << threads << ", \"results\": [" << results
      << "], \"benchmark\": " << jsonTiming() << "}\n";
}

/// Everything that can fail; the report is printed once nothing can any more.
static Status runChecked(const Options &options, const moe_entry &entry,
                         moe_context *context, const CostFn &costFn,
                         std::ostream &out, std::ostream &err) {
  auto note = [&](const std::string &text) {
    err << "moe-run: note: " << text << "\n";
  };
  if (!entry.info)
    return Error{"the entry has no description"};
  bool packs = packsWeights(entry) && !options.packed;
  std::shared_ptr<const moe_entry_info> stored;
  if (packs && !(stored = describeStored(entry)))
    return Error{"no memory for a description"};
  Expected<BoundCall> call = bind(options, packs ? *stored : *entry.info);
  if (!call)
    return call.error();
  for (const std::string &text : call->notes)
    note(text);
  std::vector<io::Tensor> given = call->inputs;
  if (packs) {
    auto inputs = packInputs(context, entry, given);
    if (!inputs)
      return inputs.error();
    call->inputs = std::move(*inputs);
  }
  if (Status status = callEntry(context, entry, call->inputs, call->outputs);
      !status)
    return status;

  if (options.repeat == 0)
    given.clear();
  Report report{options, *entry.info, *call, moe_context_threads(context),
                {},      {}};
  if (options.repeat > 0) {
    if (costFn)
      report.cost = costFn(given, call->outputs);
    given.clear();
    Expected<Timing> timing =
        benchmark(context, entry, call->inputs, call->outputs, options.repeat,
                  report.cost);
    if (!timing)
      return timing.error();
    report.timing = *timing;
  }
  Expected<std::vector<std::string>> written = writeResults(*call, *entry.info);
  if (!written)
    return written.error();
  for (const std::string &text : *written)
    note(text);
  options.json ? report.printJson(out) : report.printText(out);
  out.flush();
  if (!out)
    return Error{"cannot print the report"};
  return io::Success();
}

int moe::run::runEntry(const Options &options, const moe_entry &entry,
                       moe_context *context, const CostFn &cost,
                       std::ostream &out, std::ostream &err) {
  Status status = runChecked(options, entry, context, cost, out, err);
  if (status)
    return 0;
  err << "moe-run: error: " << status.message() << "\n";
  return 1;
}
