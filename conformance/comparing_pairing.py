"""Two models side by side: the same values for both, their runs, and what they gave in one layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradconform.case import Array
from gradconform.conformance.comparing_data import read_values
from gradconform.conformance.comparing_map import SIDES, Link, NameMap, guessed_links, known_links, nearest
from gradconform.conformance.comparing_models import Ask, Model, Run, cast, join
from gradconform.conformance.comparing_units import Key, move
from gradconform.dtypes import is_floating
from gradconform.errors import InvalidInput
from gradconform.losses import LossRecord


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models with the links between them, the values that both start from, and the batch."""

    first: Model
    second: Model
    links: Sequence[Link]
    places: Mapping[str, Link]
    values: Mapping[str, Array]
    """All parameters and constants of the first model."""
    own: Mapping[str, Array]
    """What the second model has beside those that are carried over to it."""
    batch: Mapping[str, Array]
    loss: LossRecord | None
    frozen: frozenset[str] = frozenset()
    """Linked, but not differentiated, by the first model's names."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of the intermediate values, as the first model has them."""

    @property
    def trained(self) -> list[Link]:
        """The links of parameters whose gradients are compared, in the first model's order."""
        return [link for link in self.links if link.first not in self.frozen]

    def asks(self, *, inspect: bool = False) -> tuple[Ask, Ask]:
        """Return what either model is asked for."""
        trained = self.trained
        return (
            Ask(self.loss, tuple(link.first for link in trained), inspect),
            Ask(self.loss, tuple(link.second for link in trained), inspect),
        )

    def carried(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Return the values of the first model as the second has them."""
        return {**self.own, **{link.second: link.carried(values[link.first]) for link in self.links}}

    def run(self, which: int, dtype: str, seed: int | None = None, *, inspect: bool = False) -> Run:
        """Return a run of the first (0) or second (1) model, on moved numbers if there is a seed for that."""
        values, batch = dict(self.values), dict(self.batch)
        if seed is not None:
            generator = np.random.default_rng(seed)
            moving = {link.first: cast(values[link.first], dtype) for link in self.trained}
            values |= move(moving, generator, dtype, zeros=True)
            if "inputs" in batch:
                batch |= move({"inputs": cast(batch["inputs"], dtype)}, generator, dtype, zeros=False)
        ask = self.asks(inspect=inspect)[which]
        return (
            self.first.run(values, batch, dtype, ask)
            if which == 0
            else self.second.run(self.carried(values), batch, dtype, ask)
        )

    def look(self, which: int, run: Run) -> dict[Key, Array]:
        """Return what a run gave as float64 arrays, by the first model's names and in its layout."""
        look: dict[Key, Array] = {}
        for name, link in self.places.items():
            shown = run.places.get(link.second if which else name)
            if shown is not None:
                look["place", name] = _brought(link, shown, self.shapes[name]) if which else shown
        if run.outputs is not None:
            look["outputs", ""] = run.outputs
        if run.loss is not None:
            look["loss", ""] = np.asarray(run.loss)
        for link in self.trained:
            name = link.second if which else link.first
            if name in run.gradients and name not in run.absent:
                gradient = run.gradients[name]
                like = self.values[link.first].shape
                look["gradient", link.first] = _brought(link, gradient, like) if which else gradient
        if run.inputs is not None:
            look["input", "inputs"] = run.inputs
        return {key: array.astype(np.float64) for key, array in look.items()}


def _brought(link: Link, array: Array, like: tuple[int, ...]) -> Array:
    """Return the second model's array as the first has it; as it is where the shapes do not allow that."""
    fitting = not link.fits(like, array.shape)
    return link.brought_back(array, like) if fitting else array


def paired(
    first: Model,
    second: Model,
    names: NameMap | None,
    given: str | Mapping[str, Any] | None,
    batch: Mapping[str, Array],
    loss: LossRecord | None,
) -> tuple[Pair, list[str]]:
    """Return the pair with links and values, and notes on what is left out.

    `given`: parameter values by the first model's names; without them they are the first model's own, or, if it holds
    none, the second's. Raises `InvalidInput` where links and values do not determine each other.
    """
    held = _given(first, given)
    other = None if second.values is None else {**second.values, **second.constants}
    trained = _trained(first, held), _trained(second, other)
    links = _links(names, (held, other), trained, (first.name, second.name))
    if held is None:
        assert other is not None  # noqa: S101 - else there are no links
        held = {}
        for link in links:
            if link.second not in other:
                raise InvalidInput(f"{second.name} holds no value for {link.second!r}: give --values")
            held[link.first] = _inverse(link, other[link.second])
    for link in links:
        if link.first not in held:
            raise InvalidInput(f"{first.name} holds no value for {link.first!r}: give --values")
    linked = {link.second for link in links}
    # of a function, everything is differentiated
    in_first = {link.first for link in links if first.values is None or link.first in trained[0]}
    in_second = {link.first for link in links if second.values is None or link.second in trained[1]}
    numbers = {link.first for link in links if is_floating(held[link.first].dtype)}
    compared = in_first & in_second & numbers
    if not compared:
        raise InvalidInput(f"{first.name} and {second.name} have no parameter in common that is differentiated")
    notes = [
        f"not differentiated in {model.name}, and not compared: {join(left)}"
        for model, linked_names in ((first, {link.first for link in links}), (second, linked))
        if (left := [name for name in model.frozen if name in linked_names])
    ]
    pair = Pair(
        first,
        second,
        links,
        {} if names is None else dict(names.outputs),
        # a module gets all that it has, a function what is mapped
        held if first.values is not None else {link.first: held[link.first] for link in links},
        {name: array for name, array in (other or {}).items() if name not in linked},
        batch,
        loss,
        frozenset(link.first for link in links) - compared,
    )
    return pair, notes


def _given(model: Model, given: str | Mapping[str, Any] | None) -> dict[str, Array] | None:
    """Return the values of the first model: those given before its own. None for a function without either."""
    own = None if model.values is None else {**model.values, **model.constants}
    if given is None:
        return own
    file = read_values(given)
    if own is not None:
        for name, array in file.items():
            if name not in own:
                raise InvalidInput(f"--values: {model.name} has no parameter {name!r}{nearest(name, own)}")
            if array.shape != own[name].shape:
                raise InvalidInput(f"--values: {name}: expected shape {own[name].shape}, got {array.shape}")
    return {**(own or {}), **file}


def _links(
    names: NameMap | None,
    held: tuple[Mapping[str, Array] | None, Mapping[str, Array] | None],
    trained: tuple[set[str], set[str]],
    titles: tuple[str, str],
) -> list[Link]:
    """Return the links of the map, or those that names and shapes tell."""
    shapes = [None if own is None else {name: array.shape for name, array in own.items()} for own in held]
    if names is not None and names.parameters:
        return _mapped(names, shapes, trained, titles)
    if shapes[0] is None and shapes[1] is None:
        raise InvalidInput(f"neither model holds values: give --values FILE.npz with the parameters of {titles[0]}")
    if shapes[0] is None or shapes[1] is None:
        # of a function alone nothing is known: it is given what the other model has, under the same names
        return [Link(name, name) for name in shapes[0] or shapes[1] or {}]
    ignored = {} if names is None else names.ignore
    free = [
        # what one model trains is looked for in the other, trained there or not
        {name: shape for name, shape in known.items() if name in own | other and name not in ignored.get(side, ())}
        for known, own, other, side in zip((shapes[0], shapes[1]), trained, trained[::-1], SIDES, strict=True)
    ]
    links = guessed_links(free[0], free[1], titles)
    # running means and the like, where both have them under the same name
    constants = [name for name in shapes[0] if name not in trained[0] and name not in trained[1]]
    return links + [Link(name, name) for name in constants if shapes[1].get(name) == shapes[0][name]]


def _trained(model: Model, held: Mapping[str, Array] | None) -> set[str]:
    """Return the names of the parameters that a model differentiates; of a function, all."""
    return set(model.values) if model.values is not None else set(held or {})


def _mapped(
    names: NameMap,
    shapes: Sequence[Mapping[str, tuple[int, ...]] | None],
    trained: Sequence[set[str]],
    titles: tuple[str, str],
) -> list[Link]:
    """Return the links of a map, which must name all that is trained and may name constants."""
    mapped = [
        {getattr(link, side) for link in names.parameters.values()} | set(names.ignore.get(side, ()))
        for side in ("first", "second")
    ]
    needed = [
        None if known is None else {name: shape for name, shape in known.items() if name in own or name in listed}
        for known, own, listed in zip(shapes, trained, mapped, strict=True)
    ]
    return known_links(names, needed[0], needed[1], titles)


def _inverse(link: Link, array: Array) -> Array:
    """Return the second model's value as the first has it, where the first's shape is known by the link alone."""
    if link.shape is not None:
        raise InvalidInput(
            f"{link.first}: its shape cannot be told from that of {link.second}, which is reshaped: give --values"
        )
    axes = link._axes(array.ndim)
    if axes is not None and sorted(axes) != list(range(array.ndim)):
        raise InvalidInput(f"{link.first}: axes {list(axes)} are not those of shape {array.shape}")
    return array if axes is None else array.transpose(np.argsort(axes))
