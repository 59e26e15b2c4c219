"""Measuring many checkpoints, in this process alone or with others beside it.

Most of what an analysis does runs on one core whatever the number of threads, so that two processes with a thread each take little
more than half the time of one with two. A row depends on its checkpoint alone, never on who measured it: with any number of processes
above one the results are the same to the last bit; those of one process may differ by the rounding of its number of threads.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import torch
import xarray as xr

from interp.discovery import Analysis, find
from interp.memory import keep_freed_memory
from interp.store import Run, open_run

MOST_PROCESSES = 4  # each needs up to half a gigabyte
LEAST_WORK = 20 * 113**2 * 512  # neurons over pairs and checkpoints; below that another process is hardly up before all is done
_AHEAD = 2  # steps given to another process beforehand, so that it need not wait for this one


class Order(NamedTuple):
    """What to measure: an analysis, its parameters, and the steps that are wanted of it."""

    analysis: Analysis
    parameters: dict[str, Any]
    steps: frozenset[int]


Rows = dict[str, xr.Dataset]  # by the name of the analysis


def processes_for(run: Run, steps: Sequence[int]) -> int:
    """How many processes are worth having for these checkpoints of a run: one per core, up to four, and one for little work."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES) if len(steps) * run.task.p**2 * run.model.d_mlp >= LEAST_WORK else 1


def measured(run: Run, orders: Sequence[Order], steps: Sequence[int], processes: int) -> Generator[tuple[int, Rows], None, None]:
    """Every step with the rows that were asked for, each checkpoint read once; with several processes in no certain order."""
    if processes < 2:
        yield from ((step, _rows(run, orders, step)) for step in steps)
        return
    waiting, given = deque(steps), dict[Future[Rows], int]()
    with _one_thread(), _others(run, orders, processes - 1) as pool:
        alone = False
        while waiting or given:
            with _without_interrupts():  # a process that is started inherits it: Ctrl-C is for this one
                while waiting and not alone and len(given) < _AHEAD * (processes - 1):
                    step = waiting.popleft()
                    given[pool.submit(_rows_of_another, step)] = step
            if waiting:
                step = waiting.popleft()
                yield step, _rows(run, orders, step)
            else:
                wait(given, return_when=FIRST_COMPLETED)
            for done in [future for future in given if future.done()]:
                step = given.pop(done)
                if isinstance(done.exception(), BrokenProcessPool):  # the system took it, for its memory perhaps: this one goes on
                    alone = True
                    waiting.append(step)
                else:
                    yield step, done.result()


def _rows(run: Run, orders: Sequence[Order], step: int) -> Rows:
    checkpoint = run[step]
    return {order.analysis.name: order.analysis.function(checkpoint, **order.parameters) for order in orders if step in order.steps}


# ---- the other processes ---------------------------------------------------------------------------------------------------

_given: list[tuple[Run, list[Order]]] = []  # of another process: what it is there for


@contextmanager
def _others(run: Run, orders: Sequence[Order], workers: int) -> Iterator[ProcessPoolExecutor]:
    named = [(order.analysis.name, order.parameters, order.steps) for order in orders]
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (run.path, named))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(path: Path, named: list[tuple[str, dict[str, Any], frozenset[int]]]) -> None:
    # A parent that is killed cannot tell its children.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    _given.append((open_run(path), [Order(find(name), parameters, steps) for name, parameters, steps in named]))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _rows_of_another(step: int) -> Rows:
    return _rows(*_given[0], step)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
