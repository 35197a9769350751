"""What is recognised as an operation, how it is named, and how a call is put together. Without a framework."""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest

from gradconform.conformance.operation import PAIR, bind, framework_of, kind_of, load, operation_of
from gradconform.conformance.operation_inputs import Source
from gradconform.conformance.operation_run import check_layer
from gradconform.conformance.operation_subject import Subject, fresh
from gradconform.errors import InvalidInput

FILE = """
import numpy as np

class Square:
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, cotangent):
        return 2 * cotangent * self.x

class Group:
    member = Square

def cube_forward(x):
    return x ** 3, x

def cube_backward(cotangent, x):
    return 3 * cotangent * x ** 2

def forward(x):
    return np.sin(x)

def backward(cotangent, x):
    return cotangent * np.cos(x)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE, "utf-8")
    return path


@pytest.mark.parametrize("name", [":Square", ":Group.member", ":cube_forward,cube_backward", ""])
def test_targets_are_loaded_and_checked(file, name):
    result = check_layer(f"{file}{name}", max_examples=2)
    assert result.passed, str(result)
    assert result.operation == f"{file}{name}"


def test_a_module_by_its_name(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert load("mine:Square").__name__ == "Square"
    sys.modules.pop("mine")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{file}:Squar", "has no 'Squar'; did you mean Square?"),
        ("{file}:cube_forward,nothing", "has no 'nothing'"),
        ("nowhere.py:Square", "nowhere.py: no such file"),
        ("nothing", "target 'nothing': expected FILE.py:OBJECT or MODULE:OBJECT"),
        ("no_such_module_at_all:f", "ModuleNotFoundError"),
    ],
)
def test_a_target_that_is_not_there(file, target, words):
    with pytest.raises(InvalidInput) as caught:
        check_layer(target.format(file=file))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kinds_without_a_framework(file):
    square = load(f"{file}:Square")
    assert kind_of(square) == PAIR
    assert kind_of(square()) == PAIR
    assert kind_of((np.sin, np.cos)) == PAIR
    assert kind_of(np.sin) is None
    assert kind_of(3) is None
    assert kind_of((1, 2)) is None


def test_the_kind_of_an_object_imports_nothing():
    program = (
        "import sys, gradconform.conformance.operation as o, gradconform.conformance.operation_run, "
        "gradconform.conformance.operation_cli; o.kind_of(len); "
        "print(*sorted({'torch', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_the_framework_is_read_off_the_source():
    def local(x):
        import torch

        return torch.tanh(x)

    def calls(x):
        return local(x)

    assert framework_of(local) == "torch"
    assert framework_of(calls) == "torch"
    assert framework_of(functools.partial(calls)) == "torch"
    assert framework_of(lambda x: 2 * np.tanh(x)) == "numpy"
    assert framework_of(np.tanh) == "numpy"
    assert framework_of(lambda x: x + 1) is None


def test_an_unknown_framework():
    with pytest.raises(InvalidInput, match="framework 'tf' is unknown; use numpy, torch or jax"):
        operation_of(lambda x: x, framework="tf")


class TestBind:
    def test_arrays_and_arguments(self):
        binding = bind(lambda x, slope, w, eps=1e-5, *, mode="a": None, "f", {"slope": 0.5, "mode": "b"})
        assert (binding.names, binding.arity) == (("x", "w"), 2)
        assert binding.assemble([1, 2]) == ([1, 0.5, 2], {"mode": "b"})
        assert binding.assemble([1, 2, 3]) == ([1, 0.5, 2, 3], {"mode": "b"})

    def test_a_default_before_an_argument_is_filled_in(self):
        binding = bind(lambda x, a=1, b=2: None, "f", {"b": 5})
        assert binding.assemble([7]) == ([7, 1, 5], {})
        assert binding.assemble([7, 8]) == ([7, 8, 5], {})

    def test_what_is_not_the_users_is_skipped(self):
        assert bind(lambda ctx, x: None, "f", {}, skip=1).names == ("x",)

    def test_any_number(self):
        binding = bind(lambda *arrays: None, "f", {})
        assert binding.arity is None
        assert binding.assemble([1, 2]) == ([1, 2], {})

    def test_no_signature(self):
        assert bind(np.sin, "sin", {}).assemble([1]) == ([1], {})

    def test_an_argument_that_is_not_there(self):
        with pytest.raises(InvalidInput, match="f has no argument 'y'; it has x"):
            bind(lambda x: None, "f", {"y": 1})
        assert bind(lambda x, **more: None, "f", {"y": 1}).assemble([2]) == ([2], {"y": 1})


class TestInputs:
    @pytest.mark.parametrize(
        ("forward", "shapes"),
        [
            (lambda x: x + 1, ((3, 4),)),
            (lambda x, y: x * y, ((3, 4), (3, 4))),
            (lambda x, y: x @ y, ((3, 4), (4, 5))),
            (lambda x, w, b: x @ w + b, ((3, 4), (4, 5), (5,))),
            (lambda x, w, b: x @ w.T + b, ((3, 4), (5, 4), (5,))),
            (lambda x: x.reshape(2, 4, 6, 6), ((2, 4, 6, 6),)),
            (lambda x: x * np.ones(5).reshape(x.shape), ((5,),)),
        ],
    )
    def test_shapes_that_are_taken(self, forward, shapes):
        source = Source(operation_of((forward, lambda c: c)), None, "float64", 0)
        assert source.shapes[0] == shapes

    def test_numbers_that_are_taken(self):
        source = Source(operation_of((np.log, lambda c, x: c / x)), None, "float64", 0)
        assert set(source.taken) == {"positive", "between 0 and 1"}

    def test_drawn_numbers_leave_room_for_exact_steps(self):
        source = Source(operation_of((np.exp, lambda c, x: c)), None, "float32", 0)
        for example in source.examples(8):
            (x,) = example.inputs
            assert x.dtype == np.float32
            assert np.array_equal(x.astype(float) * 2**20, np.round(x.astype(float) * 2**20))

    def test_the_same_seed_draws_the_same(self):
        def drawn(seed):
            source = Source(operation_of((np.exp, lambda c, x: c)), None, "float64", seed)
            return [example.inputs[0] for example in source.examples(4)]

        assert all(np.array_equal(one, two) for one, two in zip(drawn(1), drawn(1), strict=True))
        assert not np.array_equal(drawn(1)[0], drawn(2)[0])

    @pytest.mark.parametrize(
        ("inputs", "words"),
        [
            ([], "inputs is empty"),
            ([(3,), np.ones(3)], "inputs must be all shapes or all arrays"),
            ([np.array(["a"], object)], "an array of object cannot be used"),
            ([np.ones(3, complex)], "an array of complex128 cannot be used"),
            ([(3,)], "refuses inputs of shape (3,): forward raised ValueError"),
        ],
    )
    def test_inputs_that_cannot_be_used(self, inputs, words):
        with pytest.raises(InvalidInput) as caught:
            check_layer((lambda x: x.reshape(2, 2), lambda c, x: c.reshape(x.shape)), inputs=inputs)
        assert words in str(caught.value)


class TestSubject:
    @pytest.mark.parametrize(
        "array",
        [
            np.arange(12.0).reshape(3, 4),
            np.asfortranarray(np.arange(12.0).reshape(3, 4)),
            np.arange(12.0).reshape(3, 4)[::-1, ::-1],
            np.arange(24.0).reshape(3, 8)[:, ::2],
            np.broadcast_to(np.arange(4.0), (3, 4)),
            np.broadcast_to(np.float64(2.0), (3, 4)),
            np.array(3.0),
            np.zeros((0, 3)),
        ],
    )
    def test_a_fresh_copy_keeps_its_layout(self, array):
        copy = fresh(array)
        assert np.array_equal(copy, array)
        assert not np.shares_memory(copy, array)
        if array.size > 1:
            assert copy.strides == array.strides
        if copy.size:
            copy[...] = 7
            assert (copy == 7).all()

    def test_what_is_written_into_is_noted(self):
        def forward(x):
            x += 1
            return x * 1

        subject = Subject(operation_of((forward, lambda c, x: c)))
        x = np.zeros(3)
        subject.forward([x])
        assert subject.mutated == {"x": "the forward pass"}
        assert not x.any()


def test_only_and_exclude():
    pair = (np.sin, lambda c, x: c * np.cos(x))
    assert set(check_layer(pair, only=["gradient", "repeat"], max_examples=1).checks) == {"gradient", "repeat"}
    assert "gradient" not in check_layer(pair, exclude=["gradient"], max_examples=1).checks
    with pytest.raises(InvalidInput, match="check 'gradients' is unknown; known: value, returned, finite"):
        check_layer(pair, only=["gradients"])
    with pytest.raises(InvalidInput, match="no check is left"):
        check_layer(pair, only=["repeat"], exclude=["repeat"])
    with pytest.raises(InvalidInput, match="max_examples must be at least 1"):
        check_layer(pair, max_examples=0)


def test_a_reference_that_refuses_is_no_finding():
    pair = (np.sin, lambda c, x: c * np.cos(x))
    with pytest.raises(InvalidInput, match=r"the reference refuses inputs \(3, 4\): forward raised TypeError"):
        check_layer(pair, reference=lambda x, y: np.sin(x) + y)
