"""Completion of words on the command line: targets, checks, types, cases, symptoms. NumPy is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish")
DTYPES = ("float64", "float32", "bfloat16", "float16")
FOLDERS = (Path(".gradconform") / "cases", Path("gradconform-cases"))
"""Where cases are kept, as `gradconform.conformance.casefolder` has them, which imports NumPy."""
MOST = 200
"""So many words are offered, at most."""
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _starting(incomplete: str, words: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    """Return the words that begin so, with what is said of them."""
    found = ((word, said) for word, said in words if word.startswith(incomplete))
    # a word that would end the line of the shell is offered by none
    return [CompletionItem(word, help=said or None) for word, said in found if word.isprintable()][:MOST]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer files."""
    return [CompletionItem(incomplete, type="file")]


def targets(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the implementations that have a name, Python files here, and other files where none of these fits."""
    from gradconform.conformance.adapter_names import adapter_names, vmap_names

    named = [(name, "an installed framework, by its adapter") for name in adapter_names()]
    named += [(name, "several cases at once, by the framework's vmap") for name in vmap_names()]
    here = sorted(path.name for path in _entries(Path()) if path.suffix == ".py")
    found = _starting(incomplete, [("reference", "NumPy, from scratch"), *named, *((name, "") for name in here)])
    return found or [CompletionItem(incomplete, type="file")]


def checks(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the checks of networks."""
    from gradconform.conformance import explanations_checks

    return _checks(incomplete, explanations_checks.NETWORKS)


def operation_checks(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the checks of a layer alone."""
    from gradconform.conformance import explanations_checks

    return _checks(incomplete, explanations_checks.LAYERS)


def _checks(incomplete: str, family: str) -> list[CompletionItem]:
    from gradconform.conformance.explanations import every

    entries = every().values()
    own = [(entry.id, entry.meaning) for entry in entries if entry.family == family and entry.id != "call"]
    return _starting(incomplete, own)


def dtypes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the floating-point types."""
    return _starting(incomplete, ((dtype, "") for dtype in DTYPES))


def cases(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the cases that are kept here, by id, and files where none of them fits."""
    return _starting(incomplete, _case_ids()) or [CompletionItem(incomplete, type="file")]


def _case_ids() -> list[tuple[str, str]]:
    return [
        (path.stem, str(folder)) for folder in FOLDERS for path in sorted(_entries(folder)) if path.suffix == ".json"
    ]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def words(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer all that can be explained: symptoms, verdicts, checks, and findings that are kept here."""
    from gradconform.conformance.explanations import every

    known = [(word.replace(" ", "-"), entry.meaning) for word, entry in every().items()]
    return _starting(incomplete, [*known, *_case_ids()])


def scripts(shell: str, command: click.Command) -> str:
    """Return the script by which a shell completes the words of a command, `gradconform`."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"click knows no shell {shell}")
    made = kind(command, {}, "gradconform", "_GRADCONFORM_COMPLETE")
    return made.source_template % made.source_vars()
