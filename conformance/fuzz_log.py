"""The log of a fuzzing campaign: each unit that is done, one line of JSON, so that another run goes on from there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from gradconform.conformance.campaign_work import Done, Unit
from gradconform.conformance.casefolder import ignore
from gradconform.conformance.job import Job
from gradconform.conformance.parts import Part, differing
from gradconform.conformance.results import Result
from gradconform.conformance.signals import Signals
from gradconform.errors import InvalidInput

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

FOLDER = Path(".gradconform") / "fuzz"
JOB, ROUNDS, ERRORS = "job.json", "rounds.jsonl", "workers.txt"


class Begun(msgspec.Struct, kw_only=True):
    """What a campaign began with. `part`: what must not change from one run to the next."""

    job: Job
    part: Part


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of the log. `lost`: why the unit was given up, `bad`: with more than time to blame; `at`: seconds of the
    campaign until then.

    `parent`: bytes of memory that the process has that leads the campaign.
    """

    unit: Unit
    at: float
    result: msgspec.Raw = msgspec.Raw(b"null")
    signals: Signals = msgspec.field(default_factory=Signals)
    seconds: float = 0.0
    worker: str = ""
    memory: int = 0
    parent: int = 0
    lost: str = ""
    bad: bool = False

    def read(self) -> Result:
        """Return the result of the unit."""
        return Result.from_json(bytes(self.result))


class Log:
    """The log of one campaign, in a folder of its own. One process at a time writes it."""

    def __init__(self, folder: Path, job: Job, stream: IO[bytes]) -> None:
        self.folder, self.job, self._stream = folder, job, stream
        self.torn = False
        """Whether the last line was cut off, and left out."""

    @property
    def errors(self) -> str:
        """The file for what candidates print."""
        return str((self.folder / ERRORS).absolute())

    @classmethod
    def begin(cls, name: str, job: Job) -> Log:
        """Return the log of a new campaign; raises `InvalidInput` where there is one of that name."""
        folder = FOLDER / name
        if (folder / JOB).exists():
            raise InvalidInput(f"{folder} is there: go on with --resume --name {name}, or take another --name")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ignore(FOLDER.parent)
            (folder / JOB).write_bytes(msgspec.json.encode(Begun(job=job, part=job.part([]))))
        except OSError as error:
            raise InvalidInput(f"{folder}: cannot be written: {error.strerror}") from None
        return cls(folder, job, _opened(folder))

    @classmethod
    def resume(cls, name: str | None) -> Log:
        """Return the log of a campaign that was begun: of this name, or the last one.

        Raises `InvalidInput` where there is none, where another process writes it, and where it is of other versions.
        """
        folder = _last() if name is None else FOLDER / name
        try:
            begun = msgspec.json.decode((folder / JOB).read_bytes(), type=Begun)
        except OSError:
            raise InvalidInput(f"{folder}: no campaign to resume") from None
        except msgspec.DecodeError as error:
            raise InvalidInput(f"{folder / JOB}: cannot be read: {error}") from None
        if (difference := differing(begun.part, begun.job.part([]), "there", "here")) is not None:
            raise InvalidInput(f"{folder} cannot be gone on with: {difference}")
        return cls(folder, begun.job, _opened(folder))

    def entries(self) -> Iterator[Entry]:
        """Yield what was logged. A last line that was cut off is removed, and `torn` is set.

        Raises `InvalidInput` for another line that cannot be read.
        """
        self._stream.seek(0)
        end = 0
        for number, line in enumerate(self._stream, 1):
            try:
                entry = msgspec.json.decode(line, type=Entry) if line.endswith(b"\n") else None
            except msgspec.DecodeError as error:
                raise InvalidInput(f"{self.folder / ROUNDS}:{number}: cannot be read: {error}") from None
            if entry is None:
                self.torn = True
                break
            end += len(line)
            yield entry
        self._stream.seek(end)
        self._stream.truncate()

    def add(self, done: Done, at: float, parent: int) -> None:
        """Add what became of a unit."""
        self._write(
            Entry(
                unit=done.unit,
                at=round(at, 1),
                result=msgspec.Raw(done.result),
                signals=done.signals,
                seconds=done.seconds,
                worker=done.worker,
                memory=done.memory,
                parent=parent,
            )
        )

    def give_up(self, unit: Unit, why: str, bad: bool, at: float) -> None:
        """Add a unit that is given up: it is not run again."""
        self._write(Entry(unit=unit, at=round(at, 1), lost=why, bad=bad))

    def _write(self, entry: Entry) -> None:
        self._stream.write(msgspec.json.encode(entry) + b"\n")
        self._stream.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def _last() -> Path:
    """Return the folder of the campaign that was written last."""
    found = []
    with contextlib.suppress(OSError):
        found = [path for path in FOLDER.iterdir() if (path / ROUNDS).exists()]
    if not found:
        raise InvalidInput(f"{FOLDER}: no campaign to resume")
    return max(found, key=lambda path: (path / ROUNDS).stat().st_mtime)


def _opened(folder: Path) -> IO[bytes]:
    """Return the log in a folder, which no other process writes until it is closed."""
    try:
        stream = (folder / ROUNDS).open("a+b")
    except OSError as error:
        raise InvalidInput(f"{folder}: cannot be written: {error.strerror}") from None
    if fcntl is not None:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            raise InvalidInput(f"{folder}: another process is writing it") from None
    return stream
