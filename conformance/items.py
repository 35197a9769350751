"""Pytest items: one for each group of checks and dtype, for the suite and for tests of anybody's own.

import gradconform as gc

@gc.conformance_tests("my_package.adapter:gradients", expected_failures={"input": "not computed yet"})
def test_conformance(check):
    check()
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hypothesis import strategies as st

from gradconform.capabilities import Capabilities
from gradconform.conformance import implementations as known
from gradconform.conformance.checks import CHECKS, Check
from gradconform.conformance.diagnosis import diagnose
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Example
from gradconform.conformance.expected import (
    AGREEMENT,
    CALL,
    Expectations,
    Expected,
    read_expected,
    require_known,
    unexpected_pass,
)
from gradconform.conformance.findings import Failure, Origin, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import (
    COMPILED_DRAWS,
    Chunk,
    DrawnNetworks,
    Networks,
    Plan,
    choose_dtypes,
    network_strategy,
)
from gradconform.conformance.plugin import JUDGED, asked
from gradconform.conformance.profiles import PROFILES
from gradconform.conformance.shrinking import shrink
from gradconform.conformance.situation import Situation
from gradconform.conformance.strategies import DRAWS
from gradconform.conformance.wrapping import filled
from gradconform.errors import GradconformError, InvalidInput
from gradconform.losses import SoftmaxCrossEntropy
from gradconform.network import Network
from gradconform.templates import parse_template

GROUPS: dict[str, list[Check]] = {
    AGREEMENT: [check for check in CHECKS.values() if not check.relation],
    **{check.id: [check] for check in CHECKS.values() if check.relation},
}
"""The checks of each item. Those of agreement share what they compare with, and the gradients are always there."""

SEVERAL_SAMPLES = {"batch-permutation", "sum-of-samples", "sample-twice", "stateless"}
"""The relations between the samples of a batch."""

SHARE, FEWEST = 0.8, 4
"""Of the structures of an item, which part is compiled, with twice the cases each; and how many are at least."""

OF_SAMPLES, OF_OTHERS = {"sum-of-samples", "sample-twice"}, {"delta-rows", "cotangent-linearity"}
"""The groups that ask for batches of one sample too, and those that draw networks of their own: they have few shapes in
common with other groups."""


@dataclass
class _ItemPlan(Plan):
    """A plan for one group of checks: of batches of the sizes that they are about."""

    group: str = AGREEMENT

    def examples(self, round_: int = 0) -> st.SearchStrategy[Example]:
        return super().examples(round_).map(self._sized)

    def turned(self, example: Example, round_: int, network: int) -> Example:
        return self._sized(super().turned(example, round_, network))

    def _sized(self, example: Example) -> Example:
        if self.group == "sample-twice":
            return replace(example, rows=1)
        return replace(example, rows=max(2, example.rows)) if self.group in SEVERAL_SAMPLES else example


@dataclass(eq=False)
class Item:
    """A group of checks on one implementation in one dtype. Calling it checks, and fails the running test.

    `max_examples`: structures, each with several cases; where each shape is compiled, fewer with more. `counts`: how
    many comparisons were made, by title.
    """

    group: str
    implementation: Implementation
    dtype: str
    networks: DrawnNetworks | None = None
    max_examples: int = PROFILES["default"].structures
    seed: int = 0
    expected: tuple[Expected, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    called: bool = False
    examined: tuple[Example, str] | None = None
    """The example that failed, with its text."""
    examples: int = 0
    """How many were examined."""

    @property
    def draws(self) -> int:
        """How many cases each structure has."""
        return COMPILED_DRAWS if self.implementation.capabilities.compiled else DRAWS

    @property
    def structures(self) -> int:
        """How many structures there are: fewer where each is compiled, but not so few that a check applies to none."""
        if not self.implementation.capabilities.compiled:
            return self.max_examples
        return min(self.max_examples, max(FEWEST, math.ceil(SHARE * self.max_examples)))

    @property
    def plan(self) -> Plan:
        """What the item is to do."""
        return _ItemPlan(
            [self.implementation],
            max_examples=self.structures * self.draws,
            draws=self.draws,
            seed=self.seed,
            networks=self.networks,
            dtypes=[self.dtype],
            checks=GROUPS[self.group],
            expected=Expectations(self.expected),
            group=self.group,
        )

    def __call__(self) -> None:
        """Check. Raises pytest's failure with the findings, or its expected failure with the reasons."""
        import pytest

        __tracebackhide__ = True
        self.called = True
        self.counts.clear()
        plan = self.plan
        expected, result = plan.expected, run(plan)
        self.counts[self.title] += result.comparisons
        texts = [finding_text(finding) for finding in result.findings]
        if not texts and not result.comparisons:
            texts = [nothing_compared(judged=sum(tally.cases for tally in result.implementations) > 0)]
        if not texts and result.verdict != "interrupted":
            # what a call raises may show in any item, and has to in one
            unmet = [key for key in expected.unmet if key.check != CALL or self.group == AGREEMENT]
            sentences = [unexpected_pass(self.implementation.name, key, result.networks) for key in unmet]
            texts = ["\n".join(filled(sentence)) for sentence in sentences]
        if texts:
            pytest.fail("\n\n".join(texts), pytrace=False)
        if expected.met:
            pytest.xfail(expected.reasons())

    def parameter(self, name: str) -> Any:
        """Return the item as a parameter of a test, under a name.

        Where each shape is compiled, items that have them in common are of one group for `pytest --dist loadgroup`: one
        worker compiles for all of them.
        """
        import pytest

        if not self.implementation.capabilities.compiled:
            return pytest.param(self, id=name)
        others = self.group if self.group in OF_OTHERS else "samples" if self.group in OF_SAMPLES else "batches"
        group = f"{self.implementation.name}-{self.dtype}-{others}"
        return pytest.param(self, id=name, marks=pytest.mark.xdist_group(group))

    @property
    def title(self) -> str:
        """Under which the comparisons are counted."""
        return f"{self.implementation.title} {self.dtype}"

    def examine(self, example: Example, counts: Counter[str]) -> str | None:
        """Judge the cases of an example and count; return the text of what failed, made small, in the first that does.

        Hypothesis asks for an example that failed once more: it gets the same answer. It draws as many for every item;
        those behind the item's own number are not looked at.
        """
        if self.examined is not None and self.examined[0] == example:
            return self.examined[1]
        if self.examples >= self.structures:
            return None
        self.examples += 1
        for draw in example.draws:
            situation = Situation(example.case(draw, self.dtype))
            judgement = judge(self.implementation, situation, GROUPS[self.group])
            counts[JUDGED] += judgement.unsupported is None
            if judgement.comparisons:
                counts[self.title] += len(judgement.comparisons)
            if judgement.root is not None:
                origin, plan = Origin(Chunk(), example, draw), self.plan
                failure = Failure(
                    self.implementation, self.dtype, situation, judgement, f"regime {draw.regime}", origin
                )
                failure = shrink(plan, failure, time.monotonic() + plan.shrink_seconds)
                if plan.diagnose:
                    failure = replace(failure, diagnosis=diagnose(failure, plan))
                self.examined = example, finding_text(finding_of(failure, "", []))
                return self.examined[1]
        return None


def conformance_tests(
    candidate: object,
    *,
    networks: Networks | None = None,
    dtypes: Sequence[str] | None = None,
    max_examples: int | None = None,
    seed: int | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that makes a test with the argument `check` into one pytest item a check and dtype.

    candidate: what `gradconform.check` takes: a function, an object, a module, a target as on the command line.
    networks: one network or several, as records or in notation, or a Hypothesis strategy; default: what it declares.
    dtypes: default what it declares.
    max_examples: structures an item, each with several cases; default: as `--gradconform-profile` says.
    seed: the same seed draws the same; default: that of `--gradconform-seed` or of the profile, else 0.
    expected_failures: reasons by key, such as `{"parameters WRONG Dense.bias": "issue 12"}`. What they name is shown as
        an expected failure (xfail); where it does not happen, that is a failure.

    What cannot be used, a key that names no item among it, is an error at collection.
    """
    import pytest

    try:
        if max_examples is None:
            max_examples = asked.max_examples
        if not isinstance(max_examples, int) or max_examples < 1:
            raise InvalidInput(f"max_examples: expected an integer of at least 1, got {max_examples!r}")
        implementation = known.of(candidate)
        chosen = items(
            implementation,
            networks,
            None if dtypes is None else choose_dtypes(dtypes),
            max_examples=max_examples,
            seed=(asked.seed or 0) if seed is None else seed,
        )
        keys = read_expected(expected_failures)
        groups = list(dict.fromkeys(item.group for item in chosen))
        checks = [check.id for group in groups for check in GROUPS[group]]
        require_known(keys, checks, list(dict.fromkeys(item.dtype for item in chosen)))
    except GradconformError as error:
        # as pytest tells what cannot be collected: one line, no frames
        raise pytest.Collector.CollectError(f"gradconform: {error}") from None
    for item in chosen:
        item.expected = tuple(key for key in keys if _concerns(key, item))
    return pytest.mark.parametrize("check", [item.parameter(f"{item.group}-{item.dtype}") for item in chosen])


def items(
    implementation: Implementation,
    networks: Networks | None = None,
    dtypes: Sequence[str] | None = None,
    *,
    max_examples: int = PROFILES["default"].structures,
    seed: int = 0,
) -> list[Item]:
    """Return the items of an implementation: every group that applies to what it declares, in each of its dtypes.

    Raises `InvalidInput` for networks that cannot be used, and where none of the dtypes is supported.
    """
    asked = implementation.asked(dtypes)
    if not asked:
        supported = " and ".join(implementation.supported)
        raise InvalidInput(
            f"{implementation.name} is not checked in {', '.join(dtypes or ())}: it supports {supported}"
        )
    network_strategy(networks)  # which says what is wrong with them
    chosen = []
    for dtype in asked:
        for group in GROUPS:
            capabilities, drawn = implementation.capabilities, networks
            fixed = _fixed(networks if networks is not None else capabilities.networks or None)
            if fixed is not None:
                drawn = [network for network in fixed if _applies(group, network)]
                if not drawn:
                    continue
            else:
                narrow = narrowed(capabilities, group)
                if narrow is None:
                    continue
                capabilities = narrow
            if group in SEVERAL_SAMPLES and capabilities.samples == "single":
                continue
            own = replace(implementation, capabilities=capabilities)
            chosen.append(Item(group, own, dtype, network_strategy(drawn), max_examples, seed))
    return chosen


def narrowed(capabilities: Capabilities, group: str) -> Capabilities | None:
    """Return what of the declared is drawn for a group: what its checks apply to; None if that is nothing."""
    if group == "delta-rows":
        name = SoftmaxCrossEntropy.__name__
        losses = tuple(entry for entry in capabilities.losses or (name,) if entry.startswith(name))
        return msgspec.structs.replace(capabilities, losses=losses) if losses else None
    if group == "cotangent-linearity":
        unreduced = "none" in capabilities.reductions
        return msgspec.structs.replace(capabilities, reductions=("none",)) if unreduced else None
    return capabilities


def nothing_compared(*, judged: bool) -> str:
    """Return what is told of an item that compared nothing; `judged`: whether the implementation supported a case."""
    if judged:
        return "nothing was compared: what was drawn does not have this property: raise --gradconform-max-examples"
    return "nothing was compared: the implementation supports none of the networks that were drawn"


def _fixed(networks: Networks | None) -> list[Network | str] | None:
    """Return the networks that are given one by one; None for a strategy, or for none."""
    if networks is None or isinstance(networks, st.SearchStrategy):
        return None
    if isinstance(networks, Network | str):
        return [networks]
    return list(networks) if isinstance(networks, Iterable) else None


def _applies(group: str, given: Network | str) -> bool:
    """Return whether a relation has anything to compare on a network, whose free widths may be 2."""
    template = parse_template(str(given))
    network = template.filled([2] * len(template.free))
    if group == "delta-rows":
        return isinstance(network.loss, SoftmaxCrossEntropy)
    if group == "cotangent-linearity":
        return network.loss.reduction == "none"
    if group == "class-permutation":
        return network.widths[-1] > 1 and bool(network.parameters())
    return True


def _concerns(key: Expected, item: Item) -> bool:
    """Return whether a key names something that an item may find."""
    named = key.check in {item.group, CALL} or any(check.id == key.check for check in GROUPS[item.group])
    return named and key.dtype in {None, item.dtype}
