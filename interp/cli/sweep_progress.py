"""Progress of a sweep, for somebody who looks at it now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from interp.cli.output import drawn, say
from interp.cli.progress import LINE_INTERVAL_SECONDS
from interp.sweeps import GridProgress


@contextmanager
def sweep_progress(headline: str) -> Iterator[Callable[[GridProgress], None]]:
    """Something to call with every run that begins, is done or failed: a bar on a terminal, elsewhere a line now and
    then and one at the end."""
    if not sys.stdout.isatty():
        say(headline)
        clock, said = RemainingTime(), [0.0]

        def line(progress: GridProgress) -> None:
            words, now = in_words(progress, clock.left(progress)), time.monotonic()
            n_left = progress.total - progress.done - progress.failed
            # When a run is done the next has not begun yet, and would seem to be missing.
            is_full = progress.name in progress.running or n_left == len(progress.running)
            if not n_left or (is_full and now - said[0] > LINE_INTERVAL_SECONDS):
                said[0] = now
                say(words)

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, refresh_per_second=4) as bar:
        bar.console.print(drawn(headline))
        task, clock = bar.add_task("", total=None), RemainingTime()

        def update(progress: GridProgress) -> None:
            description = in_words(progress, clock.left(progress))
            bar.update(task, completed=progress.work_done, total=progress.work_total, description=description)

        yield update


class RemainingTime:
    """The seconds that are left, from the work done since the first report; None until some is done.

    >>> clock = RemainingTime(now=lambda: 0.0)
    >>> clock.left(GridProgress("a", 1, 0, ("b",), 4, 100, 400)) is None
    True
    >>> clock.now = lambda: 10.0
    >>> clock.left(GridProgress("b", 2, 0, (), 4, 200, 400))
    20.0
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.began: tuple[float, int] | None = None

    def left(self, progress: GridProgress) -> float | None:
        now = self.now()
        if self.began is None:
            self.began = now, progress.work_done
        at, work = self.began
        done = progress.work_done - work
        return (progress.work_total - progress.work_done) * (now - at) / done if done else None


def in_words(progress: GridProgress, seconds: float | None, now: datetime | None = None) -> str:
    """How many are done, failed, running and left, and when it ends.

    >>> in_words(GridProgress("a", 12, 1, ("b", "c"), 60, 1, 2), 5400, datetime(2026, 1, 31, 12, 0))
    '12 of 60 done, 1 failed, 2 running, 45 waiting; ends about 13:30, in 90 minutes'
    """
    running, failed = len(progress.running), f"{progress.failed:,} failed, " if progress.failed else ""
    waiting = progress.total - progress.done - progress.failed - running
    words = f"{progress.done:,} of {progress.total:,} done, {failed}{running} running, {waiting:,} waiting"
    if not seconds:
        return words
    now = now or datetime.now().astimezone()
    ends = now + timedelta(seconds=seconds)
    day = "" if ends.date() == now.date() else f"{ends:%Y-%m-%d} "
    amount = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    amount = amount if seconds < 7200 else f"{seconds / 3600:.0f} hours"
    return f"{words}; ends about {day}{ends:%H:%M}, in {amount}"
