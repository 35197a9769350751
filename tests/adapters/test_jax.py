"""The JAX adapter: precision is a context, every shape is compiled once, and the store of programs is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform import BinaryCrossEntropy, Unsupported

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
        for dtype in (np.float32, np.float64):
            assert jax_adapter(draw(TEXT, dtype=dtype)).loss.dtype == dtype
        assert jax.config.jax_enable_x64 == double
        assert jax.numpy.zeros(()).dtype == (np.float64 if double else np.float32)


def test_one_shape_is_compiled_once(jax_adapter, draw, compiled):
    for seed in range(5):
        jax_adapter(draw(TEXT, seed=seed))
    assert compiled.cache_info().misses == 1


def test_nothing_is_compiled_behind_the_stores_back(jax, jax_adapter, draw, compiled):
    events = []

    def listen(event, *_, **__):
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax_adapter(draw(TEXT, rows=2))
        fresh = [event for event in events if "backend_compile" in event]
        assert len(fresh) == 2  # the plain and the probed program
        events.clear()
        jax_adapter(draw(TEXT, rows=2, seed=1))
        assert [event for event in events if "compile" in event or "trace" in event] == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


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


def test_the_store_is_bounded_and_drops_the_oldest(jax_adapter, compiled, monkeypatch):
    module = jax_adapter.module
    assert compiled.cache_info().maxsize == module.PROGRAMS == 64
    network = module.Network(1, (module.Tanh(),), module.MeanSquaredError())
    monkeypatch.setattr(module, "Programs", lambda *_: object())
    monkeypatch.setattr(module.jax, "jit", lambda _: _Uncompiled())
    try:
        first = compiled(network, 1, "float64", False, False)
        for rows in range(2, 66):
            compiled(network, rows, "float64", False, False)
        assert compiled.cache_info().currsize == 64
        assert compiled(network, 1, "float64", False, False) is not first
    finally:
        compiled.cache_clear()


class _Uncompiled:
    """A program that costs nothing to compile."""

    def lower(self, _):
        return self

    def compile(self, **_):
        return self


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
