"""A linear map as a jax.custom_vjp function: a starting point for your own.

gradconform layer examples/jax_vjp.py:linear --input 3,4 --input 4,5
"""

import jax


@jax.custom_vjp
def linear(x, weight):
    return x @ weight


def linear_forward(x, weight):
    # the output, and what the backward pass needs
    return x @ weight, (x, weight)


def linear_backward(residuals, cotangent):
    # cotangent: the gradient of the cost with respect to the output, of its shape
    x, weight = residuals
    # one gradient for every argument, in their order; the usual mistake is to swap or to transpose them
    return cotangent @ weight.T, x.T @ cotangent


linear.defvjp(linear_forward, linear_backward)
