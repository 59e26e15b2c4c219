"""Progress of long work: a bar on a terminal, plain lines otherwise."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from interp.cli.output import drawn, say
from interp.experiment import Experiment
from interp.figures import in_words, terminal_bar
from interp.printable import one_line

if TYPE_CHECKING:
    from interp.models import Snapshot
    from interp.sweeps import GridProgress

LINE_INTERVAL_SECONDS = 5.0
Item = TypeVar("Item")


@contextmanager
def training_progress(
    experiment: Experiment, headline: str, n_seeds: int | None = None, at_once: int | None = None
) -> "Iterator[Callable[[Snapshot], None]]":
    """Something to call with every snapshot of training, or with the mean over so many seeds, of which so many (all)
    are trained at once; the first one prints the headline."""
    n_steps, began = experiment.training.steps, time.monotonic()
    of = f"mean over {n_seeds} seeds: " if n_seeds is not None and n_seeds > 1 else ""
    if n_seeds is not None and at_once is not None and at_once < n_seeds:
        of = f"mean over those in training, of {n_seeds} seeds: " if at_once > 1 else ""
    if not sys.stdout.isatty():
        last_line = [0.0]

        def line(snapshot: "Snapshot") -> None:
            now = time.monotonic()
            if not last_line[0]:
                say(headline)
            if snapshot.step in (0, n_steps) or now - last_line[0] > LINE_INTERVAL_SECONDS:
                last_line[0] = now
                state = of + in_words(snapshot.metrics)
                say(f"step {snapshot.step:>{len(str(n_steps))}}/{n_steps}  {state}  {now - began:5.0f} s")

        yield line
        return
    from rich.console import Console

    console = Console()
    with terminal_bar(n_steps, console) as bar:
        announced = [False]

        def update(snapshot: "Snapshot") -> None:
            if not announced[0]:
                announced[0] = True
                console.print(drawn(headline))
            bar(snapshot.step, of + in_words(snapshot.metrics))

        yield update


@contextmanager
def grid_progress(headline: str) -> "Iterator[Callable[[GridProgress], None]]":
    """Something to call with every run of a grid that begins, is done or failed; only the last two are told of."""
    began = time.monotonic()
    if not sys.stdout.isatty():
        say(headline)

        def line(progress: "GridProgress") -> None:
            if progress.name in progress.running:
                return
            share, width = progress.work_done / progress.work_total, len(str(progress.total))
            count = f"{progress.done:>{width}}/{progress.total}"
            say(f"{count} runs, {share:4.0%} of the work  {progress.name}  {time.monotonic() - began:5.0f} s")

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, refresh_per_second=4) as bar:
        bar.console.print(drawn(headline))
        task = bar.add_task("training", total=None)

        def update(progress: "GridProgress") -> None:
            if progress.name in progress.running:
                return
            description = one_line(f"{progress.done} of {progress.total} runs, last {progress.name}")
            bar.update(task, completed=progress.work_done, total=progress.work_total, description=description)

        yield update


def walk(steps: Sequence[Item], what: str = "checkpoints") -> Iterator[Item]:
    """The steps (or `what` else there is), one by one, with progress on stderr: stdout belongs to the answer. Without a
    terminal, short work says nothing."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(steps, description=what, console=Console(stderr=True), transient=True)
        return
    said = time.monotonic()
    for done, step in enumerate(steps):
        if time.monotonic() - said > LINE_INTERVAL_SECONDS:
            said = time.monotonic()
            say(f"{done:,} of {len(steps):,} {what}", on_stderr=True)
        yield step
