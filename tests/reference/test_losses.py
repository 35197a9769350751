"""The losses: hand-computed costs and output deltas, and what each reduction divides by."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from gradconform.case import Batch
from gradconform.errors import Unsupported
from gradconform.layers import Dense, Sigmoid, Softmax
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    LossRecord,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.losses import cost, fused, loss_rule

LN2, LN3 = math.log(2), math.log(3)

# softmax: (1/4, 1/2, 1/4) and (1/4, 1/4, 1/2), so that -log p is ln 4, ln 2, ln 4 and ln 4, ln 4, ln 2
LOGITS = np.array([[7, 7 + LN2, 7], [0, 0, LN2]])
P = np.array([[1, 2, 1], [1, 1, 2]]) / 4
LABELS = np.array([1, 0])
ONE_HOT = np.array([[0.0, 1, 0], [1, 0, 0]])
SOFT = np.array([[0.5, 0.25, 0.25], [0, 0.25, 0.75]])
WEIGHTS = np.array([1.0, 2, 4])
WRONG = P - ONE_HOT  # (1/4, -1/2, 1/4), (-3/4, 1/4, 1/2)


def found(loss, z, targets, **options):
    with np.errstate(all="ignore"):
        return cost(loss, Plain(np.float64), np.asarray(z, float), Batch(np.zeros((len(z), 1)), targets, **options))


def check(loss, z, targets, value, delta, **options):
    actual = found(loss, z, targets, **options)
    assert np.shape(actual[0]) == np.shape(value)
    assert np.allclose(actual[0], value, rtol=2e-15, atol=1e-16)
    assert np.allclose(actual[1], delta, rtol=2e-15, atol=2e-16)


class TestSoftmaxCrossEntropy:
    """-sum of q log p, dC/dz = p sum(q) - q."""

    # ln 2 and ln 4
    def test_sum(self):
        check(SoftmaxCrossEntropy(reduction="sum"), LOGITS, LABELS, 3 * LN2, WRONG)

    def test_mean_divides_by_the_rows(self):
        check(SoftmaxCrossEntropy(), LOGITS, LABELS, 1.5 * LN2, WRONG / 2)

    def test_none_is_a_loss_per_row_weighted_by_the_cotangent(self):
        check(
            SoftmaxCrossEntropy(reduction="none"),
            LOGITS,
            LABELS,
            [LN2, 2 * LN2],
            WRONG * [[8], [-4]],
            cotangent=np.array([8.0, -4]),
        )

    def test_one_hot_labels_are_the_integer_ones(self):
        check(SoftmaxCrossEntropy(), LOGITS, ONE_HOT, 1.5 * LN2, WRONG / 2)

    def test_labels_of_one_byte(self):
        check(SoftmaxCrossEntropy(), LOGITS, LABELS.astype(np.uint8), 1.5 * LN2, WRONG / 2)

    # 1/2 ln 4 + 1/4 ln 2 + 1/4 ln 4 = 7/4 ln 2 and 1/4 ln 4 + 3/4 ln 2 = 5/4 ln 2
    def test_soft_labels(self):
        check(SoftmaxCrossEntropy(reduction="sum"), LOGITS, SOFT, 3 * LN2, P - SOFT)
        check(SoftmaxCrossEntropy(), LOGITS, SOFT, 1.5 * LN2, (P - SOFT) / 2)

    def test_soft_labels_that_do_not_quite_add_up(self):
        # sum(q) = 1.5, only to show where it stands: dC/dz = 1.5 p - q
        q = np.array([[0.5, 0.5, 0.5]])
        check(SoftmaxCrossEntropy(), LOGITS[:1], q, 2.5 * LN2, 1.5 * P[:1] - q)

    # epsilon = 0.3 over 3 classes: q = 0.7 y + 0.1 = (0.1, 0.8, 0.1), (0.8, 0.1, 0.1)
    # 0.1 ln 4 + 0.8 ln 2 + 0.1 ln 4 = 1.2 ln 2; 0.8 ln 4 + 0.1 ln 4 + 0.1 ln 2 = 1.9 ln 2
    def test_label_smoothing(self):
        smoothed = P - [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]
        check(SoftmaxCrossEntropy(reduction="sum", label_smoothing=0.3), LOGITS, LABELS, 3.1 * LN2, smoothed)
        check(SoftmaxCrossEntropy(label_smoothing=0.3), LOGITS, ONE_HOT, 1.55 * LN2, smoothed / 2)

    def test_label_smoothing_of_1_forgets_the_label(self):
        # (ln 4 + ln 2 + ln 4) / 3 in both rows
        check(SoftmaxCrossEntropy(label_smoothing=1.0), LOGITS, LABELS, 5 / 3 * LN2, (P - 1 / 3) / 2)

    # the weights 1, 2, 4: row 0 has weight 2, row 1 weight 1: 2 ln 2 + ln 4, divided by 2 + 1
    def test_class_weights(self):
        weighted = WRONG * [[2], [1]]
        check(SoftmaxCrossEntropy(reduction="sum"), LOGITS, LABELS, 4 * LN2, weighted, class_weights=WEIGHTS)
        check(SoftmaxCrossEntropy(), LOGITS, LABELS, 4 / 3 * LN2, weighted / 3, class_weights=WEIGHTS)

    def test_class_weights_and_distributions_divide_by_the_rows(self):
        check(SoftmaxCrossEntropy(), LOGITS, ONE_HOT, 2 * LN2, WRONG * [[2], [1]] / 2, class_weights=WEIGHTS)
        # q w = (1/2, 1/2, 1), (0, 1/2, 3): 1 + 1/2 + 2 = 7/2 ln 2 and 1 + 3 = 4 ln 2; sums 2 and 7/2
        q = np.array([[0.5, 0.5, 1], [0, 0.5, 3]])
        delta = P * [[2], [3.5]] - q
        check(SoftmaxCrossEntropy(), LOGITS, SOFT, 3.75 * LN2, delta / 2, class_weights=WEIGHTS)

    def test_class_weights_and_smoothing(self):
        # q w = (0.1, 1.6, 0.4), (0.8, 0.2, 0.4): 0.2 + 1.6 + 0.8 = 2.6 ln 2; 1.6 + 0.4 + 0.4 = 2.4 ln 2;
        # divided by the labels' weights 2 + 1
        q = np.array([[0.1, 1.6, 0.4], [0.8, 0.2, 0.4]])
        delta = P * [[2.1], [1.4]] - q
        loss = SoftmaxCrossEntropy(label_smoothing=0.3)
        check(loss, LOGITS, LABELS, 5 / 3 * LN2, delta / 3, class_weights=WEIGHTS)

    @pytest.mark.parametrize("ignored", [-100, 0])
    def test_an_ignored_row_counts_nowhere(self, ignored):
        loss, labels = SoftmaxCrossEntropy(ignore_index=ignored), np.array([1, ignored])
        alone = WRONG * [[1], [0]]
        check(loss, LOGITS, labels, LN2, alone)
        check(loss, LOGITS, labels, LN2, alone, class_weights=WEIGHTS)  # 2 ln 2 / 2
        smooth = SoftmaxCrossEntropy(ignore_index=ignored, label_smoothing=0.3)
        check(smooth, LOGITS, labels, 1.2 * LN2, [P[0] - [0.1, 0.8, 0.1], [0, 0, 0]])

    def test_an_ignored_row_of_an_unreduced_loss_is_0(self):
        loss = SoftmaxCrossEntropy(reduction="none", ignore_index=-1)
        labels, cotangent = np.array([-1, 0]), np.array([8.0, -4])
        check(loss, LOGITS, labels, [0, 2 * LN2], WRONG * [[0], [-4]], cotangent=cotangent)

    def test_ignoring_all_rows_of_a_sum_is_0(self):
        check(SoftmaxCrossEntropy(reduction="sum", ignore_index=-1), LOGITS, np.array([-1, -1]), 0, np.zeros((2, 3)))

    def test_one_class_has_neither_loss_nor_gradient(self):
        check(SoftmaxCrossEntropy(), [[5.0], [-3]], np.array([0, 0]), 0, [[0], [0]])

    def test_a_gap_of_2000(self):
        # p = (1, 0); the wrong label costs the gap
        z = [[1000.0, -1000], [1000, -1000]]
        check(SoftmaxCrossEntropy(reduction="sum"), z, np.array([1, 0]), 2000, [[1, -1], [0, 0]])

    def test_a_nearly_certain_row_keeps_its_digits(self):
        # 1 - p = 1 / (1 + e^40), whatever 1 is subtracted from
        z, rest = [[40.0, 0]], 1 / (1 + math.exp(40))
        value, delta = found(SoftmaxCrossEntropy(), z, np.array([0]))
        assert math.isclose(value, math.log1p(math.exp(-40)), rel_tol=1e-15)
        assert np.allclose(delta, [[-rest, rest]], rtol=1e-15, atol=0)


class TestCrossEntropy:
    """-sum of q log p on probabilities, dC/dp = -q / p."""

    def test_reductions(self):
        delta = [[0, -2, 0], [-4, 0, 0]]
        check(CrossEntropy(reduction="sum"), P, LABELS, 3 * LN2, delta)
        check(CrossEntropy(), P, ONE_HOT, 1.5 * LN2, np.divide(delta, 2))
        cotangent = np.array([8.0, -4])
        weighted = [[0, -16, 0], [16, 0, 0]]
        check(CrossEntropy(reduction="none"), P, LABELS, [LN2, 2 * LN2], weighted, cotangent=cotangent)

    def test_soft_labels(self):
        check(CrossEntropy(), P, SOFT, 1.5 * LN2, [[-1, -0.25, -0.5], [0, -0.5, -0.75]])

    def test_a_probability_of_0_that_no_label_asks_for(self):
        check(CrossEntropy(), [[1.0, 0]], np.array([0]), 0, [[-1, 0]])


class TestSigmoidCrossEntropy:
    """-y log s - (1 - y) log(1 - s), dC/dz = s - y."""

    # sigma(ln 3) = 3/4, sigma(0) = 1/2: -log(3/4) = 2 ln 2 - ln 3, ln 2; -log(1/4) = 2 ln 2, ln 2
    Z = np.array([[LN3, 0], [LN3, 0]])
    Y = np.array([[1.0, 1], [0, 0.5]])
    VALUES = np.array([[2 * LN2 - LN3, LN2], [2 * LN2, LN2]])
    DELTA = np.array([[-1 / 4, -1 / 2], [3 / 4, 0]])

    def test_mean_divides_by_all_elements(self):
        check(SigmoidCrossEntropy(), self.Z, self.Y, self.VALUES.sum() / 4, self.DELTA / 4)
        check(SigmoidCrossEntropy(reduction="sum"), self.Z, self.Y, self.VALUES.sum(), self.DELTA)

    def test_none_is_a_loss_per_element(self):
        c = np.array([[2.0, -1], [4, 3]])
        check(SigmoidCrossEntropy(reduction="none"), self.Z, self.Y, self.VALUES, self.DELTA * c, cotangent=c)

    def test_saturated(self):
        z, y = [[800.0, 800, -800, -800]], np.array([[0.0, 1, 0, 1]])
        check(SigmoidCrossEntropy(reduction="sum"), z, y, 1600, [[1, 0, 0, -1]])


class TestBinaryCrossEntropy:
    """The same on probabilities: dC/dp = (1 - y) / (1 - p) - y / p."""

    P = np.array([[3 / 4, 1 / 2], [3 / 4, 1 / 2]])
    Y = TestSigmoidCrossEntropy.Y
    VALUES = TestSigmoidCrossEntropy.VALUES
    DELTA = np.array([[-4 / 3, -2], [4, 0]])

    def test_mean_divides_by_all_elements(self):
        check(BinaryCrossEntropy(), self.P, self.Y, self.VALUES.sum() / 4, self.DELTA / 4)
        check(BinaryCrossEntropy(reduction="sum"), self.P, self.Y, self.VALUES.sum(), self.DELTA)

    def test_none_is_a_loss_per_element(self):
        c = np.array([[2.0, -1], [4, 3]])
        check(BinaryCrossEntropy(reduction="none"), self.P, self.Y, self.VALUES, self.DELTA * c, cotangent=c)

    def test_certain_and_right_costs_nothing(self):
        check(BinaryCrossEntropy(reduction="sum"), [[1.0, 0]], np.array([[1.0, 0]]), 0, [[-1, 1]])

    def test_the_floor_of_the_logarithms(self):
        # p = 0 where y = 1: -log p = 100 instead of infinity; the gradient knows nothing of it
        loss = BinaryCrossEntropy(reduction="sum", log_floor=-100)
        p, y = [[0.0, 1 / 2]], np.array([[1.0, 1]])
        value, delta = found(loss, p, y)
        assert math.isclose(value, 100 + LN2, rel_tol=1e-15)
        assert delta.tolist() == [[-math.inf, -2]]

    def test_the_floor_of_the_denominator(self):
        # (p - y) / max(p (1 - p), 1/16): (0 - 1) 16, (1 - 0) 16, (1/2 - 0) / (1/4)
        loss = BinaryCrossEntropy(reduction="sum", log_floor=-100, denominator_floor=1 / 16)
        p, y = [[0.0, 1, 1 / 2]], np.array([[1.0, 0, 0]])
        check(loss, p, y, 200 + LN2, [[-16, 16, 2]])


class TestMeanSquaredError:
    """(a - y)^2, dC/da = 2 (a - y)."""

    A, Y = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[1.0, 0, 0], [5, 5, 8]])
    RESIDUAL = np.array([[0, 2, 3], [-1, 0, -2]])

    def test_mean_divides_by_all_elements(self):
        check(MeanSquaredError(), self.A, self.Y, 18 / 6, self.RESIDUAL / 3)  # 4 + 9 + 1 + 4; 2 r / 6
        check(MeanSquaredError(reduction="sum"), self.A, self.Y, 18, 2 * self.RESIDUAL)

    def test_none_is_a_loss_per_element(self):
        c = np.array([[7.0, 1, -1], [2, 3, 0.5]])
        delta = [[0, 4, -6], [-4, 0, -2]]
        check(MeanSquaredError(reduction="none"), self.A, self.Y, self.RESIDUAL**2, delta, cotangent=c)


class TestHuber:
    """r^2 / 2 inside delta, delta (|r| - delta / 2) outside; dC/da is r, limited to +-delta."""

    # delta = 2: r = 0, 2, 3, -1, 0, -3: 0, 2, 2 (3 - 1), 1/2, 0, 2 (3 - 1)
    A, Y = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[1.0, 0, 0], [5, 5, 9]])
    VALUES = np.array([[0, 2, 4], [0.5, 0, 4]])
    SLOPES = np.array([[0, 2, 2], [-1, 0, -2]])

    def test_mean_divides_by_all_elements(self):
        check(Huber(delta=2.0), self.A, self.Y, 10.5 / 6, self.SLOPES / 6)
        check(Huber(reduction="sum", delta=2.0), self.A, self.Y, 10.5, self.SLOPES)

    def test_none_is_a_loss_per_element(self):
        c = np.array([[7.0, 1, -1], [2, 3, 0.5]])
        delta = [[0, 2, -2], [-2, 0, -1]]
        check(Huber(reduction="none", delta=2.0), self.A, self.Y, self.VALUES, delta, cotangent=c)

    def test_a_delta_beyond_all_residuals_is_half_the_squared_error(self):
        check(Huber(delta=100.0), self.A, self.Y, 11.5 / 6, (self.A - self.Y) / 6)  # (4 + 9 + 1 + 9) / 2


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_on_probabilities_is_fused_with_its_layer(reduction):
    softmax = Network(2, (Dense(3), Softmax()), CrossEntropy(reduction=reduction))
    sigmoid = Network(2, (Dense(3), Sigmoid()), BinaryCrossEntropy(reduction=reduction))
    assert fused(softmax) == SoftmaxCrossEntropy(reduction=reduction)
    assert fused(sigmoid) == SigmoidCrossEntropy(reduction=reduction)


@pytest.mark.parametrize(
    "loss", [BinaryCrossEntropy(log_floor=-100.0), BinaryCrossEntropy(denominator_floor=1e-12)], ids=str
)
def test_a_loss_with_limits_is_not(loss):
    assert fused(Network(2, (Dense(3), Sigmoid()), loss)) is None


def test_a_loss_on_logits_is_not():
    assert fused(Network(2, (Dense(3), Softmax()), SoftmaxCrossEntropy())) is None


@pytest.mark.parametrize("kind", get_args(Loss))
def test_there_is_a_rule_for_every_loss(kind):
    assert loss_rule.dispatch(kind) is not loss_rule.dispatch(LossRecord)


def test_a_missing_rule_is_named():
    class Hinge(LossRecord, frozen=True):
        labels = "values"

    with pytest.raises(Unsupported) as error:
        cost(Hinge(), Plain(np.float64), np.zeros((1, 1)), Batch(np.zeros((1, 1)), np.zeros((1, 1))))
    assert str(error.value) == "reference: no rule for Hinge"
