"""The JAX adapter: precision is a context, every shape is compiled once, and the store of programs is bounded."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from gradconform import Batch, BinaryCrossEntropy, Unsupported, parse
from gradconform.conformance.stack import side_by_side
from gradconform.dtypes import DTYPES, dtype_of, finfo

pytestmark = pytest.mark.jax

TEXT = "3 -> Dense(2) -> Softplus, SoftmaxCrossEntropy"


@pytest.fixture
def jax():
    import jax

    return jax


@pytest.fixture
def compiled(jax_adapter):
    jax_adapter.module.compiled.cache_clear()
    return jax_adapter.module.compiled


@pytest.mark.parametrize("double", [True, False])
def test_the_callers_precision_is_left_alone(jax, jax_adapter, draw, double):
    with jax.enable_x64(double):
        for dtype in map(dtype_of, DTYPES):
            assert jax_adapter(draw(TEXT, dtype=dtype)).loss.dtype == dtype
        assert jax.config.jax_enable_x64 == double
        assert jax.numpy.zeros(()).dtype == (np.float64 if double else np.float32)


def test_one_shape_is_compiled_once(jax_adapter, draw, compiled):
    for seed in range(5):
        jax_adapter(draw(TEXT, seed=seed))
    assert compiled.cache_info().misses == 1


@contextlib.contextmanager
def compilations(jax, *kinds):
    """Yield the list of the events of these kinds, which grows meanwhile; by default of what is compiled."""
    events = []

    def listen(event, *_, **__):
        if any(kind in event for kind in kinds or ("backend_compile",)):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_nothing_is_compiled_behind_the_stores_back(jax, jax_adapter, draw, compiled):
    with compilations(jax) as events:
        jax_adapter(draw(TEXT, rows=2))
        assert len(events) == 2  # the plain and the probed program
    with compilations(jax, "compile", "trace") as events:
        jax_adapter(draw(TEXT, rows=2, seed=1))
        assert events == []


def test_every_difference_of_kind_is_a_program_of_its_own(jax_adapter, draw, compiled):
    cases = [
        draw(TEXT),
        draw(TEXT, rows=2),
        draw(TEXT, dtype=np.float32),
        draw(TEXT, labels=False),
        draw(TEXT, weighted=True),
        draw(f"{TEXT}(reduction=none)"),
    ]
    for case in [*cases, *reversed(cases)]:
        jax_adapter(case)
    assert compiled.cache_info().misses == compiled.cache_info().currsize == len(cases)


def test_the_store_is_bounded_and_drops_the_oldest(jax_adapter, compiled):
    module = jax_adapter.module
    assert compiled.cache_info().maxsize == module.PROGRAMS == 64
    structures = [module.Structure(parse(TEXT), rows, "float64", False, False, 0) for rows in range(1, 66)]
    first = compiled(structures[0])
    for structure in structures:
        compiled(structure)
    assert compiled.cache_info().currsize == 64
    assert compiled(structures[0]) is not first


def test_what_is_prepared_is_not_compiled_again_and_gives_the_same(jax, jax_adapter, draw, leaves, compiled):
    module = jax_adapter.module
    cases = [draw(TEXT, rows=rows) for rows in (2, 3)]
    fresh = [leaves(jax_adapter(case)) for case in cases]
    compiled.cache_clear()
    with compilations(jax) as events:
        for case in cases:
            module.prepare(case.network, case.batch)
        for case, expected in zip(cases, fresh, strict=True):
            for name, array in leaves(jax_adapter(case)).items():
                np.testing.assert_array_equal(array, expected[name])
        assert len(events) == 4


def test_bare_gradients_are_prepared_alone(jax, jax_adapter, draw, compiled):
    module = jax_adapter.module
    case = draw(TEXT, rows=2)
    with compilations(jax) as events:
        module.prepare(case.network, case.batch, alone=True)
        module.bare(case.network, case.parameters, case.batch)
        assert len(events) == 1


def test_several_cases_are_prepared_as_one_program_of_their_own(jax, jax_adapter, draw, compiled):
    module = jax_adapter.module
    cases = [draw(TEXT, rows=2, seed=seed) for seed in range(3)]
    parameters, batch = side_by_side([(case.parameters, case.batch) for case in cases])
    with compilations(jax) as events:
        module.prepare(cases[0].network, batch, alone=True)
        module.vmapped(cases[0].network, parameters, batch)
        assert len(events) == 1
        module.bare(cases[0].network, cases[0].parameters, cases[0].batch)
        assert len(events) == 2


def test_what_cannot_be_prepared_is_told_at_the_call(jax_adapter, draw):
    module = jax_adapter.module
    case = draw("3 -> Sigmoid, BinaryCrossEntropy")
    network = type(case.network)(3, case.network.layers, BinaryCrossEntropy("mean", -100.0, 1e-12))
    module.prepare(network, case.batch)
    for _ in range(2):
        with pytest.raises(Unsupported, match=r"^jax: BinaryCrossEntropy has no floors, got"):
            module.gradients(network, case.parameters, case.batch)


@pytest.mark.parametrize("floors", [(-100.0, 1e-12), (None, 1e-12)])
def test_floors_are_unsupported(jax_adapter, draw, floors):
    case = draw("3 -> Sigmoid, BinaryCrossEntropy")
    floored = type(case.network)(3, case.network.layers, BinaryCrossEntropy("mean", *floors))
    with pytest.raises(Unsupported, match=r"^jax: BinaryCrossEntropy has no floors, got"):
        jax_adapter.module.gradients(floored, case.parameters, case.batch)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_labels_of_any_integer_type(jax_adapter, draw, dtype):
    case = draw(TEXT)
    batch = type(case.batch)(case.batch.inputs, case.batch.targets.astype(dtype))
    found = jax_adapter.module.gradients(case.network, case.parameters, batch)
    np.testing.assert_array_equal(found.input, jax_adapter(case).input)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bare_is_the_run_that_is_captured_and_compiles_it_alone(jax, jax_adapter, draw, leaves, compiled, dtype):
    case = draw(f"{TEXT}(reduction=none)", weighted=True, dtype=dtype_of(dtype))
    with compilations(jax) as events:
        bare = jax_adapter.module.bare(case.network, case.parameters, case.batch)
        assert len(events) == 1
    assert bare.captured is None
    assert list(bare.parameters) == list(case.parameters)
    expected = leaves(jax_adapter(case).captured)
    for name, array in leaves(bare).items():
        assert array.dtype == dtype
        assert array.flags.writeable
        np.testing.assert_array_equal(array, expected[name])


def test_bare_says_what_it_does_not_support(jax_adapter, draw):
    case = draw("3 -> Tanh, MeanSquaredError", dtype=np.longdouble)
    if case.dtype.itemsize == 8:
        pytest.skip("longdouble is float64 on this platform")
    with pytest.raises(Unsupported, match=r"^jax: no rule for "):
        jax_adapter.module.bare(case.network, case.parameters, case.batch)


def test_the_rounding_model_is_xlas(jax_adapter):
    assert jax_adapter.module.ARITHMETIC == "xla"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_what_is_captured_is_complete_and_hangs_together(jax_adapter, draw, leaves, dtype, reduction):
    # each quantity follows from its neighbours: x^T delta, the sum of delta, delta W^T, the squares of z - y
    case = draw(f"3 -> Dense(4) -> Tanh -> Dense(2), MeanSquaredError(reduction={reduction})", dtype=dtype_of(dtype))
    found = jax_adapter(case)
    run = found.captured
    assert run.captured is None
    assert {name: (array.shape, array.dtype) for name, array in leaves(run).items()} == {
        name: (array.shape, array.dtype) for name, array in leaves(found).items()
    }
    assert list(run.parameters) == list(case.parameters)
    for index in found.outputs:
        np.testing.assert_array_equal(run.outputs[index], found.outputs[index])
        np.testing.assert_array_equal(run.deltas[index], found.deltas[index])

    def wide(array):
        return np.asarray(array, np.float64)

    # up to 4 terms are added; each stored factor, and the result, is rounded once
    u = float(finfo(case.dtype).eps) / 2

    def follows(array, left, right):
        np.testing.assert_array_less(np.abs(wide(array) - left @ right), 8 * u * (np.abs(left) @ np.abs(right)))

    deltas = {index: wide(delta) for index, delta in run.deltas.items()}
    for index, incoming in ((0, case.batch.inputs), (2, run.outputs[1])):
        follows(run.parameters[f"{index}.weight"], wide(incoming).T, deltas[index])
        follows(run.parameters[f"{index}.bias"], np.ones(4), deltas[index])
    follows(run.input, deltas[0], wide(case.parameters["0.weight"]).T)
    follows(run.deltas[1], deltas[2], wide(case.parameters["2.weight"]).T)
    errors = wide(run.outputs[2]) - wide(case.batch.targets)
    size = np.square(np.abs(wide(run.outputs[2])) + np.abs(wide(case.batch.targets)))
    if reduction == "sum":
        errors, size = errors.ravel(), size.sum()
        np.testing.assert_array_less(np.abs(wide(run.loss) - errors @ errors), 16 * u * size)
    else:
        np.testing.assert_array_less(np.abs(wide(run.loss) - errors**2), 16 * u * size)


def test_what_is_shown_is_what_is_gone_on_with(jax_adapter):
    # one unit: XLA makes a multiplication of the product, and would compute it again inside the next kernel
    network = parse("1 -> Dense(1) -> SiLU, MeanSquaredError(reduction=sum)")
    inputs = np.random.default_rng(0).uniform(-70, -30, (200, 1)).astype(np.float32)
    parameters = {"0.weight": np.array([[1.1]], np.float32), "0.bias": np.array([0.3], np.float32)}
    batch = Batch(inputs, np.zeros((200, 1), np.float32))
    found = jax_adapter.module.gradients(network, parameters, batch).captured
    z = found.outputs[0].astype(float)
    # another rounding of z moves exp(z) by up to 2^-24 |z|, 30 to 80 units
    np.testing.assert_allclose(found.outputs[1], z / (1 + np.exp(-z)), rtol=20 * 2.0**-24)
