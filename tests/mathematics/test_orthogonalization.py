"""The polar factor and Newton–Schulz steps against singular value decompositions."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.mathematics.orthogonalization import COEFFICIENTS, newton_schulz, polar_factor

SHAPES = [(128, 512), (128, 32), (114, 128), (3, 128), (16, 16), (1, 7), (7, 1), (4, 32, 8), (2, 3, 8, 12)]


def gaussian(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def with_values(values: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix with these singular values, and singular vectors drawn at random."""
    left, right = (torch.linalg.qr(gaussian((n, len(values))))[0] for n in (rows, columns))
    return (left * values) @ right.mT


def f5(x: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    for _ in range(5):
        x = a * x + b * x**3 + c * x**5
    return x


def by_decomposition(matrices: Tensor) -> Tensor:
    """U f⁵(Σ/‖G‖) Vᵀ."""
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    return (left * f5(values / torch.linalg.vector_norm(values, dim=-1, keepdim=True)).unsqueeze(-2)) @ right


# ---- Newton–Schulz ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_newton_schulz_is_the_polynomial_of_the_singular_values(shape: tuple[int, ...]) -> None:
    matrices = gaussian(shape)
    expected = by_decomposition(matrices)
    assert_close(newton_schulz(matrices), expected, rtol=0, atol=1e-11)
    assert_close(newton_schulz(matrices.float()).double(), expected, rtol=0, atol=2e-5)


def test_float32_follows_it_where_singular_values_decay_over_four_decades() -> None:
    """As a share of the whole; bfloat16, which torch's own Muon computes in, is 8 to 17 % off there."""
    matrix = with_values(torch.logspace(0, -4, 32, dtype=torch.float64), 128, 32)
    expected = by_decomposition(matrix)
    assert (newton_schulz(matrix.float()) - expected).norm() / expected.norm() < 2e-5
    assert (newton_schulz(matrix.bfloat16()) - expected).norm() / expected.norm() > 0.05


@pytest.mark.parametrize("decades", [0.0, 4.0])
@pytest.mark.parametrize(("rows", "columns"), [(128, 512), (128, 32), (114, 128)])
def test_its_singular_values_are_near_one_and_not_one(decades: float, rows: int, columns: int) -> None:
    n = min(rows, columns)
    matrix = gaussian((rows, columns))
    if decades:
        matrix = with_values(torch.logspace(0, -decades, n, dtype=torch.float64), rows, columns)
    values = torch.linalg.svdvals(newton_schulz(matrix.float()))
    assert 0.65 <= values.median() <= 0.9
    assert values.max() <= 1.25
    assert (values - 1).abs().max() > 0.1
    if decades:
        assert values.min() < 0.05  # what is far below the largest stays so


def test_the_polynomial_is_what_its_description_says() -> None:
    x = torch.logspace(torch.log10(torch.tensor(0.002)).item(), 0, 200_000, dtype=torch.float64)
    assert f5(x).min() > 0.68
    assert f5(x).max() < 1.21
    assert f5(torch.tensor(1e-9)) == pytest.approx(485e-9, rel=1e-3)


def test_the_size_of_a_matrix_is_forgotten_above_1e_7_and_told_below() -> None:
    matrix = gaussian((6, 9)) / gaussian((6, 9)).norm()
    whole = newton_schulz(matrix)
    for size in (1e-6, 1.0, 1e20):
        assert_close(newton_schulz(size * matrix), whole, rtol=1e-9, atol=1e-12)
    assert_close(newton_schulz(-matrix), -whole)
    # Of ‖G‖ = 1e-12, divided by 1e-7, all that is left is the slope at 0.
    assert_close(newton_schulz(1e-12 * matrix), 485e-5 * matrix, rtol=1e-3, atol=0)
    assert not newton_schulz(torch.zeros(6, 9)).any()


# ---- the polar factor ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_polar_factor_is_that_of_the_decomposition(shape: tuple[int, ...]) -> None:
    matrices = gaussian(shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    found = polar_factor(matrices)
    assert_close(found, left @ right, rtol=0, atol=1e-8)
    assert_close(torch.linalg.svdvals(found), torch.ones_like(values), rtol=0, atol=1e-8)
    # ⟨G, UVᵀ⟩ is the sum of the singular values, the most that any matrix of spectral norm 1 has.
    assert_close((matrices * found).sum((-2, -1)), values.sum(-1))
    assert_close(polar_factor(found), found, rtol=0, atol=1e-10)
    assert polar_factor(matrices.float()).dtype == torch.float32


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e30])
def test_no_size_of_a_matrix_is_told(size: float) -> None:
    matrix = gaussian((9, 6), torch.float32)
    assert_close(polar_factor(size * matrix), polar_factor(matrix), rtol=0, atol=1e-5)


def test_rotations_of_rows_and_columns_go_with_it() -> None:
    matrix, turn, other = gaussian((8, 5)), *(torch.linalg.qr(gaussian((n, n)))[0] for n in (8, 5))
    for orthogonalized in (polar_factor, newton_schulz):
        assert_close(orthogonalized(turn @ matrix @ other), turn @ orthogonalized(matrix) @ other, atol=1e-10, rtol=0)


def test_what_is_rounding_is_not_scaled_up_and_what_is_not_is() -> None:
    """Three singular values of 128 rows: 1, 1e-4, and 1e-7, which a matrix in float32 cannot be known to."""
    matrix = with_values(torch.tensor([1.0, 1e-4, 1e-7], dtype=torch.float64), 128, 32).float()
    values = torch.linalg.svdvals(polar_factor(matrix))
    assert_close(values[:2], torch.ones(2), rtol=0, atol=1e-3)
    assert values[2:].max() < 1e-3
    assert not polar_factor(torch.zeros(5, 3)).any()


def test_a_matrix_that_is_not_finite_leaves_the_others_alone() -> None:
    matrices = gaussian((3, 4, 6))
    expected = polar_factor(matrices)
    for wild in (torch.nan, torch.inf):
        matrices[1, 2, 3] = wild
        for orthogonalized, others in ((polar_factor, expected), (newton_schulz, newton_schulz(gaussian((3, 4, 6))))):
            found = orthogonalized(matrices)
            assert found[1].isnan().all()
            assert_close(found[::2], others[::2])
