// A layer compiled ahead of time, called from C, without compiler or C++.
// REQUIRES: moe-compile, moe-run
// UNSUPPORTED: asan, ubsan, tsan
// RUN: rm -rf %t && mkdir %t
// DEFINE: %{cc} = %moe_cc -std=c99 -pedantic -Wall -Wextra -Werror -I%moe_include -I%t
// DEFINE: %{rt} = %moe_libs/libmoe_rt.a -lpthread -ldl -lm

// RUN: moe-compile %S/Inputs/tiny.mlir -o %t/tiny.so --header=%t/tiny.h
// RUN: %{cc} -DHEADER='"tiny.h"' -DLAYER=tiny %S/Inputs/call_linked.c \
// RUN:   %t/tiny.so -Wl,-rpath,%t %{rt} -Wl,--as-needed -o %t/tiny
// RUN: %t/tiny 2 | FileCheck %s --match-full-lines --check-prefix=TINY
// TINY: y: 165 237 3341 4797
// RUN: %t/tiny 0 | FileCheck %s --match-full-lines --check-prefix=EMPTY
// EMPTY: y:
// RUN: not %t/tiny 4097 2>&1 | FileCheck %s --check-prefix=BOUND
// BOUND: bound: tiny: argument 'x' {{.*}} T <= 4096

// The library knows its name and needs nothing but libc and libm.
// RUN: llvm-readelf -d %t/tiny.so | FileCheck %s --check-prefix=LIBRARY
// LIBRARY: SONAME{{.*}}[tiny.so]
// DEFINE: %{library} =
// DEFINE: %{needed} = llvm-readelf -d %{library} > %t/dynamic && \
// DEFINE:   not grep -qE 'NEEDED.*: .(lib[^cm]|lib[cm][^.])' %t/dynamic && \
// DEFINE:   llvm-nm -D --undefined-only %{library} > %t/undefined && \
// DEFINE:   not grep -qv '@GLIBC' %t/undefined
// REDEFINE: %{library} = %t/tiny.so
// RUN: %{needed}
// RUN: llvm-nm -D --defined-only --format=just-symbols %t/tiny.so | sort \
// RUN:   | FileCheck %s --check-prefix=EXPORTS
// EXPORTS:      moe_tiny
// EXPORTS-NEXT: moe_tiny_info
// EXPORTS-NEXT: moe_tiny_pack
// EXPORTS-NEXT: moe_tiny_pack_info
// EXPORTS-NEXT: moe_tiny_workspace
// EXPORTS-NOT:  {{.}}
// And so does the program.
// RUN: ldd %t/tiny > %t/ldd
// RUN: FileCheck %s --check-prefix=LDD --input-file=%t/ldd
// LDD-NOT: {{LLVM|MLIR|stdc|libc[+][+]|not found}}
// LDD: tiny.so
// LDD-NOT: {{LLVM|MLIR|stdc|libc[+][+]|not found}}

// The object is linked as well as the library, into one program.
// RUN: moe-compile %S/Inputs/tiny.mlir -o %t/tiny.o
// RUN: %{cc} -DHEADER='"tiny.h"' -DLAYER=tiny %S/Inputs/call_linked.c \
// RUN:   %t/tiny.o %{rt} -o %t/static
// RUN: %t/static 2 | FileCheck %s --match-full-lines --check-prefix=TINY

// The example that loads any layer, and moe-run on the library.
// RUN: %{cc} %moe_source/examples/c/call_layer.c %{rt} -o %t/call_layer
// RUN: %t/call_layer %t/tiny.so tiny T=2 | FileCheck %s --check-prefix=EXAMPLE
// EXAMPLE: y[2, 2]:
// RUN: not %t/call_layer %t/tiny.so huge T=2 2>&1 \
// RUN:   | FileCheck %s --check-prefix=ENTRY
// ENTRY: load: {{.*}}huge
// DEFINE: %{iota} = --arg=x=iota --arg=router=iota --arg=up=iota --arg=down=iota
// RUN: moe-run %t/tiny.so --entry=tiny %{iota} --dim=T=300 --out=y=%t/so.npy
// RUN: moe-run %S/Inputs/tiny.mlir %{iota} --dim=T=300 --out=y=%t/jit.npy
// RUN: cmp %t/so.npy %t/jit.npy
// RUN: %t/tiny 300 %t/jit.npy | FileCheck %s --check-prefix=SAME
// SAME: 600 elements are the same

// A layer with all its parts gives moe-run's numbers to the bit.
// RUN: moe-compile --example layer --set experts=6 --set hidden=32 \
// RUN:   --set inter=24 --set shared_inter=16 --set softcap=30 -o %t/layer.mlir
// RUN: moe-compile %t/layer.mlir -o %t/layer.so --header=%t/layer.h
// RUN: %{cc} -DHEADER='"layer.h"' -DLAYER=layer %S/Inputs/call_linked.c \
// RUN:   %t/layer.so -Wl,-rpath,%t %{rt} -o %t/layer
// RUN: moe-run %t/layer.mlir --dim=T=77 --arg=x=iota --arg=router_weight=iota \
// RUN:   --arg=gate_up=iota --arg=down=iota --arg=shared_gate_up=iota \
// RUN:   --arg=shared_down=iota --out=y=%t/y.npy
// RUN: %t/layer 77 %t/y.npy | FileCheck %s --check-prefix=LAYER
// LAYER: 2464 elements are the same
// REDEFINE: %{library} = %t/layer.so
// RUN: %{needed}
