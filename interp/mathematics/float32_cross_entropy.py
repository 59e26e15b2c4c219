"""The cross-entropy in float32, as most training code computes it: `torch.nn.functional.cross_entropy` of the logits in
float32, and the gradient that torch makes of it.

It is here to show what its rounding does. Where the other classes have less than about 1.2e-7 of the probability, the
loss is 0 and the gradient at the label too, while that of the other classes is not: the gradients of an example no
longer sum to zero over the classes, and the classifier drifts (`interp.mathematics.softmax_collapse`). The loss that is
trained on by default is that of `interp.mathematics.cross_entropy`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from interp.mathematics.loss import LEAST_GRADIENT, is_answered


def float32_cross_entropy(
    outputs: Float[Tensor, "classes *n"], labels: Int[Tensor, "*n"], label_smoothing: float = 0.0
) -> tuple[Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """The losses of torch to the bit, told in float64, and which answers are right (`is_answered`); `outputs` are not
    written to. torch.func can differentiate and vectorize it.

    >>> losses, correct = float32_cross_entropy(torch.tensor([[0.0, 0.0], [30.0, 3.0]]), torch.tensor([1, 1]))
    >>> losses.numpy().round(4).tolist(), correct.tolist()  # of e⁻³⁰ nothing is left
    ([0.0, 0.0486], [True, True])
    """
    rows = outputs.movedim(0, -1).float().contiguous()  # as torch's users have them: its sums depend on the layout
    flat = rows.reshape(-1, rows.shape[-1])
    losses = functional.cross_entropy(flat, labels.reshape(-1), reduction="none", label_smoothing=label_smoothing)
    # Adding zero makes 0 of torch's −0.
    return losses.double().view(labels.shape) + 0.0, is_answered(outputs, labels)


def float32_cross_entropy_and_gradient_(
    outputs: Float[Tensor, "classes *n"], labels: Int[Tensor, "*n"], n_mean: int, label_smoothing: float = 0.0
) -> tuple[Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """The same, and over the outputs the gradient with respect to them of the sum of the losses divided by `n_mean`, as
    torch computes it in float32; below 1e-30 it is set to zero, as that of every loss here.

    >>> outputs = torch.tensor([[30.0], [0.0]])
    >>> _ = float32_cross_entropy_and_gradient_(outputs, torch.tensor([0]), n_mean=1)
    >>> [f"{value:.1e}" for value in outputs[:, 0].tolist()]  # they sum to zero no longer
    ['0.0e+00', '9.4e-14']
    """
    with torch.enable_grad():  # the threads that share a batch have it off
        leaf = outputs.detach().float().requires_grad_()
        losses, correct = float32_cross_entropy(leaf, labels, label_smoothing)
        (d_outputs,) = torch.autograd.grad(losses.sum() / n_mean, leaf)
    outputs.copy_(functional.hardshrink(d_outputs, LEAST_GRADIENT))
    return losses.detach(), correct
