"""When a curve reached a level and held it, and the falls after that: the steps that verdicts stand on
(`interp.mathematics.grokking`). numpy only."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

WINDOW_FACTOR, WINDOW_POINTS, POINTS_TO_A_MISS = 1.5, 5, 10

# At each step 1 (reached), 0 (not reached), ½ (cannot be decided) or NaN (nothing is known).
States = Float[np.ndarray, " step"]


class Crossing(NamedTuple):
    """Between which two logged steps something began that held: (after, at]. Where nothing was logged before, `after`
    is 0, the untrained network, which has reached nothing; and −1 where `at` is that step itself. `seen_for`: the steps
    that were left to see it hold, where the run ends before it had to; else NaN.

    >>> Crossing(after=10.0, at=20.0).interval
    10.0
    """

    after: float
    at: float
    seen_for: float = math.nan

    @property
    def interval(self) -> float:
        """How finely the step is known; NaN where it began before step 0."""
        return self.at - self.after if self.after >= 0 else math.nan


class Episode(NamedTuple):
    """A fall after a crossing: the first logged step of it, the lowest accuracy (NaN where only the loss is known), and
    the step at which it had recovered; NaN where the run ends in it.

    >>> Episode(40.0, 0.6, 50.0).lasted
    10.0
    """

    step: float
    lowest: float
    recovered_at: float

    @property
    def lasted(self) -> float:
        """Steps; NaN where the run ends in it."""
        return self.recovered_at - self.step

    def to_dict(self) -> dict[str, Any]:
        """JSON values; None where unknown."""
        lowest = self.lowest if math.isfinite(self.lowest) else None
        return {"step": whole(self.step), "lowest_accuracy": lowest, "recovered_at": whole(self.recovered_at)}


def whole(step: float) -> int | None:
    """A step as an integer; None where there is none (NaN).

    >>> whole(120.0), whole(math.nan)
    (120, None)
    """
    return round(float(step)) if math.isfinite(step) else None


def crossing(steps: Int[np.ndarray, " step"], states: States) -> Crossing | None:
    """The first step that is reached and holds; None where there is none. States that are unknown or cannot decide are
    left out of what holds.

    >>> steps, states = np.arange(0, 200, 10), (np.arange(20) >= 8) * 1.0
    >>> crossing(steps, states)
    Crossing(after=70.0, at=80.0, seen_for=nan)
    >>> states[10] = 0  # a single fall undoes nothing
    >>> crossing(steps, states).at
    80.0
    """
    decided = (states == 0) | (states == 1)
    known, yes = steps[decided], states[decided] == 1
    n = len(known)
    until = np.searchsorted(known, WINDOW_FACTOR * known, side="right")
    until = np.maximum(until, np.arange(n) + WINDOW_POINTS)
    is_cut = (until > n) | (known[-1:] < WINDOW_FACTOR * known if n else np.zeros(0, dtype=bool))
    until = np.minimum(until, n)
    points = until - np.arange(n)
    misses = np.concatenate([[0], np.cumsum(~yes)])
    missed = misses[until] - misses[:-1]
    allowed = np.where(points >= WINDOW_POINTS, np.maximum(1, points // POINTS_TO_A_MISS), 0)
    holds = np.flatnonzero(yes & (missed <= allowed))
    if not len(holds):
        return None
    at = int(holds[0])
    before = known[:at][~yes[:at]]
    after = float(before[-1]) if len(before) else (0.0 if known[at] > 0 else -1.0)
    return Crossing(after, float(known[at]), float(known[-1] - known[at]) if is_cut[at] else math.nan)


def first(steps: Int[np.ndarray, " step"], states: States, *, for_good: bool = False) -> tuple[float, float]:
    """The first known step that reached it (or from which on all known steps did), and the interval to the known step
    before it; NaN where there is none. Both hang on one logged point: for tables that compare with published steps.

    >>> first(np.array([0, 10, 20, 30]), np.array([0.0, 1.0, 0.0, 1.0]))
    (10.0, 10.0)
    >>> first(np.array([0, 10, 20, 30]), np.array([0.0, 1.0, 0.0, 1.0]), for_good=True)
    (30.0, 10.0)
    """
    known = ~np.isnan(states)
    steps, yes = steps[known], states[known] == 1
    if for_good:
        yes = np.logical_and.accumulate(yes[::-1])[::-1]
    if not yes.any():
        return math.nan, math.nan
    index = int(yes.argmax())
    return float(steps[index]), float(steps[index] - steps[index - 1]) if index else math.nan


def highest_held(steps: Int[np.ndarray, " step"], accuracy: Float[np.ndarray, " step"]) -> tuple[float, float]:
    """The highest accuracy that was reached and held (`crossing`), and the step since when; NaN where none is known.

    >>> highest_held(np.arange(6), np.array([0.1, 0.9, 0.2, 0.6, 0.6, 0.6]))
    (0.6, 1.0)
    """
    levels = np.unique(accuracy[np.isfinite(accuracy)])
    if not len(levels):
        return math.nan, math.nan

    def crossed(level: float) -> Crossing | None:
        return crossing(steps, np.where(np.isnan(accuracy), np.nan, accuracy >= level))

    low, high = 0, len(levels)  # the lowest level is held everywhere; what is held at a level is held at all lower ones
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if crossed(levels[middle]) else (low, middle)
    found = crossed(levels[low])
    return float(levels[low]), found.at if found else math.nan


def falls(
    steps: Int[np.ndarray, " step"],
    states: States,
    accuracy: Float[np.ndarray, " step"],
    since: Crossing | None,
) -> tuple[Episode, ...]:
    """The episodes after a crossing in which it was not reached, in order.

    >>> accuracy = np.array([0.2, 1.0, 0.6, 0.7, 1.0, 0.98])
    >>> falls(np.arange(0, 60, 10), (accuracy >= 0.99) * 1.0, accuracy, Crossing(0.0, 10.0))
    (Episode(step=20.0, lowest=0.6, recovered_at=40.0), Episode(step=50.0, lowest=0.98, recovered_at=nan))
    """
    if since is None:
        return ()
    later = ((states == 0) | (states == 1)) & (steps >= since.at)
    steps, down, accuracy = steps[later], states[later] == 0, accuracy[later]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], down, [False]]).astype(np.int8)))
    found = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        known = accuracy[start:end][np.isfinite(accuracy[start:end])]
        lowest = float(known.min()) if len(known) else math.nan
        found.append(Episode(float(steps[start]), lowest, float(steps[end]) if end < len(steps) else math.nan))
    return tuple(found)
