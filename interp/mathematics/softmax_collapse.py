"""Softmax collapse: where a loss computed in some precision is exactly zero, and what becomes of its gradient.

A sample *has collapsed* at a precision where its cross-entropy evaluates to exactly 0 in it: no digit is left of what
the other classes have. There is no threshold of the margin that says so for every network, because it depends on the
order in which the exponentials are added: with logits (m, 0, …, 0) and K = 113 the loss of torch on a CPU is 0 from
m = 20.66 on in float32, that is ln(112·2²³), where rounding the whole sum once would give ln(112·2²⁴) = 21.35. So it is
evaluated, by `torch.nn.functional.cross_entropy` itself.

Before the loss is 0 its gradient is wrong. Exactly, Σ_c ∂loss/∂z_c = 0. Rounded, the value at the label, softmax − 1,
is a multiple of the spacing of numbers below 1 and vanishes first, and those of the other classes stay. The *zero-sum
defect* is

    mean over samples |Σ_c g_c| / mean over samples Σ_c |g_c|,     g = ∂loss/∂z computed in the precision,

0 where the gradient is exact and 1 where nothing but the other classes is left. Then the mean row of the classifier
drifts against the mean feature, and both grow (Liu et al. 2026, arXiv:2605.06152).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


def collapsed(
    logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], precision: str = "float32"
) -> Bool[Tensor, " n"]:
    """Which samples have a cross-entropy of exactly 0 in "bfloat16", "float32" or "float64".

    >>> logits = torch.zeros(3, 113, dtype=torch.float64)
    >>> logits[:, 0] = torch.tensor([12.0, 20.0, 22.0])
    >>> collapsed(logits, torch.tensor([0, 0, 0])).tolist()
    [False, False, True]
    """
    return functional.cross_entropy(logits.to(PRECISIONS[precision]), labels, reduction="none") == 0


def zero_sum_defect(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], precision: str = "float32") -> float:
    """The zero-sum defect of the gradient as torch computes it in a precision; the sums over classes and samples are
    taken in float64. NaN where there is no gradient at all.

    >>> logits = torch.zeros(1, 113, dtype=torch.float64)
    >>> logits[:, 0] = 20
    >>> [round(zero_sum_defect(logits, torch.tensor([0]), name), 2) for name in ("float32", "float64")]
    [0.32, 0.0]
    """
    with torch.enable_grad():
        leaf = logits.detach().to(PRECISIONS[precision]).requires_grad_()
        loss = functional.cross_entropy(leaf, labels, reduction="sum")
    (slopes,) = torch.autograd.grad(loss, leaf)
    total = slopes.double().abs().sum().item()
    return min(1.0, slopes.double().sum(1).abs().sum().item() / total) if total else math.nan
