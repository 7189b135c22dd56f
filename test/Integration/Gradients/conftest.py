# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The helpers' folder is on the path before any test is read."""

import differences  # noqa: F401


def pytest_configure(config):
    """Most of these functions have no gate to be fused with."""
    config.addinivalue_line(
        "filterwarnings", "ignore:.*not fused with a gate"
    )
