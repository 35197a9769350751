"""Affine forms: bounds that keep the signs of errors, so that what cancels in truth cancels in the bound.

`Bounded` propagates |error|, which grows with every wide layer. An `AffineForm` also keeps how each of its elements
moves, to first order and with its sign, with every earlier error that went into a product with weights; all the rest
is a bound as before. L. H. de Figueiredo and J. Stolfi, Affine arithmetic: concepts and applications, Numerical
Algorithms 37, 2004.

One more thing than by `Bounded` is asked of a computation: it computes every product with weights once. One that does
its forward pass again for the backward pass, and rounds it differently, has two errors where the form has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradconform.case import Gradients
from gradconform.reference.bounded import Bounded, Errors
from gradconform.reference.bounding import Bounding, others
from gradconform.reference.functions import NARROW, Function
from gradconform.reference.precision import Precision

Terms = Mapping[int, Errors]
"""For every block of sources, by a number of its own, how much each moves each element: (N, sources, width).

A source is an unknown number in [-1, 1] that belongs to one sample: the terms of a row are of its own sources.
"""

_BLOCKS = count()


class AffineForm(Bounded):
    """An array (N, width) of which every permitted computation gives value + sum over sources of term x source +- rest.

    `error` is the smaller of what that amounts to and what `Bounded` knows.
    """

    __slots__ = ("rest", "terms")

    def __init__(self, value: NDArray[Any], error: Errors, m: Precision, **options: Any) -> None:
        super().__init__(value, error, m, **options)
        self.terms: Terms = {}
        self.rest: Errors = self.error

    @classmethod
    def of(cls, bounded: Bounded) -> AffineForm:
        """Return a value with a bound as a form; all of its error is rest, unless it is a form already."""
        if isinstance(bounded, AffineForm):
            return bounded
        return cls(bounded.value, bounded.error, bounded.m, size=bounded.size, gain=bounded.gain)

    @classmethod
    def within(cls, bounded: Bounded, terms: Terms, rest: Errors) -> AffineForm:
        """Return a value as a form that is never less certain than its bound; terms that say nothing more are left."""
        shape = bounded.shape
        spread = {
            block: np.broadcast_to(effects, (*shape[:-1], effects.shape[-2], shape[-1]))
            for block, effects in terms.items()
        }
        moved = _moved(spread)
        # beyond the range nothing is known, whatever the terms say
        error = np.where(bounded.error < np.inf, np.fmin(moved + rest, bounded.error), np.inf)
        form = cls(bounded.value, error, bounded.m, size=bounded.size, gain=bounded.gain)
        useless = ~((rest < form.error) & np.isfinite(moved))
        if useless.any():
            spread = {block: np.where(useless[..., None, :], 0.0, effects) for block, effects in spread.items()}
            rest = np.where(useless, form.error, rest)
        form.terms, form.rest = spread, np.broadcast_to(rest, shape)
        return form

    @property
    def bounded(self) -> Bounded:
        """The value with its error alone."""
        return Bounded(self.value, self.error, self.m, size=self.size, gain=self.gain)

    @property
    def _errorless(self) -> Bounded:
        """The same as if it had been computed without error, yet as large as it may have become.

        What an operation on it is bounded by is the operation's own error.
        """
        return Bounded(self.value, np.zeros(self.shape), self.m, size=self.reach, gain=self.gain)

    def _form(self, other: Any) -> AffineForm:
        return AffineForm.of(self._other(other))

    def _result(self, whole: Bounded, own: Bounded, terms: Terms, rest: Errors) -> AffineForm:
        """Return a result: `whole` bounds it as a whole, `own` its own error, and the others what comes in."""
        # the own error is a share of a number that is itself off by up to the whole error; two roundings at most
        return AffineForm.within(whole, terms, rest + own.error + 2 * self.m.u * (1 + self.m.u) * whole.error)

    def __add__(self, other: Any) -> AffineForm:
        y = self._form(other)
        terms = _combination((self.terms, 1.0), (y.terms, 1.0))
        return self._result(super().__add__(y), self._errorless + y._errorless, terms, self.rest + y.rest)

    __radd__ = __add__

    def __neg__(self) -> AffineForm:
        return AffineForm.within(super().__neg__(), _combination((self.terms, -1.0)), self.rest)

    def __mul__(self, other: Any) -> AffineForm:
        """(x + dx)(y + dy) - x y = x dy + y dx + dx dy."""
        y = self._form(other)
        left, right = _float64(self.value), _float64(y.value)
        terms = _combination((self.terms, right), (y.terms, left))
        rest = self.size * y.rest + y.size * self.rest + self.error * y.error
        return self._result(super().__mul__(y), self._errorless * y._errorless, terms, rest)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> AffineForm:
        """(x + dx) / (y + dy) - q = (dx - q dy) / y (1 - dy / (y + dy)) with q = x / y."""
        y = self._form(other)
        divisor, quotient = _float64(y.value), _float64(self.value / y.value)
        size = np.abs(quotient)
        room = np.where(y.error < y.size, y.size - y.error, 0.0)
        terms = _combination((self.terms, 1 / divisor), (y.terms, -quotient / divisor))
        rest = (self.rest + size * y.rest) / y.size + (self.error + size * y.error) / y.size * (y.error / room)
        return self._result(super().__truediv__(y), self._errorless / y._errorless, terms, rest)

    def __rtruediv__(self, other: Any) -> AffineForm:
        return self._form(other) / self

    def affine(self, weight: Bounded, bias: Bounded | None) -> AffineForm:
        """Return x W + b. From here on the rest of x is a block of sources as well, one for each of its elements."""
        matrix = _float64(weight.value)[..., None, :, :]  # the same for all rows
        terms = {block: effects @ matrix for block, effects in self.terms.items()}
        if self.rest.any():
            terms[next(_BLOCKS)] = self.rest[..., None] * matrix
        whole, own = super().affine(weight, bias), self._errorless.affine(weight, bias)
        return self._result(whole, own, terms, np.zeros(whole.shape))

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Bounded:
        """Return the sum over `axis`, in any order; a form if it is one number for each row."""
        if axis != -1 or not keepdims:
            return super().sum(axis, keepdims)
        terms = {block: effects.sum(axis=-1, keepdims=True) for block, effects in self.terms.items()}
        whole, own = super().sum(axis, keepdims), self._errorless.sum(axis, keepdims)
        return self._result(whole, own, terms, self.rest.sum(axis=-1, keepdims=True))


class AffineBounding(Bounding):
    """Arithmetic on `AffineForm` arrays. Given numbers are `Bounded`, and so is what is summed over the samples."""

    def affine(self, x: Bounded, weight: Bounded, bias: Bounded | None) -> Bounded:
        """Return x W + b, in whatever order."""
        return AffineForm.of(x).affine(weight, bias)

    def evaluate(self, function: Function, z: Bounded) -> tuple[Bounded, Bounded]:
        """Return f(z) and f'(z), by Taylor's theorem: f' and f'' times the terms, and what they leave."""
        value, slope, around = self._evaluate(function, z)
        form, centre = AffineForm.of(z), _float64(z.value)
        first, second = around.slope, around.curvature
        rest = np.abs(first) * form.rest + around.bend * z.error**2 / 2 + around.own_value
        slope_rest = np.abs(second) * form.rest + around.twist * z.error + around.own_slope
        for extremum in function.curvature_extrema:
            # here f'' may jump
            slope_rest = np.where(np.abs(centre - extremum) <= z.error + NARROW, np.inf, slope_rest)
        return (
            AffineForm.within(value, _combination((form.terms, first)), np.where(around.near, np.inf, rest)),
            AffineForm.within(slope, _combination((form.terms, second)), slope_rest),
        )

    def softmax(self, z: Bounded) -> tuple[Bounded, Bounded, Bounded]:
        """Return p = softmax(z), 1 - p and log p over the last axis.

        d log p_i = (1 - p_i) dz_i - sum of the other p_j dz_j, and d p_i = p_i d log p_i. What they leave is half of
        the second derivatives along dz, somewhere on the way: p_i ((dz_i - mu)^2 - s2) and -s2, with the mean mu and
        the variance s2 of dz under p. Where |dz| <= E, (dz_i - mu)^2 and s2 are at most 4 E^2 (1 - p_i), s2 is at
        most E^2, and on the way 1 - p_i and p_i (1 - p_i) grow by at most exp(2 E).
        """
        bounds, (own, own_rest, own_log) = self._softmax(z)
        form, (p, complement) = AffineForm.of(z), (_float64(bound.value) for bound in bounds[:2])
        largest = z.error.max(axis=-1, keepdims=True)
        log_terms = {
            block: effects * complement[..., None, :] - others(effects * p[..., None, :])
            for block, effects in form.terms.items()
        }
        terms = _combination((log_terms, p))
        linear = complement * form.rest + others(p * form.rest)
        bent = 2 * largest**2 * np.exp(2 * largest) * complement
        rest = p * (linear + bent)
        return (
            AffineForm.within(bounds[0], terms, rest + own),
            AffineForm.within(bounds[1], _combination((terms, -1.0)), rest + own_rest),
            AffineForm.within(bounds[2], log_terms, linear + np.minimum(bent, largest**2 / 2) + own_log),
        )

    def maximum(self, x: Bounded, floor: float) -> Bounded:
        """Return the larger of x and a constant: x itself where it is certain to be the larger one."""
        whole, form = super().maximum(x, floor), AffineForm.of(x)
        rest = np.where(x.value - x.error > floor, form.rest + self.m.u * abs(floor), np.inf)
        return AffineForm.within(whole, form.terms, rest)

    def clip(self, p: Bounded, margin: float, layer: str) -> tuple[Bounded, Bounded]:
        """Return p limited to [margin, 1 - margin]: p itself where it is certain to lie inside."""
        whole, inside = super().clip(p, margin, layer)
        form = AffineForm.of(p)
        certain = (inside.value == 1) & (inside.error == 0) & (whole.value == p.value)
        return AffineForm.within(whole, form.terms, np.where(certain, form.rest, np.inf)), inside

    def weigh(self, weight: Bounded, x: Bounded) -> Bounded:
        """Return weight * x, and 0 where the weight is 0; unknown all the same where x is."""
        product = AffineForm.of(weight * x)
        return AffineForm.within(super().weigh(weight, x), product.terms, product.rest)

    def accept(self, accurate: Callable[[], Bounded], *others: Callable[[], Bounded]) -> Bounded:
        """Return the value and the terms of the most accurate formula; the rest covers the others.

        In exact arithmetic all have the same terms. Where they differ, as one may have given them up, so much is rest.
        """
        best = AffineForm.of(accurate())
        forms = [best, *(AffineForm.of(formula()) for formula in others)]
        rests = [form.rest + _moved(_combination((form.terms, 1.0), (best.terms, -1.0))) for form in forms]
        whole = Bounded(best.value, np.maximum.reduce([form.error for form in forms]), self.m)
        return AffineForm.within(whole, best.terms, np.maximum.reduce(rests))


def without_terms(gradients: Gradients[Bounded]) -> Gradients[Bounded]:
    """Return the same values with their errors alone, as terms take far more memory than errors."""

    def bounded(value: Any) -> Any:
        return value.bounded if isinstance(value, AffineForm) else value

    return replace(
        gradients,
        loss=bounded(gradients.loss),
        input=bounded(gradients.input),
        deltas={index: bounded(delta) for index, delta in gradients.deltas.items()},
        outputs={index: bounded(output) for index, output in gradients.outputs.items()},
    )


def _float64(value: NDArray[Any]) -> Errors:
    """Return the value in float64, in which terms are."""
    return value.astype(np.float64, copy=False)


def _moved(terms: Terms) -> Errors | float:
    """Return how far all sources together may move each element."""
    return sum((np.abs(effects).sum(axis=-2) for effects in terms.values()), start=0.0)


def _combination(*parts: tuple[Terms, Errors | float]) -> Terms:
    """Return the sum over the parts of factor times terms, block by block; a factor is that of each element."""
    combined: dict[int, Errors] = {}
    for terms, factor in parts:
        if np.any(factor):
            factors = np.atleast_1d(factor)[..., None, :]
            for block, effects in terms.items():
                product = effects * factors
                combined[block] = combined[block] + product if block in combined else product
    return combined
