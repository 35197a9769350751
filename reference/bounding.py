"""The arithmetic of `Bounded`: the operations of `gradconform.reference.arithmetic.Plain`, each with its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradconform.reference.arithmetic import Plain
from gradconform.reference.bounded import Bounded, Errors
from gradconform.reference.functions import Function
from gradconform.reference.precision import Precision


class Bounding:
    """Arithmetic on `Bounded` arrays whose values are carried in the type `carrier`."""

    fuses = False  # implementations run Softmax or Sigmoid and the cross entropy one after the other

    def __init__(self, m: Precision, carrier: type[np.floating[Any]]) -> None:
        self.m = m
        self.plain = Plain(carrier)
        self.kinks = 0
        """How many pre-activations lay so close to a kink that either one-sided derivative is right."""

    def lift(self, numbers: ArrayLike) -> Bounded:
        """Return given numbers as a value."""
        return Bounded.lift(numbers, self.plain.dtype, self.m)

    def affine(self, x: Bounded, weight: Bounded, bias: Bounded | None) -> Bounded:
        """Return x W + b, in whatever order."""
        return x.affine(weight, bias)

    def evaluate(self, function: Function, z: Bounded) -> tuple[Bounded, Bounded]:
        """Return f(z) and f'(z).

        The error of z propagates by the largest |f'| and |f''| within it, which is rigorous however large it is; the
        local error is the worst at both ends and the centre. Where a kink lies within the error of z, the slope is
        anything between the one-sided derivatives.
        """
        m = self.m
        value, slope = function.evaluate(z.value)
        centre = z.value.astype(np.float64)
        points = np.stack([centre - z.error, centre, centre + z.error])
        values, slopes = function.evaluate(points)
        local_value, local_slope = function.rounding(points, values, slopes, m)
        steepest = _largest(slopes, lambda at: function.evaluate(at)[1], function.slope_extrema, centre, z.error)
        bend = _largest(function.curvature(points), function.curvature, function.curvature_extrema, centre, z.error)
        if function.kink is not None:
            left, right = function.kink
            at_kink = z.size <= z.error
            self.kinks += int(np.count_nonzero(at_kink))
            steepest = np.where(at_kink, np.maximum(steepest, max(abs(left), abs(right))), steepest)
            slope = np.where(at_kink, (left + right) / 2, slope)
            local_slope = local_slope + at_kink * abs(right - left) / 2
        value_error = steepest * z.error + np.max(local_value, axis=0) + m.eta
        slope_error = bend * z.error + np.max(local_slope, axis=0) + m.eta
        return Bounded(value, value_error, m), Bounded(slope, slope_error, m, gain=function.gain(centre))

    def softmax(self, z: Bounded) -> tuple[Bounded, Bounded, Bounded]:
        """Return p = softmax(z), 1 - p and log p over the last axis, as the image of the box around z.

        The computed logits may move each p_j by a factor between exp(-e_j) and exp(e_j) before they are normalised.
        Local error: exp(shifted) / S or exp(shifted - log S) for p, shifted - log S for log p.
        """
        m, classes = self.m, z.value.shape[-1]
        p, complement, log_p = self.plain.softmax(z.value)
        size, rest = p.astype(np.float64), complement.astype(np.float64)
        up, down = np.expm1(z.error), -np.expm1(-z.error)
        up_others, down_others = _others(size * up), _others(size * down)
        high = (rest * up + down_others) / (1 + size * up - down_others)
        low = (rest * down + up_others) / (1 - size * down + up_others)
        moved = size * np.maximum(high, np.minimum(low, 1))
        log_moved = np.log1p((1 + up) * up_others + up * rest)

        log_size = np.abs(log_p).astype(np.float64)
        log_total = log_size.min(axis=-1, keepdims=True)
        shifted = log_size - log_total
        of_sum = (size * (shifted + m.exp)).sum(axis=-1, keepdims=True) + classes - 1
        local = np.expm1(m.u * (2 * shifted + (2 + m.log) * log_total + of_sum + m.exp + 2))
        log_local = m.u * (shifted + m.log * log_total + log_size) - np.log1p(-np.minimum(m.u * of_sum, 1))

        error = np.minimum(moved + (size + moved) * local, 1)
        # a row with an unknown logit is unknown, as inf - inf is not a number
        error = np.where(np.isfinite(z.error).all(axis=-1, keepdims=True), error, np.inf) + 2 * classes * m.eta
        return (
            Bounded(p, error, m),
            Bounded(complement, error + m.u * rest, m),
            Bounded(log_p, np.where(np.isfinite(error), log_moved + log_local, np.inf) + m.eta, m),
        )

    def log(self, x: Bounded) -> Bounded:
        """Return the natural logarithm; unknown where the error of x reaches 0."""
        m = self.m
        value = np.log(x.value)
        moved = -np.log1p(-np.minimum(x.error / x.size, 1))
        return Bounded(value, moved + m.log * m.u * np.abs(value).astype(np.float64) + m.eta, m)

    def maximum(self, x: Bounded, floor: float) -> Bounded:
        """Return the larger of x and a constant. An unknown x is below 0, as the logarithms that are limited are."""
        m = self.m
        known = np.where(np.isfinite(x.error), x.error, max(-floor, 0) if floor < 0 else np.inf)
        return Bounded(np.maximum(x.value, floor), known + m.u * abs(floor), m)

    def weigh(self, weight: Bounded, x: Bounded) -> Bounded:
        """Return weight * x, and 0 where the weight is 0; unknown all the same where x is."""
        product = weight * x
        zero = (weight.value == 0) & (weight.error == 0)
        error = np.where(zero & np.isfinite(x.error), 0.0, product.error)
        return Bounded(np.where(zero, 0, product.value), error, self.m)

    def accept(self, accurate: Callable[[], Bounded], *common: Callable[[], Bounded]) -> Bounded:
        """Return the value of the most accurate formula with the largest of the common formulas' errors."""
        errors = [formula().error for formula in common]
        return Bounded(accurate().value, np.maximum.reduce(errors), self.m)


def _others(weights: Errors) -> Errors:
    """Return for each class the sum over the other classes, without the cancellation of total - own."""
    return weights @ (1 - np.eye(weights.shape[-1]))


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
