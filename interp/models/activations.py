"""The nonlinearities of the MLP and their derivatives."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from interp.experiment import Activation


def activate(activation: Activation, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """relu(x) = max(x, 0); gelu(x) = x·Φ(x) with the exact normal distribution function Φ, gelu-tanh with its
    approximation ½ + ½·tanh(√(2/π)·(x + 0.044715 x³)); silu(x) = x/(1 + e^(−x)); square(x) = x²;
    tanh.

    >>> activate("square", torch.tensor([-2.0, 3.0]))
    tensor([4., 9.])
    """
    if activation == "relu":
        return functional.relu(x)
    if activation == "gelu":
        return functional.gelu(x)
    if activation == "gelu-tanh":
        return functional.gelu(x, approximate="tanh")
    if activation == "silu":
        return functional.silu(x)
    if activation == "tanh":
        return torch.tanh(x)
    return x * x


def backward(
    activation: Activation,
    x: Float[Tensor, "*shape"],
    y: Float[Tensor, "*shape"],
    d_y: Float[Tensor, "*shape"],
    out: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    """d_y · act'(x) for y = act(x), written to `out` if given (d_y, say); the derivative of relu at 0 is 0, as in
    autograd, and its x is not read."""
    if activation == "relu":  # one pass over memory instead of three
        if out is None:
            return torch.ops.aten.threshold_backward(d_y, y, 0)
        return torch.ops.aten.threshold_backward.grad_input(d_y, y, 0, grad_input=out)
    if activation == "gelu-tanh":
        of_x = torch.ops.aten.gelu_backward(d_y, x, approximate="tanh")
        return of_x if out is None else out.copy_(of_x)
    if activation == "gelu":
        normal_density = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        derivative = 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * normal_density
    elif activation == "silu":
        sigmoid = torch.sigmoid(x)
        derivative = sigmoid * (1 + x * (1 - sigmoid))
    else:
        derivative = 1 - y * y if activation == "tanh" else 2 * x
    return torch.mul(d_y, derivative, out=out)
