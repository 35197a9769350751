"""The regimes: the conditions under which gradients are compared, each because it hides or shows bugs.

A regime changes ordinary numbers in place. The first one is what Hypothesis shrinks to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconform.case import Array
from gradconform.dtypes import finfo
from gradconform.layers import Softmax
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.layers import layer_rule


@dataclass
class Numbers:
    """The numbers of a case before they are rounded to its dtype, all float64."""

    network: Network
    parameters: dict[str, Array]
    inputs: Array
    one_label: bool = False

    @classmethod
    def ordinary(cls, network: Network, rows: int, rng: np.random.Generator) -> Numbers:
        """Return normal inputs and parameters that keep pre-activations near 1."""
        parameters = {
            path: rng.normal(scale=shape[0] ** -0.5 if len(shape) == 2 else 0.3, size=shape)
            for path, shape in network.parameters().items()
        }
        return cls(network, parameters, rng.normal(size=(rows, network.inputs)))

    def scale(self, factor: float | Array) -> None:
        """Multiply all parameters."""
        self.parameters = {path: array * factor for path, array in self.parameters.items()}

    @property
    def last_dense(self) -> list[str]:
        """The paths of the last layer with parameters."""
        last = next(reversed(self.parameters), "").partition(".")[0]
        return [path for path in self.parameters if path.partition(".")[0] == last]

    def logits(self) -> Array:
        """Return what the last layers give, before a final Softmax."""
        k, x = Plain(np.float64), self.inputs
        for index, layer in enumerate(self.network.layers):
            if isinstance(layer, Softmax) and index == len(self.network.layers) - 1:
                break
            own = {name: self.parameters[f"{index}.{name}"] for name in layer.parameters(self.network.widths[index])}
            x = layer_rule(layer, k, x, own)[0]
        return np.asarray(x)


def largest(dtype: np.dtype[Any]) -> float:
    """Return how large inputs and parameters of `dtype` may be: a 16th of its largest number.

    A case has finite numbers alone, and where their sums overflow nothing can be compared: of these, as many as the
    widest layer that is drawn has units add up to a finite number. Only float16 is ever near the limit.
    """
    return float(finfo(dtype).max) / 16


Regime = Callable[[Numbers, "np.dtype[Any]", np.random.Generator], None]
REGIMES: dict[str, Regime] = {}
OF_THE_DTYPE = ("near-kinks", "tiny", "subnormal")
"""The regimes whose numbers depend on the dtype to which they will be rounded."""


def regime(function: Regime) -> Regime:
    """Register a regime under its function's name, with hyphens."""
    REGIMES[function.__name__.strip("_").replace("_", "-")] = function
    return function


def _gap(numbers: Numbers, gap: float) -> None:
    """Scale the last parameters so that some row's logits span `gap`."""
    logits = numbers.logits()
    span = float(np.max(logits.max(axis=1) - logits.min(axis=1)))
    if 0 < span < np.inf:
        for path in numbers.last_dense:
            numbers.parameters[path] = numbers.parameters[path] * (gap / span)


@regime
def integers(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Small integers: readable, sums are exact, ties and kinks are met exactly."""
    numbers.inputs = rng.integers(-3, 4, numbers.inputs.shape).astype(float)
    numbers.parameters = {
        path: rng.integers(-2, 3, array.shape).astype(float) for path, array in numbers.parameters.items()
    }


@regime
def ordinary(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Normal inputs, parameters as at the start of training."""


@regime
def large(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Parameters three times as large: part of the units saturate."""
    numbers.scale(3)


@regime
def saturated(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Parameters twenty times as large: nearly all units saturate."""
    numbers.scale(20)


@regime
def logit_gap_20(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Well classified: log(p + eps) shows."""
    _gap(numbers, 20)


@regime
def logit_gap_100(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Probabilities below the resolution of float64: clipping shows."""
    _gap(numbers, 100)


@regime
def logit_gap_2000(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """exp overflows unless the largest logit is subtracted first."""
    _gap(numbers, 2000)


@regime
def extreme_logits(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """All logits at +1000 or -1000, where the last layer has a bias."""
    for path in numbers.last_dense:
        shape = numbers.parameters[path].shape
        numbers.parameters[path] = rng.choice([-1000.0, 1000.0], shape) if len(shape) == 1 else np.zeros(shape)


@regime
def rows_far_apart(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Samples of very different size in one batch: a maximum over the batch instead of the row shows."""
    numbers.inputs = numbers.inputs * 10 ** rng.uniform(-3, 3, (len(numbers.inputs), 1))


@regime
def zero_weights(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """All parameters 0: every pre-activation and logit is exactly 0."""
    numbers.scale(0)


@regime
def tied_logits(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The last units share their parameters, so that all logits of a row are equal."""
    for path in numbers.last_dense:
        array = numbers.parameters[path]
        numbers.parameters[path] = np.broadcast_to(array[..., :1], array.shape).copy()


@regime
def one_label(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """All samples have the same label; the other classes are absent."""
    numbers.one_label = True


@regime
def duplicated_rows(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The same sample again and again: roundings no longer cancel."""
    numbers.inputs = np.broadcast_to(numbers.inputs[:1], numbers.inputs.shape).copy()


@regime
def zero_rows(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Sparse inputs, whole samples of zeros and no biases: exact kinks."""
    numbers.inputs = numbers.inputs * (rng.random(numbers.inputs.shape) < 0.5)
    numbers.inputs[rng.integers(len(numbers.inputs))] = 0
    numbers.parameters = {path: array * (array.ndim == 2) for path, array in numbers.parameters.items()}


@regime
def near_kinks(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """A few pre-activations of one sample so near 0 that rounding decides their sign, where layers have a bias."""
    x = numbers.inputs[rng.integers(len(numbers.inputs))].astype(dtype)
    k = Plain(np.float64)
    for index, layer in enumerate(numbers.network.layers):
        own = {
            name: numbers.parameters[f"{index}.{name}"].astype(dtype).astype(np.float64)
            for name in layer.parameters(numbers.network.widths[index])
        }
        if "bias" in own:
            few = rng.permutation(len(own["bias"]))[:2]
            own["bias"][few] = -(x.astype(np.float64) @ own["weight"])[few]
            numbers.parameters[f"{index}.bias"] = own["bias"]
        x = layer_rule(layer, k, x.astype(np.float64)[None], own)[0][0].astype(dtype)


@regime
def cancelling(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Mirrored units and features: sums of large terms are small, and little of them is left but rounding."""
    half = numbers.inputs.shape[1] // 2
    numbers.inputs[:, half : 2 * half] = numbers.inputs[:, :half] * (1 + 1e-6 * rng.normal(size=half))
    for path, array in numbers.parameters.items():
        half = array.shape[-1] // 2
        array[..., half : 2 * half] = array[..., :half]
        if array.ndim == 2:
            half = len(array) // 2
            array[half : 2 * half] = -array[:half]
        numbers.parameters[path] = array


@regime
def constant(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """All numbers alike: every rounding errs to the same side."""
    numbers.inputs = np.full_like(numbers.inputs, rng.normal())
    numbers.parameters = {path: np.full_like(array, rng.normal()) for path, array in numbers.parameters.items()}


@regime
def mixed_magnitudes(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Neighbouring numbers differ by up to four decades."""
    numbers.inputs = numbers.inputs * 10 ** rng.uniform(-2, 2, numbers.inputs.shape)
    numbers.parameters = {
        path: array * 10 ** rng.uniform(-2, 2, array.shape) for path, array in numbers.parameters.items()
    }


@regime
def tiny(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Numbers whose products come near the smallest normal number."""
    size = float(finfo(dtype).smallest_normal) ** 0.25
    numbers.inputs = numbers.inputs * size
    numbers.scale(size)


@regime
def subnormal(numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Inputs below the smallest normal number, which some implementations read as 0."""
    numbers.inputs = numbers.inputs * (float(finfo(dtype).smallest_normal) / 8)
