//===- Image.cpp - The PTX text of a layer, by lines and kernels ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Image.h"

#include <algorithm>
#include <cctype>

using namespace moe::faults;

bool Instruction::has(std::string_view modifier) const {
  return std::find(opcode.begin(), opcode.end(), modifier) != opcode.end();
}

std::string Instruction::name() const {
  std::string text;
  for (const std::string &part : opcode)
    text += (text.empty() ? "" : ".") + part;
  return text;
}

std::string Instruction::text() const {
  std::string line = "\t";
  if (!guard.empty())
    line += (negated ? "@!" : "@") + guard + " ";
  line += name();
  for (size_t i = 0; i < operands.size(); ++i)
    line += (i ? ", " : " \t") + operands[i];
  return line + ";";
}

/// Splits at a character that stands outside of brackets and braces.
static std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  std::string part;
  int depth = 0;
  for (char c : text) {
    depth += c == '[' || c == '{' || c == '(';
    depth -= c == ']' || c == '}' || c == ')';
    if (c == at && depth == 0) {
      parts.push_back(part);
      part.clear();
    } else if (!std::isspace(static_cast<unsigned char>(c))) {
      part += c;
    }
  }
  if (!part.empty())
    parts.push_back(part);
  return parts;
}

std::vector<std::string> moe::faults::splitOperands(std::string_view text) {
  return split(text, ',');
}

Instruction moe::faults::parseInstruction(const std::string &line) {
  std::string_view text = line;
  text = text.substr(0, text.find("//"));
  constexpr std::string_view kBlank = " \t";
  auto skip = [&] {
    size_t first = text.find_first_not_of(kBlank);
    text.remove_prefix(std::min(first, text.size()));
  };
  auto takeWord = [&] {
    skip();
    std::string word(text.substr(0, text.find_first_of(" \t;")));
    text.remove_prefix(word.size());
    skip();
    return word;
  };
  skip();
  size_t end = text.rfind(';');
  // Directives, labels, lines of a parameter list, several in a line.
  if (end == text.npos || text.find(';') != end || text[0] == '.' ||
      text[0] == '{' || text[0] == '}')
    return {};
  text = text.substr(0, end + 1);
  Instruction found;
  if (text[0] == '@') {
    std::string word = takeWord().substr(1);
    found.negated = word[0] == '!';
    found.guard = word.substr(found.negated);
  }
  found.opcode = split(takeWord(), '.');
  found.operands = split(text.substr(0, text.find(';')), ',');
  return found;
}

Image::Image(std::string_view text) {
  while (!text.empty()) {
    size_t end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string &line = lines[i];
    size_t at = line.find(".entry ");
    if (at == line.npos)
      continue;
    KernelLines kernel;
    kernel.name = line.substr(at + 7, line.find('(') - at - 7);
    kernel.begin = i;
    while (i + 1 < lines.size() && lines[i] != "{")
      ++i;
    kernel.body = i;
    while (i + 1 < lines.size() && lines[i] != "}")
      ++i;
    kernel.end = i + 1;
    kernels.push_back(kernel);
  }
}

const KernelLines *Image::find(std::string_view kernel) const {
  for (const KernelLines &own : kernels)
    if (own.name == kernel)
      return &own;
  return nullptr;
}

std::string Image::only(const KernelLines &kernel,
                        const std::vector<std::string> &changed) const {
  std::string text;
  auto kept = kernels.begin();
  for (size_t i = 0; i < lines.size(); ++i) {
    while (kept != kernels.end() && i >= kept->end)
      ++kept;
    if (i >= kernel.begin && i < kernel.end)
      text += changed[i - kernel.begin];
    else if (kept == kernels.end() || i < kept->begin)
      text += lines[i];
    text += '\n';
  }
  return text;
}
