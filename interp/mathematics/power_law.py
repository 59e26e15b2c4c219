"""Power laws of a loss in a size: how they are fitted, how sure the exponent is, and where they hold.

The law of the mean loss over draws, in a number of examples or a width c > 0, is

    L(c) = L∞ + A·c^−α,    L∞ ≥ 0, A ≥ 0, 0.02 ≤ α ≤ 5

(Hestness et al. 2017, arXiv:1712.00409; with a floor, Hoffmann et al. 2022, arXiv:2203.15556). Of m draws at each of k
sizes, with means ȳᵢ, it is the one of least Σᵢ ((ȳᵢ − L(cᵢ))/ȳᵢ)²: errors are taken relative to the loss, because
losses of every size scatter by about the same factor, not by the same difference. Given α the other two follow from
linear equations, so α alone is searched (variable projection, Golub & Pereyra 1973).

**Whether it holds** is a lack-of-fit test against the draws (Fisher 1922): with r = 3 free numbers, 2 where the floor
came to 0, and the relative variance s² of the draws around their means,

    F = m·Σᵢ ((ȳᵢ − L(cᵢ))/ȳᵢ)² / ((k − r)·s²)    of F(k − r, k(m − 1)).

A law is refused where p < 0.05, and where a constant does as well (the same test of the two numbers that a law has
more, p ≥ 0.05): a level curve has every exponent. *Where* it holds is the longest window of neighboring sizes in which
it is refused in neither way; less than a decade, or fewer than four sizes, are no window. Nor is one in which the loss
saturates too soon: from (A/L∞)^(1/α) on the floor is more than half of it, and a decade has to lie before that.

It cannot tell that the law goes on beyond its window. Few draws refuse little: a window is where no break was seen, and
with more draws it may be shorter. Intervals are given the window, and know nothing of its choice; the draws of
different sizes have to be independent.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num
from scipy import optimize, stats

from interp.mathematics.intervals import COVERAGE

FEWEST_SIZES, LEAST_RATIO = 4, 10.0
LEVEL = 0.05  # of the two tests
EXPONENTS = 0.02, 5.0
RESAMPLES = 500
_GRID = np.geomspace(*EXPONENTS, 200)
_ROUNDING = 1e-24  # a relative variance below it is none


@dataclass(frozen=True)
class PowerLaw:
    """L(c) = floor + amplitude·c^−exponent.

    >>> PowerLaw(floor=0.5, amplitude=8.0, exponent=0.5)(np.array([4.0, 16.0])).tolist()
    [4.5, 2.5]
    """

    floor: float
    amplitude: float
    exponent: float

    @property
    def saturates_at(self) -> float:
        """The size from which the floor is more than half of the loss; infinite without a floor.

        >>> PowerLaw(floor=0.5, amplitude=8.0, exponent=0.5).saturates_at, PowerLaw(0.0, 8.0, 0.5).saturates_at
        (256.0, inf)
        """
        return (self.amplitude / self.floor) ** (1 / self.exponent) if self.floor else math.inf

    def __call__(self, sizes: Num[np.ndarray, " size"]) -> Float[np.ndarray, " size"]:
        return self.floor + self.amplitude * np.asarray(sizes, dtype=np.float64) ** -self.exponent


@dataclass(frozen=True)
class Region:
    """Where a power law holds: the places of its first and last size, the law there, the p-value of its lack of fit,
    and the 95 % intervals of exponent and floor. `whole_p` is the p-value of the lack of fit of all sizes.

    An exponent interval that ends at 0 or at infinity ends where the search did.

    >>> sizes, scatter = 100 * 2 ** np.arange(5), np.array([0.98, 1.0, 1.02])
    >>> found = region(sizes, PowerLaw(0.0, 3.0, 0.4)(sizes)[:, None] * scatter)
    >>> (found.first, found.last), found.exponent_interval[0] < 0.4 < found.exponent_interval[1]
    ((0, 4), True)
    """

    first: int
    last: int
    law: PowerLaw
    lack_of_fit: float
    whole_p: float
    exponent_interval: tuple[float, float]
    floor_interval: tuple[float, float]


def fit(sizes: Num[np.ndarray, " size"], losses: Float[np.ndarray, "size draw"]) -> PowerLaw:
    """The power law of the mean losses over draws, at four sizes or more. Raises ValueError for losses or sizes that
    are not finite and positive, sizes that do not rise, and fewer than four sizes or two draws.

    >>> sizes = np.array([100, 200, 400, 800, 1600])
    >>> planted = PowerLaw(0.1, 3.0, 0.4)
    >>> found = fit(sizes, np.repeat(planted(sizes)[:, None], 2, axis=1))
    >>> round(found.floor, 6), round(found.amplitude, 6), round(found.exponent, 6)
    (0.1, 3.0, 0.4)
    """
    _check(sizes, losses)
    means, scale = losses.mean(1), _scale(sizes)
    coarse = _projected(sizes / scale, means[None], _GRID).residual[0]
    best = int(np.argmin(coarse))
    between = np.log(_GRID[[max(best - 1, 0), min(best + 1, len(_GRID) - 1)]])
    found = optimize.minimize_scalar(
        lambda log: _projected(sizes / scale, means[None], np.exp([log])).residual[0, 0],
        bounds=between,
        method="bounded",
        options={"xatol": 1e-10},
    )
    exponent = float(np.exp(found.x)) if found.fun < coarse[best] else float(_GRID[best])
    last = _projected(sizes / scale, means[None], np.array([exponent]))
    return PowerLaw(float(last.floor[0, 0]), float(last.amplitude[0, 0] * scale**exponent), exponent)


def lack_of_fit(
    sizes: Num[np.ndarray, " size"], losses: Float[np.ndarray, "size draw"], law: PowerLaw | None = None
) -> float:
    """The p-value of F, above: how often draws around a power law would lie as far from one as these do. Of `law`, or
    of the one that fits best; raises ValueError as `fit`.

    >>> sizes, scatter = np.array([100, 200, 400, 800, 1600]), np.array([0.98, 1.0, 1.02])
    >>> lack_of_fit(sizes, PowerLaw(0.1, 3.0, 0.4)(sizes)[:, None] * scatter) > 0.99
    True
    >>> lack_of_fit(sizes, np.array([1.0, 0.5, 0.8, 0.4, 0.2])[:, None] * scatter) < 0.001
    True
    """
    _check(sizes, losses)
    law = fit(sizes, losses) if law is None else law
    means = losses.mean(1)
    n_free = 2 if law.floor == 0 else 3
    return _p_value(np.square((means - law(sizes)) / means).sum(), len(sizes) - n_free, losses)


def beats_a_constant(sizes: Num[np.ndarray, " size"], losses: Float[np.ndarray, "size draw"], law: PowerLaw) -> bool:
    """Whether a law explains more of the losses than one number for all sizes does, by the F-test of its two numbers
    more; False of a law that does not fall.

    >>> sizes, scatter = np.array([100, 200, 400, 800, 1600]), np.array([0.98, 1.0, 1.02])
    >>> level = np.ones(5)[:, None] * scatter
    >>> falling = PowerLaw(0.1, 3.0, 0.4)(sizes)[:, None] * scatter
    >>> beats_a_constant(sizes, level, fit(sizes, level)), beats_a_constant(sizes, falling, fit(sizes, falling))
    (False, True)
    """
    if law.amplitude == 0:
        return False
    means = losses.mean(1)
    weights = 1 / means**2
    constant = (weights * means).sum() / weights.sum()
    residual = np.square((means - constant) / means).sum() - np.square((means - law(sizes)) / means).sum()
    return _p_value(residual, 2, losses) < LEVEL


def region(sizes: Num[np.ndarray, " size"], losses: Float[np.ndarray, "size draw"], *, seed: int = 0) -> Region | None:
    """The longest window of neighboring sizes, in log c, in which a power law holds, of several the one that is refused
    least; None where none of a decade and four sizes is. Raises ValueError as `fit`. `seed` draws the resamples.

    >>> sizes, scatter = 100 * 2 ** np.arange(7), np.array([0.98, 1.0, 1.02])
    >>> planted = PowerLaw(0.0, 3.0, 0.4)(sizes)
    >>> planted[0] = planted[1]  # at the smallest size it does not hold
    >>> found = region(sizes, planted[:, None] * scatter)
    >>> found.first, found.last, round(found.law.exponent, 3), found.whole_p < 0.05
    (1, 6, 0.4, True)
    """
    _check(sizes, losses)
    longest, passed = -math.inf, []
    for here in windows(sizes):
        if _length(sizes[here]) < longest - 1e-9:
            break
        law = fit(sizes[here], losses[here])
        p = lack_of_fit(sizes[here], losses[here], law)
        falls_for = min(law.saturates_at, sizes[here][-1]) / sizes[here][0]
        if p >= LEVEL and falls_for >= LEAST_RATIO * (1 - 1e-9) and beats_a_constant(sizes[here], losses[here], law):
            longest = _length(sizes[here])
            passed.append((p, here, law))
    if not passed:
        return None
    p, here, law = max(passed, key=lambda one: one[0])
    exponent, floor = intervals(sizes[here], losses[here], seed=seed)
    return Region(here.start, here.stop - 1, law, p, lack_of_fit(sizes, losses), exponent, floor)


def windows(sizes: Num[np.ndarray, " size"]) -> list[slice]:
    """The neighboring sizes that a law is looked for in, a decade and four sizes or more, the longest in log c first.

    >>> windows(np.array([10, 20, 50, 100, 200]))
    [slice(0, 5, None), slice(1, 5, None), slice(0, 4, None)]
    """
    found = [
        slice(first, last + 1)
        for first in range(len(sizes))
        for last in range(first + FEWEST_SIZES - 1, len(sizes))
        if sizes[last] >= LEAST_RATIO * sizes[first] * (1 - 1e-9)
    ]
    return sorted(found, key=lambda here: (-round(_length(sizes[here]), 9), -here.start))


def _length(sizes: Num[np.ndarray, " size"]) -> float:
    return math.log(sizes[-1] / sizes[0])


def intervals(
    sizes: Num[np.ndarray, " size"],
    losses: Float[np.ndarray, "size draw"],
    *,
    coverage: float = COVERAGE,
    seed: int = 0,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The intervals of exponent and floor, by the percentiles of laws fitted to resampled draws: of each size as many
    as there are, with replacement, and their deviations from the mean times √(m/(m − 1)), as the m draws scatter less
    around their own mean than around the true one. These laws may have a floor below 0: held at 0, where it often is,
    an interval would leave the exponent out four times in ten. Raises ValueError as `fit`.

    Of planted laws of eight sizes, from 50 to 1,600, with normal errors of 5 %, 95 % intervals of the exponent hold it
    91 % of the time with 3 draws, 94 % with 5 (300 of each).

    >>> sizes, scatter = np.array([100, 200, 400, 800, 1600]), np.array([0.99, 1.0, 1.01])
    >>> (low, high), _ = intervals(sizes, PowerLaw(0.1, 3.0, 0.4)(sizes)[:, None] * scatter)
    >>> low < 0.4 < high
    True
    """
    _check(sizes, losses)
    (k, m), drawing = losses.shape, np.random.RandomState(seed)
    means = losses.mean(1)
    wide = means[:, None] + (losses - means[:, None]) * math.sqrt(m / (m - 1))
    resampled = np.take_along_axis(wide[None], drawing.randint(m, size=(RESAMPLES, k, m)), axis=2).mean(2)
    resampled = np.maximum(resampled, 1e-3 * means)  # two draws far apart can leave less than nothing
    found = _projected(sizes / _scale(sizes), resampled, _GRID, least_floor=-np.inf)
    best, rows = found.residual.argmin(1), np.arange(RESAMPLES)
    exponents = _GRID[best]
    exponents = np.where(best == 0, 0.0, np.where(best == len(_GRID) - 1, np.inf, exponents))
    exponents[found.amplitude[rows, best] == 0] = 0.0
    ends = [(1 - coverage) / 2, (1 + coverage) / 2]

    def interval(values: Float[np.ndarray, " resample"]) -> tuple[float, float]:
        low, high = np.quantile(values, ends, method="nearest")
        return float(low), float(high)

    return interval(exponents), interval(np.maximum(found.floor[rows, best], 0))


@dataclass(frozen=True)
class _Projected:
    """For every curve and exponent the best floor and amplitude, and the squared relative error that is left."""

    floor: Float[np.ndarray, "curve exponent"]
    amplitude: Float[np.ndarray, "curve exponent"]
    residual: Float[np.ndarray, "curve exponent"]


def _projected(
    sizes: Float[np.ndarray, " size"],
    means: Float[np.ndarray, "curve size"],
    exponents: Float[np.ndarray, " exponent"],
    *,
    least_floor: float = 0.0,
) -> _Projected:
    """Weighted least squares with weights 1/ȳ², held to a floor of no less than 0, or any, and an amplitude of no less
    than 0."""
    powers = sizes[:, None] ** -exponents  # [size, exponent]
    weights = 1 / means**2
    n, x, xx = weights.sum(1)[:, None], weights @ powers, weights @ powers**2
    y, xy = (weights * means).sum(1)[:, None], (weights * means) @ powers
    determinant = np.maximum(n * xx - x**2, np.finfo(float).tiny)
    amplitude, floor = (n * xy - x * y) / determinant, (xx * y - x * xy) / determinant
    # At the border the other one alone is free; where both would leave, a constant is the better of the two.
    amplitude = np.where(floor < least_floor, xy / xx, amplitude)
    floor = np.where(floor < least_floor, 0.0, floor)
    floor = np.where(amplitude < 0, y / n, floor)
    amplitude = np.where(amplitude < 0, 0.0, amplitude)
    fitted = floor[:, None] + amplitude[:, None] * powers  # [curve, size, exponent]
    residual = np.square((means[:, :, None] - fitted) / means[:, :, None]).sum(1)
    return _Projected(floor, amplitude, residual)


def _p_value(squares: float, n_free: int, losses: Float[np.ndarray, "size draw"]) -> float:
    """Of relative squares with so many degrees of freedom, against the draws."""
    (k, m), means = losses.shape, losses.mean(1, keepdims=True)
    of_draws = np.square(losses / means - 1).sum() / (k * (m - 1))
    if n_free < 1:
        return 1.0
    return float(stats.f.sf(m * squares / n_free / max(of_draws, _ROUNDING), n_free, k * (m - 1)))


def _scale(sizes: Num[np.ndarray, " size"]) -> float:
    """The middle of the sizes, so that powers stay near 1."""
    return float(np.exp(np.log(sizes).mean()))


def _check(sizes: Num[np.ndarray, " size"], losses: Float[np.ndarray, "size draw"]) -> None:
    k, m = losses.shape
    if k < FEWEST_SIZES or m < 2:
        raise ValueError(
            f"a power law needs the losses of {FEWEST_SIZES} sizes and 2 draws or more, got {k} sizes and {m} draws"
        )
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        raise ValueError(
            f"a power law is of losses that are finite and greater than 0, got {losses.min():g} to {losses.max():g}; "
            "leave out the sizes that have others"
        )
    if not (np.isfinite(sizes).all() and sizes[0] > 0 and (np.diff(sizes) > 0).all()):
        raise ValueError(f"a power law is of sizes that are greater than 0 and rise, got {sizes.tolist()!s:.80}")
