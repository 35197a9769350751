"""What the rounds of a campaign tell about where to look next: the closest calls, and which pairs were met."""

from __future__ import annotations

import msgspec

from gradconform.case import Case
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.summary import Summary


class Top(msgspec.Struct, frozen=True):
    """A close call: the largest error / bound of a kind, and the network and the regime in which it was met."""

    ratio: float
    at: str
    network: str
    regime: str


class Signals(msgspec.Struct):
    """What one round tells. `tops`: the closest call by implementation, dtype, look and check, with spaces between.

    `pairs`: in how many cases each regime was met together with each layer, loss and dtype.
    """

    tops: dict[str, Top] = msgspec.field(default_factory=dict)
    pairs: dict[str, int] = msgspec.field(default_factory=dict)


class Listener:
    """Gathers the signals of a round: `judged` is what a plan calls."""

    def __init__(self) -> None:
        self.signals = Signals()
        self._last: Case | None = None

    def judged(self, name: str, dtype: str, case: Case, numbers: str, summary: Summary) -> None:
        """Take in what came of one case of an implementation."""
        regime = numbers.removeprefix("regime ")
        if summary.comparisons and case is not self._last and regime in REGIMES:
            self._last = case
            kinds = {type(layer).__name__ for layer in case.network.layers} | {type(case.network.loss).__name__, dtype}
            for met in sorted(pair(regime, kind) for kind in kinds):
                self.signals.pairs[met] = self.signals.pairs.get(met, 0) + 1
        if summary.worst[0] > 1:
            return
        tops, network = self.signals.tops, ""
        for (look, check, path), ratio in zip(summary.arrays, summary.ratios, strict=True):
            key = f"{name} {dtype} {look} {check}"
            if ratio > (tops[key].ratio if key in tops else 0.0):
                network = network or str(case.network)
                tops[key] = Top(float(ratio), path, network, regime)


def pair(regime: str, kind: str) -> str:
    """Return how a regime and what it was met with are called together."""
    return f"{regime} x {kind}"
