"""The suite as pytest items: agreement and every relation, on every implementation and dtype.

    pytest --pyargs gradconform.conformance --gradconform-implementations torch,my_mlp.py:gradients

Each item is a plain Hypothesis test, which shrinks and reports as Hypothesis does; `gradconform check` runs the same
checks on the same strategies through the engine.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gradconform.conformance import implementations as known
from gradconform.conformance.checks import CHECKS, Check
from gradconform.conformance.examples import Example
from gradconform.conformance.findings import Failure, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import choose_dtypes
from gradconform.conformance.plugin import JUDGED, asked
from gradconform.conformance.situation import Situation
from gradconform.conformance.strategies import LOSSES, examples, networks
from gradconform.errors import GradconformError
from gradconform.losses import SoftmaxCrossEntropy

UNREDUCED = st.sampled_from([kind(reduction="none") for kind in LOSSES])

GROUPS: dict[str, list[Check]] = {
    "agreement": [check for check in CHECKS.values() if not check.relation],
    **{check.id: [check] for check in CHECKS.values() if check.relation},
}
"""The checks of each item. Those of agreement share what they compare with, and the gradients are always there."""

NETWORKS = {
    "delta-rows": networks(losses=LOSSES[SoftmaxCrossEntropy]),
    "cotangent-linearity": networks(losses=UNREDUCED),
}
"""What is drawn for checks that apply to some losses alone; all others draw everything."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make an item for every group of checks, implementation and dtype."""
    try:
        chosen = [known.resolve(target) for target in asked.targets] or known.everything()
        dtypes = choose_dtypes(asked.dtypes)
    except GradconformError as error:
        raise pytest.UsageError(str(error)) from None
    items = [
        pytest.param(group, implementation, dtype, id=f"{group}-{implementation.name}-{dtype}")
        for implementation in chosen
        for dtype in implementation.asked(dtypes or None)
        for group in GROUPS
    ]
    metafunc.parametrize(("group", "implementation", "dtype"), items)


@settings(
    max_examples=asked.max_examples,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    print_blob=False,
)
@given(data=st.data())
def test_conformance(
    group: str, implementation: Implementation, dtype: str, gradconform_counts: Counter[str], data: st.DataObject
) -> None:
    """An implementation has the properties that a group of checks verifies."""
    drawn = examples(
        NETWORKS.get(group),
        labels=implementation.labels,
        class_weights=implementation.class_weights,
        layouts=implementation.layouts,
    )
    example: Example = data.draw(drawn)
    for draw in example.draws:
        situation = Situation(example.case(draw, dtype))
        judgement = judge(implementation, situation, GROUPS[group])
        gradconform_counts[JUDGED] += judgement.unsupported is None
        if judgement.comparisons:
            gradconform_counts[f"{implementation.title} {dtype}"] += len(judgement.comparisons)
        if judgement.root is not None:
            failure = Failure(implementation, dtype, situation, judgement, f"regime {draw.regime}")
            pytest.fail(finding_text(finding_of(failure, "", [])), pytrace=False)
