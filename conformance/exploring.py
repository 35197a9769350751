"""What a run judges, and in which order: the structures of each round, drawn anew for each of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from hypothesis import Phase

from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.plan import CHUNK, Chunk, Plan, draw_examples

PATIENCE = 20
"""How many examples of structures that were met already are passed over, one after the other."""


@dataclass(frozen=True)
class Drawn:
    """An example of a run and those of its draws that are judged. `new`: the round has not met its structure before."""

    chunk: Chunk
    example: Example
    draws: tuple[Draw, ...]
    new: bool


def drawn_in(plan: Plan, number: int, count: int) -> Iterator[Drawn]:
    """Yield what the round `number` of a plan judges, until that is `count` networks.

    Structures that the round has met are passed over, unless there seem to be no others.
    """
    met: set[Hashable] = set()
    passed_over = judged = 0
    for start in itertools.count():
        wanted = 1 + math.ceil((count - judged) / plan.draws_in(number))
        chunk = Chunk(number, start, min(CHUNK, wanted))
        drawn: list[Example] = []
        draw_examples(plan, chunk, [Phase.generate], drawn.append)
        for position, simple in enumerate(drawn):
            example = plan.turned(simple, number, judged)
            # the first example of every start is the simplest one, of which one in a run is enough
            again = position == 0 and (number, start) != (0, 0)
            if (again or example.structure in met) and passed_over < PATIENCE:
                passed_over += 1
                continue
            draws, new = example.draws[: count - judged], example.structure not in met
            passed_over, judged = 0, judged + len(draws)
            met.add(example.structure)
            yield Drawn(chunk, example, draws, new)
            if judged >= count:
                return
