"""Spikes of a training loss, after a network has memorized. numpy only.

Looked for from the logged step on at which all training answers have been right for `SETTLED` steps. The loss spikes
where it is more than 10 times its median over the 500 steps before (spikes left out), and more than 0.01 nats, or a
training answer is wrong; the spike ends when the loss is back below that level, and two less than 100 steps apart are
one. It cannot tell why: see `interp.mathematics.slingshots`.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

SETTLED, TRAILING, APART = 200, 500, 100  # steps
HIGHER, LEAST_LOSS = 10, 0.01


class Spike(NamedTuple):
    """The logged steps at which the loss was first seen above its level and first below it again (None: not before the
    end); its highest value, at which step, and the level; the fewest training answers that were right."""

    start: int
    end: int | None
    highest: float
    at: int
    level: float
    accuracy: float


def settled_at(steps: Int[np.ndarray, " n"], accuracy: Float[np.ndarray, " n"]) -> int | None:
    """The first logged step at which all training answers have been right for `SETTLED` steps; None: there is none.

    >>> steps = np.arange(0, 1000, 100)
    >>> settled_at(steps, np.where(steps < 300, 0.5, 1.0))
    500
    """
    since = None
    for step, value in zip(steps.tolist(), accuracy.tolist(), strict=True):
        since = (step if since is None else since) if value == 1 else None
        if since is not None and step - since >= SETTLED:
            return step
    return None


def spikes(
    steps: Int[np.ndarray, " n"],
    loss: Float[np.ndarray, " n"],
    accuracy: Float[np.ndarray, " n"],
    highest: Float[np.ndarray, " n"] | None = None,
    highest_at: Num[np.ndarray, " n"] | None = None,
) -> list[Spike]:
    """The spikes of a training loss [logged step], after the network has memorized. `highest` is the highest loss since
    the logged step before, at the step `highest_at`: without it a spike between two logged steps is not seen.

    >>> steps = np.arange(0, 2000, 10)
    >>> loss = np.where(steps == 1500, 0.3, 1e-4)
    >>> [(spike.start, spike.end, spike.highest) for spike in spikes(steps, loss, np.ones(200))]
    [(1500, 1510, 0.3)]
    """
    begin = settled_at(steps, accuracy)
    if begin is None:
        return []
    top = loss if highest is None else np.fmax(loss, highest)
    top_at = steps if highest_at is None else np.where((top > loss) & np.isfinite(highest_at), highest_at, steps)
    is_quiet, found, level = np.ones(len(steps), dtype=bool), list[Spike](), None
    for i in np.flatnonzero(steps > begin):
        if level is None:
            before = is_quiet[:i] & (steps[:i] >= max(begin - SETTLED, steps[i] - TRAILING))
            limit = HIGHER * float(np.median(loss[:i][before])) if before.any() else math.inf
            if top[i] > limit and (top[i] > LEAST_LOSS or accuracy[i] < 1):
                level = limit
                joins = found and found[-1].end is not None and steps[i] - found[-1].end < APART
                spike = found.pop() if joins else Spike(int(steps[i]), None, 0.0, int(steps[i]), level, 1.0)
                found.append(spike._replace(end=None))
        if level is not None:
            spike, is_quiet[i] = found[-1], False
            if top[i] > spike.highest:
                spike = spike._replace(highest=float(top[i]), at=int(top_at[i]))
            spike = spike._replace(accuracy=min(spike.accuracy, float(accuracy[i])))
            if top[i] <= level:
                spike, level = spike._replace(end=int(steps[i])), None
            found[-1] = spike
    return found
