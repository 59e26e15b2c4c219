"""Logged values in the order of their steps: sorted, one value for each step, and without what a restart undid."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MOST_RESTARTS = 20


class Ordered(NamedTuple):
    """Ascending steps with their values, and what was done: values that came back to a step that had one and replaced
    it, at how many steps these differed, values of passes that a restart undid, steps at which the log went back,
    whether it was in order, and whether it goes back too often to tell which value is the later one."""

    steps: Float[np.ndarray, " step"]
    values: Float[np.ndarray, " step"]
    replaced: int
    contradicted: int
    undone: int
    went_back_to: tuple[int, ...]
    is_sorted: bool
    is_unclear: bool


def in_order(steps: Float[np.ndarray, " row"], values: Float[np.ndarray, " row"]) -> Ordered:
    """Rows (a finite step and a finite value each, in the order in which they were written) in the order of steps.

    Where no step is there twice, rows are only sorted. Where the log goes back to a step and repeats some, training was
    restarted there: the later value wins, and what the earlier pass had from that step on is undone, also at steps that
    the later one did not log. One that goes back more than MOST_RESTARTS times is sorted, and if steps have several
    values then, which of them is later is unclear.

    >>> ordered = in_order(np.array([0.0, 10, 20, 30, 10, 20]), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    >>> ordered.steps.tolist(), ordered.values.tolist(), ordered.went_back_to
    ([0.0, 10.0, 20.0], [0.1, 0.5, 0.6], (10,))
    """
    back = np.flatnonzero(np.diff(steps) < 0) + 1
    has_twice = len(np.unique(steps)) < len(steps)
    undone, went_back_to = 0, ()
    if has_twice and 0 < len(back) <= MOST_RESTARTS:
        # A row is undone where a later pass begins at its step or before.
        begins = np.full(len(steps), np.inf)
        begins[back] = steps[back]
        earliest_later = np.minimum.accumulate(begins[::-1])[::-1]
        earliest_later = np.append(earliest_later[1:], np.inf)
        kept = steps < earliest_later
        undone, went_back_to = int((~kept).sum()), tuple(int(step) for step in steps[back])
        steps, values = steps[kept], values[kept]
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(steps[1:] != steps[:-1], True) if len(steps) else np.zeros(0, dtype=bool)
    contradicted = len(np.unique(steps[:-1][~last[:-1] & (values[1:] != values[:-1])]))
    return Ordered(
        *(steps[last], values[last], int((~last).sum()), contradicted, undone, went_back_to),
        is_sorted=not len(back),
        is_unclear=len(back) > MOST_RESTARTS and contradicted > 0,
    )
