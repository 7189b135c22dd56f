// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-verify-stage=stage=llvm

llvm.func @llvm(%a: i64) -> i64 {
  llvm.return %a : i64
}

// -----

// expected-error @below {{is not of the LLVM dialect after stage 'llvm'}}
func.func private @other()

// -----

llvm.func @arith(%a: i64) -> i64 {
  // expected-error @below {{is not of the LLVM dialect after stage 'llvm'}}
  %0 = arith.addi %a, %a : i64
  llvm.return %0 : i64
}
