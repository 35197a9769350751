"""What a user may call a model, and every way in which that fails, in one line."""

from __future__ import annotations

import functools
import sys

import numpy as np
import pytest

from gradconform import InvalidInput
from gradconform.conformance.comparing_models import arguments, flatten, keywords, unflatten
from gradconform.conformance.comparing_targets import model_of

SOURCE = """
import numpy as np

PARAMETERS = {"w": np.ones(2)}
number = 3

def gradients(parameters, inputs):
    return {"w": parameters["w"] * inputs.sum()}

def made():
    return gradients, PARAMETERS

class Holder:
    parameters = PARAMETERS

    def __call__(self, parameters, inputs):
        return gradients(parameters, inputs)

    def gradients(self, parameters, inputs):
        return gradients(parameters, inputs)

class Needy:
    def __init__(self, width):
        self.width = width

holder = Holder()
pair = (gradients, PARAMETERS)
odd = (gradients, 3)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    yield "mine.py"
    sys.modules.pop("_gradconform_target_mine", None)


@pytest.mark.parametrize("name", ["made", "Holder", "holder", "pair"])
def test_models_that_hold_values(file, name):
    model = model_of(f"{file}:{name}")
    assert (model.name, model.framework, list(model.values)) == (f"mine.py:{name}", "numpy", ["w"])
    assert model.values["w"].dtype == np.float32


def test_models_without_values(file):
    assert model_of(f"{file}:gradients").values is None
    assert model_of(f"{file}:holder.gradients").values is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine.py", "target 'mine.py': which object? Write it as mine.py:model"),
        ("mine", "target 'mine': expected FILE.py:OBJECT or MODULE:OBJECT"),
        ("mine.py:gradient", "target 'mine.py:gradient': mine.py has no 'gradient'; did you mean gradients?"),
        (
            "mine.py:number",
            "mine.py:number is an int: expected an nn.Module, a function model(parameters, inputs) in JAX",
        ),
        ("mine.py:Needy", "mine.py:Needy(): TypeError: "),
        ("mine.py:odd", "mine.py:odd: its parameters are an int: expected {name: array}"),
        ("other.py:model", "other.py: no such file"),
        ("no.such.module:model", "target 'no.such.module:model': ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_what_is_refused(file, target, message):
    with pytest.raises(InvalidInput) as caught:
        model_of(target)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_declared_framework():
    def model(parameters, inputs):
        return parameters["w"] * inputs

    assert model_of(model).framework == "numpy"
    model.framework = "jax"
    assert model_of(model).framework == "jax"
    model.framework = "theano"
    with pytest.raises(InvalidInput, match="framework declares 'theano'; known: torch, jax, numpy"):
        model_of(model)


@pytest.mark.jax
def test_functions_of_jax_are_told_by_what_they_refer_to():
    import jax
    import jax.numpy as jnp

    def model(parameters, inputs):
        return jnp.tanh(parameters["w"] * inputs)

    def calls(parameters, inputs):
        return model(parameters, inputs)

    def imports(parameters, inputs):
        from jax import numpy

        return numpy.tanh(inputs)

    class Network:
        def __call__(self, parameters, inputs):
            return jnp.tanh(parameters["w"] * inputs)

    for function in (model, calls, imports, jax.jit(model), functools.partial(model), Network()):
        assert model_of(function).framework == "jax", function


@pytest.mark.torch
def test_functions_of_torch_are_told_by_what_they_refer_to():
    import torch

    def model(parameters, inputs):
        return torch.tanh(parameters["w"] * inputs)

    assert model_of(model).framework == "torch"
    assert model_of(torch.nn.Linear(2, 3)).framework == "torch"
    made = model_of(lambda: torch.nn.Linear(2, 3))
    assert {name: array.shape for name, array in made.values.items()} == {"weight": (3, 2), "bias": (3,)}


@pytest.mark.torch
@pytest.mark.jax
def test_a_function_of_both_has_to_say_which():
    import torch
    from jax import numpy as jnp

    def model(parameters, inputs):
        return torch.tensor(jnp.ones(2))

    with pytest.raises(InvalidInput, match=r"model refers to PyTorch and to JAX: say which one .* model.framework = "):
        model_of(model)


def test_trees_and_flat_names():
    tree = {"a": {"b": 1, "c": [2, (3, 4)]}, "d": 5}
    flat = flatten(tree)
    assert flat == {"a/b": 1, "a/c/0": 2, "a/c/1/0": 3, "a/c/1/1": 4, "d": 5}
    assert unflatten(flat, tree) == tree
    assert unflatten({"a/b": 1, "c.d": 2}) == {"a": {"b": 1}, "c.d": 2}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda p, inputs, targets: 0, (["inputs", "targets"], {})),
        (lambda p, targets, inputs: 0, (["targets", "inputs"], {})),
        (lambda p, x, y: 0, (["inputs", "targets"], {})),
        (lambda p, x: 0, (["inputs"], {})),
        (lambda p, mask, x: 0, (["mask", "inputs"], {})),
        (lambda p, x, train=False: 0, (["inputs"], {})),
        (lambda p, x, train=False, mask=None: 0, (["inputs"], {"mask": "mask"})),
        (lambda p, x, *, mask: 0, (["inputs"], {"mask": "mask"})),
        (lambda p, batch: 0, (["batch"], {})),
        (lambda *everything: 0, (["inputs"], {})),
    ],
)
def test_arguments_get_the_arrays_of_their_names(function, expected):
    batch = dict.fromkeys(["inputs", "targets", "mask"])
    chosen = arguments("model", function, batch, skip=1)
    assert keywords(function, chosen, skip=1) == expected


def test_an_argument_without_an_array():
    with pytest.raises(
        InvalidInput, match="model takes 'z', and the data has inputs: name its arrays as the arguments"
    ):
        arguments("model", lambda p, x, z: 0, {"inputs": None}, skip=1)
