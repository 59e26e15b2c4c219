"""Crossings and intervals with known answers."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from interp.mathematics.bootstrap import bootstrap, crossing, mean_interval, slope


def test_a_straight_line_crosses_where_it_does():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert crossing(x, 3 * x - 10) == pytest.approx(10 / 3, rel=1e-12)
    assert crossing(x, 3 * x, level=10) == pytest.approx(10 / 3, rel=1e-12)
    assert crossing(x, 10 - 3 * x, rising=False) == pytest.approx(10 / 3, rel=1e-12)


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [-1.0, 1.0, -1.0], [math.nan] * 3])
def test_what_does_not_cross_or_ends_below_crosses_nowhere(y: list[float]):
    assert math.isnan(crossing(np.arange(3.0), np.array(y)))


def test_the_last_crossing_counts_and_unknown_points_are_left_out():
    y = np.array([-1.0, 1.0, -1.0, math.nan, 1.0])
    assert crossing(np.arange(5.0), y) == pytest.approx(3.0)


def test_a_bootstrap_of_equal_seeds_has_no_width():
    assert bootstrap(5, lambda seeds: 3.0) == ((3.0, 3.0), 1.0)


def test_the_bootstrap_interval_of_a_mean_is_the_known_one():
    values = np.random.RandomState(0).normal(size=400)
    (low, high), defined = bootstrap(400, lambda seeds: float(values[seeds].mean()), draws=2000)
    error = values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)
    assert defined == 1


def test_the_bootstrap_covers_what_it_should():
    covered = 0
    for trial in range(200):
        values = np.random.RandomState([1, trial]).normal(loc=2.0, size=20)
        (low, high), _ = bootstrap(20, lambda seeds, v=values: float(v[seeds].mean()), draws=300)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.98  # a little under 95 % for 20 values, as percentile intervals are


def test_it_draws_what_scipy_draws():
    """To the last bit, from the same generator; but scipy gives up the interval for one sample without an answer."""
    values = np.random.RandomState(3).normal(size=(2, 7))
    theirs = [
        stats.bootstrap((row,), np.mean, n_resamples=1000, method="percentile", random_state=generator)
        for generator in [np.random.RandomState(0)]
        for row in values
    ]
    found, _ = bootstrap(7, lambda seeds: float(values[0, seeds].mean()), draws=1000)
    assert_allclose(found, theirs[0].confidence_interval, rtol=1e-12)
    intervals = np.transpose([one.confidence_interval for one in theirs])
    assert_allclose(mean_interval(values), intervals, rtol=1e-12)


def test_samples_without_an_answer_are_counted():
    interval, defined = bootstrap(4, lambda seeds: float(seeds[0]) if 0 in seeds else math.nan)
    assert defined == pytest.approx(1 - 0.75**4, abs=0.03)
    assert interval == (0.0, 3.0)
    assert bootstrap(4, lambda seeds: math.nan)[1] == 0.0


def test_one_seed_says_nothing_of_others():
    (low, high), defined = bootstrap(1, lambda seeds: 3.0)
    assert math.isnan(low + high + defined)


def test_slopes():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    assert slope(x, 2 - 3 * x) == pytest.approx(-3)
    assert slope(x, np.array([0.0, math.nan, math.nan, 6.0])) == pytest.approx(2)
    assert math.isnan(slope(x, np.array([0.0, math.nan, math.nan, math.nan])))
    assert math.isnan(slope(np.zeros(4), x))
