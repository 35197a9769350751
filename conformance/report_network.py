"""A finding drawn: its smallest network, where the error enters, and what was computed along the layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from gradconform.conformance.report_svg import element, line, path, picture, text
from gradconform.conformance.report_words import name, number, short
from gradconform.conformance.results import Finding, Step
from gradconform.layers import Dense, Softmax
from gradconform.network import Network

MOST_LAYERS, MOST_UNITS = 10, 5
"""More are drawn as dots."""
GUTTER, COLUMN, LOSS, UNIT, ROW = 58, 94, 164, 26, 21
"""Of the labels at the left, a layer, the loss, a unit and a row of numbers, in pixels."""
TOP = 52
CHART = 96
ROWS = ("output", "delta", "weight", "bias")


class Mark(NamedTuple):
    """Where an error enters: from which layer to which, the loss behind the last one, and in which words."""

    first: int
    last: int
    words: str


class Value(NamedTuple):
    """What was computed at one place of the network: a row, its column and its step."""

    row: str
    column: int
    step: Step


def finding_picture(finding: Finding, identifier: str) -> Markup | None:
    """Return the drawing of a finding; None where its network has more layers than can be drawn."""
    network = finding.network
    if len(network.layers) > MOST_LAYERS:
        return None
    mark = mark_of(finding)
    values = list(_values(finding.steps, network))
    rows = [row for row in ROWS if any(value.row == row and value.step.actual is not None for value in values)]
    units = max(min(width, MOST_UNITS) for width in network.widths) * UNIT
    width = GUTTER + COLUMN * (len(network.layers) + 1) + LOSS
    bottom = TOP + units + 26
    parts: list[Markup] = [*_marked(mark, bottom, network), *_network(network, units)]
    bottom += 34
    for row in rows:
        parts += _row(row, [value for value in values if value.row == row], bottom, network)
        bottom += ROW
    sizes, what = _sizes(finding, values)
    if ends := _ends(sizes):
        bottom += 18
        parts += _chart(sizes, what, ends, bottom, network)
        bottom += CHART + 30
    said = f"The smallest network on which it fails: {finding.notation}."
    if mark is not None:
        said += f" {mark.words[0].upper()}{mark.words[1:]}: {_place(mark, network)}."
    wrong = [step.path for step in finding.steps if not step.passed]
    said += f" Beyond the bound: {', '.join(wrong)}." if wrong else ""
    return picture(identifier, f"Network of finding {finding.id}", said, (width, bottom), parts, "drawing")


def mark_of(finding: Finding) -> Mark | None:
    """Return where the error of a finding enters, as far as its words say so; else where it shows first."""
    last = len(finding.network.layers)
    places = [index for found in re.findall(r"layers\[(\d{1,4})\]", finding.place) if (index := int(found)) < last]
    if finding.place.startswith("the delta between") and len(places) == 2:
        return Mark(min(places) + 1, max(places), "the error enters here")
    if finding.place.startswith(("the cost", "the gradient of the cost")):
        return Mark(last, last, "the error enters here")
    if finding.place.startswith(("the forward pass", "the backward pass")) and places:
        return Mark(places[0], places[0], f"enters here, {finding.place.split()[1]}")
    own = re.match(r"(\d{1,4})\.", finding.path)
    if own is not None and int(own[1]) < last:
        where = f"enters in {finding.path}" if finding.place.startswith(f"{finding.path} itself") else "wrong here"
        return Mark(int(own[1]), int(own[1]), where)
    step = re.fullmatch(r"(?:output|delta) (\d{1,4})", finding.path)
    if step is not None and int(step[1]) < last:
        return Mark(int(step[1]), int(step[1]), "wrong here")
    if finding.path in {"loss", "output delta"}:
        return Mark(last, last, "wrong here")
    return None


def step_text(step: Step) -> str:
    """Return how a step compares, in a few characters."""
    if step.actual is None:
        return "not returned"
    ratio = "" if step.ratio is None else f" {short(number(step.ratio))}"
    return f"{'✓' if step.passed else '✗'}{ratio}" if ratio or not step.passed else "not compared"


def step_class(step: Step) -> str:
    """Return the class of that text."""
    if step.actual is None or (step.ratio is None and step.passed):
        return "small"
    return "good" if step.passed else "bad"


def _place(mark: Mark, network: Network) -> str:
    kinds = [*network.layers, network.loss][mark.first : mark.last + 1]
    names = [
        f"{type(kind).__name__}, layers[{index}]" if index < len(network.layers) else f"the loss, {type(kind).__name__}"
        for index, kind in enumerate(kinds, mark.first)
    ]
    return " and ".join(names)


def _x(column: int, network: Network) -> float:
    """Return the middle of a column: -1 is the input, 0 the first layer, and the loss is behind the last one."""
    return GUTTER + COLUMN * (column + 1) + (LOSS if column == len(network.layers) else COLUMN) / 2


def _marked(mark: Mark | None, bottom: float, network: Network) -> Iterator[Markup]:
    if mark is None:
        return
    right = GUTTER + COLUMN * (mark.last + 1) + (LOSS if mark.last == len(network.layers) else COLUMN) - 3
    left = GUTTER + COLUMN * (mark.first + 1) + 3
    yield element("rect", x=left, y=4, width=right - left, height=bottom, rx=10, class_="mark")
    yield text((left + right) / 2, bottom + 20, f"▲ {name(mark.words)}", "mark-words", "middle")


def _network(network: Network, height: float) -> Iterator[Markup]:
    widths, last = network.widths, len(network.layers)
    names = [
        ("input", ""),
        *((type(layer).__name__, f"layers[{index}]") for index, layer in enumerate(network.layers)),
        (type(network.loss).__name__, f"loss, {network.loss.reduction}"),
    ]
    for column, (kind, place) in enumerate(names, -1):
        yield text(_x(column, network), 22, kind, "label", "middle")
        yield text(_x(column, network), 38, place, "small", "middle")
    for index, layer in enumerate(network.layers):
        yield from _edges(index, isinstance(layer, Dense | Softmax), network, height)
    middle, end = TOP + height / 2, _x(last, network)
    for _, y in _units(widths[-1], height):
        yield line(_x(last - 1, network) + 9, y, end - 13, middle, "edge")
    yield element("rect", x=end - 12, y=middle - 12, width=24, height=24, rx=5, class_="unit")
    yield text(end, middle + 4, "C", "small", "middle")
    for column, width in enumerate(widths, -1):
        x = _x(column, network)
        for unit, y in _units(width, height):
            if unit is None:
                yield text(x, y + 4, "⋮", "label", "middle")
            else:
                yield element("circle", cx=x, cy=y, r=8, class_="unit")
        yield text(x, TOP + height + 18, f"{width:,} unit{'s' if width > 1 else ''}", "small", "middle")


def _units(width: int, height: float) -> list[tuple[int | None, float]]:
    """Return the units of a layer that are drawn, with their heights; None stands for those that are left out."""
    shown: list[int | None] = list(range(width))
    if width > MOST_UNITS:
        shown = [0, 1, None, width - 2, width - 1]
    top = TOP + height / 2 - (len(shown) - 1) * UNIT / 2
    return [(unit, top + UNIT * place) for place, unit in enumerate(shown)]


def _edges(index: int, every: bool, network: Network, height: float) -> Iterator[Markup]:
    """Yield the lines into a layer: from every unit, or from its own."""
    before, behind = _units(network.widths[index], height), _units(network.widths[index + 1], height)
    for one, y in before:
        for other, end in behind:
            if one is not None and other is not None and (every or one == other):
                yield line(_x(index - 1, network) + 9, y, _x(index, network) - 9, end, "edge")


def _values(steps: Sequence[Step], network: Network) -> Iterator[Value]:
    """Yield the steps that stand at a place in the drawing."""
    last = len(network.layers)
    for step in steps:
        kind, _, index = step.path.rpartition(" ")
        place, _, parameter = step.path.partition(".")
        if step.check == "loss":
            yield Value("output", last, step)
        elif step.check == "output-delta":
            yield Value("delta", last - 1, step)
        elif step.check == "input":
            yield Value("delta", -1, step)
        elif step.check in {"outputs", "deltas"} and index.isdecimal() and int(index) < last:
            yield Value(kind, int(index), step)
        elif step.check == "parameters" and place.isdecimal() and int(place) < last and parameter in ROWS:
            yield Value(parameter, int(place), step)


def _row(row: str, values: Sequence[Value], y: float, network: Network) -> Iterator[Markup]:
    yield text(4, y + 14, row, "small")
    for value in values:
        step = value.step
        yield text(_x(value.column, network), y + 14, step_text(step), step_class(step), "middle")


def _sizes(finding: Finding, values: Sequence[Value]) -> tuple[list[Value], str]:
    """Return what is drawn along the layers, from the first on, and what it is called."""
    row = "delta"
    if not any(value.row == "delta" and value.step.actual is not None for value in values):
        own = finding.path.rpartition(".")[2]
        row = own if own in {"weight", "bias"} else "weight"
    what = {"delta": "deltas dC/dz", "weight": "gradients dC/dw", "bias": "gradients dC/db"}[row]
    return sorted((value for value in values if value.row == row), key=lambda value: value.column), what


def _ends(values: Sequence[Value]) -> tuple[int, int] | None:
    """Return the powers of ten between which all magnitudes lie; None where there is no line to draw."""
    both = [number(size) for value in values for size in (value.step.expected, value.step.actual)]
    logs = [math.log10(size) for size in both if size > 0 and math.isfinite(size)]
    if len(values) < 2 or not logs:
        return None
    low = math.floor(min(logs))
    return low, max(math.ceil(max(logs)), low + 1)


def _chart(values: Sequence[Value], what: str, ends: tuple[int, int], top: float, network: Network) -> Iterator[Markup]:
    """Yield the largest magnitudes along the layers on a logarithmic scale: what is expected, and what was given."""
    low, high = ends

    def height(size: float) -> float:
        share = 0.0 if size <= 0 else (math.log10(size) - low) / (high - low) if math.isfinite(size) else 1.0
        return top + 28 + (1 - min(max(share, 0.0), 1.0)) * (CHART - 28)

    right = GUTTER + COLUMN * (len(network.layers) + 1)
    yield text(4, top + 8, f"largest of the {what}", "label")
    yield from (text(4, height(10.0**end) + 4, f"1e{end:+d}", "small") for end in ends)
    yield from (line(GUTTER, height(10.0**end), right, height(10.0**end), "axis") for end in ends)
    expected = [(value.column, number(value.step.expected)) for value in values]
    given = [(value.column, number(value.step.actual)) for value in values if value.step.actual is not None]
    for several, kind in ((expected, "expected"), (given, "yours")):
        places = [(_x(column, network), height(size)) for column, size in several if not math.isnan(size)]
        yield path(places, f"{kind}-line")
        for x, y in places:
            if kind == "expected":
                yield element("circle", cx=x, cy=y, r=5, class_="expected-point")
            else:
                yield element("rect", x=x - 3.5, y=y - 3.5, width=7, height=7, class_="yours-point")
    yield element("circle", cx=GUTTER + 14, cy=top + CHART + 16, r=5, class_="expected-point")
    yield text(GUTTER + 26, top + CHART + 20, "expected", "small")
    yield element("rect", x=GUTTER + 96, y=top + CHART + 12.5, width=7, height=7, class_="yours-point")
    yield text(GUTTER + 110, top + CHART + 20, "yours" if given else "yours: not returned", "small")
