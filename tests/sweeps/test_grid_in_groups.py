"""Runs of a grid side by side, as on a GPU: on the CPU, where the files are those of run by run, byte by byte."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import RunWriter, open_run
from interp.sweeps import (
    GridRun,
    InterruptedTrainingError,
    cost_of,
    estimate,
    grid,
    grid_run,
    read_failures,
    run_grid,
    tasks,
)

TRAINING = TrainingConfig(steps=12, checkpoint_every=4, log_every=4)
SMALL = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
ALIKE = [
    GridRun(f"alike{place}", replace(SMALL, task=replace(SMALL.task, seed=place), training=replace(TRAINING, lr=rate)))
    for place, rate in enumerate((0.01, 0.02, 0.03))
]
WIDE = GridRun("wide", replace(SMALL, model=replace(SMALL.model, d_mlp=16)))
AFTER = GridRun("after", replace(SMALL, training=replace(TRAINING, weight_decay=0.5)), start="alike1")
GRID = [*ALIKE, WIDE, AFTER]


def contents(folder: Path) -> dict[str, bytes | Any]:
    """All files of a folder of runs; of run.json what does not tell of the time."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    found: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    for path in folder.rglob("run.json"):
        info = open_run(path.parent).info
        found[str(path.relative_to(folder))] = {name: info.get(name) for name in ("experiment", "arithmetic", "host")}
    return found


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("one-by-one")
    run_grid(folder, GRID, processes=1, keep="ends")
    return contents(folder)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs that may are trained side by side; which were."""
    together, trained = grid.train_group_in_place, list[list[str]]()

    def noted(folder: Path, runs: Sequence[GridRun], *rest: Any) -> Any:
        trained.append([run.name for run in runs])
        return together(folder, runs, *rest)

    monkeypatch.setattr(grid, "side_by_side", lambda device: True)
    monkeypatch.setattr(grid, "train_group_in_place", noted)
    return trained


def test_the_files_are_those_of_run_by_run(tmp_path: Path, one_by_one: dict[str, Any], groups: list[list[str]]) -> None:
    done: list[int] = []
    run_grid(tmp_path, GRID, keep="ends", report=lambda progress: done.append(progress.done))
    assert [sorted(names) for names in groups] == [["alike0", "alike1", "alike2"]]
    assert contents(tmp_path) == one_by_one
    assert done[-1] == len(GRID)


@pytest.mark.parametrize(
    ("at", "going_on"),
    [
        (("alike0", 0), []),  # nothing was saved: they begin anew
        (("alike0", 8), [["alike0", "alike1", "alike2"]]),
        (("alike2", 8), [["alike0", "alike1"]]),  # the third stands at another step
    ],
)
@pytest.mark.usefixtures("groups")
def test_interrupted_they_go_on_side_by_side(
    at: tuple[str, int],
    going_on: list[list[str]],
    tmp_path: Path,
    one_by_one: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written, resumed, gone_on = RunWriter.write, grid_run.resume_together, list[list[str]]()

    def interrupting(writer: RunWriter, snapshot: Any) -> None:
        if (writer.run.path.name, snapshot.step) == at:
            raise KeyboardInterrupt
        written(writer, snapshot)

    def noted(paths: Sequence[Path], **how: Any) -> None:
        gone_on.append([path.name for path in paths])
        resumed(paths, **how)

    with monkeypatch.context() as patched:
        patched.setattr(RunWriter, "write", interrupting)
        with pytest.raises(InterruptedTrainingError, match="0 of 3 runs done"):
            run_grid(tmp_path, ALIKE, keep="ends")
    monkeypatch.setattr(grid_run, "resume_together", noted)
    run_grid(tmp_path, GRID, keep="ends")
    assert (contents(tmp_path), gone_on) == (one_by_one, going_on)


def test_one_that_diverges_leaves_the_others_of_its_group_alone(tmp_path: Path, groups: list[list[str]]) -> None:
    wild = replace(SMALL, training=replace(TRAINING, optimizer="sgd", lr=1e30))
    tame = [
        GridRun(f"tame{seed}", replace(wild, training=replace(wild.training, lr=0.1, seed=seed))) for seed in (0, 1)
    ]
    runs = run_grid(tmp_path, [*tame, GridRun("wild", wild)], failures="record")
    assert len(groups[0]) == 3
    assert [run.is_complete for run in runs.values()] == [True, True, False]
    assert {name: one.diverged for name, one in read_failures(tmp_path).items()} == {"wild": True}


def test_of_a_group_that_fails_each_is_tried_alone(
    tmp_path: Path, one_by_one: dict[str, Any], groups: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*rest: Any, **how: Any) -> None:
        raise InputError("the memory of the device does not hold 3 of these networks at once")

    monkeypatch.setattr(grid_run, "run_together", full)
    run_grid(tmp_path, GRID, keep="ends")
    assert len(groups) == 1
    assert contents(tmp_path) == one_by_one


def test_what_is_timed_is_what_is_trained_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tasks, estimate):
        monkeypatch.setattr(module, "side_by_side", lambda device: True)
    found = tasks.tasks_of([*ALIKE, WIDE], 1, "cpu")
    assert [[run.name for run in task] for task in found] == [["alike0", "alike1", "alike2"], ["wide"]]
    cost = cost_of([*ALIKE, WIDE], set(), "all")
    assert (cost.n_left, cost.n_timed) == (4, 4)
    assert 0 < cost.hours[0] <= cost.hours[1] < 1
    halves = tasks.tasks_of([*ALIKE, WIDE], 2, "cpu")
    assert [len(task) for task in halves] == [2, 1, 1]


def test_a_group_is_no_larger_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "networks_at_once", lambda experiment, device: 2)
    assert tasks.fitting(SMALL, 9, 1, "cuda") == 2
