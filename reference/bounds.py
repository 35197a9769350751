"""The expected gradients of a case with a bound for every element, which is all that a comparison needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.network import Network
from gradconform.reference.affine import AffineBounding, without_terms
from gradconform.reference.backpropagation import backpropagate
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounding import Bounding, Shares, Site
from gradconform.reference.precision import precision

LONG = np.finfo(np.longdouble).nmant >= 63
"""Whether this machine has a type of at least 64 significant bits beside float64's 53."""

LONG_PRODUCTS = 100_000
"""Above so many products in the forward pass, the longer type, which no BLAS serves, takes too long."""


@dataclass(frozen=True, eq=False)
class Expected:
    """The exact gradients of a case with their bounds, and where pre-activations lie at a kink."""

    gradients: Gradients[Bounded]
    sites: Sequence[Site]

    @property
    def kinks(self) -> int:
        """How many pre-activations lay so close to a kink that either one-sided derivative is right."""
        return sum(int(np.count_nonzero(site.near)) for site in self.sites)


def expected(
    network: Network,
    parameters: Parameters,
    batch: Batch,
    *,
    arithmetic: str = "any",
    shown: Gradients[Array] | None = None,
    shares: Sequence[Shares | float] | None = None,
    affine: bool = False,
) -> Expected:
    """Return for every loss, gradient, delta and output its exact value and the bound that a computation must keep.

    The model is that of the dtype of `batch.inputs` in `arithmetic` (`gradconform.reference.precision`). The values
    are carried in a longer type, where there is one and the network is small enough for it; else in float64, and the
    bound allows for that computation's own error.

    Without `shown` the bound is *global*: from the inputs on. With the outputs and deltas that an implementation
    computed it is *local*: every step is held against the exact step on the implementation's own values, so that no
    earlier error propagates. `shares`: the derivatives taken at kinks, for each site in turn, 0 for the left-sided and
    1 for the right-sided one; without them it is anything between the two.

    `affine`: errors keep their signs as far as the sums over the samples (`gradconform.reference.affine`), which makes
    the global bound of wide and deep networks much tighter at many times the cost. Fewer pre-activations then lie at a
    kink, and `shares` are those of such sites.

    All arrays may have one more axis before the others, of cases that are computed together.

    Raises `Unsupported` for a dtype without a model and for a layer or loss without a rule.
    """
    m, carrier = precision(batch.inputs.dtype, arithmetic), carrier_for(network, batch)
    bounding = AffineBounding(m, carrier, shares) if affine else Bounding(m, carrier, shares)
    gradients = backpropagate(bounding, network, parameters, batch, shown=shown)
    return Expected(without_terms(gradients) if affine else gradients, bounding.sites)


def carrier_for(network: Network, batch: Batch) -> type[np.floating[Any]]:
    """Return the type in which the exact values are computed."""
    if batch.inputs.dtype != np.float64 or not LONG:
        return np.float64
    products = math.prod(batch.inputs.shape[:-1]) * sum(math.prod(shape) for shape in network.parameters().values())
    return np.longdouble if products <= LONG_PRODUCTS else np.float64


def allowance(bound: Bounded) -> float:
    """Return the factor by which an honest difference may exceed the bound: the carrier's own error.

    An error bound of u_carrier / u times B for the value itself, and 1e-6 for evaluating B in float64.
    """
    carrier_u = float(np.finfo(bound.value.dtype).eps) / 2
    return 1 + 1e-6 + carrier_u / bound.m.u
