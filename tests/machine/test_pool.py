"""Worker processes: what they are given, and that none is left."""

import contextlib
import multiprocessing
import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from interp.errors import InputError, check_integer
from interp.machine import separate_processes, worker_processes


def test_a_worker_has_one_thread_and_is_deaf_to_control_c() -> None:
    with worker_processes(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
        assert pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result() == {signal.SIGINT}
        with pytest.raises(InputError, match="seeds"):
            pool.submit(check_integer, "seeds", 0, 1, 10).result()


def test_workers_are_gone_when_the_context_is_left() -> None:
    with contextlib.suppress(KeyboardInterrupt), worker_processes(2) as pool:
        pool.submit(torch.get_num_threads).result()
        under_way = [pool.submit(time.sleep, 1000) for _ in range(3)]
        while not under_way[0].running():
            time.sleep(0.01)
        left = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - left < 500  # of the 1000 that they meant to sleep
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_takes_nothing_with_it() -> None:
    with separate_processes(2) as pool:
        lost, whole = pool.submit(os._exit, 1), pool.submit(torch.get_num_threads)
        with pytest.raises(BrokenProcessPool):
            lost.result()
        assert whole.result() == 1
        assert [pool.submit(torch.get_num_threads).result() for _ in range(3)] == [1, 1, 1]
    assert multiprocessing.active_children() == []
