//===- EngineTest.cpp - Warps, collectives and barriers -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Harness.h"
#include <algorithm>

using namespace moe::emulator;
using namespace moe::emulator::test;

namespace {

/// A kernel that stores %r0 of each thread to out[thread].
class Engine : public ::testing::Test {
protected:
  LaunchResult run(const std::string &body, unsigned threads, uint64_t seed = 0,
                   const std::string &before = "") {
    auto module = load(kernelText(
        ".param .u64 out",
        ".reg .pred %p<8>;\n.reg .b32 %r<16>;\n.reg .b64 %rd<8>;\n"
        "mov.u32 %r1, %tid.x;\nmov.u32 %r2, %laneid;\n" +
            body +
            "\nld.param.u64 %rd1, [out];\nmul.wide.u32 %rd2, %r1, 4;\n"
            "add.s64 %rd1, %rd1, %rd2;\nst.global.u32 [%rd1], %r0;\nret;",
        before));
    if (!module)
      return LaunchResult();
    Buffer<uint32_t> out(device, std::vector<uint32_t>(threads));
    LaunchOptions options = launchOptions({1}, {threads});
    options.seed = seed;
    options.maxWarpInstructions = 200000;
    LaunchResult result =
        launch(device, *module, "k", options, Arguments().add(out.address));
    values = out.read();
    return result;
  }
  Device device;
  std::vector<uint32_t> values;
};

TEST_F(Engine, ShuffleModes) {
  struct Case {
    const char *text;
    uint32_t (*from)(uint32_t lane);
  };
  const Case cases[] = {
      {"shfl.sync.up.b32 %r0, %r2, 3, 0, -1;",
       [](uint32_t l) { return l < 3 ? l : l - 3; }},
      {"shfl.sync.down.b32 %r0, %r2, 5, 31, -1;",
       [](uint32_t l) { return l + 5 > 31 ? l : l + 5; }},
      {"shfl.sync.bfly.b32 %r0, %r2, 9, 31, -1;",
       [](uint32_t l) { return l ^ 9; }},
      {"shfl.sync.idx.b32 %r0, %r2, 7, 31, -1;", [](uint32_t) { return 7u; }},
      // Segments of eight lanes.
      {"shfl.sync.idx.b32 %r0, %r2, 2, 6175, -1;",
       [](uint32_t l) { return (l & ~7u) + 2; }},
      {"shfl.sync.down.b32 %r0, %r2, 4, 6175, -1;",
       [](uint32_t l) { return l % 8 < 4 ? l + 4 : l; }},
  };
  for (const Case &c : cases) {
    expectClean(run(c.text, 32));
    for (uint32_t lane = 0; lane < 32; ++lane)
      EXPECT_EQ(values[lane], c.from(lane)) << c.text;
  }
}

TEST_F(Engine, ReduxMatchAndElect) {
  expectClean(run("redux.sync.add.s32 %r0, %r2, -1;", 32));
  EXPECT_EQ(values[5], 496u);
  expectClean(
      run("sub.s32 %r3, 10, %r2;\nredux.sync.min.s32 %r0, %r3, -1;", 32));
  EXPECT_EQ(values[0], uint32_t(-21));
  expectClean(
      run("and.b32 %r3, %r2, 3;\nmatch.any.sync.b32 %r0, %r3, -1;", 32));
  EXPECT_EQ(values[6], 0x44444444u);
  expectClean(run("elect.sync %r0|%p1, -1;\n@!%p1 add.u32 %r0, %r0, 9;", 32));
  EXPECT_EQ(values[0], 0u);
  EXPECT_EQ(values[1], 9u);
  expectClean(run("activemask.b32 %r0;", 20));
  EXPECT_EQ(values[3], 0xfffffu);
}

TEST_F(Engine, DivergedLanesMeetAgain) {
  const char *body = "setp.lt.u32 %p1, %r2, 10;\nmov.u32 %r0, 0;\n"
                     "@%p1 bra A;\nadd.u32 %r0, %r0, 100;\nbra.uni B;\n"
                     "A:\nadd.u32 %r0, %r0, 7;\nB:\n"
                     "vote.sync.ballot.b32 %r3, %p1, -1;\n"
                     "add.u32 %r0, %r0, %r3;";
  expectClean(run(body, 32));
  EXPECT_EQ(values[0], 7u + 0x3ff);
  EXPECT_EQ(values[31], 100u + 0x3ff);
}

TEST_F(Engine, ShuffleOfHalfAWarpWaitsForEver) {
  LaunchResult result =
      run("setp.lt.u32 %p1, %r2, 16;\n"
          "@%p1 shfl.sync.idx.b32 %r0, %r2, 0, 31, -1;\nbar.sync 0;",
          32);
  EXPECT_FALSE(result.completed);
  EXPECT_TRUE(hasReport(result, ReportKind::Deadlock)) << reportText(result);
}

TEST_F(Engine, ShuffleFromLaneThatDoesNotTakePart) {
  LaunchResult result = run("shfl.sync.down.b32 %r0, %r2, 16, 31, -1;", 48);
  EXPECT_TRUE(hasReport(result, ReportKind::Collective)) << reportText(result);
  // The same with a mask that leaves the lane out of itself.
  result = run("shfl.sync.idx.b32 %r0, %r2, 0, 31, 1;", 32);
  EXPECT_TRUE(hasReport(result, ReportKind::Collective));
}

TEST_F(Engine, HalvesOfAWarpShuffleApart) {
  const char *body = "setp.lt.u32 %p1, %r2, 16;\n"
                     "selp.b32 %r3, 65535, -65536, %p1;\n"
                     "shfl.sync.bfly.b32 %r0, %r2, 15, 31, %r3;";
  expectClean(run(body, 32));
  EXPECT_EQ(values[3], 12u);
  EXPECT_EQ(values[19], 28u);
}

TEST_F(Engine, WarpBarrierAtTwoPlaces) {
  const char *body = "setp.lt.u32 %p1, %r2, 16;\n@%p1 bra A;\n"
                     "bar.warp.sync -1;\nmov.u32 %r0, 1;\nbra B;\n"
                     "A:\nbar.warp.sync -1;\nmov.u32 %r0, 2;\nB:";
  expectClean(run(body, 32));
  EXPECT_EQ(values[0], 2u);
  EXPECT_EQ(values[20], 1u);
}

TEST_F(Engine, BarrierInBranchesIsDivergent) {
  LaunchResult result =
      run("setp.lt.u32 %p1, %r2, 16;\n@%p1 bra A;\nbar.sync 0;\nbra B;\n"
          "A:\nbar.sync 0;\nB:\nmov.u32 %r0, 0;",
          64);
  EXPECT_TRUE(hasReport(result, ReportKind::DivergentBarrier))
      << reportText(result);
}

TEST_F(Engine, BarrierThatAWarpMissesIsADeadlock) {
  LaunchResult result =
      run("mov.u32 %r0, 0;\nsetp.lt.u32 %p1, %r1, 32;\n@%p1 bar.sync 1;\n"
          "@!%p1 bar.sync 2;",
          64);
  EXPECT_TRUE(hasReport(result, ReportKind::Deadlock)) << reportText(result);
}

TEST_F(Engine, BarrierOfThoseThatHaveNotExited) {
  expectClean(run("mov.u32 %r0, 1;\nsetp.ge.u32 %p1, %r1, 32;\n@%p1 exit;\n"
                  "bar.sync 0;",
                  64));
  EXPECT_EQ(values[0], 1u);
  EXPECT_EQ(values[40], 0u);
}

TEST_F(Engine, NamedBarriersOfProducerAndConsumer) {
  const char *body = "setp.lt.u32 %p1, %r1, 32;\nmul.wide.u32 %rd3, %r2, 4;\n"
                     "mov.u64 %rd4, buffer;\nadd.s64 %rd4, %rd4, %rd3;\n"
                     "mov.u32 %r0, 0;\n@%p1 bra A;\nbar.sync 1, 64;\n"
                     "ld.shared.u32 %r0, [%rd4];\nbra B;\n"
                     "A:\nst.shared.u32 [%rd4], %r1;\nbar.arrive 1, 64;\nB:";
  std::string before = ".shared .align 4 .b8 buffer[128];";
  for (uint64_t seed : {0, 1, 2, 3}) {
    expectClean(run(body, 64, seed, before));
    EXPECT_EQ(values[40], 8u);
  }
  // The consumer does not wait.
  std::string faulty = body;
  size_t at = faulty.find("bar.sync 1, 64;");
  faulty.replace(at, 15, "bar.arrive 1, 64;");
  EXPECT_TRUE(hasReport(run(faulty, 64, 0, before), ReportKind::Race));
}

TEST_F(Engine, BarrierReduction) {
  expectClean(run("setp.lt.u32 %p1, %r1, 40;\n"
                  "bar.red.popc.u32 %r0, 0, %p1;\n"
                  "bar.red.and.pred %p2, 0, %p1;\n"
                  "bar.red.or.pred %p3, 0, !%p1;\n"
                  "@%p2 add.u32 %r0, %r0, 1000;\n"
                  "@%p3 add.u32 %r0, %r0, 500;",
                  64));
  for (uint32_t value : values)
    EXPECT_EQ(value, 540u);
}

TEST_F(Engine, SpinOnALaneOfTheSameWarp) {
  // Lane 0 waits for what lane 1 writes further down.
  const char *body =
      "setp.ne.u32 %p1, %r2, 0;\nmov.u64 %rd3, flag;\nmov.u32 %r0, 5;\n"
      "@%p1 bra B;\nA:\nld.volatile.global.u32 %r3, [%rd3];\n"
      "setp.eq.u32 %p2, %r3, 0;\n@%p2 bra A;\nmov.u32 %r0, %r3;\nbra C;\n"
      "B:\nst.volatile.global.u32 [%rd3], 77;\nC:";
  expectClean(run(body, 32, 0, ".global .align 4 .u32 flag = 0;"));
  EXPECT_EQ(values[0], 77u);
  EXPECT_EQ(values[1], 5u);
}

TEST_F(Engine, LoopWithoutEnd) {
  LaunchResult result = run("A:\nbra A;", 32);
  EXPECT_FALSE(result.completed);
  EXPECT_TRUE(hasReport(result, ReportKind::InstructionLimit));
}

TEST_F(Engine, TrapAndAssertion) {
  LaunchResult result = run("trap;", 32);
  EXPECT_TRUE(hasReport(result, ReportKind::Trap));
  EXPECT_FALSE(result.completed);
  const char *body =
      "{\n.param .b64 p0;\n.param .b64 p1;\n.param .b32 p2;\n.param .b64 p3;\n"
      ".param .b64 p4;\nmov.u64 %rd1, text;\nst.param.b64 [p0], %rd1;\n"
      "st.param.b64 [p1], %rd1;\nst.param.b32 [p2], 12;\n"
      "st.param.b64 [p3], %rd1;\nst.param.b64 [p4], 1;\n"
      "call.uni __assertfail, (p0, p1, p2, p3, p4);\n}\nmov.u32 %r0, 0;";
  result = run(body, 32, 0,
               ".extern .func __assertfail(.param .b64 a, .param .b64 b, "
               ".param .b32 c, .param .b64 d, .param .b64 e);\n"
               ".global .align 1 .b8 text[6] = {120, 32, 62, 32, 48, 0};");
  ASSERT_TRUE(hasReport(result, ReportKind::Assertion));
  EXPECT_NE(result.reports[0].message.find("'x > 0' failed"),
            std::string::npos);
}

TEST_F(Engine, BranchTable) {
  const char *body = "and.b32 %r3, %r2, 3;\nT: .branchtargets A, B, C, A;\n"
                     "brx.idx %r3, T;\nA:\nmov.u32 %r0, 10;\nbra E;\n"
                     "B:\nmov.u32 %r0, 20;\nbra E;\nC:\nmov.u32 %r0, 30;\nE:";
  expectClean(run(body, 32));
  EXPECT_EQ(values[0], 10u);
  EXPECT_EQ(values[1], 20u);
  EXPECT_EQ(values[2], 30u);
  EXPECT_EQ(values[3], 10u);
}

TEST_F(Engine, RegistersAndLabelsOfInnerScopes) {
  expectClean(run("mov.u32 %r0, 1;\n{\n.reg .b32 %r0;\n.reg .pred q;\n"
                  "mov.u32 %r0, 5;\nW:\nsetp.eq.u32 q, %r0, 5;\n@!q bra W;\n}\n"
                  "{\n.reg .pred q;\nW:\nsetp.eq.u32 q, %r0, 1;\n@!q bra W;\n}",
                  32));
  EXPECT_EQ(values[0], 1u);
}

TEST_F(Engine, CountsSectorsAndBankPasses) {
  // Each lane loads 4 bytes, 32 bytes apart; then stores with a stride of two
  // banks.
  LaunchResult result =
      run("mul.wide.u32 %rd3, %r2, 32;\nmov.u64 %rd4, table;\n"
          "add.s64 %rd4, %rd4, %rd3;\nld.global.u32 %r0, [%rd4];\n"
          "mov.u64 %rd5, buffer;\nmul.wide.u32 %rd3, %r2, 8;\n"
          "add.s64 %rd5, %rd5, %rd3;\nst.shared.u32 [%rd5], %r0;",
          32, 0,
          ".global .align 32 .b8 table[1024];\n"
          ".shared .align 8 .b8 buffer[256];");
  expectClean(result);
  EXPECT_EQ(result.statistics.loadSectors, 32u);
  EXPECT_EQ(result.statistics.loadSectorsIdeal, 4u);
  EXPECT_EQ(result.statistics.sharedPasses, 2u);
  EXPECT_EQ(result.statistics.sharedPassesIdeal, 1u);
  EXPECT_EQ(result.statistics.storeSectors, 4u);
}

TEST(Lines, CountThreadsThatComeAndThoseThatExecute) {
  const std::string text = kernelText("", ".reg .pred %p1;\n.reg .b32 %r<2>;\n"
                                          "mov.u32 %r1, %tid.x;\n"
                                          "setp.lt.u32 %p1, %r1, 10;\n"
                                          "@!%p1 bra END;\n"
                                          "@%p1 mov.u32 %r1, 0;\nEND:\nret;");
  auto module = load(text);
  ASSERT_TRUE(module);
  Device device;
  LaunchOptions options = launchOptions({2}, {40});
  LaunchResult result = launch(device, *module, "k", options, Arguments());
  EXPECT_TRUE(result.lines.empty());
  options.countLines = true;
  result = launch(device, *module, "k", options, Arguments());
  auto count = [&](const char *what) {
    size_t at = text.find(what);
    int line = 1 + int(std::count(text.begin(), text.begin() + long(at), '\n'));
    return result.lines[line];
  };
  EXPECT_EQ(count("setp").reached, 80u);
  EXPECT_EQ(count("setp").executed, 80u);
  EXPECT_EQ(count("@!%p1").reached, 80u);
  EXPECT_EQ(count("@!%p1").executed, 60u);
  EXPECT_EQ(count("@%p1 mov").reached, 20u);
  EXPECT_EQ(count("@%p1 mov").executed, 20u);
}

} // namespace
