"""The suite as pytest items: agreement and every relation, on every implementation and dtype.

    pytest --pyargs gradconform.conformance --gradconform-implementations torch,my_mlp.py:gradients

Each item is a plain Hypothesis test; what fails is made small and told as everywhere. `gradconform check` runs the same
checks on the same strategies through the engine, and so do the items of `gradconform.conformance_tests`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from gradconform.conformance import implementations as known
from gradconform.conformance.hypothesis_profiles import settings_of
from gradconform.conformance.items import Item, items
from gradconform.conformance.plan import choose_dtypes
from gradconform.conformance.plugin import asked
from gradconform.errors import GradconformError

Test = TypeVar("Test", bound=Callable[..., None])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make an item for every group of checks, implementation and dtype."""
    try:
        implementations = [known.resolve(target) for target in asked.targets] or known.everything()
        dtypes = choose_dtypes(asked.dtypes) or None
        chosen = [
            item
            for entry in implementations
            if entry.asked(dtypes)
            for item in items(entry, asked.network, dtypes, max_examples=asked.max_examples)
        ]
    except GradconformError as error:
        raise pytest.UsageError(str(error)) from None
    # what is compiled takes longest, and comes first: no worker is left with it in the end
    chosen.sort(key=lambda item: not item.implementation.capabilities.compiled)
    metafunc.parametrize(
        "check", [item.parameter(f"{item.group}-{item.implementation.name}-{item.dtype}") for item in chosen]
    )


def drawn(test: Test) -> Test:
    """Set how much the running pytest draws, and from what."""
    if asked.seed is not None:
        test = seed(asked.seed)(test)
    return settings_of(asked.profile, asked.max_examples, explore=asked.seed is not None)(test)


@drawn
@given(data=st.data())
def test_conformance(check: Item, gradconform_counts: Counter[str], data: st.DataObject) -> None:
    """An implementation has the properties that a group of checks verifies."""
    text = check.examine(data.draw(check.plan.examples()), gradconform_counts)
    if text is not None:
        pytest.fail(text, pytrace=False)
