"""Matrices whose singular values are made alike: the polar factor, and what Newton–Schulz steps make of a matrix.

With the singular value decomposition G = Σ_i s_i u_i v_iᵀ,

    polar factor     Σ_{s_i > 0} u_i v_iᵀ
    Newton–Schulz    Σ_i f⁵(s_i/‖G‖) u_i v_iᵀ,   f(x) = 3.4445 x − 4.7750 x³ + 2.0315 x⁵ five times

with ‖G‖ the root of the sum of squares. The polar factor is, of all matrices without a singular value above 1, the one
with the largest ⟨G, ·⟩: the steepest ascent in the spectral norm. Newton–Schulz needs products alone, and is a rough
polar factor by design: its coefficients raise small values as fast as they can and never settle. f⁵ lies between 0.68
and 1.21 for x from 0.002 to 1, and is 485 x where x is small, so what is far below ‖G‖ stays small (Jordan et al. 2024,
"Muon", kellerjordan.github.io/posts/muon).

Which of the small singular values of a computed matrix are rounding cannot be told from the matrix. Here those below
max(rows, columns)·2⁻²³ of the largest are taken to be, and have no part in the polar factor, where they would weigh as
much as any other. Newton–Schulz leaves them below 485·max(rows, columns)·2⁻²³, 0.03 for 512 rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = 3.4445, -4.7750, 2.0315
STEPS = 5
SMALLEST_NORM = 1e-7  # what a matrix is divided by at the least
ROUNDING = torch.finfo(torch.float32).eps  # of a singular value, in units of the largest, for each row or column


def polar_factor(matrices: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch rows columns"]:
    """Σ u_i v_iᵀ over the singular values of each matrix that are more than rounding: all of those become 1, all
    others 0. A matrix with an entry that is not finite becomes NaN.

    Computed in float64 as (GGᵀ)^{−1/2} G, by the eigenvalues of the smaller of GGᵀ and GᵀG: a third of the time of a
    singular value decomposition, and at the smallest value that counts within 1e-3 of 1.

    >>> polar_factor(torch.tensor([[0.0, 5.0], [-3.0, 0.0]]))
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    >>> polar_factor(torch.tensor([[3.0, 4.0], [3.0, 4.0]])).round(decimals=3)  # of rank 1
    tensor([[0.4240, 0.5660],
            [0.4240, 0.5660]])
    """
    rows, columns = matrices.shape[-2:]
    wide = (matrices.mT if rows > columns else matrices).double()
    square = wide @ wide.mT
    is_finite = square.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    # It would be an error for all matrices that one is not finite.
    values, vectors = torch.linalg.eigh(torch.where(is_finite, square, 0.0))
    counts = values > (ROUNDING * max(rows, columns)) ** 2 * values[..., -1:]
    inverse_roots = torch.where(counts, values, torch.inf).rsqrt()
    found = (vectors * inverse_roots.unsqueeze(-2)) @ (vectors.mT @ wide)
    found = torch.where(is_finite, found, torch.nan).to(matrices.dtype)
    return (found.mT if rows > columns else found).contiguous()


def newton_schulz(matrices: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch rows columns"]:
    """Five steps X ← aX + (bA + cA²)X, A = XXᵀ, from X = G/max(‖G‖, 1e-7), in the type that the matrices have.

    >>> newton_schulz(torch.tensor([[0.0, 5.0], [-3.0, 0.0]])).round(decimals=2)
    tensor([[ 0.0000,  0.9700],
            [-0.7100,  0.0000]])
    >>> newton_schulz(torch.zeros(2, 2)).any()
    tensor(False)
    """
    rows, columns = matrices.shape[-2:]
    wide = (matrices.mT if rows > columns else matrices).reshape(-1, min(rows, columns), max(rows, columns))
    lengths = torch.linalg.matrix_norm(wide, keepdim=True)
    x, (a, b, c) = wide / lengths.clamp(min=SMALLEST_NORM), COEFFICIENTS
    for _ in range(STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if rows > columns else x).reshape(matrices.shape)
