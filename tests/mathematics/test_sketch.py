"""The sketch: linear, right on average in norm and inner product with the spread that is said, and always the same."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics.sketch import COMBINATIONS, Sketch

RANDOM = np.random.default_rng(0)


def test_it_is_linear_and_the_same_every_time():
    shapes = {"a": (20, 30), "b": (7,)}
    one, other = ({name: RANDOM.standard_normal(shape) for name, shape in shapes.items()} for _ in range(2))
    both = {name: 2 * one[name] - 3 * other[name] for name in shapes}
    of = Sketch(shapes)
    assert_allclose(of(both), 2 * of(one) - 3 * of(other), rtol=1e-4, atol=1e-4)
    assert np.array_equal(of(one), Sketch(dict(reversed(shapes.items())))(one)[::-1])


def test_every_entry_is_in_one_combination_with_a_sign():
    columns = [Sketch({"a": (5,)})({"a": entry}) for entry in np.eye(5)]
    assert {tuple(np.sort(np.abs(column[0]))[-2:].tolist()) for column in columns} == {(0.0, 1.0)}
    # Pinned: what is on disk was told with these. RandomState never changes.
    assert [int(np.abs(column[0]).argmax()) for column in columns] == [35, 2, 43, 7, 52]
    assert [int(column[0].sum()) for column in columns] == [1, -1, 1, -1, -1]


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_squared_norms_and_inner_products_are_right_on_average(kind: str):
    n, draws = 500, 400
    one, other = RANDOM.standard_normal((2, n))
    other = 0.6 * one + 0.8 * other
    if kind == "sparse":
        one, other = one * (np.arange(n) < 6), other * (np.arange(n) < 6)
    told = np.array(
        [
            [np.square(a).sum(), (a * b).sum()]
            for name in map(str, range(draws))
            for a, b in [[Sketch({name: (n,)})({name: each}).astype(float) for each in (one, other)]]
        ]
    )
    exact = np.array([one @ one, one @ other])
    spread = np.sqrt(np.array([2 * exact[0] ** 2, exact[0] * (other @ other) + exact[1] ** 2]) / COMBINATIONS)
    assert (np.abs(told.mean(0) - exact) < 4 * spread / np.sqrt(draws)).all()
    assert (told.std(0) < 1.15 * spread).all()
