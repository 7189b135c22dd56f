// Each kind of output, by extension and by --emit; standard input and output.
// REQUIRES: moe-compile
// RUN: rm -rf %t && mkdir %t

// RUN: moe-compile %S/Inputs/tiny.mlir -o %t/a.ll
// RUN: FileCheck %s --check-prefix=IR --input-file=%t/a.ll
// RUN: moe-compile - --emit=llvm-ir < %S/Inputs/tiny.mlir \
// RUN:   | FileCheck %s --check-prefix=IR
// IR: @moe_tiny_info = {{.*}}constant
// IR: define {{.*}}i32 @moe_tiny(
// Nothing but the entry's five symbols is seen from outside.
// RUN: grep -E '^(define|@)' %t/a.ll | grep -vE 'internal|private' \
// RUN:   | grep -oE '@[a-z_]+' | sort | FileCheck %s --check-prefix=NAMES
// NAMES:      @moe_tiny
// NAMES-NEXT: @moe_tiny_info
// NAMES-NEXT: @moe_tiny_pack
// NAMES-NEXT: @moe_tiny_pack_info
// NAMES-NEXT: @moe_tiny_workspace
// NAMES-NOT:  @

// RUN: moe-compile %S/Inputs/tiny.mlir -o %t/a.o
// RUN: moe-compile %S/Inputs/tiny.mlir --emit=object -o %t/b.bin
// RUN: cmp %t/a.o %t/b.bin
// RUN: moe-compile %S/Inputs/tiny.mlir --emit=object > %t/c.o
// RUN: cmp %t/a.o %t/c.o
// RUN: llvm-nm --defined-only --extern-only %t/a.o | FileCheck %s --check-prefix=OBJECT
// OBJECT:      T moe_tiny
// OBJECT-NEXT: R moe_tiny_info
// OBJECT-NEXT: T moe_tiny_pack
// OBJECT-NEXT: R moe_tiny_pack_info
// OBJECT-NEXT: T moe_tiny_workspace
// OBJECT-NOT:  {{.}}

// The input's end in .mlir is one of the output as well: IR of the last stage.
// RUN: moe-compile %S/Inputs/tiny.mlir -o %t/a.mlir
// RUN: FileCheck %s --check-prefix=MLIR --input-file=%t/a.mlir
// MLIR: llvm.func @moe_tiny(

// RUN: moe-compile %S/Inputs/tiny.mlir -o %t/a.h
// RUN: moe-compile %S/Inputs/tiny.mlir --emit=llvm-ir -o %t/d.ll --header=%t/d.h
// RUN: sed s/A_H/D_H/ %t/a.h | cmp - %t/d.h

// Options reach the code generator.
// RUN: moe-compile %S/Inputs/tiny.mlir -O0 -o %t/o0.o
// RUN: not cmp %t/a.o %t/o0.o
// RUN: moe-compile %S/Inputs/tiny.mlir -O1 -o - --emit=object | llvm-nm - \
// RUN:   | FileCheck %s --check-prefix=SYMBOL
// RUN: moe-compile %S/Inputs/tiny.mlir --target=oracle --emit=object \
// RUN:   | llvm-nm - | FileCheck %s --check-prefix=SYMBOL
// SYMBOL: T moe_tiny{{$}}

// Files that exist are replaced.
// RUN: cp %t/a.h %t/o0.o
// RUN: moe-compile %S/Inputs/tiny.mlir -o %t/o0.o
// RUN: cmp %t/a.o %t/o0.o
