# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""examples/digits train: its task, its backward, its training."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import SMALL, check_slopes, forward_layer, run_quickly

import digits  # noqa: E402, found by way of small_models
import task  # noqa: E402
from common import parts, training  # noqa: E402
from common.layers import GLOBAL, ROUTERS, Sizes, names  # noqa: E402
from common.measures import read  # noqa: E402
from common.model import Batch, Model, initial_weights  # noqa: E402

TINY = Sizes(
    classes=10, width=8, blocks=2, experts=4, inter=3, length=16, batch=3
)


def test_patches():
    image = np.arange(64.0).reshape(1, 64)
    patches = task.to_patches(image)
    assert patches.shape == (1, 16, 4)
    assert patches[0, 0].tolist() == [0, 1, 8, 9]
    assert patches[0, 1].tolist() == [2, 3, 10, 11]
    assert patches[0, 15].tolist() == [54, 55, 62, 63]


def test_batches_depend_on_seed_and_step():
    images = task.Images()
    first, again, other = (images.batch(1, step) for step in (5, 5, 6))
    assert first.inputs.shape == (32, 16, 4)
    assert first.inputs.dtype == np.float32
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert (first.inputs != other.inputs).any()


def test_held_out_images_are_not_trained_on():
    images = task.Images()
    held_out = images.held_out(None)
    assert held_out.inputs.shape == (600, 16, 4)
    seen = {row.tobytes() for row in task.to_patches(images.train.pixels)}
    shared = sum(row.tobytes() in seen for row in held_out.inputs)
    assert shared == 0


def test_linear_classifier_is_no_straw_man():
    images = task.Images()
    held_out = images.held_out(None)
    loss = task.linear_entropy(images.train, held_out)
    assert 0.05 < loss < 0.25
    # A classifier that knows nothing has the entropy of ten classes.
    empty = digits.Split(np.zeros((10, 64)), np.arange(10))
    assert task.linear_entropy(empty, held_out) == pytest.approx(np.log(10))


@pytest.mark.parametrize("name", ["top_k", *names(GLOBAL)])
def test_backward_is_the_slope(name):
    images = task.Images(TINY)
    model = training.make_model(images, ROUTERS[name], "float64")
    w = initial_weights(images, ROUTERS[name], 1, np.float64)
    rng = np.random.default_rng(3)
    batch = Batch(
        rng.random((TINY.batch, 16, 4)), rng.integers(0, 10, TINY.batch)
    )

    def loss():
        output = model.forward(w, batch.inputs, (1, 0))
        nats, _ = parts.cross_entropy(output.logits, batch.targets)
        return nats.mean() + output.aux

    _, _, gradients = model.loss_and_gradients(w, batch, (1, 0))
    check_slopes(w, gradients, loss, rng)


@pytest.mark.parametrize("name", names(GLOBAL))
def test_an_image_is_read_alone(name):
    layer = forward_layer(name, False)
    sizes = Sizes(**{**SMALL.__dict__, "classes": 10})
    images = task.Images(sizes)
    model = Model(images, ROUTERS[name], layer, layer)
    w = initial_weights(images, ROUTERS[name], 1, np.float32)
    batch = images.held_out(5)
    together = model.forward(w, batch.inputs).logits
    for at in range(5):
        alone = model.forward(w, batch.inputs[at : at + 1]).logits
        # NumPy's own products around the layers may sum in another order.
        np.testing.assert_allclose(alone[0], together[at], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", names(GLOBAL))
def test_losses_are_those_of_f64(name):
    images = task.Images(
        Sizes(classes=10, width=16, inter=8, length=16, batch=4)
    )
    model = training.make_model(images, ROUTERS[name], "compiled")
    worst, ties, choices = training.judge(model, 100, seed=1)
    assert worst <= 1e-4
    wanted = {"experts": 100 * 2 * 4 * 8, "slots": 0}
    chooser = model.router.chooser
    assert choices == wanted.get(chooser, 100 * 2 * 4 * 16)
    assert ties <= choices // 1000


def test_noise_is_of_the_pixels():
    images = task.Images(TINY)
    model = training.make_model(images, ROUTERS["top_k"], "float32")
    w = initial_weights(images, ROUTERS["top_k"], 1, np.float32)
    held_out = images.held_out(64)
    noise = images.noise(w, held_out.inputs, 0.5, 0)
    assert noise.dtype == np.float32
    wanted = 0.5 * np.sqrt(np.mean(held_out.inputs**2))
    assert np.std(noise) == pytest.approx(wanted, rel=0.1)
    plain, noisy = (read(model, w, held_out, n).nats for n in (0.0, 0.5))
    assert (plain != noisy).any()


def test_quick_run(tmp_path):
    told = run_quickly("digits", tmp_path, "--routers", "expert_choice", "soft")
    assert "| expert_choice | " in told and "| soft | " in told
    assert "ok   soft: 30 losses differ by" in told
    assert "Soft MoE: and better than experts that choose" in told
