"""Which of many checkpoints stand for all."""

from collections.abc import Sequence

import numpy as np


def steps_to_show(steps: Sequence[int], marks: Sequence[float], most: int) -> list[int]:
    """At most `most` of the steps, at even places in the list, with the first, the last, and those nearest to the
    marks.

    >>> steps_to_show(range(0, 1001, 10), marks=[337.0], most=6)
    [0, 250, 340, 500, 750, 1000]
    """
    if len(steps) <= most:
        return list(steps)
    array = np.asarray(steps)
    near = {int(array[np.abs(array - mark).argmin()]) for mark in marks if np.isfinite(mark)}
    near = set(sorted(near)[: most - 2])
    even = np.unique(np.round(np.linspace(0, len(array) - 1, most - len(near))).astype(int))
    return sorted(near | {int(step) for step in array[even]})
