"""The arithmetic of `Bounded`: the operations of `gradconform.reference.arithmetic.Plain`, each with its error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradconform.reference.arithmetic import Plain
from gradconform.reference.bounded import Bounded, Errors, peak_of
from gradconform.reference.functions import NARROW, Function
from gradconform.reference.precision import Precision

LITTLE = 1.001
"""By how much a derivative or a local error may grow within `NARROW`."""


@dataclass(frozen=True, eq=False)
class Site:
    """A layer that has a kink: `layer` is its name, `near` the pre-activations within their error of it.

    `side` is the sign of their exact value: -1, 0 or 1.
    """

    layer: str
    near: NDArray[np.bool_]
    side: NDArray[np.int_]


@dataclass(frozen=True, eq=False)
class Vicinity:
    """What is known of a function f within the error of every element of z."""

    slope: Errors
    """f'(z), at a kink one of the one-sided derivatives."""
    curvature: Errors
    """f''(z)."""
    bend: Errors
    """The largest |f''|."""
    twist: Errors
    """The largest |f'(t) - f'(z) - f''(z) (t - z)| / |t - z|, if f'' has no extremum and does not jump there."""
    near: NDArray[np.bool_]
    """Where a kink of f lies."""
    own_value: Errors
    """The error of evaluating f itself, at an exact argument."""
    own_slope: Errors
    """The same of f', with what an open kink leaves open."""


Shares = NDArray[Any]
"""For every pre-activation of a site the derivative taken there: 0 the left-sided, 1 the right-sided one."""


class Bounding:
    """Arithmetic on `Bounded` arrays whose values are carried in the type `carrier`.

    At a kink the derivative is anything between the one-sided ones, unless `shares` tells for each site, in the order
    of evaluation, which one is taken.
    """

    fuses = False  # implementations run Softmax or Sigmoid and the cross entropy one after the other

    def __init__(
        self, m: Precision, carrier: type[np.floating[Any]], shares: Sequence[Shares | float] | None = None
    ) -> None:
        self.m = m
        self.plain = Plain(carrier)
        self.shares = shares
        self.sites: list[Site] = []

    def lift(self, numbers: ArrayLike) -> Bounded:
        """Return given numbers as a value."""
        return Bounded.lift(numbers, self.plain.dtype, self.m)

    def observe(self, numbers: ArrayLike) -> Bounded:
        """Return an intermediate value that an implementation showed: it may have gone on with more digits of it."""
        return Bounded.lift(numbers, self.plain.dtype, self.m, self.m.u / (1 - self.m.u) if self.m.excess else 0.0)

    def affine(self, x: Bounded, weight: Bounded, bias: Bounded | None) -> Bounded:
        """Return x W + b, in whatever order."""
        return x.affine(weight, bias)

    def evaluate(self, function: Function, z: Bounded) -> tuple[Bounded, Bounded]:
        """Return f(z) and f'(z).

        The error of z propagates by the largest |f'| and |f''| within it, which is rigorous however large it is: by
        Taylor's theorem where it is narrow, else from both ends, the centre and the extrema between. Where a kink lies
        within the error of z, the slope is anything between the one-sided derivatives.
        """
        value, slope, _ = self._evaluate(function, z)
        return value, slope

    def _evaluate(self, function: Function, z: Bounded) -> tuple[Bounded, Bounded, Vicinity]:
        """Return f(z) and f'(z), and what they were bounded by."""
        m = self.m
        centre = z.value.astype(np.float64, copy=False)
        widest = peak_of(z.error)
        # in a shorter type the error of z times that of the formula is not small enough to be left out
        narrow = widest <= (0.0 if m.longer else NARROW)
        value, slope = function.evaluate(z.value)
        if narrow:
            points = centre
            values, slopes = value.astype(np.float64, copy=False), slope.astype(np.float64, copy=False)
        else:
            points = np.stack([centre - z.error, centre, centre + z.error])
            values, slopes = function.evaluate(points)
        curvatures = function.curvature(points, values, slopes)
        # what was given, and at most flushed, has no more digits than it is stored with
        formulas = replace(m, excess=False) if m.excess and widest <= m.eta else m
        local_value, local_slope = function.rounding(points, values, slopes, formulas)
        if narrow:
            steepness, curvature, change = slopes, curvatures, LITTLE * z.error * function.jerk(points, values, slopes)
            bend, twist = np.abs(curvature) + change, change / 2
            steepest = np.abs(slopes) + z.error * bend
        else:
            bend = _largest(
                curvatures,
                lambda at: function.curvature(at, *function.evaluate(at)),
                function.curvature_extrema,
                centre,
                z.error,
            )
            steepest = _largest(slopes, lambda at: function.evaluate(at)[1], function.slope_extrema, centre, z.error)
            local_value, local_slope = np.max(local_value, axis=0), np.max(local_slope, axis=0)
            steepness, curvature = slopes[1], curvatures[1]
            twist = np.max(np.abs(curvatures - curvature), axis=0)  # between extrema f'' is monotone
        share: Shares | float = 0.5
        between: Errors | float = 0.0
        near = np.zeros(centre.shape, bool)
        radius = z.error
        if function.kink is not None:
            kink, near = function.kink, z.size <= z.error
            if np.count_nonzero(near):
                steepest = np.where(near, np.maximum(steepest, max(abs(kink.left), abs(kink.right))), steepest)
                if self.shares is None:
                    between = near * abs(kink.right - kink.left) / 2
                else:
                    share = self.shares[len(self.sites)]
                slope = np.where(near, kink.left + share * (kink.right - kink.left), slope)
                if self.shares is not None:
                    # a constant, and its mean with another one: two roundings
                    between = near * 2 * m.u * np.abs(slope).astype(np.float64)
                radius = np.where(near, z.size + z.error, z.error)  # as far as z may be from the kink
            self.sites.append(Site(kink.layer, near, np.sign(z.value).astype(int)))
        tiny = m.normal if function.elementary else m.eta
        own_value = local_value * self._slack + tiny
        own_slope = local_slope * self._slack + tiny + between
        return (
            Bounded(value, steepest * z.error + own_value, m),
            Bounded(slope, bend * radius + own_slope, m, gain=function.gain(centre, m)),
            Vicinity(steepness, curvature, bend, twist, near, own_value, own_slope),
        )

    @property
    def _slack(self) -> float:
        """What a formula's local error leaves out: the products of ten roundings, and its change within `NARROW`."""
        return LITTLE + 10 * self.m.u

    def softmax(self, z: Bounded) -> tuple[Bounded, Bounded, Bounded]:
        """Return p = softmax(z), 1 - p and log p over the last axis, as the image of the box around z.

        The computed logits may move each p_j by a factor between exp(-e_j) and exp(e_j) before they are normalised.
        Local error: exp(shifted) / S or exp(shifted - log S) for p, shifted - log S for log p.
        """
        return self._softmax(z)[0]

    def _softmax(self, z: Bounded) -> tuple[tuple[Bounded, Bounded, Bounded], tuple[Errors, Errors, Errors]]:
        """Return p, 1 - p and log p, and how much of their errors is that of the formulas themselves."""
        m, classes = self.m, z.value.shape[-1]
        p, complement, log_p = self.plain.softmax(z.value)
        size, rest = (part.astype(np.float64, copy=False) for part in (p, complement))
        up, down = np.expm1(z.error), -np.expm1(-z.error)
        up_others, down_others = others(size * up), others(size * down)
        high = (rest * up + down_others) / (1 + size * up - down_others)
        low = (rest * down + up_others) / (1 - size * down + up_others)
        moved = size * np.maximum(high, np.minimum(low, 1))
        log_moved = np.log1p((1 + up) * up_others + up * rest)

        # what is rounded are the computed logits, less their largest one: they are `drift` away from the exact ones
        widest = z.error.max(axis=-1, keepdims=True)
        drift = z.error + widest
        log_size = np.abs(log_p).astype(np.float64, copy=False)
        log_total = log_size.min(axis=-1, keepdims=True)
        shifted = log_size - log_total + drift
        log_total = log_total + drift.max(axis=-1, keepdims=True)
        most = np.fmin(size + moved, 1)
        of_sum = m.u * ((most * (shifted + m.exp)).sum(axis=-1, keepdims=True) + m.sum_units(classes))
        of_sum = -np.log1p(-np.minimum(of_sum, 1))
        # where the exponent is limited, p is 0 whatever the formula
        local = np.expm1(np.minimum(m.u * (2 * shifted + (2 + m.log) * log_total + m.exp + 2) + of_sum, 700))
        log_local = m.u * (shifted + m.log * (log_total + of_sum)) + of_sum
        log_local += m.u * (log_size + log_moved + log_local)

        # the largest logit may be rounded before it is subtracted from itself: the total is not 1 or more then
        raised = np.minimum(m.u * z.reach, 2 * z.error).max(axis=-1, keepdims=True) if m.excess else np.float64(0)
        own, tiny = most * local, 2 * classes * m.normal * np.exp(np.minimum(raised, 700))
        # the image of a large box is no number, but no p is off by more than 1, and its rounding
        error = np.fmin(moved + own, 1 + (m.exp + 2) * m.u)
        # a row with an unknown logit is unknown, as inf - inf is not a number, and one whose total may overflow
        known = (widest < np.inf) & (raised < np.log(m.largest))
        error = np.where(known, error, np.inf) + tiny
        of_complement = m.u * (rest + error)
        bounds = (
            Bounded(p, error, m),
            Bounded(complement, error + of_complement, m),
            Bounded(log_p, np.where(np.isfinite(error), log_moved + log_local, np.inf) + m.normal, m),
        )
        return bounds, (own + tiny, own + tiny + of_complement, log_local + m.normal)

    def log(self, x: Bounded) -> Bounded:
        """Return the natural logarithm; unknown where the error of x reaches 0."""
        m = self.m
        value = np.log(x.value)
        moved = -np.log1p(-np.minimum(x.error / x.size, 1))
        return Bounded(value, moved + m.log * m.u * (np.abs(value).astype(np.float64) + moved) + m.normal, m)

    def maximum(self, x: Bounded, floor: float) -> Bounded:
        """Return the larger of x and a constant. An unknown x is below 0, as the logarithms that are limited are."""
        m = self.m
        known = np.where(np.isfinite(x.error), x.error, max(-floor, 0) if floor < 0 else np.inf)
        return Bounded(np.maximum(x.value, floor), known + m.u * abs(floor), m)

    def clip(self, p: Bounded, margin: float, layer: str) -> tuple[Bounded, Bounded]:
        """Return p limited to [margin, 1 - margin], and its derivative: 1 inside, 0 where limited.

        Where p lies within its error of a limit it is at a kink of `layer`: 0 is the derivative on the clipped side.
        """
        m = self.m
        limits = self.plain.clip(p.value, margin, layer)[0]
        # the limits are rounded: margin to the type, 1 - margin, below 1, by half as much, and what margin itself was
        upper = p.value > 0.5
        distance = np.where(upper, (1 - p.value) - margin, p.value - margin).astype(np.float64)
        own = np.where(upper, m.u * (0.5 + margin), m.u * margin) + m.eta
        near = ~(np.abs(distance) > LITTLE * (p.error + own))
        outside = ~near & (distance < 0)
        error = np.where(outside, own, np.where(near, p.error + own, p.error))
        share: Shares | float = 0.5
        between = near * 0.5
        if near.any() and self.shares is not None:
            share, between = self.shares[len(self.sites)], near * 0.0
        self.sites.append(Site(layer, near, np.sign(distance).astype(int)))
        inside = np.where(near, share, distance > 0).astype(p.value.dtype)
        return Bounded(limits, error, m), Bounded(inside, between, m)

    def summable(self, x: Bounded, weights: ArrayLike | None) -> Bounded:
        """Return x, unknown where its sum over the last two axes, weighted along the last, may overflow."""
        reach = x.reach if weights is None else x.reach * np.asarray(weights, np.float64)[..., None, :]
        fits = reach.sum(axis=(-2, -1), keepdims=True) <= self.m.largest
        return x if np.all(fits) else Bounded(x.value, np.where(fits, x.error, np.inf), self.m)

    def weigh(self, weight: Bounded, x: Bounded) -> Bounded:
        """Return weight * x, and 0 where the weight is 0; unknown all the same where x is."""
        product = weight * x
        zero = (weight.value == 0) & (weight.error == 0)
        error = np.where(zero & np.isfinite(x.error), 0.0, product.error)
        return Bounded(np.where(zero, 0, product.value), error, self.m)

    def accept(self, accurate: Callable[[], Bounded], *others: Callable[[], Bounded]) -> Bounded:
        """Return the value of the most accurate formula with the largest of all formulas' errors."""
        best = accurate()
        errors = [best.error, *(formula().error for formula in others)]
        return Bounded(best.value, np.maximum.reduce(errors), self.m, size=best.size)


def others(weights: Errors) -> Errors:
    """Return for each class the sum over the other classes, without the cancellation of total - own."""
    return weights @ _off_diagonal(weights.shape[-1])


@lru_cache
def _off_diagonal(classes: int) -> Errors:
    """Return ones, but zeros on the diagonal."""
    ones: Errors = 1 - np.eye(classes)
    ones.flags.writeable = False
    return ones


def _largest(
    at_points: NDArray[Any],
    derivative: Callable[[NDArray[Any]], NDArray[Any]],
    extrema: tuple[float, ...],
    centre: Errors,
    radius: Errors,
) -> Errors:
    """Return the largest |derivative| within `radius` of `centre`: at the ends, the centre or an extremum inside."""
    largest: Errors = np.max(np.abs(at_points), axis=0)
    for extremum in extrema:
        inside = np.abs(centre - extremum) <= radius
        if inside.any():
            peak = np.abs(derivative(np.asarray(extremum)))
            largest = np.where(inside, np.maximum(largest, peak), largest)
    return largest
