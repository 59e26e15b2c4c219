"""The orthonormal real Fourier basis of Z_n, and power by frequency in one and two dimensions.

For n points and K = ⌊n/2⌋ frequencies, with w_k = 2πk/n, the rows of the basis F are

    F_0(x) = 1/√n,   F_{2k−1}(x) = √(2/n) cos(w_k x),   F_{2k}(x) = √(2/n) sin(w_k x)   for k = 1 … K,

except that for even n the last frequency k = n/2 has no sine (it vanishes on the integers) and its cosine is (−1)^x/√n.
Then F Fᵀ = 1 for every n ≥ 1 (Nanda et al. 2023, arXiv:2301.05217, §3, there for odd n only).
"""

import functools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

_VALUES_AT_ONCE = 2**18


@functools.cache
def basis(n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "n n"]:
    """The orthonormal rows F_0 … F_{n−1}. Do not write to it: it is shared.

    >>> F = basis(7)
    >>> bool(torch.allclose(F @ F.T, torch.eye(7, dtype=torch.float64)))
    True
    """
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
    """The basis without its constant row, as (cosine, sine) of each frequency 1 … K; a missing sine (k = n/2) is a row
    of zeros.

    >>> pairs(8).shape  # frequencies 1 … 4, (cosine, sine), x
    torch.Size([4, 2, 8])
    >>> pairs(8)[3, 1].tolist()  # k = 4 = n/2 has no sine
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    rows = basis(n, dtype)[1:]
    if n % 2 == 0:
        rows = torch.cat([rows, torch.zeros(1, n, dtype=dtype)])
    return rows.reshape(n // 2, 2, n)


@functools.cache
def row_frequencies(n: int) -> Int[Tensor, " n"]:
    """The frequency of each row of the basis: 0, 1, 1, 2, 2, …

    >>> row_frequencies(6).tolist()
    [0, 1, 1, 2, 2, 3]
    """
    return (torch.arange(n) + 1) // 2


def coefficients(values: Float[Tensor, "n ..."]) -> Float[Tensor, "K 2 ..."]:
    """Cosine and sine coefficients of frequencies 1 … K along the first axis.

    >>> wave = torch.sin(2 * math.pi * 3 * torch.arange(8) / 8)
    >>> (coefficients(wave).round(decimals=3) + 0.0).tolist()  # √(n/2) for the sine of k = 3
    [[0.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
    """
    n = values.shape[0]
    return torch.einsum("kcn,n...->kc...", pairs(n, values.dtype), values)


def power(values: Float[Tensor, "n ..."]) -> Float[Tensor, "K ..."]:
    """Power of each frequency 1 … K along the first axis; with the constant's n·mean² they add up to Σ values²
    (Parseval).

    >>> values = torch.arange(7.0)
    >>> power(values).shape  # frequencies 1, 2, 3
    torch.Size([3])
    >>> round(power(values).sum().item() + 7 * values.mean().item() ** 2, 3), values.square().sum().item()
    (91.0, 91.0)
    """
    return coefficients(values).square().sum(1)


class Marginals(NamedTuple):
    """Sums of a function X of (a, b) over all pairs that agree in a, in b, in a + b or in a − b (mod n), and the sum of
    X².

    >>> found = marginals(torch.ones(3, 3, 1))
    >>> found.sums.shape, found.square.item()
    (torch.Size([4, 3, 1]), 9.0)
    """

    sums: Float[Tensor, "4 n features"]
    square: Float[Tensor, " features"]  # Σ X²


def marginals(grid: Float[Tensor, "n n features"], center: Float[Tensor, " features"] | None = None) -> Marginals:
    """The marginals of X − `center`.

    >>> table = torch.arange(4.0).view(2, 2, 1)  # X(a, b) = 2a + b, one feature
    >>> marginals(table).sums[:, :, 0].tolist()  # over b, over a, along a + b, along a − b
    [[1.0, 5.0], [2.0, 4.0], [3.0, 3.0], [3.0, 3.0]]
    """
    n, _, features = grid.shape
    residue = torch.arange(n)
    of_sum, of_difference = ((residue[:, None] + sign * residue) % n for sign in (1, -1))
    ones, sums, square = grid.new_ones(n), grid.new_zeros(4, n, features), grid.new_zeros(features)
    # A few rows at a time stay in the processor's cache for all that is done with them.
    for rows in torch.arange(n).split(max(1, _VALUES_AT_ONCE // max(1, n * features))):
        start, stop = int(rows[0]), int(rows[-1]) + 1
        some = grid[start:stop] - center if center is not None else grid[start:stop]
        flat = some.flatten(0, 1)
        sums[0, start:stop] = ones[:n] @ some
        sums[1] += (ones[: len(rows)] @ some.flatten(1)).view(n, features)
        sums[2].index_add_(0, of_sum[start:stop].flatten(), flat)
        sums[3].index_add_(0, of_difference[start:stop].flatten(), flat)
        square += (ones[:n] @ some.square()).sum(0)  # a sum along all rows would be one long chain of roundings
    return Marginals(sums, square)


def renamed_marginals(
    grid: Float[Tensor, "n n features"],
    of_first: Float[Tensor, "n features"],
    of_second: Float[Tensor, "n features"],
    names: Int[Tensor, " n"],
) -> Float[Tensor, "4 n features"]:
    """The sums of `marginals`, where entry (a, b) is taken for that of the residues (names[a], names[b]). Those over b
    and over a only change their order, and are given.

    >>> table, names = torch.arange(25.0).view(5, 5, 1), torch.tensor([2, 0, 1, 4, 3])
    >>> of_first, of_second = marginals(table).sums[:2]
    >>> renamed = torch.empty_like(table)
    >>> renamed[names[:, None], names] = table
    >>> torch.equal(renamed_marginals(table, of_first, of_second, names), marginals(renamed).sums)
    True
    """
    n, residue = len(grid), torch.arange(len(grid))
    of_name = names.argsort()
    # t with s + t, or s − t, the same all along a row.
    second = torch.stack([residue[:, None] - residue, residue - residue[:, None]]) % n
    pairs = (of_name * n + of_name[second]).flatten(0, 1)
    diagonals = embedding_bag(pairs, grid.reshape(n * n, -1), mode="sum").view(2, n, -1)
    return torch.cat([torch.stack([of_first[of_name], of_second[of_name]]), diagonals])


def block_coefficients(sums: Float[Tensor, "4 n features"]) -> Float[Tensor, "K 4 2 features"]:
    """Coefficients of a function of (a, b), given its marginals, on an orthonormal basis of each frequency's 3×3 block:
    cosine and sine of w_k a, w_k b, w_k(a+b) and w_k(a−b). The products of the waves of a with those of b span the last
    two; for k = n/2 these are the same function, which is counted once.

    >>> a, b = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    >>> wave = torch.cos(2 * math.pi * 2 * (a + b) / 7)[..., None]
    >>> power = block_coefficients(marginals(wave).sums).square()[..., 0].sum(2)  # [k, wave]
    >>> power.round(decimals=3)[1].tolist()  # k = 2: of a, of b, of a + b, of a − b
    [0.0, 0.0, 24.5, 0.0]
    """
    n = sums.shape[1]
    found = (pairs(n, sums.dtype).flatten(0, 1) @ sums / math.sqrt(n)).unflatten(1, (n // 2, 2)).transpose(0, 1)
    if n % 2 == 0:
        found[-1, 3] = 0
    return found


@functools.lru_cache(maxsize=64)
def block_waves(n: int, k: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "8 pairs"]:
    """The functions of (a, b) to which the coefficients of frequency k belong. Do not write to them: they are
    shared.

    >>> waves = block_waves(7, 2)
    >>> waves.shape, bool(torch.allclose(waves @ waves.T, torch.eye(8, dtype=torch.float64)))
    (torch.Size([8, 49]), True)
    """
    residue, constant = torch.arange(n), torch.zeros(n, dtype=torch.int64)
    first, second = residue[:, None], residue
    arguments = first + constant, constant[:, None] + second, (first + second) % n, (first - second) % n
    waves = pairs(n, dtype)[k - 1]
    return torch.cat([waves[:, argument.flatten()] for argument in arguments]) / math.sqrt(n)


def block_power(grid: Float[Tensor, "n n features"]) -> Float[Tensor, "K features"]:
    """Power of a function of (a, b) in the 3×3 block of each frequency k: the products of {1, cos w_k a, sin w_k a}
    with {1, cos w_k b, sin w_k b}, without the constant 1·1.

        block_k = Σ_{f,g ∈ {0, 2k−1, 2k}, (f,g) ≠ (0,0)} H[f,g]²,   H = F X Fᵀ

    (Nanda et al. 2023, §5.1 and the authors' code). Blocks of different k share no term, so
    Σ_k block_k ≤ Σ (X − mean)².

    >>> a, b = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    >>> product = torch.cos(2 * math.pi * 3 * a / 7) * torch.cos(2 * math.pi * 3 * b / 7)
    >>> block_power(product[..., None])[:, 0].round(decimals=3).tolist()  # n²/4 at k = 3
    [0.0, 0.0, 12.25]
    """
    return block_coefficients(marginals(grid).sums).square().sum((1, 2))


def diagonal_sums(grid: Float[Tensor, "n n ..."]) -> Float[Tensor, "n ..."]:
    """S(s) = Σ over pairs with a + b ≡ s (mod n) of X[a, b].

    >>> diagonal_sums(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [5.0, 5.0]
    """
    n, residue = grid.shape[0], torch.arange(grid.shape[0])
    sums = (residue[:, None] + residue) % n
    return torch.zeros_like(grid[0]).index_add_(0, sums.flatten(), grid.flatten(0, 1))


def sum_coefficients(grid: Float[Tensor, "n n ..."]) -> Float[Tensor, "K 2 ..."]:
    """Coefficients ⟨u_k, X⟩, ⟨v_k, X⟩ on the unit vectors u_k ∝ cos w_k(a+b) and v_k ∝ sin w_k(a+b) over the n² pairs.

    u_k = (F_{2k−1}⊗F_{2k−1} − F_{2k}⊗F_{2k})/√2 and v_k = (F_{2k}⊗F_{2k−1} + F_{2k−1}⊗F_{2k})/√2 (Nanda et al. 2023,
    §4.2); on the diagonals they are F_{2k−1}(a+b)/√n and F_{2k}(a+b)/√n, which also covers k = n/2.

    >>> a, b = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
    >>> of_sum, of_difference = (torch.cos(2 * math.pi * (a + sign * b) / 5) for sign in (1, -1))
    >>> [round(sum_coefficients(wave).square().sum().item(), 3) for wave in (of_sum, of_difference)]
    [12.5, 0.0]
    """
    return coefficients(diagonal_sums(grid)) / math.sqrt(grid.shape[0])


def gini(values: Float[Tensor, "n ..."]) -> Float[Tensor, "..."]:
    """Gini coefficient along the first axis: 0 for equal values, near 1 when one value holds everything, NaN when all
    are 0.

    G = 1 − 2 Σ_i (x_(i)/‖x‖₁)·(n − i + ½)/n,   x_(1) ≤ … ≤ x_(n)   (Hurley & Rickard 2009, arXiv:0811.4706)

    >>> gini(torch.ones(8)).item(), gini(torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 1])).item()
    (0.0, 0.875)
    """
    n = values.shape[0]
    ordered = values.abs().sort(0).values
    weight = ((n - torch.arange(1, n + 1, dtype=values.dtype) + 0.5) / n).reshape(-1, *[1] * (values.ndim - 1))
    return 1 - 2 * (ordered * weight).sum(0) / ordered.sum(0)
