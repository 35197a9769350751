"""Two models that should agree: real pairs that do, planted differences that are found, named and placed."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from gradconform import InvalidInput
from gradconform.conformance.comparing import compare, read_loss

ROWS, CLASSES = 12, 3
RNG = np.random.default_rng(1)
DATA = {"inputs": RNG.normal(size=(ROWS, 4)), "targets": RNG.integers(0, CLASSES, ROWS)}
NORMAL_MAP = {
    "fc1.weight": {"name": "dense1/kernel", "transpose": True},
    "fc1.bias": "dense1/bias",
    "norm.weight": "norm/scale",
    "norm.bias": "norm/bias",
    "fc2.weight": {"name": "dense2/kernel", "transpose": True},
    "fc2.bias": "dense2/bias",
}
OUTPUTS = {"fc1": "hidden", "norm": "normal", "act": "active"}
PAIR_MAP = {"parameters": NORMAL_MAP, "outputs": OUTPUTS}


def mlp_values(seed=0, hidden=5, scale=1.0):
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(size=(4, hidden)) * scale,
        "b1": rng.normal(size=hidden) * scale,
        "w2": rng.normal(size=(hidden, CLASSES)) * scale,
        "b2": rng.normal(size=CLASSES) * scale,
    }


def numpy_gradients(parameters, inputs, targets):
    """Return loss and gradients of a tanh network with a softmax cross entropy, by hand."""
    a = np.tanh(inputs @ parameters["w1"] + parameters["b1"])
    z = a @ parameters["w2"] + parameters["b2"]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(targets))
    loss = -np.log(p[rows, targets]).mean()
    p[rows, targets] -= 1
    delta2 = p / len(targets)
    delta1 = (1 - a**2) * (delta2 @ parameters["w2"].T)
    gradients = {"w1": inputs.T @ delta1, "b1": delta1.sum(0), "w2": a.T @ delta2, "b2": delta2.sum(0)}
    return loss, {name: gradient.astype(inputs.dtype) for name, gradient in gradients.items()}


def planted(change):
    """Return the gradients by hand with something done to the dictionary of them."""

    def gradients(parameters, inputs, targets):
        loss, found = numpy_gradients(parameters, inputs, targets)
        return loss, change(dict(found), parameters, inputs)

    return gradients


def row(result, name, stage="gradient"):
    (found,) = [entry for entry in result.rows if (entry.stage, entry.name) == (stage, name)]
    return found


def classifier(**options):
    """Return a dense layer, layer norm, GELU and a dense layer in PyTorch."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(4, 8)
            self.norm = nn.LayerNorm(8)
            self.act = options.get("act") or nn.GELU()
            self.fc2 = nn.Linear(8, CLASSES)
            self.drop = nn.Dropout(0.5)

        def forward(self, inputs):
            hidden = self.norm(self.fc1(inputs))
            hidden = hidden.detach() if options.get("detached") else hidden
            hidden = hidden.float().to(inputs.dtype) if options.get("narrow") else hidden
            return self.fc2(self.drop(self.act(hidden)))

    module = Classifier()
    return module if options.get("train") else module.eval()


def port(epsilon=1e-5, approximate=False, cut=False):
    """Return the same network in JAX."""
    import jax
    import jax.numpy as jnp

    def model(parameters, inputs):
        hidden = inputs @ parameters["dense1"]["kernel"] + parameters["dense1"]["bias"]
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        normal = centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        normal = normal * parameters["norm"]["scale"] + parameters["norm"]["bias"]
        active = jax.nn.gelu(normal, approximate=approximate)
        kernel = parameters["dense2"]["kernel"]
        logits = active @ (jax.lax.stop_gradient(kernel) if cut else kernel) + parameters["dense2"]["bias"]
        return logits, {"hidden": hidden, "normal": normal, "active": active}

    return model


def jax_loss(reduce="mean"):
    """Return the network of `numpy_gradients` in JAX as a function that returns its loss."""
    import jax
    import jax.numpy as jnp

    def model(parameters, inputs, targets):
        z = jnp.tanh(inputs @ parameters["w1"] + parameters["b1"]) @ parameters["w2"] + parameters["b2"]
        costs = -jnp.take_along_axis(jax.nn.log_softmax(z), targets[:, None], axis=1)
        return costs.mean() if reduce == "mean" else costs.sum()

    return model


# -- gradients by hand, without any framework


def test_two_functions_that_agree():
    result = compare(numpy_gradients, planted(lambda g, p, x: g), data=DATA, values=mlp_values())
    assert result.passed
    assert (result.verdict, result.exit_code, result.decided_in) == ("agree", 0, "float64")
    assert [entry.name for entry in result.rows] == ["", "b2", "w2", "b1", "w1"]
    assert {entry.verdict for entry in result.rows} == {"equal"}
    assert 0 < result.sharpness < 1e-9
    assert result.elements == 20 + 5 + 15 + 3


def other_order(parameters, inputs, targets):
    """Return the same gradients, summed over the samples one by one."""
    loss, total = 0.0, {}
    for start in range(len(targets)):
        one = numpy_gradients(parameters, inputs[start : start + 1], targets[start : start + 1])
        loss += one[0] / len(targets)
        for name, gradient in one[1].items():
            total[name] = total.get(name, 0) + gradient / len(targets)
    return loss, {name: gradient.astype(inputs.dtype) for name, gradient in total.items()}


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_another_order_of_summation_is_rounding(seed, scale):
    values = mlp_values(seed, hidden=30, scale=scale)
    result = compare(numpy_gradients, other_order, data=DATA, values=values, seed=seed)
    assert result.passed, str(result)
    assert {entry.verdict for entry in result.rows} <= {"equal", "rounding", "zero"}


FAULTS = {
    "sum for mean": (lambda g, p, x: {k: v * len(x) for k, v in g.items()}, 4, "12 (batch)"),
    "twice": (lambda g, p, x: {k: v * 2 for k, v in g.items()}, 4, "times that in numpy_gradients"),
    "sign of a bias": (lambda g, p, x: g | {"b1": -g["b1"]}, 1, "the gradient of b1 is in gradients -1 times"),
    "missing": (lambda g, p, x: {k: v for k, v in g.items() if k != "b2"}, 1, "gives no gradient of b2"),
    "zero": (lambda g, p, x: g | {"w1": 0 * g["w1"]}, 1, "the gradient of w1 is 0 in every element"),
    "rows in another order": (lambda g, p, x: g | {"w2": g["w2"][::-1]}, 1, "the same rows in both"),
    "one element": (lambda g, p, x: g | {"w1": g["w1"] * np.where(np.arange(20) == 7, 1.001, 1).reshape(4, 5)}, 1, ""),
    "1e-10 of it": (lambda g, p, x: g | {"w1": g["w1"] * (1 + 1e-10)}, 1, ""),
    "weight decay": (lambda g, p, x: g | {"w1": g["w1"] + 1e-4 * p["w1"]}, 1, ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_differences_are_found(fault):
    change, wrong, cause = FAULTS[fault]
    result = compare(numpy_gradients, planted(change), data=DATA, values=mlp_values())
    assert (result.verdict, result.exit_code) == ("differ", 1)
    assert sum(entry.differs for entry in result.gradients) == wrong
    assert result.parted.startswith("the forward passes agree; they part in the backward pass, at the gradient of ")
    if cause:
        assert any(cause in sentence for sentence in result.causes), result.causes
    else:
        assert result.causes == [] or fault == "1e-10 of it"
    assert str(result).startswith(f"DIFFER  numpy_gradients and gradients: {wrong} of 4 gradients differ")


def test_the_worst_element_is_told():
    change = FAULTS["one element"][0]
    result = compare(numpy_gradients, planted(change), data=DATA, values=mlp_values())
    entry = row(result, "w1")
    assert entry.index == [1, 2]
    assert entry.second == pytest.approx(1.001 * entry.first)
    assert entry.error == pytest.approx(abs(entry.second - entry.first))
    assert "w1[1, 2]" in str(result)
    assert result.parted.endswith("gradient of w1; the gradient of b1, before it, agrees")


def test_a_transposed_gradient_of_a_square_matrix():
    def gradients(parameters, inputs, targets):
        return {"w": inputs.T @ (inputs @ parameters["w"] - targets)}

    def transposed(parameters, inputs, targets):
        return {"w": gradients(parameters, inputs, targets)["w"].T}

    data = {"inputs": RNG.normal(size=(6, 4)), "targets": RNG.normal(size=(6, 4))}
    result = compare(gradients, transposed, data=data, values={"w": RNG.normal(size=(4, 4))})
    assert result.causes == ["the gradient of w in transposed is the transpose of that in gradients"]
    assert result.parted == "going backwards, first at the gradient of w"


def test_a_parameter_that_is_to_be_transposed_is_found_by_trying():
    def one(parameters, inputs, targets):
        return {"w": inputs.T @ (inputs @ parameters["w"] - targets)}

    def other(parameters, inputs, targets):
        return {"v": (inputs.T @ (inputs @ parameters["v"].T - targets)).T}

    data = {"inputs": RNG.normal(size=(6, 4)), "targets": RNG.normal(size=(6, 4))}
    values = {"w": RNG.normal(size=(4, 4))}
    result = compare(one, other, data=data, values=values, parameters={"w": "v"})
    assert "with transpose in the map for w, the models agree" in result.causes
    assert compare(one, other, data=data, values=values, parameters={"w": {"name": "v", "transpose": True}}).passed


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_cancellation_that_float32_cannot_do_is_no_bug(scale):
    """E[x^2] - E[x]^2 and E[(x - E[x])^2]: in float32 the difference is as large as the value."""

    def shifted(parameters, inputs):
        h = inputs * parameters["w"]
        centred = h - h.mean(0)
        return {"w": 2 * (centred * inputs).mean(0)}

    def unshifted(parameters, inputs):
        h = inputs * parameters["w"]
        return {"w": 2 * ((h * inputs).mean(0) - h.mean(0) * inputs.mean(0))}

    data = {"inputs": RNG.normal(size=(40, 3)) + 300 * scale}
    result = compare(shifted, unshifted, data=data, values={"w": np.ones(3)})
    assert result.passed, str(result)
    assert row(result, "w").error > 1e-12 * abs(row(result, "w").first)
    # and what is said about it: only large differences would have been found
    assert result.sharpness > 1e-7
    larger = compare(shifted, unshifted, data={"inputs": data["inputs"] * 1e4}, values={"w": np.ones(3)})
    assert larger.passed
    hopeless = compare(shifted, unshifted, data={"inputs": data["inputs"] + 3e6}, values={"w": np.ones(3)})
    assert hopeless.verdict == "nothing compared"


def test_a_kink_is_no_difference():
    def convention(at_zero):
        def gradients(parameters, inputs, targets):
            z = inputs @ parameters["w"] + parameters["b"]
            slope = np.where(z > 0, 1.0, np.where(z < 0, 0.0, at_zero)).astype(inputs.dtype)
            delta = slope * targets
            return {"w": inputs.T @ delta, "b": delta.sum(0)}

        return gradients

    data = {"inputs": np.concatenate([np.zeros((1, 3)), RNG.normal(size=(4, 3))]), "targets": RNG.normal(size=(5, 2))}
    values = {"w": RNG.normal(size=(3, 2)), "b": np.zeros(2)}
    result = compare(convention(0.0), convention(0.5), data=data, values=values)
    assert result.passed
    assert row(result, "b").verdict == "unstable"
    assert any("at a kink of ReLU" in note for note in result.notes)


def test_a_model_that_is_not_repeatable():
    rng = np.random.default_rng(0)

    def random(parameters, inputs, targets):
        return numpy_gradients(parameters, inputs * rng.choice([0, 2], inputs.shape), targets)

    result = compare(numpy_gradients, random, data=DATA, values=mlp_values())
    assert (result.verdict, result.exit_code, result.rows) == ("nondeterministic", 1, [])
    assert str(result) == (
        "NONDETERMINISTIC  random gives other numbers for the loss in a second run: it draws random numbers,\n"
        "  or keeps something from call to call; fix its seed, or take that out"
    )


def test_a_model_that_gives_float32_is_judged_by_float32():
    def narrow(parameters, inputs, targets):
        parameters = {name: array.astype(np.float32) for name, array in parameters.items()}
        return numpy_gradients(parameters, inputs.astype(np.float32), targets)

    result = compare(numpy_gradients, narrow, data=DATA, values=mlp_values())
    assert (result.verdict, result.decided_in) == ("agree", "float32")
    assert result.notes[0].startswith("narrow cannot be run in float64: its gradient of w1 is float32. Decided by the")
    assert result.sharpness > 1e-6
    wrong = compare(planted(lambda g, p, x: g | {"b1": 1.01 * g["b1"]}), narrow, data=DATA, values=mlp_values())
    assert (wrong.verdict, wrong.decided_in) == ("differ", "float32")


def test_products_in_a_shorter_type_are_told_of():
    def coarse(parameters, inputs, targets):
        if inputs.dtype == np.float32:  # as TF32: 10 bits of each factor
            inputs = (inputs.view(np.int32) & ~0x1FFF).view(np.float32)
        return numpy_gradients(parameters, inputs, targets)

    result = compare(numpy_gradients, coarse, data=DATA, values=mlp_values())
    assert result.passed
    assert len(result.notes) == 1
    assert re.match(
        r"the float32 run of coarse loses \d{3,5} times what float32's rounding does: a very long", result.notes[0]
    )
    assert compare(numpy_gradients, other_order, data=DATA, values=mlp_values()).notes == []


def test_a_model_that_refuses_float64():
    def only_single(parameters, inputs, targets):
        if inputs.dtype != np.float32:
            raise TypeError("float32 only")
        return numpy_gradients(parameters, inputs, targets)

    result = compare(numpy_gradients, only_single, data=DATA, values=mlp_values())
    assert (result.verdict, result.decided_in) == ("agree", "float32")
    assert "only_single cannot be run in float64: TypeError: float32 only (line" in result.notes[0]


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_nothing_to_compare(value):
    def gradients(parameters, inputs):
        return {"w": np.full_like(parameters["w"], value)}

    result = compare(gradients, gradients, data={"inputs": np.ones((2, 2))}, values={"w": np.ones(3)})
    assert (result.verdict, result.exit_code) == ("nothing compared", 5)
    assert str(result).startswith(
        "NOTHING COMPARED  gradients (first) and gradients (second): every gradient is 0, not finite, or"
    )


def test_nan_in_one_model_is_a_difference():
    result = compare(
        numpy_gradients, planted(lambda g, p, x: g | {"b1": g["b1"] * np.nan}), data=DATA, values=mlp_values()
    )
    assert row(result, "b1").verdict == "DIFFERS"
    assert (row(result, "b1").second, row(result, "b1").units) == ("NaN", "Infinity")
    assert "nan" not in result.to_json().decode()


def test_a_gradient_of_another_shape():
    result = compare(
        numpy_gradients, planted(lambda g, p, x: g | {"b1": g["b1"][None]}), data=DATA, values=mlp_values()
    )
    assert (row(result, "b1").verdict, row(result, "b1").detail) == ("SHAPE", "shapes (5,) and (1, 5)")


def test_json():
    result = compare(numpy_gradients, planted(FAULTS["twice"][0]), data=DATA, values=mlp_values())
    content = json.loads(result.to_json())
    assert (content["schema"], content["verdict"], content["first"]) == (1, "differ", "numpy_gradients")
    assert content["rows"][1]["name"] == "b2"


def test_rows_and_batch_objects():
    def gradients(parameters, batch):
        assert len(batch.inputs) == 5
        return numpy_gradients(parameters, batch.inputs, batch.targets)

    def five(parameters, x, y):
        return numpy_gradients(parameters, x, y)

    assert compare(gradients, five, data=DATA, values=mlp_values(), rows=5).passed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "neither model holds values: give --values FILE.npz with the parameters of numpy_gradients (first)"),
        (
            {"values": {"w1": np.ones((4, 5))}},
            "numpy_gradients (first) in float32: KeyError: 'b1' (line LINE of numpy_gradients): it asks for a "
            "parameter of that name; write it into the map, nested ones with '/' between the names",
        ),
        (
            {"values": mlp_values(), "loss": "MeanSquaredError(reduction=none)"},
            "loss: reduction none gives no single cost: use mean or sum",
        ),
        (
            {"values": mlp_values(), "parameters": {"w9": "w1"}},
            "parameters: numpy_gradients (first) has no parameter 'w9'; did",
        ),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(InvalidInput) as caught:
        compare(numpy_gradients, numpy_gradients, data=DATA, **options)
    assert re.sub(r"line \d+", "line LINE", str(caught.value)).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_numpy_model_that_returns_outputs_is_refused():
    def model(parameters, inputs):
        return np.tanh(inputs @ parameters["w1"])

    with pytest.raises(
        InvalidInput, match="model returns ndarray, and NumPy cannot differentiate it: write a function"
    ):
        compare(model, numpy_gradients, data=DATA, values=mlp_values())


def test_the_notation_of_a_loss():
    assert read_loss("Huber(delta=2)").delta == 2
    assert read_loss(None) is None
    with pytest.raises(InvalidInput, match="did you mean SoftmaxCrossEntropy"):
        read_loss("SoftmaxCrossEntropi")


# -- PyTorch


@pytest.mark.torch
def test_a_module_and_gradients_by_hand():
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    names = {"0.weight": ["w1"], "0.bias": "b1", "2.weight": ["w2"], "2.bias": "b2"}
    names = {k: {"name": v[0], "transpose": True} if isinstance(v, list) else v for k, v in names.items()}
    result = compare(module, numpy_gradients, data=DATA, parameters=names, loss="SoftmaxCrossEntropy")
    assert result.passed, str(result)
    assert result.frameworks == ["torch", "numpy"]
    assert result.notes == ["numpy_gradients computes its own loss: --loss does not concern it"]
    summed = compare(module, numpy_gradients, data=DATA, parameters=names, loss="SoftmaxCrossEntropy(reduction=sum)")
    assert summed.verdict == "differ"
    assert summed.parted == "at the loss: no outputs were shown"
    assert summed.causes == [
        "every gradient that differs is in numpy_gradients 0.0833333 (1/batch) times that in Sequential"
    ]


@pytest.mark.torch
def test_values_come_from_the_second_model_where_the_first_holds_none():
    from torch import nn

    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    names = {"b1": "0.bias", "b2": "2.bias"} | {
        f"w{i}": {"name": f"{2 * i - 2}.weight", "transpose": True} for i in (1, 2)
    }
    assert compare(numpy_gradients, module, data=DATA, parameters=names, loss="SoftmaxCrossEntropy").passed


@pytest.mark.torch
def test_two_modules_are_matched_by_their_names_and_watched_on_the_way():
    result = compare(classifier(), classifier(), data=DATA, loss="SoftmaxCrossEntropy")
    assert result.passed
    assert [entry.name for entry in result.rows if entry.stage == "place"] == ["fc1", "norm", "act", "drop", "fc2"]
    assert row(result, "inputs", "input").verdict == "equal"


@pytest.mark.torch
def test_an_activation_that_differs_is_placed():
    from torch import nn

    other = classifier(act=nn.SiLU())
    result = compare(classifier(), other, data=DATA, loss="SoftmaxCrossEntropy")
    assert result.parted == "already in the forward pass, at act; norm, before it, agrees"
    assert str(result).partition(":")[0] == "DIFFER  Classifier (first) and Classifier (second)"
    assert "7 of 7 gradients differ, first at act in the forward pass" in " ".join(str(result).split())
    assert result.causes == []


@pytest.mark.torch
def test_dropout_left_on():
    result = compare(classifier(train=True), classifier(), data=DATA, loss="SoftmaxCrossEntropy")
    assert result.verdict == "nondeterministic"
    assert result.detail == (
        "Classifier (first) gives other numbers for the value of drop in a second run: it draws random numbers in "
        "drop, Dropout: call .eval() on it, or fix its seed"
    )


@pytest.mark.torch
def test_a_detached_path():
    result = compare(classifier(), classifier(detached=True), data=DATA, loss="SoftmaxCrossEntropy")
    assert result.parted.startswith("the forward passes agree; they part in the backward pass, at the gradient of norm")
    assert [entry.name for entry in result.gradients if entry.verdict == "MISSING"] == [
        "norm.bias",
        "norm.weight",
        "fc1.bias",
        "fc1.weight",
    ]
    assert "Classifier (second) gives no gradient of fc1.weight: its cost does not depend on it" in result.causes


@pytest.mark.torch
def test_batch_norm_in_the_wrong_mode():
    import torch
    from torch import nn

    torch.manual_seed(0)
    trained = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    with torch.no_grad():
        trained(torch.randn(20, 4))
    result = compare(
        trained,
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).eval(),
        data=DATA,
        loss="SoftmaxCrossEntropy",
    )
    assert result.parted == "already in the forward pass, at 1; 0, before it, agrees"
    assert result.causes == ["in eval mode, Sequential (first) agrees", "in train mode, Sequential (second) agrees"]
    before = trained[1].running_mean.clone()
    same = compare(trained, trained, data=DATA, loss="SoftmaxCrossEntropy")
    assert same.passed
    # the bias before a batch norm has no effect: its gradient is rounding, and no difference
    assert row(same, "0.bias").verdict == "zero"
    assert torch.equal(trained[1].running_mean, before)


@pytest.mark.torch
def test_softplus_has_a_threshold():
    import torch
    from torch import nn

    class Exact(nn.Module):
        def forward(self, z):
            return torch.logaddexp(z, torch.zeros_like(z))

    first, second = nn.Sequential(nn.Linear(4, 6), nn.Softplus()), nn.Sequential(nn.Linear(4, 6), Exact())
    with torch.no_grad():
        first[0].bias.fill_(21)
    data = {"inputs": DATA["inputs"], "targets": RNG.normal(size=(ROWS, 6))}
    result = compare(first, second, data=data, loss="MeanSquaredError")
    assert result.verdict == "differ"
    assert result.causes == ["with Softplus(threshold=40), Sequential (first) agrees"]


@pytest.mark.torch
def test_a_module_that_rounds_to_float32_on_its_way():
    result = compare(classifier(), classifier(narrow=True), data=DATA, loss="SoftmaxCrossEntropy")
    assert (result.verdict, result.decided_in) == ("agree", "float32")
    assert "it rounds on its way, by aten._to_copy.default to float32" in result.notes[0]


@pytest.mark.torch
def test_tokens_and_rows_of_words():
    from torch import nn

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 9)

        def forward(self, tokens):
            return self.out(self.words(tokens))

    data = {"tokens": RNG.integers(0, 9, (3, 5)), "targets": RNG.integers(0, 9, (3, 5))}
    assert compare(Words, Words(), data=data, loss="SoftmaxCrossEntropy").passed


@pytest.mark.torch
@pytest.mark.parametrize(
    ("data", "loss", "message"),
    [
        (
            DATA,
            None,
            "Linear (first) returns outputs of shape (12, 3) and no scalar loss: give --loss, such as --loss Softmax",
        ),
        ({"inputs": DATA["inputs"]}, "Huber", "Huber needs an array 'targets' in the data; it has inputs"),
        (
            {**DATA, "targets": np.arange(ROWS)},
            "SoftmaxCrossEntropy",
            "targets[3]: label 3 is not in 0..2",
        ),
        (
            {**DATA, "targets": np.zeros(5, int)},
            "SoftmaxCrossEntropy",
            "targets: expected 12 labels for outputs of shape (12, 3), got shape (5,)",
        ),
        (
            DATA,
            "MeanSquaredError",
            "targets: expected the shape of the outputs, (12, 3), for MeanSquaredError, got int64",
        ),
        (
            {"x": DATA["inputs"]},
            "Huber",
            "Linear (first) takes 'input', and the data has x: name its arrays as the arguments",
        ),
        ({"inputs": np.ones((2, 3))}, "Huber", "Linear (first) in float32: RuntimeError: "),
    ],
)
def test_what_is_refused_of_a_module(data, loss, message):
    from torch import nn

    with pytest.raises(InvalidInput) as caught:
        compare(nn.Linear(4, 3), nn.Linear(4, 3), data=data, loss=loss)
    assert str(caught.value).startswith(message)


@pytest.mark.torch
def test_a_hook_that_clips_a_gradient():
    import torch
    from torch import nn

    clipped = nn.Linear(4, 3)
    clipped.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    result = compare(nn.Linear(4, 3), clipped, data=DATA, loss="SoftmaxCrossEntropy")
    assert [entry.name for entry in result.gradients if entry.differs] == ["weight"]
    assert result.parted.startswith("the forward passes agree")
    assert abs(row(result, "weight").second) == pytest.approx(0.01)
    assert torch.equal(clipped.weight.grad or torch.zeros(1), torch.zeros(1))


@pytest.mark.torch
def test_frozen_parameters_and_buffers_are_carried_over_and_not_compared():
    from torch import nn

    frozen = nn.Linear(4, 3)
    frozen.bias.requires_grad_(False)
    for pair in ((frozen, nn.Linear(4, 3)), (nn.Linear(4, 3), frozen)):
        result = compare(*pair, data=DATA, loss="SoftmaxCrossEntropy")
        assert result.passed
        assert [entry.name for entry in result.gradients] == ["weight", "inputs"]
        assert len(result.notes) == 1
        assert re.fullmatch(r"not differentiated in Linear \(\w+\), and not compared: bias", result.notes[0])


@pytest.mark.torch
def test_a_module_that_returns_a_dictionary():
    from torch import nn

    class Named(nn.Linear):
        def forward(self, inputs):
            return {"logits": super().forward(inputs)}

    with pytest.raises(InvalidInput, match="Named returns dict: expected a tensor, or"):
        compare(Named(4, 3), nn.Linear(4, 3), data=DATA, loss="SoftmaxCrossEntropy")


# -- JAX


@pytest.mark.jax
def test_a_jax_loss_and_gradients_by_hand():
    result = compare(jax_loss(), numpy_gradients, data=DATA, values=mlp_values())
    assert result.passed, str(result)
    assert result.frameworks == ["jax", "numpy"]
    assert row(result, "", "loss").verdict in {"equal", "rounding"}


@pytest.mark.jax
def test_a_jax_function_that_returns_gradients():
    import jax

    def gradients(parameters, inputs, targets):
        return jax.grad(jax_loss())(parameters, inputs, targets)

    def value_and_gradients(parameters, inputs, targets):
        return jax.value_and_grad(jax_loss())(parameters, inputs, targets)

    for function in (gradients, value_and_gradients):
        assert compare(function, numpy_gradients, data=DATA, values=mlp_values()).passed


@pytest.mark.jax
def test_a_function_that_cannot_be_compiled_is_run_as_it_is():
    def model(parameters, inputs, targets):
        found = jax_loss()(parameters, inputs, targets)
        return found if float(inputs.sum()) < 1e9 else -found

    assert compare(model, numpy_gradients, data=DATA, values=mlp_values()).passed


@pytest.mark.jax
def test_a_sum_for_a_mean_is_named():
    result = compare(jax_loss(), jax_loss("sum"), data=DATA, values=mlp_values())
    assert result.causes == ["every gradient that differs is in model (second) 12 (batch) times that in model (first)"]


@pytest.mark.jax
def test_a_jax_function_that_rounds_on_its_way():
    import jax.numpy as jnp

    def model(parameters, inputs, targets):
        return jax_loss()({k: v.astype(jnp.float32) for k, v in parameters.items()}, inputs, targets)

    result = compare(numpy_gradients, model, data=DATA, values=mlp_values())
    assert (result.verdict, result.decided_in) == ("agree", "float32")
    assert "model cannot be run in float64: it rounds on its way, by convert_element_type to float32" in result.notes[0]


# -- both


@pytest.mark.torch
@pytest.mark.jax
def test_a_module_and_its_port():
    result = compare(classifier(), port(), data=DATA, parameters=PAIR_MAP, loss="SoftmaxCrossEntropy")
    assert result.passed, str(result)
    assert [entry.other for entry in result.rows if entry.stage == "place"] == ["hidden", "normal", "active"]
    assert len(result.gradients) == 7


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.parametrize(
    ("options", "place", "cause"),
    [
        ({"approximate": True}, "act; norm, before it, agrees", "with GELU(approximate='tanh'), Classifier agrees"),
        ({"epsilon": 1e-6}, "norm; fc1, before it, agrees", "with LayerNorm(eps=1e-06), Classifier agrees"),
        (
            {"epsilon": 1e-6, "approximate": True},
            "norm; fc1, before it, agrees",
            "with LayerNorm(eps=1e-06) and with GELU(approximate='tanh'), Classifier agrees",
        ),
    ],
)
def test_other_defaults_are_found_and_named(options, place, cause):
    result = compare(classifier(), port(**options), data=DATA, parameters=PAIR_MAP, loss="SoftmaxCrossEntropy")
    assert result.parted == f"already in the forward pass, at {place}"
    assert result.causes == [cause]


@pytest.mark.torch
@pytest.mark.jax
def test_a_stopped_gradient_is_placed():
    result = compare(classifier(), port(cut=True), data=DATA, parameters=PAIR_MAP, loss="SoftmaxCrossEntropy")
    assert [entry.name for entry in result.gradients if entry.differs] == ["fc2.weight"]
    assert result.causes == ["in model the gradient of fc2.weight is 0 in every element: is it cut off?"]


@pytest.mark.torch
@pytest.mark.jax
def test_places_may_lie_in_another_layout():
    import jax.numpy as jnp
    from torch import nn

    def model(parameters, inputs):
        hidden = (inputs @ parameters["w"] + parameters["b"]).T
        return jnp.tanh(hidden.T), {"hidden": hidden}

    names = {
        "parameters": {"0.weight": {"name": "w", "transpose": True}, "0.bias": "b"},
        "outputs": {"0": {"name": "hidden", "transpose": True}},
    }
    data = {"inputs": DATA["inputs"], "targets": RNG.normal(size=(ROWS, 4))}
    result = compare(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), model, data=data, parameters=names, loss="Huber")
    assert result.passed
    names["outputs"]["0"] = "hiden"
    with pytest.raises(InvalidInput, match="'hiden': model shows no such value; it shows hidden"):
        compare(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), model, data=data, parameters=names, loss="Huber")
