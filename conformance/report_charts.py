"""The charts of a result: how error / bound is spread, and how small an error would have been found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from markupsafe import Markup

from gradconform.conformance.compare import LOOKS, Look
from gradconform.conformance.margins import HIGHEST, LOWEST
from gradconform.conformance.report_svg import element, line, picture, text
from gradconform.conformance.report_words import short, title
from gradconform.conformance.results import Tally
from gradconform.conformance.sharpness import LADDER, QUANTILES, Sharpness

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 30, 34
LEAST = 4
"""So many half decades beyond the bound are drawn, whether or not something is there."""


def histogram(tally: Tally, identifier: str) -> Markup | None:
    """Return how many arrays have which error / bound, with a line at 1; None where nothing was counted."""
    steps = tally.margins.all_steps()
    if not steps:
        return None
    highest = max(*steps, LEAST)
    count = highest - LOWEST + 1
    wide = (WIDTH - LEFT - RIGHT) / count
    most = max(steps.values())
    room = HEIGHT - TOP - BOTTOM

    def edge(step: int) -> float:
        """Return where a half decade begins."""
        return LEFT + wide * (step - LOWEST)

    def bars() -> Iterator[Markup]:
        for step in steps:
            below: float = HEIGHT - BOTTOM
            for look in LOOKS:
                arrays = tally.margins.steps.get(look, {}).get(step, 0)
                if arrays:
                    # one array among thousands is to be seen
                    height = max(room * arrays / most, 2)
                    below -= height
                    kind = f"bar {look}" if step <= 0 else "bar beyond"
                    yield element("rect", x=edge(step) + 1, y=below, width=max(wide - 2, 1), height=height, class_=kind)

    one = edge(1)
    beyond = sum(arrays for step, arrays in steps.items() if step > 0)
    each = 2 if count <= 20 else 10
    ticks = [step for step in range(LOWEST + 1, highest + 1) if step % each == 0 and step]
    parts = [
        line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"),
        *bars(),
        line(one, TOP - 12, one, HEIGHT - BOTTOM + 5, "bound"),
        text(one, TOP - 16, "the bound", "small", "middle" if one < WIDTH - 40 else "end"),
        text(one, HEIGHT - BOTTOM + 17, "1", "small", "middle"),
        *(
            text(edge(step + 1), HEIGHT - BOTTOM + 17, f"1e{step // 2:+d}", "small", "middle")
            for step in ticks
            if edge(step + 1) < WIDTH - 20 and abs(edge(step + 1) - one) > 26
        ),
        text(WIDTH / 2, HEIGHT - 3, "error / bound", "small", "middle"),
    ]
    if beyond:
        parts.append(text(WIDTH - RIGHT, TOP - 16, f"{beyond:,} beyond ▸", "bad", "end"))
    return picture(identifier, f"Error / bound of {title(tally)}", spread_text(tally), (WIDTH, HEIGHT), parts, "chart")


def spread_text(tally: Tally) -> str:
    """Return how error / bound is spread, in words."""
    steps = tally.margins.all_steps()
    within = sum(arrays for step, arrays in steps.items() if step <= -2)
    near = sum(arrays for step, arrays in steps.items() if -2 < step <= 0)
    beyond = sum(arrays for step, arrays in steps.items() if step > 0)
    told = (
        f"{within + near + beyond:,} arrays: {within:,} up to a tenth of the bound, {near:,} between that and the bound"
    )
    return f"{told}, {beyond:,} beyond" if beyond else f"{told}, none beyond"


def spread_rows(tally: Tally) -> Iterator[tuple[str, Mapping[Look, int]]]:
    """Yield the same as numbers: the range of each half decade, and the arrays in each look."""
    for step in tally.margins.all_steps():
        low, high = short(10 ** ((step - 1) / 2)), short(10 ** (step / 2))
        span = f"up to {high}" if step == LOWEST else f"above {low}" if step == HIGHEST else f"{low} to {high}"
        yield span, {look: tally.margins.steps.get(look, {}).get(step, 0) for look in LOOKS}


def sharpness_bar(measured: Sharpness) -> Markup:
    """Return from which relative error on errors are found, as a line over the ladder: beside the same as numbers."""
    wide, high = 168, 18
    decades = -math.log10(LADDER[0])

    def place(error: float) -> float:
        return 6 + (wide - 12) * (math.log10(error) + decades) / decades

    found = [(share, error) for share in QUANTILES if (error := measured.quantile(share)) is not None]
    parts = [line(6, high / 2, wide - 6, high / 2, "axis")]
    if found:
        end = wide - 6 if measured.missed and len(found) < len(QUANTILES) else place(found[-1][1])
        parts.append(line(place(found[0][1]), high / 2, end, high / 2, "reach"))
    parts += [
        element("circle", cx=place(error), cy=high / 2, r=5 - 1.5 * rank, class_="reach-point")
        for rank, (_, error) in enumerate(found)
    ]
    return element(
        "svg", *parts, viewBox=f"0 0 {wide} {high}", width=wide, height=high, class_="inline", aria_hidden="true"
    )
