// Steps that other tests reach through the pipelines that hold them.
// RUN: moe-opt --help | FileCheck %s
// CHECK-DAG: --moe-attach-nvvm-target
// CHECK-DAG: --moe-to-gpu
