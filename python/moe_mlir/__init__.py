# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiled Mixture-of-Experts layers on NumPy arrays.

    import moe_mlir

    layer = moe_mlir.compile("layer.mlir")
    print(layer)                       # names, types and sizes
    y = layer(x, router_weight=w, gate_up=g, down=d)

    trained = moe_mlir.compile_gradients("layer.mlir", wrt=["x", "gate_up"])
    results, saved = trained.forward(x, router_weight=w, gate_up=g, down=d)
    gradients = trained.backward(saved, d_y=dy)      # d_x and d_gate_up
"""

from ._moe import CompileError
from ._moe import version as _version
from .compiler import CompileWarning, compile
from .gradients import GradientLayer, Saved, compile_gradients
from .layer import Argument, Layer

__version__ = _version()
CompileError.__module__ = __name__

__all__ = [
    "Argument",
    "CompileError",
    "CompileWarning",
    "GradientLayer",
    "Layer",
    "Saved",
    "compile",
    "compile_gradients",
]
