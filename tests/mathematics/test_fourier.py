"""The Fourier basis: orthonormal, and every measure of power against sums written out in cosines and sines."""

import math

import jaxtyping
import pytest
import torch
from torch.testing import assert_close

from interp.mathematics import fourier

EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums of at most a few thousand numbers of order one
MODULI = (1, 2, 3, 4, 7, 8, 13, 30)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def wave(n: int, k: int, shift: float = 0.0) -> torch.Tensor:
    return torch.cos(2 * math.pi * k * torch.arange(n, dtype=torch.float64) / n + shift)


def sums(n: int) -> torch.Tensor:
    """a + b over the grid of pairs, not reduced."""
    return torch.arange(n)[:, None] + torch.arange(n)


# ---- the basis -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*range(1, 41), 113, 114])
def test_the_basis_is_square_and_orthonormal(n: int) -> None:
    rows = fourier.basis(n)
    assert rows.shape == (n, n)
    assert_close(rows @ rows.T, torch.eye(n, dtype=torch.float64), **EXACT)
    assert_close(rows.T @ rows, torch.eye(n, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("n", MODULI)
def test_each_row_oscillates_at_its_frequency(n: int) -> None:
    """F(x + 1) + F(x − 1) = 2 cos(w) F(x) holds for cosine and sine of frequency w and for nothing else."""
    rows, k = fourier.basis(n), fourier.row_frequencies(n)
    assert k.tolist() == sorted([0, *range(1, n // 2 + 1), *range(1, (n - 1) // 2 + 1)])
    expected = 2 * torch.cos(2 * math.pi * k.double() / n)[:, None] * rows
    assert_close(rows.roll(1, dims=1) + rows.roll(-1, dims=1), expected, **EXACT)


def test_cosines_come_before_sines() -> None:
    rows = fourier.basis(7)
    assert (rows[1::2, 0] > 0.1).all()  # cos 0 = 1
    assert_close(rows[2::2, 0], torch.zeros(3, dtype=torch.float64), **EXACT)  # sin 0 = 0
    assert (rows[2, 1:4] > 0).all()  # and the sine rises first


@pytest.mark.parametrize("n", MODULI)
def test_pairs_are_the_basis_by_frequency_with_zeros_for_the_missing_sine(n: int) -> None:
    pairs = fourier.pairs(n)
    assert pairs.shape == (n // 2, 2, n)
    flat = pairs.reshape(-1, n)
    assert torch.equal(flat[: n - 1], fourier.basis(n)[1:])
    assert len(flat) == n - 1 or (n % 2 == 0 and not flat[-1].any())


def test_the_basis_comes_in_the_type_that_is_asked_for() -> None:
    assert fourier.basis(13, torch.float32).dtype == fourier.pairs(13, torch.float32).dtype == torch.float32
    assert fourier.power(noise(13, 3).float()).dtype == torch.float32
    assert_close(fourier.basis(13, torch.float32).double(), fourier.basis(13), rtol=0, atol=1e-7)


def test_annotated_shapes_are_really_checked_here() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        fourier.block_power(torch.zeros(3, 4, 2))


# ---- one dimension ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 7, 8, 113])
def test_a_pure_wave_has_its_power_at_its_own_frequency(n: int) -> None:
    waves = torch.stack([wave(n, k, shift=0.4) for k in range(1, n // 2 + 1)], dim=1)
    expected = torch.eye(n // 2, dtype=torch.float64) * n / 2
    if n % 2 == 0:
        expected[-1, -1] = n * math.cos(0.4) ** 2  # (−1)^x cos 0.4: there is no sine to take up the rest
    assert_close(fourier.power(waves), expected, rtol=0, atol=1e-10)


def test_coefficients_are_the_amplitudes_of_cosine_and_sine() -> None:
    n, k = 11, 3
    x = torch.arange(n, dtype=torch.float64)
    angle = 2 * math.pi * k * x / n
    found = fourier.coefficients(5 + 2 * torch.cos(angle) - 3 * torch.sin(angle))
    expected = torch.zeros(n // 2, 2, dtype=torch.float64)
    expected[k - 1] = torch.tensor([2.0, -3.0], dtype=torch.float64) * math.sqrt(n / 2)
    assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("n", MODULI)
def test_parseval(n: int) -> None:
    values = noise(n, 4)
    assert_close(fourier.power(values).sum(0) + n * values.mean(0) ** 2, values.square().sum(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("shift", [1, 3])
def test_power_does_not_depend_on_where_the_circle_begins(n: int, shift: int) -> None:
    assert_close(fourier.power(noise(n, 4).roll(shift, 0)), fourier.power(noise(n, 4)), **EXACT)
    grid = noise(n, n, 2)
    assert_close(fourier.block_power(grid.roll((shift, 2), (0, 1))), fourier.block_power(grid), **EXACT)
    turned = fourier.sum_coefficients(grid.roll(shift, 0)).square().sum(1)
    assert_close(turned, fourier.sum_coefficients(grid).square().sum(1), **EXACT)


# ---- two dimensions --------------------------------------------------------------------------------------------------


def slow_block_power(grid: torch.Tensor) -> list[float]:
    """The power of one grid in each 3×3 block, every product of one, cosines and sines normalized and summed by
    hand."""
    n = len(grid)
    blocks = []
    for k in range(1, n // 2 + 1):
        angles = [2 * math.pi * k * x / n for x in range(n)]
        functions = [[1.0] * n, [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]]
        functions = functions[:2] if 2 * k == n else functions
        block = 0.0
        for i, f in enumerate(functions):
            for j, g in enumerate(functions):
                if (i, j) != (0, 0):
                    product = [[f[a] * g[b] for b in range(n)] for a in range(n)]
                    overlap = sum(product[a][b] * float(grid[a, b]) for a in range(n) for b in range(n))
                    block += overlap**2 / sum(value**2 for row in product for value in row)
        blocks.append(block)
    return blocks


@pytest.mark.parametrize("n", [2, 3, 5, 6, 9, 10])
def test_block_power_is_the_sum_over_products_of_cosines_and_sines(n: int) -> None:
    grid = noise(n, n, 2) + 1
    slow = torch.tensor([slow_block_power(grid[..., 0]), slow_block_power(grid[..., 1])], dtype=torch.float64).T
    assert_close(fourier.block_power(grid), slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 12, 13, 113])
def test_a_neuron_at_any_frequency_is_found_there_and_nowhere_else(n: int) -> None:
    """Also at the highest, ⌊n/2⌋, which published code leaves out of its scan."""
    frequencies = range(1, n // 2 + 1)
    neurons = [3 + wave(n, k, 0.3)[:, None] + wave(n, k, 1.1) + wave(n, k, 2.0)[sums(n) % n] for k in frequencies]
    grid = torch.stack(neurons, dim=2)
    share = fourier.block_power(grid) / (grid - grid.mean((0, 1))).square().sum((0, 1))
    assert_close(share, torch.eye(n // 2, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("n", [7, 8])
def test_blocks_are_disjoint(n: int) -> None:
    grid = noise(n, n, 3)
    blocks, total = fourier.block_power(grid).sum(0), (grid - grid.mean((0, 1))).square().sum((0, 1))
    assert (blocks < total).all()
    separable = noise(n, 1, 3) + noise(1, n, 3)  # f(a) + g(b) has no product of different frequencies
    total = (separable - separable.mean((0, 1))).square().sum((0, 1))
    assert_close(fourier.block_power(separable).sum(0), total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_diagonal_sums(n: int) -> None:
    grid = noise(n, n, 3)
    expected = torch.zeros(n, 3, dtype=torch.float64)
    for a in range(n):
        for b in range(n):
            expected[(a + b) % n] += grid[a, b]
    assert_close(fourier.diagonal_sums(grid), expected, **EXACT)


@pytest.mark.parametrize("n", [2, 3, 7, 8])
def test_sum_coefficients_are_overlaps_with_waves_of_a_plus_b(n: int) -> None:
    grid = noise(n, n, 4)
    found = fourier.sum_coefficients(grid)
    for k in range(1, n // 2 + 1):
        angle = 2 * math.pi * k * sums(n).double() / n
        u = torch.cos(angle) / torch.cos(angle).norm()
        assert_close(found[k - 1, 0], torch.einsum("ab,abf->f", u, grid), **EXACT)
        if 2 * k == n:
            assert not found[k - 1, 1].any()
        else:
            v = torch.sin(angle) / torch.sin(angle).norm()
            assert_close(found[k - 1, 1], torch.einsum("ab,abf->f", v, grid), **EXACT)


def test_the_directions_of_a_plus_b_are_the_published_combination_of_products() -> None:
    """u_k = (cos⊗cos − sin⊗sin)/√2 and v_k = (sin⊗cos + cos⊗sin)/√2 of normalized rows (Nanda et al. 2023, §4.2)."""
    n, grid = 7, noise(7, 7)
    found = fourier.sum_coefficients(grid)
    for k in range(1, n // 2 + 1):
        cosine, sine = fourier.basis(n)[2 * k - 1], fourier.basis(n)[2 * k]
        u = (torch.outer(cosine, cosine) - torch.outer(sine, sine)) / math.sqrt(2)
        v = (torch.outer(sine, cosine) + torch.outer(cosine, sine)) / math.sqrt(2)
        assert_close(found[k - 1], torch.stack([(u * grid).sum(), (v * grid).sum()]), **EXACT)


# ---- Gini ------------------------------------------------------------------------------------------------------------


def test_gini_of_known_distributions() -> None:
    n = 10
    equal, single, ramp = torch.ones(n), torch.zeros(n), torch.arange(1, n + 1)
    single[3] = 5
    columns = torch.stack([equal, single, ramp], dim=1).double()
    expected = torch.tensor([0, 1 - 1 / n, (n - 1) / (3 * n)], dtype=torch.float64)
    assert_close(fourier.gini(columns), expected, **EXACT)


def test_gini_is_half_the_relative_mean_difference() -> None:
    values = noise(9, 5).abs()
    difference = (values[:, None] - values[None]).abs().mean((0, 1))
    assert_close(fourier.gini(values), difference / (2 * values.mean(0)), **EXACT)


def test_gini_forgets_scale_sign_and_order_and_refuses_zeros() -> None:
    values = noise(9)
    assert_close(fourier.gini(-3 * values.flip(0)), fourier.gini(values), **EXACT)
    assert fourier.gini(torch.zeros(4)).isnan()


@pytest.mark.parametrize("n", [4, 7])
def test_renamed_marginals_are_those_of_the_renamed_grid(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    grid, names = torch.randn(n, n, 3, generator=generator, dtype=torch.float64), torch.randperm(n, generator=generator)
    renamed = torch.empty_like(grid)
    renamed[names[:, None], names] = grid
    sums = fourier.marginals(grid).sums
    assert_close(fourier.renamed_marginals(grid, sums[0], sums[1], names), fourier.marginals(renamed).sums, **EXACT)
