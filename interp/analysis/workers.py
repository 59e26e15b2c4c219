"""Measuring many checkpoints, in this process alone or with others beside it.

Most of what an analysis does runs on one core whatever the number of threads, so that two processes with a thread each
take little more than half the time of one with two. Each row is measured with one thread of torch, so that it depends
on its checkpoint alone, never on who measured it: with any number of processes the results are the same to the last
bit.
"""

import math
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
import xarray as xr

from interp.analysis.contract import Analysis, find
from interp.machine import interrupts_held_back, keep_freed_memory, n_cores, one_thread
from interp.models import are_finite
from interp.runs import Run, open_run

MOST_PROCESSES = 4  # each needs up to half a gigabyte
LEAST_WORK = (
    20 * 113**2 * 512
)  # neurons over pairs and checkpoints; below that another process is hardly up before all is done
_AHEAD = 2  # steps given to another process beforehand, so that it need not wait for this one


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
    order."""
    if processes < 2:
        yield from ((step, _rows(run, orders, step)) for step in steps)
        return
    waiting = deque(steps)
    with _others(run, orders, processes - 1) as others:
        while waiting or any(given for given in others.values()):
            for other, given in list(others.items()):
                try:
                    while waiting and len(given) < _AHEAD:
                        other.send(waiting[0])
                        given.append(waiting.popleft())
                except OSError:
                    waiting.extend(others.pop(other))
            if waiting:
                step = waiting.popleft()
                yield step, _rows(run, orders, step)
            for other in wait([other for other, given in others.items() if given], timeout=0 if waiting else None):
                assert isinstance(other, Connection)
                try:
                    found = other.recv()
                except (EOFError, OSError):  # the system took it, for its memory perhaps: this one goes on
                    waiting.extend(others.pop(other))
                    continue
                if isinstance(found, Exception):
                    raise found
                yield others[other].popleft(), found


def _rows(run: Run, orders: Sequence[Order], step: int) -> Rows:
    checkpoint = run[step]
    if not are_finite(checkpoint.weights):
        return {}  # training diverged
    with one_thread():  # around each row, not the walk: whoever holds the generator keeps the threads it has
        return {
            order.analysis.name: order.analysis.function(checkpoint, **order.parameters)
            for order in orders
            if step in order.steps
        }


# ---- the other processes ---------------------------------------------------------------------------------------------


@contextmanager
def _others(run: Run, orders: Sequence[Order], workers: int) -> Iterator[dict[Connection, deque[int]]]:
    """Connections to other processes, each with the steps that it was given and has not answered."""
    spawn, named = get_context("spawn"), [(order.analysis.name, order.parameters, order.steps) for order in orders]
    others: dict[Connection, deque[int]] = {}
    started = []
    try:
        for _ in range(workers):
            here, there = spawn.Pipe()
            process = spawn.Process(target=_answer, args=(there, run.path, named), daemon=True)
            with interrupts_held_back():
                process.start()
            there.close()
            started.append(process)
            others[here] = deque()
        yield dict(others)
    finally:
        for process, here in zip(started, others, strict=True):
            process.terminate()
            process.join()
            here.close()


def _answer(connection: Connection, path: Path, named: list[tuple[str, dict[str, Any], frozenset[int]]]) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    run, orders = open_run(path), [Order(find(name), parameters, steps) for name, parameters, steps in named]
    # The one that asks is busy itself: a thread waits for it to take an answer.
    with ThreadPoolExecutor(1) as sender, suppress(EOFError, OSError):
        while True:
            try:
                answer = _rows(run, orders, connection.recv())
            except (EOFError, ConnectionError):
                raise  # nobody asks any more
            except Exception as error:
                answer = error
            sender.submit(_send, connection, answer)


def _send(connection: Connection, answer: Rows | Exception) -> None:
    try:
        connection.send(answer)
    except Exception as error:  # what cannot be sent can be told
        connection.send(RuntimeError(f"{error}: {answer!r}"))
