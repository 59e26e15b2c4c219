"""Other processes to work: with one thread of torch each, deaf to Ctrl-C, and gone when their parent is."""

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from interp.machine.memory import keep_freed_memory
from interp.machine.processes import interrupts_held_back, interrupts_put_off

_SECONDS_TO_SAVE, _SECONDS_A_LOOK = 10.0, 0.2

Result = TypeVar("Result")


@contextmanager
def worker_processes(n: int) -> Iterator[ProcessPoolExecutor]:
    """An executor of so many processes. When the context is left, by its end, by Ctrl-C or by an error, they get
    SIGTERM, and ten seconds to save what they have; also when this process is killed."""
    context = get_context("spawn")
    ends, held = context.Pipe(duplex=False)
    pool = _Pool(n, context, initializer=_begin, initargs=(ends,))
    try:
        yield pool
    finally:
        held.close()  # tells them to stop
        pool.shutdown(cancel_futures=True)
        ends.close()


@contextmanager
def separate_processes(n: int) -> Iterator[Executor]:
    """The same, and a process that is killed costs what it was doing and nothing else: of that alone the future has a
    BrokenProcessPool (`worker_processes` loses all that it was given), and another process takes its place."""
    context = get_context("spawn")
    ends, held = context.Pipe(duplex=False)
    apart = _Apart(n, lambda: _Pool(1, context, initializer=_begin, initargs=(ends,)))
    try:
        yield apart
    finally:
        held.close()  # tells them to stop, all at once
        apart.shutdown(cancel_futures=True)
        ends.close()


class _Apart(Executor):
    """Pools of one process each: what is submitted goes to one that has nothing to do, or else to the next in turn."""

    def __init__(self, n: int, new: Callable[[], ProcessPoolExecutor]) -> None:
        self._new, self._pools = new, [new() for _ in range(n)]
        self._given: list[Future[Any] | None] = [None] * n

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        busy = [given is not None and not given.done() for given in self._given]
        place = busy.index(False) if False in busy else 0
        try:
            future = self._pools[place].submit(fn, *args, **kwargs)
        except BrokenProcessPool:
            self._pools[place].shutdown()
            self._pools[place] = self._new()
            future = self._pools[place].submit(fn, *args, **kwargs)
        # Moved to the end, so that those who are busy take turns.
        self._pools.append(self._pools.pop(place))
        self._given.pop(place)
        self._given.append(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for pool in self._pools:
            pool.shutdown(wait, cancel_futures=cancel_futures)


class _Pool(ProcessPoolExecutor):
    """It starts its processes when it is given work."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        with interrupts_put_off(), interrupts_held_back():
            return super().submit(fn, *args, **kwargs)


def first_done(futures: Collection[Future[Result]], *, at_once: bool = False) -> set[Future[Result]]:
    """Those of the futures that are done, as soon as one is; `at_once`, those that are by now. Ctrl-C is heard between
    looks: within one it could leave a lock taken that the executor needs to end."""
    while True:
        with interrupts_put_off():
            done = wait(futures, timeout=0 if at_once else _SECONDS_A_LOOK, return_when=FIRST_COMPLETED).done
        if done or at_once:
            return done


def _begin(ends: Connection) -> None:
    import torch  # in the worker alone: whoever starts it may do without

    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_stop_with_parent, args=(ends,), daemon=True).start()


def _stop_with_parent(ends: Connection) -> None:
    """The other end of the pipe is closed when the parent says stop, and also when it is killed: then the work is saved
    and left."""
    while not ends.poll(None):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_TO_SAVE)
    os._exit(1)
