"""An example: what Hypothesis draws. One structure, and several draws of numbers for it.

Hypothesis draws and shrinks the structure; the bulk of the numbers comes from a drawn seed and a drawn regime
(`gradconform.conformance.regimes`), so that a case costs no more to draw than to compute.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from gradconform.capabilities import Labels
from gradconform.case import Array, Batch, Case
from gradconform.conformance.regimes import OF_THE_DTYPE, REGIMES, Numbers, largest
from gradconform.conformance.stack import one_by_one, side_by_side
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
        return self.cases([draw], [dtype])[0][0]

    def cases(self, draws: Sequence[Draw], dtypes: Sequence[DTypeLike]) -> list[list[Case]]:
        """Return the cases of several draws in each of several dtypes, as `case` does of one.

        What is alike in all of them is done once. In C order their arrays are parts of larger ones.
        """
        kinds = [dtype_of(dtype) if isinstance(dtype, str) else np.dtype(dtype) for dtype in dtypes]
        drawn = [self._numbers(draw, kinds) for draw in draws]
        return [self._rounded([own[place] for own in drawn], kind) for place, kind in enumerate(kinds)]

    def _rounded(self, numbers: Sequence[tuple[Mapping[str, Array], Batch]], dtype: np.dtype[Any]) -> list[Case]:
        """Return cases with numbers in their dtype and memory order."""
        limit = largest(dtype)
        parameters, batch = side_by_side(numbers)
        targets = batch.targets
        if not batch.labelled:
            targets = targets.astype(dtype)
            if self._soft:
                # divided in their own type, as a user would: their sum is 1 within its rounding
                targets = np.asarray(targets / targets.sum(axis=-1, keepdims=True))
        return one_by_one(
            self.network,
            {path: np.clip(array, -limit, limit).astype(dtype) for path, array in parameters.items()},
            Batch(
                np.clip(batch.inputs, -limit, limit).astype(dtype),
                targets,
                None if batch.class_weights is None else batch.class_weights.astype(dtype),
                None if batch.cotangent is None else batch.cotangent.astype(dtype),
            ),
            _read_only if self.layout == "C" else partial(lay_out, layout=self.layout),
        )

    @property
    def _soft(self) -> bool:
        """Whether the targets are probabilities of the classes."""
        return self.network.loss.labels == "classes" and self.labels == "soft"

    def _numbers(self, draw: Draw, dtypes: Sequence[np.dtype[Any]]) -> list[tuple[Mapping[str, Array], Batch]]:
        """Return the numbers of a draw for each dtype, before they are rounded to it."""
        if draw.regime not in OF_THE_DTYPE:
            return [self._drawn(draw, dtypes[0])] * len(dtypes)
        return [self._drawn(draw, dtype) for dtype in dtypes]

    def _drawn(self, draw: Draw, dtype: np.dtype[Any]) -> tuple[Mapping[str, Array], Batch]:
        rng = np.random.default_rng(draw.seed)
        numbers = Numbers.ordinary(self.network, self.rows, rng)
        REGIMES[draw.regime](numbers, dtype, rng)
        targets = self._targets(numbers, rng)
        classes = self.network.widths[-1]
        weights = rng.uniform(0.25, 3, classes) if self.class_weights else None
        cotangent = None
        if self.network.loss.reduction == "none":
            cotangent = rng.normal(size=self.network.loss.shape(self.rows, classes))
        return numbers.parameters, Batch(numbers.inputs, targets, weights, cotangent)

    def _targets(self, numbers: Numbers, rng: np.random.Generator) -> Array:
        loss, rows, classes = self.network.loss, self.rows, self.network.widths[-1]
        if loss.labels == "values":
            return rng.normal(size=(rows, classes))
        if loss.labels == "fractions":
            hard = rng.integers(0, 2, (rows, classes)).astype(float)
            return np.where(rng.random((rows, 1)) < 0.5, hard, rng.random((rows, classes)))
        if self._soft:
            return rng.exponential(size=(rows, classes))
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
    return _read_only(array)


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array
