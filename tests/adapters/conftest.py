"""What the tests of the adapters share: an adapter by name, cases by network, and how results are compared."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from gradconform import Batch, Case, parse

BOTH = [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]


def draw(text, rows=4, labels=True, weighted=False, dtype=np.float64, seed=0):
    """Return a case for the network that `text` notes, with integer `labels` or with distributions."""
    network = parse(text)
    loss, classes = network.loss, network.widths[-1]
    generator = np.random.default_rng(seed)
    ignored = getattr(loss, "ignore_index", None)
    if loss.labels == "classes" and labels:
        targets = np.arange(rows) % classes
        if ignored is not None:
            targets[0] = ignored
    elif loss.labels == "classes":
        targets = generator.dirichlet(np.ones(classes), rows).astype(dtype)
    else:
        targets = generator.random((rows, classes)).astype(dtype)
    return Case(
        network,
        {path: generator.normal(size=shape).astype(dtype) for path, shape in network.parameters().items()},
        Batch(
            inputs=generator.normal(size=(rows, network.inputs)).astype(dtype),
            targets=targets,
            class_weights=generator.uniform(0.5, 2, classes).astype(dtype) if weighted else None,
            cotangent=generator.normal(size=loss.shape(rows, classes)).astype(dtype)
            if loss.reduction == "none"
            else None,
        ),
    )


def leaves(gradients):
    """Return every array of the gradients by a name."""
    named = {"loss": gradients.loss, "input": gradients.input}
    for kind in ("parameters", "deltas", "outputs"):
        named |= {f"{kind}[{key}]": array for key, array in getattr(gradients, kind).items()}
    return named


class Adapter:
    """An adapter's module, called with a case."""

    def __init__(self, name):
        self.name = name
        self.module = importlib.import_module(f"gradconform.adapters.{name}")

    def __call__(self, case):
        return self.module.gradients(case.network, case.parameters, case.batch)


@pytest.fixture(params=BOTH)
def adapter(request):
    return Adapter(request.param)


@pytest.fixture
def torch_adapter():
    return Adapter("torch")


@pytest.fixture
def jax_adapter():
    return Adapter("jax")


@pytest.fixture(name="draw")
def _draw():
    return draw


@pytest.fixture(name="leaves")
def _leaves():
    return leaves
