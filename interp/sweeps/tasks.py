"""What a grid trains at a time: a run; or on a GPU, which one small network does not fill, several side by side."""

import math
from collections.abc import Sequence

from interp.experiment import Experiment
from interp.sweeps.planned_run import GridRun
from interp.training import MOST_AT_ONCE, groups, networks_at_once


def side_by_side(device: str) -> bool:
    """Whether the runs of a grid that may train side by side do.

    >>> side_by_side("cpu"), side_by_side("cuda")
    (False, True)
    """
    return device != "cpu"


def fitting(experiment: Experiment, n_alike: int, n_tasks: int, device: str, *, at_home: bool = True) -> int:
    """How many of `n_alike` networks like that of an experiment are one task, where so many tasks are to be had: the
    memory of a GPU is known where it is at home; elsewhere the task finds out.

    >>> fitting(Experiment(), 1000, 8, "cuda", at_home=False), fitting(Experiment(), 9000, 8, "cuda", at_home=False)
    (125, 256)
    """
    most = networks_at_once(experiment, device) if at_home else MOST_AT_ONCE
    return min(most, math.ceil(n_alike / n_tasks))


def tasks_of(left: Sequence[GridRun], n_processes: int, device: str) -> list[list[GridRun]]:
    """What is trained at a time: a run, or on a GPU as many as fit of those that may train side by side.

    >>> two = [GridRun(name, Experiment()) for name in "ab"]
    >>> [[run.name for run in task] for task in tasks_of(two, 1, "cpu")]
    [['a'], ['b']]
    """
    if not side_by_side(device):
        return [[run] for run in left]
    tasks = list[list[GridRun]]()
    for places in groups([run.experiment for run in left]):
        n = fitting(left[places[0]].experiment, len(places), n_processes, device)
        tasks += [[left[place] for place in places[at : at + n]] for at in range(0, len(places), n)]
    return tasks
