//===- SafetensorsTest.cpp - Tests of safetensors files -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Safetensors.h"
#include "TestFiles.h"
#include "moe/IO/TensorPath.h"

using namespace moe::io;
using namespace moe::test;

namespace {

class SafetensorsTest : public FolderTest {
protected:
  /// The message of opening `bytes`, without the path.
  std::string messageOf(const std::string &bytes) {
    std::string file = write("bad.safetensors", bytes);
    Expected<SafetensorsFile> opened = SafetensorsFile::open(file);
    if (opened)
      return "no error";
    std::string message = opened.message();
    EXPECT_EQ(message.substr(0, file.size() + 2), file + ": ");
    return message.substr(std::min(message.size(), file.size() + 2));
  }
  /// The message for a header over 8 bytes of data.
  std::string headerMessage(const std::string &header) {
    return messageOf(safetensorsBytes(header, std::string(8, 0)));
  }
  std::string entryMessage(const std::string &entry) {
    return headerMessage("{\"a\":" + entry + "}");
  }
};

std::string loadMessage(const std::string &text) {
  Expected<TensorPath> path = parseTensorPath(text);
  if (!path)
    return path.message();
  Expected<LoadedTensor> loaded = loadTensor(*path);
  return loaded ? "no error" : loaded.message();
}

TEST_F(SafetensorsTest, ReadsTensorsAndMetadata) {
  std::string data = bytesOf<float>({1, 2, 3}) + bytesOf<uint16_t>({0x3f80, 0});
  std::string file = write(
      "a.safetensors",
      safetensorsBytes("{\"__metadata__\":{\"moe.layout.w\":\"out_in\"}," +
                           entryText("b", "BF16", "[1,2]", 12, 16) + "," +
                           entryText("w", "F32", "[3]", 0, 12) + "," +
                           entryText("none", "I8", "[0,7]", 12, 12) + "}   ",
                       data));
  Expected<SafetensorsFile> opened = SafetensorsFile::open(file);
  ASSERT_TRUE(opened) << opened.message();
  EXPECT_EQ(opened->entries().size(), 3u);
  EXPECT_EQ(opened->entries()[0].name, "w");
  Expected<Tensor> w = opened->load("w");
  ASSERT_TRUE(w) << w.message();
  EXPECT_EQ(w->shape(), Shape{3});
  Expected<Tensor> b = opened->load("b");
  ASSERT_TRUE(b) << b.message();
  EXPECT_TRUE(sameDType(b->dtype(), kBF16));
  EXPECT_EQ(bf16ToF32(*b->as<uint16_t>()), 1.0f);
  Expected<Tensor> none = opened->load("none");
  ASSERT_TRUE(none) << none.message();
  EXPECT_EQ(none->shape(), (Shape{0, 7}));

  Expected<LoadedTensor> loaded = loadTensor(*parseTensorPath(file + "#w"));
  ASSERT_TRUE(loaded) << loaded.message();
  EXPECT_EQ(loaded->layout, "out_in");
  EXPECT_EQ(values(loaded->tensor.as<float>(), 3),
            (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(loadTensor(*parseTensorPath(file + "#b"))->layout, std::nullopt);
}

TEST_F(SafetensorsTest, ReadsEveryDType) {
  struct {
    const char *name;
    moe_dtype dtype;
  } cases[] = {{"BF16", kBF16}, {"F16", kF16}, {"F32", kF32}, {"F64", kF64},
               {"I64", kI64},   {"I32", kI32}, {"I16", kI16}, {"I8", kI8},
               {"U64", kU64},   {"U32", kU32}, {"U16", kU16}, {"U8", kU8},
               {"BOOL", kBool}};
  for (const auto &c : cases) {
    size_t bytes = 3 * elementBytes(c.dtype);
    std::string data(bytes, '\1');
    Expected<SafetensorsFile> file = SafetensorsFile::open(
        write("a.safetensors",
              safetensorsBytes(
                  "{" + entryText("t", c.name, "[3]", 0, bytes) + "}", data)));
    ASSERT_TRUE(file) << file.message();
    Expected<Tensor> tensor = file->load("t");
    ASSERT_TRUE(tensor) << tensor.message();
    EXPECT_TRUE(sameDType(tensor->dtype(), c.dtype)) << c.name;
    EXPECT_EQ(std::string(tensor->as<char>(), bytes), data) << c.name;
  }
}

TEST_F(SafetensorsTest, CopiesOnlyMisalignedData) {
  std::string data = std::string(1, '\1') + bytesOf<float>({2.5});
  for (size_t pad = 0; pad < 8; ++pad) {
    std::string header = "{" + entryText("a", "I8", "[1]", 0, 1) + "," +
                         entryText("b", "F32", "[1]", 1, 5) + "}" +
                         std::string(pad, ' ');
    auto bytes =
        std::make_shared<const std::string>(safetensorsBytes(header, data));
    Expected<SafetensorsFile> file =
        SafetensorsFile::parse(*bytes, "a.safetensors", bytes);
    ASSERT_TRUE(file) << file.message();
    Expected<Tensor> b = file->load("b");
    ASSERT_TRUE(b) << b.message();
    EXPECT_EQ(*b->as<float>(), 2.5f);
    EXPECT_EQ(uintptr_t(b->data()) % alignof(float), 0u);
    const char *stored = bytes->data() + bytes->size() - 4;
    EXPECT_EQ(b->data() == stored, uintptr_t(stored) % alignof(float) == 0);
  }
}

TEST_F(SafetensorsTest, RefusesBadLengths) {
  EXPECT_EQ(messageOf(""), "is empty");
  EXPECT_EQ(messageOf("1234567"),
            "truncated: 7 bytes are too few for a safetensors file");
  EXPECT_EQ(messageOf(littleEndian(3, 8) + "{}"),
            "truncated: the header of 3 bytes ends past the file");
  EXPECT_EQ(messageOf(littleEndian(100000001, 8) + "{}"),
            "header length 100000001 is over the limit of 100000000 bytes");
  EXPECT_EQ(messageOf(littleEndian(UINT64_MAX, 8) + "{}"),
            "header length 18446744073709551615 is over the limit of "
            "100000000 bytes");
  EXPECT_EQ(messageOf(littleEndian(0, 8)), "header does not begin with '{'");
  EXPECT_EQ(messageOf(safetensorsBytes(" {}", "")),
            "header does not begin with '{'");
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  std::string whole = safetensorsBytes(
      "{" + entryText("a", "F32", "[2]", 0, 8) + "}", std::string(8, 0));
  for (size_t n = 1; n < whole.size(); ++n)
    EXPECT_NE(messageOf(whole.substr(0, n)).find("truncated: "),
              std::string::npos)
        << n;
  EXPECT_EQ(messageOf(whole.substr(0, whole.size() - 1)),
            "tensor \"a\": truncated: data_offsets [0, 8] end past the 7 bytes "
            "of data");
  EXPECT_EQ(messageOf(whole), "no error");
}

TEST_F(SafetensorsTest, RefusesBadJson) {
  EXPECT_EQ(headerMessage("{\"a\":"), "header: invalid JSON at byte 6");
  EXPECT_EQ(headerMessage("{} {}"), "header: invalid JSON at byte 4");
  EXPECT_EQ(headerMessage(std::string("{}\0{}", 5)),
            "header: invalid JSON at byte 2");
  EXPECT_EQ(headerMessage("{\"\xff\":1}"), "header: invalid JSON at byte 3");
  EXPECT_EQ(headerMessage("{\"a\":NaN}"), "header: invalid JSON at byte 6");
  EXPECT_EQ(headerMessage("{\"a\":1e999}"), "header: invalid JSON at byte 10");
  EXPECT_EQ(headerMessage("{/**/}"), "header: invalid JSON at byte 2");
  std::string entry = entryText("a", "F32", "[1]", 0, 4);
  EXPECT_EQ(headerMessage("{" + entry + "," + entry + "}"),
            "header: duplicate key \"a\"");
  EXPECT_EQ(entryMessage("{\"dtype\":\"F32\",\"dtype\":\"F32\"}"),
            "header: duplicate key \"dtype\"");
  EXPECT_EQ(headerMessage("{\"a\":" + std::string(1000000, '[') + "}"),
            "header: JSON nested more than 32 deep");
}

TEST_F(SafetensorsTest, RefusesTooManyJsonValues) {
  std::string header = "{\"a\":[0";
  for (int i = 0; i < (1 << 22); ++i)
    header += ",0";
  EXPECT_EQ(headerMessage(header + "]}"),
            "header: JSON holds more than 4194304 values");
}

TEST_F(SafetensorsTest, RefusesBadEntries) {
  std::string dtype = "\"dtype\":\"F32\"", shape = "\"shape\":[2]",
              offsets = "\"data_offsets\":[0,8]";
  auto entry = [&](const std::string &d, const std::string &s,
                   const std::string &o) {
    return entryMessage("{" + d + "," + s + "," + o + "}");
  };
  EXPECT_EQ(entry(dtype, shape, offsets), "no error");
  EXPECT_EQ(entryMessage("3"), "tensor \"a\": is not described by an object");
  EXPECT_EQ(entry("\"x\":1", shape, offsets), "tensor \"a\": lacks 'dtype'");
  EXPECT_EQ(entry(dtype, "\"x\":1", offsets), "tensor \"a\": lacks 'shape'");
  EXPECT_EQ(entry(dtype, shape, "\"x\":1"),
            "tensor \"a\": lacks 'data_offsets'");
  EXPECT_EQ(entry("\"dtype\":32", shape, offsets),
            "tensor \"a\": 'dtype' is not a string");
  EXPECT_EQ(entry("\"dtype\":\"F31\"", shape, offsets),
            "tensor \"a\": has the unknown dtype \"F31\"");
  EXPECT_EQ(entry(dtype, "\"shape\":2", offsets),
            "tensor \"a\": 'shape' is not a list");
  for (const char *size : {"-2", "2.0", "1e3", "\"2\"", "null", "[]",
                           "9223372036854775808", "99999999999999999999"})
    EXPECT_EQ(entry(dtype, "\"shape\":[" + std::string(size) + "]", offsets),
              "tensor \"a\": 'shape' holds something other than sizes")
        << size;
  for (const char *bad : {"8", "[0]", "[0,8,9]", "[0,8.0]", "[-1,8]"})
    EXPECT_EQ(entry(dtype, shape, "\"data_offsets\":" + std::string(bad)),
              "tensor \"a\": 'data_offsets' is not a pair of offsets")
        << bad;
  EXPECT_EQ(entry(dtype, shape, "\"data_offsets\":[8,0]"),
            "tensor \"a\": data_offsets [8, 0] end before they begin");
  EXPECT_EQ(entry(dtype, shape, "\"data_offsets\":[1,9]"),
            "tensor \"a\": truncated: data_offsets [1, 9] end past the 8 bytes "
            "of data");
  EXPECT_EQ(entry(dtype, "\"shape\":[3]", offsets),
            "tensor \"a\": f32 [3] needs 12 bytes, but data_offsets [0, 8] "
            "hold 8");
  EXPECT_EQ(entry(dtype, "\"shape\":[4294967296,4294967296]", offsets),
            "tensor \"a\": the shape [4294967296, 4294967296] overflows");
  EXPECT_EQ(entry(dtype, "\"shape\":[4611686018427387906]", offsets),
            "tensor \"a\": the shape [4611686018427387906] overflows");
  EXPECT_EQ(headerMessage("{\"__metadata__\":[]}"),
            "header: __metadata__ is not an object");
  EXPECT_EQ(headerMessage("{\"__metadata__\":{\"k\":1}}"),
            "header: __metadata__ \"k\" is not a string");
}

TEST_F(SafetensorsTest, RefusesHolesAndOverlaps) {
  auto two = [&](uint64_t aBegin, uint64_t aEnd, uint64_t bBegin,
                 uint64_t bEnd) {
    auto entry = [](const char *name, uint64_t begin, uint64_t end) {
      return entryText(name, "U8", "[" + std::to_string(end - begin) + "]",
                       begin, end);
    };
    return headerMessage("{" + entry("b", bBegin, bEnd) + "," +
                         entry("a", aBegin, aEnd) + "}");
  };
  EXPECT_EQ(two(0, 3, 3, 8), "no error");
  EXPECT_EQ(two(0, 4, 3, 8), "tensor \"b\" overlaps tensor \"a\"");
  EXPECT_EQ(two(0, 8, 0, 8).substr(0, 8), "tensor \"");
  EXPECT_EQ(two(0, 8, 2, 4), "tensor \"b\" overlaps tensor \"a\"");
  EXPECT_EQ(two(0, 3, 4, 8),
            "tensor \"b\" begins at byte 4, which leaves a hole of 1 bytes");
  EXPECT_EQ(two(1, 3, 3, 8),
            "tensor \"a\" begins at byte 1, which leaves a hole of 1 bytes");
  EXPECT_EQ(two(0, 3, 3, 7), "the last 1 bytes belong to no tensor");
  EXPECT_EQ(headerMessage("{}"), "the last 8 bytes belong to no tensor");
  EXPECT_EQ(messageOf(safetensorsBytes("{}", "")), "no error");
}

TEST_F(SafetensorsTest, ListsButDoesNotLoadOtherTypes) {
  std::string file =
      write("a.safetensors",
            safetensorsBytes("{" + entryText("f8", "F8_E4M3", "[3]", 0, 3) +
                                 "," + entryText("f4", "F4", "[2]", 3, 4) + "}",
                             "1234"));
  auto list = listTensors(file);
  ASSERT_TRUE(list) << list.message();
  EXPECT_EQ((*list)[0].dtype, "f8e4m3");
  EXPECT_EQ(loadMessage(file + "#f8"),
            file + ": tensor \"f8\": dtype F8_E4M3 is not supported");
  EXPECT_EQ(headerMessage("{" + entryText("f4", "F4", "[3]", 0, 2) + "}"),
            "tensor \"f4\": f4 [3] does not fill whole bytes");
}

TEST_F(SafetensorsTest, NamesWhatIsNear) {
  std::string header = "{" + entryText("layers.0.gate", "U8", "[4]", 0, 4) +
                       "," + entryText("layers.1.gate", "U8", "[4]", 4, 8) +
                       "}";
  std::string file =
      write("a.safetensors", safetensorsBytes(header, std::string(8, 0)));
  EXPECT_EQ(loadMessage(file + "#layers.0.gat"),
            file + ": no tensor \"layers.0.gat\"; did you mean "
                   "\"layers.0.gate\", \"layers.1.gate\"?");
  EXPECT_EQ(loadMessage(file + "#x"),
            file + ": no tensor \"x\"; it holds \"layers.0.gate\", "
                   "\"layers.1.gate\"");
  std::string empty = write("e.safetensors", safetensorsBytes("{}", ""));
  EXPECT_EQ(loadMessage(empty + "#x"), empty + ": no tensor \"x\"; it holds "
                                               "none");
}

TEST(SuggestNames, CountsWhatItLeavesOut) {
  std::vector<std::string> known;
  for (int i = 10; i < 20; ++i)
    known.push_back("name-" + std::to_string(i));
  EXPECT_EQ(suggestNames("zzz", known),
            "; it holds \"name-10\", \"name-11\", \"name-12\", \"name-13\", "
            "\"name-14\", \"name-15\", \"name-16\", \"name-17\" and 2 more");
  EXPECT_EQ(suggestNames("nam-12", known),
            "; did you mean \"name-12\", \"name-10\", \"name-11\"?");
}

//===----------------------------------------------------------------------===//
// Index
//===----------------------------------------------------------------------===//

class IndexTest : public SafetensorsTest {
protected:
  std::string index(const std::string &map) {
    return write("model.safetensors.index.json",
                 "{\"metadata\":{\"total_size\":12},\"weight_map\":" + map +
                     "}");
  }
};

TEST_F(IndexTest, FollowsShards) {
  write("1.safetensors",
        safetensorsBytes("{" + entryText("a", "F32", "[1]", 0, 4) + "}",
                         bytesOf<float>({1})));
  ASSERT_EQ(mkdir(path("sub").c_str(), 0700), 0);
  write("sub/2.safetensors",
        safetensorsBytes("{\"__metadata__\":{\"moe.layout.b\":\"L\"}," +
                             entryText("b", "F32", "[1]", 0, 4) + "}",
                         bytesOf<float>({2})));
  std::string file =
      index("{\"a\":\"1.safetensors\",\"b\":\"sub/2.safetensors\"}");
  Expected<LoadedTensor> b = loadTensor(*parseTensorPath(file + "#b"));
  ASSERT_TRUE(b) << b.message();
  EXPECT_EQ(*b->tensor.as<float>(), 2);
  EXPECT_EQ(b->layout, "L");
  auto list = listTensors(file);
  ASSERT_TRUE(list) << list.message();
  ASSERT_EQ(list->size(), 2u);
  EXPECT_EQ((*list)[1].name, "b");
  EXPECT_EQ((*list)[1].file, path("sub/2.safetensors"));
  EXPECT_EQ(loadMessage(file + "#c"),
            file + ": no tensor \"c\"; it holds \"a\", \"b\"");
}

TEST_F(IndexTest, RefusesPathsOutside) {
  for (const char *name :
       {"../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "..",
        "", "a/..", "a\\u0000.safetensors"}) {
    std::string file = index("{\"a\":\"" + std::string(name) + "\"}");
    std::string message = loadMessage(file + "#a");
    EXPECT_EQ(message.substr(0, file.size() + 23),
              file + ": weight_map \"a\" names ")
        << name;
    EXPECT_NE(message.find("not a path below the index's folder"),
              std::string::npos)
        << message;
  }
  std::string dots = index("{\"a\":\"..x.safetensors\"}");
  EXPECT_EQ(loadMessage(dots + "#a"), dots + ": " + path("..x.safetensors") +
                                          ": cannot open: No such file or "
                                          "directory");
}

TEST_F(IndexTest, RefusesBadIndexes) {
  std::string file = index("{\"a\":\"none.safetensors\"}");
  EXPECT_EQ(loadMessage(file + "#a"),
            file + ": " + path("none.safetensors") +
                ": cannot open: No such file or directory");
  EXPECT_EQ(listTensors(file).message(), loadMessage(file + "#a"));
  file = index("{\"a\":1}");
  EXPECT_EQ(loadMessage(file + "#a"),
            file + ": weight_map \"a\" is not a file name");
  file = index("[]");
  EXPECT_EQ(loadMessage(file + "#a"),
            file + ": is not a safetensors index (no object 'weight_map')");
  file = index("{\"a\":\"1\",\"a\":\"2\"}");
  EXPECT_EQ(loadMessage(file + "#a"), file + ": duplicate key \"a\"");
  file = write("x.json", "[1]");
  EXPECT_EQ(loadMessage(file + "#a"),
            file + ": is not a safetensors index (no object 'weight_map')");
  write("1.safetensors", safetensorsBytes("{}", ""));
  file = index("{\"a\":\"1.safetensors\"}");
  EXPECT_EQ(loadMessage(file + "#a"), file + ": " + path("1.safetensors") +
                                          ": no tensor \"a\"; it holds none");
  EXPECT_EQ(listTensors(file).message(),
            file + ": " + path("1.safetensors") + ": no tensor \"a\"");
}

//===----------------------------------------------------------------------===//
// Paths and listings
//===----------------------------------------------------------------------===//

TEST(TensorPath, Parses) {
  Expected<TensorPath> path = parseTensorPath("a#b.safetensors#c#d");
  ASSERT_TRUE(path) << path.message();
  EXPECT_EQ(path->file, "a#b.safetensors");
  EXPECT_EQ(path->name, "c#d");
  path = parseTensorPath("d/m.safetensors.index.json#w");
  ASSERT_TRUE(path) << path.message();
  EXPECT_EQ(path->format, TensorPath::Format::SafetensorsIndex);
  EXPECT_EQ(path->file, "d/m.safetensors.index.json");
  EXPECT_EQ(path->name, "w");
  path = parseTensorPath("a#b.npy");
  ASSERT_TRUE(path) << path.message();
  EXPECT_EQ(path->format, TensorPath::Format::Npy);
  EXPECT_EQ(path->file, "a#b.npy");
}

TEST(TensorPath, Refuses) {
  EXPECT_EQ(parseTensorPath("a.safetensors").message(),
            "'a.safetensors': name the tensor, as in FILE.safetensors#NAME");
  EXPECT_EQ(parseTensorPath("a.safetensors#").message(),
            "'a.safetensors#': no tensor name after '#'");
  EXPECT_EQ(parseTensorPath("a.bin").message(),
            "'a.bin' is neither FILE.npy nor FILE.safetensors#NAME nor "
            "FILE.safetensors.index.json#NAME");
}

TEST_F(SafetensorsTest, Lists) {
  std::string npy =
      write("a.npy", npyBytes("<f4", "(2,)", bytesOf<float>({1, 2}), 1));
  auto list = listTensors(npy);
  ASSERT_TRUE(list) << list.message();
  ASSERT_EQ(list->size(), 1u);
  EXPECT_EQ((*list)[0].name, "");
  EXPECT_EQ((*list)[0].dtype, "f32");
  EXPECT_EQ((*list)[0].shape, Shape{2});
  EXPECT_EQ(listTensors("a.txt").message(),
            "a.txt: is neither .npy nor .safetensors nor "
            ".safetensors.index.json");
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

TEST_F(SafetensorsTest, WritesWhatItReads) {
  Expected<Tensor> a = Tensor::allocate(kU8, {3}, "a"),
                   b = Tensor::allocate(kBF16, {2, 1}, "b"),
                   c = Tensor::allocate(kF64, {}, "c");
  ASSERT_TRUE(a && b && c);
  a->mutableAs<uint8_t>()[2] = 9;
  b->mutableAs<uint16_t>()[1] = 0x3f80;
  *c->mutableAs<double>() = -0.5;
  std::string odd = "odd \"\\\n\xc3\xa4";
  Expected<OutputFile> file = safetensorsFile(
      path("w.safetensors"), {{odd, &*a}, {"b", &*b}, {"c", &*c}},
      {{"moe.layout.b", "out_in"}});
  ASSERT_TRUE(file) << file.message();
  EXPECT_EQ(file->head.size() % 64, 0u);
  ASSERT_TRUE(writeFiles({*file}));
  Expected<SafetensorsFile> opened =
      SafetensorsFile::open(path("w.safetensors"));
  ASSERT_TRUE(opened) << opened.message();
  EXPECT_EQ(opened->entries()[0].name, "c"); // The widest first.
  EXPECT_EQ(opened->metadata("moe.layout.b"), "out_in");
  EXPECT_EQ(opened->metadata("none"), std::nullopt);
  EXPECT_EQ(opened->load(odd)->as<uint8_t>()[2], 9);
  EXPECT_EQ(opened->load("b")->shape(), (Shape{2, 1}));
  EXPECT_EQ(opened->load("b")->as<uint16_t>()[1], 0x3f80);
  EXPECT_EQ(*opened->load("c")->as<double>(), -0.5);
}

TEST_F(SafetensorsTest, RefusesBadNamesToWrite) {
  Expected<Tensor> a = Tensor::allocate(kU8, {3}, "a");
  ASSERT_TRUE(a);
  auto message = [&](std::vector<NamedTensor> tensors) {
    Expected<OutputFile> file = safetensorsFile("w", std::move(tensors), {});
    return file ? "no error" : file.message();
  };
  EXPECT_EQ(message({{"a", &*a}, {"b", &*a}}), "no error");
  EXPECT_EQ(message({{"a", &*a}, {"a", &*a}}),
            "w: tensor \"a\": is given twice");
  EXPECT_EQ(message({{"", &*a}}), "w: tensor \"\": is no name for a tensor");
  EXPECT_EQ(message({{"__metadata__", &*a}}),
            "w: tensor \"__metadata__\": is no name for a tensor");
  EXPECT_EQ(message({{"\xff", &*a}}),
            "w: tensor \"\xef\xbf\xbd\": is no name for a tensor");
  Tensor odd = Tensor::view({9, 8, 1}, {3}, a->data(), nullptr);
  EXPECT_EQ(message({{"a", &odd}}),
            "w: tensor \"a\": safetensors cannot hold dtype(code 9, 8 bits, 1 "
            "lanes)");
}

} // namespace
