"""What happened in a run, told from its learning curves: the definitions of grokking and of what is not grokking. numpy
only.

A split is *reached* at a step where its accuracy is at least a level ℓ (99 %). Where the accuracy is unknown the loss
stands for it: reached where it is at most 1 − ℓ nats (a wrong answer costs at least ln 2, so a loss of 0.01 proves
98.6 %), not reached where it is at least half of chance, ln p; in between it cannot decide.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

VERDICTS = ("grokking", "comprehension", "memorization", "confusion", "collapse", "unknown")
LEVEL = 0.99
DELAY_FACTOR, DELAY_INTERVALS = 3, 3
FIXED_GAP_LEVEL, FIXED_GAP = 0.9, 1000
UNDECIDED = 0.5


class Events(NamedTuple):
    """What happened in a run: whether test pairs were at each step (`reached`), the step of each event and the interval
    before it (`first`), and the verdict (`verdict`).

    >>> found = events(np.array([0, 10, 20]), np.array([[0.1, 1.0, 1.0], [0.1, 0.1, 0.1]]))
    >>> found.memorized, found.test.tolist(), found.verdict
    ((10.0, 10.0), [0.0, 0.0, 0.0], 'memorization')
    """

    test: Float[np.ndarray, " step"]
    memorized: tuple[float, float]
    generalized: tuple[float, float]
    generalized_for_good: tuple[float, float]
    verdict: str


def events(
    steps: Int[np.ndarray, " step"],
    accuracies: Float[np.ndarray, "2 step"],
    losses: Float[np.ndarray, "2 step"] | None = None,
    chance_loss: float = math.nan,
) -> Events:
    """The events of a run from its learning curves, of train and of all test pairs; without losses from its accuracies
    alone.

    >>> late = np.arange(10) * np.ones((2, 1)) >= [[1], [8]]  # train from step 10 on, test from 80 on
    >>> found = events(np.arange(0, 100, 10), late * 1.0)
    >>> found.memorized, found.generalized_for_good, found.verdict
    ((10.0, 10.0), (80.0, 10.0), 'grokking')
    """
    losses = np.full_like(accuracies, np.nan) if losses is None else losses
    train, test = (reached(of_split, loss, chance_loss) for of_split, loss in zip(accuracies, losses, strict=True))
    return Events(
        test,
        first(steps, train),
        first(steps, test),
        first(steps, test, for_good=True),
        verdict(steps, train, test),
    )


def whole(step: float) -> int | None:
    """A step as an integer; None where there is none (NaN).

    >>> whole(120.0), whole(math.nan)
    (120, None)
    """
    return round(float(step)) if math.isfinite(step) else None


def chance(train_loss: Float[np.ndarray, " step"], test_loss: Float[np.ndarray, " step"]) -> float:
    """A stand-in for ln p where p is unknown: the larger of the first known losses, as of an untrained network, and so
    rather too high than too low, which leaves more undecided; NaN when it is below ln 2, as for two classes: such
    curves begin too late to tell.

    >>> chance(np.array([4.7, 0.1]), np.array([4.8, 6.0])), round(math.log(113), 1)
    (4.8, 4.7)
    """
    first = [losses[np.isfinite(losses)][:1] for losses in (train_loss, test_loss)]
    largest = max((float(losses[0]) for losses in first if len(losses)), default=math.nan)
    return largest if largest >= math.log(2) else math.nan


def reached(
    accuracy: Float[np.ndarray, " step"], loss: Float[np.ndarray, " step"], chance_loss: float, level: float = LEVEL
) -> Float[np.ndarray, " step"]:
    """At each step 1 (reached), 0 (not reached), ½ (the loss cannot decide) or NaN (nothing is known).

    >>> unknown = np.full(3, np.nan)
    >>> reached(unknown, np.array([4.7, 0.5, 0.001]), chance_loss=math.log(113)).tolist()
    [0.0, 0.5, 1.0]
    """
    by_loss = np.where(loss >= chance_loss / 2, 0.0, UNDECIDED)
    by_loss[loss <= round(1 - level, 9)] = 1.0
    by_loss[np.isnan(loss)] = np.nan
    if not np.isnan(accuracy).all():
        # Between accuracies that are known, a loss that decides nothing is no news.
        by_loss[by_loss == UNDECIDED] = np.nan
    return np.where(np.isnan(accuracy), by_loss, accuracy >= level)


def first(
    steps: Int[np.ndarray, " step"], states: Float[np.ndarray, " step"], *, for_good: bool = False
) -> tuple[float, float]:
    """The first known step that reached it (or from which on all known steps did), and the interval to the known step
    before it; NaN where there is none.

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


def verdict(
    steps: Int[np.ndarray, " step"], train: Float[np.ndarray, " step"], test: Float[np.ndarray, " step"]
) -> str:
    """The verdict from the states of the train split and of all test pairs (`reached`).

    With m the first step that reached train and g the first from which on test stays reached: grokking, when g ≥ 3 m
    and three logged steps or more lie in (m, g]; comprehension, when sooner; collapse: test was reached, and is not at
    the end; memorization: train only; confusion: neither; unknown: the curves cannot decide, or begin when test was
    already reached (which came first, they do not show).

    >>> steps, memorized = np.arange(0, 100, 10), np.arange(10) >= 1.0
    >>> [verdict(steps, memorized * 1.0, (np.arange(10) >= late) * 1.0) for late in (2, 8, 99)]
    ['comprehension', 'grokking', 'memorization']
    """
    early = _without_generalization(train, test)
    if early is not None:
        return early
    trained, tested = train[~np.isnan(train)], test[~np.isnan(test)]
    if tested[-1] != 1:
        return "collapse" if tested[-1] == 0 else "unknown"
    memorized, generalized = first(steps, train)[0], first(steps, test, for_good=True)[0]
    if (tested == 1).all() or (math.isnan(memorized) and (trained == UNDECIDED).any()):
        return "unknown"
    if math.isnan(memorized):
        return "comprehension"
    logged = int(((steps > memorized) & (steps <= generalized) & ~np.isnan(test)).sum())
    return "grokking" if generalized >= DELAY_FACTOR * memorized and logged >= DELAY_INTERVALS else "comprehension"


def fixed_gap_verdict(
    steps: Int[np.ndarray, " step"], train: Float[np.ndarray, " step"], test: Float[np.ndarray, " step"]
) -> str:
    """The verdict of Liu et al. 2022 (arXiv:2205.10343, App. A, Table 1), from the states at 90 %: grokking when test
    is first reached 1,000 steps or more after train, comprehension when sooner; memorization, confusion and unknown as
    in `verdict`.

    >>> steps, train = np.array([0, 100, 600, 2000]), np.array([0.0, 1.0, 1.0, 1.0])
    >>> fixed_gap_verdict(steps, train, np.array([0.0, 0.0, 1.0, 1.0]))
    'comprehension'
    >>> fixed_gap_verdict(steps, train, np.array([0.0, 0.0, 0.0, 1.0]))
    'grokking'
    """
    early = _without_generalization(train, test)
    if early is not None:
        return early
    memorized, generalized = first(steps, train)[0], first(steps, test)[0]
    if math.isnan(memorized) and (train == UNDECIDED).any():
        return "unknown"
    return "grokking" if generalized - memorized >= FIXED_GAP else "comprehension"


def _without_generalization(train: np.ndarray, test: np.ndarray) -> str | None:
    """The verdict where test was never reached, or nothing is known of a split; None where test was reached."""
    if np.isnan(train).all() or np.isnan(test).all():
        return "unknown"
    if (test == 1).any():
        return None
    if (test == UNDECIDED).any():
        return "unknown"
    if (train == 1).any():
        return "memorization"
    return "unknown" if (train == UNDECIDED).any() else "confusion"
