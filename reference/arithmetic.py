"""Plain arithmetic: the operations of the rules on NumPy arrays of any floating-point or complex type.

A rule is written once, with operators and the methods below, and runs in any arithmetic: here on arrays, in
`gradconform.reference.bounded` on arrays with error bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gradconform.reference.functions import Function

Value: TypeAlias = Any
"""What a rule computes with: an array, or an array with bounds. Operators mean the same on both."""


class Plain:
    """NumPy's own arithmetic in one floating-point or complex type."""

    fuses = True
    """Whether a final Softmax or Sigmoid and its cross entropy are differentiated as one, which cannot overflow."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)

    def lift(self, numbers: ArrayLike) -> Value:
        """Return given numbers as a value."""
        return np.asarray(numbers, self.dtype)

    observe = lift

    def affine(self, x: Value, weight: Value, bias: Value | None) -> Value:
        """Return x W + b."""
        z = x @ weight
        return z if bias is None else z + bias[..., None, :]

    def evaluate(self, function: Function, z: Value) -> tuple[Value, Value]:
        """Return f(z) and f'(z)."""
        return function.evaluate(z)

    def softmax(self, z: Value) -> tuple[Value, Value, Value]:
        """Return p = softmax(z), 1 - p and log p, over the last axis, each to full relative accuracy.

        The largest logit is subtracted first; its own term, exactly 1, is kept out of the sum S = 1 + rest.
        """
        rows = z.reshape(-1, z.shape[-1])
        top = np.arange(len(rows)), rows.real.argmax(axis=-1)
        shifted = rows - rows[top][:, None]
        e = np.exp(shifted)
        others = e.copy()
        others[top] = 0
        rest = others.sum(axis=-1, keepdims=True)
        total = 1 + rest
        complement = total - e
        complement[top] = rest[:, 0]
        found = e / total, complement / total, shifted - np.log1p(rest)
        p, complement, log_p = (part.reshape(z.shape) for part in found)
        return p, complement, log_p

    def log(self, x: Value) -> Value:
        """Return the natural logarithm."""
        return np.log(x)

    def maximum(self, x: Value, floor: float) -> Value:
        """Return the larger of x and a constant."""
        return np.maximum(x, floor)

    def clip(self, p: Value, margin: float, layer: str) -> tuple[Value, Value]:
        """Return p limited to [margin, 1 - margin], and its derivative with respect to p: 1 inside, 0 where limited."""
        low, high = self.lift(margin), 1 - self.lift(margin)
        below, above = p.real < low.real, p.real > high.real
        return np.where(below, low, np.where(above, high, p)), self.lift(~(below | above))

    def summable(self, x: Value, weights: ArrayLike | None) -> Value:
        """Return x; a bound is lost where the sum over the last two axes, weighted along the last, may overflow."""
        return x

    def weigh(self, weight: Value, x: Value) -> Value:
        """Return weight * x, and 0 where the weight is 0 whatever x may be: 0 log 0 = 0."""
        return np.where(weight == 0, np.zeros((), self.dtype), weight * x)

    def accept(self, accurate: Callable[[], Value], *others: Callable[[], Value]) -> Value:
        """Return the value of the most accurate formula; a bound covers the others, which are as common, too."""
        return accurate()
