"""Early stopping as a view of a run that was not stopped: which step would somebody with patience have kept?

Of losses L(s), known at steps s₁ < s₂ < …, s is a *record* where L(s) < L(r) for every r < s; the first is one. Who has
the patience P ends training at the first s that is P or more updates after the last record, and keeps the weights of
that record. A curve that falls to the end is never stopped, and the last step is kept; of one that falls and rises
again its minimum is. How long one had to wait for the least loss of all, at s*,

    W = max { s − (last record up to s) : s < s* },

says which patience would have seen it: any P > W, and none of P ≤ W. With noise on the curve records become rare,
by the n-th of independent losses of one distribution about ln n of them, and who waits stops at random between them.

It cannot tell what would have come after the last step.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

PATIENCE = 500  # updates; as many as those before a spike are looked at (`interp.mathematics.spikes`)


@dataclass(frozen=True)
class Stop:
    """The step that is kept, and its place among those that were given; the step at which training would have ended
    (None: it was never ended); and W, the longest wait before the least loss, in updates.

    >>> stop(np.array([0, 10, 20]), np.array([3.0, 1.0, 2.0]), patience=10)
    Stop(kept=10, place=1, ended_at=20, longest_wait=0)
    """

    kept: int
    place: int
    ended_at: int | None
    longest_wait: int


def stop(steps: Integer[np.ndarray, " n"], losses: Float[np.ndarray, " n"], patience: int = PATIENCE) -> Stop | None:
    """Where somebody with this patience, in updates, would have stopped; None where no loss is known. Losses that are
    NaN are as if nobody had looked. Without any patience the first step is kept.

    >>> steps, losses = np.arange(0, 80, 10), np.array([4.0, 3.0, 5.0, 6.0, 6.0, 5.0, 1.0, 0.5])
    >>> stop(steps, losses, 20)
    Stop(kept=10, place=1, ended_at=30, longest_wait=40)
    >>> stop(steps, losses, 41)
    Stop(kept=70, place=7, ended_at=None, longest_wait=40)
    """
    places = np.flatnonzero(np.isfinite(losses))
    if not len(places):
        return None
    at, known = steps[places].astype(np.int64), losses[places]
    least_before = np.concatenate([[np.inf], np.minimum.accumulate(known)[:-1]])
    record = np.maximum.accumulate(np.where(known < least_before, np.arange(len(at)), 0))
    waited = at - at[record]
    late = np.flatnonzero(waited >= patience)
    place = int(record[late[0]] if len(late) else record[-1])
    return Stop(
        kept=int(at[place]),
        place=int(places[place]),
        ended_at=int(at[late[0]]) if len(late) else None,
        longest_wait=int(waited[: record[-1] + 1].max()),
    )
