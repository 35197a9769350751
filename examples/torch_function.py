"""The hyperbolic tangent as a torch.autograd.Function: a starting point for your own.

gradconform layer examples/torch_function.py:Tanh
"""

import torch


class Tanh(torch.autograd.Function):
    """The hyperbolic tangent."""

    @staticmethod
    def forward(ctx, x):
        """Return tanh(x)."""
        y = torch.tanh(x)
        # what backward needs; only inputs and outputs can be differentiated a second time
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, cotangent):
        """Return the gradient of the cost with respect to x, from the one with respect to y."""
        (y,) = ctx.saved_tensors
        # the usual mistake is `cotangent * (1 - y)`; the check names it
        return cotangent * (1 - y**2)
