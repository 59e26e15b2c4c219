"""One run of a grid: where it lies while it is trained and afterwards, and how it is trained there."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from interp.errors import InputError
from interp.machine import Folder, one_thread, refusals_as
from interp.models import DivergedError, Weights
from interp.runs import Run, RunWriter, keep_only, open_run, remove_states, weights_digest
from interp.sweeps.driver import DivergedTrainingError, resume_run, run_experiment
from interp.sweeps.planned_run import UNFINISHED, GridRun
from interp.sweeps.together import resume_together, run_together

KEEP = ("all", "ends", "metrics")
DRAWN = "drawn from its seed"
# A worker whose parent was killed may save its state for ten seconds, and holds its run as long.
SECONDS_TO_WAIT, SECONDS_A_LOOK = 20.0, 0.1


def divergence(run: Run) -> str | None:
    """Why a run ended before its last step: its loss was no longer finite. None where it did not.

    >>> import interp
    >>> divergence(open_run(interp.reference_path())) is None
    True
    """
    lines = run.lines
    if not lines or lines[-1].row != {"step": lines[-1].step, "train_loss": None}:
        return None
    return f"{DivergedError(lines[-1].step, None)}; the checkpoints before it are in {run.path}"


def is_settled(run: Run) -> bool:
    """Whether there is nothing left to train: it came to its last step, or diverged.

    >>> import interp
    >>> is_settled(open_run(interp.reference_path()))
    True
    """
    return run.is_complete or divergence(run) is not None


def found_at(path: Path, run: GridRun, began: Callable[[], str]) -> Run | None:
    """What there is of a run at a path; `began` gives the digest of the weights that it starts from, or DRAWN. Raises
    InputError when something else is in its place.

    >>> from interp.experiment import Experiment
    >>> found_at(Path("no", "such", "folder"), GridRun("mine", Experiment()), lambda: DRAWN) is None
    True
    """
    if not (path / "run.json").exists():
        return None
    there = open_run(path)
    if there.hash != run.experiment.hash:
        raise WrongRunError(
            f"{path} holds another experiment ({there.hash}) than this one ({run.experiment.hash}); choose "
            "another --out"
        )
    began_there, given = there.info.get("initial_weights", DRAWN), began()
    if began_there != given:
        raise WrongRunError(
            f"{path} began with other weights ({began_there}) than this run ({given}); choose another --out"
        )
    return there


class WrongRunError(InputError):
    """Another run lies where one of the grid is to be: the grid, or the folder, is not the one that was meant."""


def train_in_place(folder: Path, run: GridRun, keep: str, is_start: bool, device: str) -> str | None:
    """Train a run in `folder`/unfinished/NAME, from where it is there, and put it in its place, `folder`/NAME, with the
    checkpoints that are to be kept (`settle`). Returns None, or why it diverged.

    Raises InputError for what stops it otherwise.
    """
    path, place = folder / UNFINISHED / run.name, folder / run.name
    with one_thread():
        initial = open_run(folder / run.start).last.weights if run.start is not None else None
        began = DRAWN if initial is None else weights_digest(initial)
        _wait_for_writer(path)
        done = found_at(place, run, lambda: began)  # by a worker whose parent was killed, and which we waited for
        if done is None or not is_settled(done):
            train(path, run, initial, found_at(path, run, lambda: began), device)
            done = settle(path, place, keep, is_start)
        return divergence(done)


def train_group_in_place(
    folder: Path, runs: Sequence[GridRun], keep: str, are_starts: Sequence[bool], device: str
) -> list[str | None]:
    """`train_in_place` for runs that may train side by side (`interp.training.groups`) and start from no other: those
    that have not begun together, and those that go on, together with whoever stands at the same step."""
    paths = [folder / UNFINISHED / run.name for run in runs]
    with one_thread():
        at_step: dict[int | None, list[int]] = {}
        for place, (run, path) in enumerate(zip(runs, paths, strict=True)):
            _wait_for_writer(path)
            found = (found_at(one, run, lambda: DRAWN) for one in (folder / run.name, path))
            if not any(one is not None and is_settled(one) for one in found):
                at_step.setdefault(standing(path), []).append(place)
        for step, places in at_step.items():
            standing_there = [paths[place] for place in places]
            if step is None:
                experiments = [runs[place].experiment for place in places]
                run_together(experiments, standing_there, overwrite=True, device=device)
            else:
                resume_together(standing_there, device=device)
        return [
            divergence(
                settle(path, folder / run.name, keep, is_start) if path.exists() else open_run(folder / run.name)
            )
            for run, path, is_start in zip(runs, paths, are_starts, strict=True)
        ]


def standing(path: Path) -> int | None:
    """The step whose state a run at a path goes on from; None for one that has none, and begins anew.

    >>> standing(Path("no", "such", "folder")) is None
    True
    """
    return open_run(path).state_step if (path / "run.json").exists() else None


def train(path: Path, run: GridRun, initial: Weights | None, there: Run | None, device: str) -> None:
    """Train a run at `path` to its end, from what is there of it; that may be a divergence."""
    if there is not None and is_settled(there):
        return
    with contextlib.suppress(DivergedTrainingError):
        if there is None or not there.steps:  # not begun, or killed before its first checkpoint
            run_experiment(run.experiment, path, initial=initial, overwrite=True, device=device)
        else:
            resume_run(path, device=device)


def settle(path: Path, place: Path, keep: str, is_start: bool) -> Run:
    """Move a run that has come to its end from `path` to `place`, without what only going on would need, and with the
    checkpoints that are to be kept: "all", the "ends" (the first and the last), or with "metrics" none, but the last
    where other runs start from it.

    A kill at any moment leaves a run that opens, at one of both, and doing it again ends the same. Raises InputError
    where something else is at `place`.
    """
    run = open_run(path)
    if run.is_complete and "end" not in run.info:  # a kill came between the last line and the note that it is the last
        with RunWriter.reopen(path) as writer:
            writer.finish()
    if keep != "all":
        keep_only(run, {*run.steps[:1] * (keep == "ends"), *run.steps[-1:] * (keep == "ends" or is_start)})
    remove_states(run)
    move(path, place)
    return open_run(place)


def move(path: Path, place: Path) -> None:
    """Move a run, which nobody may be writing, to where nothing is. Raises InputError."""
    with Folder(path) as held, refusals_as(f"cannot move {path} to {place}"):
        held.lock()
        place.parent.mkdir(exist_ok=True)
        os.rename(path, place)  # fails where something is, but for an empty folder
        for parent in (place.parent, path.parent):
            with Folder(parent) as around:
                around.sync()


def _wait_for_writer(path: Path) -> None:
    """Until nobody writes a run any more, or it becomes clear that its writer is not about to end."""
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while time.monotonic() < deadline:
        with contextlib.suppress(InputError), Folder(path) as folder:
            if folder.is_locked():
                time.sleep(SECONDS_A_LOOK)
                continue
        return
