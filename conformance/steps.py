"""What a failing implementation gave at each step of its smallest case, in a few numbers, for reports that draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradconform.conformance.agreement import AGREEMENTS
from gradconform.conformance.compare import Comparison, Look
from gradconform.conformance.looks import View
from gradconform.conformance.results import Number, Step, spelled
from gradconform.conformance.untrusted import shown
from gradconform.network import Network

MOST = 64
"""More steps than these, from the first output on, are not kept."""


def steps_of(views: Sequence[View], comparisons: Sequence[Comparison], look: Look, network: Network) -> list[Step]:
    """Return the steps of a case: outputs, cost, deltas from the last to the first, gradients.

    Where both looks compared the same, one that found it wrong is told; else, or where both did, `look` is.
    """
    found: dict[tuple[str, str], Step] = {}
    compared: dict[tuple[str, str], Comparison] = {}
    for entry in sorted(comparisons, key=lambda entry: (entry.passed, entry.look != look)):
        compared.setdefault((entry.check, entry.path), entry)
    # what the run itself, from the inputs on, gave last is what it is held against first
    for view in sorted(views, key=lambda view: view.look != "global"):
        for check, agreement in AGREEMENTS.items():
            given: Mapping[str, Any] = agreement.select(view.actual, network)
            for path, bound in agreement.select(view.against.expected.gradients, network).items():
                known = found.get((check, path))
                if bound is None or (known is not None and known.actual is not None):
                    continue
                expected = _largest(bound.value) if known is None else known.expected
                found[check, path] = Step(shown(path, 100), check, expected, _largest(given.get(path)))
    for key, step in found.items():
        if step.actual is not None and key in compared:
            comparison = compared[key]
            step.passed, step.look = comparison.passed, comparison.look
            step.ratio = None if comparison.worst is None else spelled(comparison.worst.ratio)
    return [step for step in found.values() if step.expected is not None][:MOST]


def _largest(given: Any) -> Number | None:
    """Return the largest magnitude of an array; None for what holds no numbers."""
    if given is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return spelled(float(np.max(np.abs(np.asarray(given).astype(np.float64)), initial=0.0)))
    except (TypeError, ValueError):
        return None
