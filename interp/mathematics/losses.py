"""The losses that a network can be trained on, by name, each in the three forms in which training asks for it
(`interp.mathematics.loss`). To add one: its functions in a file beside `cross_entropy`, and its line here.

>>> import torch
>>> outputs, labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
>>> losses, correct = LOSSES["cross-entropy"].judge(outputs, labels)
>>> losses.numpy().round(4).tolist(), correct.tolist()
([0.3133, 0.6931], [True, False])
"""

from functools import partial
from typing import Protocol, runtime_checkable

import torch

from interp.mathematics.cross_entropy import (
    cross_entropy_and_correctness,
    cross_entropy_and_gradient_,
    differentiable_cross_entropy,
)
from interp.mathematics.float32_cross_entropy import float32_cross_entropy, float32_cross_entropy_and_gradient_
from interp.mathematics.loss import Loss, smoothed, with_zero_sum
from interp.mathematics.squared_error import squared_error, squared_error_and_gradient_
from interp.mathematics.stablemax import stablemax

CROSS_ENTROPY = Loss(cross_entropy_and_correctness, cross_entropy_and_gradient_, differentiable_cross_entropy)
LOSSES = {
    "cross-entropy": CROSS_ENTROPY,
    "stablemax": stablemax(CROSS_ENTROPY),
    "squared-error": Loss(squared_error, squared_error_and_gradient_, squared_error),
}


@runtime_checkable
class LossChoice(Protocol):
    """What says which loss: the fields of `TrainingConfig` that do.

    >>> from interp.experiment import TrainingConfig
    >>> choice: LossChoice = TrainingConfig()
    >>> choice.loss, choice.loss_precision, choice.label_smoothing, choice.zero_sum
    ('cross-entropy', 'float64', 0.0, False)
    """

    @property
    def loss(self) -> str: ...

    @property
    def loss_precision(self) -> str: ...

    @property
    def label_smoothing(self) -> float: ...

    @property
    def zero_sum(self) -> bool: ...


def chosen_loss(choice: LossChoice) -> Loss:
    """The loss that a configuration of training names (`loss_of`).

    >>> from interp.experiment import TrainingConfig
    >>> chosen_loss(TrainingConfig()) is CROSS_ENTROPY
    True
    """
    return loss_of(choice.loss, choice.loss_precision, choice.label_smoothing, zero_sum=choice.zero_sum)


def loss_of(
    name: str = "cross-entropy", precision: str = "float64", label_smoothing: float = 0.0, *, zero_sum: bool = False
) -> Loss:
    """A loss by its name, in "float64", or as torch computes it in "float32" of cross-entropy and StableMax alone;
    these also with label smoothing, and cross-entropy with gradients that sum to zero over the classes.

    >>> outputs, labels = torch.tensor([[18.0], [0.0]]), torch.tensor([0])
    >>> [f"{loss_of(precision=precision).judge(outputs, labels)[0].item():.3g}" for precision in ("float64", "float32")]
    ['1.52e-08', '0']
    """
    if (name, precision, label_smoothing, zero_sum) == (name, "float64", 0.0, False):
        return LOSSES[name]
    if precision == "float32":
        judge = partial(float32_cross_entropy, label_smoothing=label_smoothing)
        with_gradient = partial(float32_cross_entropy_and_gradient_, label_smoothing=label_smoothing)
        loss, dtype = Loss(judge, with_gradient, judge), torch.float32
    else:
        loss, dtype = smoothed(CROSS_ENTROPY, label_smoothing) if label_smoothing else CROSS_ENTROPY, torch.float64
    loss = stablemax(loss, dtype) if name == "stablemax" else loss
    return with_zero_sum(loss) if zero_sum else loss
