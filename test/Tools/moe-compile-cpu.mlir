// The processor is the caller's choice, whichever machine compiles.
// REQUIRES: moe-compile, x86
// RUN: moe-compile %S/Inputs/tiny.mlir --mcpu=x86-64 --emit=llvm-ir \
// RUN:   | FileCheck %s --check-prefix=OLD
// OLD: define i32 @moe_tiny(
// OLD: "target-cpu"="x86-64"
// RUN: moe-compile %S/Inputs/tiny.mlir --mcpu=x86-64 --emit=object -o %t.old.o
// RUN: moe-compile %S/Inputs/tiny.mlir --mcpu=sapphirerapids --emit=object \
// RUN:   -o %t.new.o
// RUN: llvm-objdump -d %t.old.o | FileCheck %s --check-prefix=OBJECT \
// RUN:   --implicit-check-not=%zmm
// OBJECT: moe_tiny>:
// RUN: llvm-objdump -d %t.new.o | FileCheck %s --check-prefix=ZMM
// ZMM: %zmm
