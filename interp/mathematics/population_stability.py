"""Has a distribution changed? The population stability index, with what it is where nothing has.

With e_b and a_b the shares of the reference and of the new scores in bin b, the bins B deciles of the *reference*,

    PSI = Σ_b (a_b − e_b) ln(a_b/e_b)

the Jeffreys divergence of the binned distributions. Half an example is added to every count on both sides, so that an
empty bin is no infinity, and nothing hangs on a floor that somebody chose. Edges are scores of the reference and not
means of two, so that every increasing function of the scores has the same PSI; equal edges are merged, and of fewer
than three bins there is none (NaN).

PSI has a floor. Of n and m independent scores of one distribution it is about χ²_{B−1}(1/n + 1/m) (Yurdakul 2018): its
mean (B − 1)(1/n + 1/m), its 95 % point χ²_{.95,B−1}(1/n + 1/m), a little less with the half examples. Of 50 and 50 it
is above .2 in three of four cases in which nothing has changed. So a change is *unstable* only where PSI is above .2
and above that point. The same inputs scored twice are paired, and then the point is more than 95 % of no changes
reach: what is called unstable is.

It cannot tell which way scores have moved, nor that they moved within a bin, nor why.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import chi2, kstwobign

REFERENCE = "Yurdakul 2018; Siddiqi 2006 (bands)"
BINS, FEWEST_BINS = 10, 3
SLIGHT, UNSTABLE = 0.1, 0.2  # where the bands begin
LEVEL = 0.95


class Stability(NamedTuple):
    """PSI, in how many bins, and its 95 % point where nothing has changed."""

    psi: float
    bins: int
    chance_95: float


def population_stability(
    reference: Float[np.ndarray, " n"], new: Float[np.ndarray, " m"], bins: int = BINS
) -> Stability:
    """PSI of two sets of scores; NaN for scores that are no numbers, and where ties leave fewer than three bins.

    Raises ValueError for fewer than three bins.

    >>> scores = np.arange(100.0)
    >>> population_stability(scores, scores).psi, round(population_stability(scores, scores + 30).psi, 2)
    (0.0, 1.26)
    """
    if bins < FEWEST_BINS:
        raise ValueError(f"PSI needs at least {FEWEST_BINS} bins, got {bins}")
    if not len(reference) or not len(new) or not (np.isfinite(reference).all() and np.isfinite(new).all()):
        return Stability(math.nan, 0, math.nan)
    edges = np.unique(np.quantile(reference, np.arange(1, bins) / bins, method="inverted_cdf"))
    edges = edges[edges < reference.max()]  # above it there would be a bin that the reference cannot be in
    n_bins = len(edges) + 1
    if n_bins < FEWEST_BINS:
        return Stability(math.nan, n_bins, math.nan)
    expected, actual = (_shares(scores, edges) for scores in (reference, new))
    psi = float(((actual - expected) * np.log(actual / expected)).sum())
    return Stability(psi, n_bins, psi_by_chance(n_bins, len(reference), len(new)).chance_95)


def _shares(scores: Float[np.ndarray, " n"], edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " bins"]:
    counts: Int[np.ndarray, " bins"] = np.bincount(np.searchsorted(edges, scores), minlength=len(edges) + 1)
    return (counts + 0.5) / (len(scores) + len(counts) / 2)


class PsiByChance(NamedTuple):
    """The mean and the 95 % point of PSI where nothing has changed."""

    mean: float
    chance_95: float


def psi_by_chance(bins: int, n: int, m: int) -> PsiByChance:
    """What PSI comes to in so many bins for n and m independent scores of one distribution.

    >>> [round(value, 3) for value in psi_by_chance(10, 100, 100)]
    [0.18, 0.338]
    """
    scale = 1 / n + 1 / m
    return PsiByChance((bins - 1) * scale, float(chi2.ppf(LEVEL, bins - 1)) * scale)


def ks_chance_95(n: int, m: int) -> float:
    """The 95 % point of the two-sided KS of n and m independent scores of one distribution, for many of them.

    >>> round(ks_chance_95(200, 200), 4)
    0.1358
    """
    return float(kstwobign.ppf(LEVEL)) * math.sqrt(1 / n + 1 / m)


def band(psi: float, chance_95: float) -> str:
    """Stable, slight, or unstable; a PSI above .2 that does not pass its 95 % point is not told from chance.

    >>> band(0.05, 0.02), band(0.15, 0.02), band(0.25, 0.02), band(0.25, 0.3), band(math.nan, math.nan)
    ('stable', 'slight', 'unstable', 'not told from chance', 'unknown')
    """
    if math.isnan(psi):
        return "unknown"
    if psi > UNSTABLE:
        return "unstable" if psi > chance_95 else "not told from chance"
    return "slight" if psi > SLIGHT else "stable"
