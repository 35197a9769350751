"""Comparing on real data: every step of a gradient descent, all implementations from the same parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gradconform.case import Array, Batch, Case, Gradients, Parameters
from gradconform.conformance.data import read_data
from gradconform.conformance.examples import lay_out
from gradconform.conformance.plan import Plan
from gradconform.conformance.record import Given, Record
from gradconform.conformance.results import Result
from gradconform.dtypes import dtype_of, finfo
from gradconform.errors import InvalidInput
from gradconform.network import Network
from gradconform.reference.descent import descend, initial_parameters

LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Training:
    """A network, a float64 batch, and how the reference trains the one on the other.

    Raises `InvalidInput` where the batch does not fit the network.
    """

    network: Network
    batch: Batch
    learning_rate: float = LEARNING_RATE

    def __post_init__(self) -> None:
        if self.network.loss.reduction == "none":
            raise InvalidInput("training needs one cost: use reduction=mean or reduction=sum")
        Case(self.network, initial_parameters(self.network, 0), self.batch)


def read_training(
    place: str, network: Network | None, learning_rate: float, raw: bool, rows: int, seed: int
) -> Training:
    """Return the training on a data file: at most `rows` samples, standardised unless `raw`.

    Without a network, one that suits the data. Raises `InvalidInput` that names the file.
    """
    data = read_data(place).sample(rows, seed)
    data = data if raw else data.standardised()
    chosen = network or data.network()
    try:
        return Training(chosen, data.batch(chosen), learning_rate)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from None


def check_training(plan: Plan, training: Training) -> Result:
    """Judge the plan's implementations at each of `plan.max_examples` steps of gradient descent."""
    network, batch = training.network, training.batch
    start = initial_parameters(network, plan.seed)
    record = Record(plan)
    record.unit = "steps"
    costs: list[float] = []
    diverged: list[str] = []
    dtypes = {dtype for implementation in plan.implementations for dtype in plan.dtypes_of(implementation)}
    largest = min((float(finfo(dtype_of(dtype)).max) for dtype in dtypes), default=np.inf)

    def explore() -> None:
        steps = descend(network, start, batch, training.learning_rate, plan.max_examples)
        for step in range(plan.max_examples):
            with np.errstate(all="ignore"):
                parameters, found = next(steps)
            if not all((np.abs(array) <= largest).all() for array in parameters.values()):
                diverged.append(f"training diverged at step {step}, where it ended; try a smaller learning rate")
                return
            costs.append(_cost(found))
            record.cases([Given(f"step {step}")], partial(_in_dtypes, network, parameters, batch), relations=step == 0)

    result = record.over(explore)
    if costs:
        steps = len(costs) - 1
        result.notes.insert(
            0,
            f"{network} on {batch.rows} samples: cost {costs[0]:.6g} before, {costs[-1]:.6g} after "
            f"{steps} step{'' if steps == 1 else 's'} of {training.learning_rate:g}",
        )
    result.notes += diverged
    return result


def _in_dtypes(network: Network, parameters: Parameters, batch: Batch, dtypes: Sequence[str]) -> list[list[Case]]:
    return [[in_dtype(network, parameters, batch, dtype)] for dtype in dtypes]


def in_dtype(network: Network, parameters: Parameters, batch: Batch, dtype: str) -> Case:
    """Return the case with all floating-point numbers rounded to `dtype`, read-only."""
    kind = dtype_of(dtype)
    targets = batch.targets if batch.labelled else batch.targets.astype(kind)
    rounded = replace(batch, inputs=lay_out(batch.inputs.astype(kind), "C"), targets=lay_out(targets, "C"))
    return Case(network, {path: lay_out(array.astype(kind), "C") for path, array in parameters.items()}, rounded)


def _cost(found: Gradients[Array]) -> float:
    return float(np.sum(np.asarray(found.loss)))
