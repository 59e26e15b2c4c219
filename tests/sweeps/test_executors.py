"""Executors beside the processes of this machine: runs that are sent back, and nodes of a Ray cluster that die."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.sweeps import GridRun, run_experiment, run_grid, sending
from interp.sweeps.executors import RayExecutor

ROOT = Path(__file__).parents[2]
TRAINING = TrainingConfig(steps=12, checkpoint_every=4, log_every=4)
EXPERIMENT = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
TOO_FAST = replace(EXPERIMENT, training=replace(TRAINING, optimizer="sgd", lr=1e30, weight_decay=0))
START, TO_START = GridRun("start", EXPERIMENT), replace(EXPERIMENT, task=replace(EXPERIMENT.task, seed=1))
GRID = [START, GridRun("on", TO_START, start="start"), GridRun("too-fast", TOO_FAST)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name != "failures.jsonl"}


class Elsewhere(Executor):
    """A machine with a disk of its own, in this process."""

    shared_disk = False

    def __init__(self, change: Callable[[sending.Piece], sending.Piece] = lambda piece: piece) -> None:
        self.change = change

    def submit_pieces(
        self, receive: Callable[[Iterator[Any]], Any], fn: Callable[..., Generator[Any]], /, *args: Any
    ) -> Future[Any]:
        future = Future[Any]()
        try:
            with contextlib.closing(fn(*args)) as pieces:
                future.set_result(receive(map(self.change, pieces)))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize("keep", ["all", "metrics"])
def test_what_is_sent_back_is_what_is_trained_here(keep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending.pieces_of, "__defaults__", (1000,))  # bytes: every checkpoint in several pieces
    here = run_grid(tmp_path / "here", GRID, processes=1, keep=keep, failures="record")
    back = run_grid(tmp_path / "back", GRID, executor=Elsewhere(), keep=keep, failures="record")
    assert list(back) == list(here) == ["start", "on", "too-fast"]
    assert contents(tmp_path / "back") == contents(tmp_path / "here")
    assert back["on"].info["initial_weights"] == here["on"].info["initial_weights"]
    assert sorted(path.name for path in (tmp_path / "back").glob("[!.]*")) == [
        "failures.jsonl",
        "on",
        "start",
        "too-fast",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda piece: ("../../start", piece[1]), "what came back of start has a file '../../start', which is no part"),
        (lambda piece: (piece[0], b"" if piece[0] == "metrics.jsonl" else piece[1]), "it ended at step 12"),
        (lambda piece: (piece[0], piece[1].replace(b"7", b"8")), "start"),
    ],
)
def test_what_comes_back_and_is_no_whole_run_is_not_put_in_its_place(
    change: Callable[[sending.Piece], sending.Piece], words: str, tmp_path: Path
):
    with pytest.raises(InputError, match=re.escape(words)):
        run_grid(tmp_path, GRID[:1], executor=Elsewhere(change))
    assert [path.name for path in tmp_path.rglob("*") if path.name != ".lock"] == []


def test_nothing_that_is_there_is_replaced(tmp_path: Path):
    """A run that comes back twice is there once, as it came first."""
    run_experiment(EXPERIMENT, tmp_path / "trained")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    pieces = list(sending.pieces_of(tmp_path / "trained"))
    assert sending.put_in_place(tmp_path / "first", START, "drawn from its seed", iter(pieces)) is None
    with pytest.raises(InputError, match="start was made by another process meanwhile"):
        sending.put_in_place(tmp_path / "first", START, "drawn from its seed", iter(pieces))


def test_a_way_of_its_own_needs_a_shared_disk(tmp_path: Path):
    with pytest.raises(InputError, match="give it a shared disk"):
        run_grid(tmp_path, GRID[:1], executor=Elsewhere(), train_one=lambda folder, run: run.name)


def test_a_cluster_that_cannot_be_is_told_of(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()[1]
    with pytest.raises(InputError, match=rf"cannot reach a Ray cluster at 127.0.0.1:{nobody}: .*refused; `ray start"):
        RayExecutor(f"127.0.0.1:{nobody}")
    with pytest.raises(InputError, match=r"ray://there:10001 is the address of a Ray Client"):
        RayExecutor("ray://there:10001")
    for needs in ({"cpus": -1}, {"gpus": float("nan")}, {"cpus": 0}):
        with pytest.raises(InputError, match=r"cpus|gpus"):
            RayExecutor(**needs)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"^a Ray cluster needs Ray; install it with: pip install 'interp\[ray\]'$"):
        RayExecutor()


def test_nodes_die_and_others_join():
    """A short form of the script: a node is killed in the middle of each of two grids, and another joins; a grid that
    was over before its moment came is followed by others."""
    command = [sys.executable, "-m", "tests.ray_nodes", "--kills", "2", "--runs", "4", "--steps", "2000", "--short"]
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("4 runs once each, bytes as in peace") >= 2
    assert re.search(r"[2-9] nodes killed in \d+ s, [1-9]\d* runs begun again, 0 faults\n$", done.stdout)
