"""What a run is to do: the plan, how its words are chosen, and how its examples are drawn."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from gradconform.capabilities import Capabilities, combined
from gradconform.conformance.adapter_names import VMAP
from gradconform.conformance.checks import CHECKS, Check
from gradconform.conformance.coverage import Axis
from gradconform.conformance.drawing import without_constants_of_modules
from gradconform.conformance.examples import Example
from gradconform.conformance.expected import Expectations
from gradconform.conformance.focus import EVERYTHING_DRAWN, Focus
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import Finding, Result
from gradconform.conformance.rotation import Rotation, rotation_of
from gradconform.conformance.strategies import DRAWS, declared_examples, templates
from gradconform.dtypes import DTYPES
from gradconform.errors import InvalidInput
from gradconform.network import Network
from gradconform.templates import Template, parse_template

if TYPE_CHECKING:
    from gradconform.case import Case
    from gradconform.conformance.findings import Failure
    from gradconform.conformance.summary import Summary

MAX_EXAMPLES = 100
UNLIMITED = sys.maxsize
"""As many networks as there is time for."""
TIMEOUT = 20.0
"""Seconds that one call of a candidate may take."""
SHRINK_SECONDS = 30.0
"""How long all failures of a run together are made smaller."""
CHUNK = 10
"""Examples that are drawn from one start of Hypothesis: so few that it draws each afresh."""
ROUND = 32
"""Networks of a round. A run is a series of rounds that know nothing of each other, so that they add up to the same
totals in whatever process each of them is run."""
BROAD = 8
"""So many rounds begin a run with many structures."""
DEEP = 128
"""Networks of each later round, cases of one structure."""
LATE, DEEPEST = 24, 512
"""From which round on they are as many: what a structure costs, to draw, to compile and to call NumPy for its bounds,
is little beside so many gradients. Until then a run of a few thousand networks meets many structures."""
COMPILED_DRAWS = 8
"""Cases of a structure where it is compiled, in the first rounds."""
ALONE = 8
SEVERAL = 32
"""Of a structure with at least `SEVERAL` cases only `ALONE` are called one by one, where a framework has a `vmap`: that
computes all of them at once, for the time of a few calls."""

Networks = Network | str | Iterable[Network | str] | st.SearchStrategy[Network]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class GivenNetworks:
    """The only networks of a run, some with free widths."""

    templates: tuple[Template, ...]

    def strategy(self) -> st.SearchStrategy[Network]:
        """Return the strategy that draws them."""
        if not any(template.free for template in self.templates):
            return st.sampled_from([template.network for template in self.templates])
        return st.one_of(*map(templates, self.templates))

    def fits(self, network: Network) -> bool:
        """Return whether a network is one of them."""
        return any(template.fits(network) for template in self.templates)


DrawnNetworks = GivenNetworks | st.SearchStrategy[Network]


@dataclass
class Plan:
    """What a run is to do.

    `notify` is called with a line for each finding's first failing case, before it is shrunk; `found` with each finding
    as soon as it is small, before votes and counts are known. `max_findings`: the run ends when it has so many.

    `keep` is called with each such failure as well, and again when it has become smaller.

    `timeout`: seconds a call may take; `max_memory`: bytes it may allocate; `max_time`: seconds until nothing more is
    drawn, on `clock`, from `started` on; None: no limit, and from the start of the run on.

    `diagnose`: whether bugs are given their names, for which implementations are asked for more cases.

    `judged` is called with what came of every case of an implementation in a dtype, and where its numbers came from.
    `log` is called after every network with what gives the result so far, and with True where something was found.
    `known`: the keys of bugs, by implementation, that were told before: they are counted, and neither made small nor
    named again.

    `rounds`: the only rounds that are run, by their numbers from 0 on; None: all that it takes. `draws`: cases of each
    structure; None: as many as suit the round and what is checked. `focus`: what of all that is drawn.

    `required`: of these every value that is drawn has to be met by a case that could tell; else the run is not covered.
    """

    implementations: Sequence[Implementation]
    max_examples: int = MAX_EXAMPLES
    seed: int = 0
    networks: DrawnNetworks | None = None
    dtypes: Sequence[str] | None = None
    checks: Sequence[Check] = field(default_factory=lambda: list(CHECKS.values()))
    affine: bool = False
    witnesses: bool = True
    timeout: float | None = TIMEOUT
    max_memory: int | None = None
    max_time: float | None = None
    started: float | None = None
    clock: Callable[[], float] = time.monotonic
    max_findings: int | None = None
    shrink_seconds: float = SHRINK_SECONDS
    diagnose: bool = True
    rounds: Sequence[int] | None = None
    draws: int | None = None
    focus: Focus = EVERYTHING_DRAWN
    required: Sequence[Axis] = ()
    expected: Expectations = field(default_factory=Expectations)
    command: str = ""
    progress: Progress = lambda done, total: None
    notify: Callable[[str], None] = lambda line: None
    found: Callable[[Finding], None] = lambda finding: None
    keep: Callable[[Failure], None] = lambda failure: None
    judged: Callable[[str, str, Case, str, Summary], None] = lambda name, dtype, case, numbers, summary: None
    log: Callable[[Callable[[], Result], bool], None] = lambda so_far, at_once: None
    known: Mapping[str, Collection[str]] = field(default_factory=dict)

    def examples(self, round_: int = 0) -> st.SearchStrategy[Example]:
        """Return the strategy of what all implementations declare, or any of them, where they share nothing."""
        networks = self.networks.strategy() if isinstance(self.networks, GivenNetworks) else self.networks
        if self.focus.networks:
            networks = None
        return declared_examples(self.declared, networks, self.draws_in(round_), self.focus)

    @cached_property
    def declared(self) -> Capabilities:
        """What all implementations declare, or any of them, where they share nothing; of that what the focus names."""
        return self.focus.of(combined([entry.capabilities for entry in self.implementations]))

    @cached_property
    def rotation(self) -> Rotation:
        """In which order the run meets what is declared."""
        given = self.networks is not None or bool(self.focus.networks)
        return rotation_of(self.declared, self.seed, self.focus.regimes or tuple(REGIMES), given=given)

    def draws_in(self, round_: int) -> int:
        """Return how many cases each structure of a round has."""
        fixed = self.focus.draws or self.draws
        if fixed or round_ >= BROAD:
            return fixed or networks_in(round_)
        return COMPILED_DRAWS if self.declared.compiled else DRAWS

    def turned(self, example: Example, round_: int, network: int) -> Example:
        """Return an example with what is next in the rotation; `network`: the number of its first one in its round."""
        structures = sum(
            rounds * math.ceil(networks / self.draws_in(first)) for first, rounds, networks in _stages_before(round_)
        )
        number = structures + network // self.draws_in(round_)
        return self.rotation.turned(example, number, networks_before(round_) + network)

    @property
    def networks_by_round(self) -> Iterator[tuple[int, int]]:
        """The rounds that are run: the number of each, and how many networks it has."""
        chosen = itertools.count() if self.rounds is None else self.rounds
        for number in chosen:
            left = self.max_examples - networks_before(number)
            if left > 0:
                yield number, min(left, networks_in(number))
            elif self.rounds is None:
                return

    @cached_property
    def total(self) -> int | None:
        """How many networks all of its rounds have; None where there are as many as there is time for."""
        if self.rounds is not None:
            return sum(count for _, count in self.networks_by_round)
        return None if self.max_examples == UNLIMITED else self.max_examples

    @cached_property
    def beside(self) -> dict[str, Implementation]:
        """The implementations by vmap that are judged beside those that are asked for, by the names of these.

        They are where a structure has many cases and gradients are held against the reference, if nobody asks for them.
        """
        later = self.max_examples > networks_before(BROAD) and (self.rounds is None or max(self.rounds) >= BROAD)
        draws = self.focus.draws or self.draws or (DEEP if later else 0)
        if draws < SEVERAL or self.affine or all(check.relation for check in self.checks):
            return {}
        asked = {entry.name for entry in self.implementations}
        found = [(entry.name, entry.by_vmap) for entry in self.implementations if entry.by_vmap is not None]
        return {name: by_vmap for name, by_vmap in found if by_vmap.name not in asked}

    @property
    def everyone(self) -> list[Implementation]:
        """All implementations that are judged."""
        return [entry for entry, _ in self.calls(SEVERAL)]

    def calls(self, cases: int) -> Iterator[tuple[Implementation, int]]:
        """Yield who is judged on so many cases of a structure, and on how many of them."""
        for entry in self.implementations:
            by_vmap = self.beside.get(entry.name) if cases >= SEVERAL else None
            yield entry, cases if by_vmap is None else ALONE
            if by_vmap is not None:
                yield by_vmap, cases

    def dtypes_of(self, implementation: Implementation) -> Sequence[str]:
        """Return the dtypes in which an implementation is checked."""
        return implementation.asked(self.dtypes)


def at_once(name: str) -> str:
    """Return the note of an implementation by vmap that is judged beside its framework's own."""
    framework = name.removesuffix(VMAP)
    return (
        f"{name}: {framework}'s vmap, called with all cases of a structure at once where these are {SEVERAL} or more; "
        f"{framework} itself was called with {ALONE} of those, one by one"
    )


def networks_in(round_: int) -> int:
    """Return how many networks a round has."""
    return ROUND if round_ < BROAD else DEEP if round_ < LATE else DEEPEST


def networks_before(round_: int) -> int:
    """Return how many networks the rounds before one have together."""
    return sum(rounds * networks for _, rounds, networks in _stages_before(round_))


def _stages_before(round_: int) -> Iterator[tuple[int, int, int]]:
    """Yield which rounds before one are alike: the first of them, how many they are, and the networks of each."""
    for first, end in ((0, BROAD), (BROAD, LATE), (LATE, round_)):
        if first < round_:
            yield first, min(end, round_) - first, networks_in(first)


def rounds_of(networks: int) -> int:
    """Return how many rounds so many networks are."""
    for first in (LATE, BROAD, 0):
        if (left := networks - networks_before(first)) > 0:
            return first + math.ceil(left / networks_in(first))
    return 0


class Enough(Exception):
    """As many networks were judged as the plan wants."""


def network_strategy(networks: Networks | None) -> DrawnNetworks | None:
    """Return what draws the given networks, in notation with `*` for a free width; None for what is declared."""
    if networks is None or isinstance(networks, st.SearchStrategy):
        return networks
    if not isinstance(networks, Network | str | Iterable):
        raise InvalidInput(f"networks: expected networks, notation or a strategy, got {networks!r}")
    several = [networks] if isinstance(networks, Network | str) else list(networks)
    if not several:
        raise InvalidInput("networks: expected at least one")
    for network in several:
        if not isinstance(network, Network | str):
            raise InvalidInput(f"networks: expected networks or notation, got {network!r}")
    chosen = [parse_template(network) if isinstance(network, str) else Template("", network, ()) for network in several]
    return GivenNetworks(tuple(chosen))


def choose_checks(only: Sequence[str], exclude: Sequence[str]) -> list[Check]:
    """Return the checks with the ids `only`, or all, without those of `exclude`."""
    for name in [*only, *exclude]:
        if name not in CHECKS:
            raise InvalidInput(f"check {name!r} is unknown; the checks are {', '.join(CHECKS)}")
    chosen = [entry for name, entry in CHECKS.items() if (not only or name in only) and name not in exclude]
    if not chosen:
        raise InvalidInput("no check is left: every one that was asked for is excluded")
    return chosen


def choose_dtypes(dtypes: Sequence[str]) -> Sequence[str]:
    """Return the dtypes by name; raises `InvalidInput` for one without a rounding model."""
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise InvalidInput(f"dtype {dtype!r} is not supported; use {', '.join(DTYPES)}")
    return dtypes


@dataclass(frozen=True)
class Chunk:
    """The examples of one start of Hypothesis: of which round of a run, which of its starts it is, and how many."""

    round: int = 0
    start: int = 0
    count: int = CHUNK


def draw_examples(plan: Plan, chunk: Chunk, phases: list[Phase], function: Callable[[Example], None]) -> None:
    """Call `function` with the examples of one chunk of a plan: always the same ones for the same seed.

    Hypothesis soon begins to vary examples a little instead of drawing others, which suits the search for a rare bug
    in one function; a survey of networks wants them independent. So it is started anew for every few of them.
    """
    configured = settings(
        settings.get_profile("default"),
        max_examples=chunk.count,
        phases=phases,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
    )

    broken: list[Exception] = []

    def test(example: Any) -> None:
        if broken:
            return
        try:
            function(example)
        except Enough:
            raise
        except Exception as error:
            # Hypothesis would try again, which a run with its counts is not made for
            broken.append(error)

    with without_constants_of_modules():
        seed(f"{plan.seed}/{chunk.round}/{chunk.start}")(configured(given(plan.examples(chunk.round))(test)))()
    if broken:
        raise broken[0]
