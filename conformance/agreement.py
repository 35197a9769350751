"""The agreement checks: what an implementation computes is held against the reference's bounds, in every look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gradconform.case import Gradients
from gradconform.conformance.compare import Comparison, compare_named
from gradconform.conformance.properties import register
from gradconform.conformance.situation import Subject


def _agree(
    check: str, subject: Subject, select: Callable[[Gradients[Any]], Mapping[str, Any]], *, required: bool = False
) -> list[Comparison]:
    """Compare what `select` names, in every look, the sharpest first."""
    comparisons: list[Comparison] = []
    for view in subject.views:
        found = compare_named(
            check,
            select(view.against.expected.gradients),
            select(view.actual),
            required=required and view.complete,
            closed=None if view.against.closed is None else select(view.against.closed.gradients),
        )
        comparisons += [replace(comparison, look=view.look) for comparison in found]
    return comparisons


@register("outputs")
def _outputs(subject: Subject) -> list[Comparison]:
    """Every layer's output agrees with the reference."""
    return _agree("outputs", subject, lambda found: {f"output {index}": a for index, a in found.outputs.items()})


@register("loss")
def _loss(subject: Subject) -> list[Comparison]:
    """The cost agrees with the reference."""
    return _agree("loss", subject, lambda found: {"loss": found.loss})


@register("output-delta")
def _output_delta(subject: Subject) -> list[Comparison]:
    """The gradient of the cost with respect to the network's output agrees with the reference."""
    last = len(subject.case.network.layers) - 1
    return _agree("output-delta", subject, lambda found: {"output delta": found.deltas.get(last)})


@register("deltas")
def _deltas(subject: Subject) -> list[Comparison]:
    """The deltas of all other layers, from the last to the first, agree with the reference."""
    below = list(reversed(range(len(subject.case.network.layers) - 1)))
    return _agree("deltas", subject, lambda found: {f"delta {index}": found.deltas.get(index) for index in below})


@register("parameters")
def _parameters(subject: Subject) -> list[Comparison]:
    """Every parameter's gradient, from the last layer to the first, agrees with the reference."""
    upwards = sorted(subject.case.network.parameters(), key=lambda path: -int(path.partition(".")[0]))

    def select(found: Gradients[Any]) -> Mapping[str, Any]:
        known = {path: found.parameters[path] for path in upwards if path in found.parameters}
        return known | dict(found.parameters)

    return _agree("parameters", subject, select, required=True)


@register("input")
def _input(subject: Subject) -> list[Comparison]:
    """The gradient with respect to the input agrees with the reference."""
    return _agree("input", subject, lambda found: {"input": found.input})
