// One message, exit code 1, and no file left behind.
// RUN: rm -f %t.mlir

// RUN: not moe-compile --example mixtrall -o %t.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=NAME
// NAME: {{^}}moe-compile: error: there is no example 'mixtrall'; similar ones: mixtral, mistral4{{$}}
// NAME-NOT: {{.}}

// RUN: not moe-compile --example zzz -o %t.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=LIST
// LIST: error: there is no example 'zzz'; --list-examples shows all

// RUN: not moe-compile --example mixtral --set topk=2 -o %t.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=KEY
// KEY: error: there is no key 'topk'; similar ones: top_k

// RUN: not moe-compile --example mixtral --set score=relu -o %t.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=VALUE
// VALUE: error: 'score' takes softmax, sigmoid, sqrt_softplus or none, not 'relu'

// RUN: not moe-compile --example mixtral --set top_k -o %t.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=FORM
// FORM: error: 'top_k' is not of the form key=value

// RUN: not moe-compile --example mixtral --set top_k=9 -o %t.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=COMBINATION
// COMBINATION: error: top_k: chooses 9 of 8 experts

// RUN: not moe-compile --set top_k=1 2>&1 | FileCheck %s --check-prefix=ALONE
// ALONE: error: --set needs --example

// RUN: not moe-compile --example mixtral -o %t.folder/none/x.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=FOLDER
// FOLDER: moe-compile: error: {{.*}}none/x.mlir: cannot write

// RUN: not ls %t.mlir
