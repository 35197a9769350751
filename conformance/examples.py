"""An example: what Hypothesis draws. One structure, and several draws of numbers for it.

Hypothesis draws and shrinks the structure; the bulk of the numbers comes from a drawn seed and a drawn regime
(`gradconform.conformance.regimes`), so that a case costs no more to draw than to compute.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from gradconform.capabilities import Labels
from gradconform.case import Array, Batch, Case
from gradconform.conformance.regimes import REGIMES, Numbers
from gradconform.dtypes import dtype_of
from gradconform.network import Network

Layout = Literal["C", "F", "strided", "reversed"]


@dataclass(frozen=True)
class Draw:
    """The numbers of one case: a regime and the seed of everything random in it."""

    regime: str
    seed: int


@dataclass(frozen=True)
class Example:
    """One structure with several draws. Every case of it has the same shapes, so that a compiled gradient serves all.

    `labels` matters for cross entropies alone, `class_weights` for SoftmaxCrossEntropy. `layout` is the memory order
    of the arrays that are handed out.
    """

    network: Network
    rows: int
    draws: tuple[Draw, ...]
    labels: Labels = "integer"
    class_weights: bool = False
    layout: Layout = "C"

    @property
    def structure(self) -> Hashable:
        """All but the numbers and their layout."""
        return self.network, self.rows, self.labels, self.class_weights

    def case(self, draw: Draw, dtype: DTypeLike) -> Case:
        """Return the case of one draw in a dtype, which a string names as in `gradconform.dtypes`.

        The same arguments give the same case. Raises `InvalidInput` for a name that is unknown.
        """
        dtype = dtype_of(dtype) if isinstance(dtype, str) else np.dtype(dtype)
        rng = np.random.default_rng(draw.seed)
        numbers = Numbers.ordinary(self.network, self.rows, rng)
        REGIMES[draw.regime](numbers, dtype, rng)
        numbers.clip(dtype)
        targets = self._targets(numbers, dtype, rng)
        classes = self.network.widths[-1]
        weights = rng.uniform(0.25, 3, classes) if self.class_weights else None
        cotangent = None
        if self.network.loss.reduction == "none":
            cotangent = rng.normal(size=self.network.loss.shape(self.rows, classes))

        def hand_out(array: Array) -> Array:
            return lay_out(array.astype(dtype), self.layout)

        batch = Batch(
            hand_out(numbers.inputs),
            lay_out(targets, self.layout) if targets.dtype.kind == "i" else hand_out(targets),
            None if weights is None else hand_out(weights),
            None if cotangent is None else hand_out(cotangent),
        )
        return Case(self.network, {path: hand_out(array) for path, array in numbers.parameters.items()}, batch)

    def _targets(self, numbers: Numbers, dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
        loss, rows, classes = self.network.loss, self.rows, self.network.widths[-1]
        if loss.labels == "values":
            return rng.normal(size=(rows, classes))
        if loss.labels == "fractions":
            hard = rng.integers(0, 2, (rows, classes)).astype(float)
            return np.where(rng.random((rows, 1)) < 0.5, hard, rng.random((rows, classes)))
        if self.labels == "soft":
            # divided in their own type, as a user would: their sum is 1 within its rounding
            soft = rng.exponential(size=(rows, classes)).astype(dtype)
            return np.asarray(soft / soft.sum(axis=1, keepdims=True))
        labels = np.full(rows, rng.integers(classes)) if numbers.one_label else rng.integers(0, classes, rows)
        if self.labels == "one-hot":
            return np.eye(classes)[labels]
        ignored = getattr(loss, "ignore_index", None)
        if ignored is not None:
            drop = rng.random(rows) < 0.3
            drop[rng.integers(rows)] = False
            if 0 <= ignored < classes:
                # the ignored index is a class here: a row that must count needs another label
                labels = np.where(labels == ignored, (labels + 1) % classes, labels)
            labels = np.where(drop, ignored, labels)
        return labels.astype(np.int64)


def lay_out(array: Array, layout: Layout) -> Array:
    """Return `array`, read-only, in another memory order."""
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "strided" and array.ndim:
        padded = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        padded[..., ::2] = array
        array = padded[..., ::2]
    elif layout == "reversed" and array.ndim:
        array = np.ascontiguousarray(array[::-1])[::-1]
    else:
        array = np.array(array)
    array.flags.writeable = False
    return array
