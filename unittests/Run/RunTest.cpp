//===- RunTest.cpp - Tests of moe-run without its compiler ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Run.h"
#include "IO/TestFiles.h"
#include "moe/IO/Json.h"
#include "moe/IO/Npy.h"
#include "moe/IO/Safetensors.h"
#include "moe/Run/Bind.h"

#include <cstring>
#include <sstream>

using namespace moe::run;
using namespace moe::test;
namespace io = moe::io;
using moe::io::Shape;

namespace {

struct Arg {
  std::string name;
  moe_dtype dtype;
  Shape shape; ///< -1 is T, -2 is C.
  std::string layout = "";
};

/// An entry whose result i is a copy of its argument i, or all sevens where
/// that has another size. It fails where the first byte of argument 0 is 13.
class FakeEntry {
public:
  FakeEntry(const std::vector<Arg> &inputs, const std::vector<Arg> &outputs,
            int64_t bound = 1000) {
    size_t count = inputs.size() + outputs.size();
    storage.resize(sizeof(moe_entry_info) + count * sizeof(moe_arg_info));
    auto *info = reinterpret_cast<moe_entry_info *>(storage.data());
    info->abi_version = MOE_ABI_VERSION;
    info->num_inputs = uint32_t(inputs.size());
    info->num_outputs = uint32_t(outputs.size());
    info->num_symbols = 2;
    info->device = MOE_DEVICE_CPU;
    std::strcpy(info->name, "layer");
    std::strcpy(info->symbol_name[0], "T");
    std::strcpy(info->symbol_name[1], "C");
    info->symbol_bound[0] = info->symbol_bound[1] = bound;
    moe_arg_info *to = info->args;
    for (const auto *list : {&inputs, &outputs})
      for (const Arg &arg : *list)
        describe(arg, *to++);
    entry = {info, runCopy, noWorkspace, nullptr, nullptr};
  }

  moe_entry entry;

  static int calls;

private:
  std::vector<char> storage;

  static void describe(const Arg &arg, moe_arg_info &to) {
    std::strncpy(to.name, arg.name.c_str(), sizeof(to.name) - 1);
    std::strncpy(to.layout, arg.layout.c_str(), sizeof(to.layout) - 1);
    to.dtype = arg.dtype;
    to.rank = int32_t(arg.shape.size());
    std::copy(arg.shape.begin(), arg.shape.end(), to.shape);
  }

  static size_t bytesOf(const moe_tensor &tensor) {
    Shape shape(tensor.shape, tensor.shape + tensor.ndim);
    return size_t(*io::countBytes(tensor.dtype, shape));
  }

  static int runCopy(moe_context *context, const moe_tensor *in,
                     moe_tensor *out, void *, size_t) {
    ++calls;
    const auto *first = static_cast<const char *>(in[0].data);
    if (bytesOf(in[0]) && *first == 13)
      return context->fail(context, MOE_ERROR_DATA, "13 brings bad luck");
    for (int i = 0; i < 1 + (out[1].data != nullptr); ++i) {
      if (bytesOf(in[i]) == bytesOf(out[i]))
        std::memcpy(out[i].data, in[i].data, bytesOf(out[i]));
      else
        std::memset(out[i].data, 7, bytesOf(out[i]));
    }
    return MOE_OK;
  }
  static int noWorkspace(moe_context *, const moe_tensor *, size_t *bytes) {
    *bytes = 0;
    return MOE_OK;
  }
};

int FakeEntry::calls = 0;

class RunTest : public FolderTest {
protected:
  void SetUp() override {
    FolderTest::SetUp();
    ASSERT_EQ(moe_context_create(1, &context), MOE_OK);
    FakeEntry::calls = 0;
  }
  void TearDown() override {
    moe_context_destroy(context);
    FolderTest::TearDown();
  }

  /// Runs with `words` after FILE; the exit code.
  int run(const FakeEntry &fake, std::vector<std::string> words,
          const CostFn &cost = {}) {
    out.str("");
    err.str("");
    std::vector<const char *> argv = {"moe-run", "layer.mlir"};
    for (const std::string &word : words)
      argv.push_back(word.c_str());
    io::Expected<Options> options = parseOptions(int(argv.size()), argv.data());
    EXPECT_TRUE(options) << options.message();
    return runEntry(*options, fake.entry, context, cost, out, err);
  }
  /// The one error of a run, which must change and print nothing.
  std::string errorOf(const FakeEntry &fake, std::vector<std::string> words) {
    std::vector<std::string> before = names();
    EXPECT_EQ(run(fake, std::move(words)), 1);
    EXPECT_EQ(out.str(), "");
    EXPECT_EQ(names(), before);
    std::string text = err.str(), start = "moe-run: error: ";
    size_t at = text.rfind(start);
    if (at == std::string::npos)
      return "no error: " + text;
    text = text.substr(at + start.size());
    EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
    text.pop_back();
    return text;
  }

  template <typename T>
  std::string npy(const std::string &name, const char *descr,
                  const std::string &shape, const std::vector<T> &data) {
    return write(name, npyBytes(descr, shape, bytesOf(data), 1));
  }

  /// y, n = layer(x, w), both copies.
  FakeEntry layer{
      {{"x", io::kF32, {-1, 2}}, {"w", io::kF32, {3, 2}, "out_in, cat"}},
      {{"y", io::kF32, {-1, 2}}, {"n", io::kI32, {3}}}};
  moe_context *context = nullptr;
  std::ostringstream out, err;
};

//===----------------------------------------------------------------------===//
// From files to files
//===----------------------------------------------------------------------===//

TEST_F(RunTest, CopiesFiles) {
  std::string x = npy<float>("x.npy", "<f4", "(2, 2)", {1, 2, 3, 4});
  ASSERT_EQ(
      run(layer, {"--arg=x=" + x, "--arg=w=zeros", "--out=y=" + path("y.npy")}),
      0)
      << err.str();
  EXPECT_EQ(err.str(), "");
  EXPECT_EQ(out.str(), "entry layer, target cpu, threads 1\n"
                       "result y: f32 [2, 2] -> " +
                           path("y.npy") + "\nresult n: i32 [3]\n");
  io::Expected<io::Tensor> y = io::readNpy(path("y.npy"));
  ASSERT_TRUE(y) << y.message();
  EXPECT_EQ(values(y->as<float>(), 4), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(FakeEntry::calls, 1);
}

TEST_F(RunTest, PutsResultsInOneSafetensorsFile) {
  std::string file = path("r.safetensors");
  ASSERT_EQ(
      run(layer, {"--arg=x=ones", "--arg=w=zeros", "--dim=T=4",
                  "--out=y=" + file + "#out.y", "--out=n=" + file + "#n"}),
      0)
      << err.str();
  io::Expected<io::SafetensorsFile> opened = io::SafetensorsFile::open(file);
  ASSERT_TRUE(opened) << opened.message();
  EXPECT_EQ(opened->entries().size(), 2u);
  EXPECT_EQ(opened->load("out.y")->shape(), (Shape{4, 2}));
  EXPECT_EQ(*opened->load("n")->as<int32_t>(), 0x07070707);
}

TEST_F(RunTest, AcceptsBatchesAndGivesThemBack) {
  std::vector<float> data(12);
  for (int i = 0; i < 12; ++i)
    data[size_t(i)] = float(i);
  std::string x = npy("x.npy", "<f4", "(2, 3, 2)", data);
  ASSERT_EQ(
      run(layer, {"--arg=x=" + x, "--arg=w=zeros", "--out=y=" + path("y.npy")}),
      0)
      << err.str();
  io::Expected<io::Tensor> y = io::readNpy(path("y.npy"));
  ASSERT_TRUE(y) << y.message();
  EXPECT_EQ(y->shape(), (Shape{2, 3, 2}));
  EXPECT_EQ(values(y->as<float>(), 12), data);
}

TEST_F(RunTest, BatchesMustAgree) {
  FakeEntry masked({{"x", io::kU8, {-1, 2}}, {"mask", io::kBool, {-1}}},
                   {{"y", io::kU8, {-1, 2}}, {"m", io::kBool, {-1}}});
  std::string x =
      npy<uint8_t>("x.npy", "|u1", "(2, 3, 2)", std::vector<uint8_t>(12, 1));
  std::string good =
      npy<uint8_t>("a.npy", "|b1", "(2, 3)", std::vector<uint8_t>(6, 1));
  std::string flat =
      npy<uint8_t>("b.npy", "|b1", "(6,)", std::vector<uint8_t>(6, 1));
  std::string bad =
      npy<uint8_t>("c.npy", "|b1", "(3, 2)", std::vector<uint8_t>(6, 1));
  for (const std::string &mask : {good, flat}) {
    ASSERT_EQ(run(masked, {"--arg=x=" + x, "--arg=mask=" + mask,
                           "--out=m=" + path("m.npy")}),
              0)
        << err.str();
    EXPECT_EQ(io::readNpy(path("m.npy"))->shape(), (Shape{2, 3}));
  }
  EXPECT_EQ(errorOf(masked, {"--arg=x=" + x, "--arg=mask=" + bad}),
            "argument 'mask': T is given as [3, 2], but as [2, 3] by argument "
            "'x'");
}

TEST_F(RunTest, AcceptsNoTokens) {
  std::string x = npy<float>("x.npy", "<f4", "(0, 5, 2)", {});
  ASSERT_EQ(run(layer, {"--arg=x=" + x, "--arg=w=zeros",
                        "--out=y=" + path("y.npy"), "--repeat=2"}),
            0)
      << err.str();
  EXPECT_EQ(io::readNpy(path("y.npy"))->shape(), (Shape{0, 5, 2}));
}

TEST_F(RunTest, RoundsFloatsAndSaysSo) {
  for (moe_dtype dtype : {io::kBF16, io::kF16}) {
    std::string name = io::dtypeName(dtype);
    FakeEntry half({{"x", dtype, {-1}}, {"b", io::kI8, {1}}},
                   {{"y", dtype, {-1}}, {"c", io::kI8, {1}}});
    // Ties to even in both: 1 + 2^-9 and 1 + 3 * 2^-9 fit f16 exactly.
    std::vector<float> data = {1, 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1p-11f};
    std::string x = npy("x.npy", "<f4", "(4,)", data);
    ASSERT_EQ(
        run(half, {"--arg=x=" + x, "--arg=b=ones", "--out=y=" + path("y.npy")}),
        0)
        << err.str();
    std::string note = "moe-run: note: argument 'x': the f32 values of " + x +
                       " are rounded to " + name + "\n";
    bool bf16 = name == "bf16";
    if (bf16)
      note += "moe-run: note: result 'y': .npy has no bf16, so " +
              path("y.npy") + " holds the values as f32\n";
    EXPECT_EQ(err.str(), note);
    io::Expected<io::Tensor> y = io::readNpy(path("y.npy"));
    ASSERT_TRUE(y) << y.message();
    EXPECT_EQ(io::dtypeName(y->dtype()), bf16 ? "f32" : "f16");
    if (!bf16)
      y = io::widenToF32(*y, "y");
    EXPECT_EQ(values(y->as<float>(), 4),
              bf16 ? (std::vector<float>{1, 1, 1 + 0x1p-6f, 1})
                   : (std::vector<float>{1, 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1}));
  }
}

TEST_F(RunTest, StoresBF16AsItIs) {
  FakeEntry half({{"x", io::kBF16, {-1}}, {"b", io::kI8, {1}}},
                 {{"y", io::kBF16, {-1}, "rows"}, {"c", io::kI8, {1}}});
  ASSERT_EQ(run(half, {"--arg=x=iota", "--dim=T=3", "--arg=b=ones",
                       "--out=y=" + path("y.safetensors#y")}),
            0)
      << err.str();
  io::Expected<io::SafetensorsFile> file =
      io::SafetensorsFile::open(path("y.safetensors"));
  ASSERT_TRUE(file) << file.message();
  EXPECT_EQ(values(file->load("y")->as<uint16_t>(), 3),
            (std::vector<uint16_t>{0, 0x3f80, 0x4000}));
  EXPECT_EQ(file->metadata("moe.layout.y"), "rows");
}

//===----------------------------------------------------------------------===//
// What is refused
//===----------------------------------------------------------------------===//

TEST_F(RunTest, NamesMustFit) {
  EXPECT_EQ(errorOf(layer, {"--arg=x=zeros"}),
            "no --arg for w; the entry 'layer' takes x, w");
  EXPECT_EQ(errorOf(layer, {}),
            "no --arg for x, w; the entry 'layer' takes x, w");
  EXPECT_EQ(errorOf(layer, {"--arg=x=zeros", "--arg=z=zeros"}),
            "--arg: no argument 'z'; expected x, w");
  EXPECT_EQ(errorOf(layer, {"--arg=x=zeros", "--arg=x=ones"}),
            "--arg: argument 'x' is given twice");
  std::vector<std::string> args = {"--arg=x=zeros", "--arg=w=zeros",
                                   "--dim=T=2"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), args.begin(), args.end());
    return more;
  };
  EXPECT_EQ(errorOf(layer, with({"--out=x=a.npy"})),
            "--out: no result 'x'; expected y, n");
  EXPECT_EQ(errorOf(layer, with({"--out=y=a.npy", "--out=y=b.npy"})),
            "--out: result 'y' is given twice");
  EXPECT_EQ(errorOf(layer, with({"--dim=S=3"})),
            "--dim: the entry has no dynamic size 'S'; expected T, C");
  EXPECT_EQ(errorOf(layer, with({"--dim=T=3"})),
            "--dim=T: T = 3 disagrees with T = 2 from --dim=T");
  EXPECT_EQ(errorOf(layer, with({"--layout=x=rows"})),
            "--layout: argument 'x' has no layout");
  EXPECT_EQ(errorOf(layer, with({"--layout=v=rows"})),
            "--layout: no argument 'v'; expected x, w");
  EXPECT_EQ(FakeEntry::calls, 0);
}

TEST_F(RunTest, ArgumentsMustFit) {
  std::string wide =
      npy<float>("wide.npy", "<f4", "(2, 3)", std::vector<float>(6));
  std::string flat = npy<float>("flat.npy", "<f4", "(2,)", {1, 2});
  std::string ints = npy<int64_t>("ints.npy", "<i8", "(1, 2)", {1, 2});
  std::string two = npy<float>("two.npy", "<f4", "(2, 2)", {1, 2, 3, 4});
  EXPECT_EQ(errorOf(layer, {"--arg=x=" + wide, "--arg=w=zeros"}),
            "argument 'x': " + wide + " has the shape [2, 3], expected [T, 2]");
  EXPECT_EQ(errorOf(layer, {"--arg=x=" + flat, "--arg=w=zeros"}),
            "argument 'x': " + flat + " has the shape [2], expected [T, 2]");
  EXPECT_EQ(errorOf(layer, {"--arg=x=" + ints, "--arg=w=zeros"}),
            "argument 'x': " + ints + " holds i64, expected f32");
  EXPECT_EQ(errorOf(layer, {"--arg=x=" + two, "--arg=w=zeros", "--dim=T=3"}),
            "argument 'x': T = 2 disagrees with T = 3 from --dim=T");
  // Only a dynamic leading size takes a batch.
  std::string batch =
      npy<float>("batch.npy", "<f4", "(1, 3, 2)", std::vector<float>(6));
  EXPECT_EQ(
      errorOf(layer,
              {"--arg=x=" + two, "--arg=w=" + batch, "--layout=w=out_in,cat"}),
      "argument 'w': " + batch + " has the shape [1, 3, 2], expected [3, 2]");
  FakeEntry bounded({{"x", io::kF32, {-1, 2}}, {"w", io::kF32, {1}}},
                    {{"y", io::kF32, {-1, 2}}, {"n", io::kF32, {1}}},
                    /*bound=*/1);
  EXPECT_EQ(errorOf(bounded, {"--arg=x=" + two, "--arg=w=zeros"}),
            "argument 'x': T = 2 is over its bound 1");
  EXPECT_EQ(errorOf(layer, {"--arg=x=none.npy", "--arg=w=zeros"}),
            "argument 'x': none.npy: cannot open: No such file or directory");
  EXPECT_EQ(errorOf(layer, {"--arg=x=zeros", "--arg=w=zeros"}),
            "argument 'x': the size T of [T, 2] is not known; give "
            "--dim=T=SIZE");
  EXPECT_EQ(errorOf(layer, {"--arg=x=noise", "--arg=w=zeros"}),
            "--arg=x: 'noise' is neither FILE.npy nor FILE.safetensors#NAME "
            "nor FILE.safetensors.index.json#NAME nor a generator "
            "(random:SEED[:SCALE], zeros, ones, iota)");
  EXPECT_EQ(errorOf(layer, {"--arg=x=random:-1", "--arg=w=zeros"}),
            "--arg=x: 'random:-1' is not random:SEED[:SCALE] (SEED from 0 to "
            "2^64-1)");
  FakeEntry ints2({{"i", io::kI32, {-1}}, {"w", io::kF32, {1}}},
                  {{"y", io::kI32, {-1}}, {"n", io::kF32, {-2}}});
  EXPECT_EQ(errorOf(ints2, {"--arg=i=random:1", "--arg=w=zeros", "--dim=T=1"}),
            "argument 'i': random makes floating-point numbers, not i32");
  EXPECT_EQ(errorOf(ints2, {"--arg=i=zeros", "--arg=w=zeros", "--dim=T=1"}),
            "result 'n': the size C of [C] is not known; no argument has it, "
            "so give --dim=C=SIZE");
  EXPECT_EQ(FakeEntry::calls, 0);
}

TEST_F(RunTest, RefusesSizesThatOverflow) {
  FakeEntry huge({{"x", io::kF32, {-1, -1, -1}}, {"w", io::kF32, {1}}},
                 {{"y", io::kF32, {1}}, {"n", io::kF32, {1}}},
                 std::numeric_limits<int64_t>::max());
  EXPECT_EQ(
      errorOf(huge, {"--arg=x=zeros", "--arg=w=zeros", "--dim=T=4294967296"}),
      "argument 'x': the shape [4294967296, 4294967296, 4294967296] is "
      "negative or overflows");
  EXPECT_EQ(errorOf(huge, {"--arg=x=ones", "--arg=w=zeros", "--dim=T=100000"}),
            "argument 'x': out of memory for f32 [100000, 100000, 100000] "
            "(4000000000000000 bytes)");
}

TEST_F(RunTest, DestinationsMustFit) {
  auto message = [&](std::vector<std::string> outs) {
    outs.insert(outs.begin(), {"--arg=x=ones", "--arg=w=ones", "--dim=T=1"});
    return errorOf(layer, outs);
  };
  EXPECT_EQ(message({"--out=y=a.txt"}),
            "--out=y: 'a.txt' is neither FILE.npy nor FILE.safetensors#NAME "
            "nor FILE.safetensors.index.json#NAME");
  EXPECT_EQ(message({"--out=y=a.json#y"}),
            "--out=y: 'a.json#y': results go to FILE.npy or "
            "FILE.safetensors#NAME");
  EXPECT_EQ(message({"--out=y=" + path("none/y.npy")}),
            "--out=y: " + path("none/y.npy") +
                ": cannot write to its folder: No such file or directory");
  EXPECT_EQ(message({"--out=y=" + path("a.npy"), "--out=n=" + path("a.npy")}),
            "--out=n: '" + path("a.npy") +
                "' is the destination of result 'y' as well");
  EXPECT_EQ(FakeEntry::calls, 0);
  EXPECT_EQ(message({"--out=y=" + path("a.npy"), "--out=n=" + path("./a.npy")}),
            path("./a.npy") + ": is to be written twice");
}

TEST_F(RunTest, ACallThatFailsWritesNothing) {
  FakeEntry bytes({{"x", io::kU8, {-1}}, {"w", io::kU8, {1}}},
                  {{"y", io::kU8, {-1}}, {"n", io::kU8, {1}}});
  std::string x = npy<uint8_t>("x.npy", "|u1", "(1,)", {13});
  EXPECT_EQ(errorOf(bytes, {"--arg=x=" + x, "--arg=w=ones", "--json",
                            "--out=y=" + path("y.npy")}),
            "13 brings bad luck");
  EXPECT_EQ(FakeEntry::calls, 1);
}

TEST_F(RunTest, RefusesADamagedDescription) {
  std::vector<std::string> words = {"--arg=x=ones", "--arg=w=ones",
                                    "--dim=T=1"};
  auto *info = const_cast<moe_entry_info *>(layer.entry.info);
  info->abi_version = 9;
  EXPECT_EQ(errorOf(layer, words), "the entry is of ABI version 9, expected 3");
  info->abi_version = MOE_ABI_VERSION;
  info->args[0].shape[0] = -3;
  EXPECT_EQ(errorOf(layer, words), "the description of the entry is damaged");
  info->args[0].shape[0] = -1;
  info->args[3].rank = MOE_MAX_RANK + 1;
  EXPECT_EQ(errorOf(layer, words), "the description of the entry is damaged");
  FakeEntry none = layer;
  none.entry.info = nullptr;
  EXPECT_EQ(errorOf(none, words), "the entry has no description");
}

//===----------------------------------------------------------------------===//
// Layouts
//===----------------------------------------------------------------------===//

TEST_F(RunTest, LayoutsMustBeStated) {
  std::string w =
      npy<float>("w.npy", "<f4", "(3, 2)", std::vector<float>(6, 1));
  std::vector<std::string> words = {"--arg=x=ones", "--dim=T=1",
                                    "--arg=w=" + w};
  EXPECT_EQ(errorOf(layer, words),
            "argument 'w': nothing states the layout of " + w +
                "; if it is the expected one, say --layout=w='out_in, cat'");
  words.push_back("--layout=w= out_in ,\tcat");
  EXPECT_EQ(run(layer, words), 0) << err.str();
  words.back() = "--layout=w=in_out, cat";
  EXPECT_EQ(errorOf(layer, words), "argument 'w': --layout states the layout "
                                   "'in_out, cat', expected 'out_in, cat'");
  words.push_back("--layout=w=out_in, cat");
  EXPECT_EQ(errorOf(layer, words), "--layout: argument 'w' is given twice");
  // A generated argument has the expected layout by construction.
  EXPECT_EQ(run(layer, {"--arg=x=ones", "--dim=T=1", "--arg=w=ones"}), 0);
  EXPECT_EQ(errorOf(layer, {"--arg=x=ones", "--dim=T=1", "--arg=w=ones",
                            "--layout=w=rows"}),
            "argument 'w': --layout states the layout 'rows', expected "
            "'out_in, cat'");
}

TEST_F(RunTest, LayoutsComeFromTheFile) {
  auto store = [&](const std::string &layout) {
    return write("w.safetensors",
                 safetensorsBytes(
                     "{\"__metadata__\":{\"moe.layout.m.w\":\"" + layout +
                         "\"}," + entryText("m.w", "F32", "[3,2]", 0, 24) + "}",
                     std::string(24, 0)) +
                     "") +
           "#m.w";
  };
  std::string good = store("out_in,cat");
  EXPECT_EQ(run(layer, {"--arg=x=ones", "--dim=T=1", "--arg=w=" + good}), 0)
      << err.str();
  std::string bad = store("in_out,cat");
  EXPECT_EQ(errorOf(layer, {"--arg=x=ones", "--dim=T=1", "--arg=w=" + bad}),
            "argument 'w': " + bad +
                " states the layout 'in_out,cat', expected 'out_in, cat'");
  // The command line cannot overrule what the file says.
  EXPECT_EQ(errorOf(layer, {"--arg=x=ones", "--dim=T=1", "--arg=w=" + bad,
                            "--layout=w=out_in,cat"}),
            "argument 'w': " + bad +
                " states the layout 'in_out,cat', expected 'out_in, cat'");
}

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

TEST_F(RunTest, MeasuresAndReports) {
  std::vector<std::string> words = {"--arg=x=ones", "--arg=w=ones", "--dim=T=4",
                                    "--repeat=5"};
  CostFn cost = [](const std::vector<io::Tensor> &inputs,
                   const std::vector<io::Tensor> &outputs) {
    // The results of the call are there.
    EXPECT_EQ(*outputs[1].as<int32_t>(), 0x07070707);
    return Cost{double(inputs[0].numElements()), 24};
  };
  ASSERT_EQ(run(layer, words, cost), 0) << err.str();
  EXPECT_NE(out.str().find(" of 5 calls\n"), std::string::npos) << out.str();
  EXPECT_NE(out.str().find(" GB/s of weights"), std::string::npos);
  EXPECT_NE(out.str().find("cache: inputs rotate over "), std::string::npos);

  words.push_back("--json");
  ASSERT_EQ(run(layer, words, cost), 0) << err.str();
  io::Expected<io::JsonValue> json = io::parseJson(out.str());
  ASSERT_TRUE(json) << json.message() << out.str();
  EXPECT_EQ(json->find("entry")->string, "layer");
  EXPECT_EQ(json->find("target")->string, "cpu");
  EXPECT_EQ(json->find("results")->elements.size(), 2u);
  const io::JsonValue *bench = json->find("benchmark");
  EXPECT_EQ(bench->find("repeat")->number, 5u);
  EXPECT_EQ(bench->find("flops")->number, 8u);
  EXPECT_EQ(bench->find("weight_bytes")->number, 24u);
  EXPECT_TRUE(bench->find("gflop_per_s")->is(io::JsonValue::Kind::Other));
  EXPECT_GE(bench->find("rotation")->find("weight_copies")->number, 1u);

  // Without a cost there are times, but no rates.
  ASSERT_EQ(run(layer, words), 0) << err.str();
  json = io::parseJson(out.str());
  ASSERT_TRUE(json) << json.message();
  EXPECT_TRUE(
      json->find("benchmark")->find("flops")->is(io::JsonValue::Kind::Null));
  EXPECT_TRUE(json->find("benchmark")
                  ->find("median_s")
                  ->is(io::JsonValue::Kind::Other));
  words.erase(words.begin() + 3);
  ASSERT_EQ(run(layer, words), 0) << err.str();
  EXPECT_TRUE(io::parseJson(out.str())
                  ->find("benchmark")
                  ->is(io::JsonValue::Kind::Null));
}

TEST_F(RunTest, ReportsAStreamThatFails) {
  io::Expected<Options> options = Options();
  options->args = {{"x", "ones"}, {"w", "ones"}};
  options->dims = {{"T", 1}};
  out.setstate(std::ios::badbit);
  EXPECT_EQ(runEntry(*options, layer.entry, context, {}, out, err), 1);
  EXPECT_EQ(err.str(), "moe-run: error: cannot print the report\n");
}

} // namespace
