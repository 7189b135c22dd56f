//===- ParserTest.cpp - Messages about bad PTX ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Harness.h"

using namespace moe::emulator;
using namespace moe::emulator::test;

namespace {

std::string messageOf(const std::string &text) {
  auto module = Module::load(text, "k.ptx");
  return module ? "none" : module.message();
}

std::string messageOfBody(const std::string &body) {
  return messageOf(kernelText("", ".reg .b32 %r<4>;\n.reg .b64 %rd<4>;\n"
                                  ".reg .b16 %h<4>;\n.reg .pred %p<2>;\n" +
                                      body));
}

TEST(Parser, Modules) {
  EXPECT_EQ(messageOf(""), "k.ptx:1: the text has no .version");
  EXPECT_EQ(messageOf(".version 8.0\n.address_size 32"),
            "k.ptx:2: only .address_size 64 is supported");
  EXPECT_EQ(messageOf(".version 8.0\n.texref t;"),
            "k.ptx:2: unknown directive '.texref'");
  EXPECT_EQ(messageOf(".version 8.0\n.entry k("),
            "k.ptx:2: expected '.param', but the text ends");
  EXPECT_EQ(messageOf(".version 8.0\n.entry k()\n{\n"),
            "k.ptx:3: '{' has no end");
  EXPECT_EQ(messageOf(".version 8.0\n/* no end"),
            "k.ptx:2: a comment has no end");
  EXPECT_EQ(messageOf(".version 8.0\n.global .align 3 .b8 x[4];"),
            "k.ptx:2: an alignment is a power of two");
  EXPECT_EQ(messageOf(".version 8.0\n.global .b8 x[2] = {1, 2, 3};"),
            "k.ptx:2: 'x' has too many values");
  EXPECT_EQ(messageOf(".version 8.0\n.extern .global .u32 x;"),
            "k.ptx:2: external variable 'x' is not defined");
  EXPECT_EQ(messageOf(".version 8.0\n#"), "k.ptx:2: unexpected character '#'");
}

TEST(Parser, Instructions) {
  EXPECT_EQ(messageOfBody("frobnicate.b32 %r1, %r2;"),
            "k.ptx:11: unknown instruction 'frobnicate.b32'");
  EXPECT_EQ(messageOfBody("add.u32.wrap %r1, %r2, %r3;"),
            "k.ptx:11: 'add.u32.wrap' has the unsupported modifier '.wrap'");
  EXPECT_EQ(messageOfBody("add.u32 %r1, %r2;"),
            "k.ptx:11: 'add.u32' has 2 operands instead of 3");
  EXPECT_EQ(messageOfBody("add.u32 %r1, %r2, %x;"),
            "k.ptx:11: 'add.u32' uses '%x', which is not declared");
  EXPECT_EQ(messageOfBody("add.u32 %r1, %r2, %r4;"),
            "k.ptx:11: 'add.u32' uses '%r4', which is not declared");
  EXPECT_EQ(messageOfBody("add.u64 %rd1, %rd2, %r3;"),
            "k.ptx:11: 'add.u64' reads '%r3' of type .b32 as '.u64'");
  EXPECT_EQ(messageOfBody("add.u32 %rd1, %r2, %r3;"),
            "k.ptx:11: 'add.u32' writes '%rd1' of type .b64 where 32 bits are "
            "needed");
  EXPECT_EQ(messageOfBody("bra L;"),
            "k.ptx:11: 'bra' goes to 'L', which is no label");
  EXPECT_EQ(messageOfBody("\n\n@%p3 bra L;"),
            "k.ptx:13: 'bra' has '%p3' where a predicate is needed");
  EXPECT_EQ(messageOfBody("L:\nL:\n"), "k.ptx:12: label 'L' is set twice");
  EXPECT_EQ(messageOfBody("add.u32 %r1, %r2, %r3"),
            "k.ptx:12: expected ';' instead of '}'");
  EXPECT_EQ(messageOfBody("mov.f32 %r1, 0f12;"),
            "k.ptx:11: '0f12' is not a number");
  EXPECT_EQ(messageOfBody("mul.u32 %r1, %r2, %r3;"),
            "k.ptx:11: 'mul.u32' needs .lo, .hi or .wide");
  EXPECT_EQ(messageOfBody("div.f32 %r1, %r2, %r3;"),
            "k.ptx:11: 'div.f32' needs a modifier of rounding");
  EXPECT_EQ(messageOfBody("and.cc.b32 %r1, %r2, %r3;"),
            "k.ptx:11: 'and.cc.b32' has the unsupported modifier '.cc'");
  EXPECT_EQ(messageOfBody("cvt.rn.satfinite.e4m3x2.f32 %h1, %r1, %r2;"),
            "k.ptx:11: 'cvt.rn.satfinite.e4m3x2.f32' has the unsupported "
            "modifier '.e4m3x2'");
  EXPECT_EQ(messageOfBody("call malloc, (%r1);"),
            "k.ptx:11: 'call' passes '%r1', which is no .param variable");
}

TEST(Parser, WhatIsNotThereYetIsNamed) {
  const char *lines[] = {
      "wgmma.fence.sync.aligned;",
      "wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r1}, [%rd1];",
      "cp.async.bulk.commit_group;",
      "tcgen05.fence::before_thread_sync;",
      "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 %rd1, %rd1, %rd1, %rd1;",
      "cvt.rn.satfinite.e4m3x2.f32 %h1, %r1, %r2;",
      "barrier.cluster.arrive;",
      "tex.1d.v4.s32.s32 {%r1}, [t, {%r1}];",
      "add.f32x2 %rd1, %rd2, %rd3;",
  };
  for (const char *line : lines) {
    std::string message = messageOfBody(line);
    std::string word = line;
    word = word.substr(0, word.find('.'));
    EXPECT_NE(message.find("k.ptx:11: "), std::string::npos) << message;
    EXPECT_NE(message.find(word), std::string::npos) << message;
  }
}

TEST(Parser, RecursionIsRefused) {
  EXPECT_EQ(messageOf(".version 8.0\n.func f()\n{\ncall.uni f, ();\n}\n"),
            "k.ptx:2: function 'f' calls itself, which is not supported");
}

TEST(Parser, DebugInformation) {
  auto module =
      load(".version 8.0\n.target sm_90, debug\n.address_size 64\n"
           ".file 1 \"a.cu\", 123, 456\n.entry k()\n{\n.loc 1 7 3\n"
           ".loc 1 9 5, function_name $L__info, inlined_at 1 7 3\ntrap;\n}\n"
           ".section .debug_str\n{\n$L__info:\n.b8 102,0\n}\n");
  ASSERT_TRUE(module);
  Device device;
  LaunchResult result =
      launch(device, *module, "k", launchOptions({1}, {1}), Arguments());
  ASSERT_EQ(result.reports.size(), 1u);
  EXPECT_EQ(result.reports[0].source, "a.cu:9:5");
  EXPECT_EQ(result.reports[0].line, 9);
}

TEST(Launch, IsRefused) {
  auto module = load(
      ".version 8.0\n.target sm_80\n.entry k(.param .u32 a)\n"
      ".reqntid 32, 1, 1\n{\nret;\n}\n.entry l()\n.maxntid 64\n{\nret;\n}\n");
  Device device;
  auto message = [&](const char *kernel, Dim3 grid, Dim3 block,
                     const Arguments &arguments) {
    auto result = device.launch(*module, kernel, launchOptions(grid, block),
                                arguments.bytes);
    return result ? std::string("none") : result.message();
  };
  Arguments one = Arguments().add(1);
  EXPECT_EQ(message("m", {1}, {32}, one), "there is no kernel 'm'");
  EXPECT_EQ(message("k", {1}, {64}, one),
            "a block of 64,1,1 threads, but 'k' requires 32,1,1");
  EXPECT_EQ(message("k", {1}, {32}, Arguments()),
            "'k' takes 4 bytes of arguments, not 0");
  EXPECT_EQ(message("l", {1}, {65}, Arguments()),
            "a block of 65 threads, but 'l' allows 64");
  EXPECT_EQ(message("l", {0}, {32}, Arguments()),
            "a launch of no threads: grid 0,1,1, block 32,1,1");
  EXPECT_EQ(message("l", {1}, {2048}, Arguments()),
            "a block of 2048,1,1 threads; 1024,1024,64 and 1024 in all are "
            "the most");
  EXPECT_EQ(message("k", {1}, {32}, one), "none");
}

TEST(Parser, InitialValues) {
  auto module =
      load(".version 8.0\n.target sm_80\n"
           ".global .align 8 .f32 f[3] = {1.5, 0f40000000};\n"
           ".global .align 8 .u64 p[2] = {f, f+4};\n"
           ".global .align 1 .b8 s[3] = {1, -2, 0x7f};\n"
           ".const .align 4 .b8 t[8] = {0xFF(f), 0xFF00(f), 0xFF0000(f)};\n");
  ASSERT_TRUE(module);
  uint64_t f = *module->findVariable("f");
  const auto *values = reinterpret_cast<const float *>(f);
  EXPECT_EQ(values[0], 1.5f);
  EXPECT_EQ(values[1], 2.0f);
  EXPECT_EQ(values[2], 0.0f);
  const auto *pointers =
      reinterpret_cast<const uint64_t *>(*module->findVariable("p"));
  EXPECT_EQ(pointers[0], f);
  EXPECT_EQ(pointers[1], f + 4);
  const auto *bytes =
      reinterpret_cast<const uint8_t *>(*module->findVariable("s"));
  EXPECT_EQ(bytes[1], 0xfe);
  const auto *parts =
      reinterpret_cast<const uint8_t *>(*module->findVariable("t"));
  EXPECT_EQ(parts[0], uint8_t(f));
  EXPECT_EQ(parts[1], uint8_t(f >> 8));
  EXPECT_EQ(parts[2], uint8_t(f >> 16));
}

} // namespace
