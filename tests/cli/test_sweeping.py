"""The commands about sweeps, from a grid file to a table and two figures."""

import csv
import io
import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from interp.cli import main
from interp.cli.sweep_progress import RemainingTime, in_words
from interp.machine import Folder
from interp.sweeps import GridProgress

GRID = """
[task]
p = 7
train-fraction = 0.5
[model]
d-model = 8
n-heads = 2
d-mlp = 8
[training]
steps = 20
checkpoint-every = 5
log-every = 5
[axes]
training.weight-decay = [0.3, 1.0]
seed = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sweep was trained, into `out`."""
    folder = tmp_path_factory.mktemp("sweeping")
    (folder / "grid.toml").write_text(GRID)
    assert main(["sweep", str(folder / "grid.toml"), "--out", str(folder / "out"), "--processes", "1"]) == 0
    return folder


@pytest.fixture
def at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    return err if code else out


@pytest.mark.usefixtures("at")
def test_a_dry_run_says_what_it_would_be_and_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    headline, time, how, size = said(capsys, "sweep", "grid.toml", "--out", "dry", "--dry-run").splitlines()
    assert headline == "2 runs (training.weight-decay 2 × seed 1) in dry, 0 of them done"
    assert time.startswith("about ")
    assert " seconds for the 2 left, in " in time
    assert how.startswith("  timed: steps of 1 network of the grid")
    assert size == "about 99.3 kB on disk for all of them, keeping all checkpoints"
    assert not os.path.exists("dry")


@pytest.mark.usefixtures("at")
def test_the_same_command_goes_on_and_says_what_came_out(capsys: pytest.CaptureFixture[str]) -> None:
    headline, outcome, following = said(capsys, "sweep", "grid.toml", "--out", "out").splitlines()
    assert headline == "2 runs (training.weight-decay 2 × seed 1) in out, 2 of them done"
    assert outcome == "2 runs: 2 unknown"
    assert following == "next: interp plot out curves, interp collect out"
    assert "nothing is left to train" in said(capsys, "sweep", "grid.toml", "--out", "out", "--dry-run")


@pytest.mark.usefixtures("at")
def test_a_run_that_diverges_is_told_of_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    wild = GRID.replace("log-every = 5", 'log-every = 5\noptimizer = "sgd"').replace("axes]", "axes]\ntraining.lr = ")
    Path("wild.toml").write_text(wild.replace("training.lr = ", "training.lr = [0.001, 1e30]"))
    *progress, outcome, _ = said(capsys, "sweep", "wild.toml", "--out", "wild", "--processes", "1").splitlines()
    assert outcome == "4 runs: 2 unknown, 2 diverged"
    assert progress[-1] == "2 of 4 done, 2 failed, 0 running, 0 waiting"
    assert "diverged" in said(capsys, "list", "wild", "--where", "state=diverged")


@pytest.mark.usefixtures("at")
def test_the_list_has_the_places_of_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "list", "out", "--sort", "weight-decay").splitlines()
    assert ["weight-decay 0.3, seed 0" in lines[0], "weight-decay 1, seed 0" in lines[1]] == [True, True]
    assert len(said(capsys, "list", "out", "--where", "weight-decay>=1").splitlines()) == 1


@pytest.mark.usefixtures("at")
def test_a_minus_before_a_name_sorts_the_largest_first(capsys: pytest.CaptureFixture[str]) -> None:
    largest_first = said(capsys, "list", "out", "--sort", "weight-decay", "--reverse")
    assert said(capsys, "list", "out", "--sort", "-weight-decay") == largest_first
    assert said(capsys, "list", "out", "--sort=-weight-decay") == largest_first
    assert said(capsys, "list", "out", "--sort", "-weight-decay", "--reverse") != largest_first
    assert "sort needs a value" in said(capsys, "list", "out", "--sort", code=2)


@pytest.mark.usefixtures("at")
def test_of_a_sweep_of_which_nothing_has_begun_the_list_names_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    Path("planned").mkdir()
    shutil.copy("out/sweep.json", "planned")
    told = "of the 2 runs of the sweep in planned 2 have not begun; go on with its grid file: "
    told += "interp sweep GRID.toml --out planned\n"
    assert said(capsys, "list", "planned") == told
    assert said(capsys, "resume", "planned", code=2) == f"interp: planned is no run but the folder of a sweep: {told}"


@pytest.mark.usefixtures("at")
def test_what_has_not_begun_is_told_of_in_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert "not begun" not in said(capsys, "list", "out")
    shutil.copytree("out", "deep/cut")
    gone, other = sorted(path.parent for path in Path("deep/cut").glob("*/run.json"))
    shutil.rmtree(gone)
    told = "of the 2 runs of the sweep in deep/cut 1 has not begun; go on with its grid file: interp sweep GRID.toml "
    for folder in ("deep/cut", "deep"):
        run, left = said(capsys, "list", folder).splitlines()
        assert (run.split()[0], left.startswith(told)) == (str(other), True)
    (Path("deep/cut/unfinished")).mkdir()
    other.rename(Path("deep/cut/unfinished", other.name))
    assert "1 has not begun, 1 is unfinished" in said(capsys, "list", "deep/cut", "--where", "seed=0")
    with Folder(Path("deep/cut")) as held:
        held.lock()
        assert said(capsys, "list", "deep/cut").splitlines()[-1].endswith("; it is being trained now")
    Path("deep/cut/sweep.json").write_text("{}")
    assert "sweep.json has format version None" in said(capsys, "list", "deep")
    shutil.rmtree("deep")


@pytest.mark.usefixtures("at")
def test_the_table_is_printed_or_written(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(said(capsys, "collect", "out"))))
    assert [row["weight_decay"] for row in rows] == ["0.3", "1.0"]
    assert {row["state"] for row in rows} == {"complete"}
    assert said(capsys, "collect", "out", "--csv", "t.csv", "--netcdf", "t.nc").split() == ["t.csv", "t.nc"]
    assert list(csv.DictReader(io.StringIO(Path("t.csv").read_text()))) == rows


@pytest.mark.usefixtures("at")
def test_both_figures_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "plot", "out", "curves", "-o", "curves.json") == "curves.json\n"
    assert json.loads(Path("curves.json").read_text())["data"]
    assert "needs two axes" in said(capsys, "plot", "out", "phases", code=2)
    said(capsys, "plot", "out", "phases", "--axes", "seed", "weight-decay", "-o", "phases.html")
    assert "Content-Security-Policy" in Path("phases.html").read_text()
    assert "did you mean 'curves'" in said(capsys, "plot", "out", "curve", code=2)
    named = ["plot", "out", "phases", "--across", "seed", "--up", "weight-decay"]
    said(capsys, *named, "--color", "weight-norm", "-o", "named.html")
    assert "Content-Security-Policy" in Path("named.html").read_text()
    assert "did you mean 'weight-norm'" in said(capsys, *named, "--color", "weigth-norm", code=2)
    assert "did you mean 'seed'" in said(capsys, "plot", "out", "phases", "--across", "sead", "--up", "wd", code=2)
    assert "give --across and --up" in said(capsys, "plot", "out", "phases", "--across", "seed", code=2)
    assert "give --across and --up" in said(capsys, *named, "--axes", "seed", code=2)
    assert "are for phases" in said(capsys, "plot", "out", "curves", "--color", "weight-norm", code=2)
    assert "--metric is for curves" in said(capsys, "plot", "out", "phases", "--metric", "test-loss", code=2)


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--processes", "0"], "processes must be at least 1, got 0"),
        (
            ["--keep", "ends"],
            "with --keep all, and this one says --keep ends: all runs of a sweep keep the same. Leave --keep",
        ),
        (["--keep", "ends", "--dry-run"], "all runs of a sweep keep the same"),
        (["--device", "cuda", "--dry-run"], "there is no CUDA device here"),
        (["--ray", "--processes", "2"], "--processes is of this machine"),
    ],
)
def test_what_cannot_be_is_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in said(capsys, "sweep", "grid.toml", "--out", "out", *options, code=2)


def test_the_time_that_is_left_is_that_of_the_work_that_is_left() -> None:
    clock = RemainingTime(now=lambda: 0.0)
    assert clock.left(GridProgress("a", 0, 0, ("a",), 4, 100, 400)) is None  # 100 were there before
    clock.now = lambda: 30.0
    assert clock.left(GridProgress("a", 1, 0, (), 4, 150, 400)) == 150.0


def test_progress_tells_the_day_when_it_is_another() -> None:
    words = in_words(GridProgress("a", 1, 0, ("b",), 3, 1, 3), 86_400.0, datetime(2026, 1, 31, 12, 0))
    assert words == "1 of 3 done, 1 running, 1 waiting; ends about 2026-02-01 12:00, in 24 hours"
