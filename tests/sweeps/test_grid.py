"""Grids of runs: what is complete is left alone, what was stopped goes on, and the end is the same to the last bit."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Samples, Task, TrainingConfig
from interp.machine import Folder
from interp.runs import describe, open_run, verify, weights_digest
from interp.runs.format import with_sum
from interp.sweeps import (
    GridProgress,
    GridRun,
    InterruptedTrainingError,
    grid,
    grid_run,
    resume_run,
    run_experiment,
    run_grid,
)
from interp.training import train

ROOT = Path(__file__).parents[2]
TRAINING = TrainingConfig(steps=12, checkpoint_every=None, log_every=4)
EXPERIMENT = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
ON = replace(EXPERIMENT, task=replace(EXPERIMENT.task, train_fraction=0.2))
GRID = [
    GridRun("on-0", ON, start="start"),
    GridRun("start", EXPERIMENT),
    GridRun("on-1", replace(ON, training=replace(TRAINING, weight_decay=0.5)), start="start"),
]


def contents(folder: Path) -> dict[str, bytes]:
    """All of a folder of runs but when they were made, who is writing, and the states, which a grid removes at the end
    of a run."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.parent.name != "state"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_grid(folder, GRID, processes=1)
    return contents(folder)


def test_a_run_starts_from_the_last_weights_of_another(tmp_path: Path):
    seen: list[GridProgress] = []
    runs = run_grid(tmp_path, GRID, processes=1, report=seen.append)
    assert list(runs) == [run.name for run in GRID]
    start = runs["start"].last.weights
    for name in ("on-0", "on-1"):
        torch.testing.assert_close(runs[name][0].weights, start, rtol=0, atol=0)
        assert runs[name].info["initial_weights"] == weights_digest(start) == runs["start"].digests[12]
        assert runs[name].is_complete
        assert verify(runs[name]).contradictions == []
    assert "initial_weights" not in runs["start"].info
    assert f"begins with  given weights, of digest {weights_digest(start)}" in list(describe(runs["on-0"]))
    *_, last = train(ON, start)
    torch.testing.assert_close(runs["on-0"].last.weights, last.weights, rtol=0, atol=0)
    assert [progress.name for progress in seen] == ["start", "start", "on-0", "on-0", "on-1", "on-1"]
    assert [progress.running for progress in seen] == [("start",), (), ("on-0",), (), ("on-1",), ()]
    assert [(progress.done, progress.total) for progress in seen] == [(n, 3) for n in (0, 1, 1, 2, 2, 3)]
    assert seen[-1].work_done == seen[-1].work_total == sum(run.work for run in GRID)


def test_complete_runs_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_grid(tmp_path, GRID, processes=1)
    monkeypatch.setattr(grid, "train_in_place", lambda folder, run, *_: pytest.fail(f"{run.name} is trained again"))
    assert list(run_grid(tmp_path, GRID, processes=2)) == [run.name for run in GRID]


@pytest.mark.parametrize("step", [0, 4, 12])
def test_an_interrupted_run_goes_on(step: int, tmp_path: Path, undisturbed: dict[str, bytes]):
    run_grid(tmp_path, GRID[1:2], processes=1)

    def interrupt(snapshot: object) -> None:
        if getattr(snapshot, "step", None) == step:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedTrainingError):
        run_experiment(ON, tmp_path / "on-0", initial=open_run(tmp_path / "start").last.weights, report=interrupt)
    run_grid(tmp_path, GRID, processes=1)
    assert contents(tmp_path) == undisturbed


def test_without_a_state_a_run_starts_over_from_the_weights_it_was_given(tmp_path: Path, undisturbed: dict[str, bytes]):
    run_grid(tmp_path, GRID, processes=1)
    for path in (tmp_path / "on-0" / "state").iterdir():
        path.unlink()
    lines = (tmp_path / "on-0" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "on-0" / "metrics.jsonl").write_text("".join(lines[:2]))
    rewrite_info(tmp_path / "on-0", end=None)
    resume_run(tmp_path / "on-0")
    assert contents(tmp_path) == undisturbed


def test_a_run_that_never_saved_what_it_was_given_is_trained_anew(tmp_path: Path, undisturbed: dict[str, bytes]):
    run_grid(tmp_path, GRID, processes=1)
    for folder in ("steps", "state"):
        for path in (tmp_path / "on-0" / folder).iterdir():
            path.unlink()
    (tmp_path / "on-0" / "metrics.jsonl").write_text("")
    rewrite_info(tmp_path / "on-0", end=None)
    with pytest.raises(InputError, match="on-0 was stopped before the weights it was to start from were saved"):
        resume_run(tmp_path / "on-0")
    run_grid(tmp_path, GRID, processes=1)
    assert contents(tmp_path) == undisturbed


def test_altered_initial_weights_are_refused(tmp_path: Path):
    run_grid(tmp_path, GRID, processes=1)
    rewrite_info(tmp_path / "on-0", end=None, initial_weights="0" * 16)
    for state in (tmp_path / "on-0" / "state").iterdir():
        state.unlink()
    (tmp_path / "on-0" / "metrics.jsonl").write_text("")
    with pytest.raises(
        InputError, match=r"on-0 began with weights of digest 0000000000000000, and its checkpoint of step 0 has \w+"
    ):
        resume_run(tmp_path / "on-0")


def rewrite_info(run: Path, **changes: Any) -> None:
    """Change run.json, or take out what is None, with a sum that agrees."""
    info = json.loads((run / "run.json").read_text()) | changes
    (run / "run.json").write_bytes(with_sum({name: value for name, value in info.items() if value is not None}))


def test_initial_weights_of_another_shape_are_refused_before_anything_is_written(tmp_path: Path):
    weights = run_experiment(EXPERIMENT, tmp_path / "run").last.weights
    other = replace(EXPERIMENT, model=replace(EXPERIMENT.model, d_mlp=9))
    with pytest.raises(
        InputError, match=r"initial weights: tensor 'blocks.0.mlp.W_in' has shape \[8, 8\], expected \[8, 9\]"
    ):
        run_experiment(other, tmp_path / "other", initial=weights)
    assert not (tmp_path / "other").exists()


def test_another_experiment_in_the_place_of_a_run_is_refused(tmp_path: Path):
    run_grid(tmp_path, GRID[1:2], processes=1)
    changed = [replace(GRID[1], experiment=ON)]
    with pytest.raises(
        InputError, match=r"start holds another experiment \(\w{16}\) than this one \(\w{16}\); choose another --out"
    ):
        run_grid(tmp_path, changed, processes=1)


def test_a_run_that_began_with_other_weights_is_refused(tmp_path: Path):
    """The experiment is the same."""
    alone = [replace(GRID[0], start=None)]
    run_grid(tmp_path / "drawn", [GRID[1], *alone], processes=1)
    with pytest.raises(
        InputError, match=r"on-0 began with other weights \(drawn from its seed\) than this run \(\w{16}\)"
    ):
        run_grid(tmp_path / "drawn", GRID[:2], processes=1)
    run_grid(tmp_path / "given", GRID[:2], processes=1)
    with pytest.raises(
        InputError, match=r"on-0 began with other weights \(\w{16}\) than this run \(drawn from its seed\)"
    ):
        run_grid(tmp_path / "given", alone, processes=1)
    other = replace(GRID[1], name="other", experiment=replace(EXPERIMENT, training=replace(TRAINING, lr=0.1)))
    with pytest.raises(InputError, match=r"on-0 began with other weights \(\w{16}\) than this run \(\w{16}\)"):
        run_grid(tmp_path / "given", [replace(GRID[0], start="other"), other], processes=1)


def test_a_key_knows_the_experiment_and_where_it_starts():
    keys = {run.key for run in (*GRID, replace(GRID[0], start=None), replace(GRID[0], start="other"))}
    assert len(keys) == 5
    assert replace(GRID[0], name="another").key == GRID[0].key


@pytest.mark.parametrize(
    "experiment",
    [
        ON,
        Experiment(Samples(n_train=20, n_test=10), ModelConfig(family="mlp", d_mlp=8), TRAINING),
        Experiment(Task(p=7, split=(1, 2, 30)), EXPERIMENT.model, replace(TRAINING, checkpoint_steps=(3, 5))),
    ],
)
def test_what_travels_to_another_process_is_the_run_and_not_its_arrays(experiment: Experiment):
    """Copied as it is for a process."""
    run = GridRun("one", experiment, start="other")
    assert len(experiment.task.labels)  # an array that the task has drawn
    there = copy.copy(run)
    assert there == run
    assert there.key == run.key
    assert "labels" not in vars(there.experiment.task)


def test_threads_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before, during, train_one = torch.get_num_threads(), list[int](), grid_run.run_experiment
    monkeypatch.setattr(
        grid_run,
        "run_experiment",
        lambda *arguments, **options: during.append(torch.get_num_threads()) or train_one(*arguments, **options),
    )
    try:
        torch.set_num_threads(2)
        run_grid(tmp_path, GRID[1:2], processes=1)
        assert (during, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


# ---- real processes --------------------------------------------------------------------------------------------------

LONG = 200_000
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from interp.errors import InputError
from interp.experiment import Experiment
from interp.experiment import TrainingConfig
from interp.experiment import ModelConfig
from interp.sweeps import GridRun, run_grid
from interp.experiment import Task

if __name__ == "__main__":
    steps = int(sys.argv[2])
    training = TrainingConfig(steps=steps, checkpoint_every=None, log_every=4)
    experiment = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), training)
    grid = [GridRun(f"seed{seed}", replace(experiment, task=replace(experiment.task, seed=seed))) for seed in range(4)]
    try:
        run_grid(Path(sys.argv[1]), grid, processes=2, report=lambda progress: print(progress.name, flush=True))
    except KeyboardInterrupt as stop:
        sys.exit(str(stop))
"""


def test_two_processes_train_what_one_does(tmp_path: Path):
    grid = [
        *GRID,
        replace(GRID[1], name="other", experiment=replace(EXPERIMENT, task=replace(EXPERIMENT.task, seed=1))),
    ]
    run_grid(tmp_path / "two", grid, processes=2)
    run_grid(tmp_path / "one", grid, processes=1)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_grid_goes_on(number: int, tmp_path: Path):
    (tmp_path / "grid.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "grid.py"), str(tmp_path / "runs"), str(LONG)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            wait_until(
                lambda: len([*tmp_path.glob("runs/unfinished/seed*/metrics.jsonl")]) == 2 and all_begun(tmp_path), 300
            )
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.send_signal(number)
            _, complaint = process.communicate(timeout=900)
        finally:
            process.kill()
    begun = [open_run(path.parent) for path in sorted(tmp_path.glob("runs/unfinished/seed*/run.json"))]
    wait_until(lambda: not any(is_locked(run.path) for run in begun), 300)
    if number != signal.SIGKILL:
        assert re.fullmatch(r"interrupted with 0 of 4 runs done; the same command goes on\n", complaint), complaint
        assert all(list((run.path / "state").iterdir()) for run in begun)
    for run in begun:
        assert verify(run).contradictions == []
        assert not run.is_complete


def all_begun(folder: Path) -> bool:
    begun = [*folder.glob("runs/unfinished/seed*/metrics.jsonl")]
    return len(begun) == 2 and all(len(path.read_bytes()) > 1000 for path in begun)


def is_locked(run: Path) -> bool:
    with Folder(run) as folder:
        return folder.is_locked()


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + 10 * seconds  # however busy the machine is
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def test_kills_lose_nothing_and_leave_nothing_twice():
    """A few kills of tests/kill_sweeps.py, which does the same by the hundred."""
    command = [sys.executable, "-m", "tests.kill_sweeps", "--kills", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"\n3 kills of \d+ grids in \d+ s, 0 faults\n$", done.stdout)
