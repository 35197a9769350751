"""Several cases of one structure in one call, by the vmap of a framework."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.conformance.adapter_names import VMAP
from gradconform.conformance.candidates import Compute
from gradconform.conformance.guard import Guard
from gradconform.conformance.looks import TITLES, quantities
from gradconform.conformance.stack import members, side_by_side
from gradconform.errors import CandidateFailed
from gradconform.network import Network

if TYPE_CHECKING:
    from gradconform.conformance.implementations import Implementation


def by_vmap(entry: Implementation, several: Compute) -> Implementation:
    """Return the implementation whose every call is one with several cases at once: a single one between two others.

    Whatever gets from one case into another changes what it gives.
    """

    def gradients(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
        parts: list[Any] = [None if array is None else _other(array) for array in vars(batch).values()]
        other = ({path: _other(array) for path, array in parameters.items()}, Batch(*parts))
        given = several(network, *side_by_side([other, (parameters, batch), other]))
        require_all(given, 3)
        return members(given, 1)

    name, guard = f"{entry.name}{VMAP}", Guard(ours=True)
    return replace(entry, name=name, gradients=gradients, bare=None, several=several, kinks={}, guard=guard)


def _other(array: Array) -> Array:
    """Return other numbers, none of them larger: the halves, labels as they are, in reverse order if in a row."""
    other = array[::-1] if array.ndim == 1 else array
    return other if array.dtype.kind in "iu" else other / array.dtype.type(2)


def require_all(given: Gradients[Array], cases: int) -> None:
    """Raise `CandidateFailed` where not every array of what was given for several cases is of all of them."""
    for (kind, key), array in quantities(given).items():
        if array is not None and array.shape[:1] != (cases,):
            detail = f"expected {cases} cases side by side, got shape {array.shape}"
            raise CandidateFailed("SHAPE", TITLES[kind](key), detail)
