# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What examples that train share: layers, a small transformer, their judge."""

import os

# One thread for the products of NumPy: sums are split the same way on every
# run. The compiled layers have threads of their own, and the same sums with
# any number of them.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
