"""The account of a run: what the forces on its circuits say together, from the strengths at each checkpoint and the
forces over each interval (`interp.mathematics.forces`).

    worn down     from a checkpoint on r_M < 1 in every interval until half of M is gone for good, if it ever is
    carried       the first checkpoint that knows the training pairs from which on the generalizing part of the logits
                  alone has a lower training loss than the memorizing part alone, and than a guess
    plateau       the window in which circuits are compared: from twice the step at which the training pairs were
                  known, by when memory has mostly come back from overshooting, until the first of: memory is worn down;
                  the generalizing part carries; the end. Where both came before, until 3 times that step
    at rest       within the plateau, the longest time without a break in which |r_M − 1| < 0.01, if it is at least half
                  of that in which weight decay alone shrinks weights by e, Σ lr·wd = 1

Over a window r is the sum of the pushes over the sum of the pulls: whether the strength is larger at its end, whatever
it did in between. A frequency *stands out* where its α_k is above the level (`interp.mathematics.strengths`) by four
standard errors and half a logit; it is *born* where it begins to, and does so up to its peak, and *dies* where, after
the peak, it falls below a tenth of it for good; frequencies whose peak is below a tenth of the highest are not told.

Where the memory of a network shrinks because a slingshot threw it about, that looks like wear. Rest is chosen by r_M
near 1: that r_M is near 1 while it rests says nothing more.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from interp.mathematics import forces as mechanics
from interp.mathematics.intervals import COVERAGE
from interp.mathematics.strengths import level_weights

REST, LEAST_REST = 0.01, 0.5
SETTLED, AT_MOST = 2.0, 3.0  # times the step at which the training pairs were known
LEAST_PEAK, CLEAR_OF_LEVEL, SMALL, HALF = 0.5, 4, 0.1, 0.5
# Measured against every update, what the forces' errors (a third of a difference) make of r is 2 to 4 times too small.
CAUTION = 3


class Pushed(NamedTuple):
    """One strength over a run: at each checkpoint, and what each interval between two did to it."""

    value: Float[np.ndarray, " step"]
    error: Float[np.ndarray, " step"]
    decay: Float[np.ndarray, " interval"]
    loss: Float[np.ndarray, " interval"]
    decay_error: Float[np.ndarray, " interval"]
    loss_error: Float[np.ndarray, " interval"]
    decay_without_fold: Float[np.ndarray, "interval fold"]
    loss_without_fold: Float[np.ndarray, "interval fold"]

    @property
    def ratio(self) -> Float[np.ndarray, " interval"]:
        """r over each interval; NaN where the circuit is not clear at both of its ends, and where it is not pulled
        down.

        >>> one, folds = np.ones(2), np.ones((1, 5))
        >>> Pushed(5 * one, one, -one[:1], 2 * one[:1], one[:1], one[:1], folds, folds).ratio.tolist()
        [2.0]
        """
        clear = mechanics.is_clear(self.value, self.error)
        return mechanics.growth_ratio(self.decay, self.loss, clear[:-1] & clear[1:])

    def ratio_over(self, window: Bool[np.ndarray, " interval"]) -> "Ratio":
        """r over the intervals of a window that have one; NaN where fewer than half of them have."""
        told = window & np.isfinite(self.ratio)
        if not told.any() or 2 * told.sum() < window.sum():
            return Ratio(*[math.nan] * 4)
        pull, push = -self.decay[told].sum(), self.loss[told].sum()
        errors = np.nansum(self.loss_error[told]), np.nansum(self.decay_error[told])
        of_forces = CAUTION * float(np.hypot(errors[0] / pull, push * errors[1] / pull**2))
        without = self.loss_without_fold[told].sum(0) / -self.decay_without_fold[told].sum(0)
        n_folds = len(without)
        error = math.sqrt((n_folds - 1) / n_folds * np.square(without - without.mean()).sum())
        half = float(np.hypot(stats.t.ppf((1 + COVERAGE) / 2, n_folds - 1) * error, of_forces))
        return Ratio(push / pull, push / pull - half, push / pull + half, of_forces)

    def net_rate_over(self, window: Bool[np.ndarray, " interval"], exposure: Float[np.ndarray, " interval"]) -> float:
        """By what power of e the strength grows, over a window of intervals that follow one another, while weight decay
        alone would shrink weights by e: Δ ln S / Σ lr·wd. About κ·(r − 1). NaN where S is not clear at both ends.

        >>> grown = Pushed(np.array([1.0, 2.0, 4.0]), *np.zeros((5, 2)), *np.zeros((2, 2, 5)))
        >>> grown._replace(error=np.zeros(3)).net_rate_over(np.ones(2, dtype=bool), np.array([0.5, 0.5])) / math.log(2)
        2.0
        """
        inside = np.flatnonzero(window)
        if not len(inside) or not exposure[inside].sum() > 0:
            return math.nan
        ends = [inside[0], inside[-1] + 1]
        if not mechanics.is_clear(self.value[ends], self.error[ends]).all():
            return math.nan
        return float(np.log(self.value[ends[1]] / self.value[ends[0]]) / exposure[inside].sum())


class Ratio(NamedTuple):
    """A growth ratio, its 95 % interval over held-out pairs (jackknife over their five folds, Student's t; of M, whose
    training pairs are all that there are, of what is told from held-out ones), and what the forces' own errors make of
    it, with caution, which is in the interval too."""

    value: float
    low: float
    high: float
    error: float


def rest(
    steps: Int[np.ndarray, " step"], exposure: Float[np.ndarray, " interval"], ratio: Float[np.ndarray, " interval"]
) -> tuple[int, int] | None:
    """The first and the last step of the longest time in which r stays within REST of 1; None if it is shorter than
    LEAST_REST.

    >>> rest(np.arange(0, 60, 10), np.full(5, 0.2), np.array([1.5, 1.001, 0.992, 1.0, 0.9]))
    (10, 40)
    """
    with np.errstate(invalid="ignore"):
        balanced = np.abs(ratio - 1) < REST
    best, first = (0.0, None), None
    for place in range(len(balanced) + 1):
        if place < len(balanced) and balanced[place]:
            first = place if first is None else first
        elif first is not None:
            lasted = float(exposure[first:place].sum())
            if lasted >= max(LEAST_REST, best[0]):
                best = lasted, (int(steps[first]), int(steps[place]))
            first = None
    return best[1]


def worn_from(
    steps: Int[np.ndarray, " step"], ratio: Float[np.ndarray, " interval"], value: Float[np.ndarray, " step"]
) -> int | None:
    """The step from which on r is below 1, wherever it is known, until half of the strength's highest value is gone for
    good; None where that is not.

    >>> worn_from(np.arange(0, 60, 10), np.array([1.2, 0.999, 0.98, 0.7, 1.1]), np.array([5.0, 9, 9, 8, 4, 4.2]))
    10
    """
    if not np.isfinite(value).any() or np.nanmax(value) <= 0:
        return None
    there = np.flatnonzero(np.nan_to_num(value) > HALF * np.nanmax(value))
    if there[-1] + 1 == len(value):
        return None
    until = int(there[-1]) + 1
    known = np.flatnonzero(np.isfinite(ratio[:until]))
    grown = known[ratio[known] >= 1]
    worn = known[known > grown[-1]] if len(grown) else known
    return int(steps[worn[0]]) if len(worn) else None


def carried_from(
    steps: Int[np.ndarray, " step"], loss_alone: Float[np.ndarray, "step 2"], guess: float = math.inf
) -> int | None:
    """The step from which on the generalizing part alone has a lower training loss than the memorizing one alone, and
    than a guess; None where it has not at the end.

    >>> losses = np.array([[5.0, 5.5], [4.0, 3.0], [2.0, 3.0], [0.1, 4.0]])
    >>> carried_from(np.array([0, 10, 20, 30]), losses, guess=3.5)
    20
    """
    with np.errstate(invalid="ignore"):
        carries = (loss_alone[:, 0] < loss_alone[:, 1]) & (loss_alone[:, 0] < guess)
    if not len(carries) or not carries[-1]:
        return None
    before = np.flatnonzero(~carries)
    return int(steps[before[-1] + 1 if len(before) else 0])


class Account(NamedTuple):
    """When what happened, as the module says; None where it did not."""

    known_from: int | None
    rest: tuple[int, int] | None
    plateau: tuple[int, int] | None
    worn_from: int | None
    carried_from: int | None

    @classmethod
    def of(
        cls,
        known_from: int | None,
        steps: Int[np.ndarray, " step"],
        exposure: Float[np.ndarray, " interval"],
        memory: Pushed,
        loss_alone: Float[np.ndarray, "step 2"],
        *,
        guess: float = math.inf,
    ) -> "Account":
        """The account that these strengths give of a run whose training pairs are known from a checkpoint on, and of
        whose training loss a guess has so much."""
        if known_from is None:
            return cls(None, None, None, None, None)
        first = int((steps >= known_from).argmax())
        carried = carried_from(steps[first:], loss_alone[first:], guess)
        worn = worn_from(steps[first:], memory.ratio[first:], memory.value[first:])
        settled = steps[steps >= SETTLED * known_from]
        begins = settled[0] if len(settled) > 1 else steps[first]
        ends = [step for step in (carried, worn) if step is not None]
        later = [step for step in ends if step > begins]
        at_most = steps[steps <= AT_MOST * max(known_from, 1)]
        until = min(later) if later else int(at_most[-1]) if ends and len(at_most) else int(steps[-1])
        plateau = (int(begins), until) if until > begins else None
        within = cls(known_from, None, plateau, worn, carried).within_plateau(steps[:-1])
        inside = np.flatnonzero(within)
        resting = None
        if len(inside):
            span = slice(inside[0], inside[-1] + 1)
            resting = rest(steps[inside[0] : inside[-1] + 2], exposure[span], memory.ratio[span])
        return cls(known_from, resting, plateau, worn, carried)

    def within_plateau(self, starts: Int[np.ndarray, " interval"]) -> Bool[np.ndarray, " interval"]:
        """Which of the intervals that begin at these steps lie in the plateau.

        >>> Account(100, None, (150, 300), None, None).within_plateau(np.array([100, 150, 250, 300])).tolist()
        [False, True, True, False]
        """
        first, last = self.plateau or (0, 0)
        return (starts >= first) & (starts < last)


class Life(NamedTuple):
    """Of a frequency: when it was born, highest and, if it did, died; what loss and decay did to its α_k less the level
    from birth to peak, and from there to its death, in logits; NaN where any of that is refused."""

    frequency: int
    born: int
    peak: int
    height: float
    died: int | None
    rise: tuple[float, float]  # loss, decay
    fall: tuple[float, float] | None


def lives(
    steps: Int[np.ndarray, " step"],
    coefficients: Float[np.ndarray, "step K"],
    errors: Float[np.ndarray, "step K"],
    loss: Float[np.ndarray, "interval K"],
    decay: Float[np.ndarray, "interval K"],
) -> list[Life]:
    """The frequencies that are born, by birth.

    >>> up, flat = np.array([0.0, 2.0, 4.0, 0.1]), np.zeros(4)
    >>> alpha, forces = np.stack([up, *[flat] * 5], axis=1), np.zeros((3, 6))
    >>> [life] = lives(np.arange(4), alpha, 0 * alpha, forces, forces)
    >>> life.frequency, life.born, life.peak, life.died
    (1, 1, 2, 3)
    """
    if not np.isfinite(coefficients).all() or not coefficients.shape[1]:
        return []
    of_level = level_weights(coefficients, np.zeros(coefficients.shape[1], dtype=bool))
    excess = coefficients - (of_level * coefficients).sum(1, keepdims=True)
    loss, decay = (force - (of_level[:-1] * force).sum(1, keepdims=True) for force in (loss, decay))
    is_out = excess > np.maximum(LEAST_PEAK, CLEAR_OF_LEVEL * errors)
    found = []
    for place in range(coefficients.shape[1]):
        peak = int(excess[:, place].argmax())
        height = float(excess[peak, place])
        if not is_out[peak, place] or height < SMALL * excess.max():
            continue
        hidden = np.flatnonzero(~is_out[:peak, place])
        born = int(hidden[-1]) + 1 if len(hidden) else 0
        alive = np.flatnonzero(excess[:, place] >= SMALL * height)
        died = int(alive[-1]) + 1 if alive[-1] + 1 < len(steps) else None
        rising, falling = slice(max(born - 1, 0), peak), slice(peak, died)
        found.append(
            Life(
                place + 1,
                int(steps[born]),
                int(steps[peak]),
                height,
                None if died is None else int(steps[died]),
                _sums(loss[rising, place], decay[rising, place]),
                None if died is None else _sums(loss[falling, place], decay[falling, place]),
            )
        )
    return sorted(found, key=lambda life: (life.born, life.frequency))


def _sums(loss: Float[np.ndarray, " interval"], decay: Float[np.ndarray, " interval"]) -> tuple[float, float]:
    return float(loss.sum()), float(decay.sum())


def stands_out(
    coefficients: Float[np.ndarray, " K"], errors: Float[np.ndarray, " K"], in_set: Bool[np.ndarray, " K"]
) -> Bool[np.ndarray, " K"]:
    """Which of the frequencies of a set stand out from the level of the others.

    >>> alpha = np.array([5.0, 0.4, 0.1, 0.0, 0.1, -0.1])
    >>> stands_out(alpha, np.full(6, 0.1), np.array([True, True, False, False, False, False])).tolist()
    [True, False, False, False, False, False]
    """
    if not in_set.any() or not np.isfinite(coefficients).all():
        return np.zeros_like(in_set)
    level = level_weights(coefficients, in_set) @ coefficients
    return in_set & (coefficients - level > np.maximum(LEAST_PEAK, CLEAR_OF_LEVEL * errors))
