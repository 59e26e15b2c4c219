"""Least norm, ridge and gradient descent against slow second ways, exact expectations and their limits."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from interp.mathematics.double_descent import shape
from interp.mathematics.least_squares import gradient_descent_risk, least_norm_risk, ridge


@pytest.mark.parametrize(("n", "d"), [(20, 8), (8, 20), (12, 12)])
def test_ridge_solves_its_equations(n: int, d: int):
    """(XᵀX + λ) B = Xᵀ Y, and for λ = 0 numpy's solution of least norm."""
    generator = np.random.default_rng(n)
    x, y = generator.normal(size=(n, d)), generator.normal(size=(n, 3))
    penalties = np.array([0.0, 0.1, 10.0])
    found = ridge(x, y, penalties)
    assert_allclose(found[0], np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-9, atol=1e-12)
    for penalty, solution in zip(penalties[1:], found[1:], strict=True):
        assert_allclose((x.T @ x + penalty * np.eye(d)) @ solution, x.T @ y, rtol=1e-9, atol=1e-9)


def test_more_penalty_is_less_norm_and_more_error():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(10, 15)), generator.normal(size=(10, 1))
    found = ridge(x, y, np.array([0.0, 0.01, 1.0, 100.0]))
    assert (np.diff(np.linalg.norm(found[:, :, 0], axis=1)) < 0).all()
    assert (np.diff([np.square(x @ one - y).sum() for one in found]) > 0).all()
    assert np.abs(x @ found[0] - y).max() < 1e-12


def test_directions_that_only_rounding_tells_apart_are_left_alone():
    x = np.repeat(np.random.default_rng(0).normal(size=(6, 2)), 3, axis=1)  # rank 2
    found = ridge(x, np.ones((6, 1)), np.zeros(1))[0, :, 0]
    assert_allclose(found, np.linalg.pinv(x) @ np.ones(6), rtol=1e-9)
    assert np.abs(found).max() < 10


@pytest.mark.parametrize("p", [10, 20, 30, 60, 80, 100])
def test_least_norm_errs_by_what_it_is_expected_to(p: int):
    """n = 40, p of 100 features, away from the peak, near which a mean has heavy tails: within 4 standard errors."""
    generator = np.random.default_rng(p)
    beta = generator.normal(size=100)
    beta /= np.linalg.norm(beta)
    risks = []
    for _ in range(200):
        x = generator.normal(size=(40, 100))
        y = x @ beta + 0.5 * generator.normal(size=40)
        estimate = np.zeros(100)
        estimate[:p] = ridge(x[:, :p], y[:, None], np.zeros(1))[0, :, 0]
        risks.append(np.square(estimate - beta).sum() + 0.25)
    inside = float(np.square(beta[:p]).sum())
    expected = least_norm_risk(40, p, fitted=inside, left_out=1 - inside, noise=0.25)
    assert abs(np.mean(risks) - expected) < 4 * np.std(risks, ddof=1) / math.sqrt(len(risks))
    assert np.std(risks, ddof=1) / math.sqrt(len(risks)) < 0.1 * expected  # close enough to tell


@pytest.mark.parametrize("many", [4, 5, 12])
def test_the_risk_of_one_feature_or_one_example_has_the_mean_of_an_inverse_chi_squared(many: int):
    """With no signal, noise of the variance 1 adds E 1/χ² of it, by integration."""
    mean = stats.chi2(many).expect(lambda value: 1 / value)
    assert least_norm_risk(1, many, fitted=0.0, left_out=0.0, noise=1.0) == pytest.approx(1 + mean, rel=1e-6)
    assert least_norm_risk(many, 1, fitted=0.0, left_out=0.0, noise=1.0) == pytest.approx(1 + mean, rel=1e-6)


def test_the_exact_risk_is_a_double_descent_around_p_equals_n():
    """Infinite at n − 1 … n + 1, and in the limit of many features nothing but the signal and the noise."""
    beta2 = 1 / 100
    risk = [least_norm_risk(40, p, fitted=p * beta2, left_out=1 - p * beta2, noise=0.05) for p in range(1, 101)]
    assert [p for p in range(1, 101) if math.isinf(risk[p - 1])] == [39, 40, 41]
    assert (np.diff(risk[10:38]) > 0).all()
    assert (np.diff(risk[41:70]) < 0).all()
    assert least_norm_risk(40, 10**9, fitted=1.0, left_out=0.0, noise=0.05) == pytest.approx(1.05, abs=1e-6)


def test_the_risk_of_gradient_descent_is_that_of_its_steps():
    """Against gradient descent itself, over 3,000 draws of the noise, with test inputs of another covariance."""
    generator = np.random.default_rng(0)
    n, d, lr, sigma = 30, 12, 0.3, 0.7
    x = generator.normal(size=(n, d)) * np.linspace(0.2, 1.0, d)
    beta, covariance = generator.normal(size=d), np.linspace(0.5, 2.0, d)
    y = (x @ beta)[:, None] + sigma * generator.normal(size=(n, 3000))
    estimate, steps = np.zeros((d, 3000)), np.array([0, 1, 3, 40])
    expected = gradient_descent_risk(x, beta, steps, lr=lr, noise=sigma**2, covariance=covariance)
    for step in range(41):
        if step in steps:
            risks = sigma**2 + covariance @ np.square(estimate - beta[:, None])
            error = np.std(risks) / math.sqrt(3000)
            assert abs(risks.mean() - expected[steps == step][0]) <= 4 * error + 1e-12
        estimate = estimate - lr / n * x.T @ (x @ estimate - y)


def test_in_the_end_gradient_descent_is_least_norm():
    """With more features than examples, where modes without curvature keep what they began with: nothing."""
    generator = np.random.default_rng(1)
    x, beta = generator.normal(size=(10, 25)), generator.normal(size=25)
    found = gradient_descent_risk(x, beta, np.array([10**7]), lr=0.2, noise=0.5)[0]
    inverse = np.linalg.pinv(x)
    rest = beta - inverse @ x @ beta
    assert found == pytest.approx(0.5 + rest @ rest + 0.5 * np.square(inverse).sum(), rel=1e-9)


def test_a_rate_that_diverges_is_refused():
    with pytest.raises(ValueError, match="lr 2 times the largest curvature 1 is 2 or more"):
        gradient_descent_risk(np.ones((4, 1)), np.ones(1), np.array([1]), lr=2.0, noise=1.0)


def test_directions_that_are_learned_in_turn_make_a_double_descent_over_steps_and_one_group_does_not():
    steps = np.unique(np.geomspace(1, 1e4, 25).round().astype(int))
    steps = np.concatenate([[0], steps])
    generator = np.random.default_rng(0)

    def curves(slow: float) -> np.ndarray:
        scale = np.concatenate([np.ones(60), np.full(10, slow)])
        beta = np.concatenate([np.full(60, math.sqrt(6 / 60)), np.full(10, math.sqrt(3 / 10)) / slow])
        found = []
        for _ in range(5):
            x = generator.normal(size=(100, 70)) * scale
            lr = 1 / np.linalg.eigvalsh(x.T @ x / 100)[-1]
            found.append(gradient_descent_risk(x, beta, steps, lr=lr, noise=1.0, covariance=scale**2))
        return np.stack(found, axis=1)

    in_turn, at_once = shape(curves(0.1)), shape(curves(1.0))
    assert in_turn.kind == "double descent"
    assert at_once.kind == "U-shaped"
