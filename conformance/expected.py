"""Failures that are expected, each with a reason: strict, so that the list cannot outlive what it excuses.

A key is `CHECK [KIND [PLACE]] [DTYPE]`, for example `input`, `parameters WRONG Dense.bias` or `agreement float32`. The
message of every finding has the key that names it and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.judge import Judgement
from gradconform.dtypes import DTYPES
from gradconform.errors import InvalidInput
from gradconform.nearest import closest, hint
from gradconform.network import Network
from gradconform.notation import LAYERS, LOSSES

AGREEMENT = "agreement"
"""The name of all checks that compare with the reference, taken together."""
CALL = "call"
"""The check under which a call that gave nothing is told."""

PLACES = (*LAYERS, *LOSSES, "Dense.weight", "Dense.bias", "output delta", "gradients")
ALIKE = 0.6
"""How much like one of these a place is that cannot be meant otherwise: paths and steps are places too."""
KINDS = tuple(kind.name for kind in Kind if kind is not Kind.PASS)


@dataclass(frozen=True)
class Expected:
    """One key, taken apart, and the reason that was given for it. None: any."""

    text: str
    reason: str
    check: str
    kind: str | None = None
    place: str | None = None
    dtype: str | None = None

    def covers(self, network: Network, dtype: str, failure: Comparison) -> bool:
        """Return whether a failed comparison is what this key names."""
        check, kind, place = key_parts(network, failure.check, failure.kind.name, failure.path)
        agreement = check in CHECKS and not CHECKS[check].relation
        return (
            (self.check == check or (self.check == AGREEMENT and agreement))
            and self.kind in {None, kind}
            and self.place in {None, place}
            and self.dtype in {None, dtype}
        )


@dataclass
class Expectations:
    """The expected failures of one implementation, and in how many cases each was met."""

    keys: tuple[Expected, ...] = ()
    met: Counter[str] = field(default_factory=Counter)

    def sift(self, network: Network, dtype: str, judgement: Judgement) -> Judgement:
        """Return the judgement without what is expected, and without what may follow from that.

        Failures of one check do not explain each other: of the check whose first failure is expected, all others are
        kept. Those of the checks after it may be consequences, and go with it.
        """
        failures = judgement.failures
        excused = []
        for failure in failures:
            keys = [key for key in self.keys if key.covers(network, dtype, failure)]
            if keys:
                excused.append(id(failure))
            for key in keys:
                self.met[key.text] += 1
        if not excused:
            return judgement
        if id(failures[0]) in excused:
            excused += [id(failure) for failure in failures if failure.check != failures[0].check]
        return replace(judgement, comparisons=[entry for entry in judgement.comparisons if id(entry) not in excused])

    @property
    def unmet(self) -> list[Expected]:
        """The keys that named nothing that happened."""
        return [key for key in self.keys if not self.met[key.text]]

    def reasons(self) -> str:
        """Return what was expected and met, in one line."""
        return "; ".join(f"{key.text}: {key.reason}" for key in self.keys if self.met[key.text])


def unexpected_pass(name: str, key: Expected, networks: int) -> str:
    """Return the sentence of an expected failure that did not happen."""
    return (
        f"UNEXPECTED PASS  {name}   {key.text!r} failed in none of {networks:,} networks: remove it from "
        f"expected_failures, or draw more (expected: {key.reason})"
    )


def key_parts(network: Network, check: str, kind: str, path: str) -> tuple[str, str, str]:
    """Return check, kind and place of a failure: the place without the number of the layer, which says nothing."""
    index, _, name = path.rpartition(".")
    layers = network.layers
    if index.isdecimal() and int(index) < len(layers):
        return check, kind, f"{type(layers[int(index)]).__name__}.{name}"
    _, _, number = path.rpartition(" ")
    if check in {"outputs", "deltas"} and number.isdecimal():
        # the delta below a layer is what its backward pass gives
        at = int(number) + (check == "deltas")
        return check, kind, type(layers[min(at, len(layers) - 1)]).__name__
    if check in {"loss", "output-delta"}:
        return check, kind, type(network.loss).__name__
    return check, kind, "" if path == check else path


def key_text(network: Network, check: str, kind: str, path: str) -> str:
    """Return the key that names a failure, as a person copies it."""
    return " ".join(part for part in key_parts(network, check, kind, path) if part)


def read_expected(failures: Mapping[str, str] | None) -> tuple[Expected, ...]:
    """Return the expected failures by key, each with a reason.

    Raises `InvalidInput`, one line with the nearest name, for a key that can match nothing, and for one without reason.
    """
    if failures is None:
        return ()
    if not isinstance(failures, Mapping):
        raise InvalidInput(f"expected_failures: expected a dictionary of reasons by key, got {failures!r}")
    return tuple(_read(text, reason) for text, reason in failures.items())


def require_known(keys: Iterable[Expected], checks: Sequence[str], dtypes: Sequence[str]) -> None:
    """Raise `InvalidInput` for a key whose check, of `checks`, or dtype, of `dtypes`, is not among what is run."""
    agreement = any(check in CHECKS and not CHECKS[check].relation for check in checks)
    for key in keys:
        known = key.check in checks or key.check == CALL or (key.check == AGREEMENT and agreement)
        if not known:
            raise InvalidInput(f"expected_failures: {key.text!r} matches no item: {key.check} is not checked here")
        if key.dtype is not None and key.dtype not in dtypes:
            raise InvalidInput(f"expected_failures: {key.text!r} matches no item: checked are {', '.join(dtypes)}")


def _read(text: str, reason: str) -> Expected:
    if not isinstance(text, str) or not text.split():
        raise InvalidInput(f"expected_failures: expected a key such as 'parameters WRONG Dense.bias', got {text!r}")
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidInput(f"expected_failures: {text!r} has no reason: say why it is expected")
    check, *rest = text.split()
    checks = (AGREEMENT, CALL, *CHECKS)
    if check not in checks:
        raise InvalidInput(f"expected_failures: {text!r}: no check {check!r}; {hint(check, checks)}")
    dtype = rest.pop() if rest and rest[-1] in DTYPES else None
    kind = rest.pop(0) if rest else None
    if kind is not None and kind not in KINDS:
        raise InvalidInput(f"expected_failures: {text!r}: no kind of failure {kind!r}; {hint(kind, KINDS)}")
    place = " ".join(rest) or None
    if place is not None and place not in PLACES and kind != Kind.NAME.name:
        close = closest(place, PLACES, cutoff=ALIKE)
        if close:
            raise InvalidInput(f"expected_failures: {text!r}: no {place!r}; did you mean {close[0]}?")
    return Expected(text, reason, check, kind, place, dtype)
