"""Does a curve of test error fall, rise, and fall again? A rule that can say no, and the threshold of interpolation.

With e_d(c) the test error at the complexity c (width, steps, training examples) in the draw d of the data, and ē(c)
its mean over draws, the *peak* c* is the point of the grid's interior at which the smaller of its two sides is largest:

    rise(c) = ē(c) − min_{c' < c} ē(c'),    fall(c) = ē(c) − ē(c_max),    c* = argmax min(rise, fall).

(The argmax of ē itself is another point where the curve begins higher than its peak, as it does for networks that are
too small for everything.) The curve is a

    double descent   where rise and fall at c* are each more than 3 of their standard errors;
    U-shaped         where it is not, and its largest rise, to any point, is more than 4;
    monotone         where neither holds, its first and last point are more than 3 apart, and its largest way back, with
                     3 more, is less than half of that: a peak that could be so high may be noise, and may be there;
    not shown        otherwise: the grid is flat, or what there is could be noise; there are fewer than two draws; or
                     no training error of the grid reaches 0, so that nobody has seen the other side of the peak.

A *draw* is one training set, with its noise and the initial weights trained on it. Networks that differ in their
initial weights alone are averaged within a draw: they share its data, and are no further observations of what another
training set would give. Draws are the same at every c, so a difference ē(c) − ē(c') is a mean of paired differences.
Its standard error is the larger of two. One is that of the paired differences themselves, which holds where noise
differs along the grid, but with D draws has D − 1 degrees of freedom: of three draws a t beyond 3 has a chance of 5 %
on each side, and c* has been chosen to make it large. The other is √(2 s²/D) with s² the residual variance of all
points and draws (after the means of both), with (D − 1)(points − 1) degrees of freedom, but wrong where noise differs
along the grid. With the larger of them a flat curve of 13 points is called a double descent in .2 to 2.6 % of 2,000
simulated grids, for 2, 3, 5 and 10 draws, with normal noise that is equal along the grid or three times as large in its
middle, and U-shaped in .3 to 4.7 % (fewer grids in tests/mathematics/test_double_descent.py).

The *interpolation threshold* is the least complexity from which on the mean training error, on the labels as they are
trained on, is at most ε: between two points of the grid by a straight line in log c.

It cannot tell that a second descent goes on, or that a third rise does not come, beyond the grid; nor that the test
examples, which draws share, stand for all others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from interp.mathematics.intervals import COVERAGE, level_crossing, seed_interval

Kind = Literal["double descent", "U-shaped", "monotone", "not shown"]

CLEAR = 3.0  # standard errors
CLEAR_ALONE = 4.0  # of a rise without a fall, which is the largest of many
INTERPOLATES = 0.01  # ε, of a training error
RESAMPLES = 2000

OfDraws = Float[np.ndarray, "point draw"]


@dataclass(frozen=True)
class Difference:
    """By how much the mean over draws is higher at one place of the grid than at another, and the standard error."""

    high: int
    low: int
    by: float
    error: float

    def exceeds(self, errors: float) -> bool:
        """Whether it is more than so many standard errors; never where there is none.

        >>> Difference(1, 0, by=0.4, error=0.1).exceeds(3), Difference(1, 0, by=0.4, error=math.nan).exceeds(3)
        (True, False)
        """
        return self.by > errors * self.error


@dataclass(frozen=True)
class Shape:
    """What a curve over complexities is. `peak` is the place of c* on the grid (None: the grid has no interior), `rise`
    from the least error before it, `fall` to the end of the grid, `largest_rise` from anywhere to anywhere after it,
    `descent` from the first point to the last."""

    kind: Kind
    peak: int | None
    rise: Difference
    fall: Difference
    largest_rise: Difference
    descent: Difference

    def prominence(self, errors: float = 0.0) -> float:
        """The smaller side of the peak, each moved up by so many of its standard errors: with −3 what the peak has at
        least, with 3 what it could still have.

        >>> draws = np.array([[0.0, 0.0], [-0.1, -0.1], [0.2, 0.1], [0.0, 0.0]])
        >>> round(shape(draws).prominence(), 2), shape(draws).prominence(-3) < 0.15 < shape(draws).prominence(3)
        (0.15, True)
        """
        return min(side.by + errors * side.error for side in (self.rise, self.fall))


def shape(errors: OfDraws, *, reaches_zero: bool = True) -> Shape:
    """The shape of a curve of test errors, a column for each draw, in ascending order of complexity. `reaches_zero`:
    whether the training error comes down to ε somewhere on the grid. Numbers are in the units of the errors.

    Raises ValueError for a value that is not finite.

    >>> draws = np.array([[0.0, 0.01, 0.02]])
    >>> peaked = np.array([0.30, 0.24, 0.29, 0.35, 0.30, 0.21])[:, None] + draws
    >>> found = shape(peaked)
    >>> found.kind, found.peak, round(found.rise.by, 2), round(found.fall.by, 2)
    ('double descent', 3, 0.11, 0.14)
    >>> shape(peaked[:4]).kind, shape(peaked[[0, 1, 5]]).kind, shape(peaked[:, :1]).kind
    ('U-shaped', 'monotone', 'not shown')
    """
    if not np.isfinite(errors).all():
        raise ValueError("an error is not finite: a curve with holes has no shape")
    n_points, n_draws = errors.shape
    mean = errors.mean(1)
    pooled = _pooled_error(errors)

    def difference(high: int, low: int) -> Difference:
        if n_draws < 2:
            return Difference(high, low, float(mean[high] - mean[low]), math.nan)
        own = (errors[high] - errors[low]).std(ddof=1) / math.sqrt(n_draws)
        return Difference(high, low, float(mean[high] - mean[low]), max(float(own), pooled))

    peak = _peak(mean)
    before = 0 if peak is None else int(mean[:peak].argmin())
    rise = difference(0 if peak is None else peak, before)
    fall = difference(0 if peak is None else peak, n_points - 1)
    highest = int((mean - np.minimum.accumulate(mean)).argmax())
    largest = difference(highest, int(mean[: highest + 1].argmin()))
    descent = difference(0, n_points - 1)
    kind: Kind = "not shown"
    if peak is not None and reaches_zero:
        if rise.exceeds(CLEAR) and fall.exceeds(CLEAR):
            kind = "double descent"
        elif largest.exceeds(CLEAR_ALONE):
            kind = "U-shaped"
        else:
            lowest = int((np.maximum.accumulate(mean) - mean).argmax())
            back = largest if descent.by > 0 else difference(int(mean[: lowest + 1].argmax()), lowest)
            if abs(descent.by) > CLEAR * descent.error and back.by + CLEAR * back.error < abs(descent.by) / 2:
                kind = "monotone"
    return Shape(kind, peak, rise, fall, largest, descent)


def _pooled_error(errors: OfDraws) -> float:
    """√(2 s²/D): of a difference of two points, with the residual variance of the whole grid; NaN for one draw."""
    n_points, n_draws = errors.shape
    if n_draws < 2 or n_points < 2:
        return math.nan
    left = errors - errors.mean(1, keepdims=True) - errors.mean(0) + errors.mean()
    return math.sqrt(2 * float(np.square(left).sum()) / ((n_points - 1) * (n_draws - 1)) / n_draws)


def _peak(mean: Float[np.ndarray, " point"]) -> int | None:
    """c* of a mean curve."""
    if len(mean) < 3:
        return None
    rise = mean[1:-1] - np.minimum.accumulate(mean)[:-2]
    return 1 + int(np.minimum(rise, mean[1:-1] - mean[-1]).argmax())


def interpolation_threshold(
    complexities: Float[np.ndarray, " point"], training_errors: OfDraws, level: float = INTERPOLATES
) -> tuple[float, float, float]:
    """The threshold and the ends of its 95 % interval over draws (Student's t, by the jackknife on log c). Infinite:
    the error is above `level` at the end of the grid. 0: it is never above it, and the threshold lies before the grid.
    Ends that the draws do not tell are NaN: of one draw, and where without one of them it leaves the grid.

    >>> c = np.array([1.0, 4.0, 16.0])
    >>> [round(end, 9) for end in interpolation_threshold(c, np.array([[0.3, 0.5], [0.02, 0.02], [0.0, 0.0]]))]
    [8.0, 8.0, 8.0]
    >>> interpolation_threshold(c, np.full((3, 2), 0.5))[0], interpolation_threshold(c, np.zeros((3, 2)))[0]
    (inf, 0.0)
    """
    at = np.log(complexities)

    def threshold(draws: list[int]) -> float:
        mean = training_errors[:, draws].mean(1)
        if (mean <= level).all():
            return 0.0
        if mean[-1] > level:
            return math.inf
        return math.exp(level_crossing(at, mean, level, rising=False))

    n_draws = training_errors.shape[1]
    low, high = seed_interval(n_draws, threshold, positive=True)
    return threshold(list(range(n_draws))), float(low), float(high)


def peak_interval(complexities: Float[np.ndarray, " point"], errors: OfDraws) -> tuple[float, float, float]:
    """The complexity c* of the grid, and the ends of its 95 % interval over draws, which are resampled: a point of a
    grid has no pseudo-values. Of so few draws the percentiles that bear the name are too narrow; these are wider, so
    that the interval of a mean would be as wide as Student's (the expanded percentile interval of Hesterberg 2015, The
    American Statistician 69). NaN: ends for one draw, all where the grid has no interior.

    >>> e = np.array([[0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [0.4, 0.4, 0.3], [0.3, 0.3, 0.4], [0.1, 0.1, 0.1]])
    >>> peak_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), e)
    (3.0, 3.0, 4.0)
    """
    return _resampled(errors.shape[1], lambda weights: _peak_at(complexities, errors @ weights))


def peak_shift(
    complexities: Float[np.ndarray, " point"], errors: OfDraws, of_other: OfDraws
) -> tuple[float, float, float]:
    """How many times as far to the right c* of the other curve is, and the ends of the interval as in `peak_interval`.
    The draws of the two are the same ones, and are resampled together.

    >>> e = np.array([[0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [0.4, 0.4, 0.4], [0.3, 0.3, 0.3], [0.1, 0.1, 0.1]])
    >>> peak_shift(np.array([1.0, 2.0, 4.0, 8.0, 16.0]), e, e[[0, 1, 3, 2, 4]])
    (2.0, 2.0, 2.0)
    """

    def ratio(weights: Float[np.ndarray, " draw"]) -> float:
        return _peak_at(complexities, of_other @ weights) / _peak_at(complexities, errors @ weights)

    return _resampled(errors.shape[1], ratio)


def _peak_at(complexities: Float[np.ndarray, " point"], mean: Float[np.ndarray, " point"]) -> float:
    place = _peak(mean)
    return math.nan if place is None else float(complexities[place])


def _resampled(n_draws: int, statistic: Callable[[Float[np.ndarray, " draw"]], float]) -> tuple[float, float, float]:
    """A statistic of the weights of the draws in a mean, and its expanded percentile interval."""
    found = statistic(np.full(n_draws, 1 / n_draws))
    if n_draws < 2 or math.isnan(found):
        return found, math.nan, math.nan
    counts = np.random.default_rng(0).multinomial(n_draws, np.full(n_draws, 1 / n_draws), size=RESAMPLES)
    different, times = np.unique(counts, axis=0, return_counts=True)
    values = np.repeat([statistic(count / n_draws) for count in different], times)
    wide = math.sqrt(n_draws / (n_draws - 1)) * stats.t.ppf((1 + COVERAGE) / 2, n_draws - 1)
    tail = float(stats.norm.sf(wide))
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")  # points of the grid, none in between
    return found, float(low), float(high)
