"""Kinks that were planted are counted and found; where nothing bends there are none."""

import numpy as np
import pytest

from interp.mathematics.kinks import _least_errors, how_many, kinks


@pytest.mark.parametrize("points", [20, 61, 400])
@pytest.mark.parametrize(
    ("at", "heights", "most_wrong"),
    [([0, 1], [0, 1], 1), ([0, 0.4, 1], [0, 1, 0.3], 3), ([0, 0.3, 0.7, 1], [0, 1, 0.6, -1], 0)],
)
def test_a_line_with_noise_has_the_kinks_that_were_planted(points, at, heights, most_wrong):
    """None, one or two, in 20 curves each; at most so many are counted wrong. A fit through noisy ends would better
    itself by a kink in most of them."""
    steps, wrong = np.linspace(0, 1000, points), 0
    for seed in range(20):
        noise = 0.05 * np.random.RandomState(seed).standard_normal(points)
        found = kinks(steps, np.interp(steps / 1000, at, heights) + noise, 2, 0, 1000)
        assert found is not None
        wrong += len(found.positions) != len(at) - 2
        assert len(found.slopes) == len(found.positions) + 1
        assert found.intervals.shape == (len(found.positions), 2)
    assert wrong <= most_wrong


def test_kinks_without_noise_are_counted_wherever_they_are():
    """A kink between two places of the search is not two."""
    random, steps, wrong = np.random.RandomState(0), np.arange(0, 1001, 10.0), 0
    for _ in range(30):
        one, (first, second) = random.uniform(150, 850), np.sort(random.choice(np.arange(150, 851, 150), 2, False))
        bent = np.interp(steps, [0, one, 1000], [0, 1, random.uniform(-1, 0.3)])
        wrong += how_many(steps, bent, 2) != 1
        twice = np.interp(steps, [0, first, second, 1000], [0, 1, 0.3, random.uniform(1, 3)])
        wrong += how_many(steps, twice, 2) != 2
        assert how_many(steps, twice, 1) <= 1
        assert how_many(steps, random.uniform(-3, 3) * steps, 2) == 0
    assert wrong == 0


def test_errors_are_those_of_least_squares_over_all_places():
    """On a coarse grid, one fit after the other."""
    steps = np.sort(np.random.RandomState(4).uniform(0, 50, 30))
    values = np.interp(steps, [0, 17, 40, 60], [0, 5, 4, -9]) + np.random.RandomState(2).standard_normal(30)
    time = (steps - steps[0]) / (steps[-1] - steps[0])
    places = np.linspace(0, 1, 241)[8:-11]

    def error(*at: float) -> float:
        waves = np.stack([np.ones(30), time, *(np.maximum(time - place, 0) for place in at)], axis=1)
        rest = values - waves @ np.linalg.lstsq(waves, values, rcond=None)[0]
        return float(rest @ rest / np.square(values - values.mean()).sum())

    none, one, two = _least_errors(steps, values)
    assert none == pytest.approx(error(), rel=1e-9)
    assert one == pytest.approx(min(map(error, places)), rel=1e-9)
    some = min(error(places[i], places[j]) for i in range(0, 222, 6) for j in range(i + 12, 222, 6))
    assert two <= some * (1 + 1e-9)
    assert two == pytest.approx(some, rel=0.1)


def test_kinks_are_those_of_the_slow_search():
    steps = np.arange(61.0)
    values = np.interp(steps, [0, 17, 40, 60], [0, 5, 4, -9]) + 0.1 * np.random.RandomState(2).standard_normal(61)

    def error(i: int, j: int) -> float:
        return float(np.square(values - np.interp(steps, [0, i, j, 60], values[[0, i, j, 60]])).sum())

    best = min(((i, j) for i in range(2, 56) for j in range(i + 3, 58)), key=lambda at: error(*at))
    found = kinks(steps, values, 2, 0, 60)
    assert found is not None
    np.testing.assert_allclose(found.positions, best)
    assert (found.intervals[:, 0] < found.positions).all()
    assert (found.positions < found.intervals[:, 1]).all()
    assert kinks(steps, np.random.RandomState(3).standard_normal(61), 2, 0, 60) is None
    assert kinks(steps, np.ones(61), 2, 0, 60) is None
    assert kinks(steps[:9], values[:9], 1, 0, 60) is None
