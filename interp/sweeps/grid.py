"""A grid of runs: one process per core, resumable; each run is an ordinary run directory under one folder."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from interp.errors import InputError
from interp.experiment import Experiment
from interp.machine import n_cores, one_thread, worker_processes
from interp.runs import Run, open_run
from interp.sweeps.driver import InterruptedTrainingError, resume_run, run_experiment, signals_interrupt


@dataclass(frozen=True)
class GridRun:
    """One run of a grid: the folder's name, what is trained, and the run of the grid whose last weights it starts from,
    if any."""

    name: str
    experiment: Experiment
    start: str | None = None

    @property
    def work(self) -> int:
        """About proportional to the time it takes: a step has a fixed part, worth some 200 pairs at the canonical
        size."""
        return self.experiment.training.steps * (200 + len(self.experiment.task.train_indices))


@dataclass(frozen=True)
class GridProgress:
    """How far a grid is: the run that was just done, and the work (`GridRun.work`) done and in all."""

    name: str
    done: int
    total: int
    work_done: int
    work_total: int


GridReport = Callable[[GridProgress], None]


def run_grid(
    folder: Path, grid: Sequence[GridRun], *, processes: int | None = None, report: GridReport = lambda progress: None
) -> dict[str, Run]:
    """Train what is missing of a grid into `folder`/NAME, with one thread in each of `processes` (default: one per
    core).

    Complete runs are left alone and interrupted ones resumed, so after Ctrl-C, SIGTERM or a kill the same call goes on,
    to the same last bit; at most what a run had done since it last saved its state is lost. Returns the runs by name.

    Raises InputError where a folder holds another experiment, and for what stops a run (a full disk, a loss that is not
    finite); InterruptedTrainingError after Ctrl-C or SIGTERM.
    """
    by_name = {run.name: run for run in grid}
    done = {name for name, run in by_name.items() if _is_done(folder / name, run)}
    missing = sorted((run for run in grid if run.name not in done), key=lambda run: -run.work)
    work_total = sum(run.work for run in grid)

    def finished(name: str) -> None:
        done.add(name)
        report(GridProgress(name, len(done), len(grid), sum(by_name[one].work for one in done), work_total))

    n_workers = min(processes or n_cores(), len(missing))
    if n_workers == 1:
        for run in sorted(missing, key=lambda run: run.start is not None):
            try:
                with one_thread():
                    _train(folder, run)
            except KeyboardInterrupt:
                raise _interrupted(len(done), len(grid)) from None
            finished(run.name)
    elif missing:
        try:
            _train_in_processes(folder, missing, done, n_workers, finished)
        except KeyboardInterrupt:
            raise _interrupted(len(done), len(grid)) from None
    return {name: open_run(folder / name) for name in by_name}


def _interrupted(n_done: int, n: int) -> InterruptedTrainingError:
    return InterruptedTrainingError(f"interrupted with {n_done} of {n} runs done; the same command goes on")


def _is_done(path: Path, run: GridRun) -> bool:
    """Whether a run is complete; raises InputError when something else is in its place."""
    if not (path / "run.json").exists():
        return False
    there = open_run(path)
    if there.hash != run.experiment.hash:
        raise InputError(
            f"{path} holds another experiment ({there.hash}) than this one ({run.experiment.hash}); choose "
            "another --out"
        )
    return there.is_complete


def _train(folder: Path, run: GridRun) -> str:
    path = folder / run.name
    if (path / "run.json").exists() and open_run(path).steps:
        resume_run(path)
    else:  # not begun, or killed before its first checkpoint
        initial = open_run(folder / run.start).last.weights if run.start is not None else None
        run_experiment(run.experiment, path, initial=initial, overwrite=True)
    return run.name


def _train_in_processes(
    folder: Path, missing: list[GridRun], done: set[str], n_workers: int, finished: Callable[[str], None]
) -> None:
    waiting, running = list(missing), dict[Future[str], GridRun]()
    try:
        with worker_processes(n_workers) as pool, signals_interrupt():
            while waiting or running:
                for run in [run for run in waiting if run.start is None or run.start in done][
                    : n_workers - len(running)
                ]:
                    waiting.remove(run)
                    running[pool.submit(_train, folder, run)] = run
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    finished(future.result())
    except BrokenProcessPool:
        why = "a training process was killed, perhaps for want of memory"
        raise InputError(f"{why}; the same command goes on, perhaps with fewer --processes") from None
