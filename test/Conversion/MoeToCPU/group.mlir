// RUN: moe-opt %s --split-input-file --convert-moe-to-cpu | FileCheck %s

// Counting sort: clear, count, sum up, place, shift back.
// CHECK-LABEL: func.func @by_token(
// CHECK-SAME:    %[[IDS:[a-z0-9]+]]: memref<?x2xi32>, %[[W:[a-z0-9]+]]: memref<?x2xf32>, %[[O:[a-z0-9]+]]: memref<9xi32>, %[[T:[a-z0-9]+]]: memref<?xi32>, %[[F:[a-z0-9]+]]: memref<?xi32>, %[[S:[a-z0-9]+]]: memref<?xi32>, %[[OW:[a-z0-9]+]]: memref<?xf32>
// CHECK-NOT:     memref.alloc
// CHECK-NOT:     moe.group
// CHECK:         scf.for
// CHECK:           memref.store %{{.+}}, %[[O]]
// An id outside the experts is no assignment; a negative one is large as
// unsigned.
// CHECK:         %[[ID:.+]] = memref.load %[[IDS]]
// CHECK:         %[[IN:.+]] = arith.cmpi ult, %[[ID]], %{{.+}} : i32
// CHECK:         scf.if %[[IN]]
// CHECK:           memref.store %{{.+}}, %[[O]]
// CHECK:         memref.store %{{.+}}, %[[F]]
// CHECK:         scf.if
// CHECK:           memref.store %{{.+}}, %[[T]]
// CHECK:           memref.store %{{.+}}, %[[S]]
// CHECK:           %[[WEIGHT:.+]] = memref.load %[[W]]
// CHECK:           memref.store %[[WEIGHT]], %[[OW]]
// CHECK-NOT:     scf.forall
// CHECK:         return
func.func @by_token(%ids: memref<?x2xi32>, %w: memref<?x2xf32>,
                    %offsets: memref<9xi32>, %token: memref<?xi32>,
                    %first: memref<?xi32>, %slot: memref<?xi32>,
                    %weight: memref<?xf32>) {
  moe.group ins(%ids, %w : memref<?x2xi32>, memref<?x2xf32>)
      outs(%offsets, %token, %first, %slot, %weight
           : memref<9xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>,
             memref<?xf32>) chosen_by <token>
  return
}

// -----

// Where experts chose, the tokens are sorted too: the limit of an id is the
// number of tokens, one less than the entries of `first`.
// CHECK-LABEL: func.func @by_expert(
// CHECK-SAME:    %[[IDS:[a-z0-9]+]]: memref<4x?xi32>, %{{[a-z0-9]+}}: memref<5xi32>, %{{[a-z0-9]+}}: memref<?xi32>, %[[F:[a-z0-9]+]]: memref<?xi32>
// CHECK-NOT:     moe.group
// CHECK:         %[[N:.+]] = memref.dim %[[F]]
// CHECK:         %[[T:.+]] = arith.subi %[[N]]
// CHECK:         %[[LIMIT:.+]] = arith.index_cast %[[T]] : index to i32
// CHECK:         %[[ID:.+]] = memref.load %[[IDS]]
// CHECK:         arith.cmpi ult, %[[ID]], %[[LIMIT]] : i32
// CHECK-NOT:     f32
// CHECK:         return
func.func @by_expert(%ids: memref<4x?xi32>, %offsets: memref<5xi32>,
                     %token: memref<?xi32>, %first: memref<?xi32>,
                     %slot: memref<?xi32>) {
  moe.group ins(%ids : memref<4x?xi32>)
      outs(%offsets, %token, %first, %slot
           : memref<5xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>)
      chosen_by <expert>
  return
}

// -----

// CHECK-LABEL: func.func @no_tokens(
// CHECK-NOT:     moe.group
// CHECK:         return
func.func @no_tokens(%ids: memref<0x2xi32>, %w: memref<0x2xbf16>,
                     %offsets: memref<9xi32>, %token: memref<0xi32>,
                     %first: memref<1xi32>, %slot: memref<0xi32>,
                     %weight: memref<0xbf16>) {
  moe.group ins(%ids, %w : memref<0x2xi32>, memref<0x2xbf16>)
      outs(%offsets, %token, %first, %slot, %weight
           : memref<9xi32>, memref<0xi32>, memref<1xi32>, memref<0xi32>,
             memref<0xbf16>) chosen_by <token>
  return
}
