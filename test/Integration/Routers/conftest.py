# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The references' folder is on the path before any test is read."""

import compiled  # noqa: F401
import numpy as np

# References work on NaN and infinities on purpose.
np.seterr(all="ignore")


def pytest_configure(config):
    """Some have no gate to be fused with, some read other tokens."""
    config.addinivalue_line(
        "filterwarnings", "ignore:.*not fused with a gate"
    )
