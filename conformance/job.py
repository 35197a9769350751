"""A job: what a run checks, as plain data, so that a part of it can be run in any process that has gradconform."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import msgspec

from gradconform.conformance import implementations as known
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.parts import Part, drawn_by
from gradconform.conformance.plan import TIMEOUT, UNLIMITED, Plan, choose_checks, network_strategy, rounds_of
from gradconform.templates import with_free_widths


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is checked: the words of the command line. `max_examples`: None for a run that is ended from outside."""

    targets: tuple[str, ...] = ()
    program: tuple[str, ...] = ()
    seed: int
    max_examples: int | None = None
    network: str = ""
    dtypes: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    affine: bool = False
    isolate: bool = False
    timeout: float | None = TIMEOUT
    max_memory: int | None = None

    @property
    def rounds(self) -> int | None:
        """How many rounds it has; None where it has no end."""
        return None if self.max_examples is None else rounds_of(self.max_examples)

    def implementations(self) -> list[Implementation]:
        """Return who is checked: frameworks are imported, programs started.

        Raises `InvalidInput` or `NotInstalled` for what cannot be.
        """
        limits = (self.timeout, self.max_memory)
        chosen = [known.isolated(name, *limits) if self.isolate else known.resolve(name) for name in self.targets]
        return chosen + ([known.of_command(self.program, *limits)] if self.program else [])

    def plan(self, implementations: Sequence[Implementation], rounds: Sequence[int]) -> Plan:
        """Return the plan of some of its rounds."""
        return Plan(
            implementations,
            max_examples=UNLIMITED if self.max_examples is None else self.max_examples,
            seed=self.seed,
            networks=network_strategy(with_free_widths(self.network)) if self.network else None,
            dtypes=self.dtypes or None,
            checks=choose_checks(self.only, self.exclude),
            affine=self.affine,
            timeout=self.timeout,
            max_memory=self.max_memory,
            rounds=rounds,
            command=self.command,
        )

    @property
    def command(self) -> str:
        """The command that checks the same."""
        words = ["gradconform", "check", *self.targets, *(["--network", self.network] if self.network else [])]
        for option, several in (("--dtype", self.dtypes), ("--only", self.only), ("--exclude", self.exclude)):
            words += [word for value in several for word in (option, value)]
        words += [option for option, given in (("--affine", self.affine), ("--isolate", self.isolate)) if given]
        words += ["--seed", str(self.seed)]
        return shlex.join([*words, *(["--", *self.program] if self.program else [])])

    def part(self, rounds: Sequence[int], shard: str = "") -> Part:
        """Return the mark of a result that is of some of its rounds alone."""
        # as it is read back from JSON
        run: dict[str, Any] = {**drawn_by(), **msgspec.json.decode(msgspec.json.encode(self))}
        run.pop("isolate", None)  # a round whose worker died is run so
        return Part(run=run, rounds=list(rounds), of=self.rounds, shard=shard)
