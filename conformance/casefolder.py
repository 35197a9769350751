"""Where case files stand: written into their folder as failures are found, found again by id, pinned, and trusted."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gradconform.case import Case
from gradconform.conformance.casefile import (
    LARGEST,
    CaseFile,
    Conditions,
    encode,
    found_of,
    versions,
)
from gradconform.conformance.casefile_reading import ID, read_case
from gradconform.conformance.findings import Failure, finding_of
from gradconform.conformance.plan import Plan
from gradconform.conformance.results import Finding
from gradconform.errors import InvalidInput
from gradconform.nearest import closest

CASES = Path(".gradconform") / "cases"
"""Where the command line keeps what it finds, in the current folder."""
PINS = Path("gradconform-cases")
"""Where pinned cases stand, in the current folder: a part of the user's repository."""
MOST_NUMBERS = 200_000
"""Earlier calls of more numbers are not kept: a file would mostly consist of them."""
IGNORED = "# Written by gradconform\n*\n"


class Keeper:
    """Writes each failure of a run into a folder, at once, and again under the same id when it has become smaller.

    `program`: the words of the command among what is checked, if there is one. A run goes on where a file cannot be
    written: `note` then says so.
    """

    def __init__(self, folder: Path | str, plan: Plan, program: Sequence[str] = ()) -> None:
        self.folder, self.plan, self.program = Path(folder), plan, tuple(program)
        self.note = ""
        self._unwritable = False
        self._files: dict[str, CaseFile] = {}

    def keep(self, failure: Failure) -> None:
        """Write the case file of a failure, which then knows its file and the command that judges it again."""
        file = self._files[failure.id] = self.file_of(failure)
        place = self._write(file)
        if place is not None:
            failure.file, failure.replay = str(place), replay_command(place, file)

    def complete(self, findings: Sequence[Finding]) -> None:
        """Add to the files what was found out in the whole of the run."""
        for finding in findings:
            if finding.id in self._files:
                self._write(replace(self._files[finding.id], found=found_of(finding)))

    def _write(self, file: CaseFile) -> Path | None:
        if self._unwritable:
            return None
        try:
            place = write_case(self.folder, file)
        except OSError as error:
            self._unwritable = True
            self.note = f"{self.folder}: cases cannot be kept there: {error.strerror}"
            return None
        if place is None:
            self.note = f"{file.id} is not kept: its file would have more than {LARGEST:,} bytes"
        return place

    def file_of(self, failure: Failure) -> CaseFile:
        """Return what a case file says of a failure."""
        plan, judgement, implementation = self.plan, failure.judgement, failure.implementation
        program = self.program if self.program and implementation.name == shlex.join(self.program) else ()
        return CaseFile(
            id=failure.id,
            implementation=implementation.name,
            program=program,
            case=failure.case,
            conditions=Conditions(
                checks=[check.id for check in plan.checks],
                relations=judgement.relations,
                affine=plan.affine,
                isolated=implementation.guard.outside and not program,
                timeout=plan.timeout,
                max_memory=plan.max_memory,
                kinks=judgement.kinks,
                calls=judgement.history.calls,
            ),
            found=found_of(finding_of(failure, "", [])),
            seed=plan.seed,
            versions=versions(),
            before=_others([Case(*call) for call in judgement.history.before], failure.case),
        )


def _others(cases: Sequence[Case], case: Case) -> tuple[Case, ...]:
    """Return cases with other numbers than `case` and than each other; none where there are too many numbers."""
    seen = {_content(case): case}
    for other in cases:
        seen.setdefault(_content(other), other)
    bytes_of_all = sum(len(array) for content in list(seen)[1:] for array in content)
    return tuple(seen.values())[1:] if bytes_of_all <= MOST_NUMBERS * case.dtype.itemsize else ()


def _content(case: Case) -> tuple[bytes, ...]:
    arrays = [*case.parameters.values(), *vars(case.batch).values()]
    return tuple(b"" if array is None else array.tobytes() for array in arrays)


def write_case(folder: Path, file: CaseFile) -> Path | None:
    """Write a case file, whole or not at all, and return its place; None where it would be too large to be read."""
    content = encode(file)
    return None if len(content) > LARGEST else write_content(folder, file.id, content)


def write_content(folder: Path, name: str, content: bytes) -> Path:
    """Write the content of the case file of an id, whole or not at all, and return its place."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder == CASES:
        ignore(folder.parent)
    place = folder / f"{name}.json"
    unfinished = folder / f".{name}.{os.getpid()}"
    try:
        unfinished.write_bytes(content)
        unfinished.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    return place


def ignore(folder: Path) -> None:
    """Have git ignore a folder that we write."""
    with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="ascii") as stream:
        stream.write(IGNORED)


def replay_command(place: Path, file: CaseFile) -> str:
    """Return the command that judges a case again: by its id where the command line looks for it."""
    words = ["gradconform", "replay"]
    if place.parent in {CASES, PINS}:
        return shlex.join([*words, file.id])
    return shlex.join([*words, str(place), *(["--", *file.program] if file.program else [file.implementation])])


def places_of(word: str) -> list[Path]:
    """Return the case files that a word names: one by its id or its place, or those of a folder.

    Raises `InvalidInput` where there is none of this name, with where it was looked for and the nearest ids.
    """
    place = Path(word)
    if place.is_dir():
        return case_files(place)
    if place.exists() or not ID.fullmatch(word):
        if not place.exists():
            raise InvalidInput(f"{word}: no such file or folder, and no id, which has 8 hexadecimal digits")
        return [place]
    for folder in (CASES, PINS):
        if (found := folder / f"{word}.json").exists():
            return [found]
    known = sorted({path.stem for folder in (CASES, PINS) for path in case_files(folder)})
    close = closest(word, known, 3)
    many = "is 1 case" if len(known) == 1 else f"are {len(known):,} cases"
    there = f"did you mean {' or '.join(close)}?" if close else f"there {many}"
    raise InvalidInput(f"no case {word} in {CASES} and {PINS} of this folder; {there}")


def case_files(folder: Path) -> list[Path]:
    """Return the places of the case files in a folder, in a fixed order; none where there is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidInput(f"{folder}: cannot be read: {error.strerror}") from None


def trusted(place: Path) -> bool:
    """Return whether what a file names may be run without being named by the user.

    That is where our own runs and the user's repository keep files: in the two folders of the current one.
    """
    resolved = place.resolve()
    return any(resolved.parent == (Path.cwd() / folder).resolve() for folder in (CASES, PINS))


def pinned_of(folder: Path, names: Sequence[str]) -> list[tuple[Path, CaseFile]]:
    """Return the pinned cases of the implementations of these names. Raises `InvalidInput` for a file that is none."""
    files = [(place, read_case(place)) for place in case_files(folder)]
    return [(place, file) for place, file in files if file.implementation in names]
