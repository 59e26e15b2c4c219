"""A grid of runs: one process per core or an executor of your own, resumable; each run is an ordinary run directory
under one folder, and what is there says what is done."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, TypeVar, cast

from interp.errors import FullDiskError, InputError, check_choice, check_integer
from interp.machine import Folder, first_done, n_cores, refusals_as, separate_processes
from interp.runs import Run, open_run, weights_digest
from interp.sweeps.driver import InterruptedTrainingError, signals_interrupt
from interp.sweeps.failures import Failure, failure, read_failures, write_failures
from interp.sweeps.grid_run import (
    DRAWN,
    KEEP,
    WrongRunError,
    divergence,
    found_at,
    is_settled,
    move,
    standing,
    train_group_in_place,
    train_in_place,
)
from interp.sweeps.planned_run import UNFINISHED, GridRun, check_run_name
from interp.sweeps.sending import SendsBack, put_in_place, trained_elsewhere
from interp.sweeps.tasks import fitting, side_by_side
from interp.training import group_of

TRIES = 3  # so often a run is begun whose process is killed


@dataclass(frozen=True)
class GridProgress:
    """How far a grid is: the run that just began (it is among the `running`), came to its end or failed; how many are
    done, and how many diverged or failed; and the work (`GridRun.work`) that is no longer to be done, and in all."""

    name: str
    done: int
    failed: int
    running: tuple[str, ...]
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
    keep: str = "all",
    failures: str = "raise",
    tries: int = TRIES,
    device: str = "cpu",
    train_one: TrainOne | None = None,
    report: GridReport = lambda progress: None,
) -> dict[str, Run]:
    """Train what is missing of a grid into `folder`/NAME, with one thread in each of `processes` (default: one per
    core), or by the `submit(function, *args)` of an executor, which needs the folder and nothing else
    (`interp.sweeps.executors` has one for a cluster).

    A run lies in `folder`/unfinished/NAME until it has come to its end, and is then moved to its place. So complete
    runs are left alone and interrupted ones resumed, and after Ctrl-C, SIGTERM or a kill the same call goes on, to the
    same last bit; at most what a run had done since it last saved its state is lost. What a given executor has begun
    then is cancelled, as far as it can. `keep` says which checkpoints a run keeps at its end: "all", the "ends" (the
    first and the last), or with "metrics" none; a run that another one starts from keeps its last.

    `device` is that of `run_experiment`; the last bits are those of the CPU on the CPU alone. One small network does
    not fill a GPU: there runs that may train side by side (`interp.training.groups`) are one task, by default in one
    process; but not those that an executor without a shared disk sends back, nor those that start from others.

    With failures="raise" the first run that diverges or fails ends the call. With failures="record" it is noted in
    `folder`/failures.jsonl (`interp.sweeps.read_failures`), as are those that start from it, and the others go on; the
    same call again tries what failed, and not what diverged. A process that is killed costs its run a try, of so many
    `tries`. `train_one` trains one run in a way of its own, as a whole and in its place, with all checkpoints that it
    likes, and returns its name; it must be a function that another process can import.

    Returns the runs by name: those that are complete, and those that diverged. Raises InputError where a folder holds
    another experiment or one that began with other weights, where another process trains a grid into it, and for what
    stops a run; FullDiskError, also with "record", when there is no room left; InterruptedTrainingError after Ctrl-C or
    SIGTERM.
    """
    check_choice("keep", keep, KEEP)
    check_choice("failures", failures, ("raise", "record"))
    check_integer("tries", tries, 1)
    if train_one is not None and keep != "all":
        raise InputError("what trains a run in a way of its own keeps what it likes: leave keep at 'all'")
    if train_one is not None and not getattr(executor, "shared_disk", True):
        raise InputError("what trains a run in a way of its own writes where it likes: give it a shared disk")
    with refusals_as(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    with Folder(folder, f"cannot write to {folder}") as held:
        held.lock()  # two that train one grid would be in each other's way
        order = _Order(keep, device, train_one)
        training = _Training(folder, _by_name(grid), order, failures == "record", tries, report)
        try:
            with signals_interrupt():
                training.look()
                training.train(executor, processes or (1 if side_by_side(device) else n_cores()))
        except KeyboardInterrupt:
            raise InterruptedTrainingError(f"interrupted with {training.so_far}; the same command goes on") from None
        finally:
            with contextlib.suppress(OSError):  # it is not there, or not empty
                os.rmdir(folder / UNFINISHED)
    return {name: open_run(folder / name) for name in training.runs if name in training.settled}


def _by_name(grid: Sequence[GridRun]) -> dict[str, GridRun]:
    """The runs by their names. Raises InputError for names that cannot be, and for one that starts from nothing."""
    runs = dict[str, GridRun]()
    for run in grid:
        check_run_name(run.name)
        if runs.setdefault(run.name, run).key != run.key:
            raise InputError(f"the grid has two different runs named {run.name!r:.200}")
    for run in runs.values():
        seen, at = set[str](), run
        while at.start is not None:
            if at.start not in runs or at.start in seen:
                fault = "itself" if at.start in seen else "no run of the grid"
                raise InputError(f"the run {run.name!r:.200} starts from {at.start!r:.200}, which is {fault}")
            seen.add(at.start)
            at = runs[at.start]
    return runs


@dataclass(frozen=True)
class _Order:
    """How runs are trained."""

    keep: str
    device: str
    train_one: TrainOne | None


@dataclass
class _Training:
    """A grid in the course of its training. A run is `ready` when the one that it starts from is done; the longest
    comes first."""

    folder: Path
    runs: dict[str, GridRun]
    order: _Order
    records: bool
    tries: int
    report: GridReport
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)  # they lie in their place: done, or diverged
    running: list[str] = field(default_factory=list)
    ready: list[tuple[int, int, GridRun]] = field(default_factory=list)  # a heap
    work_done: int = 0

    def __post_init__(self) -> None:
        self.work = {name: run.work for name, run in self.runs.items()}
        self.work_total, self.place = sum(self.work.values()), {name: at for at, name in enumerate(self.runs)}
        self.killed, self.began = Counter[str](), dict[str, str]()
        self.alike: dict[str, str | None] = {}  # with which others a run may train, as it stands
        self.starting_from: dict[str | None, list[GridRun]] = {}
        for run in self.runs.values():
            self.starting_from.setdefault(run.start, []).append(run)

    @cached_property
    def failures(self) -> dict[str, Failure]:
        """All that is noted in the folder, also of runs that are not of this grid."""
        return read_failures(self.folder)

    @property
    def so_far(self) -> str:
        """How many are done, and what became of others."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{len(self.done)} of {len(self.runs)} runs done{failed}"

    # ---- what is there -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Find what is done, and what is ready to be trained."""
        noted = dict(self.failures)
        self._look_at(self.starting_from.get(None, []))
        if self.failures != noted:
            write_failures(self.folder, self.failures)

    def _look_at(self, runs: Sequence[GridRun]) -> None:
        """These, and those that start from the ones that are done, and so on."""
        open_ones = list(runs)
        while open_ones:
            run = open_ones.pop()
            try:
                state = self._state_of(run)
            except WrongRunError:
                raise
            except InputError as error:  # damaged
                self._fail(run, error)
                continue
            if state == "done":
                self._settle(run)
                open_ones += self.starting_from.get(run.name, [])
            elif state is None:
                heappush(self.ready, (-self.work[run.name], self.place[run.name], run))
            else:
                self._fail(run, InputError(state), diverged=True)

    def _state_of(self, run: GridRun) -> str | None:
        """ "done", or why it diverged, or None for what is to be trained: that is moved to where it is trained."""
        there = found_at(self.folder / run.name, run, lambda: self._began(run))
        if there is not None and is_settled(there):
            return divergence(there) or "done"
        if self.order.train_one is None:
            unfinished = self.folder / UNFINISHED / run.name
            if there is not None and (unfinished / "run.json").exists():
                raise InputError(f"{there.path} and {unfinished} are both of one run; remove one of them")
            found_at(unfinished, run, lambda: self._began(run))
            if there is not None:
                move(there.path, unfinished)
        return None

    def _began(self, run: GridRun) -> str:
        """The digest of the weights that a run starts from."""
        if run.start is None:
            return DRAWN
        if run.start not in self.began:
            self.began[run.start] = weights_digest(open_run(self.folder / run.start).last.weights)
        return self.began[run.start]

    def _settle(self, run: GridRun) -> None:
        self.done.add(run.name)
        self.settled.add(run.name)
        self.work_done += self.work[run.name]
        self.failures.pop(run.name, None)

    def _fail(self, run: GridRun, error: BaseException, *, diverged: bool = False) -> None:
        """Note that a run diverged or failed, and that those which start from it cannot begin; raise it where nothing
        is to be noted."""
        if not self.records:
            raise error
        if diverged:
            self.settled.add(run.name)
        what = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        lost = [(run, what)]
        while lost:
            one, what = lost.pop()
            ended = diverged and one is run
            if self.failures.get(one.name) is None or self.failures[one.name].what != failure("", what).what:
                self.failures[one.name] = failure(one.name, what, diverged=ended)
            self.failed.add(one.name)
            self.work_done += self.work[one.name]
            outcome = "diverged" if ended else "failed"
            lost += [
                (other, f"not begun: {one.name}, which it starts from, {outcome}")
                for other in self.starting_from.get(one.name, [])
            ]

    # ---- training ----------------------------------------------------------------------------------------------------

    def train(self, executor: Executor | None, processes: int) -> None:
        """Train what is ready, and what becomes so."""
        n_left = len(self.runs) - len(self.done) - len(self.failed)
        processes = min(processes, n_left)
        with contextlib.ExitStack() as held:
            pool = executor
            if pool is None:
                pool = held.enter_context(separate_processes(processes)) if processes > 1 else _Here()
            futures = dict[Future[Any], list[GridRun]]()
            try:
                while self.ready or futures:
                    at_once = processes if executor is None else getattr(executor, "at_once", n_left)
                    while self.ready and len(futures) < at_once:
                        task = self._next(pool, at_once - len(futures), at_home=executor is None)
                        for run in task:
                            self._tell(run, begins=True)
                        futures[self._submitted(pool, task, at_home=executor is None)] = task
                    for future in first_done(futures):
                        self._end(futures.pop(future), future)
            finally:
                for future in futures:
                    future.cancel()

    def _next(self, pool: Executor, n_tasks: int, *, at_home: bool) -> list[GridRun]:
        """What is trained next, as one of so many tasks: a run, or several that may train side by side."""
        *_, first = heappop(self.ready)
        in_groups = side_by_side(self.order.device) and self.order.train_one is None
        kind = self._kind(first) if in_groups and getattr(pool, "shared_disk", True) else None
        if kind is None:
            return [first]
        alike = sorted(entry for entry in self.ready if self._kind(entry[-1]) == kind)
        n = fitting(first.experiment, 1 + len(alike), n_tasks, self.order.device, at_home=at_home)
        task = [first, *(run for *_, run in alike[: n - 1])]
        names = {run.name for run in task}
        self.ready = [entry for entry in self.ready if entry[-1].name not in names]
        heapify(self.ready)
        return task

    def _kind(self, run: GridRun) -> str | None:
        """What is the same for runs that may train side by side as they stand; None for one that trains alone."""
        if run.name not in self.alike:
            self.alike[run.name] = None
            with contextlib.suppress(InputError):  # damaged: whoever trains it says so
                if run.start is None:
                    at = standing(self.folder / UNFINISHED / run.name)
                    self.alike[run.name] = f"{group_of(run.experiment)} at {at}"
        return self.alike[run.name]

    def _submitted(self, pool: Executor, task: list[GridRun], *, at_home: bool) -> Future[Any]:
        run, *others = task
        folder = self.folder if at_home else Path(os.path.abspath(self.folder))
        if self.order.train_one is not None:
            return pool.submit(_train_its_own_way, self.order.train_one, folder, run)
        if others:
            are_starts = [one.name in self.starting_from for one in task]
            return pool.submit(train_group_in_place, folder, task, self.order.keep, are_starts, self.order.device)
        how = self.order.keep, run.name in self.starting_from, self.order.device
        if getattr(pool, "shared_disk", True):
            return pool.submit(train_in_place, folder, run, *how)
        initial = open_run(folder / run.start).last.weights if run.start is not None else None
        receive = partial(put_in_place, folder, run, self._began(run))
        return cast(SendsBack, pool).submit_pieces(receive, trained_elsewhere, run, initial, *how)

    def _end(self, task: list[GridRun], future: Future[Any]) -> None:
        """What became of a task. Of a group that failed each is tried alone: it is not known whose fault it was."""
        error = future.exception()
        if len(task) > 1 and isinstance(error, Exception) and not isinstance(error, BrokenExecutor | FullDiskError):
            for run in task:
                self.running.remove(run.name)
                self.alike[run.name] = None
                heappush(self.ready, (-self.work[run.name], self.place[run.name], run))
            return
        found = [None] * len(task) if error is not None else [future.result()] if len(task) == 1 else future.result()
        for run, diverged in zip(task, found, strict=True):
            self._end_of(run, error, diverged)

    def _end_of(self, run: GridRun, error: BaseException | None, diverged: str | None) -> None:
        """What became of a run."""
        noted = dict(self.failures)
        self.running.remove(run.name)
        self.alike.pop(run.name, None)  # it stands elsewhere now
        if isinstance(error, BrokenExecutor | KeyboardInterrupt):  # KeyboardInterrupt: its process alone had SIGTERM
            self.killed[run.name] += 1
            if self.killed[run.name] < self.tries:
                heappush(self.ready, (-self.work[run.name], self.place[run.name], run))
                return
            often = f"{self.killed[run.name]} times" if self.tries > 1 else "once"
            error = InputError(
                f"the process that trained {run.name} was killed {often}, perhaps for want of memory; the same command "
                "goes on, perhaps with fewer --processes"
            )
        if isinstance(error, FullDiskError):
            raise FullDiskError(f"{error}; {self.so_far}, and the same command goes on when there is room")
        if error is not None:
            if not isinstance(error, Exception):
                raise error
            self._fail(run, error)
        elif diverged is not None:
            self._fail(run, InputError(diverged), diverged=True)
        else:
            self._settle(run)
            self._look_at(self.starting_from.get(run.name, []))
        if self.failures != noted:
            write_failures(self.folder, self.failures)
        self._tell(run)

    def _tell(self, run: GridRun, *, begins: bool = False) -> None:
        if begins:
            self.running.append(run.name)
        counts = len(self.done), len(self.failed), tuple(self.running), len(self.runs)
        self.report(GridProgress(run.name, *counts, self.work_done, self.work_total))


def _train_its_own_way(train_one: TrainOne, folder: Path, run: GridRun) -> None:
    train_one(folder, run)


class _Here(Executor):
    """This process, which does at once what it is given."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        future = Future[Result]()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
