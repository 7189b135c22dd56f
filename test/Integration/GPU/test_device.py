# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The same kernels on an NVIDIA GPU, where there is one: skipped elsewhere."""

from __future__ import annotations

import ctypes

import pytest
import test_emulated_routers as routers
import test_tensor_cores as products


def has_device() -> bool:
    """Whether the driver answers and has a GPU."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return (
            driver.cuInit(0) == 0
            and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
            and count.value > 0
        )
    except (OSError, AttributeError):
        return False


pytestmark = [
    pytest.mark.skipif(not has_device(), reason="no NVIDIA GPU"),
    pytest.mark.filterwarnings("ignore:.*not fused with a gate"),
]


@pytest.mark.parametrize("name", routers.NAMES)
def test_router(name):
    arrays = routers.draw_arrays(name, False, sequences=2)
    found, wanted = (
        routers.run(name, target, arrays) for target in ("cuda", "cpu")
    )
    routers.assert_near(found, wanted)


@pytest.mark.parametrize("name", products.FORMS)
def test_product(name):
    layer = products.FORMS[name]
    values = products.draw(layer)
    found, wanted = (
        products.run(layer, values, target) for target in ("cuda", "oracle")
    )
    for own, other in zip(found, wanted):
        products.assert_near(own, other, products.unit_of(layer))
