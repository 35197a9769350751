"""Examples: one structure, several draws; the same arguments give the same case, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform import Case, InvalidInput, parse
from gradconform.conformance.examples import Draw, Example, lay_out
from gradconform.conformance.regimes import REGIMES
from gradconform.dtypes import DTYPES, dtype_of, finfo

ORDINARY = Draw("ordinary", 7)
SOFTMAX = "3 -> Dense(5) -> Tanh -> Dense(4), SoftmaxCrossEntropy"


def example(text=SOFTMAX, rows=6, draw=ORDINARY, **more):
    return Example(parse(text), rows, (draw,), **more)


def arrays(case):
    batch = {name: array for name, array in vars(case.batch).items() if array is not None}
    return {**case.parameters, **batch}


def make(dtype="float64", draw=ORDINARY, **more):
    return example(draw=draw, **more).case(draw, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("labels", ["integer", "soft"])
def test_the_same_draw_is_the_same_case_bit_for_bit(dtype, labels):
    first, second = (arrays(make(dtype, labels=labels, class_weights=True)) for _ in range(2))
    assert list(first) == list(second) != []
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name
        assert array is not second[name]


@pytest.mark.parametrize("layout", ["C", "strided"])
@pytest.mark.parametrize("labels", ["integer", "one-hot", "soft"])
def test_several_cases_in_several_dtypes_are_those_of_each_draw_in_each_dtype(labels, layout):
    draws = [Draw(regime, seed) for seed, regime in enumerate(REGIMES)]
    whole = example(labels=labels, class_weights=True, layout=layout)
    for dtype, cases in zip(DTYPES, whole.cases(draws, DTYPES), strict=True):
        for draw, case in zip(draws, cases, strict=True):
            Case(case.network, case.parameters, case.batch)  # which raises for what does not fit
            for name, array in arrays(whole.case(draw, dtype)).items():
                found = arrays(case)[name]
                assert (found.dtype, found.shape, found.strides) == (array.dtype, array.shape, array.strides), name
                assert found.tobytes() == array.tobytes(), name
                assert not found.flags.writeable


def test_what_is_not_finite_is_no_case(monkeypatch):
    def broken(numbers, _dtype, _rng):
        numbers.inputs[2, 1] = np.nan

    monkeypatch.setitem(REGIMES, "broken", broken)
    draws = [ORDINARY, Draw("broken", 0)]
    with pytest.raises(InvalidInput) as caught:
        example().cases(draws, ["float32"])
    assert str(caught.value) == "inputs[2, 1]: nan is not finite"


def test_another_seed_is_another_case():
    one, other = arrays(make()), arrays(make(draw=Draw("ordinary", 8)))
    assert all(not np.array_equal(one[name], other[name]) for name in ("inputs", "0.weight", "2.bias"))


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_the_case_in_a_shorter_dtype_is_that_in_float64_rounded(dtype):
    wide, narrow = arrays(make("float64", class_weights=True)), arrays(make(dtype, class_weights=True))
    assert narrow["inputs"].dtype == dtype_of(dtype)
    for name, array in narrow.items():
        assert np.array_equal(wide[name].astype(array.dtype), array), name


def test_a_dtype_may_be_given_itself():
    for given, name in ((np.float32, "float32"), (dtype_of("bfloat16"), "bfloat16")):
        one, other = arrays(make(given)), arrays(make(name))
        assert all(one[path].tobytes() == other[path].tobytes() for path in other)


def test_an_unknown_dtype_is_refused_by_name():
    with pytest.raises(InvalidInput) as caught:
        make("float8_e5m2")
    assert str(caught.value) == "dtype 'float8_e5m2' is unknown; use float64, float32, bfloat16, float16"


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed"])
def test_the_layout_changes_memory_and_no_number(layout, dtype):
    plain, laid = arrays(make(dtype, class_weights=True)), arrays(make(dtype, class_weights=True, layout=layout))
    for name, array in plain.items():
        assert np.array_equal(array, laid[name]), name
        assert not laid[name].flags.writeable, name
        with pytest.raises(ValueError, match="read-only"):
            laid[name][...] = 0


def floats(case):
    return [array for array in arrays(case).values() if array.dtype.kind == "f"]


def test_fortran_order_is_no_c_order():
    wide = [array for array in floats(make(layout="F")) if array.ndim == 2]
    assert len(wide) == 3
    assert all(array.flags.f_contiguous and not array.flags.c_contiguous for array in wide)


def test_strided_arrays_have_gaps():
    for array in floats(make(layout="strided", class_weights=True)):
        assert not array.flags.c_contiguous
        assert array.strides[-1] == 2 * array.itemsize


def test_reversed_arrays_run_backwards():
    for array in floats(make(layout="reversed", class_weights=True)):
        assert array.strides[0] < 0


def test_laying_out_copies():
    array = np.arange(6.0).reshape(2, 3)
    for layout in ("C", "F", "strided", "reversed"):
        laid = lay_out(array, layout)
        assert not np.shares_memory(array, laid), layout
    assert array.flags.writeable


def test_a_scalar_can_be_laid_out():
    for layout in ("C", "F", "strided", "reversed"):
        assert lay_out(np.float64(3.0), layout) == 3.0


def test_integer_labels_are_classes():
    targets = make(rows=200).batch.targets
    assert (targets.dtype, targets.shape) == (np.int64, (200,))
    assert set(targets) == {0, 1, 2, 3}


def test_one_hot_labels_are_one_hot():
    targets = make(rows=200, labels="one-hot").batch.targets
    assert set(targets.ravel()) == {0.0, 1.0}
    assert (targets.sum(axis=1) == 1).all()
    assert targets.any(axis=0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_labels_are_distributions_in_the_dtype_of_the_case(dtype):
    targets = make(dtype, rows=50, labels="soft").batch.targets
    assert targets.dtype == dtype_of(dtype)
    assert (targets > 0).all()
    np.testing.assert_allclose(targets.sum(axis=1, dtype=float), 1, rtol=4 * float(finfo(targets.dtype).eps))
    assert (targets.max(axis=1) < 1).all()


def test_fractions_are_hard_in_some_rows_and_soft_in_others():
    targets = make(text="3 -> Dense(2), SigmoidCrossEntropy", rows=60).batch.targets
    hard = np.isin(targets, [0.0, 1.0]).all(axis=1)
    assert 5 < hard.sum() < 55
    assert targets.min() >= 0
    assert targets.max() <= 1


def test_values_are_of_both_signs():
    targets = make(text="3 -> Dense(2), Huber", rows=60).batch.targets
    assert targets.min() < 0 < targets.max()


@pytest.mark.parametrize("ignored", [-100, 0, 2])
def test_ignored_rows_are_met_and_never_all(ignored):
    met = 0
    for seed in range(60):
        draw = Draw("ordinary", seed)
        loss = f"SoftmaxCrossEntropy(ignore_index={ignored})"
        targets = make(text=f"2 -> Dense(3), {loss}", rows=3, draw=draw).batch.targets
        assert (targets != ignored).any()
        met += (targets == ignored).any()
    assert met > 10


@pytest.mark.parametrize("ignored", [-100, 0])
def test_a_single_row_is_never_the_ignored_one(ignored):
    for seed in range(40):
        draw = Draw("one-label", seed)
        text = f"2 -> Dense(2), SoftmaxCrossEntropy(ignore_index={ignored})"
        assert (make(text=text, rows=1, draw=draw).batch.targets != ignored).all()


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("3 -> Dense(4), SoftmaxCrossEntropy(reduction=none)", (6,)),
        ("3 -> Dense(4), MeanSquaredError(reduction=none)", (6, 4)),
    ],
)
def test_an_unreduced_loss_has_a_cotangent_of_its_shape_that_is_not_uniform(text, shape):
    cotangent = make(text=text).batch.cotangent
    assert cotangent.shape == shape
    assert len(set(cotangent.ravel())) == cotangent.size
    assert cotangent.min() < 0 < cotangent.max()


def test_a_reduced_loss_has_none():
    assert make().batch.cotangent is None


def test_class_weights_are_positive_different_and_only_there_if_asked_for():
    weights = make(class_weights=True).batch.class_weights
    assert weights.shape == (4,)
    assert weights.min() > 0
    assert len(set(weights)) == 4
    assert make().batch.class_weights is None


def test_the_structure_is_all_but_numbers_and_layout():
    one = example()
    assert one.structure == example(draw=Draw("tiny", 99), layout="F").structure
    others = [example(rows=5), example(labels="soft"), example(class_weights=True), example("3 -> Dense(4), Huber")]
    assert all(one.structure != other.structure for other in others)
    assert hash(one.structure) == hash(example().structure)
