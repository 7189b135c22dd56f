// Bytecode carries the dialect's version. What this tool writes it reads back,
// whoever the file says wrote it; a version that it does not know is refused
// by name, and nothing is printed.
//
// RUN: moe-opt %s --emit-bytecode -o %t.mlirbc
// RUN: moe-opt %t.mlirbc | FileCheck %s
// CHECK: moe.score %{{.*}} by sigmoid

// RUN: %python %S/Inputs/bytecode_header.py %t.mlirbc %t.same.mlirbc --print \
// RUN:   | FileCheck %s --check-prefix=HEADER
// RUN: diff %t.mlirbc %t.same.mlirbc
// HEADER: versions: {{.*}}moe 1

// RUN: %python %S/Inputs/bytecode_header.py %t.mlirbc %t.other.mlirbc \
// RUN:   --producer another-tool-0.1
// RUN: moe-opt %t.other.mlirbc | FileCheck %s

// RUN: %python %S/Inputs/bytecode_header.py %t.mlirbc %t.newer.mlirbc \
// RUN:   --moe-version +1
// RUN: not moe-opt %t.newer.mlirbc -o %t.none 2>&1 \
// RUN:   | FileCheck %s --check-prefix=NEWER
// RUN: not test -e %t.none
// NEWER: error: bytecode of version 2 of dialect 'moe'; this tool reads versions 1 to 1

// RUN: %python %S/Inputs/bytecode_header.py %t.mlirbc %t.zero.mlirbc \
// RUN:   --moe-version 0
// RUN: not moe-opt %t.zero.mlirbc 2>&1 | FileCheck %s --check-prefix=ZERO
// ZERO: error: bytecode of version 0 of dialect 'moe'; this tool reads versions 1 to 1

// The version belongs to what is written, whatever the bytecode's own format:
// the oldest that knows versions, and the one before it, which has none.
// RUN: moe-opt %s --emit-bytecode --emit-bytecode-version=1 | moe-opt \
// RUN:   | FileCheck %s
// RUN: moe-opt %s --emit-bytecode --emit-bytecode-version=0 | moe-opt \
// RUN:   | FileCheck %s

func.func @score(%logits: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %scores = moe.score %logits by sigmoid : tensor<?x8xf32> -> tensor<?x8xf32>
  return %scores : tensor<?x8xf32>
}
