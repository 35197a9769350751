"""Mistakes in what a loss has beside its formula: factors, smoothing, limits, and small numbers added to logarithms."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from gradconform.conformance.endpoint import (
    PROBABILITIES,
    Delta,
    in_delta,
    in_loss,
    kept,
    labels_of,
    plain_classes,
    probabilities,
    scaled,
    weights_of,
    whole_loss,
    with_options,
)
from gradconform.conformance.mistake import End, Mistake
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    LossRecord,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.reference.arithmetic import Value

EPSILONS = (1e-15, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""What people add to a probability, or clip it to."""


def _smoothed_over_others(e: End) -> Value | None:
    """Return the delta of labels (1 - epsilon) y + epsilon / (C - 1) (1 - y)."""
    loss, classes = e.loss, e.z.shape[-1]
    if not isinstance(loss, SoftmaxCrossEntropy) or not loss.label_smoothing or classes == 1:
        return None
    if e.batch.class_weights is not None:
        return None
    y, epsilon = labels_of(e), float(loss.label_smoothing)
    others = e.k.lift(kept(e)[:, None].astype(float)) - y
    q = y * (1 - epsilon) + others * (epsilon / (classes - 1))
    return (e.k.softmax(e.z)[0] - q) * weights_of(e) * float(loss.scale)


def _with_epsilon(epsilon: float) -> Delta:
    def change(e: End) -> Value | None:
        if isinstance(e.loss, CrossEntropy):
            return -e.k.weigh(labels_of(e), weights_of(e) / (e.z + epsilon))
        if isinstance(e.loss, BinaryCrossEntropy):
            y = labels_of(e)
            gain = e.k.weigh(1 - y, weights_of(e) / (1 - e.z + epsilon))
            return gain - e.k.weigh(y, weights_of(e) / (e.z + epsilon))
        if plain_classes(e):
            p = e.k.softmax(e.z)[0]
            pulled = e.k.weigh(labels_of(e), p / (p + epsilon) * weights_of(e))
            return p * pulled.sum(axis=-1, keepdims=True) - pulled
        return None

    return change


def _clipped_delta(epsilon: float) -> Delta:
    """Return p - y with p clipped, as where the clipped probabilities are kept from the forward pass."""

    def change(e: End) -> Value | None:
        if not (plain_classes(e) or isinstance(e.loss, SigmoidCrossEntropy)):
            return None
        p = e.k.clip(probabilities(e), epsilon, "")[0]
        return (p - labels_of(e)) * weights_of(e)

    return change


def _of_squares(factor: float) -> Callable[[End], float | None]:
    return lambda e: factor if isinstance(e.loss, MeanSquaredError) else None


def _halved(loss: LossRecord) -> LossRecord | None:
    return msgspec.structs.replace(loss, scale=loss.scale / 2) if isinstance(loss, MeanSquaredError) else None


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    rows: list[tuple[str, str, str, Callable[[LossRecord], LossRecord | None]]] = [
        (
            "smoothing-ignored",
            "label smoothing is left out: spread epsilon over all classes before p - y",
            "y = (1 - epsilon) * y + epsilon / C",
            with_options(label_smoothing=0.0),
        ),
        (
            "huber-delta",
            "Huber's delta is taken to be 1: use the loss' own",
            "np.clip(r, -loss.delta, loss.delta), not np.clip(r, -1, 1)",
            with_options(delta=1.0),
        ),
        (
            "scale-ignored",
            "the loss' scale is left out: multiply the delta by it",
            "delta = loss.scale * (...)",
            with_options(scale=1.0),
        ),
    ]
    for identifier, likely, mend, change in rows:
        yield Mistake(identifier, likely, mend, end=in_loss(change))
        yield Mistake(identifier, f"{likely} (in the cost as well)", mend, given=whole_loss(change), claims=2)
    yield Mistake(
        "smoothing-over-others",
        "label smoothing spreads epsilon over the other C - 1 classes: it is spread over all C",
        "y = (1 - epsilon) * y + epsilon / C, not epsilon / (C - 1)",
        end=in_delta(_smoothed_over_others),
        kinds=(SoftmaxCrossEntropy,),
    )
    for identifier, likely, factor in (
        ("half-mse", "the gradient is that of half the squared error: the derivative of (a - y)^2 is 2 (a - y)", 0.5),
        ("twice-mse", "the factor 2 of the squared error's derivative is applied twice", 2.0),
    ):
        yield Mistake(
            identifier,
            likely,
            "delta = 2 * (a - y) / y.size, the factor 2 once",
            end=scaled(_of_squares(factor)),
            kinds=(MeanSquaredError,),
        )
    yield Mistake(
        "half-mse",
        "cost and gradient are those of half the squared error: multiply by 2, or declare the convention half",
        "cost = ((a - y) ** 2).mean(), not / 2; its delta is 2 * (a - y) / y.size",
        given=whole_loss(_halved),
        claims=2,
        kinds=(MeanSquaredError,),
    )
    for epsilon in EPSILONS:
        yield Mistake(
            "log-epsilon",
            f"{epsilon:g} is added to the probability before the logarithm: start from the logits instead",
            f"log_p = z - logsumexp(z), not log(p + {epsilon:g})",
            end=in_delta(_with_epsilon(epsilon)),
        )
        yield Mistake(
            "probability-clip",
            f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}], where the gradient is then 0: use the "
            "logits, or declare the convention clip",
            f"delta = p - y from the logits, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            given=whole_loss(with_options(clip=epsilon)),
            kinds=PROBABILITIES,
            claims=2,
        )
        yield Mistake(
            "probability-clip",
            f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}] in the delta: use them as they are",
            f"delta = p - y, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            end=in_loss(with_options(clip=epsilon)),
            kinds=PROBABILITIES,
        )
        yield Mistake(
            "probability-clip",
            f"p is clipped to [{epsilon:g}, 1 - {epsilon:g}] before p - y: use it as it is",
            f"delta = p - y, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            end=in_delta(_clipped_delta(epsilon)),
        )
