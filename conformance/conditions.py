"""The conditions that a case may meet beside its regime: each hides or shows bugs, and a run counts what it met."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from gradconform.case import Case
from gradconform.layers import Dense
from gradconform.network import Network

OF_NETWORKS: dict[str, Callable[[Network], bool]] = {
    "width 1": lambda network: 1 in network.widths,
    "one class": lambda network: network.loss.labels == "classes" and network.widths[-1] == 1,
    "distinct widths": lambda network: len(set(_widths(network))) == len(_widths(network)),
    "square layer": lambda network: any(one == next_ for one, next_ in itertools.pairwise(_widths(network))),
    "several dense layers": lambda network: len(_widths(network)) > 2,
}
OF_CASES: dict[str, Callable[[Case, Sequence[int]], bool]] = {
    "one sample": lambda case, _: case.batch.rows == 1,
    "several samples": lambda case, _: case.batch.rows > 1,
    "repeated labels": lambda _, labels: len(set(labels)) < len(labels),
    "absent labels": lambda case, labels: case.batch.labelled and len(set(labels)) < case.network.widths[-1],
    "ignored labels": lambda case, labels: case.batch.labelled and len(labels) < case.batch.rows,
    "soft labels": lambda case, _: (
        case.network.loss.labels == "classes"
        and not case.batch.labelled
        and bool(np.any(case.batch.targets != np.rint(case.batch.targets)))
    ),
    "class weights": lambda case, _: case.batch.class_weights is not None,
    "cotangent": lambda case, _: case.batch.cotangent is not None,
    "other memory order": lambda case, _: (
        not all(array.flags.c_contiguous for array in (case.batch.inputs, *case.parameters.values()))
    ),
}
"""Each is given the labels that count, too."""
CONDITIONS = (*OF_NETWORKS, *OF_CASES)


def conditions(case: Case) -> list[str]:
    """Return the names of the conditions that a case meets."""
    labels = _labels(case)
    return [*_of_network(case.network), *(name for name, meets in OF_CASES.items() if meets(case, labels))]


@lru_cache(maxsize=1024)
def _of_network(network: Network) -> tuple[str, ...]:
    return tuple(name for name, meets in OF_NETWORKS.items() if meets(network))


def _widths(network: Network) -> list[int]:
    """Return the widths around the dense layers."""
    return [network.inputs, *(layer.units for layer in network.layers if isinstance(layer, Dense))]


def _labels(case: Case) -> list[int]:
    """Return the integer labels that count."""
    ignored = getattr(case.network.loss, "ignore_index", None)
    labels = case.batch.targets.tolist() if case.batch.labelled else []
    return [label for label in labels if label != ignored]
