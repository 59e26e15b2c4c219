"""Computing ahead: what an iterator gives next is made in a thread of its own while its last is still being used."""

import contextlib
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import TypeVar

import torch

Item = TypeVar("Item")

_SECONDS_A_LOOK = 0.5


@contextmanager
def computed_ahead(items: Generator[Item | None]) -> Iterator[Iterator[Item]]:
    """What `items` gives but None, in its order; one of them waits while another is used and a third is made.

    An error of `items` is raised after all that came before it. When the context is left, whether by its end, by Ctrl-C
    or by an error, the thread stops as soon as `items` next gives anything: so an iterator whose items take long gives
    None in between.
    """
    waiting: Queue[tuple[Item | None, BaseException | None]] = Queue(1)
    stopped, n_threads = threading.Event(), torch.get_num_threads()

    def work() -> None:
        torch.set_num_threads(n_threads)  # a thread has a number of its own
        try:
            with contextlib.closing(items):
                for item in items:
                    if stopped.is_set():
                        return
                    if item is not None:
                        waiting.put((item, None))
            waiting.put((None, None))
        except BaseException as error:
            waiting.put((None, error))

    def taken() -> Iterator[Item]:
        while True:
            try:
                item, error = waiting.get(timeout=_SECONDS_A_LOOK)
            except Empty:  # an interrupt that is no signal (that of a cluster's task) is heard between looks
                continue
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        # Room for all that the thread may still hand over, an item and its end: nobody takes it. It is told so, because
        # an interrupt of `get` may have taken an item and not said it.
        with waiting.mutex:
            waiting.maxsize = sys.maxsize
            waiting.not_full.notify()
        thread.join()
