"""Rademacher complexity of classes for which it is known."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from interp.mathematics import rademacher


def test_linear_functions_are_below_their_bound_and_close_to_it():
    """E‖Σσ_i x_i‖ ≤ √(Σ‖x_i‖²) by Jensen, and for Gaussian inputs in many dimensions nearly equal."""
    inputs = np.random.default_rng(0).normal(size=(80, 200))
    found, error = rademacher.linear_complexity(inputs, 3.0, repetitions=10_000)
    bound = rademacher.linear_bound(inputs, 3.0)
    assert found + 3 * error < bound
    assert found > 0.99 * bound
    assert bound == pytest.approx(3 * math.sqrt((inputs**2).sum()) / 80)


def test_linear_functions_of_one_number():
    """Equal inputs 1: E|Σσ_i|/n, exactly."""
    exact = np.mean([abs(sum(signs)) / 9 for signs in itertools.product((-1, 1), repeat=9)])
    found, error = rademacher.linear_complexity(np.ones((9, 1)), 1.0, repetitions=20_000)
    assert abs(found - exact) < 3 * error


def test_massart_holds_for_finite_classes_counted_out():
    rng = np.random.default_rng(1)
    for size in (1, 2, 8, 64):
        values = rng.choice([-1.0, 1.0], (size, 10))
        signs = np.array(list(itertools.product((-1, 1), repeat=10)))
        exact = (signs @ values.T / 10).max(1).mean()
        assert exact <= rademacher.finite_bound(math.log(size), 10) + 1e-12
    every = np.array(list(itertools.product((-1.0, 1.0), repeat=10)))  # shatters: 1; Massart says √(2 ln 2)
    assert (every @ every.T / 10).max(1).mean() == 1


@pytest.mark.parametrize(("n", "d"), [(3, 3), (5, 2), (6, 3), (7, 4)])
def test_as_many_labelings_are_separable_as_cover_counts(n: int, d: int):
    """Each of 2ⁿ labelings of points in general position, tried by a linear program."""
    points = np.random.default_rng(n).normal(size=(n, d))
    separable = 0
    for labels in itertools.product((-1.0, 1.0), repeat=n):
        found = linprog(np.zeros(d), A_ub=-np.array(labels)[:, None] * points, b_ub=-np.ones(n), bounds=(None, None))
        separable += found.status == 0
    assert separable / 2**n == pytest.approx(rademacher.separable_share(n, d), rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_a_hyperplane_shatters_d_points_and_separates_half_of_the_labelings_of_twice_as_many(d: int):
    assert rademacher.separable_share(d, d) == 1
    assert rademacher.separable_share(d + 1, d) < 1
    assert rademacher.separable_share(2 * d, d) == pytest.approx(0.5, rel=1e-12)


def test_memorizing_random_signs_is_all_there_is():
    assert rademacher.from_random_signs(0.0) == 1
    assert rademacher.from_random_signs(0.6) == 0


def test_the_class_of_right_answers_that_can_fit_anything_has_one_half():
    """With values 0 and 1 the supremum is k/n, of k signs +1; in the mean over fair signs ½. The bound is below it by
    what fair signs scatter."""
    n = 400
    changed = np.arange(n) < n // 2
    found = rademacher.from_noisy_labels(~changed, changed)
    assert 0.5 - 0.5 / math.sqrt(n) < found < 0.5


def test_a_network_that_does_not_hear_the_noise_has_a_bound_of_nothing():
    rng = np.random.default_rng(2)
    changed = rng.permutation(np.arange(1000) < 500)
    assert rademacher.from_noisy_labels(np.ones(1000, dtype=bool), changed) == 0
    assert rademacher.from_noisy_labels(rng.random(1000) < 0.7, changed) < 0.03
    with pytest.raises(ValueError, match="200 of 1000 labels were changed; one half is needed"):
        rademacher.from_noisy_labels(np.ones(1000, dtype=bool), np.arange(1000) < 200)


def test_the_imbalance_of_fair_signs_is_that_of_the_normal_distribution():
    assert_allclose(
        [rademacher.imbalance(n) * math.sqrt(n) for n in (500, 2000)], 1 / math.sqrt(2 * math.pi), rtol=1e-3
    )


def test_a_promise_from_one_half_is_none():
    assert rademacher.promised_error(0.0, 0.5, 10**9) >= 1
    assert rademacher.promised_error(0.1, 0.0, 10**9) == pytest.approx(0.1, abs=1e-3)


def test_no_points_are_refused():
    with pytest.raises(ValueError, match="0 points in 3 dimensions"):
        rademacher.separable_share(0, 3)
