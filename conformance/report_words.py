"""Numbers and names as the pages show them."""

from __future__ import annotations

import math
import re

from markupsafe import Markup

from gradconform.conformance.results import Number, Tally
from gradconform.conformance.untrusted import named

NAME = 80
"""Characters of a name that are shown."""


def name(text: str) -> str:
    """Return a name, shortened."""
    return named(text, NAME)


def title(tally: Tally) -> str:
    """Return who was compared, in which dtype."""
    return f"{name(tally.name)} {tally.dtype}"


def breakable(text: str) -> Markup:
    """Return a name, shortened, which may be broken behind its punctuation."""
    return Markup("<wbr>").join(re.split(r"(?<=[:/._-])(?=\w)", name(text)))


def humps(text: str) -> Markup:
    """Return the name of a layer or loss, which may be broken between its words."""
    return Markup("<wbr>").join(re.split(r"(?<=[a-z])(?=[A-Z])", text))


def number(value: Number | None) -> float:
    """Return a number as it was before JSON spelled it out; NaN for none."""
    try:
        return math.nan if value is None else float(value)
    except ValueError:
        return math.nan


def short(value: float) -> str:
    """Return a number in at most seven characters."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "\N{MINUS SIGN}∞"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+").replace("-", "\N{MINUS SIGN}")


def decades(ratio: float) -> str:
    """Return log10 of an error / bound, with its sign."""
    if not ratio > 0:
        return "exact"
    if math.isinf(ratio):
        return "∞"
    exponent = math.log10(ratio)
    digits = 1 if abs(exponent) >= 0.05 else 2
    return (f"{exponent:+.{digits}f}" if ratio != 1 else "0").replace("-", "\N{MINUS SIGN}")


def level(ratio: float) -> str:
    """Return the class of the colour of an error / bound: `a0` to `a4` within the bound, `b1` to `b3` beyond."""
    if not ratio > 0:
        return "a0"
    if ratio > 1:
        return "b1" if ratio <= 100 else "b2" if ratio <= 1e6 else "b3"
    return next((f"a{rank}" for rank, most in enumerate((1e-2, 1e-1, 10**-0.5), 1) if ratio <= most), "a4")
