"""Fits of patterns: planted numbers recovered, intervals that cover, and refusals where numbers mean nothing."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics.pattern_fit import (
    NAMES,
    AccuracyCurves,
    fit_patterns,
    fitted,
    number_of_patterns,
    profile_misfit,
)
from interp.mathematics.pattern_learning import DOUBLE_DESCENT, GROKKING, PatternCurves, pattern_curves

LOG_STEPS = np.linspace(2.0, 9.0, 40)
PLANTED = np.array([0.98, 6.0, 7.5, 3.0, 4.0])
N_TRAIN, N_TEST, CHANCE = 800, 400, 0.02


def seen(curves: PatternCurves, seed: int | None = None) -> AccuracyCurves:
    """With binomial noise, where there is a seed."""
    random = np.random.RandomState(seed)
    train, test = (
        of if seed is None else random.binomial(n, np.clip(of, 0, 1)) / n
        for of, n in zip(curves, (N_TRAIN, N_TEST), strict=True)
    )
    return AccuracyCurves(LOG_STEPS, train, test, N_TRAIN, N_TEST, CHANCE)


def two(numbers: np.ndarray) -> PatternCurves:
    return fitted(2, numbers, LOG_STEPS, 1.0, CHANCE)


def test_planted_numbers_are_found_and_profiles_hold_them():
    found = fit_patterns(seen(two(PLANTED)), 2)
    assert found.refused is None
    assert_allclose(list(found.numbers.values()), PLANTED, rtol=0.01)
    for name, value in zip(NAMES[2], PLANTED, strict=True):
        low, high = found.intervals[name]
        assert low < value < high
        for end in (low, high):  # the interval ends where the misfit is 3.84 more
            assert profile_misfit(seen(two(PLANTED)), 2, found, name, end) == pytest.approx(3.84, rel=0.05)


@pytest.mark.parametrize(("three", "heuristic", "rule"), [(GROKKING, 0.02, 1.0), (DOUBLE_DESCENT, 0.6, 0.9)])
def test_the_planted_pair_is_told_apart_by_its_ceilings(three: tuple, heuristic: float, rule: float):
    """In units of ten of the time in which they are planted, so that slopes are of those that are looked for; and with
    all pairs overfitted in the end, as the fit has it: it takes the highest training accuracy."""
    time = np.linspace(0.1, 12, 60)
    planted = [one._replace(slope=10 * one.slope, midpoint=one.midpoint / 10) for one in three]
    planted[1] = planted[1]._replace(ceiling=1.0)
    curves = pattern_curves(time, planted, preferred=2, chance=CHANCE)
    found = fit_patterns(AccuracyCurves(time, *curves, 10**5, 10**5, CHANCE), 3, intervals=False)
    assert found.numbers["heuristic_ceiling"] == pytest.approx(heuristic, rel=0.05)
    assert found.numbers["rule_ceiling"] == pytest.approx(rule, rel=0.05)
    assert found.numbers["rule_midpoint"] == pytest.approx(6.0, rel=0.05)
    assert found.refused is None


def test_intervals_cover_what_was_planted():
    """Eight draws of binomial noise and five numbers: of 40 intervals of 95 % two are expected not to hold it, and more
    than six would be a chance of one in a hundred."""
    holds = []
    for seed in range(8):
        curves = seen(two(PLANTED), seed)
        found = fit_patterns(curves, 2, intervals=False)
        assert found.refused is None
        holds += [
            profile_misfit(curves, 2, found, name, value) <= 3.84 for name, value in zip(NAMES[2], PLANTED, strict=True)
        ]
        assert profile_misfit(curves, 2, found, "rule_midpoint", 7.2) > 3.84
    assert sum(holds) >= 34


def test_two_patterns_that_swap_are_refused():
    """A heuristic that generalizes no better than chance and reaches as far is a second overfitting pattern."""
    numbers = np.array([0.98, 6.0, 7.5, 3.0, 4.0, 1.0, 6.0, 5.0, CHANCE])
    found = fit_patterns(seen(fitted(3, numbers, LOG_STEPS, 1.0, CHANCE)), 3, intervals=False)
    assert "swap" in str(found.refused)


def test_a_pattern_too_many_is_refused():
    found = fit_patterns(seen(two(PLANTED), 0), 3, intervals=False)
    assert found.refused is not None


def test_nothing_learned_is_refused():
    """The negative control: curves at chance."""
    flat = np.full_like(LOG_STEPS, CHANCE)
    found = fit_patterns(seen(PatternCurves(flat, flat), 0), 2, intervals=False)
    assert found.refused is not None


def test_runs_tell_how_many_patterns_there_are():
    def runs(n: int, numbers: np.ndarray) -> list[AccuracyCurves]:
        moved = [numbers + (np.arange(len(numbers)) == 2) * shift for shift in (-0.1, 0.0, 0.1)]
        return [seen(fitted(n, one, LOG_STEPS, 1.0, CHANCE), seed) for seed, one in enumerate(moved)]

    of_two = number_of_patterns(runs(2, PLANTED))
    assert min(of_two, key=of_two.__getitem__) == 2
    of_one = number_of_patterns(runs(1, np.array([0.95, 3.0, 6.0, 0.9])))
    assert min(of_one, key=of_one.__getitem__) == 1


def test_what_cannot_be_is_refused_in_a_line():
    good = seen(two(PLANTED))
    for wrong, n in (
        (good, 4),
        (good._replace(test=good.test + 1), 2),
        (good._replace(log_steps=LOG_STEPS[:5], train=good.train[:5], test=good.test[:5]), 2),
        (good._replace(n_test=0), 2),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]*$"):
            fit_patterns(wrong, n)
    with pytest.raises(ValueError, match="three are needed"):
        number_of_patterns([good, good])
