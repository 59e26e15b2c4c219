"""What a sweep will cost: hours, from steps that this machine is timed at, and bytes, counted."""

import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from interp.machine import n_cores, one_thread
from interp.models import method
from interp.sweeps.driver import size_on_disk
from interp.sweeps.planned_run import GridRun
from interp.sweeps.record import Keep
from interp.sweeps.tasks import side_by_side, tasks_of
from interp.training import together

N_TIMED, ROUNDS, SHORTEST = 3, 3, 0.2  # networks, timings of each, and the seconds that one takes at least
BYTES_OF_A_LINE = 480  # of metrics.jsonl: eight metrics, a digest, a sum


class Cost(NamedTuple):
    """What is still to be done: runs, hours (the least and the most), networks that were timed, and bytes on disk of
    all runs."""

    n_runs: int
    n_left: int
    hours: tuple[float, float]
    n_timed: int
    n_processes: int
    n_bytes: int


def cost_of(
    runs: Sequence[GridRun], done: set[str], keep: Keep, processes: int | None = None, device: str = "cpu"
) -> Cost:
    """The cost of the runs that are not `done`, on one thread in each of `processes` (default: one per core), or on a
    GPU, where those train side by side that may (`interp.sweeps.run_grid`).

    Hours: of those that are trained in one way (`_way`) up to N_TIMED networks (or groups of them), from the cheapest
    step to the dearest, are trained for a moment on the device, with the metrics that they log, and others lie between
    them; the range is that of the fastest and the slowest of ROUNDS timings. What writing takes, and that processes get
    in each other's way, is not in it.
    """
    left = [run for run in runs if run.name not in done]
    n_processes = max(1, min(processes or (1 if side_by_side(device) else n_cores()), len(left)))
    tasks = tasks_of(left, n_processes, device)
    ways = dict[Hashable, list[Sequence[GridRun]]]()
    for task in sorted(tasks, key=_work_of_a_step):
        ways.setdefault(_way(task), []).append(task)
    timed = {
        way: {_work_of_a_step(by_work[place]): by_work[place] for place in _places(len(by_work))}
        for way, by_work in ways.items()
    }
    seconds = {
        way: {work: seconds_of_a_step(task, device) for work, task in some.items()} for way, some in timed.items()
    }
    hours = []
    for end in (0, 1):
        of_each = [
            np.interp(_work_of_a_step(task), list(known := seconds[_way(task)]), [each[end] for each in known.values()])
            * task[0].experiment.training.steps
            for task in tasks
        ]
        # No task is cut in two: the longest is the least that it takes.
        hours.append(max(sum(of_each) / n_processes, max(of_each, default=0.0)) / 3600)
    n_timed = sum(len(task) for some in timed.values() for task in some.values())
    n_bytes = sum(bytes_kept(run, keep) for run in runs)
    return Cost(len(runs), len(left), (hours[0], hours[1]), n_timed, n_processes, n_bytes)


def _places(n: int) -> list[int]:
    """Of n tasks those that are timed, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, N_TIMED).round().astype(int)).tolist()


def _way(task: Sequence[GridRun]) -> Hashable:
    """What else decides how long a step takes: how the gradient is computed, and what is done with it."""
    model, training = task[0].experiment.model, task[0].experiment.training
    drops = training.regularizers.dropout > 0
    return method(model), drops, training.optimizer, training.filter.kind, training.filter.orthogonal, training.loss


def _work_of_a_step(task: Sequence[GridRun]) -> float:
    """What stands for the time of a step: the multiplications of a forward pass over its batch, and a fixed part."""
    experiment = task[0].experiment
    n_examples = experiment.training.batch_size or len(experiment.task.train_indices)
    model = experiment.model
    return float(len(task) * (200 + n_examples) * (model.d_model + model.d_mlp) * model.n_layers)


def seconds_of_a_step(task: Sequence[GridRun], device: str) -> tuple[float, float]:
    """The least and the most of ROUNDS timings of training runs side by side on a device, on a CPU on one thread,
    metrics included, per step."""
    training = task[0].experiment.training
    # At a rate at which nothing diverges: a step takes as long at any.
    slow = {"lr": 1e-9, "checkpoint_every": None, "checkpoint_log": None, "checkpoint_steps": ()}

    def timed(n_steps: int) -> float:
        shortened = [
            replace(run.experiment, training=replace(run.experiment.training, steps=n_steps, **slow)) for run in task
        ]
        moments = together(shortened, device=device)
        next(moments)  # at step 0, when all that is made once is there
        began = time.perf_counter()
        for _ in moments:
            pass
        return time.perf_counter() - began

    n_steps = 1
    with one_thread():
        timed(1)  # what is made once is no part of a step
        while timed(n_steps) < SHORTEST and n_steps < training.steps:
            n_steps *= 2
        rounds = [timed(n_steps) / n_steps for _ in range(ROUNDS)]
    return min(rounds), max(rounds)


def bytes_kept(run: GridRun, keep: Keep) -> int:
    """About how many bytes a finished run takes: lines, split, and the checkpoints that are kept of it."""
    task, training = run.experiment.task, run.experiment.training
    n_lines = 2 + training.steps // training.log_every
    always = BYTES_OF_A_LINE * n_lines + 8 * task.labels.size + 8 * len(task.train_indices) + 8_192
    if keep == "metrics":
        return always
    if keep == "ends":
        ends = replace(training, checkpoint_every=None, checkpoint_log=None, checkpoint_steps=())
        return always + size_on_disk(replace(run.experiment, training=ends))
    return always + size_on_disk(run.experiment)
