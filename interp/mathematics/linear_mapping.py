"""How many linear pieces a map is made of, as seen from some points (Liu et al. 2023, arXiv:2310.05918).

On the straight path x(t) = x_i + t(x_j − x_i) let r² be the squared correlation of an output y_k(x(t)) with t, and

    L_ij = mean over outputs k of r²,   L_ii = 1,   LMN = 2^S,   S = −Σ l log₂ l,   l = |λ|/Σ|λ|,  λ eigenvalues of L.

A path on which an output does not change is as linear as can be: 1. Of a linear map L is all ones and LMN 1; of c equal
groups of points, linear within and with r² = 0 between them, c; it is never more than the number of points.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from interp.mathematics.effective_rank import effective_number

CONSTANT = 1e-6  # of the root mean square of all outputs: what changes less does not change


def straightness(answers: Float[Tensor, "paths points outputs"]) -> Float[Tensor, " paths"]:
    """r² with the place on the path, the mean over outputs, in float64; points lie at equal distances.

    >>> t = torch.linspace(0, 1, 21, dtype=torch.float64)
    >>> straightness(torch.stack([3 - 2 * t, torch.ones(21), (2 * t - 1) ** 2])[..., None]).round(decimals=6).tolist()
    [1.0, 1.0, 0.0]
    """
    answers = answers.double()
    place = torch.linspace(-1, 1, answers.shape[1], dtype=torch.float64)
    moved = answers - answers.mean(1, keepdim=True)
    total = moved.square().sum(1)
    explained = torch.einsum("pto,t->po", moved, place).square() / place.square().sum()
    still = total <= answers.shape[1] * CONSTANT**2 * answers.square().mean()
    return torch.where(still, 1.0, explained / total.where(~still, 1.0)).mean(1)


def linear_mapping_number(linearity: Float[Tensor, "points points"]) -> float:
    """LMN of the symmetric matrix L.

    >>> linear_mapping_number(torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)))
    2.0
    """
    return round(effective_number(torch.linalg.eigvalsh(linearity.double()).abs()), 12)
