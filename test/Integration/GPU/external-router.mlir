// The router and the activation of another dialect in a GPU's code: a lane a
// token, with the numbers of the other roads.

// REQUIRES: python, nvptx
// RUN: rm -rf %t && mkdir -p %t
// RUN: %python %S/../CPU/Inputs/external_router.py write %t
// RUN: moe-run %S/../CPU/external-router.mlir --target=gpu-emulator \
// RUN:   --arg=logits=%t/logits.npy --arg=x=%t/x.npy \
// RUN:   --out=ids=%t/ids.npy --out=weights=%t/weights.npy \
// RUN:   --out=y=%t/y.npy
// RUN: %python %S/../CPU/Inputs/external_router.py print %t \
// RUN:   | FileCheck %S/../CPU/external-router.mlir
