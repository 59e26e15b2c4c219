"""What happened in a run, told from its learning curves: the definitions of grokking and of what is not grokking. numpy
only.

A split is *reached* at a logged step where its accuracy is at least a level ℓ: 99 %, or all but two pairs where it has
fewer than 200, and never less than 90 %. Where the accuracy is unknown the loss stands for it: reached where it is at
most 1 − ℓ nats (a wrong answer costs at least ln 2, so a loss of 0.01 proves 98.5 %), not reached where it is at least
half of chance, ln p; in between it cannot decide.

A run *has memorized* (train pairs) or *generalized* (held-out pairs) at the first reached step that holds: at 9 of 10
logged steps up to 1.5 times that step, at least five of them. Among fewer than ten a single miss undoes nothing, so
that no verdict hangs on one logged point; where the run ends before there are five, none may miss, and it can hang on
the last one (`Crossing.seen_for` is 0). It happened between two logged steps, (m₀, m₁] and (g₀, g₁]: m₁ and g₁ are the
steps that hold, m₀ and g₀ the last ones before them that are known not to have reached it.

    grokking        g₀ ≥ 3 m₁
    comprehension   g₁ < 3 m₀, or g₁ ≤ m₀
    memorization    train pairs only
    confusion       neither
    collapse        generalized, and then lost it: the last three logged steps or more have a held-out loss of ln 2
                    or more (the geometric mean of the probability of the right answer is below ½), and less than half
                    of the answers right
    unknown         what cannot be told: too few held-out pairs (FEWEST_HELD_OUT), curves that cannot decide or begin
                    when it had memorized, held-out pairs that had been reached, fell, and are reached again
                    too late to see it hold, or steps logged too far apart to tell grokking from comprehension

Words after Liu et al. 2022 (arXiv:2205.10343), whose gap of 1,000 steps is `fixed_gap_verdict`. It cannot tell why.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from interp.mathematics.crossings import (
    WINDOW_FACTOR,
    Crossing,
    Episode,
    States,
    crossing,
    falls,
    first,
    highest_held,
    whole,
)
from interp.mathematics.held_out import FEWEST_HELD_OUT

if TYPE_CHECKING:
    import xarray as xr

VERDICTS = ("grokking", "comprehension", "memorization", "confusion", "collapse", "unknown")
LEVEL, MOST_MISSED, SMALL_SPLIT, LOWEST_LEVEL = 0.99, 2, 200, 0.9
DELAY_FACTOR = 3
LOWER_LEVEL = 0.9
LOST_LOSS, LOST_ACCURACY, LOST_POINTS = math.log(2), 0.5, 3
FIXED_GAP_LEVEL, FIXED_GAP = 0.9, 1000
UNDECIDED = 0.5


class Events(NamedTuple):
    """What happened in a run: when it memorized and when it generalized (None: it did not, or nobody can tell), the
    falls of train and of held-out pairs after they were first reached, how much of the held-out pairs it ever knew and
    held, the verdict, and what that would be with LOWER_LEVEL in place of 99 %.

    >>> late = np.arange(10) * np.ones((2, 1)) >= [[1], [8]]  # train from step 10 on, held-out pairs from 80 on
    >>> found = events(np.arange(0, 100, 10), late * 1.0)
    >>> found.memorized.at, found.generalized.at, found.generalized.seen_for, found.delay, found.verdict
    (10.0, 80.0, 10.0, (60.0, 80.0), 'grokking')
    """

    memorized: Crossing | None
    generalized: Crossing | None
    train_falls: tuple[Episode, ...]
    falls: tuple[Episode, ...]
    reached: float
    reached_at: float
    verdict: str
    verdict_at_lower_level: str

    @property
    def delay(self) -> tuple[float, float]:
        """The bounds of the steps from memorizing to generalizing; NaN where either is unknown."""
        return delay(self.memorized, self.generalized)

    @property
    def times(self) -> dict[str, Any]:
        """JSON: the steps of the events, the accuracy on held-out pairs that was held, and the falls after it
        generalized; None where unknown."""
        facts: dict[str, Any] = {}
        for name, event in (("memorized", self.memorized), ("generalized", self.generalized)):
            after, at, seen_for = event or (math.nan, math.nan, math.nan)
            facts |= {
                f"{name}_at": whole(at),
                f"{name}_after": whole(after) if after >= 0 else None,
                f"{name}_seen_for": whole(seen_for),
            }
        facts |= {
            "held_out_accuracy": self.reached if math.isfinite(self.reached) else None,
            "held_out_accuracy_at": whole(self.reached_at),
        }
        return facts | {"falls": [fall.to_dict() for fall in self.falls]}


def events(
    steps: Int[np.ndarray, " step"],
    accuracies: Float[np.ndarray, "2 step"],
    losses: Float[np.ndarray, "2 step"] | None = None,
    chance_loss: float = math.nan,
    *,
    pairs: tuple[int | None, int | None] = (None, None),
    independent: int | None = None,
) -> Events:
    """The events of a run from its learning curves, of train and of held-out pairs; without losses from its accuracies
    alone. `pairs`: how many there are of each; `independent`: how many of the held-out ones are (`Task.n_held_out`);
    None where unknown.

    >>> never = events(np.array([0, 10, 20]), np.array([[0.1, 1.0, 1.0], [0.1, 0.1, 0.3]]))
    >>> never.memorized, never.generalized, never.reached, never.reached_at, never.verdict
    (Crossing(after=0.0, at=10.0, seen_for=10.0), None, 0.3, 20.0, 'memorization')
    """
    losses = np.full_like(accuracies, np.nan) if losses is None else losses
    levels = [level_for(count) for count in pairs]
    states = [
        reached(accuracy, loss, chance_loss, level)
        for accuracy, loss, level in zip(accuracies, losses, levels, strict=True)
    ]
    lower = [reached(accuracies[split], losses[split], chance_loss, LOWER_LEVEL) for split in (0, 1)]
    lost, is_told = is_lost(states[1], accuracies[1], losses[1]), independent is None or independent >= FEWEST_HELD_OUT
    verdicts = (verdict(steps, of, (crossing(steps, of[0]), crossing(steps, of[1])), lost) for of in (states, lower))
    at_level, at_lower_level = verdicts if is_told else ("unknown", "unknown")
    train_falls, held_out_falls = (
        falls(steps, state, of, _first_reached(steps, state)) for state, of in zip(states, accuracies, strict=True)
    )
    highest, highest_at = highest_held(steps, accuracies[1])
    return Events(
        memorized=crossing(steps, states[0]),
        generalized=crossing(steps, states[1]),
        train_falls=train_falls,
        falls=held_out_falls,
        reached=highest,
        reached_at=highest_at,
        verdict=at_level,
        verdict_at_lower_level=at_lower_level,
    )


def events_of(curves: "xr.Dataset") -> Events:
    """What curves tell, `loss` and `accuracy` [step, split], with the attributes `train_pairs` and `held_out_pairs`
    (how many there are), `independent_held_out_pairs` and `chance_loss`, as in the result of `learning_curves`. Where
    the split is unknown the test curve of an import stands for held-out pairs, mirrors included. Losses that are no
    cross-entropies (the attribute `losses_decide` is 0) tell nothing.

    >>> import interp
    >>> found = events_of(interp.open_run(interp.reference_path()).result("learning_curves"))
    >>> found.memorized.at, found.generalized.at, found.verdict
    (100.0, 950.0, 'grokking')
    """
    train, held_out = (int(curves.attrs[f"{split}_pairs"]) for split in ("train", "held_out"))
    independent: int | None = int(curves.attrs["independent_held_out_pairs"])
    unseen = "held_out"
    if not train and not held_out:
        unseen, independent = "test", None
    loss, accuracy = (curves[name].sel(split=["train", unseen]).values.T for name in ("loss", "accuracy"))
    chance_loss, pairs = float(curves.attrs["chance_loss"]), (train or None, held_out or None)
    told = loss if curves.attrs.get("losses_decide", 1) else None
    return events(curves.step.values, accuracy, told, chance_loss, pairs=pairs, independent=independent)


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


def level_for(pairs: int | None) -> float:
    """The accuracy from which on so many pairs count as known: 99 %, or all but two where there are fewer than 200, and
    never less than 90 %: of two pairs both.

    >>> level_for(3830), level_for(100), level_for(2), level_for(None)
    (0.99, 0.98, 0.9, 0.99)
    """
    return LEVEL if pairs is None or pairs >= SMALL_SPLIT else max(LOWEST_LEVEL, 1 - MOST_MISSED / max(pairs, 1))


def reached(
    accuracy: Float[np.ndarray, " step"], loss: Float[np.ndarray, " step"], chance_loss: float, level: float = LEVEL
) -> States:
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
    return np.where(np.isnan(accuracy), by_loss, accuracy >= level - 1e-9)


def _first_reached(steps: Int[np.ndarray, " step"], states: States) -> Crossing | None:
    at = first(steps, states)[0]
    return Crossing(-1.0, at) if math.isfinite(at) else None


def is_lost(states: States, accuracy: Float[np.ndarray, " step"], loss: Float[np.ndarray, " step"]) -> bool:
    """Whether the last LOST_POINTS known steps or more are far from reached: by the loss and by the accuracy, where
    these are known.

    >>> loss, accuracy = np.array([0.0, 4.0, 4.0, 4.0]), np.array([1.0, 0.1, 0.1, 0.1])
    >>> is_lost(accuracy, accuracy, loss), is_lost(accuracy[:3], accuracy[:3], loss[:3])
    (True, False)
    """
    known = np.isfinite(accuracy) | np.isfinite(loss)
    far = ~(loss < LOST_LOSS) & ~(accuracy >= LOST_ACCURACY) & ~(states == 1)
    return bool(known.sum() >= LOST_POINTS and far[known][-LOST_POINTS:].all())


def delay(memorized: Crossing | None, generalized: Crossing | None) -> tuple[float, float]:
    """The bounds of the steps from memorizing to generalizing, max(0, g₀ − m₁) and g₁ − m₀; NaN where either is
    unknown.

    >>> delay(Crossing(0.0, 100.0), Crossing(400.0, 1000.0))
    (300.0, 1000.0)
    """
    if memorized is None or generalized is None:
        return math.nan, math.nan
    return max(0.0, generalized.after - memorized.at), max(0.0, generalized.at - max(memorized.after, 0.0))


def verdict(
    steps: Int[np.ndarray, " step"],
    states: Sequence[States],
    crossings: tuple[Crossing | None, Crossing | None],
    lost: bool,
) -> str:
    """The verdict from the states of train and held-out pairs, when they were reached and held, and whether the end has
    lost it.

    >>> steps, memorized = np.arange(0, 100, 10), (np.arange(10) >= 3) * 1.0
    >>> def found(late: int) -> str:
    ...     held_out = (np.arange(10) >= late) * 1.0
    ...     return verdict(steps, [memorized, held_out], (crossing(steps, memorized), crossing(steps, held_out)), False)
    >>> [found(late) for late in (2, 4, 99)]
    ['comprehension', 'comprehension', 'memorization']
    """
    memorized, generalized = crossings
    early = _without_generalization(states, crossings)
    if early is not None or generalized is None:
        return early or "unknown"
    if lost:
        return "collapse"
    # What fell before must be seen to hold; and who began with it may have had it for long.
    is_short = generalized.seen_for < (WINDOW_FACTOR - 1) * generalized.at
    has_fallen = is_short and (states[1][steps < generalized.at] == 1).any()
    if has_fallen or (memorized is None and (states[0] == UNDECIDED).any()) or (memorized and memorized.after < 0):
        return "unknown"
    memorized = memorized or Crossing(float(steps[-1]), math.inf)
    if generalized.after >= DELAY_FACTOR * memorized.at:
        return "grokking"
    before = generalized.at < DELAY_FACTOR * memorized.after or generalized.at <= memorized.after
    return "comprehension" if before else "unknown"


def fixed_gap_verdict(steps: Int[np.ndarray, " step"], train: States, test: States) -> str:
    """The verdict of Liu et al. 2022 (arXiv:2205.10343, App. A, Table 1), from the states at 90 %: grokking when test
    is reached 1,000 steps or more after train, comprehension when sooner; memorization, confusion and unknown as in
    `verdict`, and unknown where the steps are logged too far apart to tell.

    >>> steps, train = np.array([0, 100, 600, 2000]), np.array([0.0, 1.0, 1.0, 1.0])
    >>> fixed_gap_verdict(steps, train, np.array([0.0, 0.0, 1.0, 1.0]))
    'comprehension'
    >>> fixed_gap_verdict(steps, train, np.array([0.0, 0.0, 0.0, 1.0]))  # somewhere between 500 and 2,000 steps
    'unknown'
    """
    crossings = crossing(steps, train), crossing(steps, test)
    early = _without_generalization([train, test], crossings)
    if early is not None:
        return early
    memorized, generalized = crossings
    if memorized is None:
        return "unknown" if (train == UNDECIDED).any() else "comprehension"
    least, most = delay(memorized, generalized)
    return "grokking" if least >= FIXED_GAP else "comprehension" if most < FIXED_GAP else "unknown"


def _without_generalization(states: Sequence[States], crossings: tuple[Crossing | None, Crossing | None]) -> str | None:
    """The verdict where held-out pairs were never reached, or nothing is known of a split; None where they were."""
    (train, held_out), (memorized, generalized) = states, crossings
    if np.isnan(train).all() or np.isnan(held_out).all():
        return "unknown"
    if generalized is not None:
        return None
    if (held_out == UNDECIDED).any():
        return "unknown"
    if memorized is not None:
        return "memorization"
    return "unknown" if (train == UNDECIDED).any() else "confusion"
