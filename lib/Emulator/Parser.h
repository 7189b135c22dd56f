//===- Parser.h - Parser of PTX ---------------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_PARSER_H
#define MOE_LIB_EMULATOR_PARSER_H

#include "Lexer.h"
#include "Syntax.h"

namespace moe::emulator {

/// Recursive descent. Every function returns false after an error, which is
/// kept: the first one is the answer.
class Parser {
public:
  Parser(const std::string &name, std::vector<Token> tokens)
      : name(name), tokens(std::move(tokens)) {}

  bool parseModule();

  Syntax syntax;
  std::string error;

private:
  const Token &peek(size_t ahead = 0) const {
    return tokens[std::min(at + ahead, tokens.size() - 1)];
  }
  const Token &take() {
    const Token &token = peek();
    at += token.kind != Token::End;
    return token;
  }
  bool fail(const Token &token, const std::string &message);
  bool failExpected(const std::string &what);
  bool takeIf(char c);
  bool takeIf(std::string_view directive);
  bool expect(char c);
  bool expectInteger(uint64_t &value);
  bool expectName(std::string_view &value);
  bool skipBraces();
  bool skipToEndOfLine();

  // Module level.
  bool parseTopLevel();
  bool parseTarget();
  bool parseVersion();
  bool parseFile();
  bool parseSection();
  bool parseFunction(bool isEntry, bool isExtern);
  bool parseParams(std::vector<Variable> &params);
  bool parsePerformance(FunctionSyntax &function);
  bool parseDim(Dim3 &dim);

  // Variables.
  bool parseVariables(Space space, bool isExtern,
                      std::vector<Variable> &variables, Scope *scope = nullptr);
  bool parseVariableType(Variable &variable, unsigned &vector);
  bool parseArraySizes(Variable &variable);
  bool parseInitialiser(Variable &variable, size_t &offset);
  bool parseInitialValue(Initialiser &value, Type type);

  // Bodies.
  bool parseBody(FunctionSyntax &function);
  bool parseBlock(FunctionSyntax &function, int scope);
  bool parseBodyDirective(FunctionSyntax &function, int scope);
  bool parseLabel(FunctionSyntax &function, int scope);
  bool parseTargets(FunctionSyntax &function, int scope,
                    std::string_view label);
  bool parseRegisters(Scope &scope);
  bool parseLocation();
  bool parseStatement(FunctionSyntax &function, int scope);
  bool parseOperand(Operand &operand);
  bool parseOperands(std::vector<Operand> &operands, char close);
  bool parseAddress(Operand &operand);
  bool parseNumber(Operand &operand);

  /// How deep braces, brackets and operands lie in each other: a text must not
  /// run the stack out.
  struct Nesting {
    explicit Nesting(unsigned &depth) : depth(depth) { ++depth; }
    ~Nesting() { --depth; }
    unsigned &depth;
  };
  bool checkDepth() {
    return depth <= 200 || fail(peek(), "too many levels of nesting");
  }

  const std::string &name;
  std::vector<Token> tokens;
  unsigned depth = 0;
  size_t at = 0;
  int location = -1;
};

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_PARSER_H
