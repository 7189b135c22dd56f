//===- Lexer.cpp - Tokens of PTX ------------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lexer.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>

using namespace moe;
using namespace moe::emulator;

io::Error emulator::errorAt(const std::string &name, int line,
                            const std::string &message) {
  return io::Error{name + ":" + std::to_string(line) + ": " + message};
}

namespace {

bool isLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c == '$' || c == '%';
}
bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isWord(char c) { return isLetter(c) || isDigit(c); }

class Lexer {
public:
  Lexer(std::string_view text, const std::string &name)
      : text(text), name(name) {}

  io::Expected<std::vector<Token>> run() {
    for (;;) {
      if (!skipBlanks())
        return errorAt(name, line, "a comment has no end");
      if (at == text.size())
        break;
      Token token;
      token.line = line;
      size_t begin = at;
      if (io::Status status = next(token); !status)
        return status.error();
      if (token.kind != Token::String)
        token.text = text.substr(begin, at - begin);
      tokens.push_back(token);
    }
    Token end;
    end.line = line;
    tokens.push_back(end);
    return std::move(tokens);
  }

private:
  char peek(size_t ahead = 0) const {
    return at + ahead < text.size() ? text[at + ahead] : '\0';
  }

  /// False in a comment without an end.
  bool skipBlanks() {
    while (at < text.size()) {
      char c = text[at];
      if (c == '\n') {
        ++line;
        ++at;
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\0') {
        ++at;
      } else if (c == '/' && peek(1) == '/') {
        while (at < text.size() && text[at] != '\n')
          ++at;
      } else if (c == '/' && peek(1) == '*') {
        size_t end = text.find("*/", at + 2);
        if (end == std::string_view::npos)
          return false;
        for (; at < end + 2; ++at)
          line += text[at] == '\n';
      } else {
        break;
      }
    }
    return true;
  }

  void word() {
    while (isWord(peek()))
      ++at;
  }

  io::Status next(Token &token) {
    char c = peek();
    if (isLetter(c)) {
      token.kind = Token::Word;
      word();
      for (;;) {
        if (peek() == '.' && isWord(peek(1)))
          ++at;
        else if (peek() == ':' && peek(1) == ':' && isWord(peek(2)))
          at += 2;
        else
          return io::Success();
        word();
      }
    }
    if (c == '.' && isLetter(peek(1))) {
      token.kind = Token::Directive;
      ++at;
      word();
      return io::Success();
    }
    if (isDigit(c) || (c == '.' && isDigit(peek(1))))
      return number(token);
    if (c == '"') {
      size_t end = text.find_first_of("\"\n", at + 1);
      if (end == std::string_view::npos || text[end] != '"')
        return errorAt(name, line, "a string has no end");
      token.kind = Token::String;
      token.text = text.substr(at + 1, end - at - 1);
      at = end + 1;
      return io::Success();
    }
    if (std::memchr("{}()[]<>,;:@!|+-=*~", c, 19)) {
      token.kind = Token::Punctuation;
      ++at;
      return io::Success();
    }
    return errorAt(name, line, std::string("unexpected character '") + c + "'");
  }

  io::Status number(Token &token) {
    size_t begin = at;
    if (peek() == '0' && strchr("fFdD", peek(1)) && peek(1)) {
      bool single = peek(1) == 'f' || peek(1) == 'F';
      at += 2;
      word();
      token.kind = single ? Token::Single : Token::Double;
      if (!digits(begin + 2, at, 16, token.bits) ||
          at - begin - 2 != (single ? 8u : 16u))
        return malformed(begin);
      return io::Success();
    }
    if (peek() == '0' && (peek(1) == 'x' || peek(1) == 'X')) {
      at += 2;
      return integer(token, begin, at, 16);
    }
    if (peek() == '0' && (peek(1) == 'b' || peek(1) == 'B')) {
      at += 2;
      return integer(token, begin, at, 2);
    }
    size_t end = at;
    while (end < text.size() && isDigit(text[end]))
      ++end;
    if (end < text.size() &&
        (text[end] == '.' || text[end] == 'e' || text[end] == 'E'))
      return decimal(token);
    return integer(token, begin, at,
                   peek() == '0' && isDigit(peek(1)) ? 8 : 10);
  }

  io::Status decimal(Token &token) {
    size_t begin = at;
    std::string copy(text.substr(at, 64));
    char *end = nullptr;
    double value = std::strtod(copy.c_str(), &end);
    at += size_t(end - copy.c_str());
    if (isWord(peek()))
      return malformed(begin);
    token.kind = Token::Double;
    std::memcpy(&token.bits, &value, sizeof value);
    return io::Success();
  }

  io::Status integer(Token &token, size_t begin, size_t first, int base) {
    at = first;
    word();
    size_t last = at;
    if (last > first && text[last - 1] == 'U')
      --last;
    token.kind = Token::Integer;
    if (!digits(first, last, base, token.bits))
      return malformed(begin);
    return io::Success();
  }

  bool digits(size_t first, size_t last, int base, uint64_t &value) const {
    const char *end = text.data() + last;
    auto [stop, code] = std::from_chars(text.data() + first, end, value, base);
    return code == std::errc() && stop == end;
  }

  io::Error malformed(size_t begin) const {
    return errorAt(name, line,
                   "'" + std::string(text.substr(begin, at - begin)) +
                       "' is not a number");
  }

  std::string_view text;
  const std::string &name;
  size_t at = 0;
  int line = 1;
  std::vector<Token> tokens;
};

} // namespace

io::Expected<std::vector<Token>> emulator::tokenize(std::string_view text,
                                                    const std::string &name) {
  return Lexer(text, name).run();
}
