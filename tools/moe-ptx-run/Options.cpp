//===- Options.cpp - The command line of moe-ptx-run ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Options.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

using namespace moe;
using namespace moe::ptxrun;

namespace {

constexpr const char *kHelp = R"(usage: moe-ptx-run FILE.ptx [options]

Executes a kernel of a PTX file on this machine, without a GPU, and reports
races, accesses out of bounds, misaligned or never written, missing waits and
barriers that not all threads reach.

  --kernel NAME          which one; not needed where there is only one
  --grid X[,Y[,Z]]       blocks
  --block X[,Y[,Z]]      threads of a block
  --shared BYTES         dynamic shared memory

Parameters, in the order of the kernel's:
  --arg TYPE:VALUE       a value, such as i32:5, f32:1.5, bytes:00ff; or
                         ptr:NAME, the address of a buffer once more
  --buffer NAME=TYPE:SHAPE[:FILL]
                         memory, of which the kernel gets the address. SHAPE is
                         a number or such as 4x1024; FILL is none (nothing
                         written yet), zeros, ones, iota or random[:SEED];
                         without it, none
  --buffer NAME=@FILE.npy
                         memory with the values of a file
  --memref ...           the same, but the kernel gets what MLIR passes for a
                         memref: two addresses, offset, sizes, strides

Results:
  --out NAME=FILE.npy    writes a buffer
  --print NAME[:COUNT]   prints the first values of a buffer

Running:
  --seed N               0: warps in turn; otherwise a random order
  --schedules N          runs N times: in turn, then in N - 1 random orders
  --max-instructions N   of warps, after which a run counts as hanging
  --no-check NAME        leaves out races, global-races or written
  --stats                counts of instructions, sectors, bank passes ...
  --json                 everything as one JSON object
  --list                 the kernels of the file and their parameters
  --help                 this

Options take their values after a blank or '='. Exits with 1 where anything
was reported.
)";

io::Error badValue(std::string_view option, std::string_view text,
                   const std::string &what) {
  return io::Error{std::string(option) + ": '" + std::string(text) + "' " +
                   what};
}

template <typename T> bool parseInteger(std::string_view text, T &value) {
  int base = 10;
  if (text.substr(0, 2) == "0x") {
    text.remove_prefix(2);
    base = 16;
  }
  const char *end = text.data() + text.size();
  auto [stop, code] = std::from_chars(text.data(), end, value, base);
  return code == std::errc() && stop == end && !text.empty();
}

io::Status parseDim(std::string_view option, std::string_view text,
                    emulator::Dim3 &dim) {
  uint32_t sizes[3] = {1, 1, 1};
  std::string_view rest = text;
  for (unsigned i = 0;; ++i) {
    size_t comma = rest.find(',');
    if (i == 3 || !parseInteger(rest.substr(0, comma), sizes[i]))
      return badValue(option, text, "is not of the form X, X,Y or X,Y,Z");
    if (comma == std::string_view::npos)
      break;
    rest.remove_prefix(comma + 1);
  }
  dim = {sizes[0], sizes[1], sizes[2]};
  return io::Success();
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos)
      return parts;
    text.remove_prefix(at + 1);
  }
}

struct NamedType {
  const char *name;
  moe_dtype dtype;
};
constexpr NamedType kTypes[] = {
    {"i8", io::kI8},   {"i16", io::kI16}, {"i32", io::kI32},
    {"i64", io::kI64}, {"u8", io::kU8},   {"u16", io::kU16},
    {"u32", io::kU32}, {"u64", io::kU64}, {"f16", io::kF16},
    {"f32", io::kF32}, {"f64", io::kF64}, {"bf16", io::kBF16}};

bool parseType(std::string_view name, moe_dtype &dtype) {
  for (const NamedType &type : kTypes)
    if (name == type.name) {
      dtype = type.dtype;
      return true;
    }
  return false;
}

std::string typeNames() {
  std::string names;
  for (const NamedType &type : kTypes)
    names += std::string(names.empty() ? "" : ", ") + type.name;
  return names;
}

template <typename T> std::vector<uint8_t> bytesOf(T value) {
  std::vector<uint8_t> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

io::Status parseValue(std::string_view option, std::string_view text,
                      ArgumentSpec &spec) {
  size_t colon = text.find(':');
  if (colon == std::string_view::npos)
    return badValue(option, text, "is not of the form TYPE:VALUE");
  std::string_view type = text.substr(0, colon);
  std::string value(text.substr(colon + 1));
  if (type == "ptr") {
    spec.reference = value;
    return io::Success();
  }
  auto bad = [&] {
    return badValue(option, text,
                    "has no value that fits into " + std::string(type));
  };
  if (type == "bytes") {
    if (value.empty() || value.size() % 2)
      return bad();
    for (size_t i = 0; i < value.size(); i += 2) {
      uint8_t byte = 0;
      auto [stop, code] = std::from_chars(&value[i], &value[i] + 2, byte, 16);
      if (code != std::errc() || stop != &value[i] + 2)
        return bad();
      spec.bytes.push_back(byte);
    }
    return io::Success();
  }
  moe_dtype dtype;
  if (!parseType(type, dtype))
    return badValue(option, text,
                    "has an unknown type; types are ptr, bytes, " +
                        typeNames());
  if (type[0] == 'f' || type[0] == 'b') {
    char *end = nullptr;
    double number = std::strtod(value.c_str(), &end);
    if (value.empty() || *end)
      return bad();
    spec.bytes = type == "f64"    ? bytesOf(number)
                 : type == "f32"  ? bytesOf(float(number))
                 : type == "bf16" ? bytesOf(io::f32ToBF16(float(number)))
                                  : bytesOf(io::f32ToF16(float(number)));
    return io::Success();
  }
  unsigned bits = dtype.bits;
  int64_t number = 0;
  if (type[0] == 'u') {
    uint64_t wide = 0;
    if (!parseInteger(value, wide) || (bits < 64 && wide >> bits))
      return bad();
    number = int64_t(wide);
  } else if (!parseInteger(value, number) ||
             (bits < 64 && (number >> (bits - 1)) != 0 &&
              (number >> (bits - 1)) != -1)) {
    return bad();
  }
  spec.bytes = bytesOf(number);
  spec.bytes.resize(bits / 8);
  return io::Success();
}

io::Status parseBuffer(std::string_view option, std::string_view text,
                       ArgumentSpec &spec) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0)
    return badValue(option, text,
                    "is not of the form NAME=TYPE:SHAPE[:FILL] or "
                    "NAME=@FILE.npy");
  spec.name = text.substr(0, equals);
  std::string_view rest = text.substr(equals + 1);
  if (!rest.empty() && rest[0] == '@') {
    spec.path = rest.substr(1);
    return io::Success();
  }
  std::vector<std::string_view> parts = split(rest, ':');
  if (!parseType(parts[0], spec.dtype))
    return badValue(option, text,
                    "has an unknown type; types are " + typeNames());
  for (std::string_view size :
       split(parts.size() > 1 ? parts[1] : std::string_view(), 'x')) {
    spec.shape.push_back(0);
    if (!parseInteger(size, spec.shape.back()) || spec.shape.back() < 1)
      return badValue(option, text, "has no number of elements");
  }
  constexpr std::string_view fills[] = {"none", "zeros", "ones", "iota",
                                        "random"};
  if (parts.size() > 2) {
    unsigned fill = 0;
    while (fill < 5 && parts[2] != fills[fill])
      ++fill;
    if (fill == 5)
      return badValue(option, text,
                      "is filled by none, zeros, ones, iota or random");
    spec.fill = ArgumentSpec::Fill(fill);
  }
  bool seeded = spec.fill == ArgumentSpec::Random && parts.size() == 4;
  if (parts.size() > 3 && (!seeded || !parseInteger(parts[3], spec.seed)))
    return badValue(option, text, "has something after its filling");
  return io::Success();
}

class Parser {
public:
  Options options;

  io::Status parse(std::string_view name, std::string_view value) {
    if (name == "--kernel") {
      options.kernel = value;
      return io::Success();
    }
    if (name == "--grid") {
      options.haveGrid = true;
      return parseDim(name, value, options.launch.grid);
    }
    if (name == "--block") {
      options.haveBlock = true;
      return parseDim(name, value, options.launch.block);
    }
    if (name == "--shared")
      return number(name, value, options.launch.dynamicShared);
    if (name == "--seed")
      return number(name, value, options.launch.seed);
    if (name == "--max-instructions")
      return number(name, value, options.launch.maxWarpInstructions);
    if (name == "--schedules") {
      if (io::Status status = number(name, value, options.schedules); !status)
        return status;
      if (options.schedules == 0)
        return badValue(name, value, "is no number of runs");
      return io::Success();
    }
    if (name == "--no-check")
      return leaveOut(name, value);
    if (name == "--arg" || name == "--buffer" || name == "--memref") {
      ArgumentSpec spec;
      spec.text = std::string(name) + " " + std::string(value);
      spec.memref = name == "--memref";
      io::Status status = name == "--arg" ? parseValue(name, value, spec)
                                          : parseBuffer(name, value, spec);
      if (!status)
        return status;
      for (const ArgumentSpec &other : options.arguments)
        if (!spec.name.empty() && other.name == spec.name)
          return badValue(name, value, "uses a name for the second time");
      options.arguments.push_back(std::move(spec));
      return io::Success();
    }
    return parseOutput(name, value);
  }

private:
  template <typename T>
  static io::Status number(std::string_view name, std::string_view text,
                           T &value) {
    if (!parseInteger(text, value))
      return badValue(name, text, "is not a number");
    return io::Success();
  }

  io::Status leaveOut(std::string_view name, std::string_view value) {
    if (value == "races")
      options.launch.checkRaces = options.launch.checkGlobalRaces = false;
    else if (value == "global-races")
      options.launch.checkGlobalRaces = false;
    else if (value == "written")
      options.launch.checkWritten = false;
    else
      return badValue(name, value,
                      "is no check; they are races, global-races, written");
    return io::Success();
  }

  io::Status parseOutput(std::string_view name, std::string_view value) {
    OutputSpec output;
    size_t at = value.find(name == "--out" ? '=' : ':');
    output.name = value.substr(0, at);
    if (name == "--out") {
      if (at == std::string_view::npos || at + 1 == value.size())
        return badValue(name, value, "is not of the form NAME=FILE.npy");
      output.path = value.substr(at + 1);
      options.outputs.push_back(std::move(output));
      return io::Success();
    }
    output.count = 8;
    if (at != std::string_view::npos &&
        !parseInteger(value.substr(at + 1), output.count))
      return badValue(name, value, "is not of the form NAME[:COUNT]");
    options.prints.push_back(std::move(output));
    return io::Success();
  }
};

constexpr std::string_view kWithValue[] = {
    "--kernel",  "--grid",   "--block",     "--shared",
    "--arg",     "--buffer", "--memref",    "--out",
    "--print",   "--seed",   "--schedules", "--max-instructions",
    "--no-check"};

io::Status checkOptions(const Options &options) {
  if (options.file.empty())
    return io::Error{"no file; see --help"};
  if (options.list)
    return io::Success();
  if (!options.haveGrid || !options.haveBlock)
    return io::Error{"--grid and --block are needed"};
  std::vector<std::string> names;
  for (const auto *outputs : {&options.outputs, &options.prints})
    for (const OutputSpec &output : *outputs)
      names.push_back(output.name);
  for (const ArgumentSpec &argument : options.arguments)
    if (!argument.reference.empty())
      names.push_back(argument.reference);
  for (const std::string &name : names) {
    bool known = false;
    for (const ArgumentSpec &argument : options.arguments)
      known |= argument.name == name && !name.empty();
    if (!known)
      return io::Error{"there is no buffer '" + name + "'"};
  }
  return io::Success();
}

} // namespace

io::Expected<Options> ptxrun::parseOptions(int argc, const char *const *argv) {
  Parser parser;
  for (int i = 1; i < argc; ++i) {
    std::string_view text = argv[i];
    if (text == "-h" || text == "--help")
      parser.options.help = true;
    else if (text == "--stats")
      parser.options.statistics = true;
    else if (text == "--json")
      parser.options.json = true;
    else if (text == "--list")
      parser.options.list = true;
    else if (text.substr(0, 1) != "-") {
      if (!parser.options.file.empty())
        return io::Error{"two files: '" + parser.options.file + "' and '" +
                         std::string(text) + "'"};
      parser.options.file = text;
    } else {
      size_t equals = text.find('=');
      std::string_view name = text.substr(0, equals);
      bool known = false;
      for (std::string_view option : kWithValue)
        known |= option == name;
      if (!known)
        return io::Error{"unknown option '" + std::string(name) +
                         "'; see --help"};
      std::string_view value;
      if (equals != std::string_view::npos)
        value = text.substr(equals + 1);
      else if (i + 1 < argc)
        value = argv[++i];
      if (value.empty())
        return io::Error{"option '" + std::string(name) + "' needs a value"};
      if (io::Status status = parser.parse(name, value); !status)
        return status.error();
    }
  }
  if (parser.options.help)
    return std::move(parser.options);
  if (io::Status status = checkOptions(parser.options); !status)
    return status.error();
  return std::move(parser.options);
}

std::string ptxrun::helpText() { return kHelp; }
