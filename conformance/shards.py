"""Shards: the parts into which a run is split for several machines, and their results put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradconform.conformance.job import Job
from gradconform.conformance.merging import merged
from gradconform.conformance.parts import Part, differing
from gradconform.conformance.plan import GivenNetworks, Plan
from gradconform.conformance.results import Result
from gradconform.errors import InvalidInput


def require_shardable(shard: str, *, data: str | None, max_time: float | None, seeded: bool) -> None:
    """Raise `InvalidInput`, one line, where a run cannot be split, or where its shards would not be of one run."""
    _read(shard)
    if data is not None:
        raise InvalidInput(
            "--shard splits generated networks; with --data each step of the training needs the one before"
        )
    if max_time is not None:
        raise InvalidInput(
            "--shard goes without --max-time or a profile that has one: its counts must not depend on the machine"
        )
    if not seeded:
        raise InvalidInput("--shard needs --seed, the same for all shards, or --profile ci")


def part_of(plan: Plan, shard: str, program: Sequence[str]) -> Part:
    """Narrow a plan to the rounds of a shard, and return which part of the run that is.

    `program`: the words of the command among what is checked. Raises `InvalidInput` for more shards than rounds.
    """
    job = _job(plan, program)
    number, count = _read(shard)
    rounds = job.rounds or 0
    if count > rounds:
        several = f"{rounds} rounds" if rounds > 1 else "one round"
        raise InvalidInput(
            f"--shard {shard}: {plan.max_examples:,} networks are {several}, and no more shards than that: "
            f"raise --max-examples"
        )
    # of the whole run: whoever is isolated has none
    beside = [entry.name for entry in replace(plan, rounds=None).beside.values()]
    plan.rounds = range(number - 1, rounds, count)
    part = job.part(plan.rounds, shard)
    # what no word of the command line says, and a profile of one's own does
    part.run |= {"draws": plan.draws, "required": list(plan.required), "beside": beside}
    return part


def _read(shard: str) -> tuple[int, int]:
    """Return the number of a shard, and how many there are."""
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InvalidInput(f"--shard {shard}: expected its number and how many there are, as in 2/4")
    return int(number), int(count)


def _job(plan: Plan, program: Sequence[str]) -> Job:
    """Return what a plan checks, as plain data: what all shards of a run have in common."""
    named = [entry.name for entry in plan.implementations]
    networks = plan.networks
    texts = (
        [template.text or str(template.network) for template in networks.templates]
        if isinstance(networks, GivenNetworks)
        else []
    )
    return Job(
        targets=tuple(named[:-1] if program else named),
        program=tuple(program),
        seed=plan.seed,
        max_examples=plan.max_examples,
        network="; ".join(texts),
        dtypes=tuple(plan.dtypes or ()),
        only=tuple(check.id for check in plan.checks),
        affine=plan.affine,
        timeout=plan.timeout,
        max_memory=plan.max_memory,
    )


def whole_of(shards: Mapping[str, Result]) -> Result:
    """Return the result of a run from those of all its shards, each under the name of its file.

    Raises `InvalidInput`, one line, for what is no shard or was interrupted, for shards of different runs, for one that
    is there twice, and for one that is missing.
    """
    seen: dict[str, str] = {}
    first = next(iter(shards))
    count = 0
    for place, result in shards.items():
        part = result.part
        if part is None or not part.shard:
            raise InvalidInput(f"{place}: not a shard: it was written without --shard")
        if result.interrupted:
            raise InvalidInput(f"{place}: shard {part.shard} was interrupted: run it again")
        own, count = _read(part.shard)
        known = shards[first].part
        if known is not None and (difference := differing(known, part)) is not None:
            raise InvalidInput(f"{first} and {place} are not of one run: {difference}")
        if known is not None and _read(known.shard)[1] != count:
            raise InvalidInput(f"{first} is shard {known.shard} and {place} is shard {part.shard}: not of one split")
        if part.shard in seen:
            raise InvalidInput(f"{seen[part.shard]} and {place} are both shard {part.shard}")
        seen[f"{own}/{count}"] = place
    missing = [f"{number}/{count}" for number in range(1, count + 1) if f"{number}/{count}" not in seen]
    if missing:
        several = len(missing) > 1
        raise InvalidInput(f"shard{'s' * several} {', '.join(missing)} {'are' if several else 'is'} missing")
    return merged(list(shards.values()))
