"""In effectively how many directions a matrix acts: the exponential of the entropy of its spectrum.

With q = σ/Σσ the shares of the singular values, H = −Σ q log q is the spectral entropy and e^H the effective rank
(Roy & Vetterli 2007): r of r equal singular values, 1 of a matrix of rank 1, whatever its size.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def effective_number(sizes: Float[Tensor, " n"]) -> float:
    """e^H of the shares of sizes that are not negative: n of n equal ones. NaN where all are 0.

    >>> effective_number(torch.tensor([2.0, 2.0, 2.0, 0.0])), effective_number(torch.zeros(2))
    (3.0, nan)
    """
    return float(torch.special.entr(sizes / sizes.sum()).sum().exp())


def effective_rank(matrix: Float[Tensor, "rows columns"]) -> float:
    """e^H of the singular values, in float64. NaN of a matrix of zeros.

    >>> round(effective_rank(3 * torch.eye(5)[:4]), 6), round(effective_rank(torch.ones(5, 7)), 6)
    (4.0, 1.0)
    """
    wide = (matrix if len(matrix) < matrix.shape[1] else matrix.T).double()
    # From the squares, in half the time: singular values below 3e-7 of the largest, which rounding hides, add nothing
    # here.
    squares = torch.linalg.eigvalsh(wide @ wide.T)
    return effective_number(squares.where(squares > 1e-13 * squares[-1], 0).sqrt())
