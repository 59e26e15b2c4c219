"""What early stopping would have made of a run: told where some pairs are to choose on, and where it matters."""

import math

import numpy as np
import xarray as xr

from interp.experiment import Task
from interp.figures import as_accuracy, as_count
from interp.mathematics.early_stopping import PATIENCE, stop
from interp.mathematics.intervals import wilson_interval

POINTS = 0.05  # of test accuracy, between the step that is kept and the last


def early_stopping(curves: xr.Dataset, task: Task) -> tuple[str, ...]:
    """What somebody would have kept who stops by validation loss, the fullest wording first, and
    the last one the end of a sentence; nothing without validation
    pairs, or where the last step has nearly the same test accuracy. `curves` is the result of `learning_curves`.

    >>> import numpy as np
    >>> task, names = Task(13, validation_fraction=0.5), ["train", "test", "held_out", "validation"]
    >>> loss, accuracy = [2.6, 9.0, 1e-3], [0.05, 0.05, 1.0]
    >>> both = {name: (("step", "split"), np.tile(np.array(of)[:, None], 4)) for name, of in
    ...     (("loss", loss), ("accuracy", accuracy))}
    >>> print(early_stopping(xr.Dataset(both, {"step": [0, 600, 1200], "split": names}), task)[1])
    Early stopping would have kept step 0, where 5.0 % of test pairs are right; the last step has 100 %.
    """
    if "validation" not in curves.split.values:
        return ()
    steps, loss = curves.step.values, curves.loss.sel(split="validation").values
    found = stop(steps, loss, PATIENCE)
    if found is None:
        return ()
    kept, last = (curves.accuracy.isel(step=place) for place in (found.place, np.flatnonzero(np.isfinite(loss))[-1]))
    here, there = float(kept.sel(split="test")), float(last.sel(split="test"))
    if not abs(there - here) > POINTS:
        return ()
    ended = "" if found.ended_at is None else f"ended training at step {found.ended_at:,} and "
    known = f"where {as_accuracy(here)} of test pairs are right"
    then = f"the last step has {as_accuracy(there)}"
    n_pairs = as_count(int(task.mask("validation").sum()), "validation pair")
    interval = _interval(float(kept.sel(split="held_out")), task)
    return (
        f"Early stopping on {n_pairs}, with a patience of {PATIENCE} updates, would have {ended}kept step "
        f"{found.kept:,}, {known}{interval}; {then}. Only a patience of more than {found.longest_wait:,} updates would "
        "have kept the least validation loss.",
        f"Early stopping would have kept step {found.kept:,}, {known}; {then}.",
        f"early stopping would have kept step {found.kept:,} ({as_accuracy(here)} of test pairs; the last: "
        f"{as_accuracy(there)}).",
    )


def _interval(accuracy: float, task: Task) -> str:
    """How sure the accuracy on held-out pairs is, and whether a guess is within it."""
    if not math.isfinite(accuracy) or not task.n_held_out:
        return ""
    low, high = wilson_interval(round(accuracy * task.n_held_out), task.n_held_out)
    guess = ", as a guess has" if low <= task.guessing_accuracy <= high else ""
    return f" (of held-out pairs {as_accuracy(accuracy)}, 95 % interval {100 * low:.1f} to {100 * high:.1f} %{guess})"
