"""Kinks: which derivative an implementation takes where either one-sided derivative is right.

At a kink every convention between the one-sided derivatives is right, but one choice must explain all that a run
gave. Tried in this order: one convention for all pre-activations that are exactly 0, with the others on the side of
their exact value, or of the one that the run showed; then every choice for the few that rounding may have moved to the
other side; and only where these are many, the whole interval, with which an element counts as KINK and not as PASS.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradconform.case import Array
from gradconform.network import Network
from gradconform.reference.bounding import Shares, Site
from gradconform.reference.bounds import Expected
from gradconform.reference.functions import has_kink

SIDES = (0.0, 1.0)
CONVENTIONS = (*SIDES, 0.5)
"""The usual shares of the right-sided derivative at exactly 0: the left-sided, the right-sided, and their mean."""
FEW = 6
"""So many pre-activations may lie near a kink for every choice of their sides to be tried."""
STEPS = 64
"""Into so many parts an interval is divided, again and again, in search of an unusual convention."""

Evaluate = Callable[[Sequence[Shares]], Expected]
Worst = Callable[[Expected], Array]


@dataclass(frozen=True, eq=False)
class Resolution:
    """What to compare with. `closed` has one choice at all kinks, where `expected` leaves them open."""

    expected: Expected
    closed: Expected | None = None


def resolve(
    expected: Expected,
    evaluate: Evaluate,
    worst: Worst,
    measured: dict[str, float],
    shown: Sequence[Site] | None = None,
) -> Resolution:
    """Return the expected gradients of the choice at kinks that explains what a run gave.

    expected: with all kinks left open. evaluate: the same for given shares of the right-sided derivative, an array
    for each site, which may have one more axis of choices before the others. worst: the largest error / bound of what
    the run gave, for each choice. measured: the conventions at exactly 0 as they are known of the implementation, by
    the layer's name; what is found out is added. shown: the sites on the sides on which the run showed them, if it did.
    """
    if not expected.kinks or worst(expected) > 1:
        return Resolution(expected)
    best, least = expected, np.inf
    for sites in [expected.sites] if shown is None else [expected.sites, shown]:
        for conventions, shares in _by_convention(sites, measured):
            closed = evaluate(shares)
            ratio = float(worst(closed)[0])
            if ratio <= 1:
                _learn(sites, conventions, evaluate, worst, measured)
                return Resolution(closed)
            if ratio < least:
                best, least = closed, ratio
    near = [(index, place) for index, site in enumerate(expected.sites) for place in np.argwhere(site.near)]
    if len(near) > FEW:
        return Resolution(expected, best)
    for choices in (SIDES, CONVENTIONS):
        together = _by_unit(expected.sites, near, choices)
        ratios = worst(evaluate(together))
        if ratios.min() <= 1:
            return Resolution(evaluate([shares[np.argmin(ratios)] for shares in together]))
    return Resolution(_between(expected.sites, evaluate, worst) or best)


def _by_convention(
    sites: Sequence[Site], measured: Mapping[str, float]
) -> Iterator[tuple[dict[str, float], list[Shares]]]:
    """Yield every choice of one convention per layer, what is known first, with the shares that it means."""
    layers = sorted({site.layer for site in sites if at_zero(site)})
    known = [[measured[layer]] if layer in measured else [] for layer in layers]
    orders = [[*first, *(share for share in CONVENTIONS if share not in first)] for first in known]
    for choice in itertools.product(*orders):
        conventions = dict(zip(layers, choice, strict=True))
        yield conventions, [shares_of(site, conventions.get(site.layer, 0.0)) for site in sites]


def at_zero(site: Site) -> bool:
    """Return whether a pre-activation lies exactly at the kink."""
    return bool(np.any(site.near & (site.side == 0)))


def shares_of(site: Site, convention: float | Array) -> Shares:
    """Return the share of the right-sided derivative of each pre-activation: `convention` where it is exactly 0."""
    return np.where(site.side == 0, convention, (site.side + 1) / 2)


def as_shown(network: Network, inputs: Array, outputs: Mapping[int, Array], sites: Sequence[Site]) -> Sequence[Site]:
    """Return the sites with the pre-activations near a kink on the side on which a run showed them.

    outputs: those of the layers, by index; where one is not shown, or is NaN, the side of the exact value stays.
    """
    kinked = [index for index, layer in enumerate(network.layers) if has_kink(layer)]
    found = []
    for number, site in enumerate(sites):
        # behind those of the layers comes that of a loss that clips
        index = kinked[number] if number < len(kinked) else -1
        shown = inputs if index == 0 else outputs.get(index - 1)
        if index < 0 or shown is None:
            found.append(site)
        else:
            told = site.near & ~np.isnan(shown)
            side = np.sign(np.where(told, shown, shown.dtype.type(0))).astype(int)
            found.append(replace(site, side=np.where(told, side, site.side)))
    return found


def _by_unit(sites: Sequence[Site], near: Sequence[tuple[int, Array]], choices: Sequence[float]) -> list[Shares]:
    """Return every way to take one of `choices` for each of the pre-activations near a kink.

    The mean is one of them beside the sides: of those that are exactly 0, some may be computed as 0 and others not.
    """
    chosen = np.array(list(itertools.product(choices, repeat=len(near))))
    shares = [np.repeat(shares_of(site, 0.0)[None], len(chosen), axis=0) for site in sites]
    for (index, place), share in zip(near, chosen.T, strict=True):
        shares[index][:, *place] = share
    return shares


def _between(sites: Sequence[Site], evaluate: Evaluate, worst: Worst) -> Expected | None:
    """Return what an unusual convention, one for all that is exactly 0, explains.

    The error falls up to the share that was taken and rises from there. The share is wanted to the last digit of
    float64, since a bound may be a single rounding.
    """
    low, high, width = 0.0, 1.0, np.inf
    while high - low < width:
        width = high - low
        grid = np.linspace(low, high, STEPS + 1)
        ratios = worst(evaluate([shares_of(site, grid[:, None, None]) for site in sites]))
        best = int(np.argmin(ratios))
        if ratios[best] <= 1:
            return evaluate([shares_of(site, float(grid[best])) for site in sites])
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, STEPS)])
    return None


def _learn(
    sites: Sequence[Site], found: dict[str, float], evaluate: Evaluate, worst: Worst, measured: dict[str, float]
) -> None:
    """Note the convention of each layer for which no other one would have explained the same."""
    for layer, share in found.items():
        if measured.get(layer) == share:
            continue
        others = [found | {layer: other} for other in CONVENTIONS if other != share]
        if all(worst(evaluate([shares_of(site, c.get(site.layer, 0.0)) for site in sites])) > 1 for c in others):
            measured[layer] = share
