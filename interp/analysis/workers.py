"""Measuring many checkpoints, in this process alone or with others beside it.

Most of what an analysis does runs on one core whatever the number of threads, so that two processes with a thread each
take little more than half the time of one with two. Each row is measured with one thread of torch, so that it depends
on its checkpoint alone, never on who measured it: with any number of processes the results are the same to the last
bit.
"""

import math
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from interp.analysis.contract import Analysis, find
from interp.analysis.thinned import is_thinned_out
from interp.errors import InputError, Notice
from interp.machine import first_done, n_cores, one_thread, worker_processes
from interp.models import are_finite
from interp.runs import Run, open_run

MOST_PROCESSES = 4  # each needs up to half a gigabyte
# Neurons over pairs and checkpoints; below that another process is hardly up before all is done.
LEAST_WORK = 20 * 113**2 * 512
_AHEAD = 2  # steps given to another process beforehand, so that it need not wait for this one
_opened = lru_cache(1)(open_run)


class Order(NamedTuple):
    """What to measure: an analysis, its parameters, and the steps that are wanted of it."""

    analysis: Analysis
    parameters: dict[str, Any]
    steps: frozenset[int]


Rows = dict[str, xr.Dataset]  # by the name of the analysis


def processes_for(run: Run, steps: Sequence[int]) -> int:
    """How many processes are worth having for these checkpoints of a run: one per core, up to four, and one for little
    work."""
    return (
        min(n_cores(), MOST_PROCESSES) if len(steps) * math.prod(run.task.shape) * run.model.d_mlp >= LEAST_WORK else 1
    )


def measured(
    run: Run, orders: Sequence[Order], steps: Sequence[int], processes: int
) -> Generator[tuple[int, Rows], None, None]:
    """Every step with the rows that were asked for, each checkpoint read once; with several processes in no certain
    order. Checkpoints of a training that diverged, and those that were thinned out meanwhile, have none."""
    if processes < 2:
        yield from ((step, _rows(run, orders, step)) for step in steps)
        return
    waiting, given, most = deque(steps), dict[Future[Rows], int](), _AHEAD * (processes - 1)
    with worker_processes(processes - 1) as pool:
        while waiting or given:
            try:
                while waiting and len(given) < most:
                    step = waiting[0]
                    wanted = [(order.analysis.name, order.parameters) for order in orders if step in order.steps]
                    given[pool.submit(_answer, run.path, wanted, step)] = step
                    waiting.popleft()
            except BrokenProcessPool:
                most = _alone(most)
            if waiting:
                step = waiting.popleft()
                yield step, _rows(run, orders, step)
            for future in first_done(given, at_once=bool(waiting)) if given else ():
                step = given.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    most = _alone(most)
                    waiting.append(step)
                else:
                    yield step, future.result()


def _alone(most: int) -> int:
    """The system took one of the processes, and with it the pool: this process goes on, and says so once."""
    if most:
        warnings.warn(
            "a process that shared the work was ended by the system, for want of memory perhaps; the others' part is "
            "done by this one",
            Notice,
            stacklevel=2,
        )
    return 0


def _answer(path: Path, wanted: list[tuple[str, dict[str, Any]]], step: int) -> Rows:
    """What another process does."""
    return _rows(_opened(path), [Order(find(name), parameters, frozenset([step])) for name, parameters in wanted], step)


def _rows(run: Run, orders: Sequence[Order], step: int) -> Rows:
    try:
        checkpoint = run[step]
    except InputError:
        if is_thinned_out(run, step):
            return {}
        raise
    if not are_finite(checkpoint.weights):
        return {}  # training diverged
    with one_thread():  # around each row, not the walk: whoever holds the generator keeps the threads it has
        return {
            order.analysis.name: order.analysis.function(checkpoint, **order.parameters)
            for order in orders
            if step in order.steps
        }
