"""Two existing models that should agree: `gradconform.compare`, and the result of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
import numpy as np

from gradconform.conformance.comparing_causes import causes, parted
from gradconform.conformance.comparing_data import read_batch
from gradconform.conformance.comparing_map import SIDES, Link, read_map
from gradconform.conformance.comparing_models import Run, join
from gradconform.conformance.comparing_pairing import Pair, paired
from gradconform.conformance.comparing_targets import model_of
from gradconform.conformance.comparing_units import (
    HALF,
    ORDINARY,
    SAMPLES,
    Judged,
    Key,
    Look,
    Looks,
    absent,
    judge,
    largest,
    said,
)
from gradconform.conformance.results import Number, spelled
from gradconform.dtypes import is_floating
from gradconform.errors import InvalidInput
from gradconform.losses import LossRecord

Verdict = Literal["agree", "differ", "nondeterministic", "nothing compared"]
EXIT_CODES: Mapping[Verdict, int] = {"agree": 0, "differ": 1, "nondeterministic": 1, "nothing compared": 5}

SILENT = {"zero", "unstable", "nonfinite"}
"""Verdicts on quantities that could not have told a wrong value from a right one."""


class Row(msgspec.Struct, kw_only=True):
    """One quantity of both models, at its worst element."""

    stage: str
    """`place`, `outputs`, `loss`, `gradient` or `input`."""
    name: str
    other: str
    """Its name in the second model."""
    verdict: str
    """equal, rounding, faint, unstable, zero or nonfinite; DIFFERS, MISSING or SHAPE."""
    index: list[int] = []
    first: Number | None = None
    second: Number | None = None
    error: Number | None = None
    units: Number | None = None
    """The difference in measured units of rounding, in the precision that decides."""
    float32_units: Number | None = None
    detail: str = ""

    @property
    def differs(self) -> bool:
        """Whether rounding cannot explain it."""
        return self.verdict.isupper()


class Compared(msgspec.Struct, kw_only=True):
    """The result of a comparison. `print(result)` is its message."""

    schema: int = 1
    verdict: Verdict
    first: str
    second: str
    frameworks: list[str]
    decided_in: str
    """float64, or float32 where a model cannot be run in float64."""
    rows: list[Row]
    """Intermediate values, outputs and loss in the order of the forward pass, then gradients from the last one on."""
    parted: str = ""
    """Where the models part, in words."""
    causes: list[str] = []
    """What explains the difference; each was tried."""
    sharpness: float | None = None
    """The smallest relative error of the whole of any gradient that would have been found."""
    notes: list[str] = []
    elements: int = 0
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether something was compared and everything agreed."""
        return self.verdict == "agree"

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        return EXIT_CODES[self.verdict]

    @property
    def gradients(self) -> list[Row]:
        """The rows of gradients, from the last one on."""
        return [row for row in self.rows if row.stage in {"gradient", "input"}]

    @property
    def first_difference(self) -> Row:
        """Where the models part: in the order of the forward pass, then of the backward pass."""
        return next(row for row in self.rows if row.differs)

    def to_json(self) -> bytes:
        """Return the result as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    def __str__(self) -> str:
        from gradconform.conformance.comparing_report import compared_text

        return compared_text(self)


def compare(
    first: object,
    second: object,
    *,
    data: str | Mapping[str, Any],
    parameters: str | Mapping[str, Any] | None = None,
    loss: str | LossRecord | None = None,
    values: str | Mapping[str, Any] | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> Compared:
    """Compare the gradients of two models on the same parameters and the same batch.

    A model is an `nn.Module` (an instance, a class, or a function without arguments that makes one), a function
    `model(parameters, inputs)` in JAX or PyTorch that returns outputs, (outputs, {name: intermediate value}) or a
    scalar loss, a function `gradients(parameters, inputs, targets)` that returns `{name: gradient}`, or a string
    `FILE.py:OBJECT`. `data`: a .npz or .csv file, or `{name: array}`. `parameters`: a map in TOML or as a dictionary.
    `loss`: in notation, for models that return outputs. `values`: parameters by the first model's names.
    Raises `InvalidInput` for what cannot be used.
    """
    models = model_of(first, seed=seed), model_of(second, seed=seed)
    if models[0].name == models[1].name:
        for model, side in zip(models, SIDES, strict=True):
            model.name = f"{model.name} ({side})"
    batch = read_batch(data, rows)
    pair, notes = paired(models[0], models[1], read_map(parameters), values, batch, read_loss(loss))
    return compared(pair, seed, notes)


def read_loss(loss: str | LossRecord | None) -> LossRecord | None:
    """Return the loss that a notation such as `Huber(delta=2)` spells. Raises `InvalidInput` for an unknown one."""
    if isinstance(loss, str):
        from gradconform.notation import LOSSES, parse_item

        record: LossRecord = parse_item(loss, LOSSES)
        loss = record
    if isinstance(loss, LossRecord) and loss.reduction == "none":
        raise InvalidInput("loss: reduction none gives no single cost: use mean or sum")
    return loss


def compared(pair: Pair, seed: int = 0, notes: Sequence[str] = ()) -> Compared:
    """Run both models, in float64 and in float32 and on moved numbers, and return what that tells."""
    told = list(notes)
    both = pair.first, pair.second
    names = [model.name for model in both]
    header: dict[str, Any] = {"first": names[0], "second": names[1], "frameworks": [m.framework for m in both]}
    single = [pair.run(which, "float32") for which in (0, 1)]
    double, narrowed = [], []
    for which in (0, 1):
        run, how = _in_float64(pair, which)
        double.append(run or single[which])
        narrowed.append(how)
    dtype = "float32" if any(narrowed) else "float64"
    told += [
        f"{name} cannot be run in float64: {how}. Decided by the float32 runs, which is weaker: what is within "
        "float32's rounding cannot be seen"
        for name, how in zip(names, narrowed, strict=True)
        if how
    ]
    places = _places(pair, single[0], single[1])
    pair = replace(pair, places=places, shapes={name: single[0].places[name].shape for name in places})
    looks = [Looks(pair.look(which, double[which]), pair.look(which, single[which])) for which in (0, 1)]
    for which, model in enumerate(both):
        again = pair.look(which, pair.run(which, dtype))
        if unlike := _unlike(looks[which].of(dtype), again, dtype):
            why = (
                f"it draws random numbers in {join(model.shuffled)}: call .eval() on it, or fix its seed"
                if model.shuffled
                else "it draws random numbers, or keeps something from call to call; fix its seed, or take that out"
            )
            detail = f"{model.name} gives other numbers for the {unlike} in a second run: {why}"
            return Compared(verdict="nondeterministic", decided_in=dtype, rows=[], notes=told, detail=detail, **header)
    moved = [
        [pair.look(which, pair.run(which, dtype, 1000 * seed + draw + 1)) for draw in range(SAMPLES)]
        for which in (0, 1)
    ]
    judged = judge_all(pair, looks, moved, dtype)
    told += _told(pair, judged, single)
    gradients = [entry for entry in judged if entry.key[0] in {"gradient", "input"}]
    telling = [entry for entry in gradients if entry.verdict not in SILENT]
    differs = any(entry.differs for entry in judged)
    sharpness = [found for entry in telling if not entry.differs and (found := entry.sharpness) is not None]
    return Compared(
        verdict="differ" if differs else "agree" if telling else "nothing compared",
        decided_in=dtype,
        rows=[_row(pair, entry) for entry in judged],
        parted=parted(judged) if differs else "",
        causes=causes(pair, judged, looks, dtype) if differs else [],
        sharpness=max(sharpness, default=None),
        notes=told,
        elements=sum(entry.error.size for entry in gradients),
        detail="" if telling or differs else "every gradient is 0, not finite, or too unstable to tell",
        **header,
    )


def _in_float64(pair: Pair, which: int) -> tuple[Run | None, str]:
    """Return a model's float64 run, and how it is none in truth: nothing if all is well."""
    try:
        run = pair.run(which, "float64")
        return run, _narrowed(pair, which, run)
    except InvalidInput as error:
        # it ran in float32: what it cannot do is the other type
        return None, str(error).removeprefix(f"{(pair.first, pair.second)[which].name} in float64: ")


def judge_all(pair: Pair, looks: Sequence[Looks], moved: Sequence[Sequence[Look]], dtype: str) -> list[Judged]:
    """Return all quantities judged: forward in the order of the pass, then gradients from the last parameter on."""

    def judged(key: Key) -> Judged:
        shown = [[look[key] for look in own if key in look] for own in moved]
        return judge(key, looks, shown, dtype, scale if key[0] in {"gradient", "input"} else 0.0)

    scale = largest(looks, dtype)
    has = [look.of(dtype) for look in looks]
    forward = [("place", name) for name in pair.places] + [("outputs", ""), ("loss", "")]
    found = [judged(key) for key in forward if key in has[0] and key in has[1]]
    for link in reversed(pair.trained):
        key = "gradient", link.first
        given = [key in look for look in has]
        if all(given):
            found.append(judged(key))
        else:
            shown = has[given.index(True)][key] if any(given) else np.zeros(pair.values[link.first].shape)
            missing = (pair.first.name, pair.second.name)[given.index(False)]
            found.append(absent(key, shown, "" if not any(given) else missing, dtype))
    # an input that one model does not differentiate, as embeddings and detach() have it, changes no parameter
    if all(("input", "inputs") in look for look in has):
        found.append(judged(("input", "inputs")))
    return found


def _places(pair: Pair, first: Run, second: Run) -> dict[str, Link]:
    """Return the intermediate values that are compared, in the first model's order: those mapped, or of equal names."""
    for name, link in pair.places.items():
        for model, run, own in ((pair.first, first, name), (pair.second, second, link.second)):
            if own not in run.places:
                raise InvalidInput(
                    f"[outputs] {own!r}: {model.name} shows no such value; it shows {join(list(run.places))}"
                )
    links = dict(pair.places) or {name: Link(name, name) for name in first.places if name in second.places}
    order = list(first.places)
    return {name: links[name] for name in sorted(links, key=order.index)}


def _unlike(one: Look, two: Look, dtype: str) -> str:
    """Return the first quantity that differs between two runs by more than half of the digits, or nothing."""
    for key, first in one.items():
        second = two.get(key)
        if second is None or first.shape != second.shape:
            return said(key)
        with np.errstate(all="ignore"):
            error = np.nanmax(np.abs(first - second), initial=0.0)
            if error > HALF[dtype] * np.nanmax(np.abs(first), initial=0.0):
                return said(key)
    return ""


def _narrowed(pair: Pair, which: int, run: Run) -> str:
    """Return how a model rounds to a shorter type in its float64 run, or nothing."""
    short = [
        (what, array.dtype)
        for what, array in [
            ("outputs are", run.outputs),
            *((f"gradient of {p} is", g) for p, g in run.gradients.items()),
        ]
        if array is not None and is_floating(array.dtype) and array.dtype.itemsize < 8
    ]
    if short:
        return f"its {short[0][0]} {short[0][1]}"
    how = run.narrowed or pair.run(which, "float64", inspect=True).narrowed
    return f"it rounds on its way, by {how}" if how and " is " not in how else how


def _row(pair: Pair, entry: Judged) -> Row:
    stage, name = entry.key
    links = pair.places if stage == "place" else {link.first: link for link in pair.links}
    other = links[name].second if name in links else name
    row = Row(stage=stage, name=name, other=other, verdict=entry.verdict)
    if entry.shape:
        row.detail = f"shapes {entry.shape}"
    elif entry.absent:
        row.detail = f"{entry.absent} gives none"
    elif entry.error.size:
        index = entry.index
        row.index = list(index)
        row.first, row.second = spelled(float(entry.first[index])), spelled(float(entry.second[index]))
        row.error = spelled(float(entry.error[index]))
        row.units, row.float32_units = spelled(entry.units), spelled(entry.single_units)
    return row


def _told(pair: Pair, judged: Sequence[Judged], runs: Sequence[Run]) -> list[str]:
    """Return what to know beside the table."""
    told = [
        f"{model.name} computes its own loss: --loss does not concern it"
        for model, run in zip((pair.first, pair.second), runs, strict=True)
        if pair.loss is not None and run.outputs is None
    ]
    for which, model in enumerate((pair.first, pair.second)):
        worst = max((entry.coarse[which] for entry in judged if entry.coarse), default=0.0)
        if worst > ORDINARY:
            told.append(
                f"the float32 run of {model.name} loses {worst:.0f} times what float32's rounding does: a very long "
                "sum, or products in TF32 or bfloat16"
            )
    for entry in judged:
        if entry.verdict == "faint":
            told.append(
                f"{said(entry.key)}: {entry.units:.1e} units are more than rounding mostly takes, and less than "
                "float32 can show: a poor kernel, or a constant with few digits"
            )
        elif entry.verdict == "unstable":
            told.append(
                f"{said(entry.key)}: one unit in the last place of parameters and inputs moves it visibly, as at a "
                "kink of ReLU or where digits cancel; whether it differs cannot be told there"
            )
    return told
