"""What gradconform says of other people's implementations: the page docs/gallery.md.

python benchmarks/gallery.py > docs/gallery.md      # in the environment of `tox -e wild`

Every entry is a target of examples/frameworks, checked with the same seed. What differs from run to run, the time, is
left out; processors that round otherwise may change the last digits of a ratio.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import gradconform as gc
from gradconform.conformance.implementations import resolve
from gradconform.conformance.message import finding_text, tally_text
from gradconform.conformance.results import Result, Tally

FOLDER = Path(__file__).parents[1] / "examples" / "frameworks"
SEED = 1
os.environ.setdefault("PARALLEL", "0")  # tinygrad would start processes, each of which imports this script


class Entry(NamedTuple):
    """One target: the package, the file and object, how many networks, what it is, and one network alone, or any."""

    package: str
    target: str
    networks: int
    what: str
    network: str = ""


SCIKIT = "with_scikit_learn.py"
TINYGRAD = "with_tinygrad.py:gradients"
ENTRIES = (
    Entry("micrograd", "with_micrograd.py:gradients", 12, "A framework of scalars, for learning."),
    Entry("autograd", "with_autograd.py:gradients", 30, "Differentiates NumPy programs; the ancestor of JAX."),
    Entry("mygrad", "with_mygrad.py:gradients", 24, "Automatic differentiation on top of NumPy arrays, for teaching."),
    Entry("scikit-learn", f"{SCIKIT}:classifier", 30, "The backpropagation of MLPClassifier."),
    Entry("scikit-learn", f"{SCIKIT}:one_output", 30, "That of MLPRegressor, with one output."),
    Entry("scikit-learn", f"{SCIKIT}:regressor", 30, "That of MLPRegressor, with several outputs."),
    Entry("tinygrad", TINYGRAD, 2, "Dense layers.", "2 -> Dense(2) -> ReLU -> Dense(1), MeanSquaredError"),
    Entry("tinygrad", TINYGRAD, 4, "Its ELU.", "1 -> Dense(1) -> ELU, MeanSquaredError"),
)


def checked(entry: Entry) -> Result:
    """Return the result of an entry, without case files."""
    np.seterr(all="ignore")  # what a framework overflows is its own affair, and is counted
    networks = [gc.parse(entry.network)] if entry.network else None
    return gc.check(
        resolve(str(FOLDER / entry.target)),
        networks=networks,
        dtypes=["float64"],
        max_examples=entry.networks,
        seed=SEED,
    )


def section(entry: Entry, result: Result) -> Iterator[str]:
    """Yield the paragraphs of an entry."""
    version = importlib.metadata.version(entry.package)
    yield f"## {entry.package} {version}: `{entry.target}`"
    yield f"{entry.what} Checked on `{entry.network}` alone." if entry.network else entry.what
    verdict = result.verdict.upper()
    count = len(result.findings)
    found = f", {count} finding{'s' if count != 1 else ''}" if count else ""
    yield f"**{verdict}**{found}: {result.networks:,} networks, {result.comparisons:,} comparisons, seed {result.seed}."
    for named in (*result.findings, *result.implementations):
        # as it is called where it stands, before lines are made of it
        setattr(named, "name" if isinstance(named, Tally) else "implementation", entry.target)
    texts = [finding_text(finding) for finding in result.findings]
    texts += [tally_text(tally) for tally in result.implementations]
    own = str(FOLDER / entry.target)
    yield "```text\n" + "\n".join(texts) + "\n```"
    if result.notes:
        yield "\n".join(f"- {note}" for note in result.notes).replace(own, entry.target)


def page() -> str:
    """Return the whole page."""
    parts = [
        "# Gallery of the wild",
        "Other people's implementations, as they are installed from PyPI, behind the adapters of "
        "`examples/frameworks`, and what gradconform says of them. `python benchmarks/gallery.py` writes this page; "
        "`tox -e wild` holds it.",
        f"Python {platform.python_version()}, NumPy {np.__version__}; what a line means is in "
        "[diagnosis.md](diagnosis.md), and `gradconform explain WORD` tells more of each word.",
    ]
    for entry in ENTRIES:
        print(f"{entry.target} {entry.network}", file=sys.stderr)
        parts += section(entry, checked(entry))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
