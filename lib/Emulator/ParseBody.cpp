//===- ParseBody.cpp - Bodies of PTX functions ----------------------------===//
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

bool Parser::parseBody(FunctionSyntax &function) {
  location = -1;
  function.scopes.emplace_back();
  return parseBlock(function, 0);
}

bool Parser::parseBlock(FunctionSyntax &function, int scope) {
  Nesting nesting(depth);
  const Token open = peek();
  if (!checkDepth() || !expect('{'))
    return false;
  while (!takeIf('}')) {
    const Token &token = peek();
    if (token.kind == Token::End)
      return fail(open, "'{' has no end");
    if (token.is('{')) {
      int inner = int(function.scopes.size());
      function.scopes.emplace_back();
      function.scopes.back().parent = scope;
      if (!parseBlock(function, inner))
        return false;
    } else if (token.kind == Token::Directive) {
      if (!parseBodyDirective(function, scope))
        return false;
    } else if (token.kind == Token::Word && peek(1).is(':')) {
      if (!parseLabel(function, scope))
        return false;
    } else if (!takeIf(';') && !parseStatement(function, scope)) {
      return false;
    }
  }
  return true;
}

bool Parser::parseBodyDirective(FunctionSyntax &function, int scope) {
  const Token &token = peek();
  Scope &here = function.scopes[scope];
  if (takeIf(".reg"))
    return parseRegisters(here);
  if (takeIf(".loc"))
    return parseLocation();
  if (takeIf(".local"))
    return parseVariables(Space::Local, false, function.locals, &here);
  if (takeIf(".param"))
    return parseVariables(Space::Param, false, function.locals, &here);
  bool isExtern = takeIf(".extern");
  if (takeIf(".shared"))
    return parseVariables(Space::Shared, isExtern, function.locals, &here);
  if (takeIf(".global"))
    return parseVariables(Space::Global, isExtern, function.locals, &here);
  if (takeIf(".const"))
    return parseVariables(Space::Const, isExtern, function.locals, &here);
  if (takeIf(".pragma")) {
    while (peek().kind == Token::String || peek().is(','))
      take();
    return expect(';');
  }
  return fail(token,
              "unknown directive '" + std::string(token.text) + "' in a body");
}

bool Parser::parseLabel(FunctionSyntax &function, int scope) {
  const Token token = take();
  take();
  if (peek().isDirective(".branchtargets") ||
      peek().isDirective(".calltargets"))
    return parseTargets(function, scope, token.text);
  if (takeIf(".callprototype")) {
    while (peek().kind != Token::End && !peek().is(';'))
      take();
    function.scopes[scope].targets[token.text] = {};
    return expect(';');
  }
  auto &labels = function.scopes[scope].labels;
  if (!labels.emplace(token.text, unsigned(function.body.size())).second)
    return fail(token, "label '" + std::string(token.text) + "' is set twice");
  return true;
}

bool Parser::parseTargets(FunctionSyntax &function, int scope,
                          std::string_view label) {
  take();
  std::vector<std::string_view> names;
  do {
    names.emplace_back();
    if (!expectName(names.back()))
      return false;
  } while (takeIf(','));
  function.scopes[scope].targets[label] = std::move(names);
  return expect(';');
}

bool Parser::parseRegisters(Scope &scope) {
  if (peek().kind != Token::Directive)
    return failExpected("the type of registers");
  const Token &token = take();
  std::optional<Type> type = parseType(token.text.substr(1));
  if (!type)
    return fail(token, "unknown type '" + std::string(token.text) + "'");
  do {
    std::string_view word;
    if (!expectName(word))
      return false;
    RegisterRange range;
    range.type = *type;
    if (takeIf('<')) {
      uint64_t count = 0;
      if (!expectInteger(count) || !expect('>'))
        return false;
      range.count = int64_t(count);
    }
    scope.registers[word] = range;
  } while (takeIf(','));
  return expect(';');
}

bool Parser::parseLocation() {
  const int line = peek().line;
  uint64_t numbers[3] = {};
  for (uint64_t &number : numbers)
    if (!expectInteger(number))
      return false;
  location = int(syntax.locations.size());
  syntax.locations.push_back(
      {unsigned(numbers[0]), unsigned(numbers[1]), unsigned(numbers[2])});
  // `, function_name $L, inlined_at 1 2 3` and the like are about debuggers.
  if (peek().is(',') && peek().line == line)
    return skipToEndOfLine();
  return true;
}

bool Parser::parseStatement(FunctionSyntax &function, int scope) {
  Statement statement;
  statement.scope = scope;
  statement.location = location;
  statement.line = peek().line;
  if (takeIf('@')) {
    statement.guardNegated = takeIf('!');
    if (!expectName(statement.guard))
      return false;
  }
  statement.line = peek().line;
  if (peek().kind != Token::Word)
    return failExpected("an instruction");
  statement.opcode = take().text;
  if (!takeIf(';') && !parseOperands(statement.operands, ';'))
    return false;
  function.body.push_back(std::move(statement));
  return true;
}

bool Parser::parseOperands(std::vector<Operand> &operands, char close) {
  do {
    operands.emplace_back();
    if (!parseOperand(operands.back()))
      return false;
  } while (takeIf(','));
  return expect(close);
}

bool Parser::parseNumber(Operand &operand) {
  bool minus = takeIf('-');
  bool invert = !minus && takeIf('~');
  const Token &token = peek();
  switch (token.kind) {
  case Token::Integer:
    operand.kind = Operand::Integer;
    operand.bits = minus ? -token.bits : invert ? ~token.bits : token.bits;
    break;
  case Token::Single:
    operand.kind = Operand::Single;
    operand.bits = minus ? token.bits ^ 0x80000000u : token.bits;
    break;
  case Token::Double:
    operand.kind = Operand::Double;
    operand.bits = minus ? token.bits ^ (uint64_t(1) << 63) : token.bits;
    break;
  default:
    return failExpected("an operand");
  }
  operand.text = token.text;
  take();
  return true;
}

bool Parser::parseAddress(Operand &operand) {
  operand.kind = Operand::Address;
  operand.elements.emplace_back();
  Operand &base = operand.elements.back();
  if (!parseOperand(base))
    return false;
  // `[name+8]` and `[%rd1+-8]`; parseOperand has taken the offset of a name.
  std::swap(operand.offset, base.offset);
  while (takeIf(',')) {
    operand.elements.emplace_back();
    if (!parseOperand(operand.elements.back()))
      return false;
  }
  return expect(']');
}

bool Parser::parseOperand(Operand &operand) {
  Nesting nesting(depth);
  if (!checkDepth())
    return false;
  if (takeIf('!'))
    operand.negated = true;
  const Token &token = peek();
  operand.text = token.text;
  if (takeIf('{')) {
    operand.kind = Operand::Vector;
    return parseOperands(operand.elements, '}');
  }
  if (takeIf('(')) {
    operand.kind = Operand::List;
    return takeIf(')') || parseOperands(operand.elements, ')');
  }
  if (takeIf('['))
    return parseAddress(operand);
  if (token.kind != Token::Word)
    return parseNumber(operand);
  take();
  operand.kind = Operand::Name;
  if (peek().is('+') || (peek().is('-') && peek(1).kind == Token::Integer)) {
    bool minus = take().is('-');
    Operand number;
    if (!parseNumber(number) || number.kind != Operand::Integer)
      return failExpected("an offset");
    operand.offset = minus ? -int64_t(number.bits) : int64_t(number.bits);
  } else if (takeIf('|')) {
    Operand first = operand;
    operand.kind = Operand::Pair;
    operand.elements.push_back(std::move(first));
    operand.elements.emplace_back();
    return parseOperand(operand.elements.back());
  }
  return true;
}
