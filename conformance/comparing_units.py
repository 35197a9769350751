"""How much of a difference is rounding: units that are measured on the two models themselves.

One unit, of each element of each quantity, is the largest of

- how far the element moves in either model when every parameter and every input is moved by one unit in the last
  place, at random, a few times. That shows the condition of the problem, and, since every number on the way is then
  rounded anew, also what the model's own way to compute it loses (the idea of Monte Carlo arithmetic: D. S. Parker,
  "Monte Carlo arithmetic", UCLA CSD-970002, 1997; CESTAC: J. Vignes, Math. Comput. Simul. 35, 1993);
- the error of the model's float32 run, against its own float64 run, scaled by the ratio of the two precisions: what
  does not depend on chance, such as a long sum of equal terms, shows there;
- one unit in the last place of the largest element of the quantity;
- where float32 has lost every digit of an element in both models, so that its error cannot be scaled, one unit in the
  last place of the largest gradient of all: the derivative of a saturated tanh is 0 in one kernel and 1e-16 in another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradconform.case import Array
from gradconform.dtypes import is_floating

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}
RATIO = EPSILON["float64"] / EPSILON["float32"]
SAMPLES = 5
"""How often parameters and inputs are moved."""
ORDINARY = 2.0**8
"""So many units are rounding whatever the kernels: the worst known one loses 126 (XLA's log1p, docs/conventions.md)."""
HALFWAY = 2.0**14.5
"""More units than this, in float64, and the difference is no rounding.

Were the models equal, the difference would be some units of float64; of a difference that training in float32 can
show, it is at least some units of float32, 2^29 of float64. The limit lies halfway between, in exponents.
"""
LIMITS = {"float64": HALFWAY, "float32": ORDINARY}
"""More units than this are a difference, by the precision that decides."""
HALF = {"float64": 2.0**-26, "float32": 2.0**-11.5}
"""Half of the digits. Where one unit in the last place of the inputs moves an element by this share of the largest,
there is a kink or chaos, and nothing can be told."""

Key = tuple[str, str]
"""What a quantity is (`place`, `outputs`, `loss`, `gradient` or `input`), and its name in the first model."""
Look = Mapping[Key, Array]


class Looks(NamedTuple):
    """What one model gave in its two runs, as float64 arrays."""

    double: Look
    single: Look

    def of(self, dtype: str) -> Look:
        """Return the run in `dtype`."""
        return self.double if dtype == "float64" else self.single


@dataclass(frozen=True, eq=False)
class Judged:
    """One quantity of two models in the precision that decides. Arrays are in the first model's layout."""

    key: Key
    first: Array
    second: Array
    error: Array
    unit: Array
    dtype: str
    scale: float = 0.0
    """Of a gradient: the size of the largest element of all gradients."""
    single_units: float = 0.0
    """How many units of float32 the float32 runs differ by, at worst."""
    coarse: tuple[float, ...] = ()
    """How many times more than float32's rounding either model's float32 run loses, at worst; empty if that is open."""
    absent: str = ""
    """Which model gives none, where one does not."""
    shape: str = ""
    """What is wrong with the shapes, where something is."""

    @property
    def limit(self) -> float:
        """More units than this are a difference."""
        return LIMITS[self.dtype]

    @property
    def ratio(self) -> Array:
        """Error / unit of each element; 0 where both are the same, inf where one alone is not finite."""
        return _ratio(self.error, self.unit)

    def with_second(self, second: Array | None, which: int = 1) -> float:
        """Return the units by which the first (1) or the second (0) model's value differs from another array."""
        known = self.first if which else self.second
        if second is None or second.shape != known.shape:
            return np.inf
        return float(_ratio(_error(known, second), self.unit).max(initial=0.0))

    @property
    def units(self) -> float:
        """The number of units at the worst element."""
        return float(self.ratio.max(initial=0.0))

    @property
    def index(self) -> tuple[int, ...]:
        """Where the worst element is."""
        if not self.ratio.size:
            return ()
        return tuple(int(i) for i in np.unravel_index(int(np.argmax(self.ratio)), self.ratio.shape))

    @property
    def unstable(self) -> bool:
        """Whether a visible difference is excused by elements that a unit in the inputs moves as visibly."""
        top = self._top
        half = HALF[self.dtype] * top
        excused = (self.error > half) & (self.unit > half) & (self.ratio <= self.limit)
        return bool(excused.any()) and self.units <= self.limit

    @property
    def vanishes(self) -> bool:
        """Whether both are 0 up to the rounding of the other gradients, as of a bias before a batch norm."""
        return self._top <= self.limit * EPSILON[self.dtype] * self.scale

    @property
    def differs(self) -> bool:
        """Whether rounding cannot explain the difference."""
        return bool(self.shape) or self.units > self.limit or (bool(self.absent) and self._top > 0)

    @property
    def verdict(self) -> str:
        """One word for the table."""
        if self.shape:
            return "SHAPE"
        if self.differs:
            return "MISSING" if self.absent else "DIFFERS"
        if not np.isfinite(self.first).any() and self.first.size:
            return "nonfinite"
        if self.vanishes:
            return "zero"
        if self.unstable:
            return "unstable"
        return "equal" if not self.error.any() else "rounding" if self.units <= ORDINARY else "faint"

    @property
    def sharpness(self) -> float | None:
        """The smallest relative error of the whole quantity that would have been a difference; None for zeros."""
        with np.errstate(all="ignore"):
            size = np.nanmax(np.abs(self.first) / self.unit, initial=0.0)
        return None if size == 0 else float(self.limit / size)

    @property
    def _top(self) -> float:
        finite = np.concatenate([np.abs(array[np.isfinite(array)]).ravel() for array in (self.first, self.second)])
        return float(finite.max(initial=0.0))


def move(values: Mapping[str, Array], generator: np.random.Generator, dtype: str, *, zeros: bool) -> dict[str, Array]:
    """Return floating-point arrays in `dtype` with every number moved up or down by about a unit in the last place.

    `zeros`: zeros too, by a unit of the array's root mean square, or of 1 in an array of zeros: a bias of zeros may
    hold units at their kink. Inputs keep their zeros, which may be padding or a mask.
    """
    moved = {}
    for name, array in values.items():
        if not is_floating(array.dtype):
            moved[name] = array
            continue
        wide = array.astype(np.float64)
        size = np.abs(wide)
        if zeros and wide.size:
            size = np.where(wide == 0, float(np.sqrt(np.mean(wide**2))) or 1.0, size)
        signs = generator.choice([-1.0, 1.0], wide.shape)
        moved[name] = (wide + signs * EPSILON[dtype] * size).astype(dtype)
    return moved


def largest(looks: Sequence[Looks], dtype: str) -> float:
    """Return the size of the largest finite element of all gradients of both models."""
    gradients = [array for look in looks for key, array in look.of(dtype).items() if key[0] == "gradient"]
    return max((float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) for array in gradients), default=0.0)


def judge(key: Key, looks: Sequence[Looks], moved: Sequence[Sequence[Array]], dtype: str, scale: float = 0.0) -> Judged:
    """Return the comparison of one quantity that both models gave, decided in `dtype`.

    `moved`: the quantity in each model's runs on moved numbers, in `dtype`. `scale`: the size of the largest gradient,
    for gradients.
    """
    a, b = (look.of(dtype)[key] for look in looks)
    if a.shape != b.shape:
        nothing = np.zeros(())
        return Judged(key, a, b, nothing, nothing, dtype, shape=f"{a.shape} and {b.shape}")
    with np.errstate(all="ignore"):
        unit = np.zeros(a.shape)
        lost = np.ones(a.shape, bool)
        coarse = []
        for look, value, others in zip(looks, (a, b), moved, strict=True):
            finite = np.isfinite(value)
            own = np.full(a.shape, EPSILON[dtype] * np.abs(value[finite]).max(initial=0.0))
            for other in others:
                # where a run overflows, and this one does not, the other runs tell
                own = np.fmax(own, np.where(np.isfinite(other - value), np.abs(other - value), 0.0))
            if dtype == "float64":
                error = np.abs(look.single[key] - value)
                error = np.where(np.isfinite(error), error, 0.0)
                known = error < np.abs(value) / 2
                lost &= ~known
                coarse.append(float(_ratio(RATIO * error, own)[known].max(initial=0.0)))
                own = np.maximum(own, RATIO * error)
            unit = np.maximum(unit, own)
        unit = np.where(lost, np.maximum(unit, EPSILON[dtype] * scale), unit)
        single_unit = unit / RATIO if dtype == "float64" else unit
        single_error = _error(*(look.single[key] for look in looks))
        single_units = float(_ratio(single_error, single_unit).max(initial=0.0))
    return Judged(key, a, b, _error(a, b), unit, dtype, scale, single_units, tuple(coarse))


def _ratio(error: Array, unit: Array) -> Array:
    """Return error / unit, 0 where there is no error."""
    with np.errstate(all="ignore"):
        return np.where(error == 0, 0.0, error / unit)


def _error(a: Array, b: Array) -> Array:
    """Return |a - b|: 0 where both are NaN or the same infinity, inf where one alone is not finite."""
    with np.errstate(all="ignore"):
        error = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def absent(key: Key, shown: Array, who: str, dtype: str) -> Judged:
    """Return the comparison of a quantity that one model, `who`, or both do not give, and one has as `shown`."""
    nothing = np.zeros_like(shown)
    return Judged(key, shown, nothing, nothing, nothing, dtype, absent=who)


def said(key: Key) -> str:
    """Return what a quantity is in words."""
    kinds = {"gradient": "gradient of ", "input": "gradient with respect to ", "place": "value of "}
    return f"{kinds.get(key[0], '')}{key[1] or key[0]}"
