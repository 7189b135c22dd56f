//===- Parser.cpp - Modules and variables of PTX --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Parser.h"

#include <cstring>

using namespace moe;
using namespace moe::emulator;

//===----------------------------------------------------------------------===//
// Tokens
//===----------------------------------------------------------------------===//

bool Parser::fail(const Token &token, const std::string &message) {
  if (error.empty())
    error = errorAt(name, token.line, message).message;
  return false;
}

bool Parser::failExpected(const std::string &what) {
  const Token &token = peek();
  if (token.kind == Token::End)
    return fail(token, "expected " + what + ", but the text ends");
  return fail(token, "expected " + what + " instead of '" +
                         std::string(token.text) + "'");
}

bool Parser::takeIf(char c) {
  bool found = peek().is(c);
  at += found;
  return found;
}

bool Parser::takeIf(std::string_view directive) {
  bool found = peek().isDirective(directive);
  at += found;
  return found;
}

bool Parser::expect(char c) {
  return takeIf(c) || failExpected(std::string("'") + c + "'");
}

bool Parser::expectInteger(uint64_t &value) {
  if (peek().kind != Token::Integer)
    return failExpected("an integer");
  value = take().bits;
  return true;
}

bool Parser::expectName(std::string_view &value) {
  if (peek().kind != Token::Word)
    return failExpected("a name");
  value = take().text;
  return true;
}

bool Parser::skipBraces() {
  const Token &open = peek();
  if (!expect('{'))
    return false;
  for (int depth = 1; depth > 0;) {
    const Token &token = take();
    if (token.kind == Token::End)
      return fail(open, "'{' has no end");
    depth += token.is('{') - token.is('}');
  }
  return true;
}

bool Parser::skipToEndOfLine() {
  for (int line = peek().line;
       peek().kind != Token::End && peek().line == line;)
    take();
  return true;
}

//===----------------------------------------------------------------------===//
// Module level
//===----------------------------------------------------------------------===//

bool Parser::parseModule() {
  while (peek().kind != Token::End)
    if (!parseTopLevel())
      return false;
  if (syntax.version == 0)
    return fail(peek(), "the text has no .version");
  return true;
}

bool Parser::parseTopLevel() {
  const Token &first = peek();
  if (first.kind != Token::Directive)
    return failExpected("a directive");
  if (takeIf(".version"))
    return parseVersion();
  if (takeIf(".target"))
    return parseTarget();
  if (takeIf(".address_size")) {
    uint64_t bits = 0;
    if (!expectInteger(bits))
      return false;
    return bits == 64 || fail(first, "only .address_size 64 is supported");
  }
  if (takeIf(".file"))
    return parseFile();
  if (takeIf(".section"))
    return parseSection();
  if (takeIf(".loc"))
    return parseLocation();
  if (takeIf(".pragma")) {
    while (peek().kind == Token::String || peek().is(','))
      take();
    return expect(';');
  }
  bool isExtern = false;
  while (peek().isDirective(".visible") || peek().isDirective(".weak") ||
         peek().isDirective(".common") || peek().isDirective(".extern"))
    isExtern |= take().text == ".extern";
  if (takeIf(".entry"))
    return parseFunction(true, isExtern);
  if (takeIf(".func"))
    return parseFunction(false, isExtern);
  if (takeIf(".global"))
    return parseVariables(Space::Global, isExtern, syntax.variables);
  if (takeIf(".const"))
    return parseVariables(Space::Const, isExtern, syntax.variables);
  if (takeIf(".shared"))
    return parseVariables(Space::Shared, isExtern, syntax.variables);
  return fail(peek(), "unknown directive '" + std::string(peek().text) + "'");
}

bool Parser::parseVersion() {
  // "9.0" is lexed as one fraction.
  if (peek().kind != Token::Double)
    return failExpected("a version");
  double value = 0;
  uint64_t bits = take().bits;
  std::memcpy(&value, &bits, sizeof value);
  syntax.version = unsigned(value * 10 + 0.5);
  return true;
}

bool Parser::parseTarget() {
  do {
    std::string_view word;
    if (!expectName(word))
      return false;
    if (word.substr(0, 3) == "sm_")
      syntax.target = word;
  } while (takeIf(','));
  return true;
}

bool Parser::parseFile() {
  uint64_t number = 0;
  if (!expectInteger(number))
    return false;
  if (peek().kind != Token::String)
    return failExpected("the name of a file");
  std::string path(take().text);
  syntax.files[unsigned(number)] = path;
  while (takeIf(','))
    if (!expectInteger(number))
      return false;
  return true;
}

bool Parser::parseSection() {
  // Debug information: its addresses mean nothing here.
  take();
  return skipBraces();
}

bool Parser::parseDim(Dim3 &dim) {
  uint64_t sizes[3] = {1, 1, 1};
  unsigned count = 0;
  do {
    if (count == 3)
      return fail(peek(), "a block has at most three sizes");
    if (!expectInteger(sizes[count++]))
      return false;
  } while (takeIf(','));
  dim = {uint32_t(sizes[0]), uint32_t(sizes[1]), uint32_t(sizes[2])};
  return true;
}

bool Parser::parsePerformance(FunctionSyntax &function) {
  for (;;) {
    Dim3 dim;
    uint64_t number = 0;
    if (takeIf(".maxntid")) {
      if (!parseDim(dim))
        return false;
      function.maxThreads = dim.count();
    } else if (takeIf(".reqntid")) {
      if (!parseDim(dim))
        return false;
      function.requiredBlock = dim;
    } else if (takeIf(".minnctapersm") || takeIf(".maxnreg") ||
               takeIf(".maxnctapersm")) {
      if (!expectInteger(number))
        return false;
    } else if (takeIf(".pragma")) {
      while (peek().kind == Token::String || peek().is(','))
        take();
      if (!expect(';'))
        return false;
    } else if (!takeIf(".noreturn")) {
      return true;
    }
  }
}

bool Parser::parseFunction(bool isEntry, bool isExtern) {
  FunctionSyntax function;
  function.isEntry = isEntry;
  function.line = peek().line;
  if (!isEntry && peek().is('(') && !parseParams(function.results))
    return false;
  std::string_view word;
  if (!expectName(word))
    return false;
  function.name = word;
  if (peek().is('(') && !parseParams(function.params))
    return false;
  if (!parsePerformance(function))
    return false;
  if (takeIf(';')) {
    function.isPrototype = true;
  } else {
    if (isExtern)
      return fail(peek(), "an external function has no body");
    if (!parseBody(function))
      return false;
  }
  // A definition takes the place of its prototype.
  for (FunctionSyntax &other : syntax.functions)
    if (other.name == function.name) {
      if (!other.isPrototype && !function.isPrototype)
        return fail(peek(), "'" + function.name + "' is defined twice");
      if (other.isPrototype)
        other = std::move(function);
      return true;
    }
  syntax.functions.push_back(std::move(function));
  return true;
}

bool Parser::parseParams(std::vector<Variable> &params) {
  if (!expect('('))
    return false;
  if (takeIf(')'))
    return true;
  do {
    Variable param;
    unsigned vector = 1;
    param.line = peek().line;
    param.space = Space::Param;
    if (takeIf(".reg"))
      return fail(peek(), "parameters in registers are not supported");
    if (!takeIf(".param"))
      return failExpected("'.param'");
    if (!parseVariableType(param, vector))
      return false;
    std::string_view word = "_";
    if (!expectName(word))
      return false;
    param.name = word;
    param.bytes = typeBytes(param.type) * vector;
    if (!parseArraySizes(param))
      return false;
    params.push_back(std::move(param));
  } while (takeIf(','));
  return expect(')');
}

//===----------------------------------------------------------------------===//
// Variables
//===----------------------------------------------------------------------===//

/// `.align 8 .v2 .f32 .ptr .global .align 1 .attribute(.managed)`, in any
/// order.
bool Parser::parseVariableType(Variable &variable, unsigned &vector) {
  size_t alignment = 0;
  bool pointer = false;
  while (peek().kind == Token::Directive) {
    std::string_view word = take().text.substr(1);
    if (word == "align") {
      uint64_t value = 0;
      if (!expectInteger(value))
        return false;
      if (value == 0 || (value & (value - 1)))
        return fail(peek(), "an alignment is a power of two");
      // That of a pointer is about what it points to.
      if (!pointer)
        alignment = value;
    } else if (word == "ptr") {
      pointer = true;
    } else if (word == "v2" || word == "v4" || word == "v8") {
      vector = unsigned(word[1] - '0');
    } else if (word == "attribute") {
      if (!expect('('))
        return false;
      while (peek().kind != Token::End && !peek().is(')'))
        take();
      if (!expect(')'))
        return false;
    } else if (std::optional<Type> type = parseType(word)) {
      variable.type = *type;
      variable.alignment = typeBytes(*type) * vector;
    } else if (!(pointer &&
                 (word == "global" || word == "shared" || word == "const" ||
                  word == "local" || word == "param"))) {
      --at;
      return fail(peek(), "unknown type '." + std::string(word) + "'");
    }
  }
  if (alignment)
    variable.alignment = alignment;
  return true;
}

bool Parser::parseArraySizes(Variable &variable) {
  while (takeIf('[')) {
    variable.isArray = true;
    uint64_t size = 0;
    if (takeIf(']')) {
      variable.bytes = 0;
      continue;
    }
    if (!expectInteger(size) || !expect(']'))
      return false;
    if (size && variable.bytes > (uint64_t(1) << 40) / size)
      return fail(peek(), "'" + variable.name + "' is too large");
    variable.bytes *= size;
  }
  return true;
}

bool Parser::parseVariables(Space space, bool isExtern,
                            std::vector<Variable> &variables, Scope *scope) {
  Variable base;
  unsigned vector = 1;
  base.space = space;
  base.isExtern = isExtern;
  if (!parseVariableType(base, vector))
    return false;
  do {
    Variable variable = base;
    variable.line = peek().line;
    std::string_view word;
    if (!expectName(word))
      return false;
    variable.name = word;
    variable.bytes = typeBytes(base.type) * vector;
    if (!parseArraySizes(variable))
      return false;
    if (takeIf('=')) {
      size_t offset = 0;
      if (!parseInitialiser(variable, offset))
        return false;
      if (variable.bytes == 0)
        variable.bytes = offset;
      if (offset > variable.bytes)
        return fail(peek(), "'" + variable.name + "' has too many values");
    }
    if (scope)
      scope->variables[word] = unsigned(variables.size());
    variables.push_back(std::move(variable));
  } while (takeIf(','));
  return expect(';');
}

bool Parser::parseInitialiser(Variable &variable, size_t &offset) {
  Nesting nesting(depth);
  if (!checkDepth())
    return false;
  if (takeIf('{')) {
    if (takeIf('}'))
      return true;
    do {
      if (!parseInitialiser(variable, offset))
        return false;
    } while (takeIf(','));
    return expect('}');
  }
  Initialiser value;
  value.offset = offset;
  value.bytes = typeBytes(variable.type);
  if (!parseInitialValue(value, variable.type))
    return false;
  offset += value.bytes;
  variable.values.push_back(std::move(value));
  return true;
}

bool Parser::parseInitialValue(Initialiser &value, Type type) {
  Nesting nesting(depth);
  if (!checkDepth())
    return false;
  if (peek().kind == Token::Word) {
    std::string_view word = take().text;
    if (word == "generic" && takeIf('(')) {
      value.generic = true;
      if (!expectName(word) || !expect(')'))
        return false;
    }
    value.symbol = word;
    if (takeIf('+'))
      return expectInteger(value.value);
    return true;
  }
  const Token &token = peek();
  Operand number;
  if (!parseNumber(number))
    return false;
  value.value = number.bits;
  // `0xFF00(name)`: one byte of an address.
  if (number.kind == Operand::Integer && takeIf('(')) {
    for (uint64_t mask = number.bits; mask && !(mask & 0xff); mask >>= 8)
      value.shift += 8;
    value.value = 0;
    Initialiser inner;
    if (!parseInitialValue(inner, type) || !expect(')'))
      return false;
    value.symbol = inner.symbol;
    value.generic = inner.generic;
    value.value = inner.value;
    return true;
  }
  if (number.kind == Operand::Double && type == Type::F32) {
    double wide = 0;
    std::memcpy(&wide, &number.bits, sizeof wide);
    float narrow = float(wide);
    uint32_t bits = 0;
    std::memcpy(&bits, &narrow, sizeof bits);
    value.value = bits;
  } else if (number.kind == Operand::Single && type == Type::F64) {
    return fail(token, "a value of 32 bits in an array of f64");
  }
  return true;
}

io::Expected<Syntax> emulator::parsePtx(std::string_view text,
                                        const std::string &name) {
  auto tokens = tokenize(text, name);
  if (!tokens)
    return tokens.error();
  Parser parser(name, std::move(*tokens));
  if (!parser.parseModule())
    return io::Error{parser.error};
  return std::move(parser.syntax);
}
