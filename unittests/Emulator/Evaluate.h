//===- Evaluate.h - One instruction on many values --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_UNITTESTS_EMULATOR_EVALUATE_H
#define MOE_UNITTESTS_EMULATOR_EVALUATE_H

#include "Harness.h"

namespace moe::emulator::test {

using Values = std::vector<uint64_t>;

/// Runs `instruction` once for each index of the inputs: it reads a, b and c,
/// of the bits given, and writes d. "p" is a predicate that becomes d where
/// resultBits is 1.
inline Values evaluate(const std::string &instruction, unsigned resultBits,
                       const std::vector<unsigned> &bits,
                       const std::vector<Values> &inputs) {
  const char *names[] = {"a", "b", "c", "e"};
  size_t count = inputs[0].size();
  Device device;
  Arguments arguments;
  std::string params, body = ".reg .pred p, q, g;\n.reg .b32 i, n;\n"
                             ".reg .b64 at, at2;\n";
  body += "mov.u32 i, %ctaid.x;\nmov.u32 n, %ntid.x;\n"
          "mad.lo.u32 i, i, n, 0;\nmov.u32 n, %tid.x;\nadd.u32 i, i, n;\n"
          "setp.ge.u32 g, i, " +
          std::to_string(count) + ";\n@g exit;\n";
  for (size_t k = 0; k < inputs.size(); ++k) {
    std::string name = names[k], width = std::to_string(bits[k]);
    params += ".param .u64 p" + name + ", ";
    body += ".reg .b" + width + " " + name + ";\nld.param.u64 at, [p" + name +
            "];\nmul.wide.u32 at2, i, " + std::to_string(bits[k] / 8) +
            ";\nadd.u64 at, at, at2;\nld.global.b" + width + " " + name +
            ", [at];\n";
    std::vector<uint8_t> bytes;
    for (uint64_t value : inputs[k])
      for (unsigned byte = 0; byte < bits[k] / 8; ++byte)
        bytes.push_back(uint8_t(value >> 8 * byte));
    arguments.add(Buffer<uint8_t>(device, bytes).address);
  }
  unsigned outBits = resultBits == 1 ? 32 : resultBits;
  std::string width = std::to_string(outBits);
  params += ".param .u64 pd";
  body += ".reg .b" + width + " d;\n" + instruction + "\n";
  if (resultBits == 1)
    body += "selp.b32 d, 1, 0, p;\n";
  body += "ld.param.u64 at, [pd];\nmul.wide.u32 at2, i, " +
          std::to_string(outBits / 8) + ";\nadd.u64 at, at, at2;\nst.global.b" +
          width + " [at], d;\n";
  Buffer<uint8_t> out(device, count * outBits / 8);
  arguments.add(out.address);
  auto module = load(kernelText(params, body));
  if (!module)
    return Values(count);
  LaunchOptions options = launchOptions({uint32_t((count + 127) / 128)}, {128});
  options.checkGlobalRaces = false;
  expectClean(launch(device, *module, "k", options, arguments));
  std::vector<uint8_t> bytes = out.read();
  Values results(count);
  for (size_t i = 0; i < count; ++i)
    std::memcpy(&results[i], &bytes[i * outBits / 8], outBits / 8);
  return results;
}

inline uint64_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline uint64_t bitsOf(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float toFloat(uint64_t bits) {
  uint32_t low = uint32_t(bits);
  float value;
  std::memcpy(&value, &low, sizeof value);
  return value;
}
inline double toDouble(uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// All pairs of `values`, as two lists.
inline std::vector<Values> allPairs(const Values &values) {
  std::vector<Values> result(2);
  for (uint64_t a : values)
    for (uint64_t b : values) {
      result[0].push_back(a);
      result[1].push_back(b);
    }
  return result;
}

} // namespace moe::emulator::test

#endif // MOE_UNITTESTS_EMULATOR_EVALUATE_H
