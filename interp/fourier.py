"""The orthonormal real Fourier basis of Z_n, and power by frequency in one and two dimensions.

For n points and K = ⌊n/2⌋ frequencies, with w_k = 2πk/n, the rows of the basis F are

    F_0(x) = 1/√n,   F_{2k−1}(x) = √(2/n) cos(w_k x),   F_{2k}(x) = √(2/n) sin(w_k x)   for k = 1 … K,

except that for even n the last frequency k = n/2 has no sine (it vanishes on the integers) and its cosine is (−1)^x/√n.
Then F Fᵀ = 1 for every n ≥ 1 (Nanda et al. 2023, arXiv:2301.05217, §3, there for odd n only).
"""

import functools
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


@functools.cache
def basis(n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "n n"]:
    """The orthonormal rows F_0 … F_{n−1}. Do not write to it: it is shared."""
    x = torch.arange(n, dtype=torch.float64)
    rows = [torch.full((n,), 1 / math.sqrt(n), dtype=torch.float64)]
    for k in range(1, n // 2 + 1):
        # (k·x) mod n keeps the angle small, so that the sine of a large multiple loses no digits.
        angle = 2 * math.pi * torch.remainder(k * x, n) / n
        if 2 * k == n:
            rows.append(torch.cos(angle) / math.sqrt(n))
        else:
            rows.append(torch.cos(angle) * math.sqrt(2 / n))
            rows.append(torch.sin(angle) * math.sqrt(2 / n))
    return torch.stack(rows).to(dtype)


@functools.cache
def pairs(n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "K 2 n"]:
    """The basis without its constant row, as (cosine, sine) of each frequency 1 … K; a missing sine (k = n/2) is a row of zeros."""
    rows = basis(n, dtype)[1:]
    if n % 2 == 0:
        rows = torch.cat([rows, torch.zeros(1, n, dtype=dtype)])
    return rows.reshape(n // 2, 2, n)


@functools.cache
def row_frequencies(n: int) -> Int[Tensor, " n"]:
    """The frequency of each row of the basis: 0, 1, 1, 2, 2, …"""
    return (torch.arange(n) + 1) // 2


def coefficients(values: Float[Tensor, "n ..."]) -> Float[Tensor, "K 2 ..."]:
    """Cosine and sine coefficients of frequencies 1 … K along the first axis."""
    n = values.shape[0]
    return torch.einsum("kcn,n...->kc...", pairs(n, values.dtype), values)


def power(values: Float[Tensor, "n ..."]) -> Float[Tensor, "K ..."]:
    """Power of each frequency 1 … K along the first axis; with the constant's n·mean² they add up to Σ values² (Parseval)."""
    return coefficients(values).square().sum(1)


def block_power(grid: Float[Tensor, "n n features"], names: Int[Tensor, " n"] | None = None) -> Float[Tensor, "K features"]:
    """Power of a function of (a, b) in the 3×3 block of each frequency k: the products of {1, cos w_k a, sin w_k a} with
    {1, cos w_k b, sin w_k b}, without the constant 1·1.

        block_k = Σ_{f,g ∈ {0, 2k−1, 2k}, (f,g) ≠ (0,0)} H[f,g]²,   H = F X Fᵀ

    (Nanda et al. 2023, §5.1 and the authors' code). Blocks of different k share no term, so Σ_k block_k ≤ Σ (X − mean)². With `names`,
    entry (a, b) is taken for that of the residues (names[a], names[b]): the waves are renamed, and the grid need not be.
    """
    n, _, features = grid.shape
    waves = basis(n, grid.dtype) if names is None else basis(n, grid.dtype)[:, names]
    two = pairs(n, grid.dtype) if names is None else pairs(n, grid.dtype)[:, :, names]
    along_a = (waves @ grid.reshape(n, n * features)).reshape(n, n, features)
    only_b = (two @ along_a[0]).square().sum(1)
    rows = along_a[1:]
    if n % 2 == 0:
        rows = torch.cat([rows, rows.new_zeros(1, n, features)])
    rows = rows.reshape(n // 2, 2, n, features)
    only_a = (rows.sum(2) / math.sqrt(n)).square().sum(1)
    products = two[:, None] @ rows  # [K, (cos, sin of a), (cos, sin of b), features]
    return only_a + only_b + products.square().sum((1, 2))


def diagonal_sums(grid: Float[Tensor, "n n ..."]) -> Float[Tensor, "n ..."]:
    """S(s) = Σ over pairs with a + b ≡ s (mod n) of X[a, b]."""
    n, residue = grid.shape[0], torch.arange(grid.shape[0])
    sums = (residue[:, None] + residue) % n
    return torch.zeros_like(grid[0]).index_add_(0, sums.flatten(), grid.flatten(0, 1))


def sum_coefficients(grid: Float[Tensor, "n n ..."]) -> Float[Tensor, "K 2 ..."]:
    """Coefficients ⟨u_k, X⟩, ⟨v_k, X⟩ on the unit vectors u_k ∝ cos w_k(a+b) and v_k ∝ sin w_k(a+b) over the n² pairs.

    u_k = (F_{2k−1}⊗F_{2k−1} − F_{2k}⊗F_{2k})/√2 and v_k = (F_{2k}⊗F_{2k−1} + F_{2k−1}⊗F_{2k})/√2 (Nanda et al. 2023, §4.2);
    on the diagonals they are F_{2k−1}(a+b)/√n and F_{2k}(a+b)/√n, which also covers k = n/2.
    """
    return coefficients(diagonal_sums(grid)) / math.sqrt(grid.shape[0])


def gini(values: Float[Tensor, "n ..."]) -> Float[Tensor, "..."]:
    """Gini coefficient along the first axis: 0 for equal values, near 1 when one value holds everything, NaN when all are 0.

    G = 1 − 2 Σ_i (x_(i)/‖x‖₁)·(n − i + ½)/n,   x_(1) ≤ … ≤ x_(n)   (Hurley & Rickard 2009, arXiv:0811.4706)
    """
    n = values.shape[0]
    ordered = values.abs().sort(0).values
    weight = ((n - torch.arange(1, n + 1, dtype=values.dtype) + 0.5) / n).reshape(-1, *[1] * (values.ndim - 1))
    return 1 - 2 * (ordered * weight).sum(0) / ordered.sum(0)
