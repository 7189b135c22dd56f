//===- NpyTest.cpp - Tests of .npy files ----------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Npy.h"
#include "TestFiles.h"

#include <cmath>

using namespace moe::io;
using namespace moe::test;

namespace {

class NpyTest : public FolderTest {
protected:
  /// The message of reading `bytes`, without the path.
  std::string messageOf(const std::string &bytes) {
    std::string file = write("bad.npy", bytes);
    Expected<Tensor> tensor = readNpy(file);
    if (tensor)
      return "no error";
    std::string message = tensor.message();
    EXPECT_EQ(message.substr(0, file.size() + 2), file + ": ");
    return message.substr(std::min(message.size(), file.size() + 2));
  }
  std::string headerMessage(const std::string &header) {
    return messageOf(npyBytes(header, std::string(8, 0)));
  }
};

TEST_F(NpyTest, ReadsEveryVersion) {
  std::string data = bytesOf<float>({1, 2, 3, 4, 5, 6});
  for (char version : {1, 2, 3}) {
    Expected<Tensor> tensor =
        readNpy(write("a.npy", npyBytes("<f4", "(2, 3)", data, version)));
    ASSERT_TRUE(tensor) << tensor.message();
    EXPECT_TRUE(sameDType(tensor->dtype(), kF32));
    EXPECT_EQ(tensor->shape(), (Shape{2, 3}));
    EXPECT_EQ(bytesOf(values(tensor->as<float>(), 6)), data);
  }
}

TEST_F(NpyTest, ReadsEveryDType) {
  struct {
    const char *descr;
    moe_dtype dtype;
  } cases[] = {{"<f8", kF64}, {"<f4", kF32}, {"<f2", kF16}, {"<i8", kI64},
               {"<i4", kI32}, {"<i2", kI16}, {"|i1", kI8},  {"<u8", kU64},
               {"<u4", kU32}, {"<u2", kU16}, {"|u1", kU8},  {"|b1", kBool}};
  for (const auto &c : cases) {
    std::string data(2 * elementBytes(c.dtype), '\1');
    Expected<Tensor> tensor =
        readNpy(write("a.npy", npyBytes(c.descr, "(2,)", data, 1)));
    ASSERT_TRUE(tensor) << tensor.message();
    EXPECT_TRUE(sameDType(tensor->dtype(), c.dtype)) << c.descr;
    EXPECT_EQ(std::string(tensor->as<char>(), data.size()), data) << c.descr;
  }
}

TEST_F(NpyTest, ReadsScalarsAndEmptyArrays) {
  Expected<Tensor> scalar =
      readNpy(write("s.npy", npyBytes("<f4", "()", bytesOf<float>({7}), 1)));
  ASSERT_TRUE(scalar) << scalar.message();
  EXPECT_EQ(scalar->shape(), Shape());
  EXPECT_EQ(*scalar->as<float>(), 7);
  Expected<Tensor> empty =
      readNpy(write("e.npy", npyBytes("<f4", "(0, 5)", "", 1)));
  ASSERT_TRUE(empty) << empty.message();
  EXPECT_EQ(empty->shape(), (Shape{0, 5}));
  EXPECT_EQ(empty->numElements(), 0);
}

TEST_F(NpyTest, CopiesMisalignedData) {
  std::string data = bytesOf<double>({1.5, -2.5});
  for (int pad = 0; pad < 8; ++pad) {
    std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': "
                         "(2,)}" +
                         std::string(size_t(pad), ' ');
    Expected<Tensor> tensor = readNpy(write("a.npy", npyBytes(header, data)));
    ASSERT_TRUE(tensor) << tensor.message();
    EXPECT_EQ(uintptr_t(tensor->data()) % alignof(double), 0u);
    EXPECT_EQ(tensor->as<double>()[1], -2.5);
  }
}

TEST_F(NpyTest, AcceptsAnyKeyOrderAndQuotes) {
  Expected<Tensor> tensor = readNpy(
      write("a.npy", npyBytes("{\"shape\":( 2 ,1),'fortran_order':False,"
                              "\"descr\":'<i2'}  \n",
                              bytesOf<int16_t>({3, -4}))));
  ASSERT_TRUE(tensor) << tensor.message();
  EXPECT_EQ(tensor->shape(), (Shape{2, 1}));
  EXPECT_EQ(tensor->as<int16_t>()[1], -4);
}

TEST_F(NpyTest, RefusesTruncation) {
  std::string whole = npyBytes("<f4", "(2,)", bytesOf<float>({1, 2}), 1);
  EXPECT_EQ(messageOf(""), "is empty");
  for (size_t n = 1; n < whole.size(); ++n) {
    std::string message = messageOf(whole.substr(0, n));
    if (n < 6)
      EXPECT_EQ(message, "is not a .npy file (no NumPy magic)");
    else
      EXPECT_EQ(message.substr(0, 11), "truncated: ") << n;
  }
  EXPECT_EQ(messageOf(whole.substr(0, whole.size() - 1)),
            "truncated: f32 [2] needs 8 bytes of data, found 7");
  EXPECT_EQ(messageOf(whole + "x"), "f32 [2] needs 8 bytes of data, found 9");
}

TEST_F(NpyTest, RefusesBadPreambles) {
  EXPECT_EQ(messageOf("PK\3\4 something zipped"),
            "is not a .npy file (no NumPy magic)");
  EXPECT_EQ(messageOf(npyBytes("{}", "", 4)),
            "has the unknown .npy version 4.0");
  EXPECT_EQ(messageOf(npyBytes("{}", "", 0)),
            "has the unknown .npy version 0.0");
  EXPECT_EQ(messageOf(std::string("\x93NUMPY\x02\0\xff\xff\xff\xff{", 13)),
            "truncated: the header of 4294967295 bytes ends past the file");
}

TEST_F(NpyTest, RefusesBadHeaders) {
  std::string order = "'fortran_order': False", shape = "'shape': (2,)",
              descr = "'descr': '<f4'", join = ", ";
  EXPECT_EQ(headerMessage("no dictionary"), "header is not a dictionary");
  EXPECT_EQ(headerMessage("{"), "header is not a valid dictionary");
  EXPECT_EQ(headerMessage("{descr: 1}"), "header is not a valid dictionary");
  EXPECT_EQ(headerMessage("{'descr"), "header is not a valid dictionary");
  EXPECT_EQ(headerMessage("{" + order + " " + shape + "}"),
            "header is not a valid dictionary");
  EXPECT_EQ(headerMessage("{" + order + join + shape + "}"),
            "header lacks 'descr'");
  EXPECT_EQ(headerMessage("{" + descr + join + shape + "}"),
            "header lacks 'fortran_order'");
  EXPECT_EQ(headerMessage("{" + descr + join + order + "}"),
            "header lacks 'shape'");
  EXPECT_EQ(headerMessage("{" + descr + join + descr + "}"),
            "header gives 'descr' twice");
  EXPECT_EQ(headerMessage("{" + order + join + order + "}"),
            "header gives 'fortran_order' twice");
  EXPECT_EQ(headerMessage("{" + shape + join + shape + "}"),
            "header gives 'shape' twice");
  EXPECT_EQ(headerMessage("{'extra': 1}"),
            "header has the unknown key 'extra'");
  EXPECT_EQ(headerMessage("{" + descr + join + order + join + shape + "} x"),
            "header has text after its dictionary");
  EXPECT_EQ(headerMessage("{'descr': 4}"), "'descr' is not a string");
  EXPECT_EQ(headerMessage("{'descr': [('a', '<f4')]}"),
            "a structured dtype is not supported");
  EXPECT_EQ(headerMessage("{'fortran_order': 0}"),
            "'fortran_order' is neither True nor False");
}

TEST_F(NpyTest, RefusesBadShapes) {
  auto shapeMessage = [&](const std::string &shape) {
    return messageOf(npyBytes("<f4", shape, std::string(8, 0), 1));
  };
  EXPECT_EQ(shapeMessage("2"), "'shape' is not a tuple");
  EXPECT_EQ(shapeMessage("(2)"), "'shape' is not a tuple of integers");
  EXPECT_EQ(shapeMessage("(2,,)"), "'shape' is not a tuple of integers");
  EXPECT_EQ(shapeMessage("(2.0,)"), "'shape' is not a tuple of integers");
  EXPECT_EQ(shapeMessage("(None,)"), "'shape' is not a tuple of integers");
  EXPECT_EQ(shapeMessage("(-2,)"), "'shape' has the negative size -2");
  EXPECT_EQ(shapeMessage("(18446744073709551616,)"),
            "a size in 'shape' does not fit in 64 bits");
  EXPECT_EQ(shapeMessage("(4294967296, 4294967296)"),
            "the shape [4294967296, 4294967296] overflows");
  EXPECT_EQ(shapeMessage("(4611686018427387904,)"),
            "the shape [4611686018427387904] overflows");
  // A zero must not hide an overflow of the sizes beside it.
  EXPECT_EQ(shapeMessage("(4294967296, 4294967296, 0)"),
            "the shape [4294967296, 4294967296, 0] overflows");
}

TEST_F(NpyTest, RefusesOtherDTypes) {
  auto message = [&](const std::string &descr) {
    return messageOf(npyBytes(descr, "(2,)", std::string(8, 0), 1));
  };
  EXPECT_EQ(message("<c8"), "dtype '<c8' is not supported");
  EXPECT_EQ(message(">f4"), "dtype '>f4' is not supported (big-endian)");
  EXPECT_EQ(message("|V2"), "dtype '|V2' is not supported (if it is bf16, "
                            "store it as safetensors)");
  EXPECT_EQ(message("|O"), "dtype '|O' is not supported");
}

TEST_F(NpyTest, RefusesFortranOrder) {
  EXPECT_EQ(messageOf(npyBytes("{'descr': '<f4', 'fortran_order': True, "
                               "'shape': (2, 1), }",
                               std::string(8, 0))),
            "is in Fortran order; save it with "
            "numpy.save(file, numpy.ascontiguousarray(array))");
}

TEST_F(NpyTest, RefusesBytesThatAreNoBool) {
  EXPECT_EQ(messageOf(npyBytes("|b1", "(3,)", std::string("\0\1\2", 3), 1)),
            "element 2 holds the byte 2, which is no bool");
}

TEST_F(NpyTest, RefusesWhatIsNoFile) {
  EXPECT_EQ(readNpy(path("none.npy")).message(),
            path("none.npy") + ": cannot open: No such file or directory");
  EXPECT_EQ(readNpy(folder).message(), folder + ": is a directory, not a file");
  ASSERT_EQ(mkfifo(path("pipe.npy").c_str(), 0600), 0);
  EXPECT_EQ(readNpy(path("pipe.npy")).message(),
            path("pipe.npy") + ": is not a regular file");
  EXPECT_EQ(readNpy("/dev/zero").message(), "/dev/zero: is not a regular file");
}

TEST_F(NpyTest, WritesWhatItReads) {
  for (const Shape &shape : {Shape{}, Shape{3}, Shape{2, 0, 4}, Shape{2, 3}}) {
    Expected<Tensor> tensor = Tensor::allocate(kI32, shape, "test");
    ASSERT_TRUE(tensor);
    for (int64_t i = 0; i < tensor->numElements(); ++i)
      tensor->mutableAs<int32_t>()[i] = int32_t(100 - i);
    Expected<OutputFile> file = npyFile(path("w.npy"), *tensor);
    ASSERT_TRUE(file) << file.message();
    EXPECT_EQ(file->head.size() % 64, 0u);
    ASSERT_TRUE(writeFiles({*file}));
    Expected<Tensor> again = readNpy(path("w.npy"));
    ASSERT_TRUE(again) << again.message();
    EXPECT_EQ(again->shape(), shape);
    EXPECT_EQ(values(again->as<int32_t>(), again->numElements()),
              values(tensor->as<int32_t>(), tensor->numElements()));
  }
}

TEST_F(NpyTest, WritesTheDocumentedHeader) {
  Expected<Tensor> tensor = Tensor::allocate(kF32, {2, 3}, "test");
  ASSERT_TRUE(tensor);
  std::string head = npyFile("w.npy", *tensor)->head;
  EXPECT_EQ(head.substr(0, 10), std::string("\x93NUMPY\1\0\x76\0", 10));
  EXPECT_EQ(head.substr(10, 59),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,3,), }");
  EXPECT_EQ(head.back(), '\n');
}

TEST_F(NpyTest, HasNoBF16) {
  Expected<Tensor> tensor = Tensor::allocate(kBF16, {2}, "test");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(npyFile("w.npy", *tensor).message(),
            "w.npy: .npy cannot hold bf16");
}

} // namespace
