"""Effective model complexity of procedures for which it is known in closed form."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from interp.mathematics.effective_complexity import (
    RATIO,
    Complexity,
    bisect,
    crossing,
    effective_complexity,
    nondecreasing,
    tail,
)


def lookup_error(n: int, slots: int, classes: int, rng: np.random.Generator) -> float:
    """The training error of a table that keeps the first labels and answers 0 elsewhere, on fair labels."""
    labels = rng.integers(0, classes, n)
    return float(np.mean(np.r_[np.zeros(min(slots, n)), labels[slots:] != 0]))


@pytest.mark.parametrize(("slots", "classes", "epsilon", "truth"), [(100, 2, 0.1, 125), (100, 10, 0.1, 112)])
def test_a_lookup_table(slots: int, classes: int, epsilon: float, truth: int):
    """(1 − m/n)(1 − 1/K) ≤ ε up to n = ⌊m/(1 − ε/(1 − 1/K))⌋."""
    assert truth == math.floor(slots / (1 - epsilon / (1 - 1 / classes)))
    sizes = list(range(90, 160))
    exact = np.array([max(0, 1 - slots / n) * (1 - 1 / classes) for n in sizes])
    assert math.floor(crossing(sizes, exact, epsilon)) == truth
    rng = np.random.default_rng(0)
    grid = [round(80 * 1.25**step) for step in range(6)]
    drawn = np.array([[lookup_error(n, slots, classes, rng) for _ in range(100)] for n in grid])
    found = effective_complexity(grid, drawn, epsilon)
    assert found.low / 1.03 < truth + 1  # a straight line in log n between sizes bends a little
    assert found.high > truth
    assert found.high / found.low < 1.1


@pytest.mark.parametrize(
    ("d", "variance", "epsilon", "truth"), [(50, 1.0, 1 / 6, 60), (50, 1.0, 0.5, 100), (20, 2.0, 0.5, 26)]
)
def test_least_squares(d: int, variance: float, epsilon: float, truth: int):
    """The mean squared training error σ²(1 − d/n) is ε at d/(1 − ε/σ²); the signal is fitted for nothing."""
    assert truth == math.floor(d / (1 - epsilon / variance) + 1e-9)
    rng = np.random.default_rng(1)
    grid = [round(0.8 * d * 1.25**step) for step in range(6)]

    def error(n: int) -> float:
        inputs = rng.normal(size=(n, d))
        labels = inputs @ np.ones(d) + rng.normal(size=n) * math.sqrt(variance)
        return float(np.mean((labels - inputs @ np.linalg.lstsq(inputs, labels)[0]) ** 2))

    found = effective_complexity(grid, np.array([[error(n) for _ in range(60)] for n in grid]), epsilon)
    assert found.low / 1.05 < truth < found.high
    assert found.high / found.low < 1.2


def test_the_interval_holds_the_crossing_as_often_as_it_says():
    """Of 100 samples of eight draws of least squares, whose error is σ²χ²/n; 88 is 3.2 standard errors below 95."""
    rng, sizes, d = np.random.default_rng(2), [24, 30, 38, 47, 59, 73], 30
    true = crossing(sizes, np.array([max(0, 1 - d / n) for n in sizes]), 0.3)
    held = 0
    for _ in range(100):
        errors = np.array([rng.chisquare(n - d, 8) / n if n > d else np.zeros(8) for n in sizes])
        found = effective_complexity(sizes, errors, 0.3, repetitions=100)
        held += found.low <= true <= found.high
    assert held >= 88


def test_a_nearest_neighbor_fits_everything_and_five_fit_no_random_labels():
    rng, sizes = np.random.default_rng(3), [20, 40, 80]

    def errors(k: int) -> np.ndarray:
        found = []
        for n in sizes:
            inputs, labels = rng.normal(size=(n, 3)), rng.integers(0, 2, (4, n))
            found.append([1 - KNeighborsClassifier(k).fit(inputs, y).score(inputs, y) for y in labels])
        return np.array(found)

    everything, nothing = (effective_complexity(sizes, errors(k), 0.1) for k in (1, 5))
    assert (str(everything), everything.crossing) == ("≥ 80 samples", math.inf)
    assert (str(nothing), nothing.crossing) == ("< 20 samples", 0)
    assert everything.regime(30) == "over-parameterized"
    assert nothing.regime(50) == "under-parameterized"


def test_a_constant_predictor_fits_one_sample():
    """The better of two constants errs on 0, ¼, ¼ of n = 1, 2, 3 fair labels: EMC is 1 at ε = .1."""
    errors = [
        np.mean([min(sum(labels), n - sum(labels)) / n for labels in itertools.product((0, 1), repeat=n)])
        for n in (1, 2, 3)
    ]
    assert errors == [0, 0.25, 0.25]
    assert math.floor(crossing([1, 2, 3], np.array(errors), 0.1)) == 1


def test_an_error_that_dips_is_made_to_rise():
    errors = np.array([0.0, 0.2, 0.0, 0.05, 0.4])
    fit = nondecreasing(errors)
    assert (np.diff(fit) >= 0).all()
    assert fit.mean() == pytest.approx(errors.mean())
    assert 40 < crossing([10, 20, 30, 40, 50], errors, 0.1) < 50


def test_smaller_epsilon_is_never_more_samples():
    rng, sizes = np.random.default_rng(4), [10, 20, 40, 80, 160]
    errors = np.abs(np.linspace(-0.1, 0.5, 5)[:, None] + rng.normal(size=(5, 7)) * 0.1)
    found = [effective_complexity(sizes, errors, epsilon).crossing for epsilon in (0.0, 0.01, 0.1, 0.3, 0.9)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, math.inf)


@pytest.mark.parametrize(
    ("low", "high", "words", "regime"),
    [
        (100.0, 300.5, "between 100 and 300 samples", "critical"),
        (0.0, 0.0, "< 50 samples", "under-parameterized"),
        (0.0, 70.2, "< 71 samples", "under-parameterized"),
        (math.inf, math.inf, "≥ 900 samples", "over-parameterized"),
        (450.0, math.inf, "≥ 450 samples", "over-parameterized"),
        (90.0, math.inf, "≥ 90 samples", "not known"),
        (0.0, math.inf, "not known", "not known"),
        (80.0, 120.0, "between 80 and 120 samples", "not known"),
    ],
)
def test_what_is_said_of_an_interval(low: float, high: float, words: str, regime: str):
    found = Complexity(crossing=low, low=low, high=high, n_min=50, n_max=900)
    assert (str(found), found.regime(200)) == (words, regime)


def test_bisection_finds_the_bracket_with_few_trainings():
    rng, asked = np.random.default_rng(5), []

    def errors_of(n: int, draws: Sequence[int]) -> list[float]:
        asked.extend((n, draw) for draw in draws)
        return [lookup_error(n, 100, 2, rng) for _ in draws]

    found = bisect(errors_of, 25, 800, 0.1, draws=20)
    assert found.low <= 125 < found.high <= RATIO * found.low
    assert found.probability > 0.9
    assert len(asked) == len(set(asked)) == (len(found.tried) + 2) * 20
    # ln 32/ln 1.25 = 15.5: four halvings
    assert len(found.tried) == 2 + 4


def test_bisection_says_where_there_is_no_bracket():
    everything = bisect(lambda n, draws: [0.0 for _ in draws], 10, 100, 0.1)
    assert (everything.low, everything.high, everything.probability) == (100, math.inf, 1)
    nothing = bisect(lambda n, draws: [0.5 for _ in draws], 10, 100, 0.1)
    assert (nothing.low, nothing.high, nothing.probability) == (0, 10, 1)
    neighbors = bisect(lambda n, draws: [0.0 if n < 3 else 1.0 for _ in draws], 1, 100, 0.1)
    assert (neighbors.low, neighbors.high) == (2, 3)


def test_a_crossing_that_the_draws_do_not_agree_on_has_a_low_probability():
    """A rise that is small beside the scatter of draws."""
    rng = np.random.default_rng(6)

    def errors_of(n: int, draws: Sequence[int]) -> list[float]:
        return [0.0 if n == 10 else 1.0 if n == 1000 else 0.1 + rng.choice([-0.1, 0.1]) for _ in draws]

    assert bisect(errors_of, 10, 1000, 0.1).probability < 0.6


def test_the_tail_of_few_draws_is_further_out():
    assert [tail(n) for n in (3, 5, 20)] == sorted(tail(n) for n in (3, 5, 20))
    assert tail(100_000) == pytest.approx(0.025, rel=1e-3)
    assert tail(1) == 0


@pytest.mark.parametrize(
    ("sizes", "errors", "epsilon", "said"),
    [
        ([10, 10], [[0.0], [0.1]], 0.1, "sizes 10 10 do not rise from 1 on"),
        ([10], [[0.0], [0.1]], 0.1, "1 sizes and errors of shape"),
        ([10, 20], [[0.0], [math.nan]], 0.1, "of a run that diverged there is none"),
        ([10, 20], [[0.0], [0.1]], -0.1, "epsilon must be at least 0, got -0.1"),
    ],
)
def test_what_is_no_curve_is_refused(sizes: list[int], errors: list[list[float]], epsilon: float, said: str):
    with pytest.raises(ValueError, match=said):
        effective_complexity(sizes, np.array(errors), epsilon)


def test_sizes_that_do_not_rise_cannot_be_bisected():
    with pytest.raises(ValueError, match="sizes from 20 to 10; give two that rise"):
        bisect(lambda n, draws: [0.0], 20, 10, 0.1)
