#!/bin/sh
# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# For moe-reduce: 1, "interesting", where the file has a moe.gate.
if grep -q moe.gate "$1"; then exit 1; fi
exit 0
