"""Many experiments at once: trained side by side, each into an ordinary run."""

import contextlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch

from interp.errors import InputError, check_integer
from interp.experiment import Experiment
from interp.machine import one_thread
from interp.models import DivergedError, Snapshot, is_factored
from interp.runs import Run, RunWriter, is_run_to_replace, open_run
from interp.sweeps.driver import arithmetic_of, check_room, drive, new_writer, state_of
from interp.training import check_device, check_regularizable, check_together, networks_at_once


class _Words(NamedTuple):
    """What `drive` says when it is interrupted: after the last step, or before it."""

    at_the_end: str
    before: str

    @classmethod
    def of(cls, folder: Path, done: int, n_runs: int) -> "_Words":
        """Where so many runs are done when these are."""
        before = f"each run in {folder} goes on with: interp resume RUN"
        if done == n_runs:
            return cls(f"the last step; the runs in {folder} are complete", before)
        return cls(f"the last step of {done} of {n_runs} runs; {before}", before)


def run_together(
    experiments: Sequence[Experiment],
    paths: Sequence[str | Path],
    *,
    overwrite: bool = False,
    device: str = "cpu",
    tf32: bool = False,
    at_once: int | None = None,
    report: Callable[[Snapshot], None] = lambda snapshot: None,
) -> list[Run | DivergedError]:
    """Train experiments that differ in seeds and numbers alone (`interp.training.groups`), each into a new run at its
    path; `at_once` of them side by side (default: what fits, `networks_at_once`), the rest after. Gives every run, or
    why it did not come to its end; one that diverges leaves the others alone. `report` sees the mean of the metrics of
    those that are in training.

    On a CPU each has a core, and its run has the same bits as trained alone (of a network without the factored form: as
    trained alone with one thread, which run.json notes). On a GPU all are one batch: each is the same as alone up to
    rounding, and the same to the last bit where the same experiments train together on the same device again.

    All runs are there from the beginning. Interrupted, each goes on by `interp resume`: on a CPU to the same bits as
    undisturbed. On a GPU it goes on alone, so up to rounding.

    Raises InputError, before anything is written, for experiments that cannot train together, and as
    `interp.sweeps.driver.run_experiment` does.
    """
    check_device(device, tf32=tf32)
    check_together(experiments)
    check_regularizable(experiments[0].training, device)
    paths = [Path(path) for path in paths]
    if not len({path.absolute() for path in paths}) == len(paths) == len(experiments):
        raise InputError(
            f"{len(experiments)} experiments need as many different paths, and there are {len(set(paths))}"
        )
    if at_once is not None:
        check_integer("at-once", at_once, 1)
    most = at_once or networks_at_once(experiments[0], device)
    for path in paths:
        is_run_to_replace(path, overwrite)
    check_room(paths[0].parent, experiments[0], len(paths), min(most, len(paths)))
    chunks = chunks_of(len(paths), most)
    diverged = dict[int, DivergedError]()
    with contextlib.ExitStack() as held:
        first = list[RunWriter]()
        for chunk in chunks:
            with _threads_of_each(experiments, chunk, device):
                for place in chunk:
                    writer = new_writer(experiments[place], paths[place], overwrite=overwrite, device=device, tf32=tf32)
                    if chunk is chunks[0]:
                        first.append(held.enter_context(writer))
                    else:
                        writer.close()  # nobody can have thousands of files open
        for chunk in chunks:
            with contextlib.ExitStack() as stack:
                reopened = (stack.enter_context(RunWriter.reopen(paths[place])) for place in chunk)
                writers = first if chunk is chunks[0] else list(reopened)
                words = _Words.of(paths[0].parent, chunk.stop, len(paths))
                lost = _drive([experiments[place] for place in chunk], writers, report, device, words)
                diverged |= {chunk[place]: error for place, error in lost.items()}
            held.close()
    return [diverged.get(place) or open_run(path) for place, path in enumerate(paths)]


def resume_together(paths: Sequence[Path], *, device: str = "cpu") -> None:
    """Go on side by side with runs that `run_together` could have begun, and whose saved states are of one step.

    Raises InputError where one of them has none, or is not to be gone on with.
    """
    with contextlib.ExitStack() as held:
        writers = [held.enter_context(RunWriter.reopen(path)) for path in paths]
        experiments = [writer.run.experiment for writer in writers if writer.run.experiment is not None]
        states = [state for writer in writers if (state := state_of(writer)) is not None]
        if not len(experiments) == len(states) == len(paths):
            raise InputError(
                f"of {len(paths)} runs that are to go on together {len(states)} have a state to go on from"
            )
        words = _Words.of(paths[0].parent, len(paths), len(paths))
        _drive(experiments, writers, lambda snapshot: None, device, words, resume=states)


def _drive(
    experiments: Sequence[Experiment],
    writers: Sequence[RunWriter],
    report: Callable[[Snapshot], None],
    device: str,
    words: _Words,
    *,
    resume: Sequence[Snapshot] | None = None,
) -> dict[int, DivergedError]:
    """Why which of them did not come to the end, by its place here."""
    try:
        arithmetic = arithmetic_of(writers[0].run)
        return drive(
            experiments,
            writers,
            report,
            device,
            arithmetic=arithmetic,
            at_the_end=words.at_the_end,
            before=words.before,
            resume=resume,
        )
    except torch.OutOfMemoryError:
        n, half = len(experiments), max(1, len(experiments) // 2)
        raise InputError(
            f"the memory of the device does not hold {n} of these networks at once; give --at-once {half}"
        ) from None


def _threads_of_each(
    experiments: Sequence[Experiment], chunk: range, device: str
) -> contextlib.AbstractContextManager[None]:
    """What run.json is to note of the threads: where several share the cores, each has one."""
    shares = device == "cpu" and len(chunk) > 1 and not is_factored(experiments[0].model)
    return one_thread() if shares else contextlib.nullcontext()


def chunks_of(n: int, most: int) -> list[range]:
    """Which of n are trained at a time, where at most so many can be: as few times as possible, as equal as possible.

    >>> chunks_of(10, 4)
    [range(0, 4), range(4, 7), range(7, 10)]
    """
    n_chunks = math.ceil(n / most)
    ends = [n // n_chunks * place + min(place, n % n_chunks) for place in range(n_chunks + 1)]
    return [range(first, last) for first, last in pairwise(ends)]
