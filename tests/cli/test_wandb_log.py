"""Logging to Weights & Biases: what it is told is what metrics.jsonl says, and offline it needs no network."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interp.cli import main
from interp.runs import open_run

TINY = (
    *("--task.p", "7", "--task.train-fraction", "0.5"),
    *("--model.d-model", "8", "--model.n-heads", "2", "--model.d-mlp", "8"),
    *("--training.steps", "20", "--training.checkpoint-every", "10", "--training.log-every", "5"),
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")


class Client:
    """Stands in for the package: remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.begun: dict[str, Any] = {}
        self.finished = False

    def Settings(self, **settings: object) -> object:
        return settings

    def init(self, **options: Any) -> SimpleNamespace:
        self.begun = options
        return SimpleNamespace(
            log=lambda metrics, step: self.told.append((step, metrics)), finish=lambda: setattr(self, "finished", True)
        )


def test_what_is_told_is_what_the_run_says(monkeypatch: pytest.MonkeyPatch):
    client = Client()
    monkeypatch.setitem(sys.modules, "wandb", client)
    assert main(["train", *TINY, "--out", "run", "--log", "wandb"]) == 0
    run = open_run("run")
    assert client.begun["name"] == "run"
    assert client.begun["config"]["hash"] == run.hash
    assert client.finished
    assert [{"step": step, **metrics} for step, metrics in client.told] == [
        {name: value for name, value in row.items() if name != "weights"} for row in run.rows
    ]


def test_offline_it_works_without_a_network():
    # A process of its own: W&B writes the last of its file when the process ends.
    command = [Path(sysconfig.get_path("scripts")) / "interp", "train", *TINY, "--out", "run", "--log", "wandb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (written,) = Path("wandb").glob("offline-run-*/run-*.wandb")
    assert b"unmirrored_test_accuracy" in written.read_bytes()
    assert open_run("run").is_complete


def test_without_the_package_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["train", *TINY, "--out", "run", "--log", "wandb"]) == 2
    assert capsys.readouterr().err == "interp: --log wandb needs wandb; install it with: pip install 'interp[wandb]'\n"
    assert not Path("run").exists()


def test_a_run_is_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", Client())
    assert main(["train", *TINY, "--out", "with", "--log", "wandb"]) == 0
    assert main(["train", *TINY, "--out", "without"]) == 0
    assert open_run("with").rows == open_run("without").rows
