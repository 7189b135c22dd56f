# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The compiled layers: all that knows how moe_mlir is called.

Arrays are f32; `forward` and `backward` are those of reference.py.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import moe_mlir
import numpy as np

from .layer_text import source
from .layers import Router, Sizes

Arrays = dict[str, np.ndarray]


@contextlib.contextmanager
def _expected_warnings() -> Iterator[None]:
    """Scores beside a route that reads logits are a second, small loop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not fused with a gate")
        yield


class ForwardLayer:
    """A compiled layer without gradients, in the form of one with them."""

    def __init__(
        self, router: Router, sizes: Sizes, training: bool, threads: int | None
    ) -> None:
        text = source(router, sizes, training)
        with _expected_warnings():
            self._layer = moe_mlir.compile(text, threads=threads)
        self._names = [output.name for output in self._layer.outputs]
        self._router = router
        self._experts = sizes.experts

    def forward(self, **arrays: np.ndarray) -> tuple[Arrays, Any]:
        """Results by name, and nothing for a backward."""
        out = {}
        if self._router.chooser == "experts" and "ids" in self._names:
            # A call does not tell how many tokens an expert takes.
            taken = self._router.slots * len(arrays["x"]) // self._experts
            out["ids"] = np.empty((self._experts, taken), np.int32)
        results = self._layer(out=out, **arrays)
        if len(self._names) == 1:
            results = (results,)
        return dict(zip(self._names, results)), None


def compile_forward(
    router: Router, sizes: Sizes, training: bool, threads: int | None = None
) -> ForwardLayer:
    """A layer as it is in training or in evaluation, forward alone."""
    return ForwardLayer(router, sizes, training, threads)


def compile_training(
    router: Router, sizes: Sizes, threads: int | None = None
) -> Any:
    """A layer with `forward` and `backward`, for training."""
    with _expected_warnings():
        return moe_mlir.compile_gradients(
            source(router, sizes, training=True),
            wrt=list(router.learned()),
            save="minimal",
            threads=threads,
        )
