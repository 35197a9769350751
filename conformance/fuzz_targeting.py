"""Where a fuzzing campaign looks next: at close calls and what is near them, and at what was hardly met so far."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from gradconform.capabilities import record_class
from gradconform.conformance.campaign_work import Described, Unit
from gradconform.conformance.focus import Focus
from gradconform.conformance.fuzz_neighbours import neighbours
from gradconform.conformance.job import Job
from gradconform.conformance.plan import GivenNetworks, network_strategy
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.signals import Signals, Top, pair
from gradconform.layers import Dense
from gradconform.network import Network
from gradconform.notation import LAYERS, LOSSES, parse
from gradconform.templates import with_free_widths

KEPT = 4
"""So many close calls of a kind are kept, each in another network."""
NETWORKS, LARGE_NETWORKS = 256, 16
"""Networks of a unit, which takes a few seconds."""
DRAWS, LARGE_DRAWS = 128, 8
"""Cases of each structure: enough to be worth compiling it. In as much time 32 would meet a fifth more structures, with
a third of the comparisons."""
REGIMES_AT_ONCE = 4


class Targeting:
    """Chooses units, each by its number and by what was learnt until then."""

    def __init__(self, job: Job, described: Described) -> None:
        self.job, self.described = job, described
        self.pairs: Counter[str] = Counter()
        self._tops: dict[str, list[Top]] = {}
        shared = described.shared
        given = network_strategy(with_free_widths(job.network)) if job.network else None
        self._given = given if isinstance(given, GivenNetworks) else None
        self._free = self._given is None and not shared.networks
        """Whether structures may be chosen at all."""
        layers = LAYERS if shared.layers is None else shared.layers
        self._layers = {_kind(entry): entry for entry in layers if _kind(entry) != Dense.__name__}
        self._losses = {_kind(entry): entry for entry in shared.losses or self._possible_losses()}
        self.wanted = [
            pair(regime, kind)
            for regime in REGIMES
            for kind in (*(self._layers if self._free else ()), *(self._losses if self._free else ()))
        ]
        """The pairs of a regime with a layer or a loss that are to be met; none where the network is given."""

    def _possible_losses(self) -> list[str]:
        """Return the losses whose layer is declared."""
        return [
            name for name in LOSSES if all(kind.__name__ in self._layers for kind in record_class(name, LOSSES).follows)
        ]

    def learn(self, signals: Signals) -> None:
        """Take in what a unit tells."""
        self.pairs.update(signals.pairs)
        for key, top in signals.tops.items():
            if top.ratio <= 1:
                known = [other for other in self._tops.get(key, ()) if other.network != top.network]
                self._tops[key] = sorted([*known, top], key=lambda one: -one.ratio)[:KEPT]

    @property
    def met(self) -> int:
        """How many of the wanted pairs were met."""
        return sum(self.pairs[name] > 0 for name in self.wanted)

    def unit(self, number: int, known: dict[str, list[str]], *, settle: bool) -> Unit:
        """Return the unit of a number."""
        rng = random.Random(f"{self.job.seed}/{number}")  # noqa: S311 - what is drawn is no secret
        ways: list[tuple[Callable[[random.Random], Focus], int]] = [(self._broad, 3), (self._rare, 3), (self._close, 3)]
        if self._free:
            ways.append((self._large, 1))
        if self.described.narrow and not self.job.dtypes:
            ways.append((self._narrow, 2))
        (way,) = rng.choices([way for way, _ in ways], [weight for _, weight in ways])
        focus = way(rng)
        size = LARGE_NETWORKS if focus.why == "large" else NETWORKS
        return Unit(number=number, networks=size, focus=focus, known=known, settle=settle)

    def _broad(self, rng: random.Random) -> Focus:  # noqa: ARG002 - as all ways
        return Focus(why="broad", draws=DRAWS)

    def _rare(self, rng: random.Random) -> Focus:
        """Return a layer or a loss in regimes that it was hardly met in."""
        if not self.wanted:
            return Focus(why="rare", regimes=tuple(self._rarest(rng, list(REGIMES), "")), draws=DRAWS)
        name = rng.choices(self.wanted, [1 / (1 + self.pairs[name]) for name in self.wanted])[0]
        kind = name.rpartition(" ")[2]
        regimes = self._rarest(rng, list(REGIMES), kind)
        if kind in self._losses:
            return Focus(why="rare", losses=(self._losses[kind],), regimes=tuple(regimes), draws=DRAWS)
        other = rng.choice(list(self._layers))
        layers = dict.fromkeys([self._layers[kind], self._layers[other]])
        return Focus(why="rare", layers=tuple(layers), regimes=tuple(regimes), draws=DRAWS)

    def _rarest(self, rng: random.Random, regimes: Sequence[str], kind: str) -> list[str]:
        """Return a few regimes, those more likely that a kind of layer or loss was rarely met in."""
        weights = [1 / (1 + self._count(regime, kind)) for regime in regimes]
        return sorted(set(rng.choices(regimes, weights, k=REGIMES_AT_ONCE)))

    def _count(self, regime: str, kind: str) -> int:
        if kind:
            return self.pairs[pair(regime, kind)]
        return sum(count for name, count in self.pairs.items() if name.startswith(f"{regime} x "))

    def _close(self, rng: random.Random) -> Focus:
        """Return a network near the one of a close call, in the same regime with other numbers."""
        if not self._tops:
            return self._broad(rng)
        top = rng.choice(self._tops[rng.choice(sorted(self._tops))])
        network = parse(top.network)
        near = [network, *neighbours(network, rng, NETWORKS // DRAWS - 1, self._allowed)]
        regimes = dict.fromkeys([top.regime, rng.choice(list(REGIMES))])
        return Focus(why="close", networks=tuple(map(str, near)), regimes=tuple(regimes), draws=DRAWS)

    def _allowed(self, network: Network) -> bool:
        """Return whether a network is one that may be drawn."""
        if self._given is not None and not self._given.fits(network):
            return False
        return self.described.shared.lacks(network) is None

    def _large(self, rng: random.Random) -> Focus:
        """Return deeper and wider networks than are drawn otherwise."""
        depth, width = rng.randint(4, 7), rng.choice([20, 32, 48, 64])
        return Focus(why="large", max_dense=depth, max_units=width, draws=LARGE_DRAWS)

    def _narrow(self, rng: random.Random) -> Focus:
        """Return the types in which the fewest numbers are."""
        regimes = tuple(self._rarest(rng, list(REGIMES), rng.choice(self.described.narrow)))
        chosen = regimes if rng.random() < 0.5 else ()
        return Focus(why="narrow", dtypes=tuple(self.described.narrow), regimes=chosen, draws=DRAWS)


def _kind(entry: str) -> str:
    return entry.partition("(")[0]
