"""One run of a grid, as it is planned: what is trained, and what its folder is called. Light: who lists the runs of a
sweep trains none."""

import re
from dataclasses import dataclass
from typing import Any

from interp.errors import InputError
from interp.experiment import Experiment, experiment_from_dict, hash_of

UNFINISHED = "unfinished"  # the folder of the runs that are being trained


@dataclass(frozen=True)
class GridRun:
    """One run of a grid: the folder's name, what is trained, and the run of the grid whose last weights it starts from,
    if any.

    >>> run = GridRun("mine", Experiment())
    >>> run.key == GridRun("another name", Experiment()).key != GridRun("mine", Experiment(), start="other").key
    True
    """

    name: str
    experiment: Experiment
    start: str | None = None

    @property
    def key(self) -> str:
        """A name that is the same for what is the same run, and for nothing else: the experiment does not know where
        its weights come from."""
        return hash_of([self.experiment.hash, self.start])

    @property
    def work(self) -> int:
        """About proportional to the time it takes: a step has a fixed part, worth some 200 pairs at the canonical
        size."""
        return self.experiment.training.steps * (200 + len(self.experiment.task.train_indices))

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to another process: not the arrays that its task has drawn, which are drawn there again."""
        return _received, (self.name, self.experiment.to_dict(), self.start)


def _received(name: str, experiment: dict[str, Any], start: str | None) -> GridRun:
    return GridRun(name, experiment_from_dict(experiment), start)


def check_run_name(name: str) -> None:
    """Raises InputError for a name that cannot be that of a run's folder in a grid.

    >>> check_run_name("D500-seed0")
    >>> check_run_name("../D500")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: a run of a grid cannot be named '../D500': give the plain name of a folder
    """
    if not re.fullmatch(r"[^./\0][^/\0]{0,199}", name, re.DOTALL) or name == UNFINISHED:
        raise InputError(f"a run of a grid cannot be named {name!r:.200}: give the plain name of a folder")
