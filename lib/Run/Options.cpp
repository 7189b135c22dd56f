//===- Options.cpp - The command line of moe-run --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Options.h"
#include "moe/IO/TensorPath.h"

#include <charconv>
#include <limits>
#include <string_view>

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::Status;
using moe::io::Success;

static constexpr std::pair<Target, const char *> kTargets[] = {
    {Target::Cpu, "cpu"},
    {Target::Oracle, "oracle"},
    {Target::Cuda, "cuda"},
    {Target::GpuEmulator, "gpu-emulator"},
};

const char *moe::run::targetName(Target target) {
  for (const auto &[known, name] : kTargets)
    if (known == target)
      return name;
  return "";
}

namespace {

template <typename T>
Status parseNumber(std::string_view option, std::string_view text, T least,
                   T &value) {
  auto [end, code] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < least)
    return Error{std::string(option) + ": '" + std::string(text) +
                 "' is not an integer from " + std::to_string(least) + " to " +
                 std::to_string(std::numeric_limits<T>::max())};
  return Success();
}

Expected<Setting> parseSetting(std::string_view option, std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0 ||
      equals + 1 == text.size())
    return Error{std::string(option) + ": '" + std::string(text) +
                 "' is not of the form NAME=VALUE"};
  return Setting(text.substr(0, equals), text.substr(equals + 1));
}

class Parser {
public:
  Options options;

  Status parseOne(std::string_view text) {
    for (const auto &[flag, member] : kFlags)
      if (text == flag) {
        options.*member = true;
        return Success();
      }
    if (text.empty() || text[0] != '-')
      return setOnce("FILE", options.file, text);
    size_t equals = text.find('=');
    std::string_view name = text.substr(0, equals);
    bool isKnown = false;
    for (std::string_view known : kWithValue)
      isKnown |= name == known;
    for (const auto &[flag, member] : kFlags)
      if (name == flag)
        return Error{"option '" + std::string(name) + "' takes no value"};
    if (!isKnown) {
      std::vector<std::string> known(std::begin(kWithValue),
                                     std::end(kWithValue));
      for (const auto &[flag, member] : kFlags)
        known.emplace_back(flag);
      return Error{"unknown option '" + std::string(name) + "'" +
                   io::suggestNames(name, known, "the options are ")};
    }
    if (equals == std::string_view::npos || equals + 1 == text.size())
      return Error{"option '" + std::string(name) +
                   "' needs a value: " + std::string(name) + "=..."};
    return parseValue(name, text.substr(equals + 1));
  }

private:
  static constexpr std::pair<std::string_view, bool Options::*> kFlags[] = {
      {"-h", &Options::help},
      {"--help", &Options::help},
      {"--json", &Options::json},
      {"--statistics", &Options::statistics},
      {"--plan", &Options::plan},
      {"--check-gradients", &Options::checkGradients},
      {"--tf32", &Options::tf32},
      {"--pack-weights", &Options::packWeights},
      {"--packed", &Options::packed},
      {"--batch-invariant", &Options::batchInvariant}};
  static constexpr std::string_view kWithValue[] = {
      "--entry",  "--arg",     "--out",    "--layout", "--dim",
      "--target", "--threads", "--repeat", "--chip",   "--schedule"};

  static Status setOnce(const char *what, std::string &to,
                        std::string_view text) {
    if (text.empty())
      return Error{std::string(what) + " is empty"};
    if (!to.empty())
      return Error{std::string(what) + " is given twice: '" + to + "' and '" +
                   std::string(text) + "'"};
    to = text;
    return Success();
  }

  Status parseValue(std::string_view name, std::string_view text) {
    if (name == "--entry")
      return setOnce("--entry", options.entry, text);
    if (name == "--threads")
      return parseNumber(name, text, 0, options.threads);
    if (name == "--repeat")
      return parseNumber(name, text, 1, options.repeat);
    if (name == "--schedule")
      return parseNumber<uint64_t>(name, text, 0, options.schedule);
    if (name == "--target") {
      for (const auto &[known, name] : kTargets)
        if (text == name) {
          options.target = known;
          return Success();
        }
      return Error{"--target: '" + std::string(text) +
                   "' is none of cpu, oracle, cuda and gpu-emulator"};
    }
    if (name == "--chip")
      return setOnce("--chip", options.chip, text);
    Expected<Setting> setting = parseSetting(name, text);
    if (!setting)
      return setting.error();
    if (name == "--dim") {
      int64_t size;
      if (Status status = parseNumber<int64_t>("--dim=" + setting->first,
                                               setting->second, 0, size);
          !status)
        return status;
      options.dims.emplace_back(setting->first, size);
      return Success();
    }
    auto &list = name == "--arg"   ? options.args
                 : name == "--out" ? options.outs
                                   : options.layouts;
    list.push_back(std::move(*setting));
    return Success();
  }
};

} // namespace

Expected<Options> moe::run::parseOptions(int argc, const char *const *argv) {
  Parser parser;
  for (int i = 1; i < argc; ++i)
    if (Status status = parser.parseOne(argv[i]); !status)
      return status.error();
  if (!parser.options.help && parser.options.file.empty())
    return Error{"no FILE given; see --help"};
  const Options &options = parser.options;
  if (!options.chip.empty() && !isGPU(options.target))
    return Error{"--chip is of a GPU: it goes with --target=cuda or "
                 "gpu-emulator"};
  if ((options.tf32 || options.batchInvariant) && !isGPU(options.target))
    return Error{"--tf32 and --batch-invariant are of a GPU: they go with "
                 "--target=cuda or gpu-emulator"};
  if (options.packWeights && options.target != Target::Cpu)
    return Error{"--pack-weights is of --target=cpu"};
  if (options.packWeights && options.checkGradients)
    return Error{"--check-gradients differentiates weights as they are stored: "
                 "it goes without --pack-weights"};
  if (options.statistics && options.target != Target::GpuEmulator)
    return Error{"--statistics is of --target=gpu-emulator"};
  if (options.plan && options.target != Target::GpuEmulator)
    return Error{"--plan is of --target=gpu-emulator"};
  if (options.plan && (options.statistics || options.json))
    return Error{"--plan has the statistics in its table, and no JSON: it goes "
                 "without --statistics and --json"};
  if (options.schedule && options.target != Target::GpuEmulator)
    return Error{"--schedule is of --target=gpu-emulator"};
  if (options.checkGradients && isGPU(options.target))
    return Error{"--check-gradients has no target " +
                 std::string(targetName(options.target))};
  if (options.checkGradients && (options.repeat > 0 || !options.outs.empty()))
    return Error{"--check-gradients neither measures nor writes results: it "
                 "goes without --repeat and --out"};
  return std::move(parser.options);
}

std::string moe::run::helpText() {
  return R"(Runs a Mixture-of-Experts layer on tensors from files.

usage: moe-run FILE [options]

FILE is MLIR text or bytecode, or a shared library of moe-compile (.so).

  --entry=NAME         the function to run; needed where FILE has several
  --arg=NAME=VALUE     an argument, where VALUE is one of
                         FILE.npy
                         FILE.safetensors#TENSOR
                         FILE.safetensors.index.json#TENSOR
                         random:SEED[:SCALE]   normal numbers, the same on
                                               every machine
                         zeros, ones, iota
                       f32 files are rounded to bf16 or f16 where the argument
                       is; an argument [T, H] may be given as [B, S, H]
  --dim=NAME=SIZE      a dynamic size, for arguments that are not from files
  --layout=NAME=TEXT   states the layout of a weight read from a file, unless
                       its safetensors file has it in __metadata__ under
                       moe.layout.TENSOR
  --out=NAME=FILE      writes a result, to FILE.npy (bf16 as f32) or
                       FILE.safetensors#TENSOR; all are written or none
  --target=TARGET      cpu (default); oracle: the naive reference lowering;
                       cuda: an NVIDIA GPU; gpu-emulator: the same code, every
                       access checked, on this machine's processor
  --chip=NAME          the GPU that code is made for, sm_80 (default), ...
  --tf32               f32 is multiplied as tf32, of 11 bits, on a GPU
  --batch-invariant    on a GPU no row's result depends on how many rows its
                       expert has
  --pack-weights       compiles FILE for packed expert weights, and packs those
                       that are given, before the first call
  --packed             expert weights are given packed, as FILE reads them
  --threads=N          threads; 0 (default) is one a core
  --repeat=N           measures N calls
  --check-gradients    compares the gradients of all floating-point arguments
                       with central differences, in f64, along a random
                       direction each; exit code 1 where one differs
  --schedule=SEED      emulated warps and blocks run in an order by chance; 0
                       (default) is in turn
  --statistics         prints what each emulated kernel executed: counts, no
                       times
  --plan               prints the emulated kernels, how they are launched, what
                       they executed, and what that allows known devices at
                       best, which is modelled
  --json               prints the report as one JSON object
  --help               prints this text
)";
}
