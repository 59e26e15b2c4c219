"""Where a curve over training sizes passes a level, D_crit; and the one number that several seeds come to.

D_crit is read in log D, between two neighbors by a straight line, of each seed by itself: the mean of curves that lie
apart is less steep than each of them. Sizes and their ratios are put together by their logarithms: the geometric mean,
with Student's interval over seeds.
"""

import numpy as np
from jaxtyping import Float, Real

from interp.mathematics.intervals import COVERAGE, level_crossing, seed_interval


def critical_size(
    sizes: Real[np.ndarray, " size"], values: Float[np.ndarray, " size"], level: float = 0.0, *, rising: bool = True
) -> float:
    """The D at which a curve first passes `level` upwards (or downwards) and stays beyond it; NaN where it does not.

    >>> round(critical_size(np.array([100, 400]), np.array([0.2, 0.8]), 0.5), 6)
    200.0
    """
    return float(np.exp(level_crossing(np.log(sizes), values, level, rising=rising)))


def geometric_mean(values: Float[np.ndarray, " seed"]) -> float:
    """NaN where one of them is.

    >>> round(geometric_mean(np.array([100.0, 400.0])), 6)
    200.0
    """
    return float(np.exp(np.log(values).mean()))


def geometric_interval(values: Float[np.ndarray, " seed"], coverage: float = COVERAGE) -> tuple[float, float]:
    """Student's interval over seeds of the geometric mean of positive values; NaN where one of them is, and of fewer
    than two.

    >>> low, high = geometric_interval(np.array([180.0, 200.0, 220.0]))
    >>> round(low), round(high)
    (155, 256)
    """
    low, high = seed_interval(
        len(values), lambda seeds: geometric_mean(values[seeds]), coverage=coverage, positive=True
    )
    return float(low), float(high)


def of_several(n: int) -> float:
    """The coverage of each of n intervals that all cover together in 95 % of the cases, at least (Bonferroni).

    >>> round(of_several(5), 6)
    0.99
    """
    return 1 - (1 - COVERAGE) / n
