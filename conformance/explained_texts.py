"""The texts of the programs in which an explanation's lines stand, in each framework, with places for what differs.

A place is a line `# name`, which `gradconform.conformance.explained_programs` fills.
"""

from __future__ import annotations

from typing import Literal, get_args

Framework = Literal["numpy", "torch", "jax"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)

NUMPY = """\
import math

import numpy as np

import gradconform as gc

# constants
erf = np.vectorize(math.erf, otypes=[float])


def one_hot(labels, z):
    return np.eye(z.shape[1])[labels]


def dense(x, w, b):
    z = x @ w + b
    return z


def dense_backward(x, w, z, delta):
    dw = x.T @ delta
    db = delta.sum(axis=0)
    delta_below = delta @ w.T
    return delta_below, dw, db


def activate(z):
    # forward
    return a


def activate_backward(z, a, delta):
    # backward
    return delta_z


def cost_of(z, y, class_weights):
    # cost
    return cost, p


def cost_backward(z, p, y, class_weights, upstream):
    # delta
    return delta


def gradients(network, parameters, batch):
    x, y, upstream = batch.inputs, batch.targets, batch.cotangent
    class_weights = np.ones(network.widths[-1]) if batch.class_weights is None else batch.class_weights
    # flow
    return gc.Gradients(grads, cost)


# declared
"""

TORCH = """\
import math

import torch

import gradconform as gc

# constants
erf = torch.erf


def one_hot(labels, z):
    return torch.nn.functional.one_hot(labels, z.shape[1]).to(z.dtype)


class Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b):
        z = x @ w + b
        ctx.save_for_backward(x, w, z)
        return z

    @staticmethod
    def backward(ctx, delta):
        x, w, z = ctx.saved_tensors
        dw = x.T @ delta
        db = delta.sum(dim=0)
        delta_below = delta @ w.T
        return delta_below, dw, db


class Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        # forward
        ctx.save_for_backward(z, a)
        return a

    @staticmethod
    def backward(ctx, delta):
        z, a = ctx.saved_tensors
        # backward
        return delta_z


class Cost(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, y, class_weights):
        # cost
        ctx.save_for_backward(z, p, y, class_weights)
        return cost

    @staticmethod
    def backward(ctx, upstream):
        z, p, y, class_weights = ctx.saved_tensors
        # delta
        return delta, None, None


def gradients(network, parameters, batch):
    x, y = torch.tensor(batch.inputs), torch.tensor(batch.targets)
    class_weights = x.new_ones(network.widths[-1]) if batch.class_weights is None else torch.tensor(batch.class_weights)
    upstream = torch.ones_like(x[0, 0]) if batch.cotangent is None else torch.tensor(batch.cotangent)
    leaves = {path: torch.tensor(array, requires_grad=True) for path, array in parameters.items()}
    # flow
    cost.backward(upstream)
    grads = {path: leaf.grad.numpy() for path, leaf in leaves.items()}
    return gc.Gradients(grads, cost.detach().numpy())


# declared
"""

JAX = """\
import math

import jax
import jax.numpy as jnp
import numpy as np

import gradconform as gc

# constants
erf = jax.scipy.special.erf


def one_hot(labels, z):
    return jax.nn.one_hot(labels, z.shape[1], dtype=z.dtype)


@jax.custom_vjp
def dense(x, w, b):
    return dense_forward(x, w, b)[0]


def dense_forward(x, w, b):
    z = x @ w + b
    return z, (x, w, z)


def dense_backward(residuals, delta):
    x, w, z = residuals
    dw = x.T @ delta
    db = delta.sum(axis=0)
    delta_below = delta @ w.T
    return delta_below, dw, db


dense.defvjp(dense_forward, dense_backward)


@jax.custom_vjp
def activate(z):
    return activate_forward(z)[0]


def activate_forward(z):
    # forward
    return a, (z, a)


def activate_backward(residuals, delta):
    z, a = residuals
    # backward
    return (delta_z,)


activate.defvjp(activate_forward, activate_backward)


@jax.custom_vjp
def cost_of(z, y, class_weights):
    return cost_forward(z, y, class_weights)[0]


def cost_forward(z, y, class_weights):
    # cost
    return cost, (z, p, y, class_weights)


def cost_backward(residuals, upstream):
    z, p, y, class_weights = residuals
    # delta
    return delta, None, None


cost_of.defvjp(cost_forward, cost_backward)


def gradients(network, parameters, batch):
    with jax.enable_x64(True):
        x, y = jnp.asarray(batch.inputs), jnp.asarray(batch.targets)
        class_weights = jnp.asarray(np.ones(network.widths[-1]) if batch.class_weights is None else batch.class_weights)
        upstream = jnp.ones(()) if batch.cotangent is None else jnp.asarray(batch.cotangent)
        leaves = {path: jnp.asarray(array) for path, array in parameters.items()}

        def cost_from(leaves):
            # flow
            return cost

        cost, pullback = jax.vjp(cost_from, leaves)
        (grads,) = pullback(upstream)
        grads = {path: np.asarray(gradient) for path, gradient in grads.items()}
        return gc.Gradients(grads, np.asarray(cost))


# declared
"""

TEXTS: dict[Framework, str] = {"numpy": NUMPY, "torch": TORCH, "jax": JAX}

HIDDEN: dict[Framework, str] = {
    "numpy": """\
w0, b0 = parameters["0.weight"], parameters["0.bias"]
w2, b2 = parameters["2.weight"], parameters["2.bias"]

z0 = dense(x, w0, b0)
a0 = activate(z0)
z2 = dense(a0, w2, b2)
cost, p = cost_of(z2, y, class_weights)

delta2 = cost_backward(z2, p, y, class_weights, upstream)
da0, dw2, db2 = dense_backward(a0, w2, z2, delta2)
delta0 = activate_backward(z0, a0, da0)
_, dw0, db0 = dense_backward(x, w0, z0, delta0)
grads = {"0.weight": dw0, "0.bias": db0, "2.weight": dw2, "2.bias": db2}""",
    "torch": """\
z0 = Dense.apply(x, leaves["0.weight"], leaves["0.bias"])
a0 = Activation.apply(z0)
z2 = Dense.apply(a0, leaves["2.weight"], leaves["2.bias"])
cost = Cost.apply(z2, y, class_weights)""",
    "jax": """\
z0 = dense(x, leaves["0.weight"], leaves["0.bias"])
a0 = activate(z0)
z2 = dense(a0, leaves["2.weight"], leaves["2.bias"])
cost = cost_of(z2, y, class_weights)""",
}
"""A hidden layer: dense, activation, dense, loss."""

THREE: dict[Framework, str] = {
    "numpy": """\
w0, b0 = parameters["0.weight"], parameters["0.bias"]
w2, b2 = parameters["2.weight"], parameters["2.bias"]
w4, b4 = parameters["4.weight"], parameters["4.bias"]

z0 = dense(x, w0, b0)
a0 = activate(z0)
z2 = dense(a0, w2, b2)
a2 = activate(z2)
z4 = dense(a2, w4, b4)
cost, p = cost_of(z4, y, class_weights)

delta4 = cost_backward(z4, p, y, class_weights, upstream)
da2, dw4, db4 = dense_backward(a2, w4, z4, delta4)
delta2 = activate_backward(z2, a2, da2)
da0, dw2, db2 = dense_backward(a0, w2, z2, delta2)
delta0 = activate_backward(z0, a0, da0)
_, dw0, db0 = dense_backward(x, w0, z0, delta0)
grads = {"0.weight": dw0, "0.bias": db0, "2.weight": dw2, "2.bias": db2, "4.weight": dw4, "4.bias": db4}""",
}
"""Two hidden layers, in NumPy."""

LAST: dict[Framework, str] = {
    "numpy": """\
w0, b0 = parameters["0.weight"], parameters["0.bias"]

z0 = dense(x, w0, b0)
a0 = activate(z0)
cost, p = cost_of(a0, y, class_weights)

da0 = cost_backward(a0, p, y, class_weights, upstream)
delta0 = activate_backward(z0, a0, da0)
_, dw0, db0 = dense_backward(x, w0, z0, delta0)
grads = {"0.weight": dw0, "0.bias": db0}""",
    "torch": """\
z0 = Dense.apply(x, leaves["0.weight"], leaves["0.bias"])
a0 = Activation.apply(z0)
cost = Cost.apply(a0, y, class_weights)""",
    "jax": """\
z0 = dense(x, leaves["0.weight"], leaves["0.bias"])
a0 = activate(z0)
cost = cost_of(a0, y, class_weights)""",
}
"""A last activation, on which the loss stands: dense, activation, loss."""
