"""Lanczos and random probes against matrices whose spectrum is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics.lanczos import lanczos, traces


def symmetric(eigenvalues: np.ndarray, seed: int = 0) -> np.ndarray:
    """A matrix with these eigenvalues in a random basis."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    return basis @ np.diag(eigenvalues) @ basis.T


def test_all_eigenvalues_of_a_small_matrix_each_once() -> None:
    eigenvalues = np.array([-2.0, -0.5, 0.0, 1.0, 1.5, 7.0])
    H, start = symmetric(eigenvalues), np.random.default_rng(1).normal(size=6)
    found = lanczos(lambda vector: H @ vector, start, 6)
    assert_allclose(found.values, eigenvalues, atol=1e-10)
    vectors = np.linalg.eigh(H)[1]
    assert_allclose(found.weights, (vectors.T @ start) ** 2 / (start @ start), atol=1e-10)
    assert found.share_below(-0.1) == pytest.approx((found.weights[:2].sum(),) * 2)


def test_it_ends_where_the_start_knows_no_more() -> None:
    """Three different eigenvalues, of many: three products."""
    H = symmetric(np.repeat([1.0, 2.0, 4.0], 20))
    found = lanczos(lambda vector: H @ vector, np.random.default_rng(2).normal(size=60), 40)
    assert_allclose(found.values, [1, 2, 4], atol=1e-9)
    assert_allclose(found.errors, 0, atol=1e-9)


def test_both_ends_are_bounds_with_an_error_that_holds() -> None:
    eigenvalues = np.sort(np.r_[np.random.default_rng(3).normal(size=400) * 0.1, 8.0, 5.0, -2.0])
    H = symmetric(eigenvalues)
    found = lanczos(lambda vector: H @ vector, np.random.default_rng(4).normal(size=len(eigenvalues)), 20)
    assert eigenvalues[0] - 1e-9 <= found.values[0]
    assert found.values[-1] <= eigenvalues[-1] + 1e-9
    for value, error in zip(found.values, found.errors, strict=True):
        assert np.abs(eigenvalues - value).min() <= error + 1e-9
    assert found.values[-1] == pytest.approx(8.0, abs=1e-8)
    assert found.weights.sum() == pytest.approx(1)


def test_weights_are_shares_of_eigenvalues() -> None:
    """A quarter of 4,000 eigenvalues is −1: the error of one vector is about √(share/n)."""
    eigenvalues = np.repeat([-1.0, 0.0, 3.0], [1000, 2000, 1000])
    found = lanczos(lambda vector: eigenvalues * vector, np.random.default_rng(5).normal(size=4000), 10)
    assert found.share_below(-0.5) == pytest.approx((0.25, 0.25), abs=0.03)


def test_shares_of_few_products_are_bounds() -> None:
    """Of what a vector knows of 300 eigenvalues, wherever the limit; and with more products they close."""
    eigenvalues = np.sort(np.r_[np.random.default_rng(6).normal(size=290) * 0.05, np.linspace(0.5, 8, 10)])
    start = np.random.default_rng(7).normal(size=300)
    weights = start**2 / (start @ start)
    widths = []
    for steps in (8, 30, 90):
        found = lanczos(lambda vector: eigenvalues * vector, start, steps)
        bounds = []
        for limit in np.linspace(-0.3, 9, 200):
            lower, upper = found.share_below(limit)
            bounds.append(upper - lower)
            assert lower - 1e-9 <= weights[eigenvalues < limit].sum() <= upper + 1e-9
        widths.append(max(bounds))
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_traces_lie_within_three_errors_of_the_truth() -> None:
    H, scale = symmetric(np.linspace(-1, 5, 50)), np.random.default_rng(6).normal(size=50)
    for weights, truth in ((np.ones(50), np.trace(H)), (scale, np.trace(np.diag(scale**2) @ H))):
        value, error = traces(lambda vector: H @ vector, weights, 400, np.random.default_rng(7))
        assert abs(value - truth) < 3 * error
        assert error < 0.1 * abs(truth)


def test_the_trace_of_a_diagonal_matrix_has_no_error() -> None:
    diagonal = np.array([3.0, -1.0, 0.5])
    value, error = traces(lambda vector: diagonal * vector, np.ones(3), 5, np.random.default_rng(0))
    assert (value, error) == (pytest.approx(2.5), pytest.approx(0, abs=1e-12))
    assert np.isnan(traces(lambda vector: vector, np.ones(3), 1, np.random.default_rng(0))[1])
