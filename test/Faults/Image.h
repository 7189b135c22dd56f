//===- Image.h - The PTX text of a layer, by lines and kernels --*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_FAULTS_IMAGE_H
#define MOE_TEST_FAULTS_IMAGE_H

#include <string>
#include <string_view>
#include <vector>

namespace moe::faults {

/// One instruction of a line: "@!%p1 st.global.b32 [%rd1+4], %r2;".
struct Instruction {
  std::string guard;                 ///< "%p1", or empty.
  bool negated = false;              ///< Of the guard.
  std::vector<std::string> opcode;   ///< "st", "global", "b32".
  std::vector<std::string> operands; ///< As in the text, without blanks.

  explicit operator bool() const { return !opcode.empty(); }
  bool is(std::string_view name) const {
    return !opcode.empty() && opcode[0] == name;
  }
  bool has(std::string_view modifier) const;
  std::string name() const; ///< The opcode with its modifiers.
  std::string text() const; ///< As a line.
};

/// At commas that stand outside of brackets, without blanks.
std::vector<std::string> splitOperands(std::string_view text);

/// What stands in a line; false where that is no instruction.
Instruction parseInstruction(const std::string &line);

/// The lines [begin, end) of a kernel, from 0.
struct KernelLines {
  std::string name;
  size_t begin = 0;
  size_t body = 0; ///< Where the brace opens.
  size_t end = 0;
};

/// PTX as LLVM prints it: an instruction a line, kernels from `.entry` to a
/// brace at the head of a line.
struct Image {
  explicit Image(std::string_view text);

  std::vector<std::string> lines;
  std::vector<KernelLines> kernels;

  const KernelLines *find(std::string_view kernel) const;
  /// The text with no kernel but one, whose lines are `changed`. Every line
  /// stays where it was.
  std::string only(const KernelLines &kernel,
                   const std::vector<std::string> &changed) const;
};

} // namespace moe::faults

#endif // MOE_TEST_FAULTS_IMAGE_H
