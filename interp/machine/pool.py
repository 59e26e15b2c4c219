"""Other processes to work: with one thread of torch each, deaf to Ctrl-C, and gone when their parent is."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from interp.machine.memory import keep_freed_memory
from interp.machine.processes import interrupts_held_back

_SECONDS_TO_SAVE = 10.0

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


class _Pool(ProcessPoolExecutor):
    """It starts its processes when it is given work."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        with interrupts_held_back():
            return super().submit(fn, *args, **kwargs)


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
