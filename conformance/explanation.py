"""What an explanation is, of a symptom, a verdict or a check: words, and lines of code. NumPy is not imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gradconform.conformance.explained_programs import Lines, spelled
from gradconform.conformance.explained_texts import FRAMEWORKS, Framework

Kind = Literal["symptom", "verdict", "check"]


@dataclass(frozen=True)
class Explanation:
    """What is known of one word of gradconform.

    `meaning`: what it says of the code; `why`: why that gives these numbers; `see`: how to look for oneself; `alike`:
    what looks like it and is no bug, or another one. `lines`: of a symptom, by framework, the usual wrong line and the
    right one; `program`: the name of the program in which they stand. `next`: the command that comes next.
    """

    id: str
    kind: Kind
    family: str
    meaning: str
    why: str
    see: str
    alike: str
    next: str
    program: str = ""
    lines: Mapping[Framework, Lines] = field(default_factory=dict)


NEXT = "gradconform show ID --as numpy > case.py   # the smallest case, as a script to step through"


@dataclass(frozen=True)
class Family:
    """Symptoms of a kind, and what is said of each that has nothing of its own to say."""

    name: str
    see: str
    alike: str

    def symptom(
        self,
        identifier: str,
        meaning: str,
        why: str,
        right: str,
        wrong: str,
        *,
        at: str = "",
        program: str = "classifier",
        torch: Lines | None = None,
        jax: Lines | None = None,
        without: Sequence[Framework] = (),
        see: str = "",
        alike: str = "",
    ) -> Explanation:
        """Return the explanation of a symptom; `right`, `wrong` and `at` are NumPy's.

        `torch`, `jax`: what stands there, where it is not the same line as each of them spells it. `without`: where
        the framework leaves no room for it.
        """
        numpy = Lines(right, wrong, at)
        own: dict[Framework, Lines | None] = {"numpy": numpy, "torch": torch, "jax": jax}
        lines = {
            framework: own[framework] or _respelled(numpy, framework)
            for framework in FRAMEWORKS
            if framework not in without
        }
        return Explanation(
            identifier,
            "symptom",
            self.name,
            meaning,
            why,
            see or self.see,
            alike or self.alike,
            NEXT,
            program,
            lines,
        )


def _respelled(lines: Lines, framework: Framework) -> Lines:
    return Lines(*(spelled(text, framework) for text in (lines.right, lines.wrong, lines.at)))


GRADS: dict[Framework, str] = {
    "numpy": 'grads = {"0.weight": dw0, "0.bias": db0, "2.weight": dw2, "2.bias": db2}',
    "torch": "grads = {path: leaf.grad.numpy() for path, leaf in leaves.items()}",
    "jax": "grads = {path: np.asarray(gradient) for path, gradient in grads.items()}",
}
"""The lines of the programs that collect the gradients."""
