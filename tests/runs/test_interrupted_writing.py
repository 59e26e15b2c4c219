"""After a kill at any moment: a run that opens, whose every checkpoint is whole, and that goes on as if there had been
none."""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
import torch
from torch import Tensor

from interp.cli import main
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.machine import Folder, tensor_bytes
from interp.models import Snapshot, initial_weights
from interp.runs import Run, RunWriter, open_run, step_name, weights_digest
from interp.runs.format import step_header
from interp.training import train

TASK, MODEL = Task(p=7, train_pairs=20), ModelConfig(d_model=8, n_heads=2, d_mlp=12)
TRAINING = TrainingConfig(steps=12, checkpoint_every=3, log_every=2)


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


@pytest.fixture
def path(written_run: Callable[..., Run], tmp_path: Path) -> Path:
    """A run with the checkpoints 0, 10, 20."""
    return written_run(tmp_path / "run", TASK, MODEL, metrics=lambda step: {"loss": 1.0}).path


def test_reopening_puts_away_what_a_kill_left(path: Path) -> None:
    before = contents(path)
    (path / "results").mkdir()
    leftovers = [
        path / ".run.json.7.tmp",
        path / "steps" / ".step_000000030.safetensors.7.tmp",
        path / "state" / ".x.7.tmp",
    ]
    leftovers += [path / "results" / ".old.nc.7.tmp"]
    saving = path / "results" / ".new.nc.0123456789abcdef.tmp"  # an analysis, at this moment
    for file in [*leftovers, saving]:
        file.write_bytes(b"half")
    (path / "metrics.jsonl").write_bytes(before["metrics.jsonl"] + b'{"step": 30, "los')
    with saving.open("rb") as its, locked(its), RunWriter.reopen(path) as writer:
        assert contents(path) == before | {str(saving.relative_to(path)): b"half"}
        writer.log(30, {"loss": 1.0})
    assert [row["step"] for row in open_run(path).rows] == [0, 10, 20, 30]


def test_a_new_run_puts_away_what_a_killed_one_of_its_name_left(tmp_path: Path) -> None:
    dead, living = (tmp_path / f".run.{number}.tmp" for number in (7, "0123456789abcdef"))
    for folder in (dead, living):
        (folder / "steps").mkdir(parents=True)
    with Folder(living) as held:
        held.lock()
        RunWriter.create(tmp_path / "run", TASK, MODEL).close()
    assert set(tmp_path.iterdir()) == {tmp_path / "run", living}


@contextlib.contextmanager
def locked(file: IO) -> Iterator[None]:
    """As whoever is writing it has it."""
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def test_what_is_written_reaches_the_disk_before_what_relies_on_it(path: Path, monkeypatch) -> None:
    with RunWriter.reopen(path) as writer:
        writer.save_state(snapshot_of(10))
        fsync, rename, unlink = os.fsync, os.rename, os.unlink
        events: list[str] = []

        def name_of(descriptor: int) -> str:
            return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

        monkeypatch.setattr(os, "fsync", lambda fd: (events.append(f"fsync {name_of(fd)}"), fsync(fd))[1])
        monkeypatch.setattr(
            os, "rename", lambda old, new, **at: (events.append(f"rename to {new}"), rename(old, new, **at))[1]
        )
        monkeypatch.setattr(os, "unlink", lambda name, **at: (events.append(f"unlink {name}"), unlink(name, **at))[1])
        writer.save_state(snapshot_of(20))
        monkeypatch.undo()
    new, old, temporary = step_name(20), step_name(10), events[1].removeprefix("fsync ")
    assert re.fullmatch(rf"\.{re.escape(new)}\.[0-9a-f]{{16}}\.tmp", temporary)
    order = [
        "fsync metrics.jsonl",
        f"fsync {temporary}",
        f"rename to {new}",
        "fsync state",
        f"unlink {temporary}",
        f"unlink {old}",
    ]
    assert events == order


def test_a_state_comes_back_and_metrics_are_cut_back_to_it(path: Path) -> None:
    with RunWriter.reopen(path) as writer:
        writer.save_state(snapshot_of(10))
        writer.save_state(snapshot_of(20))
        assert os.listdir(path / "state") == [step_name(20)]  # the newest only
        saved = contents(path)
        for step in (30, 35):
            writer.append(step, weights_of(step))
    with RunWriter.reopen(path) as writer:
        loaded = writer.load_state()
        assert loaded is not None
        assert loaded.step == 20
        for name in ("weights", "state"):
            expected = getattr(snapshot_of(20), name)
            assert getattr(loaded, name).keys() == expected.keys()
            assert all(torch.equal(value, expected[key]) for key, value in getattr(loaded, name).items())
        assert (path / "metrics.jsonl").read_bytes() == saved["metrics.jsonl"]
        writer.append(30, weights_of(30))  # again, as training will
    (path / "state" / step_name(20)).rename(path / "state" / step_name(10))
    with (
        RunWriter.reopen(path) as writer,
        pytest.raises(InputError, match=r"state/step_000000010\.safetensors holds step 000000020"),
    ):
        writer.load_state()
    (path / "state" / step_name(10)).unlink()
    with RunWriter.reopen(path) as writer:
        assert writer.load_state() is None  # nothing saved: from the beginning
        writer.append(0, weights_of(0))


@pytest.mark.parametrize(
    ("tensors", "change", "message"),
    [
        (None, {}, "is damaged"),
        ({"foreign": torch.zeros(1)}, {}, "unexpected tensor 'foreign'"),
        ({"weights|embed.W_E": torch.zeros(8, 8)}, {}, "tensor 'pos_embed.W_pos'.* is missing"),
        ({}, {"experiment": "0" * 16}, "of experiment 0000000000000000"),
        ({}, {"tensors": "0" * 16}, "was altered: its tensors have digest .*, its header recorded 0000000000000000"),
        ({}, {"lines": "0" * 16}, "was written after other lines than .*metrics.jsonl has up to step 10"),
    ],
)
def test_a_damaged_state_is_named_and_costs_no_metrics(
    tensors: dict[str, Tensor] | None, change: dict, message: str, path: Path
) -> None:
    before, run = (path / "metrics.jsonl").read_bytes(), open_run(path)
    sums = {"tensors": weights_digest(tensors or {}), "lines": run.lines[1].sum}
    header = step_header(run.hash, 10, **sums) | change
    (path / "state" / step_name(10)).write_bytes(b"" if tensors is None else tensor_bytes(tensors, header))
    with (
        RunWriter.reopen(path) as writer,
        pytest.raises(InputError, match=rf"{path / 'state' / step_name(10)}.*{message}"),
    ):
        writer.load_state()
    assert (path / "metrics.jsonl").read_bytes() == before


def test_a_state_without_the_lines_that_lead_to_it_is_refused(path: Path) -> None:
    with RunWriter.reopen(path) as writer:
        writer.save_state(snapshot_of(20))
    lines = (path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for kept in ([], lines[:1], lines[:2]):
        (path / "metrics.jsonl").write_bytes(b"".join(kept))
        with RunWriter.reopen(path) as writer, pytest.raises(InputError, match="some are missing"):
            writer.load_state()
        assert (path / "metrics.jsonl").read_bytes() == b"".join(kept)


@pytest.mark.parametrize(("saved", "stopped"), [(0, 1), (4, 4), (4, 9), (6, 10), (9, 12), (None, 5)])
def test_an_interrupted_run_ends_with_the_same_bytes(saved: int | None, stopped: int, tmp_path: Path) -> None:
    experiment = Experiment(TASK, MODEL, TRAINING)
    with RunWriter.create(tmp_path / "whole", TASK, MODEL, TRAINING) as writer:
        for snapshot in train(experiment):
            writer.write(snapshot)
    with RunWriter.create(tmp_path / "run", TASK, MODEL, TRAINING) as writer:
        for snapshot in train(experiment):
            if snapshot.step > stopped:
                break
            writer.write(snapshot)
            if snapshot.step == saved:
                writer.save_state(snapshot)
    with RunWriter.reopen(tmp_path / "run") as writer:
        for snapshot in train(experiment, resume=writer.load_state()):
            writer.write(snapshot)
    ended, whole = contents(tmp_path / "run"), contents(tmp_path / "whole")
    assert {name: content for name, content in ended.items() if not name.startswith(("state/", "run.json"))} == {
        name: content for name, content in whole.items() if name != "run.json"
    }
    assert open_run(tmp_path / "run").is_complete


# Writes a run in children that are killed at random moments, and looks at what each left. Forks, because importing
# torch takes long.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from interp.experiment import ModelConfig
from interp.runs import open_run
from interp.experiment import Task
from interp.models import Snapshot
from interp.models import initial_weights
from interp.runs import Run, RunWriter

torch.set_num_threads(1)
path, model, generator = sys.argv[1], ModelConfig(d_model=8, n_heads=2, d_mlp=12), random.Random(0)

def weights_of(step):
    return initial_weights(ModelConfig(d_model=8, n_heads=2, d_mlp=12, seed=step), 7)

def write_on():
    with RunWriter.reopen(path) as writer:
        saved = writer.load_state()
        step = saved.step if saved else -1
        while True:
            step += 1
            writer.append(step, weights_of(step), {"loss": 1 / (step + 1)})
            if step % 3 == 0:
                writer.save_state(Snapshot(step, weights_of(step), {}, {}, True))

RunWriter.create(path, Task(p=7), model).close()
furthest = -1
for kill in range(20):
    child = os.fork()
    if child == 0:
        try:
            write_on()
        finally:
            os._exit(1)
    # Every other one gets at least one step further.
    while kill % 2 and open_run(path).steps[-1:] <= [furthest]:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the writer failed by itself"
        time.sleep(0.002)
    time.sleep(generator.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer failed by itself"
    run = open_run(path)
    logged, steps = [row["step"] for row in run.rows], run.steps
    assert logged == list(range(len(logged))) and steps == list(range(len(steps))), (logged, steps)
    assert len(logged) <= len(steps) and len(steps) > furthest, "something written was lost"
    furthest = len(steps) - 1
    for checkpoint in run:
        for name, weight in weights_of(checkpoint.step).items():
            assert torch.equal(checkpoint.weights[name], weight), (checkpoint.step, name)
print(furthest)
"""


def test_a_run_survives_being_killed_at_any_moment(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLS, tmp_path / "run"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) >= 9  # the kills came while it was writing
    RunWriter.reopen(tmp_path / "run").close()
    assert list((tmp_path / "run").rglob("*.tmp")) == []


def test_beginning_anew_for_want_of_a_state_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with RunWriter.create("run", TASK, MODEL, TRAINING) as writer:
        for snapshot in train(Experiment(TASK, MODEL, TRAINING)):
            if snapshot.step < 6:
                writer.write(snapshot)
    assert main(["resume", "run"]) == 0
    assert "resuming run from its beginning: no state was saved" in capsys.readouterr().out
    assert open_run("run").is_complete
