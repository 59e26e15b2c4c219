"""Slingshots: a norm grows, the training loss spikes, the norm rests, and again. numpy and scipy only.

    spike       of the training loss, after the network has memorized (`interp.mathematics.spikes`)
    growth      between the spike before (or the beginning) and this one the logarithm of a norm is fitted by a
                continuous line with up to one kink (`interp.mathematics.kinks`); the slope of the last piece, by
                Theil-Sen, is above 0 with its 95 % interval, and over that piece the norm grows by 5 % or more
    rest        in the stretch after the spike the slope of the first piece is less than 1/5 of that
    slingshot   growth, spike and rest

The authors (Thilak et al. 2022, arXiv:2206.04817, §2) saw the cycle by eye and gave no numbers: these are ours. The
pieces are needed because the norm rests and then grows between any two spikes: one slope for the whole stretch would be
the same before a spike and after it. A slope of Theil and Sen presumes independent errors, which a norm does not have:
its interval tells a slope from scatter and is no more. It cannot tell what made the norm grow, nor that the spike came
of it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import theilslopes

from interp.mathematics.kinks import FEWEST_POINTS as FEWEST_BENT
from interp.mathematics.kinks import kinks
from interp.mathematics.spikes import Spike

LEAST_GROWTH, REST = 0.05, 0.2
FEWEST_CYCLES = 2
FEWEST_POINTS = 4  # of a piece, for its slope
NUMERICAL, EXACT = 0.1, 0.01  # the zero-sum defect of a gradient that rounding spoils, and of one that it does not
OPPOSED = -0.5  # cos(W_G, μ_G)

Cause = Literal["numerical", "optimizer"]
Kind = Literal["slingshots (numerical)", "slingshots (optimizer)", "slingshots", "spikes", "none", "unknown"]


class Slope(NamedTuple):
    """Of the logarithm of a norm, per step, with its 95 % interval, over the steps from `start` to `end`.

    >>> Slope(0.01, 0.009, 0.011, 100, 150).change  # of the norm, relative to what it was
    0.6487212707001282
    """

    value: float
    low: float
    high: float
    start: int
    end: int

    @property
    def change(self) -> float:
        return math.expm1(self.value * (self.end - self.start))


class Cycle(NamedTuple):
    """How a norm went before a spike and after it; None: too few points to tell."""

    growth: Slope | None
    rest: Slope | None

    @property
    def is_slingshot(self) -> bool | None:
        """Whether the norm grew before the spike and rested after it; None: it cannot be told.

        >>> grew, rested = Slope(0.01, 0.009, 0.011, 0, 400), Slope(0.001, 0.0, 0.002, 500, 900)
        >>> Cycle(grew, rested).is_slingshot, Cycle(grew, grew).is_slingshot, Cycle(grew, None).is_slingshot
        (True, False, None)
        """
        if self.growth is None:
            return None
        if not (self.growth.low > 0 and self.growth.change >= LEAST_GROWTH):
            return False
        return None if self.rest is None else self.rest.value < REST * self.growth.value


def cycles(
    spiked: Sequence[Spike], begin: int, steps: Int[np.ndarray, " n"], norm: Float[np.ndarray, " n"]
) -> list[Cycle]:
    """How a norm (at `steps`; positive, NaN where unknown) went before and after each spike, from the step `begin` on.

    >>> steps = np.arange(0, 3000, 10)
    >>> grown = np.cumsum(np.where((steps % 1000 > 500) & (steps % 1000 < 950), 0.01, 0.0))  # 0.001 a step
    >>> spiked = [Spike(at, at + 50, 1.0, at, 0.1, 0.9) for at in (950, 1950)]
    >>> [(round(cycle.growth.value, 6), cycle.is_slingshot) for cycle in cycles(spiked, 0, steps, np.exp(grown))]
    [(0.001, True), (0.001, True)]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(norm > 0, np.log(norm), np.nan)
    last = int(steps[-1])
    starts = [begin, *(spike.end if spike.end is not None else last for spike in spiked)]
    ends = [*(spike.start for spike in spiked), last]
    stretches = [_pieces(steps, values, start, end) for start, end in zip(starts, ends, strict=True)]
    return [Cycle(before[-1], after[0]) for before, after in itertools.pairwise(stretches)]


def _pieces(
    steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"], start: int, end: int
) -> tuple[Slope | None, Slope | None]:
    """The first and the last piece of the line with up to one kink between two steps: the same without a kink."""
    known = np.isfinite(values) & (steps >= start) & (steps <= end)
    if known.sum() >= FEWEST_POINTS and np.ptp(values[known]) == 0:
        still = Slope(0.0, 0.0, 0.0, start, end)
        return still, still
    if known.sum() < FEWEST_BENT:
        return None, None
    bent = kinks(steps, values, 1, start, end)
    if bent is None or not len(bent.positions):  # scatter, which no line fits, has a slope too
        whole = _slope(steps, values, start, end)
        return whole, whole
    bend = bent.positions[0]
    return _slope(steps, values, start, bend), _slope(steps, values, bend, end)


def _slope(steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"], start: float, end: float) -> Slope | None:
    inside = np.isfinite(values) & (steps >= start) & (steps <= end)
    if inside.sum() < FEWEST_POINTS:
        return None
    value, _, low, high = theilslopes(values[inside], steps[inside], 0.95)
    return Slope(float(value), float(low), float(high), int(steps[inside][0]), int(steps[inside][-1]))


def cause(defect: float | None, cosine: float | None) -> Cause | None:
    """What made a slingshot, by the highest zero-sum defect before it (`interp.mathematics.softmax_collapse`; of the
    gradient that was trained on) and the lowest cos(W_G, μ_G): "numerical" where the defect was above 0.1 and the two
    means had turned against each other, which is what such a gradient does; "optimizer" where it was below 0.01.

    >>> cause(0.3, -0.99), cause(0.3, -0.1), cause(1e-7, -0.1), cause(None, None)
    ('numerical', None, 'optimizer', None)
    """
    if defect is None:
        return None
    if defect > NUMERICAL and cosine is not None and cosine < OPPOSED:
        return "numerical"
    return "optimizer" if defect < EXACT else None


def kind(spiked: Sequence[Spike], by_norm: Mapping[str, Sequence[Cycle]], causes: Sequence[Cause | None]) -> Kind:
    """What the spikes of a run are: slingshots, if by one norm two cycles or more are, and more than half of those that
    can be decided; and numerical, or of the optimizer's making, if the cause of each of them is; spikes, if there are
    no such two.

    >>> spike = Spike(900, 950, 1.0, 900, 0.1, 0.9)
    >>> cycle = Cycle(Slope(1e-2, 9e-3, 2e-2, 0, 900), Slope(0, 0, 0, 950, 1800))
    >>> [kind([spike] * 2, {"W_U": [cycle] * 2}, causes) for causes in (["numerical"] * 2, ["optimizer"] * 2)]
    ['slingshots (numerical)', 'slingshots (optimizer)']
    >>> kind([spike], {"W_U": [cycle]}, ["numerical"]), kind([], {}, [])
    ('spikes', 'none')
    """
    if not spiked:
        return "none"
    best = max(by_norm.values(), key=_shot, default=())
    decided = sum(cycle.is_slingshot is not None for cycle in best)
    if _shot(best) < FEWEST_CYCLES or 2 * _shot(best) <= decided:
        possible = (sum(cycle.is_slingshot is not False for cycle in each) for each in by_norm.values())
        return "unknown" if any(2 * n > len(spiked) and n >= FEWEST_CYCLES for n in possible) else "spikes"
    found = {of for cycle, of in zip(best, causes, strict=True) if cycle.is_slingshot}
    if found == {"numerical"}:
        return "slingshots (numerical)"
    return "slingshots (optimizer)" if found == {"optimizer"} else "slingshots"


def _shot(of_one: Sequence[Cycle]) -> int:
    return sum(cycle.is_slingshot is True for cycle in of_one)
