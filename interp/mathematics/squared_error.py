"""The squared error against the one-hot label, a mean over the classes, in float64:

    loss = 1/K Σ_c (z_c − onehot_c)²,   gradient = 2/K (z − onehot)

This is `torch.nn.MSELoss` of one-hot labels, on which networks of modular arithmetic are trained in the literature
(Liu et al. 2022, Omnigrok, arXiv:2210.01117; Gromov 2023, arXiv:2301.02679); some have the sum over the classes, K
times as much. Outputs that are all zero have the loss 1/K, and no outputs but the one-hot label have less than any
other: unlike a cross-entropy it does not go on falling as they grow. An answer is still the class with the largest
output.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from interp.mathematics.loss import LEAST_GRADIENT, is_answered


def squared_error(
    outputs: Float[Tensor, "classes *n"], labels: Int[Tensor, "*n"]
) -> tuple[Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """The squared error of every example, float64, and which are answered correctly (`is_answered`); `outputs` are not
    written to. torch.func can differentiate and vectorize it.

    >>> losses, correct = squared_error(torch.tensor([[0.5, 0.0], [0.5, 0.0]]), torch.tensor([0, 0]))
    >>> losses.tolist(), correct.tolist()  # a tie is no answer
    ([0.25, 0.5], [False, False])
    """
    return _off(outputs, labels).square().mean(0), is_answered(outputs, labels)


def squared_error_and_gradient_(
    outputs: Float[Tensor, "classes *n"], labels: Int[Tensor, "*n"], n_mean: int
) -> tuple[Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """The same, and over the outputs the gradient with respect to them of the sum of the losses divided by `n_mean`;
    below 1e-30 it is set to zero.

    >>> outputs = torch.tensor([[0.5], [0.5]])
    >>> _ = squared_error_and_gradient_(outputs, torch.tensor([0]), n_mean=1)
    >>> outputs[:, 0].tolist()
    [-0.5, 0.5]
    """
    off, correct = _off(outputs, labels), is_answered(outputs, labels)
    outputs.copy_(functional.hardshrink(off * (2 / (len(outputs) * n_mean)), LEAST_GRADIENT))
    return off.square().mean(0), correct


def _off(outputs: Tensor, labels: Tensor) -> Tensor:
    """Outputs less the one-hot label, float64."""
    label = labels[None]
    return outputs.double().scatter_add(0, label, torch.full_like(label, -1, dtype=torch.float64))
