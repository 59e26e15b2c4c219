"""Where a curve bends: the kinks of the continuous piecewise linear curve that fits it best.

The curve is resampled to an even grid, because the fit (`ruptures`: Dynp with the cost "clinear", Truong et al. 2020,
arXiv:1801.00718) knows no other; its lines run through the curve at the kinks. Step-like costs cut ramps where nothing
happens. Of how many kinks a curve has the Bayesian information criterion decides, n ln(squared error/n) + 2·kinks·ln n,
n the points of the curve, at most those of the grid: a straight line with noise has none. It presumes independent
errors, which a smooth curve does not have: where that bends gently, kinks are still found.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

FEWEST_POINTS = 12
GRID = 61
WORST_FIT = 0.25
ERROR_FACTOR = 1.5
_SHORTEST = 3  # grid steps between kinks: what the cost asks for
_ROUNDING = 1e-12  # an error no larger is none


class Kinks(NamedTuple):
    """The kinks of a curve: their positions; from where to where each may lie; and the slopes between them."""

    positions: Float[np.ndarray, " kink"]
    intervals: Float[np.ndarray, "kink 2"]
    slopes: Float[np.ndarray, " kink_and_one"]


def kinks(
    steps: Num[np.ndarray, " point"], values: Num[np.ndarray, " point"], count: int, start: float, end: float
) -> Kinks | None:
    """The kinks of a curve (NaN where unknown) between two steps, `count` at most, and as many as the information
    criterion says.

    The interval of a kink is that of the positions at which, the other kinks staying, the squared error is at most
    1.5 times the least, and one point of the curve or of the grid more. None: fewer than 12 points, a curve without
    variation, or one of which the lines leave more than a quarter of the variance unexplained.
    """
    from ruptures import Dynp
    from ruptures.costs import CostCLinear

    inside = np.isfinite(values) & (steps >= start) & (steps <= end)
    if inside.sum() < FEWEST_POINTS or np.ptp(values[inside]) == 0:
        return None
    steps, values = steps[inside].astype(np.float64), values[inside]
    grid = np.linspace(steps[0], steps[-1], GRID)
    resampled = np.interp(grid, steps, values)
    resampled = (resampled - np.mean(resampled)) / np.std(resampled)
    cost = CostCLinear()
    search = Dynp(custom_cost=cost, min_size=_SHORTEST, jump=1).fit(resampled[:, None])
    n = min(len(values), GRID)

    def error(left: int, right: int) -> float:
        return float(cost.error(left, right))

    def criterion(fewer: int) -> tuple[float, list[int], float]:
        edges = [0, *(search.predict(fewer) if fewer else [GRID])]
        least = sum(map(error, edges[:-1], edges[1:]))
        return n * math.log(max(least, _ROUNDING) / GRID) + 2 * fewer * math.log(n), edges, least

    _, edges, least = min((criterion(fewer) for fewer in range(count + 1)), key=lambda found: found[0])
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
    at = np.array([edge - 1 for edge in edges[1:-1]])
    corners = np.array([0, *at, GRID - 1])
    return Kinks(grid[at], np.array(intervals).reshape(-1, 2), np.diff(resampled[corners]) / np.diff(grid[corners]))


def _widened(steps: np.ndarray, grid: np.ndarray, index: int, direction: int) -> float:
    """One grid step further, and on to the next point of the curve."""
    further = grid[np.clip(index + direction, 0, len(grid) - 1)]
    beyond = steps[steps <= further][-1:] if direction < 0 else steps[steps >= further][:1]
    return float(beyond[0]) if len(beyond) else float(further)
