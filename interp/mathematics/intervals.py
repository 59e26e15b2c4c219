"""How sure a number over a few seeds is: Student's t, by the jackknife for what is no mean; and where a curve crosses a
level, and its slope.

Seeds are few (3, 5, 10). There a percentile bootstrap is too narrow: the interval of a mean that it calls 95 % holds
the true mean 76 % of the time at n = 3. Student's t holds it 95 % of the time for normal values, whatever n; what it
holds for others is measured by `benchmarks/coverage.py`. For a statistic θ that is no mean, with θ₋ᵢ that of all seeds
but i, the pseudo-values (Tukey 1958)

    θᵢ = n θ − (n − 1) θ₋ᵢ

take the place of the values of the seeds: the interval is θ ± t(n − 1)·s(θᵢ)/√n. For a linear statistic they are the
values of the seeds, and the interval is exactly Student's. A seed is left out everywhere at once, so what seeds have in
common within a grid is accounted for.

It cannot tell what the seeds do not show: equal values have an interval without width, however coarsely they are known.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

COVERAGE = 0.95


def level_crossing(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], level: float = 0.0, *, rising: bool = True
) -> float:
    """The x at which y first passes `level` upwards (or downwards) and stays beyond it to the end, between two
    neighbors, by a straight line; NaN where y is on one side throughout or ends on the wrong one. Points that are NaN
    are left out.

    >>> level_crossing(np.array([0.0, 1.0, 2.0]), np.array([-1.0, -1.0, 3.0]))
    1.25
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], (y[known] - level) * (1 if rising else -1)
    below = np.flatnonzero(y < 0)
    if not len(below) or below[-1] == len(y) - 1:
        return math.nan
    left = int(below[-1])
    return float(x[left] + (x[left + 1] - x[left]) * -y[left] / (y[left + 1] - y[left]))


def slope(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], *, complete: bool = False) -> float:
    """The slope of the least-squares line through the known points; NaN for fewer than two different x, and, where it
    has to be `complete`, for a point that is not known.

    >>> round(slope(np.array([0.0, 1.0, 2.0]), np.array([1.0, np.nan, 5.0])), 12)
    2.0
    """
    known = np.isfinite(x) & np.isfinite(y)
    if len(set(x[known])) < 2 or (complete and not known.all()):
        return math.nan
    return float(np.polyfit(x[known], y[known], 1)[0])


def seed_interval(
    n: int, statistic: Callable[[list[int]], ArrayLike], *, coverage: float = COVERAGE, positive: bool = False
) -> Float[np.ndarray, "2 *point"]:
    """The lower and the upper end of the interval of a statistic over n seeds, a number or an array of them, each by
    itself. `statistic` is given the indices of the seeds that have a say. With `positive`, for times, sizes and
    factors, the interval is that of its logarithm, exponentiated.

    NaN for n < 2, as one seed says nothing of others, and where the statistic is not known for all of the seeds or for
    all but one of them.

    >>> heights = np.array([1.0, 2.0, 6.0])
    >>> seed_interval(3, lambda seeds: heights[seeds].mean()).round(3).tolist()
    [-3.572, 9.572]
    >>> [round(float(end), 3) for end in stats.ttest_1samp(heights, 0).confidence_interval()]
    [-3.572, 9.572]
    """
    everyone = list(range(n))
    with np.errstate(invalid="ignore", divide="ignore"):
        of_all = np.asarray(statistic(everyone), dtype=np.float64)
        of_all = np.log(of_all) if positive else of_all
        if n < 2:
            return np.full((2, *of_all.shape), np.nan)
        without = np.array([statistic(everyone[:seed] + everyone[seed + 1 :]) for seed in everyone], dtype=np.float64)
        pseudo = n * of_all - (n - 1) * (np.log(without) if positive else without)
        # ± infinity has no place between finite numbers: what it is to be is not known.
        pseudo[~np.isfinite(pseudo)] = np.nan
        half = stats.t.ppf((1 + coverage) / 2, n - 1) * pseudo.std(0, ddof=1) / math.sqrt(n)
        ends = np.stack([of_all - half, of_all + half])
        return np.exp(ends) if positive else ends


def mean_interval(
    values: Float[np.ndarray, "point seed"], *, coverage: float = COVERAGE
) -> Float[np.ndarray, "2 point"]:
    """Student's interval of the mean of what is known at each point; NaN where fewer than two seeds are known.

    >>> mean_interval(np.array([[1.0, 2.0, 6.0], [1.0, np.nan, np.nan]])).round(3).tolist()
    [[-3.572, nan], [9.572, nan]]
    """
    known = np.isfinite(values)
    n = known.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(1) / n
        variance = np.where(known, (values - mean[:, None]) ** 2, 0).sum(1) / (n - 1)
        half = stats.t.ppf((1 + coverage) / 2, n - 1) * np.sqrt(variance / n)
    return np.where(n > 1, [mean - half, mean + half], np.nan)


def wilson_interval(successes: int, n: int, *, coverage: float = COVERAGE) -> tuple[float, float]:
    """Wilson's interval of a share, from so many successes of n independent tries: the shares q from which the observed
    one is less than z standard errors √(q(1 − q)/n) away; NaN of none (Wilson 1927).

    >>> [round(end, 3) for end in wilson_interval(50, 50)], wilson_interval(0, 0)
    ([0.929, 1.0], (nan, nan))
    """
    if not n:
        return math.nan, math.nan
    found = stats.binomtest(successes, n).proportion_ci(coverage, method="wilson")
    return float(found.low), float(found.high)
