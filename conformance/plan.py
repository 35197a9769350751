"""What a run is to do: the plan, how its words are chosen, and how its examples are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from gradconform.capabilities import combined
from gradconform.conformance.checks import CHECKS, Check
from gradconform.conformance.examples import Example
from gradconform.conformance.expected import Expectations
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.results import Finding
from gradconform.conformance.strategies import declared_examples, templates
from gradconform.dtypes import DTYPES
from gradconform.errors import InvalidInput
from gradconform.network import Network
from gradconform.templates import Template, parse_template

if TYPE_CHECKING:
    from gradconform.conformance.findings import Failure

MAX_EXAMPLES = 100
TIMEOUT = 20.0
"""Seconds that one call of a candidate may take."""
SHRINK_SECONDS = 30.0
"""How long all failures of a run together are made smaller."""
CHUNK = 10
"""Examples that are drawn from one start of Hypothesis: so few that it draws each afresh."""

Networks = Network | str | Iterable[Network | str] | st.SearchStrategy[Network]
Progress = Callable[[int, int], None]


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
    drawn. None: no limit.

    `diagnose`: whether bugs are given their names, for which implementations are asked for more cases.
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
    max_findings: int | None = None
    shrink_seconds: float = SHRINK_SECONDS
    diagnose: bool = True
    expected: Expectations = field(default_factory=Expectations)
    command: str = ""
    progress: Progress = lambda done, total: None
    notify: Callable[[str], None] = lambda line: None
    found: Callable[[Finding], None] = lambda finding: None
    keep: Callable[[Failure], None] = lambda failure: None

    def examples(self) -> st.SearchStrategy[Example]:
        """Return the strategy of what all implementations declare, or any of them, where they share nothing."""
        shared = combined([entry.capabilities for entry in self.implementations])
        networks = self.networks.strategy() if isinstance(self.networks, GivenNetworks) else self.networks
        return declared_examples(shared, networks)

    def dtypes_of(self, implementation: Implementation) -> Sequence[str]:
        """Return the dtypes in which an implementation is checked."""
        return implementation.asked(self.dtypes)


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


def draw_examples(plan: Plan, chunk: int, phases: list[Phase], function: Callable[[Example], None]) -> None:
    """Call `function` with the examples of one chunk of a plan: always the same ones for the same seed.

    Hypothesis soon begins to vary examples a little instead of drawing others, which suits the search for a rare bug
    in one function; a survey of networks wants them independent. So it is started anew for every few of them.
    """
    configured = settings(
        settings.get_profile("default"),
        max_examples=CHUNK,
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

    seed(f"{plan.seed}/{chunk}")(configured(given(plan.examples())(test)))()
    if broken:
        raise broken[0]
