//===- MemoryTest.cpp - Checks of memory ----------------------------------===//
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

class Memory : public ::testing::Test {
protected:
  /// %rd1 is a buffer of 256 bytes with values, %rd2 one of 256 without.
  LaunchResult run(const std::string &body, Dim3 grid = {1}, Dim3 block = {32},
                   const std::string &before = "", uint64_t seed = 0) {
    auto module = load(
        kernelText(".param .u64 in, .param .u64 out",
                   ".reg .pred %p<8>;\n.reg .b16 %h<4>;\n.reg .b32 %r<16>;\n"
                   ".reg .b64 %rd<12>;\nld.param.u64 %rd1, [in];\n"
                   "ld.param.u64 %rd2, [out];\nmov.u32 %r1, %tid.x;\n"
                   "mul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd4, %rd1, %rd3;\n"
                   "add.s64 %rd5, %rd2, %rd3;\nmov.u32 %r0, %ctaid.x;\n" +
                       body + "\nret;",
                   before));
    if (!module)
      return LaunchResult();
    Buffer<uint32_t> in(device, std::vector<uint32_t>(64, 3)), out(device, 64);
    LaunchOptions options = launchOptions(grid, block);
    options.seed = seed;
    return launch(device, *module, "k", options,
                  Arguments().add(in.address).add(out.address));
  }
  void expectOnly(const LaunchResult &result, ReportKind kind) {
    ASSERT_EQ(result.reports.size(), 1u) << reportText(result);
    EXPECT_EQ(result.reports[0].kind, kind) << reportText(result);
  }
  Device device;
};

TEST_F(Memory, GlobalBounds) {
  expectClean(run("ld.global.u32 %r2, [%rd4+128];"));
  LaunchResult result = run("ld.global.u32 %r2, [%rd4+132];");
  expectOnly(result, ReportKind::OutOfBounds);
  EXPECT_EQ(result.reports[0].count, 1u);
  EXPECT_EQ(result.reports[0].where.thread.x, 31u);
  EXPECT_EQ(result.reports[0].line, 18);
  EXPECT_NE(result.reports[0].message.find("0 bytes past the end of 'in'"),
            std::string::npos)
      << result.reports[0].message;
  expectOnly(run("st.global.u32 [%rd4+-128], %r1;"), ReportKind::OutOfBounds);
  expectOnly(run("ld.global.u32 %r2, [0];"), ReportKind::OutOfBounds);
  expectOnly(run("ld.u32 %r2, [%rd4+1073741824];"), ReportKind::OutOfBounds);
}

TEST_F(Memory, Misaligned) {
  expectOnly(run("ld.global.u16 %h0, [%rd4+1];"), ReportKind::Misaligned);
  expectOnly(run("ld.global.v2.u32 {%r2, %r3}, [%rd4];"),
             ReportKind::Misaligned);
}

TEST_F(Memory, UnderAlignedSharedVariable) {
  // 16 bytes from a variable that promises 4: only luck would align it.
  const char *body = "mov.u32 %r2, buffer;\n"
                     "st.shared.v4.u32 [%r2], {%r1, %r1, %r1, %r1};";
  expectClean(run(body, {1}, {1}, ".shared .align 16 .b8 buffer[64];"));
  for (const char *alignment : {"4", "8"})
    expectOnly(
        run(body, {1}, {1},
            std::string(".shared .align ") + alignment + " .b8 buffer[64];"),
        ReportKind::Misaligned);
}

TEST_F(Memory, NeverWritten) {
  expectOnly(run("ld.global.u32 %r2, [%rd5];"), ReportKind::NeverWritten);
  expectClean(run("st.global.u32 [%rd5], %r1;\nld.global.u32 %r2, [%rd5];"));
  // The upper half of a word that was written in part.
  expectOnly(run("mov.u16 %h0, 5;\nst.global.u16 [%rd5], %h0;\n"
                 "ld.global.u32 %r2, [%rd5];"),
             ReportKind::NeverWritten);
  expectOnly(run("ld.shared.u32 %r2, [buffer];", {1}, {32},
                 ".shared .align 4 .b8 buffer[64];"),
             ReportKind::NeverWritten);
  expectOnly(run(".local .align 4 .b8 depot[16];\n"
                 "st.local.u32 [depot], %r1;\nld.local.u32 %r2, [depot+8];"),
             ReportKind::NeverWritten);
}

TEST_F(Memory, SharedBoundsBetweenVariables) {
  const char *before = ".shared .align 4 .b8 first[60];\n"
                       ".shared .align 4 .b8 second[64];";
  expectOnly(run("st.shared.u32 [first+60], %r1;", {1}, {1}, before),
             ReportKind::OutOfBounds);
  expectOnly(run("st.shared.u32 [second+-4], %r1;", {1}, {1}, before),
             ReportKind::OutOfBounds);
  expectOnly(
      run("mov.u32 %r3, 0;\nst.shared.u32 [%r3], %r1;", {1}, {1}, before),
      ReportKind::OutOfBounds);
}

TEST_F(Memory, ConstantIsReadOnly) {
  const char *before = ".const .align 4 .u32 c[2] = {7, 8};";
  expectOnly(
      run("mov.u64 %rd6, c;\nst.global.u32 [%rd6], %r1;", {1}, {1}, before),
      ReportKind::ReadOnly);
}

TEST_F(Memory, SpacesOfGenericAddresses) {
  const char *body =
      ".local .align 8 .b8 depot[16];\nmov.u64 %rd6, buffer;\n"
      "cvta.shared.u64 %rd7, %rd6;\nst.u32 [%rd7], %r1;\n"
      "ld.shared.u32 %r2, [buffer];\nisspacep.shared %p1, %rd7;\n"
      "mov.u64 %rd8, depot;\ncvta.local.u64 %rd9, %rd8;\n"
      "st.u32 [%rd9+4], 5;\nld.local.u32 %r3, [depot+4];\n"
      "isspacep.local %p2, %rd9;\nisspacep.shared %p3, %rd9;\n"
      "cvta.to.shared.u64 %rd10, %rd7;\nsetp.ne.u64 %p4, %rd10, %rd6;\n"
      "@!%p1 trap;\n@!%p2 trap;\n@%p3 trap;\n@%p4 trap;\n"
      "setp.ne.u32 %p5, %r3, 5;\n@%p5 trap;";
  expectClean(run(body, {1}, {1}, ".shared .align 4 .b8 buffer[4];"));
  // A generic address is no address of its space.
  EXPECT_TRUE(hasReport(run("mov.u64 %rd6, buffer;\n"
                            "cvta.shared.u64 %rd7, %rd6;\n"
                            "st.shared.u32 [%rd7], %r1;",
                            {1}, {1}, ".shared .align 4 .b8 buffer[4];"),
                        ReportKind::OutOfBounds));
}

//===----------------------------------------------------------------------===//
// Races
//===----------------------------------------------------------------------===//

constexpr const char *kBuffer = ".shared .align 4 .b8 buffer[512];";

/// Stores to the own word, then loads from the next thread's.
std::string exchange(const std::string &between) {
  return "mov.u32 %r2, buffer;\nshl.b32 %r3, %r1, 2;\n"
         "add.u32 %r4, %r2, %r3;\nst.shared.u32 [%r4], %r1;\n" +
         between +
         "\nxor.b32 %r5, %r1, 1;\nshl.b32 %r5, %r5, 2;\n"
         "add.u32 %r5, %r2, %r5;\nld.shared.u32 %r6, [%r5];";
}

TEST_F(Memory, RaceWithinAWarp) {
  expectClean(run(exchange("bar.warp.sync -1;"), {1}, {32}, kBuffer));
  expectClean(run(exchange("bar.sync 0;"), {1}, {32}, kBuffer));
  expectOnly(run(exchange(""), {1}, {32}, kBuffer), ReportKind::Race);
}

TEST_F(Memory, RaceBetweenWarps) {
  std::string far = exchange("bar.warp.sync -1;");
  far.replace(far.find("%r1, 1;"), 7, "%r1, 32;");
  for (uint64_t seed : {0, 1, 2})
    EXPECT_TRUE(
        hasReport(run(far, {1}, {64}, kBuffer, seed), ReportKind::Race));
}

TEST_F(Memory, WriteAfterReadIsARace) {
  const char *body = "mov.u32 %r2, buffer;\nsetp.eq.u32 %p1, %r1, 0;\n"
                     "@%p1 st.shared.u32 [%r2], 5;\nbar.sync 0;\n"
                     "ld.shared.u32 %r3, [%r2];\n@%p1 st.shared.u32 [%r2], 6;";
  expectOnly(run(body, {1}, {64}, kBuffer), ReportKind::Race);
}

TEST_F(Memory, SameValueIsNoRace) {
  expectClean(run("st.shared.u32 [buffer], 1;", {1}, {64}, kBuffer));
  expectOnly(run("st.shared.u32 [buffer], %r1;", {1}, {64}, kBuffer),
             ReportKind::Race);
}

TEST_F(Memory, NeighbouringBytesAreNoRace) {
  expectClean(run("mov.u32 %r2, buffer;\nadd.u32 %r2, %r2, %r1;\n"
                  "st.shared.u8 [%r2], %r1;\nld.shared.u8 %r3, [%r2];",
                  {1}, {64}, kBuffer));
}

TEST_F(Memory, AtomicsAreNoRaceButPlainReadsAre) {
  const char *zero = "setp.eq.u32 %p1, %r1, 0;\n"
                     "@%p1 st.shared.u32 [buffer], 0;\nbar.sync 0;\n"
                     "atom.shared.add.u32 %r3, [buffer], 1;\n";
  expectClean(run(zero, {1}, {64}, kBuffer));
  LaunchResult result = run(std::string(zero) + "ld.shared.u32 %r4, [buffer];",
                            {1}, {64}, kBuffer);
  EXPECT_TRUE(hasReport(result, ReportKind::Race));
}

TEST_F(Memory, GlobalRaceBetweenBlocks) {
  expectOnly(run("st.global.u32 [%rd5], %r0;", {2}), ReportKind::Race);
  expectClean(run("red.global.add.u32 [%rd4], 1;", {2}));
  expectOnly(
      run("red.global.add.u32 [%rd4], 1;\nld.global.u32 %r2, [%rd4];", {2}),
      ReportKind::Race);
}

TEST_F(Memory, LaunchesAreOrdered) {
  auto module =
      load(kernelText(".param .u64 p", ".reg .b64 %rd<2>;\n.reg .b32 %r<2>;\n"
                                       "ld.param.u64 %rd1, [p];\n"
                                       "mov.u32 %r1, %clock;\n"
                                       "st.global.u32 [%rd1], %r1;"));
  Buffer<uint32_t> out(device, 1);
  for (int i = 0; i < 3; ++i)
    expectClean(launch(device, *module, "k", launchOptions({1}, {1}),
                       Arguments().add(out.address)));
}

//===----------------------------------------------------------------------===//
// Asynchronous copies
//===----------------------------------------------------------------------===//

std::string copy(const std::string &before, const std::string &after) {
  return "mov.u32 %r2, buffer;\nmul.lo.u32 %r3, %r1, 4;\n"
         "add.u32 %r2, %r2, %r3;\n"
         "cp.async.ca.shared.global [%r2], [%rd4], 4" +
         before + ";\ncp.async.commit_group;\n" + after +
         "\nld.shared.u32 %r5, [%r2];\nst.global.u32 [%rd5], %r5;";
}

TEST_F(Memory, AsyncCopyNeedsItsWait) {
  expectClean(run(copy("", "cp.async.wait_group 0;"), {1}, {32}, kBuffer));
  expectClean(run(copy("", "cp.async.wait_all;"), {1}, {32}, kBuffer));
  expectOnly(run(copy("", ""), {1}, {32}, kBuffer), ReportKind::InFlight);
  expectOnly(run(copy("", "cp.async.wait_group 1;"), {1}, {32}, kBuffer),
             ReportKind::InFlight);
}

TEST_F(Memory, AsyncCopyFillsWithZeros) {
  expectClean(run(copy(", 2", "cp.async.wait_all;\n"
                              "ld.shared.u32 %r6, [%r2];\n"
                              "setp.ne.u32 %p1, %r6, 3;\n@%p1 trap;"),
                  {1}, {32}, kBuffer));
  // No byte of the source is read.
  expectClean(
      run("add.s64 %rd4, %rd4, 4096;\n" + copy(", 0", "cp.async.wait_all;"),
          {1}, {32}, kBuffer));
  expectOnly(run("add.s64 %rd4, %rd4, 4096;\n" + copy("", "cp.async.wait_all;"),
                 {1}, {32}, kBuffer),
             ReportKind::OutOfBounds);
}

TEST_F(Memory, AsyncCopyIsSeenByOthersAfterABarrier) {
  std::string body = copy("", "cp.async.wait_all;\nxor.b32 %r2, %r2, 4;");
  expectOnly(run(body, {1}, {32}, ".shared .align 8 .b8 buffer[512];"),
             ReportKind::Race);
  body.insert(body.find("xor"), "bar.sync 0;\n");
  expectClean(run(body, {1}, {32}, ".shared .align 8 .b8 buffer[512];"));
}

TEST(Snapshots, GoBackToValuesAndToWhatWasWritten) {
  Device device;
  Buffer<uint32_t> values(device, std::vector<uint32_t>{1, 2, 3});
  Buffer<uint32_t> empty(device, size_t(2));
  Snapshot before = device.save();
  ASSERT_EQ(before.pieces.size(), 2u);
  ASSERT_TRUE(bool(device.fill(values.address, 0, 4)));
  ASSERT_TRUE(bool(device.fill(empty.address, 0, 5)));
  EXPECT_FALSE(device.save().pieces[0] == before.pieces[0] &&
               device.save().pieces[1] == before.pieces[1]);
  ASSERT_TRUE(bool(device.restore(before)));
  EXPECT_EQ(values.read(), (std::vector<uint32_t>{1, 2, 3}));
  EXPECT_EQ(*device.countUnwritten(empty.address, 8), 8u);
  // Of other memory than there is now it is none.
  ASSERT_TRUE(device.release(empty.address));
  EXPECT_FALSE(bool(device.restore(before)));
}

} // namespace
