//===- Header.cpp - C headers of compiled layers --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/ExecutionEngine/Compiler.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace mlir::moe;

/// Text that ends no comment and continues no line.
static std::string forComment(StringRef text) {
  std::string printable;
  llvm::raw_string_ostream os(printable);
  llvm::printEscapedString(text, os);
  return printable;
}

static std::string describeType(const moe_entry_info &info,
                                const moe_arg_info &arg) {
  std::string text;
  llvm::raw_string_ostream os(text);
  switch (arg.dtype.code) {
  case 4:
    os << "bf" << unsigned(arg.dtype.bits);
    break;
  case 2:
    os << "f" << unsigned(arg.dtype.bits);
    break;
  case 6:
    os << "bool";
    break;
  default:
    os << (arg.dtype.code == 1 ? "u" : "i") << unsigned(arg.dtype.bits);
  }
  os << "[";
  for (int32_t dim = 0; dim < arg.rank; ++dim) {
    if (dim)
      os << ", ";
    if (arg.shape[dim] >= 0)
      os << arg.shape[dim];
    else
      os << forComment(info.symbol_name[-1 - arg.shape[dim]]);
  }
  os << "]";
  return text;
}

static void emitEntry(llvm::raw_ostream &os, const EntryDescription &entry) {
  const moe_entry_info &info = *entry.get();
  os << "// " << entry.name << "\n";
  for (uint32_t i = 0; i < info.num_inputs + info.num_outputs; ++i) {
    const moe_arg_info &arg = info.args[i];
    bool isInput = i < info.num_inputs;
    os << "//   " << (isInput ? "in[" : "out[")
       << (isInput ? i : i - info.num_inputs) << "] " << forComment(arg.name)
       << ": " << describeType(info, arg);
    if (arg.layout[0])
      os << " " << forComment(arg.layout);
    os << "\n";
  }
  for (uint32_t i = 0; i < info.num_symbols; ++i)
    os << "//   " << forComment(info.symbol_name[i])
       << " <= " << info.symbol_bound[i] << "\n";
  std::string name = "moe_" + entry.name;
  os << "int " << name
     << "(moe_context *context, const moe_tensor *in, moe_tensor *out,\n"
     << "    void *workspace, size_t workspace_bytes);\n"
     << "int " << name
     << "_workspace(moe_context *context, const moe_tensor *in,\n"
     << "    size_t *bytes);\n"
     << "int " << name
     << "_pack(moe_context *context, const moe_tensor *in, moe_tensor *out);\n"
     << "extern const moe_entry_info " << name << "_info;\n"
     << "extern const moe_entry_info " << name << "_pack_info;\n\n";
}

llvm::Expected<std::string>
moe::emitHeader(const std::vector<EntryDescription> &entries,
                StringRef fileName) {
  for (const EntryDescription &entry : entries)
    for (char c : entry.name)
      if (!llvm::isAlnum(c) && c != '_')
        return llvm::createStringError("entry '" + entry.name +
                                       "' has no name that C allows");
  std::string guard;
  for (char c : llvm::sys::path::filename(fileName))
    guard.push_back(llvm::isAlnum(c) ? llvm::toUpper(c) : '_');
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "// Written by moe-compile: the entries of a compiled layer.\n"
     << "#ifndef MOE_LAYER_" << guard << "\n#define MOE_LAYER_" << guard
     << "\n\n#include \"moe/Runtime/moe_rt.h\"\n\n"
     << "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
  for (const EntryDescription &entry : entries)
    emitEntry(os, entry);
  os << "#ifdef __cplusplus\n}\n#endif\n\n#endif // MOE_LAYER_" << guard
     << "\n";
  return text;
}
