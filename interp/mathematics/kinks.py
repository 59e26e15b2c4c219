"""Where a curve bends: the kinks of the continuous piecewise linear curve that fits it best.

Of how many kinks a curve has a Bayesian information criterion decides, n ln(squared error) + 3·kinks·ln n (3 for each,
its place being searched for, after Zhang & Siegmund 2007, Biometrics 63, 22-32), of least squares over its points; n of
them, counted as no more than those of the grid. A straight line with noise has none: of 200, 24 % were given one with
10 points, 17 % with 12, 6 % with 20, which is why no boundary rests on one curve. It presumes independent errors, which
a smooth curve does not have: where that bends gently, kinks are still found. And what leaves less than a ten thousandth
of the variance is no bend.

For their places the curve is resampled to an even grid, because that fit (`ruptures`: Dynp with the cost "clinear",
Truong et al. 2020, arXiv:1801.00718) knows no other; its lines run through the curve at the kinks, which is why its
error cannot count them: a line through two noisy points is always bettered. Step-like costs cut ramps where nothing
happens.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

FEWEST_POINTS = 10
GRID = 61
WORST_FIT = 0.25
ERROR_FACTOR = 1.5
_SHORTEST = 3  # grid steps between kinks: what the cost asks for
_FINER = 4  # so many places of a kink in a grid step, where kinks are counted
_LEAST_ERROR = 1e-4  # of the variance: about what is left where a kink lies half such a place beside one


class Kinks(NamedTuple):
    """The kinks of a curve: their positions; from where to where each may lie; and the slopes between them."""

    positions: Float[np.ndarray, " kink"]
    intervals: Float[np.ndarray, "kink 2"]
    slopes: Float[np.ndarray, " kink_and_one"]


def kinks(
    steps: Num[np.ndarray, " point"], values: Num[np.ndarray, " point"], count: int, start: float, end: float
) -> Kinks | None:
    """The kinks of a curve (NaN where unknown) between two steps, `count` at most (1 or 2), and as many as the
    information criterion says.

    The interval of a kink is that of the positions at which, the other kinks staying, the squared error is at most
    1.5 times the least, and one point of the curve or of the grid more. None: fewer than 10 points, a curve without
    variation, or one of which the lines leave more than a quarter of the variance unexplained.
    """
    from ruptures import Dynp
    from ruptures.costs import CostCLinear

    inside = np.isfinite(values) & (steps >= start) & (steps <= end)
    if inside.sum() < FEWEST_POINTS or np.ptp(values[inside]) == 0:
        return None
    steps, values = steps[inside].astype(np.float64), values[inside].astype(np.float64)
    grid = np.linspace(steps[0], steps[-1], GRID)
    resampled = np.interp(grid, steps, values)
    resampled = (resampled - np.mean(resampled)) / np.std(resampled)
    cost = CostCLinear()

    def error(left: int, right: int) -> float:
        return float(cost.error(left, right))

    search = Dynp(custom_cost=cost, min_size=_SHORTEST, jump=1).fit(resampled[:, None])
    found = how_many(steps, values, count)
    edges = [0, *(search.predict(found) if found else [GRID])]
    least = sum(map(error, edges[:-1], edges[1:]))
    if least > WORST_FIT * GRID:
        return None
    intervals = []
    for left, best, right in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        elsewhere = least - error(left, best) - error(best, right)
        near = [
            at
            for at in range(left + _SHORTEST, right - _SHORTEST + 1)
            if at == best or elsewhere + error(left, at) + error(at, right) <= ERROR_FACTOR * least
        ]
        intervals.append([_widened(steps, grid, near[0] - 1, -1), _widened(steps, grid, near[-1] - 1, 1)])
    at = np.array(edges[1:-1], dtype=int) - 1
    corners = np.array([0, *at, GRID - 1])
    return Kinks(grid[at], np.array(intervals).reshape(-1, 2), np.diff(resampled[corners]) / np.diff(grid[corners]))


def how_many(steps: Float[np.ndarray, " point"], values: Float[np.ndarray, " point"], most: int) -> int:
    """How many kinks a curve has, by the information criterion: 0, 1 or 2, and no more than `most`.

    >>> steps = np.linspace(0, 1, 41)
    >>> [how_many(steps, values, 2) for values in (steps, abs(steps - 0.3), abs(abs(steps - 0.5) - 0.3))]
    [0, 1, 2]
    """
    n = min(len(steps), GRID)
    errors = np.maximum(_least_errors(steps, values)[: most + 1], _LEAST_ERROR)
    return int(np.argmin(n * np.log(errors) + 3 * np.arange(len(errors)) * math.log(n)))


def _least_errors(steps: Float[np.ndarray, " point"], values: Float[np.ndarray, " point"]) -> Float[np.ndarray, " 3"]:
    """The squared error of the best fit without a kink, with one and with two, beside the variance. Of all places at
    once, by the normal equations of what is left of the kinks and of the curve without their straight lines."""
    time = (steps - steps[0]) / (steps[-1] - steps[0])
    shortest = _SHORTEST * _FINER
    places = np.linspace(0, 1, (GRID - 1) * _FINER + 1)[shortest - _FINER : 1 - shortest]
    lines = np.linalg.qr(np.stack([np.ones_like(time), time], axis=1))[0]

    def bent(columns: np.ndarray) -> np.ndarray:
        return columns - lines @ (lines.T @ columns)

    curve, hinges = bent(values[:, None])[:, 0], bent(np.maximum(time[:, None] - places, 0))
    straight = float(curve @ curve)
    gram, along = hinges.T @ hinges, hinges.T @ curve
    size = gram.diagonal()
    is_told = size > 1e-9 * size.max()  # some point lies beyond the kink
    one = np.max(along[is_told] ** 2 / size[is_told], initial=0.0)
    i, j = np.triu_indices(len(places), shortest)
    determinant = size[i] * size[j] - gram[i, j] ** 2
    is_told = determinant > 1e-9 * size.max() ** 2  # and one between the two
    i, j, determinant = i[is_told], j[is_told], determinant[is_told]
    explained = along[i] ** 2 * size[j] + along[j] ** 2 * size[i] - 2 * along[i] * along[j] * gram[i, j]
    two = np.max(explained / determinant, initial=one)
    return np.array([straight, straight - one, straight - two]) / np.square(values - values.mean()).sum()


def _widened(steps: np.ndarray, grid: np.ndarray, index: int, direction: int) -> float:
    """One grid step further, and on to the next point of the curve."""
    further = grid[np.clip(index + direction, 0, len(grid) - 1)]
    beyond = steps[steps <= further][-1:] if direction < 0 else steps[steps >= further][:1]
    return float(beyond[0]) if len(beyond) else float(further)
