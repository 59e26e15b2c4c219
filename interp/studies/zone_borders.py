"""The borders of Huang's zones: D_crit and how wide it is, and in which zone a training set lies."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp.studies.size_crossings import critical_size

LOW, HALF, HIGH = 0.1, 0.5, 0.9  # of held-out accuracy: D_crit is at ½, and as wide as from 10 to 90 %


class Border(NamedTuple):
    """Where held-out accuracy passes 10 %, ½ (D_crit) and 90 %, in pairs; 0 where it is above at all D, infinity where
    below, NaN where seeds do not agree on which."""

    low: float
    critical: float
    high: float


def border(sizes: np.ndarray, accuracy: Float[np.ndarray, "size seed"]) -> Border:
    """Read of each seed by itself; the median of their logarithms.

    >>> found = border(np.array([100, 400]), np.array([[0.2], [0.8]]))
    >>> found.low, round(found.critical), found.high
    (0.0, 200, inf)
    """
    ends = []
    for level in (LOW, HALF, HIGH):
        crossings = []
        for curve in accuracy.T:
            at = critical_size(sizes, curve, level)
            beyond = 0.0 if curve[-1] >= level else math.inf
            crossings.append(at if math.isfinite(at) else beyond)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(crossings)
            ends.append(float(np.exp(np.median(logs))) if not {-math.inf, math.inf} <= {*logs} else math.nan)
    return Border(*ends)


def zone(size: float, facts: float, memory: float, at: Border, sizes: np.ndarray) -> str:
    """The zone of theory at D = `size`: "progression" where its facts are more than the network can memorize; within
    half of the 10 to 90 % width around D_crit "semi-grokking"; below "ungrokking", above "grokking". A border beyond
    the sizes counts as at their end where the width is told.

    >>> sizes, at = np.array([100, 900]), Border(250.0, 300.0, 370.0)
    >>> [zone(size, 0.9 * size, 500.0, at, sizes) for size in (100, 330, 500, 900)]
    ['ungrokking', 'semi-grokking', 'grokking', 'progression']
    """
    if facts > memory:
        return "progression"
    if math.isnan(at.critical):
        return "unknown"
    if 0 < at.critical < math.inf:
        low, high = (float(np.clip(end, sizes[0], sizes[-1])) for end in (at.low, at.high))
        if abs(size - at.critical) <= (high - low) / 2:
            return "semi-grokking"
    return "grokking" if size > at.critical else "ungrokking"
