"""The linear mapping number of maps for which it is known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.mathematics.linear_mapping import linear_mapping_number, straightness


def linearity(function, samples: Tensor, points: int = 21) -> Tensor:
    """L of a function of [n, features], by the definition."""
    t = torch.linspace(0, 1, points, dtype=torch.float64)[:, None]
    paths = [[function(one + t * (other - one)) for other in samples] for one in samples]
    found = torch.stack([straightness(torch.stack(row)) for row in paths])
    return found.fill_diagonal_(1)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_linear_map_is_one_piece() -> None:
    matrix, shift = drawn(3, 4), drawn(4)
    found = linearity(lambda x: x @ matrix + shift, drawn(6, 3))
    assert linear_mapping_number(found) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_equal_groups_with_nothing_linear_between_them(groups: int) -> None:
    """cos 2πx between integers is even about the middle, so r² = 0; within a group nothing changes, so it is 1."""
    samples = torch.arange(groups, dtype=torch.float64).repeat_interleave(3)[:, None]
    found = linearity(lambda x: torch.cos(2 * torch.pi * x), samples)
    assert linear_mapping_number(found) == pytest.approx(groups, abs=1e-9)


def test_groups_of_unequal_sizes_are_fewer() -> None:
    """Blocks of 1 and 3: the shares are 1/4 and 3/4."""
    found = torch.block_diag(torch.ones(1, 1), torch.ones(3, 3))
    assert linear_mapping_number(found) == pytest.approx(4 / 3**0.75, abs=1e-9)


def test_r_squared_is_that_of_a_regression() -> None:
    answers = drawn(2, 21, 3)
    t = np.linspace(0, 1, 21)
    expected = [np.mean([np.corrcoef(t, path[:, k])[0, 1] ** 2 for k in range(3)]) for path in answers.numpy()]
    assert straightness(answers).tolist() == pytest.approx(expected, abs=1e-12)
    assert straightness(1e5 * answers.flip(1)).tolist() == pytest.approx(
        expected, abs=1e-9
    )  # and neither scale nor way


def test_what_only_rounding_moves_does_not_move() -> None:
    """One output goes up, the other is 3 up to float32's rounding, which is correlated with nothing."""
    still = 3 + 1e-7 * drawn(21)
    answers = torch.stack([torch.linspace(0, 5, 21, dtype=torch.float64), still], dim=1)[None]
    assert straightness(answers).item() == pytest.approx(1, abs=1e-12)


def test_the_order_of_samples_is_nothing_to_it() -> None:
    found = linearity(lambda x: torch.tanh(3 * x), drawn(5, 2))
    order = torch.tensor([3, 0, 4, 1, 2])
    assert linear_mapping_number(found) == pytest.approx(linear_mapping_number(found[order][:, order]), abs=1e-9)
    assert 1 < linear_mapping_number(found) < 5
