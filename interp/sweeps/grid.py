"""A grid of runs: one process per core or an executor of your own, resumable; each run is an ordinary run directory
under one folder."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from interp.errors import InputError
from interp.experiment import Experiment, hash_of
from interp.machine import first_done, n_cores, one_thread, worker_processes
from interp.runs import Run, open_run, weights_digest
from interp.sweeps.driver import InterruptedTrainingError, resume_run, run_experiment, signals_interrupt


@dataclass(frozen=True)
class GridRun:
    """One run of a grid: the folder's name, what is trained, and the run of the grid whose last weights it starts from,
    if any."""

    name: str
    experiment: Experiment
    start: str | None = None

    @property
    def key(self) -> str:
        """A name that is the same for what is the same run, and for nothing else: the experiment does not know where
        its weights come from."""
        return hash_of([self.experiment.hash, self.start])

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
TrainOne = Callable[[Path, GridRun], str]
Result = TypeVar("Result")


def run_grid(
    folder: Path,
    grid: Sequence[GridRun],
    *,
    executor: Executor | None = None,
    processes: int | None = None,
    train_one: TrainOne | None = None,
    report: GridReport = lambda progress: None,
) -> dict[str, Run]:
    """Train what is missing of a grid into `folder`/NAME, with one thread in each of `processes` (default: one per
    core), or by the `submit(function, *args)` of an executor, which needs the folder and nothing else.

    Complete runs are left alone and interrupted ones resumed, so after Ctrl-C, SIGTERM or a kill the same call goes on,
    to the same last bit; at most what a run had done since it last saved its state is lost. What a given executor has
    begun then is for its owner to stop. `train_one` trains one run in a way of its own, as a whole, and returns its
    name; it must be a function that another process can import. Returns the runs by name.

    Raises InputError where a folder holds another experiment or one that began with other weights, and for what stops a
    run (a full disk, a loss that is not finite); InterruptedTrainingError after Ctrl-C or SIGTERM.
    """
    by_name = {run.name: run for run in grid}
    done = set[str]()
    for run in grid:
        _find_done(folder, run, by_name, done)
    waiting = sorted((run for run in by_name.values() if run.name not in done), key=lambda run: -run.work)
    work_total = sum(run.work for run in grid)
    n_workers = len(waiting) if executor is not None else min(processes or n_cores(), len(waiting))
    running = dict[Future[str], GridRun]()
    is_ours = executor is None and n_workers > 1
    workers = worker_processes(n_workers) if is_ours else nullcontext(executor or _Here())
    try:
        with workers as pool, signals_interrupt():
            while waiting or running:
                ready = [run for run in waiting if run.start is None or run.start in done]
                for run in ready[: n_workers - len(running)]:
                    waiting.remove(run)
                    running[pool.submit(train_one or _train, folder, run)] = run
                for future in first_done(running):
                    name = running.pop(future).name
                    future.result()
                    done.add(name)
                    work_done = sum(by_name[one].work for one in done)
                    report(GridProgress(name, len(done), len(grid), work_done, work_total))
    except BrokenProcessPool:
        why = "a training process was killed, perhaps for want of memory"
        raise InputError(f"{why}; the same command goes on, perhaps with fewer --processes") from None
    except KeyboardInterrupt:
        words = f"interrupted with {len(done)} of {len(grid)} runs done; the same command goes on"
        raise InterruptedTrainingError(words) from None
    finally:
        for future in running:
            future.cancel()
    return {name: open_run(folder / name) for name in by_name}


class _Here(Executor):
    """This process, which does at once what it is given."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        future = Future[Result]()
        future.set_result(fn(*args, **kwargs))
        return future


def _find_done(folder: Path, run: GridRun, by_name: dict[str, GridRun], done: set[str]) -> bool:
    """Whether a run, and the one that it starts from, are complete; such are added to `done`."""
    if run.name not in done and (run.start is None or _find_done(folder, by_name[run.start], by_name, done)):
        there = _there(folder, run)
        if there is not None and there.is_complete:
            done.add(run.name)
    return run.name in done


def _there(folder: Path, run: GridRun) -> Run | None:
    """What there is of a run; raises InputError when something else is in its place."""
    path = folder / run.name
    if not (path / "run.json").exists():
        return None
    there = open_run(path)
    if there.hash != run.experiment.hash:
        raise InputError(
            f"{path} holds another experiment ({there.hash}) than this one ({run.experiment.hash}); choose "
            "another --out"
        )
    began = there.info.get("initial_weights", "drawn from its seed")
    given = (
        weights_digest(open_run(folder / run.start).last.weights) if run.start is not None else "drawn from its seed"
    )
    if began != given:
        raise InputError(f"{path} began with other weights ({began}) than this run ({given}); choose another --out")
    return there


def _train(folder: Path, run: GridRun) -> str:
    path = folder / run.name
    with one_thread():
        there = _there(folder, run)
        if there is None or not there.steps:  # not begun, or killed before its first checkpoint
            initial = open_run(folder / run.start).last.weights if run.start is not None else None
            run_experiment(run.experiment, path, initial=initial, overwrite=True)
        elif not there.is_complete:
            resume_run(path)
    return run.name
