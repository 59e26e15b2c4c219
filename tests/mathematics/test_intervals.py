"""Crossings and intervals with known answers; and how often an interval holds what it should."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from interp.mathematics.intervals import level_crossing, mean_interval, seed_interval, slope


def test_a_straight_line_crosses_where_it_does():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert level_crossing(x, 3 * x - 10) == pytest.approx(10 / 3, rel=1e-12)
    assert level_crossing(x, 3 * x, level=10) == pytest.approx(10 / 3, rel=1e-12)
    assert level_crossing(x, 10 - 3 * x, rising=False) == pytest.approx(10 / 3, rel=1e-12)


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [-1.0, 1.0, -1.0], [math.nan] * 3])
def test_what_does_not_cross_or_ends_below_crosses_nowhere(y: list[float]):
    assert math.isnan(level_crossing(np.arange(3.0), np.array(y)))


def test_the_last_crossing_counts_and_unknown_points_are_left_out():
    y = np.array([-1.0, 1.0, -1.0, math.nan, 1.0])
    assert level_crossing(np.arange(5.0), y) == pytest.approx(3.0)


def test_the_interval_of_a_mean_is_that_of_the_t_test():
    values = np.random.RandomState(0).normal(2.0, size=7)
    for coverage in (0.8, 0.95, 0.99):
        theirs = stats.ttest_1samp(values, 0.0).confidence_interval(coverage)
        found = seed_interval(7, lambda seeds: values[seeds].mean(), coverage=coverage)
        assert_allclose(found, [theirs.low, theirs.high], rtol=1e-12)
        assert_allclose(mean_interval(values[None], coverage=coverage)[:, 0], found, rtol=1e-12)


def test_the_interval_of_any_linear_statistic_is_that_of_the_values_of_the_seeds():
    """The slope of a mean curve is the mean of the slopes of the curves."""
    x, curves = np.array([0.0, 1.0, 3.0, 4.0]), np.random.RandomState(1).normal(size=(4, 5))
    slopes = np.array([slope(x, curve) for curve in curves.T])
    theirs = stats.ttest_1samp(slopes, 0.0).confidence_interval()
    found = seed_interval(5, lambda seeds: slope(x, curves[:, seeds].mean(1)))
    assert_allclose(found, [theirs.low, theirs.high], rtol=1e-10)


def test_many_statistics_at_once_are_each_by_itself():
    values = np.random.RandomState(2).normal(size=(3, 6))
    together = seed_interval(6, lambda seeds: values[:, seeds].mean(1))
    assert together.shape == (2, 3)
    assert_allclose(together, mean_interval(values), rtol=1e-12)
    values[1, 4] = math.nan
    assert np.isnan(seed_interval(6, lambda seeds: values[:, seeds].mean(1))).tolist() == [[False, True, False]] * 2


def test_what_is_positive_is_handled_by_its_logarithm():
    times = np.array([100.0, 130.0, 250.0, 190.0])
    theirs = stats.ttest_1samp(np.log(times), 0.0).confidence_interval()
    found = seed_interval(4, lambda seeds: np.exp(np.log(times[seeds]).mean()), positive=True)
    assert_allclose(found, np.exp([theirs.low, theirs.high]), rtol=1e-12)
    assert found[0] > 0


def test_equal_seeds_have_no_width():
    assert seed_interval(5, lambda seeds: 3.0).tolist() == [3.0, 3.0]


def test_what_one_of_the_seeds_carries_alone_has_no_interval():
    """No seed is quietly dropped: where the statistic is not known without one of them, nothing is known."""
    for unknown in (math.nan, math.inf):
        assert np.isnan(seed_interval(4, lambda seeds, unknown=unknown: 1.0 if 2 in seeds else unknown)).all()
    assert np.isnan(seed_interval(4, lambda seeds: 1.0 if 2 in seeds else 0.0, positive=True)).all()  # log 0
    assert np.isnan(seed_interval(4, lambda seeds: math.nan)).all()


def test_one_seed_says_nothing_of_others():
    assert np.isnan(seed_interval(1, lambda seeds: 3.0)).all()
    assert np.isnan(seed_interval(1, lambda seeds: np.ones(3))).all()
    assert np.isnan(mean_interval(np.array([[3.0], [math.nan]]))).all()


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_are_not_narrower_when_seeds_differ_more(n: int):
    values = np.random.RandomState(3).normal(size=n)
    widths = [
        np.ptp(seed_interval(n, lambda seeds, noise=noise: 1 + noise * values[seeds].mean())) for noise in (0.1, 0.2, 1)
    ]
    assert_allclose(widths, np.array([0.1, 0.2, 1]) * widths[-1], rtol=1e-9)


# ---- coverage, measured ----------------------------------------------------------------------------------------------

MEASURED = Path(__file__).parents[2] / "benchmarks" / "measured_log_times.json"


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("source", ["normal", "measured"])
def test_the_interval_of_a_mean_covers_what_it_says(n: int, source: str):
    """Of 20,000 samples, whose share has a standard error of 0.2 %; on log times to generalization of many trainings,
    which are not normal, too."""
    generator = np.random.default_rng(n)
    if source == "normal":
        mean, samples = 2.0, generator.normal(2.0, 3.0, size=(20_000, n))
    else:
        log_times = np.log(json.loads(MEASURED.read_text())["steps"])
        assert len(log_times) >= 200
        mean, samples = log_times.mean(), generator.choice(log_times, size=(20_000, n))
    low, high = mean_interval(samples)
    assert ((low <= mean) & (mean <= high)).mean() >= 0.93


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_of_a_crossing_covers_what_it_says(n: int):
    """Of the mean of logistic curves that begin at other places: the mean over seeds is read where it passes ½, which
    by symmetry is at 0."""
    x, generator = np.linspace(-1.5, 1.5, 13), np.random.default_rng(n)
    covered = 0
    for _ in range(1000):
        curves = 1 / (1 + np.exp(-6 * (x[:, None] - 0.1 * generator.normal(size=n))))
        low, high = seed_interval(n, lambda seeds, curves=curves: level_crossing(x, curves[:, seeds].mean(1), 0.5))
        covered += low <= 0 <= high
    assert covered / 1000 >= 0.93


def test_slopes():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    assert slope(x, 2 - 3 * x) == pytest.approx(-3)
    assert slope(x, np.array([0.0, math.nan, math.nan, 6.0])) == pytest.approx(2)
    assert math.isnan(slope(x, np.array([0.0, math.nan, math.nan, math.nan])))
    assert math.isnan(slope(np.zeros(4), x))
    assert slope(x, 2 - 3 * x, complete=True) == pytest.approx(-3)
    assert math.isnan(slope(x, np.array([0.0, math.nan, 4.0, 6.0]), complete=True))
