"""Checkpoints that are thinned out while a run is read: what is gone on purpose is gone, and no damage."""

from collections.abc import Callable
from typing import TypeVar

from interp.errors import InputError
from interp.runs import Run

Answer = TypeVar("Answer")


def is_thinned_out(run: Run, step: int) -> bool:
    """Whether a checkpoint is not there any more, and thinned.json says that it was removed on purpose.

    >>> import interp
    >>> is_thinned_out(interp.open_run(interp.reference_path()), 1000)
    False
    """
    return step not in run.steps and step in run.thinned


def while_thinned(run: Run, ask: Callable[[], Answer]) -> Answer:
    """The answer of `ask`, which reads checkpoints of the run; it is asked again as often as one that was listed
    before is thinned out under its hands. Every other InputError is let through.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> while_thinned(run, lambda: run[1000].step)
    1000
    """
    while True:
        before = run.steps
        try:
            return ask()
        except InputError:
            if not ({*before} - {*run.steps}) & run.thinned:
                raise
