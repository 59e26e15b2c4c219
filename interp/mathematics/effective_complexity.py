"""Effective model complexity: how many samples a training procedure can fit (Nakkiran et al. 2020, Definition 1).

Of a procedure T (network, optimizer, steps, augmentation, initialization) and a distribution D of labeled samples, the
noise of their labels included,

    EMC_{D,ε}(T) = max{n : E_{S ~ Dⁿ} Error_S(T(S)) ≤ ε},

Error_S the training error at the end of T, on the labels it was trained on. The maximum presumes an error e(n) that
rises with n. What is estimated here is the crossing of ε by the least-squares *nondecreasing* fit of the mean error
(isotonic regression), between two sizes by a straight line in log n. So the answer is an interval of sample numbers:
the grid may end before the crossing ("≥ n_max") or begin after it ("< n_min"), and then there is no number.

The interval is that of a bootstrap over draws, which takes a draw at all sizes at once. Draws are few: the quantiles of
a percentile bootstrap are too narrow, and taken further out, at Φ(−t_{α/2, D−1}·√(D/(D−1))) (Hesterberg 2014,
arXiv:1411.5279). Fewer than five draws still cannot be sure to 95 %: no bootstrap leaves their range.

Where a run is dear, `bisect` needs fewer: it brackets the crossing and halves the bracket in log n.

It cannot tell where between two sizes the error turns: the interval is one over draws, and where the error is zero at
one size and far above ε at the next the straight line leaves ε too early. The two sizes are what is known, and `bisect`
brings them close. Nor does it tell which side of the interpolation threshold is better. With a fixed number of *steps*,
more samples are also trained less each; with fixed epochs of mini-batches, they are trained for more steps: state which
T it is.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

Regime = Literal["under-parameterized", "critical", "over-parameterized", "not known"]
CRITICAL = (0.5, 2.0)  # EMC/n; a label: the authors give the critical regime no width
RATIO = 1.25  # of the ends of a bracket, at most
REPETITIONS, COVERAGE = 1000, 0.95


@dataclass(frozen=True)
class Complexity:
    """An effective model complexity, in samples: where the mean error crosses ε, `crossing`, and the ends of its 95 %
    interval. Each is 0 where the smallest size, `n_min`, is above ε, and infinite where the largest, `n_max`, is not.

    >>> str(Complexity(crossing=140.0, low=130.0, high=math.inf, n_min=100, n_max=200))
    '≥ 130 samples'
    """

    crossing: float
    low: float
    high: float
    n_min: int
    n_max: int

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"≥ {math.floor(min(self.low, self.n_max)):,} samples" if self.low else "not known"
        if self.low == 0:
            return f"< {self.n_min if self.high == 0 else math.floor(self.high) + 1:,} samples"
        low, high = math.floor(self.low), math.floor(self.high)
        return f"{low:,} samples" if low == high else f"between {low:,} and {high:,} samples"

    def ratio(self, n: int) -> tuple[float, float]:
        """The interval of EMC/n; where the grid ended first the bound that is known: from 0, or to infinity.

        >>> Complexity(140.0, 130.0, math.inf, 100, 200).ratio(100)
        (1.3, inf)
        """
        low = min(self.low, self.n_max) / n
        high = max(self.high, self.n_min) / n
        return low, high

    def regime(self, n: int) -> Regime:
        """Where n samples lie: EMC < n/2 under-parameterized, n/2 ≤ EMC ≤ 2n critical, beyond over-parameterized;
        "not known" where the interval is in more than one.

        >>> Complexity(1000.0, 900.0, 1200.0, 100, 2000).regime(800)
        'critical'
        """
        low, high = self.ratio(n)
        if low > CRITICAL[1]:
            return "over-parameterized"
        if high < CRITICAL[0]:
            return "under-parameterized"
        return "critical" if CRITICAL[0] <= low and high <= CRITICAL[1] else "not known"


def nondecreasing(errors: Float[np.ndarray, " size"]) -> Float[np.ndarray, " size"]:
    """The least-squares nondecreasing fit.

    >>> nondecreasing(np.array([0.0, 0.3, 0.1, 0.5])).tolist()
    [0.0, 0.2, 0.2, 0.5]
    """
    return np.asarray(optimize.isotonic_regression(errors).x)


def crossing(sizes: Sequence[int], errors: Float[np.ndarray, " size"], epsilon: float) -> float:
    """The n at which the nondecreasing fit of the errors leaves ε, by a straight line in log n: 0 where the first size
    is above it, infinite where the last one is not. The largest whole n that is not above it is the floor.

    >>> crossing([100, 200, 400], np.array([0.0, 0.05, 0.15]), 0.1)  # halfway in log n
    282.842712474619
    """
    return float(_crossings(sizes, errors[None], epsilon)[0])


def _crossings(
    sizes: Sequence[int], errors: Float[np.ndarray, "curve size"], epsilon: float
) -> Float[np.ndarray, " curve"]:
    """The crossing of each of many curves."""
    fits = np.array([optimize.isotonic_regression(one).x for one in errors])
    within = (fits <= epsilon).sum(1)  # the first so many: a fit rises
    low = np.clip(within - 1, 0, max(len(sizes) - 2, 0))
    high, curve, n = np.minimum(low + 1, len(sizes) - 1), np.arange(len(fits)), np.array(sizes, dtype=np.float64)
    rise = fits[curve, high] - fits[curve, low]
    share = np.divide(epsilon - fits[curve, low], rise, out=np.zeros(len(fits)), where=rise > 0)
    inside = n[low] * (n[high] / n[low]) ** np.clip(share, 0, 1)
    return np.where(within == 0, 0.0, np.where(within == len(sizes), np.inf, inside))


def effective_complexity(
    sizes: Sequence[int],
    errors: Float[np.ndarray, "size draw"],
    epsilon: float,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> Complexity:
    """The effective model complexity of the training errors of D draws of the data at each of the sizes, which rise.

    With one draw the interval has no width. Raises ValueError for sizes that do not rise, errors outside [0, ∞), and an
    ε below 0.

    >>> sizes, slots = [100, 120, 140, 160], 100
    >>> table = np.array([[max(0, 1 - slots / n) / 2] * 5 for n in sizes])  # a lookup table, two fair labels
    >>> str(effective_complexity(sizes, table, 0.1))  # ⌊100/(1 − .1/.5)⌋ = 125
    '125 samples'
    """
    _check(sizes, errors, epsilon)
    n_draws = errors.shape[1]
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_draws, np.full(n_draws, 1 / n_draws), repetitions if n_draws > 1 else 1)
    different, times = np.unique(counts, axis=0, return_counts=True)  # few draws have few resamples
    found = np.sort(np.repeat(_crossings(sizes, different @ errors.T / n_draws, epsilon), times))
    # Order statistics, not quantiles in between: some are infinite.
    outside = tail(n_draws) * len(found)
    low, high = found[math.floor(outside)], found[math.ceil(len(found) - outside) - 1]
    of_all = crossing(sizes, errors.mean(1), epsilon)
    return Complexity(of_all, float(min(low, of_all)), float(max(high, of_all)), sizes[0], sizes[-1])


def tail(n_draws: int) -> float:
    """The share of the bootstrap that lies below a 95 % interval over so many draws (Hesterberg 2014): 2.5 % of many,
    less of few, to make up for the t-quantile and the divisor D that a percentile bootstrap has not.

    >>> round(tail(5), 5), round(tail(1000), 3)
    (0.00095, 0.025)
    """
    if n_draws < 2:
        return 0.0
    quantile = stats.t.ppf((1 + COVERAGE) / 2, n_draws - 1)
    return float(stats.norm.cdf(-math.sqrt(n_draws / (n_draws - 1)) * quantile))


@dataclass(frozen=True)
class Bracket:
    """Two sizes between which the mean error crosses ε, the probability over bootstrapped draws that it does, and the
    errors of every size that was tried. `low` is 0 where the smallest is above ε, `high` infinite where the largest is
    not.

    >>> found = Bracket(100, 125, 0.95, {100: (0.0, 0.0), 125: (0.12, 0.1)})
    >>> found.high / found.low  # the resolution
    1.25
    """

    low: float
    high: float
    probability: float
    tried: dict[int, tuple[float, ...]]


def bisect(
    errors_of: Callable[[int, Sequence[int]], Sequence[float]],
    n_min: int,
    n_max: int,
    epsilon: float,
    *,
    draws: int = 5,
) -> Bracket:
    """Halve [n_min, n_max] in log n until its ends are within a factor of 1.25 (or neighbors), with so many draws at
    each size; then take as many more at the two ends.

    `errors_of(n, draws)` is the training errors of those draws, by number: draws are new ones at the end, D … 2D − 1.
    Raises ValueError for bounds that are none.

    >>> def table(n, draws):  # a lookup table of 100 slots, two fair labels: 125
    ...     return [max(0, 1 - 100 / n) / 2 for _ in draws]
    >>> found = bisect(table, 50, 800, 0.1)
    >>> found.low, found.high, found.probability, len(found.tried)
    (119, 141, 1.0, 6)
    """
    if not 1 <= n_min < n_max:
        raise ValueError(f"sizes from {n_min} to {n_max}; give two that rise, from 1 on")
    tried = dict[int, tuple[float, ...]]()

    def is_within(n: int) -> bool:
        tried[n] = tuple(errors_of(n, range(draws)))
        return float(np.mean(tried[n])) <= epsilon

    low, high = n_min, n_max
    if not is_within(low):
        return Bracket(0, low, _probability(tried, 0, low, epsilon), tried)
    if is_within(high):
        return Bracket(high, math.inf, _probability(tried, high, math.inf, epsilon), tried)
    while high / low > RATIO and high - low > 1:
        middle = min(max(round(math.sqrt(low * high)), low + 1), high - 1)
        low, high = (middle, high) if is_within(middle) else (low, middle)
    for n in (low, high):
        tried[n] += tuple(errors_of(n, range(draws, 2 * draws)))
    return Bracket(low, high, _probability(tried, low, high, epsilon), tried)


def _probability(tried: dict[int, tuple[float, ...]], low: float, high: float, epsilon: float) -> float:
    """How often the crossing of resampled draws, those of each size by themselves, lies in [low, high)."""
    rng, sizes = np.random.default_rng(0), sorted(tried)
    means = [np.array(tried[n])[rng.integers(0, len(tried[n]), (REPETITIONS, len(tried[n])))].mean(1) for n in sizes]
    found = _crossings(sizes, np.array(means).T, epsilon)
    inside = np.isinf(found) if math.isinf(high) else (found >= low) & (found < high)
    return float(inside.mean())


def _check(sizes: Sequence[int], errors: Float[np.ndarray, "size draw"], epsilon: float) -> None:
    if len(sizes) != len(errors) or not errors.size:
        raise ValueError(f"{len(sizes)} sizes and errors of shape {errors.shape}; give every size the errors of draws")
    if any(after <= before for before, after in itertools.pairwise(sizes)) or sizes[0] < 1:
        raise ValueError(f"sizes {' '.join(map(str, sizes))} do not rise from 1 on; sort them, each once")
    if not (np.isfinite(errors).all() and (errors >= 0).all()):
        raise ValueError("training errors are finite and not below 0; of a run that diverged there is none")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be at least 0, got {epsilon:g}")
