# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of token routers in float64: weight cotangents to logits.

The cotangents c [T, slots] belong to the weights [T, slots] of a routing that
is given by its ids: for an expert output f_j they are <dL/dy, f_j(x)>. ids
are never differentiated and never drawn again. An empty slot (id -1) and a
row without any full slot contribute nothing; a row with a NaN or a +inf has a
NaN gradient.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import routing
import subsets
from noisy_routers import MixerRouted, NoisyRouted, TopTwo
from token_routers import Routed, SampledRouted, softmax


def full_slots(ids: np.ndarray) -> list[int]:
    """The slots of one token that name an expert."""
    return [slot for slot, expert in enumerate(ids) if expert >= 0]


def softmax_backward(probs: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    """p * (c - <p, c>) of one row."""
    return probs * (cotangent - np.dot(probs, cotangent))


def scatter(
    ids: np.ndarray, cotangents: np.ndarray, experts: int
) -> np.ndarray:
    """Cotangents of one token's slots, added up by expert, [E]."""
    out = np.zeros(experts)
    for slot in full_slots(ids):
        out[ids[slot]] += cotangents[slot]
    return out


@dataclasses.dataclass
class TwoPaths:
    """A gradient [T, E] that is the sum of two."""

    softmax: np.ndarray
    marginal: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Their sum."""
        return self.softmax + self.marginal


def probmoe_training(
    logits: np.ndarray,
    ids: np.ndarray,
    cotangents: np.ndarray,
    kmin: int,
    kmax: int,
    detached: bool = False,
) -> TwoPaths:
    """The straight-through gradient of ProbMoE over the drawn set S.

    Weights are g * pi with g = stopgrad(z - m) + m, so

      dL/dr_i = sum_{j in S} c_j pi_j (delta_ij - pi_i)      softmax path
              + sum_{j in S} c_j pi_j Cov(z_i, z_j)          marginal path

    Sum over S only, as in the authors' code, since no other expert runs.
    `detached`: the variant of their Qwen blocks, which take log(1 - p) of
    the Bernoulli form (p = sigmoid(r)) as a constant; the Jacobian dm_i/dr_j
    becomes Cov(z_i, z_j) (1 - p_j), no longer symmetric.
    """
    experts = logits.shape[1]
    first, second = np.zeros(logits.shape), np.zeros(logits.shape)
    probs = softmax(logits)
    for token, row in enumerate(logits):
        if not full_slots(ids[token]):
            continue
        c = scatter(ids[token], cotangents[token], experts)
        first[token] = softmax_backward(probs[token], c)
        second[token] = subsets.covariance_product(
            row, c * probs[token], kmin, kmax
        )
        if detached:
            second[token] *= [1.0 - routing.sigmoid(r) for r in row]
    return TwoPaths(first, second)


def kept_softmax(
    logits: np.ndarray,
    ids: np.ndarray,
    cotangents: np.ndarray,
    normalize: bool = False,
) -> np.ndarray:
    """Gradient [T, E] of softmax over all experts, read at the ids.

    With `normalize` the read weights were divided by their sum. ProbMoE's
    inference, and plain top-k.
    """
    out = np.zeros(logits.shape)
    probs = softmax(logits)
    for token in range(logits.shape[0]):
        slots = full_slots(ids[token])
        if not slots:
            continue
        c = np.array(cotangents[token], dtype=np.float64)
        if normalize:
            picked = probs[token, ids[token, slots]]
            total = np.sum(picked)
            mean = np.dot(c[slots], picked) / total
            c[slots] = (c[slots] - mean) / total
        dense = scatter(ids[token], c, logits.shape[1])
        out[token] = softmax_backward(probs[token], dense)
    return out


def chosen_softmax(
    logits: np.ndarray, ids: np.ndarray, cotangents: np.ndarray
) -> np.ndarray:
    """Gradient [T, E] of a softmax over the logits at the ids only."""
    out = np.zeros(logits.shape)
    for token in range(logits.shape[0]):
        slots = full_slots(ids[token])
        if not slots:
            continue
        chosen = ids[token, slots]
        weights = softmax(logits[token, chosen])
        out[token, chosen] = softmax_backward(
            weights, cotangents[token, slots]
        )
    return out


def moesart_training(
    logits: np.ndarray,
    routed: SampledRouted,
    cotangents: np.ndarray,
    strategy: str,
    temperature: float = 1.0,
) -> np.ndarray:
    """Gradient [T, E] of MOESART's training weights, draws held fixed.

    With o = logits / temperature the adjusted logits on the support are, up
    to constants, o_j for the kept slot (all slots under `large`) and
    logsumexp(o) for the others, whose derivative is g. Under `zero` they all
    shift together: no gradient. Inference weights have none either.
    Without replacement, kept j, this is
      dL/do_t = (c_j - mean of the other c) / (1+g_j)^2 g_j (delta_jt - g_t).
    """
    out = np.zeros(logits.shape)
    for token in range(logits.shape[0]):
        slots = full_slots(routed.ids[token])
        if not slots or strategy == "zero":
            continue
        adjusted = softmax_backward(
            routed.weights[token, slots], cotangents[token, slots]
        )
        for slot, slope in zip(slots, adjusted):
            if strategy == "large" or slot == routed.kept[token]:
                out[token, routed.ids[token, slot]] += slope
            else:
                out[token] += slope * routed.probs[token]
        if subsets.unusable(logits[token]):
            out[token] = math.nan
    return out / temperature


# The routers of noisy_routers.py.


def normal_density(value: float) -> float:
    """The standard normal density."""
    return math.exp(-0.5 * value * value) / math.sqrt(2.0 * math.pi)


@dataclasses.dataclass
class NoiseGradient:
    """Gradients [T, E] of a router that perturbs its logits."""

    clean: np.ndarray
    noise_logits: np.ndarray


def load_backward(
    clean: np.ndarray,
    noisy: np.ndarray,
    sigma: np.ndarray,
    k: int,
    cotangent: np.ndarray,
    single: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of sum_te cotangent_e Phi((clean - threshold) / sigma).

    [E] cotangents to those of clean, noisy (thresholds are noisy values and
    carry gradient; the rule of this project) and sigma, [T, E] each.
    single: V-MoE's one threshold, the k-th; else Shazeer's two. Rows have to
    be finite.
    """
    d_clean, d_noisy = np.zeros(clean.shape), np.zeros(clean.shape)
    d_sigma = np.zeros(clean.shape)
    for token, row in enumerate(noisy):
        order = np.argsort(-row, kind="stable")
        for expert, value in enumerate(row):
            at = int(order[k - 1])
            if not single and value > row[order[k]]:
                at = int(order[k])
            width = sigma[token, expert]
            score = (clean[token, expert] - row[at]) / width
            slope = cotangent[expert] * normal_density(score) / width
            d_clean[token, expert] += slope
            d_noisy[token, at] -= slope
            d_sigma[token, expert] -= slope * score
    return d_clean, d_noisy, d_sigma


def noisy_top_k(
    clean: np.ndarray,
    noise_logits: np.ndarray,
    normals: np.ndarray,
    routed: NoisyRouted,
    k: int,
    cotangents: np.ndarray,
    load_cotangent: np.ndarray,
) -> NoiseGradient:
    """Noisy top-k in training, for cotangents of weights and of load [E].

    Through the softmax over the chosen noisy values and through the load;
    noisy = clean + normals * sigma, sigma = softplus(noise logits) + 1e-2.
    With k = E the load has no gradient.
    """
    d_clean = np.zeros(clean.shape)
    d_sigma = np.zeros(clean.shape)
    d_noisy = chosen_softmax(routed.noisy, routed.ids, cotangents)
    if k < clean.shape[1]:
        d_clean, through, d_sigma = load_backward(
            clean, routed.noisy, routed.sigma, k, load_cotangent, False
        )
        d_noisy = d_noisy + through
    slope = np.vectorize(routing.sigmoid, otypes=[float])(noise_logits)
    return NoiseGradient(
        d_clean + d_noisy, (d_sigma + d_noisy * normals) * slope
    )


def vmoe(
    logits: np.ndarray,
    routed: NoisyRouted,
    k: int,
    cotangents: np.ndarray,
    load_cotangent: np.ndarray,
) -> np.ndarray:
    """Gradient [T, E] of V-MoE in training, weights and load (a mean)."""
    out = kept_softmax(routed.noisy, routed.ids, cotangents)
    share = load_cotangent / logits.shape[0]
    d_clean, d_noisy, _ = load_backward(
        logits, routed.noisy, routed.sigma, k, share, True
    )
    return out + d_clean + d_noisy


def gshard_top2(
    routed: TopTwo,
    cotangents: np.ndarray,
    normalize: str = "before",
    eps: float = 1e-9,
) -> np.ndarray:
    """Gradient [T, E] of GShard's weights, choices and drops held fixed.

    "before": g = p / (p1 + p2 + eps) over both choices, also where one was
    dropped. "after": p over the sum of what was kept.
    """
    probs = routed.probs
    out = np.zeros(probs.shape)
    for token in range(probs.shape[0]):
        kept = full_slots(routed.ids[token])
        if not kept:
            continue
        below = [s for s in (0, 1) if routed.choices[token, s] >= 0]
        if normalize == "after":
            below = kept
        total = sum(probs[token, routed.choices[token, s]] for s in below)
        total = total + eps if normalize == "before" else max(total, eps)
        dense = np.zeros(probs.shape[1])
        for slot in kept:
            expert = routed.choices[token, slot]
            dense[expert] += cotangents[token, slot] / total
            share = cotangents[token, slot] * probs[token, expert]
            for other in below:
                at = routed.choices[token, other]
                dense[at] -= share / total**2
        out[token] = softmax_backward(probs[token], dense)
    return out


def sparsemixer(routed: MixerRouted, cotangents: np.ndarray) -> np.ndarray:
    """Gradient [T, E] of SparseMixer-v2 in training.

    sum over both rounds of c w (onehot(choice) - p): the factor h of the
    forward pass is ignored (Heun's third-order rule); masks have no gradient.
    """
    out = np.zeros(routed.probs.shape)
    for token in range(out.shape[0]):
        for turn in full_slots(routed.ids[token]):
            step = -routed.round_probs[token, turn]
            step[routed.ids[token, turn]] += 1.0
            out[token] += (
                cotangents[token, turn]
                * routed.multipliers[token, turn]
                * step
            )
    return out


def remoe(routed: Routed, cotangents: np.ndarray) -> np.ndarray:
    """Gradient [T, E] of ReLU routing: the cotangent where it is open."""
    out = np.zeros(routed.probs.shape)
    for token in range(out.shape[0]):
        for slot in full_slots(routed.ids[token]):
            out[token, routed.ids[token, slot]] += cotangents[token, slot]
    return out
