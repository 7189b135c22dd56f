# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A compiled layer inside PyTorch's autograd; skipped without PyTorch."""

import moe_mlir
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from moe_mlir.autograd import apply  # noqa: E402

TOKENS, HIDDEN, WIDTH, EXPERTS = 7, 6, 5, 4

SOURCE = """
func.func @layer(%x: tensor<?x6xTYPE> {moe.name = "x"},
                 %router: tensor<4x6xTYPE> {moe.name = "router"},
                 %gate_up: tensor<4x10x6xTYPE> {moe.name = "gate_up"},
                 %down: tensor<4x6x5xTYPE> {moe.name = "down"})
    -> (tensor<?x6xTYPE> {moe.name = "y"}, tensor<?x2xi32> {moe.name = "ids"})
    attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x6xTYPE>, tensor<4x6xTYPE>) -> tensor<?x4xf64>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x4xf64> -> tensor<?x2xi32>, tensor<?x2xf64>
  %rows, %offsets = moe.dispatch %x, %ids experts 4
      : (tensor<?x6xTYPE>, tensor<?x2xi32>)
      -> (tensor<?x6xTYPE>, tensor<5xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<5xi32>)
      up(%gate_up : tensor<4x10x6xTYPE>) down(%down : tensor<4x6x5xTYPE>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x6xTYPE> -> tensor<?x6xTYPE>
  %y = moe.combine %h, %ids experts 4 weights(%weights : tensor<?x2xf64>)
      : (tensor<?x6xTYPE>, tensor<?x2xi32>) -> tensor<?x6xTYPE>
  return %y, %ids : tensor<?x6xTYPE>, tensor<?x2xi32>
}
"""


def make_tensors(dtype):
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "x": (TOKENS, HIDDEN),
        "router": (EXPERTS, HIDDEN),
        "gate_up": (EXPERTS, 2 * WIDTH, HIDDEN),
        "down": (EXPERTS, HIDDEN, WIDTH),
    }
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        .to(dtype)
        .requires_grad_()
        for name, shape in shapes.items()
    }


def eager(x, router, gate_up, down):
    """The same layer in PyTorch's own operations."""
    scores = torch.softmax(x @ router.T, dim=1)
    weights, ids = scores.topk(2, dim=1)
    gate, up = torch.einsum("eih,tskh->tskei", gate_up, x[:, None, None])[
        :, 0, 0
    ].chunk(2, dim=-1)
    hidden = torch.nn.functional.silu(gate) * up
    rows = torch.einsum("ehi,tei->teh", down, hidden)
    chosen = rows.gather(1, ids[..., None].expand(-1, -1, rows.shape[-1]))
    return (weights[..., None] * chosen).sum(1), ids


def test_gradients_are_those_of_eager():
    layer = moe_mlir.compile_gradients(SOURCE.replace("TYPE", "f64"))
    own, other = make_tensors(torch.float64), make_tensors(torch.float64)
    results = apply(layer, **own)
    y, ids = eager(**other)
    assert torch.equal(results["ids"].long(), ids)
    torch.testing.assert_close(results["y"], y)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    (results["y"] * weight).sum().backward()
    (y * weight).sum().backward()
    for name in own:
        torch.testing.assert_close(own[name].grad, other[name].grad)


def test_gradcheck():
    layer = moe_mlir.compile_gradients(SOURCE.replace("TYPE", "f64"))
    tensors = make_tensors(torch.float64)
    names = tuple(tensors)

    def call(*values):
        return apply(layer, **dict(zip(names, values, strict=True)))["y"]

    assert torch.autograd.gradcheck(call, tuple(tensors.values()))


def test_bfloat16():
    layer = moe_mlir.compile_gradients(SOURCE.replace("TYPE", "bf16"))
    tensors = make_tensors(torch.bfloat16)
    results = apply(layer, **tensors)
    assert results["y"].dtype == torch.bfloat16
    results["y"].float().sum().backward()
    assert all(t.grad.dtype == torch.bfloat16 for t in tensors.values())


def test_some_inputs_alone():
    layer = moe_mlir.compile_gradients(
        SOURCE.replace("TYPE", "f64"), wrt=["router"]
    )
    tensors = make_tensors(torch.float64)
    apply(layer, **tensors)["y"].sum().backward()
    assert tensors["router"].grad is not None
    assert tensors["down"].grad is None
