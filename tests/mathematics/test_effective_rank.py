"""Effective rank: of matrices whose singular values are known, and what does not change it."""

import math

import numpy as np
import pytest
import torch

from interp.mathematics.effective_rank import effective_number, effective_rank


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("rows", "columns"), [(9, 9), (6, 9), (9, 6)])
def test_equal_singular_values_count_one_each(rows: int, columns: int) -> None:
    left, right = torch.linalg.qr(random(rows, rows))[0], torch.linalg.qr(random(columns, columns, seed=1))[0]
    assert effective_rank(7 * left[:, :4] @ right[:4]) == pytest.approx(4, rel=1e-6)


def test_known_singular_values() -> None:
    sizes = np.array([8.0, 4, 2, 1])
    share = sizes / sizes.sum()
    expected = math.exp(-(share * np.log(share)).sum())
    matrix = torch.linalg.qr(random(6, 4))[0] * torch.from_numpy(sizes)
    assert effective_rank(matrix) == pytest.approx(expected, rel=1e-7)
    assert effective_number(torch.from_numpy(sizes)) == pytest.approx(expected, rel=1e-12)


def test_factor_transposition_and_rotation_change_nothing() -> None:
    matrix = random(5, 8)
    expected = effective_rank(matrix)
    turned = torch.linalg.qr(random(5, 5, seed=2))[0] @ matrix
    for other in (-1e-6 * matrix, matrix.T, turned, matrix[torch.randperm(5)], matrix.float()):
        assert effective_rank(other) == pytest.approx(expected, rel=1e-6)
    assert 1 < expected < 5


def test_zeros_have_none() -> None:
    assert math.isnan(effective_rank(torch.zeros(3, 4)))
