"""Computing ahead: the same items and errors in the same order, no more of them than can be used, and an end that is
prompt."""

import subprocess
import sys
import threading
import time
from collections.abc import Generator

import pytest
import torch

from interp.machine import computed_ahead


def counting(made: list[int], n: int = 10) -> Generator[int | None]:
    """The numbers from 0, with None between them, noted when they are made; notes −1 when it is closed."""
    try:
        for number in range(n):
            made.append(number)
            yield number
            yield None
    finally:
        made.append(-1)


def comes(condition) -> bool:
    """Whether something becomes true in good time."""
    deadline = time.monotonic() + 900
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


def test_the_items_come_in_their_order():
    made: list[int] = []
    with computed_ahead(counting(made)) as items:
        assert list(items) == list(range(10))
    assert made == [*range(10), -1]


def test_no_more_than_two_are_made_ahead():
    made: list[int] = []
    with computed_ahead(counting(made)) as items:
        for number in range(4):
            assert next(items) == number
            assert comes(lambda number=number: len(made) == number + 3)
            time.sleep(0.01)
            assert len(made) == number + 3


def test_an_error_comes_after_what_was_made_before_it():
    def failing() -> Generator[int | None]:
        yield 1
        yield 2
        raise ValueError("the third")

    seen: list[int] = []
    with pytest.raises(ValueError, match="the third"), computed_ahead(failing()) as items:
        seen.extend(items)  # takes what comes before the error
    assert seen == [1, 2]


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_leaving_early_stops_the_thread_and_closes_the_iterator(taken: int, error: type[BaseException]):
    made: list[int] = []
    before = threading.active_count()

    def leave() -> None:
        with computed_ahead(counting(made, 10**9)) as items:
            for _ in range(taken):
                next(items)
            raise error

    with pytest.raises(error):
        leave()
    assert threading.active_count() == before
    assert made[-1] == -1
    assert len(made) <= taken + 4


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_leaving_before_the_end_when_the_end_is_near_leaves_no_thread_waiting(length: int, fails: bool):
    """The thread waits to hand over an item when nobody takes any more, and then its end or its error as well."""
    given = []

    def items() -> Generator[int]:
        for item in range(length):
            given.append(item)
            yield item
        if fails:
            raise ValueError

    leaving = threading.Thread(target=lambda: leave(items(), given, length), daemon=True)
    leaving.start()
    leaving.join(timeout=900)
    assert not leaving.is_alive()


def leave(items: Generator[int], given: list[int], length: int) -> None:
    with computed_ahead(items):
        assert comes(lambda: len(given) >= min(length, 2))


def test_a_long_silence_can_be_interrupted():
    """As of training that logs nothing for a million steps."""
    steps = [0]

    def silent() -> Generator[int | None]:
        while True:
            steps[0] += 1
            yield None

    with computed_ahead(silent()):
        assert comes(lambda: steps[0] > 100)
    reached = steps[0]
    time.sleep(0.01)
    assert steps[0] == reached


def test_torch_has_as_many_threads_there_as_here():
    def number() -> Generator[int | None]:
        yield torch.get_num_threads()

    before = torch.get_num_threads()
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            with computed_ahead(number()) as items:
                assert list(items) == [n_threads]
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)


INTERRUPTED = """
import time
from itertools import count
from queue import Queue
from interp.machine.background import computed_ahead

take = Queue._get
def taken_and_interrupted(queue):
    take(queue)
    raise KeyboardInterrupt

try:
    with computed_ahead(number for number in count()) as numbers:
        next(numbers)
        time.sleep(0.5)  # the thread now waits for room
        Queue._get = taken_and_interrupted
        next(numbers)
except KeyboardInterrupt:
    print("ended")
"""


def test_an_interrupt_between_taking_an_item_and_saying_so_leaves_no_thread_waiting() -> None:
    said = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=900, check=True)
    assert said.stdout == "ended\n"
