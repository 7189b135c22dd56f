//===- CheckTest.cpp - Tests of the checks of a call ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include <gtest/gtest.h>

using namespace moe::test;

namespace {

/// layer(x: f32[T, 64], w: f32[8, 64], ids: i32[T, U]) -> y: f32[T, 64].
class CheckTest : public ::testing::Test {
protected:
  /// Runs `check` and returns "STATUS: MESSAGE", or "ok".
  std::string check() {
    moe_tensor in[] = {x.get(), w.get(), ids.get()};
    moe_tensor out[] = {y.get()};
    return describe(context->check(context.get(), info.get(), in, out,
                                   workspace, workspaceBytes, needed));
  }

  std::string checkInputs() {
    moe_tensor in[] = {x.get(), w.get(), ids.get()};
    return describe(context->check_inputs(context.get(), info.get(), in));
  }

  std::string describe(int status) {
    EXPECT_EQ(status == MOE_OK, errorOf(context).empty());
    if (status == MOE_OK)
      return "ok";
    return std::string(moe_status_name(status)) + ": " + errorOf(context);
  }

  ContextPtr context = makeContext(1);
  Info info{
      "layer",
      {{"x", kF32, {-1, 64}}, {"w", kF32, {8, 64}}, {"ids", kI32, {-1, -2}}},
      {{"y", kF32, {-1, 64}}}};
  Tensor x{kF32, {16, 64}};
  Tensor w{kF32, {8, 64}};
  Tensor ids{kI32, {16, 4}};
  Tensor y{kF32, {16, 64}};
  alignas(64) char memory[256];
  void *workspace = memory;
  size_t workspaceBytes = 128;
  size_t needed = 128;
};

TEST_F(CheckTest, AcceptsAGoodCall) {
  EXPECT_EQ(check(), "ok");
  EXPECT_EQ(checkInputs(), "ok");
}

TEST_F(CheckTest, StaticSize) {
  x.shape = {16, 63};
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected "
                     "f32[T, 64], got f32[16, 63]");
  EXPECT_EQ(checkInputs(), "argument: layer: argument 'x' (input 0): expected "
                           "f32[T, 64], got f32[16, 63]");
}

TEST_F(CheckTest, Output) {
  y.shape = {16, 65};
  EXPECT_EQ(check(), "argument: layer: argument 'y' (output 0): expected "
                     "f32[T, 64], got f32[16, 65]");
  EXPECT_EQ(checkInputs(), "ok");
}

TEST_F(CheckTest, Rank) {
  x.shape = {16, 64, 1};
  x.view.ndim = 3;
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected "
                     "f32[T, 64], got f32[16, 64, 1]");
  x.view.ndim = 0;
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected "
                     "f32[T, 64], got f32[]");
  // Sizes of a rank that cannot be are not read.
  x.view.ndim = -1;
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected "
                     "f32[T, 64], got f32 of rank -1");
  x.view.ndim = 1 << 30;
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected "
                     "f32[T, 64], got f32 of rank 1073741824");
}

TEST_F(CheckTest, ShapePointer) {
  moe_tensor in[] = {x.get(), w.get(), ids.get()};
  in[1].shape = nullptr;
  EXPECT_EQ(describe(context->check_inputs(context.get(), info.get(), in)),
            "argument: layer: argument 'w' (input 1): expected f32[8, 64], got "
            "f32 of rank 2 without a shape");
}

TEST_F(CheckTest, Dtype) {
  const std::pair<moe_dtype, const char *> cases[] = {
      {kBF16, "bf16"},
      {{2, 64, 1}, "f64"},
      {{0, 8, 1}, "i8"},
      {{1, 8, 1}, "ui8"},
      {{6, 8, 1}, "bool"},
      {{2, 32, 4}, "(dtype code 2, 32 bits, 4 lanes)"},
      {{5, 128, 1}, "(dtype code 5, 128 bits, 1 lanes)"}};
  for (const auto &[dtype, text] : cases) {
    x.view.dtype = dtype;
    EXPECT_EQ(check(),
              std::string("argument: layer: argument 'x' (input 0): expected "
                          "f32[T, 64], got ") +
                  text + "[16, 64]");
  }
}

TEST_F(CheckTest, SymbolsAgree) {
  y.shape = {15, 64};
  EXPECT_EQ(check(),
            "argument: layer: argument 'y' (output 0): expected f32[T, 64] "
            "with T = 16 as in 'x', got f32[15, 64]");
  ids.shape = {17, 4};
  EXPECT_EQ(check(), "argument: layer: argument 'ids' (input 2): expected "
                     "i32[T, U] with T = 16 as in 'x', got i32[17, 4]");
}

TEST_F(CheckTest, SymbolBound) {
  x.shape = {101, 64};
  EXPECT_EQ(check(), "bound: layer: argument 'x' (input 0): expected f32[T, "
                     "64] with T <= 100, got f32[101, 64]");
  x.shape = {16, 64};
  ids.shape = {16, 11};
  EXPECT_EQ(check(), "bound: layer: argument 'ids' (input 2): expected i32[T, "
                     "U] with U <= 10, got i32[16, 11]");
  ids.shape = {16, 10};
  Tensor large(kI32, {16, 10});
  ids.view.data = large.view.data;
  EXPECT_EQ(check(), "ok");
}

TEST_F(CheckTest, NegativeSize) {
  x.shape = {-2, 64};
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected f32[T, "
                     "64], got f32[-2, 64]: a size is negative");
}

TEST_F(CheckTest, SizeOverflow) {
  info->symbol_bound[0] = INT64_MAX;
  x.shape = {INT64_MAX / 64, 64};
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected f32[T, "
                     "64], got f32[144115188075855871, 64]: its bits pass the "
                     "range of int64");
  // An empty tensor has no bytes, whatever its other sizes are.
  Info empty("layer", {{"x", kF32, {-1, -1, -1, 0}}}, {});
  empty->symbol_bound[0] = INT64_MAX;
  Tensor huge(kF32, {INT64_MAX, INT64_MAX, INT64_MAX, 0});
  moe_tensor in[] = {huge.get()};
  EXPECT_EQ(describe(context->check_inputs(context.get(), empty.get(), in)),
            "ok");
}

TEST_F(CheckTest, AddressOverflow) {
  x.view.byte_offset = UINT64_MAX - 3;
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected f32[T, "
                     "64], got f32[16, 64] that ends past the address space");
  x.view.data = reinterpret_cast<void *>(UINTPTR_MAX - 63);
  x.view.byte_offset = 0;
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected f32[T, "
                     "64], got f32[16, 64] that ends past the address space");
}

TEST_F(CheckTest, Device) {
  w.view.device_type = 2;
  EXPECT_EQ(check(), "argument: layer: argument 'w' (input 1): expected data "
                     "on the CPU (device type 1), got device type 2");
}

TEST_F(CheckTest, Strides) {
  x.strides = {64, 1};
  EXPECT_EQ(check(), "ok");
  x.strides = {128, 1};
  EXPECT_EQ(check(),
            "argument: layer: argument 'x' (input 0): expected contiguous "
            "f32[T, 64], got f32[16, 64] with strides [128, 1]");
  x.strides = {1, 16};
  EXPECT_EQ(check(),
            "argument: layer: argument 'x' (input 0): expected contiguous "
            "f32[T, 64], got f32[16, 64] with strides [1, 16]");
}

TEST_F(CheckTest, StridesOfOneRowAreFree) {
  for (Tensor *tensor : {&x, &ids, &y})
    tensor->shape[0] = 1;
  x.strides = {-12345, 1};
  EXPECT_EQ(check(), "ok");
  x.strides = {64, 2};
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected "
                     "contiguous f32[T, 64], got f32[1, 64] with strides [64, "
                     "2]");
}

TEST_F(CheckTest, EmptyTensorsNeedNothing) {
  for (Tensor *tensor : {&x, &ids, &y}) {
    tensor->shape[0] = 0;
    tensor->strides = {7, 7};
    tensor->view.data = nullptr;
  }
  EXPECT_EQ(check(), "ok");
  y.view.data = reinterpret_cast<void *>(3);
  EXPECT_EQ(check(), "ok");
}

TEST_F(CheckTest, NullData) {
  w.view.data = nullptr;
  w.view.byte_offset = 64;
  EXPECT_EQ(check(), "argument: layer: argument 'w' (input 1): expected f32[8, "
                     "64], got f32[8, 64] with NULL data");
}

TEST_F(CheckTest, Alignment) {
  // Nothing reads the data, so any address will do.
  x.view.data = reinterpret_cast<void *>(0x10001);
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected data "
                     "aligned to 4 bytes, got address 0x10001");
  x.view.data = reinterpret_cast<void *>(0x10000);
  x.view.byte_offset = 2;
  EXPECT_EQ(check(), "argument: layer: argument 'x' (input 0): expected data "
                     "aligned to 4 bytes, got address 0x10002");
  x.view.byte_offset = 4;
  EXPECT_EQ(check(), "ok");
}

TEST_F(CheckTest, SubByteElements) {
  // 5 elements of 4 bits are 3 bytes, at any address.
  Info packed("q", {{"w", {0, 4, 1}, {5}}}, {{"y", {1, 8, 1}, {1}}});
  Tensor weights({0, 4, 1}, {5}), result({1, 8, 1}, {1});
  weights.view.data = memory + 1;
  moe_tensor in[] = {weights.get()}, out[] = {result.get()};
  for (int64_t offset = 0; offset < 6; ++offset) {
    out[0].data = memory + offset;
    bool inside = offset >= 1 && offset < 4;
    EXPECT_EQ(
        context->check(context.get(), packed.get(), in, out, nullptr, 0, 0),
        inside ? MOE_ERROR_ARGUMENT : MOE_OK)
        << offset;
  }
}

TEST_F(CheckTest, OutputOverlapsInput) {
  std::vector<float> both(8 * 64 + 16 * 64);
  w.view.data = both.data();
  y.view.data = both.data() + 8 * 64 - 1;
  EXPECT_EQ(check(),
            "argument: layer: argument 'y' (output 0): expected memory of its "
            "own, got memory that overlaps 'w' (input 1)");
  // Neighbours do not overlap, and inputs may share memory.
  y.view.data = both.data() + 8 * 64;
  Tensor shared(kF32, {16, 64});
  x.view.data = ids.view.data = shared.view.data;
  EXPECT_EQ(check(), "ok");
}

TEST_F(CheckTest, OutputOverlapsOutput) {
  Info two("two", {}, {{"a", kF32, {4}}, {"b", kF32, {4}}});
  Tensor a(kF32, {4}), b(kF32, {4});
  b.view.data = a.data<char>();
  b.view.byte_offset = 12;
  moe_tensor out[] = {a.get(), b.get()};
  auto run = [&] {
    return describe(
        context->check(context.get(), two.get(), nullptr, out, nullptr, 0, 0));
  };
  EXPECT_EQ(run(),
            "argument: two: argument 'b' (output 1): expected memory of its "
            "own, got memory that overlaps 'a' (output 0)");
  out[1].byte_offset = 16;
  EXPECT_EQ(run(), "ok");
}

TEST_F(CheckTest, MissingArrays) {
  moe_tensor in[] = {x.get(), w.get(), ids.get()};
  EXPECT_EQ(describe(context->check_inputs(context.get(), info.get(), nullptr)),
            "argument: layer: expected 3 inputs, got NULL");
  EXPECT_EQ(describe(context->check(context.get(), info.get(), in, nullptr,
                                    workspace, 128, 128)),
            "argument: layer: expected 1 outputs, got NULL");
  EXPECT_EQ(describe(context->check_inputs(context.get(), nullptr, in)),
            "argument: expected the description of an entry, got NULL");
  EXPECT_EQ(context->check_inputs(nullptr, info.get(), in), MOE_ERROR_ARGUMENT);
  EXPECT_EQ(context->check(nullptr, info.get(), in, nullptr, nullptr, 0, 0),
            MOE_ERROR_ARGUMENT);
}

TEST_F(CheckTest, Workspace) {
  workspaceBytes = 127;
  EXPECT_EQ(check(), "workspace: layer: workspace: expected 128 bytes of its "
                     "own aligned to 64, got 127 bytes");
  workspace = nullptr;
  EXPECT_EQ(check(), "workspace: layer: workspace: expected 128 bytes of its "
                     "own aligned to 64, got NULL");
  workspaceBytes = needed = 0;
  EXPECT_EQ(check(), "ok");
  workspaceBytes = needed = 64;
  workspace = reinterpret_cast<void *>(0x10020);
  EXPECT_EQ(check(), "workspace: layer: workspace: expected 64 bytes of its "
                     "own aligned to 64, got address 0x10020");
  workspace = reinterpret_cast<void *>(UINTPTR_MAX - 63);
  EXPECT_EQ(check(), "workspace: layer: workspace: expected 64 bytes of its "
                     "own aligned to 64, got memory past the address space");
  // y lies inside the workspace, away from the other arguments.
  alignas(64) char room[16 * 64 * 4 + 128];
  workspace = room;
  y.view.data = room + 60;
  EXPECT_EQ(check(), "workspace: layer: workspace: expected 64 bytes of its "
                     "own aligned to 64, got memory that overlaps 'y' (output "
                     "0)");
  y.view.data = room + 64;
  EXPECT_EQ(check(), "ok");
}

TEST_F(CheckTest, Descriptions) {
  info->abi_version = MOE_ABI_VERSION + 1;
  EXPECT_EQ(check(), "abi: expected an entry of ABI version 3, got version 4");
  info->abi_version = MOE_ABI_VERSION;
  info->args[2].shape[1] = -4;
  EXPECT_EQ(check(), "abi: layer: malformed description: argument 'ids': size "
                     "1 is symbol 3 of 2");
  info->args[1].rank = MOE_MAX_RANK + 1;
  EXPECT_EQ(check(), "abi: layer: malformed description: argument 'w': "
                     "expected rank 0 to 8, got 9");
  info->args[1].rank = -1;
  EXPECT_EQ(checkInputs(), "abi: layer: malformed description: argument 'w': "
                           "expected rank 0 to 8, got -1");
  info->num_symbols = 9;
  EXPECT_EQ(check(), "abi: layer: malformed description: expected at most 8 "
                     "symbols, got 9");
  info->num_symbols = 2;
  info->num_inputs = 0x80000000u;
  EXPECT_EQ(check(), "abi: layer: malformed description: 2147483648 inputs and "
                     "1 outputs");
}

TEST_F(CheckTest, NamesMayFillTheirFields) {
  std::memset(info->name, 'n', MOE_NAME_BYTES);
  std::memset(info->args[0].name, 'a', MOE_NAME_BYTES);
  std::memset(info->symbol_name[0], 's', sizeof(info->symbol_name[0]));
  x.shape = {16, 63};
  EXPECT_EQ(check(), "argument: " + std::string(64, 'n') + ": argument '" +
                         std::string(64, 'a') + "' (input 0): expected f32[" +
                         std::string(16, 's') + ", 64], got f32[16, 63]");
}

TEST_F(CheckTest, ScalarsHaveNoShape) {
  Info scalar("s", {{"a", kF32, {}}}, {});
  Tensor a(kF32, {});
  moe_tensor in[] = {a.get()};
  in[0].shape = nullptr;
  EXPECT_EQ(describe(context->check_inputs(context.get(), scalar.get(), in)),
            "ok");
}

TEST_F(CheckTest, ErrorsReachAHostsOwnContext) {
  // A host may take the checks into a context that it lays out itself.
  struct HostContext {
    moe_context head;
    std::string message;
  } host{*context, ""};
  host.head.fail = [](moe_context *head, int, const char *message) {
    reinterpret_cast<HostContext *>(head)->message = message;
    // The check still refuses the call.
    return int(MOE_OK);
  };
  x.shape = {16, 63};
  moe_tensor in[] = {x.get(), w.get(), ids.get()};
  EXPECT_EQ(host.head.check_inputs(&host.head, info.get(), in),
            MOE_ERROR_ARGUMENT);
  EXPECT_EQ(host.message, "layer: argument 'x' (input 0): expected f32[T, 64], "
                          "got f32[16, 63]");
  EXPECT_EQ(errorOf(context), "");
}

} // namespace
