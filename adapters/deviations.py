"""Where an installed framework computes something else than the mathematics, or than others do.

A row either *describes* what the framework computes, so that it is compared with just that, or tells how the adapter
avoids it or the bounds allow for it. No framework is imported here: the table is read without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gradconform.layers import GELU, Dense, LeakyReLU, Record, Softmax, Softplus
from gradconform.losses import BinaryCrossEntropy, SigmoidCrossEntropy
from gradconform.network import Network

TORCH_LOG_FLOOR = -100.0
TORCH_DENOMINATOR_FLOOR = 9.999999960041972e-13
"""1e-12 in float32: the constant is a `float` in PyTorch's source, whatever the dtype of the tensors."""


def unchanged(network: Network) -> Network:
    """Return `network`: what it says is computed, since the adapter avoids the deviation or the bounds allow for it."""
    return network


def _floored(network: Network) -> Network:
    loss = network.loss
    # A loss that has floors already says what is computed.
    if not isinstance(loss, BinaryCrossEntropy) or (loss.log_floor, loss.denominator_floor) != (None, None):
        return network
    floored = msgspec.structs.replace(loss, log_floor=TORCH_LOG_FLOOR, denominator_floor=TORCH_DENOMINATOR_FLOOR)
    return msgspec.structs.replace(network, loss=floored)


@dataclass(frozen=True)
class Deviation:
    """One deviation: whose, in which layer or loss, what is computed instead, why, and where that is written.

    `describes` turns a network into the one that `implementation` really computes; `unchanged` where its adapter
    avoids the deviation, or the bounds allow for it.
    """

    implementation: str
    subject: type[Record]
    describes: Callable[[Network], Network]
    reason: str
    source: str


DEVIATIONS = (
    Deviation(
        implementation="torch",
        subject=BinaryCrossEntropy,
        describes=_floored,
        reason="binary_cross_entropy limits both logarithms to at least -100 in the cost, and p (1 - p) to at least "
        "1e-12 (as a float32) in the gradient, so that saturated probabilities stay finite.",
        source="documentation of torch.nn.BCELoss; aten/src/ATen/native/Loss.cpp",
    ),
    Deviation(
        implementation="torch",
        subject=Softplus,
        describes=unchanged,
        reason="nn.Softplus returns z itself above its threshold, by default 20, which is off by 2e-9 in float64: "
        "the adapter sets 40, where the difference is below rounding.",
        source="documentation of torch.nn.Softplus",
    ),
    Deviation(
        implementation="torch",
        subject=GELU,
        describes=unchanged,
        reason="its gradient in bfloat16 is 0 where it is subnormal, from two elements on, on processors whose "
        "instructions for bfloat16 flush: the rounding model `torch` has that.",
        source="tests/conformance/test_rediscovery.py",
    ),
    Deviation(
        implementation="torch",
        subject=SigmoidCrossEntropy,
        describes=unchanged,
        reason="under torch.func, binary_cross_entropy_with_logits adds 1 to exp(-z) before the logarithm, so that in "
        "float64 a cost below 1e-16 is 0: where cases are computed at once the adapter takes logsigmoid.",
        source="aten/src/ATen/functorch/PyTorchOperatorHacks.cpp",
    ),
    Deviation(
        implementation="jax",
        subject=BinaryCrossEntropy,
        describes=unchanged,
        reason="XLA's log1p loses up to 126 units in the last place near -0.41 in float64: the adapter takes "
        "log(1 - p).",
        source="xla/service/elemental_ir_emitter.cc; jax issue 39707",
    ),
    Deviation(
        implementation="jax",
        subject=GELU,
        describes=unchanged,
        reason="the gradient of gelu(approximate=True) is NaN in float16 from a size of 147.875 on, where 3 x^2 "
        "overflows, and PyTorch's is finite: no bound is claimed where x^3 overflows, and what is lost is counted.",
        source="tests/conformance/test_rediscovery.py",
    ),
    Deviation(
        implementation="jax",
        subject=Softmax,
        describes=unchanged,
        reason="its gradient divides by the square of the sum of the exponentials, so that small deltas underflow in "
        "float16: the bounds allow for that formula.",
        source="tests/conformance/test_rediscovery.py",
    ),
    Deviation(
        implementation="jax",
        subject=Dense,
        describes=unchanged,
        reason="XLA adds up bias gradients of bfloat16 and float16 in these types themselves, where PyTorch does in "
        "float32: the rounding model `xla` has that.",
        source="tests/conformance/test_rediscovery.py",
    ),
    Deviation(
        implementation="jax",
        subject=Dense,
        describes=unchanged,
        reason="XLA on the CPU reads and writes subnormal numbers as 0, where PyTorch and NumPy do not: the rounding "
        "model `xla` has that.",
        source="openxla/xla issues 22858 and 35740; tests/conformance/test_rediscovery.py",
    ),
    Deviation(
        implementation="jax",
        subject=LeakyReLU,
        describes=unchanged,
        reason="the derivative at 0 is 1, where PyTorch's is the slope: every one between them is right, and which one "
        "is taken is measured and reported.",
        source="tests/conformance/test_rediscovery.py",
    ),
)


def described(implementation: str, network: Network) -> Network:
    """Return the network that `implementation` really computes when it is asked for `network`."""
    for row in DEVIATIONS:
        if row.implementation == implementation:
            network = row.describes(network)
    return network
