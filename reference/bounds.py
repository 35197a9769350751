"""The expected gradients of a case with a bound for every element, which is all that a comparison needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconform.case import Batch, Gradients, Parameters
from gradconform.network import Network
from gradconform.reference.backpropagation import backpropagate
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounding import Bounding
from gradconform.reference.precision import precision

LONG = np.finfo(np.longdouble).nmant >= 63
"""Whether this machine has a type of at least 64 significant bits beside float64's 53."""

LONG_PRODUCTS = 2_000_000
"""Above so many products per matrix multiplication pass, the longer type, which no BLAS serves, takes too long."""


@dataclass(frozen=True, eq=False)
class Expected:
    """The exact gradients of a case with their bounds; `kinks` counts the pre-activations at a kink."""

    gradients: Gradients[Bounded]
    kinks: int


def expected(network: Network, parameters: Parameters, batch: Batch) -> Expected:
    """Return for every loss, gradient, delta and output its exact value and the bound that a computation must keep.

    The model is that of the dtype of `batch.inputs`. The values are carried in a longer type, where there is one and
    the network is small enough for it; else in float64, and the bound allows for that computation's own error.

    Raises `Unsupported` for a dtype without a model and for a layer or loss without a rule.
    """
    bounding = Bounding(precision(batch.inputs.dtype), carrier_for(network, batch))
    return Expected(backpropagate(bounding, network, parameters, batch), bounding.kinks)


def carrier_for(network: Network, batch: Batch) -> type[np.floating[Any]]:
    """Return the type in which the exact values are computed."""
    products = batch.rows * sum(int(np.prod(shape)) for shape in network.parameters().values())
    if batch.inputs.dtype == np.float64 and LONG and products <= LONG_PRODUCTS:
        return np.longdouble
    return np.float64


def allowance(bound: Bounded) -> float:
    """Return the factor by which an honest difference may exceed the bound: the carrier's own error.

    An error bound of u_carrier / u times B for the value itself, and 1e-6 for evaluating B in float64.
    """
    carrier_u = float(np.finfo(bound.value.dtype).eps) / 2
    return 1 + 1e-6 + carrier_u / bound.m.u
