//===- moe-plant-faults.cpp - Puts faults into a layer's kernels ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// A compiled layer is called once by the emulator. Then each of its kernels
// runs again on what it found, with one fault at a time: was it noticed?
//
//===----------------------------------------------------------------------===//

#include "Trial.h"
#include "moe/IO/Json.h"
#include "moe/Run/Benchmark.h"
#include "moe/Run/Bind.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <random>

using namespace moe;
using namespace moe::faults;

static constexpr const char *kHelp =
    R"(Puts faults into the kernels of a layer that moe-compile made for
gpu-emulator, one at a time, and says which ones are noticed.

usage: moe-plant-faults LAYER.so --entry=NAME [options of moe-run]
         [--sample=N --seed=S]  N faults by chance, of those executed
         [--part=I/N]           the Ith of N parts, from 0
         [--refused]            the call has to fail, behind its kernels

Prints one JSON object a line for each fault.
)";

namespace {

struct Settings {
  uint64_t sample = 0; ///< 0: all.
  uint64_t seed = 1;
  uint64_t part = 0, parts = 1;
  bool refused = false;             ///< The call has to fail.
  std::vector<const char *> others; ///< For moe-run's parser.
};

bool parseNumber(std::string_view text, uint64_t &value) {
  auto [end, code] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

io::Expected<Settings> parseSettings(int argc, const char *const *argv) {
  Settings settings;
  settings.others.push_back(argv[0]);
  for (int i = 1; i < argc; ++i) {
    std::string_view text = argv[i];
    auto takes = [&](std::string_view option) {
      if (text.substr(0, option.size()) != option)
        return false;
      text.remove_prefix(option.size());
      return true;
    };
    bool good = true;
    if (text == "--refused") {
      settings.refused = true;
    } else if (takes("--sample=")) {
      good = parseNumber(text, settings.sample);
    } else if (takes("--seed=")) {
      good = parseNumber(text, settings.seed);
    } else if (takes("--part=")) {
      size_t slash = text.find('/');
      good = slash != text.npos &&
             parseNumber(text.substr(0, slash), settings.part) &&
             parseNumber(text.substr(slash + 1), settings.parts) &&
             settings.part < settings.parts;
    } else {
      settings.others.push_back(argv[i]);
    }
    if (!good)
      return io::Error{std::string(argv[i]) + ": no such number"};
  }
  return settings;
}

/// Calls the layer once.
io::Status record(const run::Options &options, bool refused,
                  moe_context *context, Recorder &recorder,
                  moe_module *&module) {
  moe_entry entry;
  moe_context_set_gpu(context, &recorder);
  if (moe_module_load(context, options.file.c_str(), &module) != MOE_OK ||
      moe_module_entry(context, module, options.entry.c_str(), &entry) !=
          MOE_OK)
    return io::Error{moe_context_error(context)};
  io::Expected<run::BoundCall> call = run::bind(options, *entry.info);
  if (!call)
    return call.error();
  io::Status done = run::callEntry(context, entry, call->inputs, call->outputs);
  if (!refused)
    return done;
  if (done || recorder.launches.empty())
    return io::Error{"the call was to be refused behind some kernels"};
  return io::Success();
}

/// The kernels of a call in the order of their first launch.
struct Work {
  const Image *image;
  const KernelLines *kernel;
  std::vector<const RecordedLaunch *> launches;
};

io::Expected<std::vector<Work>>
groupLaunches(const Recorder &recorder, std::map<const void *, Image> &images) {
  std::vector<Work> works;
  for (const RecordedLaunch &launch : recorder.launches) {
    auto image =
        images.try_emplace(launch.image, recorder.images.at(launch.image))
            .first;
    const KernelLines *kernel = image->second.find(launch.kernel);
    if (!kernel)
      return io::Error{"the text of kernel '" + launch.kernel +
                       "' was not found"};
    auto own = std::find_if(works.begin(), works.end(), [&](const Work &work) {
      return work.kernel == kernel;
    });
    if (own == works.end())
      own = works.insert(own, {&image->second, kernel, {}});
    own->launches.push_back(&launch);
  }
  return works;
}

/// A line without blanks around it.
std::string trimmed(const std::string &line) {
  size_t first = line.find_first_not_of(" \t");
  std::string text = first == line.npos ? "" : line.substr(first);
  std::replace(text.begin(), text.end(), '\t', ' ');
  return text;
}

/// The instructions and labels around one, this one as "*".
std::string linesAround(const Work &work, size_t line) {
  constexpr int kLines = 3;
  auto isPlace = [&](size_t i) {
    return trimmed(work.image->lines[i]).compare(0, 4, ".loc") == 0;
  };
  std::string text = "* ";
  int left = kLines;
  for (size_t i = line; left > 0 && i-- > work.kernel->begin;)
    if (!isPlace(i)) {
      text = trimmed(work.image->lines[i]) + " " + text;
      --left;
    }
  left = kLines;
  for (size_t i = line + 1; left > 0 && i < work.kernel->end; ++i)
    if (!isPlace(i)) {
      text += trimmed(work.image->lines[i]) + " ";
      --left;
    }
  return text;
}

/// What decides how a kernel works.
std::string featuresOf(const Work &work) {
  std::string text;
  bool storesFlags = true;
  for (size_t i = work.kernel->body; i < work.kernel->end; ++i) {
    const std::string &line = work.image->lines[i];
    for (const char *feature :
         {"mma.sync", "bar.sync", "shfl.sync.bfly", "st.global.b8"})
      if (line.find(feature) != line.npos && text.find(feature) == text.npos)
        text += feature + std::string(" ");
    storesFlags &= line.find("st.global") == line.npos ||
                   line.find("st.global.b8") != line.npos;
  }
  return text + (storesFlags ? "only flags" : "numbers");
}

void print(const Work &work, const Fault &fault, const Verdict &verdict) {
  auto field = [](const char *name, const std::string &value) {
    return std::string("\"") + name + "\": " + io::quoteJson(value);
  };
  std::printf("{%s, %s, \"line\": %zu, %s, %s, %s, %s, %s, %s}\n",
              field("kernel", work.kernel->name).c_str(),
              field("uses", featuresOf(work)).c_str(), fault.line + 1,
              field("text", trimmed(work.image->lines[fault.line])).c_str(),
              field("near", linesAround(work, fault.line)).c_str(),
              field("fault", faultKindName(fault.kind)).c_str(),
              field("what", fault.what).c_str(),
              field("outcome", outcomeName(verdict.outcome)).c_str(),
              field("detail", verdict.detail).c_str());
}

/// Which of `count` faults to judge: a sample by chance, and of that a part.
std::vector<bool> choose(size_t count, const Settings &settings) {
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i)
    order[i] = i;
  if (settings.sample) {
    // std::shuffle is not the same everywhere; this is.
    std::mt19937_64 random(settings.seed);
    for (size_t i = count; i > 1; --i)
      std::swap(order[i - 1], order[random() % i]);
    order.resize(std::min<size_t>(count, settings.sample));
  }
  std::vector<bool> chosen(count);
  for (size_t i = settings.part; i < order.size(); i += settings.parts)
    chosen[order[i]] = true;
  return chosen;
}

io::Status judgeAll(const Settings &settings, Recorder &recorder) {
  std::map<const void *, Image> images;
  auto works = groupLaunches(recorder, images);
  if (!works)
    return works.error();
  std::vector<Trial> trials;
  std::vector<std::pair<size_t, Fault>> faults;
  for (const Work &work : *works) {
    Trial &trial =
        trials.emplace_back(recorder, *work.image, *work.kernel, work.launches);
    if (io::Status status = trial.start(); !status)
      return status;
    for (Fault &fault : findFaults(*work.image, *work.kernel)) {
      if (trial.reaches(fault))
        faults.emplace_back(trials.size() - 1, std::move(fault));
      else if (settings.part == 0)
        print(work, fault, Verdict());
    }
  }
  std::vector<bool> chosen = choose(faults.size(), settings);
  for (size_t i = 0; i < faults.size(); ++i) {
    if (!chosen[i])
      continue;
    const auto &[number, fault] = faults[i];
    auto verdict = trials[number].judge(fault);
    if (!verdict)
      return io::Error{(*works)[number].kernel->name + ", line " +
                       std::to_string(fault.line + 1) + ", " + fault.what +
                       ": " + verdict.message()};
    print((*works)[number], fault, *verdict);
  }
  return io::Success();
}

int report(const std::string &message) {
  std::fprintf(stderr, "moe-plant-faults: error: %s\n", message.c_str());
  return 1;
}

} // namespace

int main(int argc, char **argv) {
  auto settings = parseSettings(argc, argv);
  if (!settings)
    return report(settings.message());
  auto options =
      run::parseOptions(int(settings->others.size()), settings->others.data());
  if (!options)
    return report(options.message());
  if (options->help) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  moe_context *context = nullptr;
  if (moe_context_create(/*threads=*/1, &context) != MOE_OK)
    return report("no context");
  Recorder recorder;
  moe_module *module = nullptr;
  io::Status status =
      record(*options, settings->refused, context, recorder, module);
  if (status)
    status = judgeAll(*settings, recorder);
  moe_module_unload(module);
  moe_context_destroy(context);
  return status ? 0 : report(status.message());
}
