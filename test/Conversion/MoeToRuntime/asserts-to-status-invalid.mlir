// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-asserts-to-status

func.func @in_a_loop(%a: i1, %n: index)
    attributes {moe.entry, moe.num_inputs = 2 : i64} {
  scf.forall (%i) in (%n) {
    // expected-error @below {{stands in a loop or branch, which an entry cannot leave with an error}}
    cf.assert %a, "too late"
  }
  return
}

// -----

// expected-error @below {{is no prepared entry: it returns values}}
func.func @not_prepared(%x: memref<4xf32>) -> memref<4xf32>
    attributes {moe.entry} {
  return %x : memref<4xf32>
}
