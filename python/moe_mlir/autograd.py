# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiled layers in PyTorch's autograd, where PyTorch is installed.

    from moe_mlir.autograd import apply

    layer = moe_mlir.compile_gradients("layer.mlir")
    y = apply(layer, x=x, router=router, gate_up=gate_up, down=down)["y"]
    y.sum().backward()
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .gradients import GradientLayer


def apply(
    layer: GradientLayer, **tensors: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Runs a layer's forward on tensors: its results by name.

    tensors: the layer's inputs by name, on the CPU, of their element types and
        contiguous; they are read in place. Gradients flow to those that the
        layer was compiled to differentiate by.

    A backward of the backward is an error. Raises what `GradientLayer.forward`
    raises.
    """
    names = tuple(tensors)
    results = _Function.apply(layer, names, *tensors.values())
    return dict(zip((a.name for a in layer.outputs), results, strict=True))


class _Function(torch.autograd.Function):
    """One call; what the forward saved lives as long as the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: GradientLayer,
        names: tuple[str, ...],
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        arrays = dict(zip(names, map(_to_array, tensors), strict=True))
        results, ctx.saved = layer.forward(**arrays)
        # Checks that nobody writes to an input before the backward.
        ctx.save_for_backward(*tensors)
        ctx.layer, ctx.names = layer, names
        outputs = tuple(map(_to_tensor, results.values()))
        ctx.mark_non_differentiable(
            *(out for out in outputs if not out.is_floating_point())
        )
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple:
        _ = ctx.saved_tensors
        layer = ctx.layer
        wanted = {a.name for a in layer.cotangents}
        given = {
            f"d_{result.name}": _to_array(cotangent.contiguous())
            for result, cotangent in zip(
                layer.outputs, cotangents, strict=True
            )
            if f"d_{result.name}" in wanted
        }
        gradients = layer.backward(ctx.saved, **given)
        return (
            None,
            None,
            *(
                _to_tensor(gradients[f"d_{name}"])
                if f"d_{name}" in gradients
                else None
                for name in ctx.names
            ),
        )


def _to_array(tensor: torch.Tensor) -> np.ndarray:
    """A view; NumPy has no bfloat16, but the same bytes."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype.itemsize == 2 and array.dtype != np.float16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
