"""Patterns: what one and two come to, every order of theirs, and the planted pair of grokking and double descent."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics.pattern_learning import (
    DOUBLE_DESCENT,
    GROKKING,
    Pattern,
    pattern_curves,
    three_patterns,
)

TIME = np.linspace(0, 120, 2401)
ONE, OTHER, THIRD = Pattern(0.9, 1.0, 5.0, 0.8), Pattern(0.6, 0.5, 9.0, 0.1), Pattern(1.0, 0.3, 50.0, 1.0)


def test_one_pattern_is_itself():
    curves = pattern_curves(TIME, [ONE])
    learned = 0.9 / (1 + np.exp(-(TIME - 5.0)))
    assert_allclose(curves.train, learned)
    assert_allclose(curves.test, 0.8 * learned)
    guessing = pattern_curves(TIME, [ONE], chance=0.25)
    assert_allclose(guessing.test, 0.8 * learned + 0.25 * (1 - learned))


def test_two_are_learned_each_by_itself():
    curves = pattern_curves(TIME, [ONE, OTHER], preferred=0)
    p, q = ONE.learned(TIME), OTHER.learned(TIME)
    assert_allclose(curves.train, 1 - (1 - p) * (1 - q))
    assert_allclose(curves.test, 0.8 * p + 0.1 * (1 - p) * q)
    assert_allclose(pattern_curves(TIME, [ONE, OTHER]).test, 0.8 * p * (1 - q) + 0.1 * (1 - p) * q + 0.45 * p * q)


def test_the_order_of_patterns_is_nothing():
    first = pattern_curves(TIME, [ONE, OTHER, THIRD], preferred=2, chance=0.1)
    for order in ([2, 0, 1], [1, 2, 0]):
        patterns = [(ONE, OTHER, THIRD)[place] for place in order]
        again = pattern_curves(TIME, patterns, preferred=order.index(2), chance=0.1)
        assert_allclose(again.train, first.train)
        assert_allclose(again.test, first.test)


def test_a_pattern_that_nothing_has_changes_nothing():
    with_it = pattern_curves(TIME, [ONE, Pattern(0.0, 1.0, 3.0, 1.0)], preferred=1)
    assert_allclose(with_it.test, pattern_curves(TIME, [ONE]).test)


def test_drawing_examples_gives_the_curves():
    """A slow second implementation: examples that learn each pattern or not."""
    random, n = np.random.RandomState(0), 100_000
    time = np.array([8.0])
    has = random.uniform(size=(n, 3)) < [float(one.learned(time)[0]) for one in (ONE, OTHER, THIRD)]
    right = np.array([0.8, 0.1, 1.0])
    chances = (has * right).sum(1) / np.maximum(has.sum(1), 1)
    curves = pattern_curves(time, [ONE, OTHER, THIRD])
    assert_allclose(curves.train, has.any(1).mean(), atol=0.005)
    assert_allclose(curves.test, chances.mean(), atol=0.005)


def test_grokking_and_double_descent_differ_in_two_ceilings():
    grokking, descent = (pattern_curves(TIME, three, preferred=2) for three in (GROKKING, DOUBLE_DESCENT))
    assert TIME[(grokking.train > 0.99).argmax()] == pytest.approx(22.8, abs=0.05)
    assert grokking.test[TIME < 45].max() < 0.04
    assert TIME[(grokking.test > 0.9 * grokking.test[-1]).argmax()] == pytest.approx(67.2, abs=0.1)
    early, middle = TIME < 20, (TIME > 20) & (TIME < 60)
    assert descent.test[early].max() == pytest.approx(0.554, abs=1e-3)
    assert descent.test[middle].min() == pytest.approx(0.299, abs=1e-3)
    assert descent.test[-1] == pytest.approx(0.930, abs=1e-3)
    assert [a[1:] for a in GROKKING] == [b[1:] for b in DOUBLE_DESCENT]
    slight = pattern_curves(TIME, three_patterns(0.1, 1.0), preferred=2).test
    assert [slight[early].max(), slight[middle].min()] == pytest.approx([0.093, 0.067], abs=1e-3)


def test_what_cannot_be_is_refused_in_a_line():
    for patterns, preferred in (([], None), ([ONE] * 11, None), ([ONE], 1), ([ONE], -1)):
        with pytest.raises(ValueError, match=r"^[^\n]*$"):
            pattern_curves(TIME, patterns, preferred=preferred)
