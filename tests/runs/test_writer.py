"""Writing runs: one writer at a time, nothing half-written whatever fails."""

import errno
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.models import Snapshot, initial_weights
from interp.runs import Run, RunWriter, open_run, thin

TASK, MODEL = Task(p=7, train_pairs=20), ModelConfig(d_model=8, n_heads=2, d_mlp=12)
TRAINING = TrainingConfig(steps=12, checkpoint_every=3, log_every=2)
FullDisk = Callable[[str, int], AbstractContextManager[None]]
EVERYTHING = ["metrics.jsonl", "run.json", "split.safetensors", "state", "steps"]


def weights_of(step: int) -> dict[str, Tensor]:
    return initial_weights(replace(MODEL, seed=step), TASK.p)


def snapshot_of(step: int) -> Snapshot:
    return Snapshot(
        step, weights_of(step), {"loss": 1.0}, {"embed.W_E|exp_avg": torch.full((8, 8), float(step))}, kept=True
    )


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a run but the lock, by its path in the run."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def refuse(code: int) -> Callable[..., None]:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refusing


@pytest.fixture
def path(written_run: Callable[..., Run], tmp_path: Path) -> Path:
    """A run with the checkpoints 0, 10, 20."""
    return written_run(tmp_path / "run", TASK, MODEL, metrics=lambda step: {"loss": 1.0}).path


# ---- a new run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new", "in/folders/that/are/not/there", "empty", "link", "."])
def test_a_run_can_begin_where_there_is_nothing(name: str, tmp_path: Path, monkeypatch) -> None:
    for folder in ("empty", "target", "here"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    monkeypatch.chdir(tmp_path / "here")
    with RunWriter.create(Path(name) if name == "." else tmp_path / name, TASK, MODEL, TRAINING) as writer:
        writer.append(0, weights_of(0))
    folder = tmp_path / ("here" if name == "." else name)
    assert sorted(os.listdir(folder)) == sorted([".lock", *EVERYTHING])
    assert open_run(folder).steps == [0]
    assert (tmp_path / "link").is_symlink()
    assert [file for file in tmp_path.rglob("*") if file.name.endswith(".tmp")] == []


def test_nothing_is_overwritten_without_overwrite_and_only_runs_with_it(path: Path, tmp_path: Path) -> None:
    before = contents(path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for taken in (path, tmp_path / "folder", tmp_path / "file"):
        with pytest.raises(InputError, match=f"{taken} already exists; choose another --out, or give --overwrite"):
            RunWriter.create(taken, TASK, MODEL)
    for foreign in (tmp_path / "folder", tmp_path / "file"):
        with pytest.raises(InputError, match=f"{foreign} is not a run, so it is not overwritten"):
            RunWriter.create(foreign, TASK, MODEL, overwrite=True)
    assert contents(path) == before
    RunWriter.create(path, TASK, replace(MODEL, seed=1), overwrite=True).close()
    assert open_run(path).model.seed == 1
    assert open_run(path).steps == []
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "run"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("function", "code"), [("fsync", errno.ENOSPC), ("rename", errno.EACCES), ("mkdir", errno.EROFS)]
)
def test_a_run_that_cannot_begin_leaves_what_was_there(
    overwrite: bool, function: str, code: int, path: Path, monkeypatch
) -> None:
    before = contents(path)
    out = path if overwrite else path.with_name("new")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse(code))
        with pytest.raises(InputError, match=f"cannot write {out}.*: {os.strerror(code)}"):
            RunWriter.create(out, TASK, MODEL, overwrite=overwrite)
    assert os.listdir(path.parent) == ["run"]
    assert contents(path) == before
    RunWriter.reopen(path).close()  # the lock was given back


def test_no_run_where_no_folder_can_be(tmp_path: Path, full_disk: FullDisk) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"cannot write {tmp_path / 'file' / 'run'}: Not a directory"):
        RunWriter.create(tmp_path / "file" / "run", TASK, MODEL)
    with (
        full_disk("bytes", 100),
        pytest.raises(InputError, match=f"cannot write {tmp_path / 'run'}.*: File too large"),
    ):
        RunWriter.create(tmp_path / "run", TASK, MODEL)
    assert os.listdir(tmp_path) == ["file"]


# ---- one writer at a time --------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_while_the_first_lives(path: Path) -> None:
    before = contents(path)
    with RunWriter.reopen(path):
        for second in (
            RunWriter.reopen,
            lambda path: RunWriter.create(path, TASK, MODEL, overwrite=True),
            lambda path: thin(open_run(path), 20),
        ):
            with pytest.raises(InputError, match=f"{path} is being written by another process"):
                second(path)
        assert open_run(path).steps == [0, 10, 20]  # reading needs no lock
    assert contents(path) == before
    RunWriter.reopen(path).close()


def test_another_process_is_refused_and_its_death_frees_the_run(path: Path) -> None:
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('locked', flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program, path / ".lock"], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="is being written by another process"):
            RunWriter.reopen(path)
        other.kill()
        other.wait()
        RunWriter.reopen(path).close()


def test_a_system_without_locks_is_not_called_another_process(path: Path, monkeypatch) -> None:
    monkeypatch.setattr("fcntl.flock", refuse(errno.ENOLCK))
    with pytest.raises(InputError, match=f"cannot lock {path}: {os.strerror(errno.ENOLCK)}"):
        RunWriter.reopen(path)


# ---- checkpoints and metrics -----------------------------------------------------------------------------------------


def test_what_cannot_be_written_leaves_no_trace(path: Path) -> None:
    before = contents(path)
    weights = weights_of(30)
    with RunWriter.reopen(path) as writer:
        for step, given, metrics, message in [
            (20, weights, {}, "is at step 20, so step 20 cannot follow; steps ascend"),
            (5, weights, {}, "is at step 20, so step 5 cannot follow; steps ascend"),
            (10**9, weights, {}, "step must be at most 999999999"),
            (30, weights | {"embed.W_E": torch.zeros(7, 8)}, {}, r"'embed.W_E' has shape \[7, 8\], expected \[8, 8\]"),
            (30, weights, {"step": 1.0}, "a metric cannot be named 'step'"),
            (30, weights, {"weights": 1.0}, "a metric cannot be named 'weights'"),
        ]:
            with pytest.raises(InputError, match=message):
                writer.append(step, given, metrics)
            if given is weights:
                with pytest.raises(InputError, match=message):
                    writer.log(step, metrics)
    for late in (lambda: writer.append(30, weights), lambda: writer.log(30, {})):
        with pytest.raises(InputError, match="is closed"):
            late()
    writer.close()  # twice is fine
    assert contents(path) == before


def test_weights_and_metrics_come_as_a_training_loop_has_them(path: Path) -> None:
    weights = {name: weight.double().requires_grad_() for name, weight in weights_of(30).items()}
    weights["unembed.W_U"] = weights["unembed.W_U"].T.contiguous().T  # as from a torch.nn.Linear
    weights["blocks.0.attn.W_K"] = weights["blocks.0.attn.W_Q"]  # tied
    loss = weights["embed.W_E"].sum() * 0 + 0.5
    with RunWriter.reopen(path) as writer:
        writer.append(30, weights, {"loss": loss, "accuracy": 1, "test_loss": math.nan, "norm": math.inf})
        writer.log(31, {"loss": 0.25})
    rows = open_run(path).rows
    assert rows[-2] == {
        "step": 30,
        "weights": rows[-2]["weights"],
        "loss": 0.5,
        "accuracy": 1.0,
        "test_loss": None,
        "norm": None,
    }
    assert rows[-1] == {"step": 31, "loss": 0.25}
    expected = weights_of(30) | {"blocks.0.attn.W_K": weights_of(30)["blocks.0.attn.W_Q"]}
    assert all(torch.equal(weight, expected[name]) for name, weight in open_run(path)[30].weights.items())


@pytest.mark.parametrize("limit", [0, 100, 2000])
def test_a_full_disk_keeps_all_that_was_written_and_writing_can_go_on(
    limit: int, path: Path, full_disk: FullDisk
) -> None:
    before = contents(path)
    with RunWriter.reopen(path) as writer:
        with (
            full_disk("bytes", limit),
            pytest.raises(InputError, match=r"cannot write .*step_000000030\.safetensors: File too large"),
        ):
            writer.append(30, weights_of(30))
        with (
            full_disk("bytes", len(before["metrics.jsonl"]) + 10),
            pytest.raises(InputError, match=r"cannot write .*metrics\.jsonl: No space"),
        ):
            writer.log(30, {"loss": 1.0})  # the kernel takes ten bytes of the line
        with (
            full_disk("bytes", len(before["metrics.jsonl"])),
            pytest.raises(InputError, match=r"cannot write .*metrics\.jsonl: File too large"),
        ):
            writer.log(30, {"loss": 1.0})
        with (
            full_disk("bytes", limit),
            pytest.raises(InputError, match=r"cannot write .*step_000000020\.safetensors: File too large"),
        ):
            writer.save_state(snapshot_of(20))
        assert contents(path) == before
        writer.append(30, weights_of(30))
    assert open_run(path)[30].step == 30


def test_a_checkpoint_whose_line_did_not_fit_is_still_a_checkpoint(path: Path, monkeypatch) -> None:
    with RunWriter.reopen(path) as writer, monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse(errno.ENOSPC))
        with pytest.raises(InputError, match=r"cannot write .*metrics\.jsonl: No space left on device"):
            writer.append(30, weights_of(30))
    assert open_run(path)[30].step == 30
    assert [row["step"] for row in open_run(path).rows] == [0, 10, 20]
    with RunWriter.reopen(path) as writer:
        writer.append(30, weights_of(30))  # and can be written again
    assert open_run(path).digests.keys() == {0, 10, 20, 30}
