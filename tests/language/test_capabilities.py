"""What an implementation declares: every field, every form, every mistake, and what follows from it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

import gradconform as gc
from gradconform import InvalidInput, parse
from gradconform.capabilities import (
    ARITHMETICS,
    DTYPES,
    EVERYTHING,
    FIELDS,
    Capabilities,
    capabilities_of,
    combined,
    supports,
)
from gradconform.case import Batch
from gradconform.dtypes import DTYPES as ALL_DTYPES
from gradconform.reference.precision import ARITHMETICS as ALL_ARITHMETICS


def test_the_defaults_are_those_of_a_function_written_by_hand():
    plain = Capabilities()
    assert plain.lacks(parse("3 -> Dense(2) -> GELU, Huber(reduction=none)")) is None
    assert (plain.dtypes, plain.labels, plain.class_weights) == (("float64",), ("integer",), False)


def test_the_words_are_those_of_the_other_modules():
    assert DTYPES == ALL_DTYPES
    assert ARITHMETICS == ALL_ARITHMETICS


@pytest.mark.parametrize(
    ("layers", "declared"),
    [
        ("Tanh", ("Tanh",)),
        (gc.Tanh, ("Tanh",)),
        (gc.Tanh(), ("Tanh",)),
        ((gc.Tanh, "ReLU", gc.LeakyReLU(0.1)), ("Tanh", "ReLU", "LeakyReLU(slope=0.1)")),
        (["Tanh", "Tanh"], ("Tanh",)),
        ((gc.GELU(), "GELU(approximate=tanh)"), ("GELU()", "GELU(approximate=tanh)")),
        ("Sigmoid()", ("Sigmoid",)),
        ((), ()),
        (gc.Dense, ("Dense",)),
        (None, None),
    ],
)
def test_layers_are_names_classes_or_records(layers, declared):
    assert Capabilities(layers=layers).layers == declared


@pytest.mark.parametrize(
    ("losses", "declared"),
    [
        (gc.Huber, ("Huber",)),
        (gc.Huber(delta=2.0), ("Huber(delta=2.0)",)),
        ("Huber( delta = 2 )", ("Huber(delta=2.0)",)),
        (gc.Huber(), ("Huber()",)),
        (gc.Huber("sum"), ("Huber(reduction=sum)",)),
        ("Huber(reduction=mean)", ("Huber(reduction=mean)",)),
        ("Huber(delta=2, reduction=mean)", ("Huber(delta=2.0, reduction=mean)",)),
    ],
)
def test_losses_are_names_classes_or_records(losses, declared):
    assert Capabilities(losses=losses).losses == declared


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": "Tanhh"}, "layers declares 'Tanhh'; did you mean Tanh?"),
        ({"layers": "Conv2d"}, "layers declares 'Conv2d'; known: Dense, Sigmoid, "),
        ({"layers": 3}, "layers declares 3; expected a tuple of words"),
        ({"layers": (4, 8)}, "layers declares 4; known: Dense, "),
        ({"layers": gc.Dense(3)}, "layers declares Dense(3); widths belong to networks"),
        ({"layers": "LeakyReLU(slop=1)"}, "layers declares 'LeakyReLU(slop=1)', column 1: LeakyReLU has no option"),
        ({"losses": ()}, "losses declares nothing; known: SoftmaxCrossEntropy, "),
        ({"losses": gc.Tanh}, "losses declares <class 'gradconform.layers.Tanh'>; known: SoftmaxCrossEntropy"),
        (
            {"layers": "Tanh", "losses": "BinaryCrossEntropy"},
            "losses declares BinaryCrossEntropy, which stands after Sigmoid alone: add it to layers",
        ),
        ({"reductions": "average"}, "reductions declares 'average'; known: mean, sum, none, batchmean"),
        ({"reductions": ()}, "reductions declares nothing; known: mean"),
        ({"bias": "yes"}, "bias declares 'yes'; known: True, False, None"),
        ({"networks": "* -> Dens(3), Huber"}, "networks declares '* -> Dens(3), Huber', column 6: layers[0]: unknown"),
        ({"networks": 3}, "networks declares 3; expected a tuple of words"),
        ({"samples": "one"}, "samples declares 'one'; known: batch, single"),
        ({"dtypes": ("float64", "float8")}, "dtypes declares 'float8'; known: float64, float32, bfloat16, float16"),
        ({"labels": "hard"}, "labels declares 'hard'; known: integer, one-hot, soft"),
        ({"class_weights": 1}, "class_weights declares 1; known: True, False"),
        ({"layouts": None}, "layouts declares None; known: True, False"),
        ({"conventions": "halve"}, "conventions declares 'halve'; known: torch, jax, sum, batchmean, half, transposed"),
        ({"conventions": "clip"}, "conventions declares 'clip'; expected clip= and a number above 0"),
        ({"conventions": "clip=0.7"}, "conventions declares 'clip=0.7'; expected clip= and a number above 0"),
        ({"conventions": "half=2"}, "conventions declares 'half=2'; half has no value"),
        ({"arithmetic": "cuda"}, "arithmetic declares 'cuda'; known: numpy, torch, xla, any"),
        ({"layer": "Tanh"}, "capabilities: unknown field 'layer'; did you mean layers?"),
        ({"zzz": 1}, "capabilities: unknown field 'zzz'; known: layers, losses, "),
    ],
)
def test_a_mistake_names_the_field_and_what_is_known(fields, message):
    with pytest.raises(InvalidInput) as caught:
        supports(**fields)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_decorator_leaves_the_function_as_it_is():
    @gc.supports(dtypes=("float32", "float64"), conventions="half")
    def mine(network, parameters, batch):
        return 3

    assert mine(1, 2, 3) == 3
    assert mine.capabilities == Capabilities(dtypes=("float64", "float32"), conventions=("half",))


def test_json_brings_the_same_back_and_refuses_what_is_unknown():
    declared = Capabilities(layers=(gc.Tanh,), networks="* -> Dense(*), Huber", conventions="clip=1e-07")
    text = msgspec.json.encode(declared)
    assert msgspec.json.decode(text, type=Capabilities) == declared
    with pytest.raises(msgspec.ValidationError, match="layers declares 'Tanhh'; did you mean Tanh"):
        msgspec.json.decode('{"layers": ["Tanhh"]}', type=Capabilities)
    with pytest.raises(msgspec.ValidationError, match="unknown field `layer`"):
        msgspec.json.decode('{"layer": ["Tanh"]}', type=Capabilities)


@pytest.mark.parametrize(
    ("fields", "network", "reason"),
    [
        ({"layers": "Tanh"}, "2 -> Dense(1) -> Tanh, Huber", None),
        ({"layers": "Tanh"}, "2 -> Dense(1) -> ReLU, Huber", "it declares no ReLU"),
        ({"layers": "LeakyReLU"}, "2 -> LeakyReLU(slope=0.3), Huber", None),
        ({"layers": "LeakyReLU()"}, "2 -> LeakyReLU(slope=0.3), Huber", "it declares no LeakyReLU(slope=0.3)"),
        ({"layers": "LeakyReLU(slope=0.3)"}, "2 -> LeakyReLU(slope=0.3), Huber", None),
        ({"layers": ()}, "2 -> Dense(1), Huber", None),
        ({"losses": "Huber"}, "2 -> Dense(1), MeanSquaredError", "it declares no MeanSquaredError"),
        ({"losses": "Huber(delta=2)"}, "2 -> Dense(1), Huber(delta=2, reduction=sum)", None),
        ({"losses": "Huber(delta=2)"}, "2 -> Dense(1), Huber", "it declares no Huber"),
        (
            {"losses": "Huber(reduction=sum)"},
            "2 -> Dense(1), Huber(reduction=none)",
            "it declares no Huber(reduction=none)",
        ),
        ({"reductions": "sum"}, "2 -> Dense(1), Huber", "it declares no reduction mean"),
        ({}, "2 -> Dense(1), Huber(reduction=batchmean)", "it declares no reduction batchmean"),
        ({"bias": True}, "2 -> Dense(1), Huber", None),
        ({"bias": True}, "2 -> Dense(1, bias=False), Huber", "it declares no Dense without bias"),
        ({"bias": False}, "2 -> Dense(1), Huber", "it declares no Dense with bias"),
        ({"networks": "* -> Dense(*), Huber"}, "2 -> Dense(1), Huber", None),
        ({"networks": "* -> Dense(*), Huber"}, "2 -> Tanh, Huber", "it declares * -> Dense(*), Huber alone"),
    ],
)
def test_what_of_a_network_is_not_declared(fields, network, reason):
    assert Capabilities(**fields).lacks(parse(network)) == reason


@pytest.mark.parametrize(
    ("fields", "batch", "reason"),
    [
        ({}, {"targets": [0, 1]}, None),
        ({"samples": "single"}, {"targets": [0, 1]}, "it takes single samples alone"),
        ({"samples": "single"}, {"targets": [0]}, None),
        ({}, {"targets": [0], "class_weights": [1.0, 2]}, "it takes no class weights"),
        ({"class_weights": True}, {"targets": [0], "class_weights": [1.0, 2]}, None),
        ({}, {"targets": [[1.0, 0]]}, "it takes no one-hot or soft labels"),
        ({"labels": "soft"}, {"targets": [[1.0, 0]]}, None),
        ({"labels": "one-hot"}, {"targets": [[1.0, 0]]}, None),
        ({"labels": "one-hot"}, {"targets": [[0.5, 0.5]]}, "it takes no soft labels"),
        ({"labels": "one-hot"}, {"targets": [1]}, "it takes no integer labels"),
    ],
)
def test_what_of_a_batch_is_not_declared(fields, batch, reason):
    arrays = {name: np.asarray(array) for name, array in batch.items()}
    given = Batch(np.ones((len(arrays["targets"]), 2)), **arrays)
    assert Capabilities(**fields).lacks(parse("2 -> Dense(2), SoftmaxCrossEntropy"), given) == reason


@pytest.mark.parametrize(
    ("several", "field", "value"),
    [
        ([{"layers": ("Tanh", "ReLU")}, {"layers": ("ReLU", "GELU")}], "layers", ("ReLU",)),
        ([{"layers": "Tanh"}, {}], "layers", ("Tanh",)),
        ([{"layers": "Tanh"}, {"layers": "ReLU"}], "layers", ("Tanh", "ReLU")),
        ([{"losses": "Huber"}, {"losses": "Huber(delta=2)"}], "losses", ("Huber(delta=2.0)",)),
        ([{"reductions": ("mean", "sum")}, {"reductions": ("sum", "none")}], "reductions", ("sum",)),
        ([{"reductions": "mean"}, {"reductions": "sum"}], "reductions", ("mean", "sum")),
        ([{"bias": True}, {}], "bias", True),
        ([{"bias": True}, {"bias": False}], "bias", None),
        ([{"samples": "single"}, {}], "samples", "single"),
        ([{"labels": "soft"}, {"labels": "integer"}], "labels", ("integer", "soft")),
        ([{"labels": ("soft", "integer")}, {}], "labels", ("integer",)),
        ([{"class_weights": True}, {}], "class_weights", False),
        ([{"networks": "2 -> Tanh, Huber"}, {}], "networks", ("2 -> Tanh, Huber",)),
        ([{"layers": ("Sigmoid", "Tanh")}, {"layers": "Tanh", "losses": "Huber"}], "layers", ("Tanh",)),
    ],
)
def test_what_is_drawn_for_several_is_what_they_share_or_else_what_any_takes(several, field, value):
    assert getattr(combined([Capabilities(**fields) for fields in several]), field) == value


def test_a_loss_that_is_drawn_keeps_the_layer_it_stands_after():
    one = Capabilities(layers=("Sigmoid", "ReLU"), losses="BinaryCrossEntropy")
    both = combined([one, Capabilities(layers="ReLU", losses="Huber")])
    assert both.layers == ("ReLU", "Sigmoid")
    assert both.losses == ("BinaryCrossEntropy", "Huber")


def test_for_nobody_and_for_one():
    one = Capabilities(layers="Tanh")
    assert combined([]) == EVERYTHING
    assert combined([one]) is one


def test_every_field_is_checked():
    assert set(FIELDS) == set(msgspec.structs.asdict(capabilities_of({})))
