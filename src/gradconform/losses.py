"""The losses as descriptions: frozen records without arithmetic.

Reductions mean what PyTorch documents. Cross entropies give one cost a row: `mean` divides their sum by the
number of rows that count, or, with integer labels and class weights, by the sum of the weights that count.
Binary, squared and Huber losses give one cost an element: `mean` divides by the number of elements, `batchmean` by
that of the rows alone, which for cross entropies is the mean. `none` leaves the costs as they are, and the case gives
their cotangent. What comes of it is multiplied with `scale`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from gradconform.layers import Record, Sigmoid, Softmax, finite, one_of

Reduction = Literal["mean", "sum", "none", "batchmean"]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none", "batchmean")


class Scaled(Record, frozen=True, kw_only=True):
    """What may be multiplied with a constant."""

    scale: float = 1.0


class LossRecord(Scaled, frozen=True):
    """What every loss has: a reduction, a scale, the kind of its targets and what it asks of the layer before it."""

    labels: ClassVar[Literal["classes", "fractions", "values"]]
    """classes: (N,) integers or (N, C) distributions; fractions: (N, C) in [0, 1]; values: (N, C)."""
    follows: ClassVar[tuple[type[Record], ...]] = ()
    """The layers after which the loss is defined; empty: any."""

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        one_of("reduction", self.reduction, REDUCTIONS)
        finite("scale", self.scale)
        if self.scale <= 0:
            raise ValueError(f"scale must be above 0, got {self.scale:g}")

    @property
    def averages(self) -> bool:
        """Whether the costs are divided by the number of rows, or by the sum of their weights."""
        return self.reduction in {"mean", "batchmean"}

    def shape(self, rows: int, width: int) -> tuple[int, ...]:
        """Return the shape of the loss of `rows` samples with `width` outputs."""
        if self.reduction != "none":
            return ()
        return (rows,) if self.labels == "classes" else (rows, width)


class SoftmaxCrossEntropy(LossRecord, frozen=True):
    """-sum of y log softmax(z), on logits.

    `label_smoothing` replaces y by (1 - epsilon) y + epsilon / C. Rows whose integer label is `ignore_index`
    count nowhere. Class weights are the batch's.
    """

    labels = "classes"

    label_smoothing: float = 0.0
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("label_smoothing", self.label_smoothing, 0.0)
        if self.label_smoothing > 1:
            raise ValueError(f"label_smoothing must be at most 1, got {self.label_smoothing:g}")
        if self.ignore_index is not None and type(self.ignore_index) is not int:
            raise ValueError(f"ignore_index must be an integer or None, got {self.ignore_index!r}")


def _at_most_half(clip: float) -> None:
    finite("clip", clip, 0.0)
    if clip >= 0.5:
        raise ValueError(f"clip must be below 0.5, got {clip:g}")


class CrossEntropy(LossRecord, frozen=True):
    """-sum of y log p, on the probabilities of a Softmax.

    `clip`: p is limited to [clip, 1 - clip] before the logarithm; where it was, the derivative is 0.
    """

    labels = "classes"
    follows = (Softmax,)

    clip: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_most_half(self.clip)


class SigmoidCrossEntropy(LossRecord, frozen=True):
    """-y log sigma(z) - (1 - y) log(1 - sigma(z)), on logits."""

    labels = "fractions"


class BinaryCrossEntropy(LossRecord, frozen=True):
    """-y log p - (1 - y) log(1 - p), on the probabilities of a Sigmoid.

    `clip`: p is limited to [clip, 1 - clip] before all else; where it was, the derivative is 0.
    `log_floor` is a lower limit of both logarithms in the cost, `denominator_floor` one of p (1 - p) in the
    gradient (p - y) / (p (1 - p)): how an implementation that limits them, such as PyTorch's, is described.
    """

    labels = "fractions"
    follows = (Sigmoid,)

    log_floor: float | None = None
    denominator_floor: float | None = None
    clip: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_most_half(self.clip)
        if self.log_floor is not None:
            finite("log_floor", self.log_floor)
        if self.denominator_floor is not None:
            finite("denominator_floor", self.denominator_floor, 0.0)


class MeanSquaredError(LossRecord, frozen=True):
    """(a - y)^2."""

    labels = "values"


class Huber(LossRecord, frozen=True):
    """(a - y)^2 / 2 where |a - y| <= delta, delta (|a - y| - delta / 2) elsewhere."""

    labels = "values"

    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("delta", self.delta)
        if self.delta <= 0:
            raise ValueError(f"delta must be above 0, got {self.delta:g}")


Loss = SoftmaxCrossEntropy | CrossEntropy | SigmoidCrossEntropy | BinaryCrossEntropy | MeanSquaredError | Huber
