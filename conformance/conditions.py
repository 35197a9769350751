"""The conditions that a case may meet beside its regime: each hides or shows bugs, and a run counts what it met."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradconform.case import Case
from gradconform.layers import Dense

CONDITIONS: dict[str, Callable[[Case], bool]] = {
    "one sample": lambda case: case.batch.rows == 1,
    "several samples": lambda case: case.batch.rows > 1,
    "width 1": lambda case: 1 in case.network.widths,
    "one class": lambda case: case.network.loss.labels == "classes" and case.network.widths[-1] == 1,
    "distinct widths": lambda case: len(set(_widths(case))) == len(_widths(case)),
    "square layer": lambda case: any(
        one == next_ for one, next_ in zip(_widths(case), _widths(case)[1:], strict=False)
    ),
    "several dense layers": lambda case: len(_widths(case)) > 2,
    "repeated labels": lambda case: len(set(_labels(case))) < len(_labels(case)),
    "absent labels": lambda case: case.batch.labelled and len(set(_labels(case))) < case.network.widths[-1],
    "ignored labels": lambda case: case.batch.labelled and len(_labels(case)) < case.batch.rows,
    "soft labels": lambda case: (
        case.network.loss.labels == "classes" and not case.batch.labelled and bool(np.any(case.batch.targets % 1))
    ),
    "class weights": lambda case: case.batch.class_weights is not None,
    "cotangent": lambda case: case.batch.cotangent is not None,
    "other memory order": lambda case: (
        not all(array.flags.c_contiguous for array in (case.batch.inputs, *case.parameters.values()))
    ),
}


def conditions(case: Case) -> list[str]:
    """Return the names of the conditions that a case meets."""
    return [name for name, meets in CONDITIONS.items() if meets(case)]


def _widths(case: Case) -> list[int]:
    """Return the widths around the dense layers."""
    return [case.network.inputs, *(layer.units for layer in case.network.layers if isinstance(layer, Dense))]


def _labels(case: Case) -> list[int]:
    """Return the integer labels that count."""
    ignored = getattr(case.network.loss, "ignore_index", None)
    labels = case.batch.targets.tolist() if case.batch.labelled else []
    return [label for label in labels if label != ignored]
