"""Which parameter of one model is which of the other, and how its axes lie there: a map file, or names and shapes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gradconform.case import Array
from gradconform.errors import InvalidInput
from gradconform.nearest import closest

SECTIONS = ("parameters", "outputs", "ignore")
OPTIONS = ("name", "transpose", "axes", "reshape")
SIDES = ("first", "second")


class NoUniqueMap(InvalidInput):
    """Names and shapes do not tell which parameter is which; `proposal` is a map file to mend and to use."""

    def __init__(self, message: str, proposal: str) -> None:
        super().__init__(message)
        self.proposal = proposal


@dataclass(frozen=True)
class Link:
    """One array of the first model and its like in the second, which has it with `axes` permuted, then reshaped."""

    first: str
    second: str
    axes: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    reverse: bool = False
    """Axes in reverse order, however many there are."""

    def carried(self, array: Array) -> Array:
        """Return the first model's array as the second has it."""
        if self._axes(array.ndim) is not None:
            array = array.transpose(self._axes(array.ndim))
        return array if self.shape is None else array.reshape(self.shape)

    def brought_back(self, array: Array, like: Sequence[int]) -> Array:
        """Return the second model's array as the first has it, in the shape `like`."""
        axes = self._axes(len(like))
        if axes is None:
            return array.reshape(like) if self.shape is not None else array
        return array.reshape([like[axis] for axis in axes]).transpose(np.argsort(axes))

    def _axes(self, ndim: int) -> tuple[int, ...] | None:
        return tuple(reversed(range(ndim))) if self.reverse else self.axes

    def fits(self, first: Sequence[int], second: Sequence[int]) -> str:
        """Return what is wrong with the shapes of both arrays, or nothing."""
        axes = self._axes(len(first))
        if axes is not None and sorted(axes) != list(range(len(first))):
            return f"axes {list(axes)} are not those of shape {tuple(first)}"
        moved = tuple(first) if axes is None else tuple(first[axis] for axis in axes)
        if self.shape is not None:
            if np.prod(moved, dtype=int) != np.prod(self.shape, dtype=int):
                return f"shape {tuple(first)} cannot be reshaped to {list(self.shape)}"
            moved = self.shape
        if moved != tuple(second):
            how = f"shape {tuple(first)} becomes {moved} by the map" if moved != tuple(first) else f"shape {moved}"
            hint = "; write transpose = true" if tuple(second) == tuple(first)[::-1] and axes is None else ""
            return f"{how}, but the second model has {tuple(second)}{hint}"
        return ""

    @property
    def words(self) -> str:
        """How the second model has it, as a map file says it."""
        options = [
            f"transpose = {str(self.reverse).lower()}" if self.reverse else "",
            f"axes = {list(self.axes)}" if self.axes is not None else "",
            f"reshape = {list(self.shape)}" if self.shape is not None else "",
        ]
        said = [option for option in options if option]
        return f'{{ name = "{self.second}", {", ".join(said)} }}' if said else f'"{self.second}"'


@dataclass(frozen=True)
class NameMap:
    """A map file: links of parameters and of intermediate values, and the parameters of either model that have none."""

    parameters: dict[str, Link] = field(default_factory=dict)
    outputs: dict[str, Link] = field(default_factory=dict)
    ignore: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By `first` and `second`."""
    place: str = "the map"


def read_map(source: str | Mapping[str, Any] | None) -> NameMap | None:
    """Return the map in a TOML file or in a mapping of the same form; None where none is given.

    A mapping without the names of sections is taken for the section `parameters`.
    Raises `InvalidInput`, one line with the place in the file.
    """
    if source is None:
        return None
    if isinstance(source, str):
        place = source
        if not Path(source).is_file():
            raise InvalidInput(f"{source}: no such file")
        try:
            content: Mapping[str, Any] = tomllib.loads(Path(source).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput(f"{source}: not a TOML file: {' '.join(str(error).split())}") from None
    else:
        place = "parameters"
        content = source if set(source) & set(SECTIONS) else {"parameters": source}
    for section in content:
        if section not in SECTIONS:
            raise InvalidInput(f"{place}: unknown section [{section}]{nearest(section, SECTIONS)}")
    sections = {section: content.get(section, {}) for section in SECTIONS}
    for section, entries in sections.items():
        if not isinstance(entries, Mapping):
            raise InvalidInput(f"{place}: [{section}]: expected a table")
    ignore = _ignored(place, sections["ignore"])
    links = {
        section: {str(name): _link(place, section, str(name), entry) for name, entry in sections[section].items()}
        for section in ("parameters", "outputs")
    }
    for section, named in links.items():
        seconds = [link.second for link in named.values()]
        twice = next((name for name in seconds if seconds.count(name) > 1), None)
        if twice is not None:
            raise InvalidInput(f"{place}: [{section}]: {twice!r} stands for two names of the first model")
    return NameMap(links["parameters"], links["outputs"], ignore, place)


def _ignored(place: str, section: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    ignored = {}
    for side, names in section.items():
        if side not in SIDES:
            raise InvalidInput(f"{place}: [ignore] {side}: expected {' or '.join(SIDES)} = [names]")
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise InvalidInput(f"{place}: [ignore] {side}: expected a list of names")
        ignored[side] = tuple(names)
    return ignored


def _link(place: str, section: str, name: str, entry: object) -> Link:
    where = f"{place}: [{section}] {name!r}"
    if isinstance(entry, str):
        return Link(name, entry)
    if not isinstance(entry, Mapping):
        raise InvalidInput(f'{where}: expected "name" or {{ name = "...", transpose = true }}; quote names with a dot')
    for option in entry:
        if option not in OPTIONS:
            raise InvalidInput(f"{where}: unknown option {option!r}{nearest(str(option), OPTIONS)}")
    if not isinstance(entry.get("name"), str):
        raise InvalidInput(f'{where}: expected name = "..."; quote names with a dot')
    for option in ("axes", "reshape"):
        numbers = entry.get(option, [])
        if not isinstance(numbers, list | tuple) or not all(type(number) is int and number >= 0 for number in numbers):
            raise InvalidInput(f"{where}: {option}: expected a list of whole numbers, got {numbers!r}")
    if not isinstance(entry.get("transpose", False), bool):
        raise InvalidInput(f"{where}: transpose: expected true or false, got {entry['transpose']!r}")
    if entry.get("transpose") and "axes" in entry:
        raise InvalidInput(f"{where}: give transpose or axes, not both")
    return Link(
        name,
        entry["name"],
        tuple(entry["axes"]) if "axes" in entry else None,
        tuple(entry["reshape"]) if "reshape" in entry else None,
        bool(entry.get("transpose", False)),
    )


Shapes = Mapping[str, Sequence[int]]


def known_links(names: NameMap, first: Shapes | None, second: Shapes | None, titles: tuple[str, str]) -> list[Link]:
    """Return the links of a map file, in the first model's order, checked against what is known of both models.

    Raises `InvalidInput` for unknown names, shapes that do not fit, and parameters that are neither mapped nor ignored.
    """
    place = names.place
    for side, shapes, title in zip(SIDES, (first, second), titles, strict=True):
        mapped = [link.first if side == "first" else link.second for link in names.parameters.values()]
        ignored = names.ignore.get(side, ())
        if both := sorted(set(mapped) & set(ignored)):
            raise InvalidInput(f"{place}: {both[0]!r} is mapped and ignored")
        if shapes is None:
            continue
        for name in [*mapped, *ignored]:
            if name not in shapes:
                raise InvalidInput(f"{place}: {title} has no parameter {name!r}{nearest(name, shapes)}")
        left = [name for name in shapes if name not in mapped and name not in ignored]
        if left:
            raise InvalidInput(
                f"{place}: {', '.join(left)} of {title}: in no line of [parameters]; map what belongs together, or "
                f"write [ignore] {side} = {_listed(left)}"
            )
    links = list(names.parameters.values())
    if first is not None and second is not None:
        for link in links:
            if wrong := link.fits(first[link.first], second[link.second]):
                raise InvalidInput(f"{place}: {link.first} and {link.second}: {wrong}")
    if first is not None:
        order = list(first)
        links.sort(key=lambda link: order.index(link.first))
    return links


def guessed_links(first: Shapes, second: Shapes, titles: tuple[str, str]) -> list[Link]:
    """Return links by equal names, then by shapes that only one parameter of each model has, transposed or not.

    Raises `NoUniqueMap` with a proposal where that does not settle all, and where a model has parameters left over.
    """
    links: dict[str, Link] = {}
    free = dict(second)
    for name, shape in first.items():
        same = next((other for other in free if _plain(other) == _plain(name)), None)
        if same is not None and (link := _linked(name, shape, same, free[same])) is not None:
            links[name] = link
            del free[same]
    sure = True
    for name, shape in first.items():
        if name in links:
            continue
        alike = [link for other in free if (link := _linked(name, shape, other, free[other])) is not None]
        rivals = [other for other in first if other not in links and sorted(first[other]) == sorted(shape)]
        # a square matrix under another name may be transposed or not: nothing tells
        square = bool(alike) and _ambiguous(shape, alike[0])
        sure = sure and len(alike) == 1 and len(rivals) == 1 and not square
        if alike:
            links[name] = alike[0]
            del free[alike[0].second]
    if not sure or free or len(links) < len(first):
        left = [name for name in first if name not in links]
        raise NoUniqueMap(
            f"names and shapes do not tell which parameters of {titles[0]} and {titles[1]} belong together: "
            "mend the map above, save it, and give it as --parameters",
            proposal(links.values(), left, list(free)),
        )
    return [links[name] for name in first]


def proposal(links: Iterable[Link], first: Sequence[str] = (), second: Sequence[str] = ()) -> str:
    """Return a map file with `links`, and with the parameters of either model that are left over ignored."""
    lines = ["[parameters]", *(f'"{link.first}" = {link.words}' for link in links)]
    if first or second:
        lines += ["", "[ignore]"]
        for side, names in zip(SIDES, (first, second), strict=True):
            if names:
                lines.append(f"{side} = {_listed(names)}")
    return "\n".join(lines)


def _linked(first: str, shape: Sequence[int], second: str, other: Sequence[int]) -> Link | None:
    """Return the link of two parameters if their shapes allow one: as they are, transposed, or as convolutions are."""
    shape, other = tuple(shape), tuple(other)
    if shape == other:
        return Link(first, second)
    if len(shape) == 2 and shape[::-1] == other:
        return Link(first, second, reverse=True)
    if len(shape) > 2 and _turned(shape) == other:
        return Link(first, second, axes=_turned(range(len(shape))))
    return None


def _ambiguous(shape: Sequence[int], link: Link) -> bool:
    """Return whether a link fits as it is, and would with the axes turned, too."""
    plain = not link.reverse and link.axes is None
    return plain and len(shape) > 1 and tuple(shape) in {_turned(shape), tuple(shape)[::-1]}


def _turned(axes: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of a convolution's kernel, (out, in, ...) in PyTorch, as JAX has them: (..., in, out)."""
    return (*axes[2:], *axes[:2][::-1])


def _listed(names: Iterable[str]) -> str:
    """Return names as a list of TOML."""
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _plain(name: str) -> str:
    return name.replace("/", ".")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to add to the message that a name is unknown."""
    names = list(known)
    near = closest(name, names)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names) or 'none'}"
