"""Grids of which something goes wrong: what diverges, fails, is killed, or has no room; and what a run keeps at its
end."""

import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interp.errors import FullDiskError, InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.machine import Folder, refusals_as
from interp.runs import describe, verify
from interp.sweeps import GridProgress, GridRun, grid, grid_run, read_failures, run_experiment, run_grid

TRAINING = TrainingConfig(steps=12, checkpoint_every=4, log_every=4)
EXPERIMENT = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
TOO_FAST = replace(EXPERIMENT, training=replace(TRAINING, optimizer="sgd", lr=1e30, weight_decay=0))


def seeded(seed: int, name: str | None = None, start: str | None = None) -> GridRun:
    return GridRun(name or f"seed{seed}", replace(EXPERIMENT, task=replace(EXPERIMENT.task, seed=seed)), start)


DIVERGES = GridRun("too-fast", TOO_FAST)
AFTER_IT = seeded(1, "after", start="too-fast")


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


# ---- places ----------------------------------------------------------------------------------------------------------


def test_what_lies_in_the_folder_is_done(tmp_path: Path):
    seen = list[tuple[bool, set[str]]]()

    def report(progress: GridProgress) -> None:
        seen.append((progress.name in progress.running, entries(tmp_path)))

    run_grid(tmp_path, [seeded(0), seeded(1)], processes=1, report=report)
    assert seen == [
        (True, set()),
        (False, {"seed0", "unfinished"}),
        (True, {"seed0", "unfinished"}),
        (False, {"seed0", "seed1", "unfinished"}),
    ]
    assert entries(tmp_path) == {"seed0", "seed1"}


def test_one_run_in_both_places_is_refused(tmp_path: Path):
    def stop(snapshot: Any) -> None:
        raise KeyboardInterrupt

    for place in (tmp_path / "seed0", tmp_path / "unfinished" / "seed0"):
        with pytest.raises(KeyboardInterrupt):
            run_experiment(seeded(0).experiment, place, report=stop)
    with pytest.raises(InputError, match="seed0 are both of one run; remove one of them"):
        run_grid(tmp_path, [seeded(0)], processes=1)


def test_two_do_not_train_one_grid(tmp_path: Path):
    with Folder(tmp_path) as held:
        held.lock()
        with pytest.raises(InputError, match="is being written by another process"):
            run_grid(tmp_path, [seeded(0)])


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([seeded(0, "../seed0")], "cannot be named '../seed0'"),
        ([seeded(0, "unfinished")], "cannot be named 'unfinished'"),
        ([seeded(0, "one"), seeded(1, "one")], "two different runs named 'one'"),
        ([seeded(0, start="no")], "the run 'seed0' starts from 'no', which is no run of the grid"),
        ([seeded(0, "a", "b"), seeded(1, "b", "a")], "starts from 'b', which is itself"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(runs: list[GridRun], words: str, tmp_path: Path):
    with pytest.raises(InputError) as caught:
        run_grid(tmp_path, runs)
    assert words in str(caught.value)


@pytest.mark.parametrize(("keep", "steps"), [("all", [0, 4, 8, 12]), ("ends", [0, 12]), ("metrics", [])])
def test_what_a_run_keeps(keep: str, steps: list[int], tmp_path: Path):
    """A run from which another starts has its last weights in any case; all open, verify and are complete."""
    runs = run_grid(tmp_path, [seeded(0), seeded(1, start="seed0")], processes=1, keep=keep)
    assert runs["seed1"].steps == steps
    assert runs["seed0"].steps == (steps or [12])
    for run in runs.values():
        assert run.is_complete
        assert run.state_step is None
        assert verify(run).contradictions == []
        assert [row["step"] for row in run.rows] == [0, 4, 8, 12]
    assert f"checkpoints  {len(steps)} checkpoints, complete" in "\n".join(describe(runs["seed1"]))
    again = run_grid(tmp_path, [seeded(0), seeded(1, start="seed0")], processes=1, keep="all")
    assert again["seed1"].steps == steps
    if not steps:
        with pytest.raises(InputError, match="seed1 has no checkpoints: they were removed"):
            _ = runs["seed1"][0]


@pytest.mark.parametrize("done", ["finish", "keep_only", "remove_states", "move"])
def test_a_kill_while_a_run_settles_ends_the_same(done: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After each part of it: the note of the end, the checkpoints, the states."""
    monkeypatch.setattr(
        grid_run if done != "finish" else grid_run.RunWriter, done, lambda *_, **__: (_ for _ in ()).throw(SystemExit)
    )
    if done == "finish":  # a kill between the last line and the note of the end
        with pytest.raises(SystemExit):
            run_experiment(EXPERIMENT, tmp_path / "unfinished" / "seed0")
    with pytest.raises(SystemExit):
        run_grid(tmp_path, [seeded(0)], processes=1, keep="ends")
    monkeypatch.undo()
    (tmp_path / "unfinished" / "seed0" / ".thinned.json.0123456789abcdef.tmp").touch()  # a kill while it was written
    run = run_grid(tmp_path, [seeded(0)], processes=1, keep="ends")["seed0"]
    assert not list(tmp_path.rglob("*.tmp"))
    assert (run.steps, run.info["end"]["step"], run.state_step) == ([0, 12], 12, None)
    assert verify(run).contradictions == []
    assert entries(tmp_path) == {"seed0"}


# ---- what is noted ---------------------------------------------------------------------------------------------------


def test_what_diverges_is_noted_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = list[GridProgress]()
    runs = [DIVERGES, AFTER_IT, seeded(0)]
    found = run_grid(tmp_path, runs, processes=1, failures="record", keep="ends", report=seen.append)
    assert list(found) == ["too-fast", "seed0"]
    assert not found["too-fast"].is_complete
    assert verify(found["too-fast"]).contradictions == []
    ended = [(one.name, one.done, one.failed) for one in seen if one.name not in one.running]
    assert ended == [("too-fast", 0, 2), ("seed0", 1, 2)]
    assert (seen[-1].done, seen[-1].failed, seen[-1].work_done) == (1, 2, seen[-1].work_total)
    noted = read_failures(tmp_path)
    assert noted["too-fast"].what.startswith("training diverged: the loss of step ")
    assert noted["too-fast"].what.endswith(f"the checkpoints before it are in {tmp_path / 'too-fast'}")
    assert noted["too-fast"].diverged
    assert str(noted["after"]) == "after: not begun: too-fast, which it starts from, diverged"
    # What diverged has come to its end: nothing is trained again.
    monkeypatch.setattr(grid, "train_in_place", lambda folder, run, *_: pytest.fail(f"{run.name} is trained again"))
    assert list(run_grid(tmp_path, runs, processes=1, failures="record")) == ["too-fast", "seed0"]
    assert read_failures(tmp_path) == noted
    with pytest.raises(InputError, match=r"^training diverged: .*; the checkpoints before it are in .*too-fast$"):
        run_grid(tmp_path, runs, processes=1)


def test_what_diverges_ends_a_grid_that_notes_nothing(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(InputError, match=r"^training diverged: .*; the checkpoints before it are in .*too-fast$"):
            run_grid(tmp_path, [DIVERGES], processes=1)
    assert entries(tmp_path) == {"too-fast"}


def test_what_failed_is_tried_again(tmp_path: Path):
    (tmp_path / "unfinished" / "seed0").mkdir(parents=True)
    (tmp_path / "unfinished" / "seed0" / "run.json").write_text("{")
    assert list(run_grid(tmp_path, [seeded(0), seeded(1)], processes=1, failures="record")) == ["seed1"]
    noted = read_failures(tmp_path)
    assert list(noted) == ["seed0"]
    assert "run.json is damaged" in noted["seed0"].what
    assert not noted["seed0"].diverged
    (tmp_path / "unfinished" / "seed0" / "run.json").unlink()
    assert list(run_grid(tmp_path, [seeded(0), seeded(1)], processes=1, failures="record")) == ["seed0", "seed1"]
    assert read_failures(tmp_path) == {}


@pytest.mark.parametrize("error", [MemoryError(), ValueError("two\nlines\x1b[2J")])
def test_any_error_of_a_run_is_noted(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid_run, "run_experiment", raising(error))
    assert run_grid(tmp_path, [seeded(0)], processes=1, failures="record") == {}
    told = str(read_failures(tmp_path)["seed0"])
    assert told.startswith(f"seed0: {type(error).__name__}")
    assert told.isprintable()
    with pytest.raises(type(error)):
        run_grid(tmp_path, [seeded(0)], processes=1)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_full_disk_stops_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FullDiskError), refusals_as("cannot write"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(grid_run, "run_experiment", raising(FullDiskError("cannot write x: No space left on device")))
    with pytest.raises(
        FullDiskError,
        match=r"^cannot write x: No space left on device; 0 of 2 runs done, and the same command goes on when there is",
    ):
        run_grid(tmp_path, [seeded(0), seeded(1)], processes=1, failures="record")
    assert read_failures(tmp_path) == {}


def test_a_list_of_failures_that_is_none_is_refused(tmp_path: Path):
    good = {"name": "one", "what": "a\nb\x1b[2J", "when": "now", "diverged": False}
    (tmp_path / "failures.jsonl").write_text(json.dumps(good) + "\n")
    assert read_failures(tmp_path)["one"].what == r"a\nb\x1b[2J"
    for wrong in ({**good, "what": 1}, {"name": "one"}, {**good, "more": "x"}):
        (tmp_path / "failures.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(wrong) + "\n")
        with pytest.raises(InputError, match=r"failures.jsonl is damaged at line 2: expected name, what, when"):
            read_failures(tmp_path)


# ---- processes that are killed ---------------------------------------------------------------------------------------


def killed_once(folder: Path, run: GridRun) -> str:
    """Train a run, but be killed the first time; "never" is killed every time."""
    tried = folder / f"{run.name}-tried"
    if run.name == "never" or (run.name == "seed0" and not tried.exists()):
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    run_experiment(run.experiment, folder / run.name, overwrite=True)
    return run.name


def test_a_process_that_is_killed_costs_its_run_a_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # a process of its own imports `killed_once` from here
    runs = [seeded(0), seeded(1), seeded(2, "never")]
    options: dict[str, Any] = {"train_one": killed_once, "failures": "record", "processes": 2, "tries": 2}
    assert list(run_grid(tmp_path, runs, **options)) == ["seed0", "seed1"]
    noted = read_failures(tmp_path)
    assert list(noted) == ["never"]
    assert noted["never"].what.startswith("the process that trained never was killed 2 times, perhaps for want of mem")
