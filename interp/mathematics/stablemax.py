"""StableMax, a softmax whose loss does not round to zero (Prieto et al. 2025, arXiv:2501.04697, §4).

    p_c = s(z_c) / Σ_k s(z_k),   s(x) = x + 1 for x ≥ 0, 1/(1 − x) for x < 0,   loss = −log p_label

Since s(x) = exp g(x) with the odd, rising g(x) = sign(x) log(1 + |x|), it is the softmax of g(z), and its loss exactly
the cross-entropy of g(z): so it is computed, and so its gradient, with g′(x) = 1/(1 + |x|). A label that leads by m
over K − 1 classes at zero costs log(1 + (K − 1)/(1 + m)): that falls as a power of m and not exponentially, so that
the logits have to grow on to lower it, and float32 resolves it for as long as they do.

Its gradient with respect to the outputs does not sum to zero over the classes, that with respect to g(z) does.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from interp.mathematics.loss import Loss, is_answered


def log_scale(outputs: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """g(x) = sign(x) log(1 + |x|), in the type of the outputs.

    >>> log_scale(torch.tensor([-1.0, 0.0, 1.0]).double()).numpy().round(4).tolist()
    [-0.6931, 0.0, 0.6931]
    """
    return outputs.sign() * outputs.abs().log1p()


def stablemax(cross_entropy: Loss, dtype: torch.dtype = torch.float64) -> Loss:
    """The loss by StableMax, from a cross-entropy; g is computed in `dtype`, whatever the type of the outputs.

    >>> from interp.mathematics.losses import CROSS_ENTROPY
    >>> losses, correct = stablemax(CROSS_ENTROPY).judge(torch.tensor([[1.0], [0.0]]), torch.tensor([0]))
    >>> round(losses.exp().item(), 4), correct.tolist()  # p = 2/(2 + 1)
    (1.5, [True])
    """

    def judge(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        losses, _ = cross_entropy.judge(log_scale(outputs.to(dtype)), labels)
        return losses, is_answered(outputs, labels)

    def judge_with_gradient_(outputs: Tensor, labels: Tensor, n_mean: int) -> tuple[Tensor, Tensor]:
        correct = is_answered(outputs, labels)
        values = outputs.to(dtype)
        scaled = log_scale(values)
        losses, _ = cross_entropy.judge_with_gradient_(scaled, labels, n_mean)
        outputs.copy_(scaled.div_(1 + values.abs()))
        return losses, correct

    def differentiable(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        values = outputs.to(dtype)
        # The derivative of sign·log1p|x| is torch's own but for x = 0, where |x| has none: there g is x itself.
        scaled = torch.where(values == 0, values, log_scale(torch.where(values == 0, 1, values)))
        losses, _ = cross_entropy.differentiable(scaled, labels)
        return losses, is_answered(outputs, labels)

    return Loss(judge, judge_with_gradient_, differentiable)
