"""The pytest plugin: options of the suite `pytest --pyargs gradconform.conformance`, and its counts in the summary.

It is loaded into every pytest run where gradconform is installed, and does nothing there unless the suite's own items
run. It imports neither NumPy, Hypothesis nor a framework.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gradconform.conformance.configuration import OWN, PREFIX, read_configuration
from gradconform.conformance.profiles import PROFILES, Profile, profile_named
from gradconform.errors import InvalidInput

COUNTS = "gradconform"
"""The name of the user property that carries an item's counts, from an xdist worker too."""
JUDGED = "judged"
"""The name, among an item's counts, of the number of cases that the implementation supports."""
SEED = "gradconform_seed"
"""Under which an xdist worker is told the seed."""

_counted = pytest.StashKey[Counter[str]]()
_failed = pytest.StashKey[bool]()


@dataclass
class Options:
    """What the suite's items are to do."""

    targets: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    network: str | None = None
    name: str = "default"
    """Of the profile."""
    profile: Profile = PROFILES["default"]
    max_examples: int = PROFILES["default"].structures
    seed: int | None = None
    """None: always the same is drawn."""
    told: list[str] = field(default_factory=list)
    """What was taken from a file or the environment, in lines."""


asked = Options()
"""What the running pytest was asked for. The suite's module reads it when it is collected."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("gradconform", "conformance of gradients: pytest --pyargs gradconform.conformance")
    group.addoption(
        "--gradconform-implementations",
        metavar="TARGET,...",
        help="what is checked: reference, torch, jax, FILE.py:FUNCTION, MODULE:FUNCTION; default: all installed",
    )
    group.addoption(
        "--gradconform-dtypes",
        metavar="DTYPE,...",
        help="float64, float32, bfloat16, float16; default: what each declares",
    )
    group.addoption(
        "--gradconform-network",
        metavar="NOTATION",
        help="one network instead of all kinds, as in '4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy'",
    )
    group.addoption(
        "--gradconform-max-examples",
        type=int,
        metavar="N",
        help="structures an item, each with several cases; default: as the profile says",
    )
    group.addoption(
        "--gradconform-profile",
        metavar="PROFILE",
        help=", ".join(f"{name}: {profile.structures} structures an item" for name, profile in PROFILES.items())
        + ", others each time, of which those that fail are kept and tried again; or one of your own; default: default",
    )
    group.addoption(
        "--gradconform-seed",
        type=int,
        metavar="N",
        help="what is drawn; default: always the same, and with the profile nightly a new one, which is told",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take the options over, and what they leave open from the file and the environment."""
    try:
        _take(config)
    except InvalidInput as error:
        raise pytest.UsageError(str(error)) from None
    if asked.seed is None and asked.profile.explores:
        # all workers of xdist draw from the seed of the process that started them
        told = getattr(config, "workerinput", {}).get(SEED)
        asked.seed = int.from_bytes(os.urandom(4), "big") if told is None else told
    if not config.pluginmanager.hasplugin("xdist"):
        config.addinivalue_line("markers", "xdist_group(name): items that pytest-xdist gives to one worker")
    config.stash[_counted] = Counter()
    config.pluginmanager.register(_Summary(config), "gradconform-summary")


def _take(config: pytest.Config) -> None:
    """Take the options over; raises `InvalidInput` for what the file or the environment have that is wrong."""
    given = {
        "targets": _words(config.getoption("gradconform_implementations")),
        "dtypes": _words(config.getoption("gradconform_dtypes")),
        "network": config.getoption("gradconform_network"),
        "profile": config.getoption("gradconform_profile"),
        "max_examples": config.getoption("gradconform_max_examples"),
        "seed": config.getoption("gradconform_seed"),
    }
    file = read_configuration(start=config.invocation_params.dir)
    asked.told, profiles = [], PROFILES
    if file.file or any(name.startswith(PREFIX) and name not in OWN for name in os.environ):
        from gradconform.conformance.configured import settings_for_pytest

        said = {key for key, value in given.items() if value not in {None, ()}}
        settings = settings_for_pytest(file, os.environ).without(said)
        given |= {key: taken.value for key, taken in settings.taken.items()}
        asked.told, profiles = settings.lines, settings.profiles
    asked.name = given["profile"] or "default"
    asked.profile = profile_named(asked.name, profiles)
    asked.targets, asked.dtypes = list(given["targets"]), list(given["dtypes"])
    asked.network, asked.seed = given["network"], given["seed"]
    asked.max_examples = given["max_examples"] or asked.profile.structures


def pytest_report_header() -> list[str]:
    """Tell the seed of a run that explores, which is drawn anew each time, and what was taken from elsewhere."""
    seed = [f"gradconform: profile {asked.name}, seed {asked.seed}"] if asked.seed is not None else []
    return seed + [f"gradconform: {line}" for line in asked.told]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the seed to a worker of pytest-xdist."""
    node.workerinput[SEED] = asked.seed


@pytest.fixture
def gradconform_counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Collect how many comparisons an item makes, and how many cases it judged. One that compares nothing fails."""
    counts: Counter[str] = Counter()
    yield counts
    judged = counts.pop(JUDGED, 0)
    request.node.user_properties.append((COUNTS, dict(counts)))
    if not counts and not request.node.stash.get(_failed, False):
        why = "what was drawn does not have this property: raise --gradconform-max-examples"
        if not judged:
            why = "the implementation supports none of the networks that were drawn"
        pytest.fail(f"nothing was compared: {why}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Add what an item of `gradconform.conformance_tests` compared to the summary. One that does not call it fails."""
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    check: Any = parameters.get("check")
    if not isinstance(getattr(check, "counts", None), Counter) or not hasattr(check, "called"):
        return (yield)
    check.called = False
    try:
        result = yield
    finally:
        item.user_properties.append((COUNTS, dict(check.counts)))
    if not check.called and "gradconform_counts" not in getattr(item, "fixturenames", ()):
        pytest.fail("nothing was compared: the test does not call check()", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that an item failed, so that one failure is not told as two."""
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


class _Summary:
    """Adds up the counts of all items, and tells them at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.counts = config.stash[_counted]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == COUNTS and isinstance(value, dict):
                    self.counts.update(value)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.counts:
            terminalreporter.section("gradconform")
            for name, count in sorted(self.counts.items()):
                terminalreporter.write_line(f"{name}: {count:,} comparisons")
            if asked.seed is not None:
                terminalreporter.write_line(f"the same again: --gradconform-seed {asked.seed}")


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())
