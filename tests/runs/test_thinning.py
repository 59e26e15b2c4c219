"""Thinning: what is kept, what is noted, and that a run which is damaged or whose note is stale loses nothing."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.models import initial_weights
from interp.runs import Run, RunWriter, open_run, step_name, thin, verify
from interp.sweeps import resume_run

TASK, MODEL = Task(p=7, train_pairs=20), ModelConfig(d_model=8, n_heads=2, d_mlp=12)


def test_thinning_keeps_the_multiples_and_both_ends(written_run: Callable[..., Run], tmp_path: Path) -> None:
    run = written_run(tmp_path / "run", TASK, MODEL, (1, 2, 3, 4, 6, 7), metrics=lambda step: {"loss": 1.0})
    rows = run.rows
    assert thin(run, 2) == 1
    assert (run.steps, run.thinned) == ([1, 2, 4, 6, 7], {3})
    assert thin(run, 4) == 2
    assert (run.steps, run.thinned) == ([1, 4, 7], {2, 3, 6})
    assert thin(run, 1) == 0
    assert run.rows == rows
    with pytest.raises(InputError, match="no checkpoint of step 3; the nearest is 4"):
        run[3]
    with pytest.raises(InputError, match="--keep-every must be at least 1, got 0"):
        thin(run, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run"


def stopped(run: Run, keep_every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thinning that ends when the note is written and no file is removed."""

    def refusing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refusing)
        with pytest.raises(InputError, match=rf"cannot remove {run.path}/steps/.*: Input/output error"):
            thin(run, keep_every)


def test_thinning_that_is_stopped_leaves_no_checkpoint_missing_without_note(run: Path, monkeypatch) -> None:
    stopped(open_run(run), 10, monkeypatch)
    assert (open_run(run).steps, open_run(run).thinned) == ([0, 5, 10, 15, 20], {5, 15})
    assert (
        "whether all of the checkpoints that thinned.json notes were removed: 2 are there"
        in verify(open_run(run)).unchecked
    )
    assert thin(open_run(run), 10) == 2


def test_the_note_has_no_steps_that_another_thinning_keeps(run: Path, monkeypatch) -> None:
    stopped(open_run(run), 10, monkeypatch)
    assert thin(open_run(run), 15) == 2
    assert (open_run(run).steps, open_run(run).thinned) == ([0, 15, 20], {5, 10})


# ---- damaged runs ----------------------------------------------------------------------------------------------------


def without_lines(run: Path) -> None:
    """As if it were not finished, and no line had been written."""
    with RunWriter.reopen(run) as writer:
        del writer.run.info["end"]
        writer.note()
    shutil.rmtree(run / "state")
    (run / "metrics.jsonl").write_bytes(b"")


def under_another_name(run: Path) -> None:
    without_lines(run)
    resume_run(run)
    shutil.copy(run / "steps" / step_name(10), run / "steps" / step_name(11))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a line": (
        lambda run: (run / "metrics.jsonl").write_bytes(
            (run / "metrics.jsonl").read_bytes().replace(b": 10,", b": 11,")
        ),
        r"metrics\.jsonl is damaged at line",
    ),
    "no lines": (
        without_lines,
        r"has no line of 5 checkpoints, the first of step 0: .* finish it first with `interp re",
    ),
    "a checkpoint that is missing": (
        lambda run: (run / "steps" / step_name(10)).unlink(),
        r"step_000000010\.safetensors is missing, though .*; nothing was removed; `interp verify run` tells more",
    ),
    "a checkpoint under another name": (
        under_another_name,
        "has no line of 1 checkpoint, the first of step 11: .*verify",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_removed_from_a_damaged_run(damage: str, run: Path) -> None:
    happen, words = DAMAGES[damage]
    happen(run)
    before = sorted((run / "steps").iterdir())
    with pytest.raises(InputError, match=words):
        thin(open_run(run), 1000)
    assert sorted((run / "steps").iterdir()) == before
    assert not (run / "thinned.json").exists()


# ---- what is written again -------------------------------------------------------------------------------------------


def test_a_step_that_is_written_again_is_no_longer_noted_as_removed(
    written_run: Callable[..., Run], path: Path
) -> None:
    training = TrainingConfig(steps=60, checkpoint_every=10, log_every=10)
    run = written_run(path, TASK, MODEL, (0, 10, 20), training)
    thin(run, 1000)
    with RunWriter.reopen(path) as writer:
        assert writer.load_state() is None  # training begins anew
        assert writer.run.thinned == set()
        for step in (0, 10, 20):
            writer.append(step, initial_weights(replace(MODEL, seed=step), TASK.p))
    (path / "steps" / step_name(10)).unlink()
    words = f"{path}/steps/step_000000010.safetensors is missing, though metrics.jsonl records it"
    assert verify(open_run(path)).contradictions[0] == words


def test_going_on_from_a_step_keeps_the_note_of_those_before_it(written_run: Callable[..., Run], path: Path) -> None:
    written_run(path, TASK, MODEL, range(0, 60, 10))
    thin(open_run(path), 50)
    with RunWriter.reopen(path) as writer:
        writer.cut_back(20)
        assert writer.run.thinned == {10, 20}
        writer.append(30, initial_weights(replace(MODEL, seed=30), TASK.p))
    assert (open_run(path).steps, open_run(path).thinned) == ([0, 30], {10, 20})
