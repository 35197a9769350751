"""`gradconform init`: a commented file to start from, which runs. They are the files of `examples/`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import click

from gradconform.conformance.help import Command
from gradconform.errors import InvalidInput


class Scaffold(NamedTuple):
    """A file to start from: where it stands in the examples, what it is, what to do with it, and where it belongs."""

    source: str
    sentence: str
    next: str
    place: str = ""

    @property
    def target(self) -> Path:
        """The file that is written where no other is named."""
        return Path(self.place or Path(self.source).name)


WORKFLOWS = ".github/workflows/"
COMMIT = "name your TARGET in it in place of textbook.py, commit {}"


SCAFFOLDS = {
    "textbook": Scaffold("textbook.py", "one training example, x and y vectors, in NumPy", "gradconform check {}"),
    "numpy": Scaffold(
        "my_mlp.py",
        "a function on batches, in NumPy",
        'gradconform check {}:gradients --network "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"',
    ),
    "class": Scaffold("my_class.py", "a class with forward and backward", "gradconform check {}:Network"),
    "numpy-layer": Scaffold(
        "numpy_layer.py", "one layer, forward and backward, in NumPy", "gradconform layer {}:Softmax"
    ),
    "torch-function": Scaffold("torch_function.py", "a torch.autograd.Function", "gradconform layer {}:Tanh"),
    "jax-vjp": Scaffold("jax_vjp.py", "a jax.custom_vjp function", "gradconform layer {}:linear"),
    "adapter": Scaffold("my_adapter.py", "a framework, behind an adapter", "gradconform check {}"),
    "protocol-c": Scaffold(
        "c/backprop.c", "a program in C", "cc -O2 {} -o backprop -lm && gradconform check -- ./backprop"
    ),
    "protocol-javascript": Scaffold("javascript/backprop.mjs", "a program in Node.js", "gradconform check -- node {}"),
    "protocol-rust": Scaffold(
        "rust/backprop.rs", "a program in Rust", "rustc -O {} && gradconform check -- ./backprop"
    ),
    "ci": Scaffold(
        "ci/github.yml",
        "a workflow of GitHub: every change, and every night",
        f"{COMMIT}, and try here: gradconform check textbook.py --profile ci",
        f"{WORKFLOWS}gradconform.yml",
    ),
    "ci-nightly": Scaffold(
        "ci/github-nightly.yml",
        "a workflow of GitHub: a campaign every night",
        f"{COMMIT}, and try here: gradconform fuzz textbook.py --max-time 10",
        f"{WORKFLOWS}gradconform-nightly.yml",
    ),
    "ci-shards": Scaffold(
        "ci/github-shards.yml",
        "a workflow of GitHub: a run on several machines",
        f"{COMMIT}, and try here: gradconform check textbook.py --profile ci --shard 1/4",
        f"{WORKFLOWS}gradconform-shards.yml",
    ),
    "ci-badge": Scaffold(
        "ci/github-badge.yml",
        "a workflow of GitHub: a badge of the main branch",
        f"{COMMIT}, make the branch badges, and try here: gradconform report badge --help",
        f"{WORKFLOWS}gradconform-badge.yml",
    ),
    "ci-gitlab": Scaffold(
        "ci/gitlab.yml",
        "jobs of GitLab: every change, and a scheduled campaign",
        f"{COMMIT}, and try here: gradconform check textbook.py --profile ci",
        ".gitlab-ci.yml",
    ),
}

KINDS = "\n".join(f"{kind:<20} {scaffold.sentence}" for kind, scaffold in SCAFFOLDS.items())


@click.command(
    cls=Command,
    examples=[
        ("gradconform init textbook", "textbook.py, to be filled with your own"),
        ("gradconform init torch-function my_tanh.py", "under another name"),
        ("gradconform init ci", "a workflow that checks every change on GitHub"),
    ],
    help="Write a file to start from: a commented implementation that runs, and is right; or what runs it in CI.\n\n"
    f"KIND is one of\n\n\b\n{KINDS}\n\nNothing is overwritten.",
)
@click.argument("kind", type=click.Choice(list(SCAFFOLDS)), metavar="KIND")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def init(kind: str, file: Path | None) -> None:
    """Write the file of a kind, and tell what to do with it."""
    scaffold = SCAFFOLDS[kind]
    target = file or scaffold.target
    content = files("gradconform.examples").joinpath(scaffold.source).read_bytes()
    try:
        if file is None:
            target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(content)
    except FileExistsError:
        raise InvalidInput(f"{target}: it is there already; another name: gradconform init {kind} FILE") from None
    except OSError as error:
        raise InvalidInput(f"{target}: cannot be written: {error.strerror}") from None
    click.echo(f"{target}: {scaffold.sentence}. Next:\n  {scaffold.next.format(target)}")
