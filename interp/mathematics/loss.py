"""What a loss is: the three forms in which training asks for it, and what can be done to any cross-entropy: to smooth
its labels, and to keep its gradient to changes of the logits that sum to zero.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

LEAST_GRADIENT = 1e-30  # what is below it is set to zero: on denormal numbers a processor is several times slower


class Loss(NamedTuple):
    """A loss of outputs [classes, n] at labels [n]: the loss of every example [n], and which are answered correctly
    [n]; the first two take any axes of examples, [classes, S, n] say.

    `judge` gives these. `judge_with_gradient_` takes the number of examples of the whole batch too, and writes the
    gradient of the sum of the losses divided by it over the outputs. `differentiable` is what torch.func can
    differentiate and vectorize; it may differ by rounding.

    >>> from interp.mathematics.losses import CROSS_ENTROPY
    >>> losses, correct = CROSS_ENTROPY.judge(torch.tensor([[1.0], [0.0]]), torch.tensor([0]))
    >>> round(losses.item(), 4), correct.item()
    (0.3133, True)
    """

    judge: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    judge_with_gradient_: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
    differentiable: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def of_guessing(self, n_classes: int) -> float:
        """The loss of a network that answers nothing: of outputs that are all zero.

        >>> from interp.mathematics.losses import LOSSES
        >>> [round(loss.of_guessing(113), 4) for loss in LOSSES.values()]  # ln 113, ln 113 and 1/113
        [4.7274, 4.7274, 0.0088]
        """
        losses, _ = self.judge(torch.zeros(n_classes, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
        return losses.item()


def is_answered(outputs: Float[Tensor, "classes *n"], labels: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
    """Which answers are right: those whose label has a larger output than every other class; a tie is no answer, and
    neither is NaN.

    >>> is_answered(torch.tensor([[5.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0])).tolist()
    [True, False]
    """
    label = labels[None]
    return (outputs.gather(0, label) > outputs.scatter(0, label, -torch.inf).amax(0, keepdim=True))[0]


def smoothed(loss: Loss, smoothing: float) -> Loss:
    """A cross-entropy with label smoothing ε: the wanted distribution is (1 − ε) onehot + ε/K over K classes, as
    torch's `label_smoothing` has it (Szegedy et al. 2016, arXiv:1512.00567, §7). With x what the softmax is taken of,

        loss = CE + ε (x_label − mean x),   gradient = softmax − onehot + ε (onehot − 1/K)

    >>> from interp.mathematics.losses import CROSS_ENTROPY
    >>> import math
    >>> losses, _ = smoothed(CROSS_ENTROPY, 0.1).judge(torch.tensor([[2.0], [0.0]]), torch.tensor([0]))
    >>> round(losses.item(), 4), round(0.95 * math.log1p(math.exp(-2)) + 0.05 * math.log1p(math.exp(2)), 4)
    (0.2269, 0.2269)
    """

    def more(outputs: Tensor, labels: Tensor) -> Tensor:
        values = outputs.double()
        return smoothing * (values.gather(0, labels[None])[0] - values.mean(0))

    def judge(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        losses, correct = loss.judge(outputs, labels)
        return losses + more(outputs, labels), correct

    def judge_with_gradient_(outputs: Tensor, labels: Tensor, n_mean: int) -> tuple[Tensor, Tensor]:
        further = more(outputs, labels)
        losses, correct = loss.judge_with_gradient_(outputs, labels, n_mean)
        label, share = labels[None], smoothing / n_mean
        outputs.sub_(share / len(outputs)).scatter_add_(0, label, outputs.new_full(label.shape, share))
        return losses + further, correct

    def differentiable(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        losses, correct = loss.differentiable(outputs, labels)
        return losses + more(outputs, labels), correct

    return Loss(judge, judge_with_gradient_, differentiable)


def with_zero_sum(loss: Loss) -> Loss:
    """The same loss, whose gradient with respect to the outputs has its mean over the classes subtracted.

    In exact arithmetic the gradient of a cross-entropy, softmax − onehot, sums to zero, and this changes nothing. In
    float32 the value at the label is lost first, and then it does (Liu et al. 2026, arXiv:2605.06152).

    >>> from interp.mathematics.losses import loss_of
    >>> for zero_sum in (False, True):
    ...     outputs = torch.tensor([[30.0], [0.0], [0.0]])
    ...     _ = loss_of(precision="float32", zero_sum=zero_sum).judge_with_gradient_(outputs, torch.tensor([0]), 1)
    ...     [f"{value:.1e}" for value in outputs[:, 0].tolist()]
    ['0.0e+00', '9.4e-14', '9.4e-14']
    ['-6.2e-14', '3.1e-14', '3.1e-14']
    """

    def judge_with_gradient_(outputs: Tensor, labels: Tensor, n_mean: int) -> tuple[Tensor, Tensor]:
        judged = loss.judge_with_gradient_(outputs, labels, n_mean)
        outputs.copy_(functional.hardshrink(outputs - outputs.mean(0, keepdim=True), LEAST_GRADIENT))
        return judged

    def differentiable(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mean = outputs.mean(0, keepdim=True)
        return loss.differentiable(outputs - (mean - mean.detach()), labels)  # less zero, and not so its gradient

    return Loss(loss.judge, judge_with_gradient_, differentiable)
