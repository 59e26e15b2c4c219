"""Samples of pairs: a plain draw, and no more beside it than is missing."""

import numpy as np
import pytest
import torch

from interp.mathematics.pair_samples import pair_sample


def test_enough_of_a_kind_leaves_the_draw_as_it_is() -> None:
    wanted = torch.arange(500) % 2 == 0
    sample = pair_sample(wanted, 100, least=20)
    assert sample.places.tolist() == sorted(np.random.RandomState(0).permutation(500)[:100].tolist())
    assert sample.is_drawn.all()


@pytest.mark.parametrize(("kind", "expected"), [(4, 30), (50, 10), (1000, 1)])
def test_too_few_of_a_kind_are_made_up_for(kind: int, expected: int) -> None:
    """Up to `least`, as far as there are so many; what is drawn stays the same draw."""
    wanted = torch.arange(500) % kind == 0
    sample, plain = pair_sample(wanted, 60, least=30), pair_sample(wanted, 60, least=0)
    assert int(wanted[sample.places].sum()) == expected
    assert sample.places[sample.is_drawn].tolist() == plain.places.tolist()
    assert wanted[sample.places[~sample.is_drawn]].all()
    assert sample.places.tolist() == sorted(set(sample.places.tolist()))


def test_all_pairs_are_a_sample_too() -> None:
    sample = pair_sample(torch.zeros(9, dtype=torch.bool), 100)
    assert sample.places.tolist() == list(range(9))
    assert sample.is_drawn.all()
