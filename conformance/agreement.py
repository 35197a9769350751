"""The agreement checks: what an implementation computes is held against the reference's bounds, in every look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gradconform.case import Gradients
from gradconform.conformance.compare import Comparison, compare_named
from gradconform.conformance.looks import View
from gradconform.conformance.properties import register
from gradconform.conformance.situation import Subject
from gradconform.network import Network

Select = Callable[[Gradients[Any], Network], Mapping[str, Any]]


@dataclass(frozen=True)
class Agreement:
    """What an agreement check compares: `select` names it, of what is expected and of what was computed alike.

    `required`: whether what is missing, or unknown, is a failure.
    """

    id: str
    select: Select
    required: bool

    def compare(self, view: View, network: Network) -> list[Comparison]:
        """Return the comparisons of one look."""
        closed = view.against.closed
        found = compare_named(
            self.id,
            self.select(view.against.expected.gradients, network),
            self.select(view.actual, network),
            required=self.required and view.complete,
            closed=None if closed is None else self.select(closed.gradients, network),
        )
        return [replace(comparison, look=view.look) for comparison in found]


AGREEMENTS: dict[str, Agreement] = {}
"""The agreement checks by their ids, in their order."""


def _agreement(identifier: str, *, required: bool = False) -> Callable[[Select], Select]:
    """Register what a function selects as a check, its docstring as the sentence."""

    def add(select: Select) -> Select:
        agreement = AGREEMENTS[identifier] = Agreement(identifier, select, required)

        def run(subject: Subject) -> list[Comparison]:
            """Compare in every look, the sharpest first."""
            network = subject.case.network
            return [entry for view in subject.views for entry in agreement.compare(view, network)]

        run.__doc__, run.__module__ = select.__doc__, select.__module__
        register(identifier)(run)
        return select

    return add


@_agreement("outputs")
def _outputs(found: Gradients[Any], _network: Network) -> Mapping[str, Any]:
    """Every layer's output agrees with the reference."""
    return {f"output {index}": array for index, array in found.outputs.items()}


@_agreement("loss")
def _loss(found: Gradients[Any], _network: Network) -> Mapping[str, Any]:
    """The cost agrees with the reference."""
    return {"loss": found.loss}


@_agreement("output-delta")
def _output_delta(found: Gradients[Any], network: Network) -> Mapping[str, Any]:
    """The gradient of the cost with respect to the network's output agrees with the reference."""
    return {"output delta": found.deltas.get(len(network.layers) - 1)}


@_agreement("deltas")
def _deltas(found: Gradients[Any], network: Network) -> Mapping[str, Any]:
    """The deltas of all other layers, from the last to the first, agree with the reference."""
    below = reversed(range(len(network.layers) - 1))
    return {f"delta {index}": found.deltas.get(index) for index in below}


@_agreement("parameters", required=True)
def _parameters(found: Gradients[Any], network: Network) -> Mapping[str, Any]:
    """Every parameter's gradient, from the last layer to the first, agrees with the reference."""
    upwards = sorted(network.parameters(), key=lambda path: -int(path.partition(".")[0]))
    known = {path: found.parameters[path] for path in upwards if path in found.parameters}
    return known | dict(found.parameters)


@_agreement("input")
def _input(found: Gradients[Any], _network: Network) -> Mapping[str, Any]:
    """The gradient with respect to the input agrees with the reference."""
    return {"input": found.input}
