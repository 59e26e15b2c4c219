"""The losses that a network can be trained on, by name, each in the three forms in which training asks for it. To add
one: its functions in a file beside `cross_entropy`, and its line here.

>>> import torch
>>> outputs, labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
>>> losses, correct = LOSSES["cross-entropy"].judge(outputs, labels)
>>> losses.numpy().round(4).tolist(), correct.tolist()
([0.3133, 0.6931], [True, False])
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from interp.mathematics.cross_entropy import (
    cross_entropy_and_correctness,
    cross_entropy_and_gradient_,
    differentiable_cross_entropy,
)


class Loss(NamedTuple):
    """A loss of outputs [classes, n] at labels [n]: the loss of every example [n], and which are answered correctly
    [n].

    `judge` gives these. `judge_with_gradient_` takes the number of examples of the whole batch too, and writes the
    gradient of the sum of the losses divided by it over the outputs. `differentiable` is what torch.func can
    differentiate and vectorize; it may differ by rounding.
    """

    judge: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    judge_with_gradient_: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
    differentiable: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


CROSS_ENTROPY = Loss(cross_entropy_and_correctness, cross_entropy_and_gradient_, differentiable_cross_entropy)
LOSSES = {"cross-entropy": CROSS_ENTROPY}
