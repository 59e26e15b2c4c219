"""Where a curve crosses a level or another curve, and how sure that is: interpolation and the bootstrap over seeds.
numpy only."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Interval = tuple[float, float]
DRAWS = 1000


def crossing(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], level: float = 0.0, *, rising: bool = True
) -> float:
    """The x at which y first passes `level` upwards (or downwards) and stays beyond it to the end, between two
    neighbors, by a straight line; NaN where y is on one side throughout or ends on the wrong one. Points that are NaN
    are left out."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], (y[known] - level) * (1 if rising else -1)
    below = np.flatnonzero(y < 0)
    if not len(below) or below[-1] == len(y) - 1:
        return math.nan
    left = int(below[-1])
    return float(x[left] + (x[left + 1] - x[left]) * -y[left] / (y[left + 1] - y[left]))


def bootstrap(
    n: int, statistic: Callable[[list[int]], float], *, draws: int | None = None, coverage: float = 0.95, seed: int = 0
) -> tuple[Interval, float]:
    """The percentile interval of a statistic over `draws` samples (DRAWS, when not given) of n seeds, drawn with
    replacement, and the share of the samples in which it is defined. `statistic` is given the indices of the seeds. The
    interval is NaN for n < 2: one seed says nothing of others."""
    if n < 2:
        return (math.nan, math.nan), math.nan
    generator, draws = np.random.RandomState(seed), draws or DRAWS
    values = np.array([statistic(generator.randint(0, n, size=n).tolist()) for _ in range(draws)])
    known = values[np.isfinite(values)]
    if not len(known):
        return (math.nan, math.nan), 0.0
    low, high = np.quantile(known, [(1 - coverage) / 2, (1 + coverage) / 2])
    return (float(low), float(high)), len(known) / draws


def mean_interval(
    values: Float[np.ndarray, "point seed"], *, coverage: float = 0.95, seed: int = 0
) -> Float[np.ndarray, "2 point"]:
    """The percentile interval of the mean of what is known at each point, over DRAWS samples of its seeds, drawn with
    replacement; NaN where fewer than two seeds are known."""
    generator, interval = np.random.RandomState(seed), np.full((2, len(values)), np.nan)
    for place, row in enumerate(values):
        known = row[np.isfinite(row)]
        if len(known) > 1:
            means = known[generator.randint(0, len(known), size=(DRAWS, len(known)))].mean(1)
            interval[:, place] = np.quantile(means, [(1 - coverage) / 2, (1 + coverage) / 2])
    return interval


def slope(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """The slope of the least-squares line through the known points; NaN for fewer than two different x."""
    known = np.isfinite(x) & np.isfinite(y)
    if len(set(x[known])) < 2:
        return math.nan
    return float(np.polyfit(x[known], y[known], 1)[0])
