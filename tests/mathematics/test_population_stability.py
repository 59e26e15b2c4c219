"""The population stability index: closed forms, its floor where nothing changes, invariances, ties."""

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm

from interp.mathematics.population_stability import band, ks_chance_95, population_stability, psi_by_chance

QUANTILES = norm.ppf((np.arange(100_000) + 0.5) / 100_000)


@pytest.mark.parametrize(("mu", "printed"), [(0.25, 0.0598), (0.5, 0.2377), (1.0, 0.9261), (2.0, 3.3126)])
def test_a_gaussian_that_is_shifted(mu: float, printed: float) -> None:
    """The integral over each decile of the reference, and below the limit of infinitely many bins, μ²."""
    edges = np.concatenate([[-np.inf], norm.ppf(np.arange(1, 10) / 10), [np.inf]])
    shares = np.diff(norm.cdf(edges - mu))
    exact = ((shares - 0.1) * np.log(shares / 0.1)).sum()
    found = population_stability(QUANTILES, QUANTILES + mu).psi
    assert found == pytest.approx(exact, rel=1e-3)
    assert found == pytest.approx(printed, abs=2e-3)
    assert found < mu**2
    if mu < 2:  # there outer bins are still too wide
        assert population_stability(QUANTILES, QUANTILES + mu, bins=1000).psi == pytest.approx(mu**2, rel=0.02)


@pytest.mark.parametrize(
    ("n", "mean", "point", "above"), [(50, 0.31, 0.583, 0.75), (100, 0.168, 0.322, 0.29), (500, 0.0354, 0.0665, 0.0)]
)
def test_where_nothing_has_changed(n: int, mean: float, point: float, above: float) -> None:
    """Of 50 scores three of four unchanged networks have a PSI above .2: the band alone means nothing there."""
    random = np.random.default_rng(0)
    found = [population_stability(*random.normal(size=(2, n))) for _ in range(1500)]
    psi = np.array([one.psi for one in found])
    assert psi.mean() == pytest.approx(mean, rel=0.06)
    assert np.quantile(psi, 0.95) == pytest.approx(point, rel=0.09)
    assert (psi > 0.2).mean() == pytest.approx(above, abs=0.04)
    called = np.mean([band(one.psi, one.chance_95) == "unstable" for one in found])
    assert called <= 0.05  # χ² is a little above what half an example in every bin leaves
    by_chance = psi_by_chance(10, n, n)
    assert by_chance.mean == pytest.approx(18 / n)
    assert by_chance.chance_95 == pytest.approx(16.919 * 2 / n, rel=1e-4)
    assert psi.mean() < by_chance.mean


def test_the_same_scores_and_increasing_functions_of_them() -> None:
    random = np.random.default_rng(1)
    one, other = random.normal(size=(2, 333))
    assert population_stability(one, one).psi == 0
    assert population_stability(one, random.permutation(one)).psi == 0
    found = population_stability(one, other + 0.4)
    assert population_stability(np.exp(2 * one), np.exp(2 * (other + 0.4))).psi == found.psi
    assert found.psi > 0


def test_an_empty_bin_is_no_infinity() -> None:
    one = np.arange(100.0)
    far = population_stability(one, one + 1000)
    shares = np.array([0.5] * 9 + [100.5]) / 105
    assert far.psi == pytest.approx(((shares - 0.1) * np.log(shares / 0.1)).sum())


def test_ties_leave_fewer_bins() -> None:
    three = np.repeat([1.0, 2.0, 3.0], 20)
    assert population_stability(three, three)[:2] == (0.0, 3)
    saturated = np.r_[np.ones(95), np.zeros(5)]
    found = population_stability(saturated, saturated)
    assert math.isnan(found.psi)
    assert found.bins < 3
    assert math.isnan(population_stability(np.array([np.nan, 1.0]), one := np.ones(2)).psi)
    assert math.isnan(population_stability(np.empty(0), one).psi)
    with pytest.raises(ValueError, match="at least 3 bins, got 2"):
        population_stability(three, three, bins=2)


def test_the_95_percent_point_of_ks() -> None:
    random = np.random.default_rng(0)
    found = [ks_2samp(*random.normal(size=(2, 400)), method="asymp").statistic for _ in range(800)]
    assert np.mean(np.array(found) > ks_chance_95(400, 400)) == pytest.approx(0.05, abs=0.02)
