"""What processes of ours that share work have in common: a thread each, and an ear for their parent alone."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_without_spinning() -> None:
    """Let torch's threads sleep while they wait for one another, here and in every process that is started from here.
    By default they wait in a loop, and beside another busy process one of two spins on the core that the other needs:
    ten times as slow. Without effect once torch is loaded, and where the environment says otherwise."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@contextmanager
def one_thread() -> Iterator[None]:
    """The order in which threads add up is part of a result: with one, it is the same in this process and in one of its
    own."""
    import torch  # two seconds, which only some of what imports this has to spare

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """A process that is started meanwhile never hears of Ctrl-C, which a terminal sends to all: its parent tells it to
    stop."""
    # It comes up with the first process that is spawned, and then lets Ctrl-C through again
    # (ensure_running of Python 3.11).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect when the context is left: whoever takes locks that other threads wait for must not
    be left in the middle of it. Elsewhere than in the main thread they come to nobody, and nothing is to be done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
